"""The real Wire over loopback: made when asked for, closed when broken or idle."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from raftlog import Producer
from raftlog.client.core.links import Links
from raftlog.limits import LINK_IDLE_S
from raftlog.network import Context, Server, SharedContext
from raftlog.types import Endpoint
from tests.client.fake_node import fake_node
from tests.patience import WAIT_S


class Wired:
    def __init__(self) -> None:
        self.context = Context()
        self.server = Server(self.context, "127.0.0.1")
        self.endpoint = Endpoint("127.0.0.1", self.server.port)
        self.wakeup_fd = os.eventfd(0, os.EFD_NONBLOCK)
        self.links = Links(self.wakeup_fd)
        self.answers: list[list[bytes]] = []
        self.lost: list[Endpoint] = []

    def poll(self, timeout_s: float = 0.02) -> bool:
        return self.links.poll(timeout_s, lambda _, frames: self.answers.append(frames), self.lost.append)

    def until(self, condition: Callable[[], object]) -> None:
        deadline_s = time.monotonic() + WAIT_S
        while not condition():
            assert time.monotonic() < deadline_s, "did not happen in time"
            self.poll()

    def receive(self) -> list[bytes]:
        found: list[list[bytes]] = []

        def look() -> bool:
            if (frames := self.server.receive()) is not None:
                found.append(frames)
            return bool(found)

        self.until(look)
        return found[0]


@pytest.fixture
def wired() -> Iterator[Wired]:
    wired = Wired()
    yield wired
    wired.links.close()
    wired.context.close()
    os.close(wired.wakeup_fd)


def test_asking_for_a_connection_makes_it(wired: Wired) -> None:
    assert not wired.links.connect(wired.endpoint)
    assert not wired.links.send(wired.endpoint, [b"too early"])
    wired.until(lambda: wired.links.connect(wired.endpoint))
    assert wired.links.send(wired.endpoint, [b"header", b"payload"])
    identity, *frames = wired.receive()
    assert frames == [b"header", b"payload"]
    wired.server.send(identity, [b"answer"])
    wired.until(lambda: wired.answers == [[b"answer"]])


def test_what_was_sent_arrives_though_the_links_are_closed_at_once(wired: Wired) -> None:
    wired.until(lambda: wired.links.connect(wired.endpoint))
    sent = 0
    while sent < 100 and wired.links.send(wired.endpoint, [b"%d" % sent, bytes(1_000_000)]):
        sent += 1
    closing = threading.Thread(target=wired.links.close)
    closing.start()
    arrived: list[bytes] = []
    deadline_s = time.monotonic() + WAIT_S
    while len(arrived) < sent and time.monotonic() < deadline_s:
        if (frames := wired.server.receive()) is not None:
            arrived.append(frames[1])
    closing.join()
    assert sent > 1
    assert arrived == [b"%d" % number for number in range(sent)]


def test_answers_that_came_before_a_loss_are_handed_out_before_it(wired: Wired) -> None:
    wired.until(lambda: wired.links.connect(wired.endpoint))
    wired.links.send(wired.endpoint, [b"hello"])
    identity = wired.receive()[0]
    for number in range(100):
        assert wired.server.send(identity, [b"%d" % number])
    # Gone once they have left; `Server.close` would drop what has not.
    wired.server.socket.close(linger=10_000)
    monitor = wired.links._links[wired.endpoint].monitor
    assert monitor is not None
    assert monitor.poll(10_000), "the loss is told, and waits behind the answers"
    while not wired.lost:
        wired.poll()
        if wired.lost:
            assert len(wired.answers) == 100
    assert wired.lost == [wired.endpoint]
    assert not wired.links.send(wired.endpoint, [b"gone"])


def test_an_idle_connection_is_closed_and_told(wired: Wired) -> None:
    wired.until(lambda: wired.links.connect(wired.endpoint))
    wired.links.sweep(1.0, lambda _: False, wired.lost.append)
    wired.links.connect(wired.endpoint)
    later_s = 2.0 + LINK_IDLE_S
    wired.links.sweep(later_s, lambda _: True, wired.lost.append)  # an answer is waited for
    assert wired.lost == []
    wired.links.sweep(later_s + LINK_IDLE_S, lambda _: False, wired.lost.append)
    assert wired.lost == [wired.endpoint]
    wired.until(lambda: wired.links.connect(wired.endpoint))


def test_an_address_that_is_none_is_never_connected(wired: Wired) -> None:
    assert not wired.links.connect(Endpoint("not a host", 1))
    assert not wired.links.connect(Endpoint("not a host", 1))
    wired.poll()


def test_an_endpoint_where_nobody_is_is_tried_again_after_a_while(wired: Wired) -> None:
    nobody = Endpoint("127.0.0.1", 1)
    now_s, attempts_s = 0.0, []
    while now_s < 10:
        wired.links.sweep(now_s, lambda _: False, lambda _: None)
        told = len(wired.lost)
        wired.links.connect(nobody)
        if wired.links.next_wakeup_s() == float("inf"):
            attempts_s.append(now_s)
            wired.until(lambda told=told: len(wired.lost) > told)  # type: ignore[misc]
        now_s += 0.01
    assert attempts_s[1] < 0.05
    assert 20 < len(attempts_s) < 30  # nearly twice a second


def test_the_wakeup_ends_the_wait(wired: Wired) -> None:
    os.eventfd_write(wired.wakeup_fd, 1)
    started_s = time.monotonic()
    assert wired.poll(5.0)
    assert time.monotonic() - started_s < 4
    assert not wired.poll(0.0)


def test_clients_of_one_process_share_the_threads_of_zeromq() -> None:
    def threads() -> int:
        count = 0
        for task in os.listdir("/proc/self/task"):
            with contextlib.suppress(OSError):  # it may end after it was listed
                count += Path(f"/proc/self/task/{task}/comm").read_text().startswith("ZMQbg")
        return count

    with fake_node() as node:
        clients = [Producer(node.bootstrap)]
        with_one = threads()
        clients += [Producer(node.bootstrap) for _ in range(9)]
        assert threads() == with_one
        for client in clients:
            assert client.send("t", b"x").result(WAIT_S).offset >= 0
        for client in clients[1:]:
            client.close()
        assert clients[0].send("t", b"x").result(WAIT_S).offset == 10
        clients[0].close()
        with Producer(node.bootstrap) as again:
            assert again.send("t", b"x").result(WAIT_S).offset == 11


def test_the_last_lease_of_the_shared_context_closes_it() -> None:
    shared = SharedContext()
    first, second = shared.lease(), shared.lease()
    assert first is second
    shared.give_back()
    assert shared.lease() is first
    shared.give_back()
    shared.give_back()
    later = shared.lease()
    assert later is not first
    shared.give_back()


def test_without_descriptors_a_client_waits_for_some_and_says_so() -> None:
    """It neither ends the thread of a client nor the process."""
    with fake_node() as node:
        script = [sys.executable, "-m", "tests.client.without_descriptors", node.bootstrap]
        ended = subprocess.run(script, capture_output=True, text=True, timeout=WAIT_S, check=False)
    told = ended.stdout.splitlines()
    assert ended.returncode == 0, ended.stderr
    assert len(told) == 19
    for line in told[:8]:  # all that ZeroMQ needs to begin has to be there, or it would end the process
        assert "OSError: [Errno 24] Too many open files" in line
    for line in told[8:16]:
        assert "Too many open files" in line or line.endswith("made"), line
    assert any(f"no connection to {node.bootstrap} can be opened: Too many open files" in line for line in told[8:16])
    assert told[15:] == ["second 7 made", "waits True", "later made", "other works"]
    assert ended.stderr.count("it is tried again") <= 9, "once for each client"
    assert "Traceback" not in ended.stderr
