"""The asyncio twins over real sockets."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from raftlog import AsyncConsumer, AsyncProducer, TopicPartition
from raftlog.client.pending import RecordMetadata
from raftlog.errors import BufferExhaustedError, ClosedError, NoBrokersAvailableError, UnknownTopicOrPartitionError
from tests.client.fake_node import FakeNode, fake_node


def run(main: object) -> None:
    asyncio.run(asyncio.wait_for(main, 30))  # type: ignore[arg-type]


async def round_trip(node: FakeNode) -> None:
    async with AsyncProducer(bootstrap_servers=node.bootstrap) as producer:
        futures = [await producer.send("t", b"%d" % n) for n in range(1000)]
        found = await asyncio.gather(*futures)
        assert [metadata.offset for metadata in found] == list(range(1000))
        assert (await producer.send_and_wait("t", b"last", key=b"k")).offset == 1000
    options = {"bootstrap_servers": node.bootstrap, "auto_offset_reset": "earliest"}
    async with AsyncConsumer("t", **options) as consumer:
        first = await consumer.getone()
        assert first.value == b"0"
        values = [first.value]
        while len(values) < 900:
            for records in (await consumer.getmany(timeout_ms=1000, max_records=50)).values():
                values += [record.value for record in records]
        async for record in consumer:
            values.append(record.value)
            if record.offset == 1000:
                break
        assert values == [b"%d" % n for n in range(1000)] + [b"last"]
        assert await consumer.position(TopicPartition("t", 0)) == 1001
        assert await consumer.end_offsets([TopicPartition("t", 0)]) == {TopicPartition("t", 0): 1001}
        assert await consumer.getmany(timeout_ms=50) == {}


def test_records_make_the_round_trip() -> None:
    with fake_node() as node:
        run(round_trip(node))


async def small_buffer(node: FakeNode) -> None:
    options = {"buffer_bytes": 3000, "batch_bytes": 500, "max_block_ms": 5000}
    async with AsyncProducer(bootstrap_servers=node.bootstrap, **options) as producer:
        numbers = itertools.count()  # in the order of the calls, whichever task makes them

        async def send() -> list[tuple[int, asyncio.Future[RecordMetadata]]]:
            return [(next(numbers), await producer.send("t", b"x" * 100)) for _ in range(200)]

        sent = sorted(itertools.chain(*await asyncio.gather(*(send() for _ in range(5)))))
        assert [(await future).offset for _, future in sent] == list(range(1000))


def test_a_full_buffer_makes_tasks_wait_and_keeps_the_order_of_their_calls() -> None:
    with fake_node() as node:
        run(small_buffer(node))
        assert node.end(0) == 1000


async def errors(node: FakeNode) -> None:
    async with AsyncProducer(bootstrap_servers=node.bootstrap, buffer_bytes=600, max_block_ms=100) as producer:
        with pytest.raises(UnknownTopicOrPartitionError):
            await producer.send("nope", b"x")
        await producer.send_and_wait("t", b"x")
        node.silent = True
        futures = []
        with pytest.raises(BufferExhaustedError):
            for _ in range(50):
                futures.append(await producer.send("t", b"x" * 100))
        await producer.stop(timeout=0.1)
        for outcome in await asyncio.gather(*futures, return_exceptions=True):
            assert isinstance(outcome, ClosedError)
    with pytest.raises(NoBrokersAvailableError):
        await AsyncConsumer("t", bootstrap_servers="127.0.0.1:1", bootstrap_timeout_ms=100).start()


def test_errors_are_raised_where_they_are_awaited() -> None:
    with fake_node() as node:
        run(errors(node))


async def cancelled(node: FakeNode) -> None:
    async with AsyncProducer(bootstrap_servers=node.bootstrap, linger_ms=100) as producer:
        first, second = [await producer.send("t", b"x") for _ in range(2)]
        first.cancel()
        assert (await second).offset == 1


def test_a_cancelled_future_harms_no_other() -> None:
    with fake_node() as node:
        run(cancelled(node))
