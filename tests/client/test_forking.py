"""A client in a forked child raises at once, whatever is asked of it, and the parent's goes on."""

from __future__ import annotations

import inspect
import os
import select
import sys
from collections.abc import Callable, Iterator

import pytest

from raftlog import Admin, Consumer, Producer, TopicPartition
from raftlog.errors import ForkedClientError
from tests.client.fake_node import FakeNode, fake_node
from tests.patience import WAIT_S

T0 = TopicPartition("t", 0)


@pytest.fixture
def node() -> Iterator[FakeNode]:
    with fake_node() as node:
        yield node


def in_child(work: Callable[[], object], limit_s: float = 10.0) -> str:
    """What `work` ended with in a forked child: the name of the error, or the text of its result."""
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            told = str(work())
        except BaseException as error:  # noqa: BLE001 - the parent is told of it
            told = f"{type(error).__name__}: {error}"
        os.write(writes, told.encode())
        os._exit(0)
    os.close(writes)
    try:
        ready, _, _ = select.select([reads], [], [], limit_s)
        if not ready:
            os.kill(child, 9)
        return os.read(reads, 65536).decode() if ready else "nothing within its time"
    finally:
        os.waitpid(child, 0)
        os.close(reads)


def calls_of(client: object, given: dict[str, tuple[object, ...]]) -> dict[str, Callable[[], object]]:
    """Every public method and property, with arguments that it takes."""

    def call(name: str) -> Callable[[], object]:
        def run() -> object:
            found = getattr(client, name)
            return found(*given.get(name, ())) if callable(found) else found

        return run

    return {name: call(name) for name, _ in inspect.getmembers(type(client)) if not name.startswith("_")}


def test_every_call_of_every_client_raises_in_a_child(node: FakeNode) -> None:
    with (
        Producer(node.bootstrap) as producer,
        Consumer("t", bootstrap_servers=node.bootstrap, group_id="g", auto_offset_reset="earliest") as grouped,
        Consumer("t", bootstrap_servers=node.bootstrap, auto_offset_reset="earliest") as consumer,
        Admin(node.bootstrap) as admin,
    ):
        producer.send("t", b"x").result(WAIT_S)
        iterator = iter(consumer)
        next(iterator)

        def enter() -> None:
            with producer:
                pass

        calls: dict[str, Callable[[], object]] = {
            "producer: with": enter,
            "iterator": lambda: next(iterator),
            "next": lambda: next(consumer),
        }
        for client, given in (
            (producer, {"send": ("t", b"x"), "knows": ("t",), "partitions_for": ("t",)}),
            (consumer, {"seek": (T0, 0), "position": (T0,), "assign": ([],)}),
            (grouped, {}),
            (admin, {}),
        ):
            for name, call in calls_of(client, given).items():
                calls[f"{type(client).__name__}.{name}"] = call

        def all_of_them() -> list[str]:
            wrong = []
            for name, call in calls.items():
                try:
                    call()
                except ForkedClientError as error:
                    if str(os.getppid()) not in str(error):
                        wrong.append(f"{name}: {error}")
                else:
                    wrong.append(name)
            return wrong

        assert in_child(all_of_them) == "[]"
        assert producer.send("t", b"y").result(WAIT_S).offset == 1  # the parent goes on
        assert consumer.poll(5000)


def test_a_future_of_the_parent_is_not_waited_for_in_a_child(node: FakeNode) -> None:
    node.silent = False
    with Producer(node.bootstrap) as producer:
        known = producer.send("t", b"x")
        known.result(WAIT_S)
        node.silent = True
        waits = producer.send("t", b"y")
        assert in_child(waits.result).startswith("ForkedClientError")
        assert in_child(known.result).startswith("RecordMetadata")
        node.silent = False
        assert not waits.done() or waits.exception(0) is None
        producer.close(timeout=0)


def test_a_child_that_ends_as_python_does_harms_nobody(node: FakeNode) -> None:
    def ends(code: int) -> int:
        """As a child of multiprocessing would, or one that leaves a `with` block by `sys.exit`."""
        child = os.fork()
        if child == 0:
            try:
                with producer:
                    sys.exit(code)
            except SystemExit as error:
                own = Producer(node.bootstrap)
                own.send("t", b"of the child").result(WAIT_S)
                own.close()
                os._exit(int(str(error.code)))
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    with Producer(node.bootstrap) as producer:
        producer.send("t", b"x").result(WAIT_S)
        assert [ends(code) for code in (0, 7)] == [0, 7]
        assert producer.send("t", b"y").result(WAIT_S).offset == 3
