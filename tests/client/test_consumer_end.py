"""How a consumer ends: whoever waits is told, whatever it was that ended the client's thread."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from raftlog import AsyncConsumer, Consumer, TopicPartition
from raftlog.errors import ClosedError
from tests.client.fake_node import FakeNode, fake_node

T0 = TopicPartition("t", 0)


@pytest.fixture
def node() -> Iterator[FakeNode]:
    with fake_node() as node:
        yield node


def end_thread(consumer: Consumer) -> None:
    """By a bug."""

    def step(now_s: float) -> float:
        raise RuntimeError("a bug")

    consumer._fetcher.step = step  # type: ignore[method-assign]
    consumer._engine.wake()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_bug_that_ends_the_thread_ends_polls_and_loops_and_says_which(node: FakeNode) -> None:
    with Consumer(bootstrap_servers=node.bootstrap, request_timeout_ms=60_000) as consumer:
        end_thread(consumer)
        consumer.assign([T0])
        waits = (lambda: consumer.poll(30_000), lambda: next(consumer), lambda: consumer.poll(0))
        for wait in (*waits, lambda: consumer.position(T0)):
            with pytest.raises(ClosedError, match="a bug"):
                wait()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_bug_that_ends_the_thread_ends_the_asyncio_consumers_wait(node: FakeNode) -> None:
    async def read() -> None:
        async with AsyncConsumer("t", bootstrap_servers=node.bootstrap) as consumer:
            end_thread(consumer.consumer)
            with pytest.raises(ClosedError, match="a bug"):
                await consumer.getone()

    asyncio.run(asyncio.wait_for(read(), 20))
