"""The asyncio twins over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
import time
from collections.abc import Callable

import pytest

from raftlog import AsyncConsumer, AsyncProducer, Producer, TopicPartition
from raftlog.client.producer.batch import RecordMetadata
from raftlog.errors import BufferExhaustedError, ClosedError, NoBrokersAvailableError, UnknownTopicOrPartitionError
from tests.client.fake_node import FakeNode, fake_node
from tests.patience import WAIT_S


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


# --- cancellation: what a call began ends with it, or is waited for by the next --------------------
T0 = TopicPartition("t", 0)


async def until(found: Callable[[], object], timeout_s: float = WAIT_S) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not found():
        assert time.monotonic() < deadline_s, "did not happen in time"
        await asyncio.sleep(0.01)


async def cancel(task: asyncio.Task[object]) -> None:
    task.cancel()
    await asyncio.wait([task], timeout=WAIT_S)
    assert task.cancelled(), "the cancellation was lost"


def network_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.endswith("-network")]


async def callbacks_once(node: FakeNode) -> None:
    options = {"bootstrap_servers": node.bootstrap, "group_id": "g", "auto_offset_reset": "earliest"}
    async with AsyncProducer(bootstrap_servers=node.bootstrap) as producer, AsyncConsumer(**options) as consumer:
        await producer.send_and_wait("t", b"x")
        consumer.consumer.assign([T0])
        calls = []
        inside, goes_on = threading.Event(), threading.Event()

        def callback(*_: object) -> None:
            calls.append("begun")
            inside.set()
            goes_on.wait(WAIT_S)
            consumer.consumer.seek(T0, 0)
            calls.append("ended")

        first = asyncio.create_task(consumer.getone())
        await first  # so that there is a position
        consumer.consumer.commit_async({T0: 1}, callback)
        await producer.send_and_wait("t", b"y")
        for reads in (consumer.getone, consumer.getmany, consumer.getone):
            task = asyncio.create_task(reads())
            await until(inside.is_set)
            await asyncio.sleep(0.05)
            assert not task.done(), "handed out although a callback is running"
            await cancel(task)
        reading = [asyncio.create_task(consumer.getone()) for _ in range(2)]
        goes_on.set()
        assert sorted([(await task).offset for task in reading]) == [0, 1]
        assert calls == ["begun", "ended"]


def test_callbacks_run_once_and_before_records_whatever_is_cancelled() -> None:
    with fake_node() as node:
        run(callbacks_once(node))


async def nothing_lost(node: FakeNode) -> None:
    options = {"bootstrap_servers": node.bootstrap, "auto_offset_reset": "earliest"}
    async with (
        AsyncProducer(bootstrap_servers=node.bootstrap, linger_ms=0) as producer,
        AsyncConsumer("t", **options) as consumer,
    ):
        seen: list[int] = []
        cancelled = 0
        for number in range(200):
            task = asyncio.create_task(consumer.getone())
            await asyncio.sleep(0)
            if number % 2:
                await producer.send_and_wait("t", b"%d" % number)
                await asyncio.sleep((number % 5) / 2000)
            if task.done():
                seen.append(task.result().offset)
            else:
                consumer._bell.ring()  # something else wakes it in the moment in which it is cancelled
                await cancel(task)
                cancelled += 1
            if not number % 2:
                await producer.send_and_wait("t", b"%d" % number)
            while len(seen) <= number:
                seen.append((await consumer.getone()).offset)
        assert cancelled >= 100
        assert seen == list(range(200))


def test_a_cancelled_read_is_cancelled_and_loses_no_record() -> None:
    with fake_node() as node:
        run(nothing_lost(node))


async def several_readers(node: FakeNode) -> None:
    async with AsyncProducer(bootstrap_servers=node.bootstrap) as producer:
        for number in range(200):
            await producer.send("t", b"%d" % number)
    seen: list[int] = []
    async with AsyncConsumer("t", bootstrap_servers=node.bootstrap, auto_offset_reset="earliest") as consumer:

        async def read() -> None:
            with contextlib.suppress(ClosedError):
                async for record in consumer:
                    seen.append(record.offset)

        readers = [asyncio.create_task(read()) for _ in range(3)]
        await until(lambda: len(seen) == 200)
        started_s = time.monotonic()
        await consumer.stop()
        await asyncio.gather(*readers)  # all end, at once
        assert time.monotonic() - started_s < 5
    assert sorted(seen) == list(range(200))


def test_several_tasks_may_read_and_end_with_the_consumer() -> None:
    with fake_node() as node:
        run(several_readers(node))


async def starts_cancelled(node: FakeNode) -> None:
    before = len(network_threads())
    for bootstrap in (node.bootstrap, "127.0.0.1:1"):
        for step in range(6):
            for client in (
                AsyncConsumer("t", bootstrap_servers=bootstrap),
                AsyncProducer(bootstrap_servers=bootstrap),
            ):
                task = asyncio.create_task(client.start())
                for _ in range(step):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait([task])
                await client.stop()
    assert len(network_threads()) == before
    entering = asyncio.create_task(AsyncProducer(bootstrap_servers="127.0.0.1:1").__aenter__())
    await asyncio.sleep(0.05)
    await cancel(entering)
    await until(lambda: len(network_threads()) == before)
    again = AsyncProducer(bootstrap_servers=node.bootstrap)
    await cancel(asyncio.create_task(again.start()))
    await again.start()  # one that was cancelled may be started again
    with pytest.raises(RuntimeError, match="already"):
        await again.start()
    assert (await again.send_and_wait("t", b"x")).offset == 0
    await again.stop()


def test_a_cancelled_start_leaves_no_client_behind() -> None:
    with fake_node() as node:
        run(starts_cancelled(node))


async def stops_cancelled(node: FakeNode) -> None:
    options = {"bootstrap_servers": node.bootstrap, "group_id": "g", "enable_auto_commit": False}
    consumer = AsyncConsumer(**options)
    await consumer.start()
    consumer.consumer.assign([T0])
    calls = []
    inside, goes_on = threading.Event(), threading.Event()

    def callback(*_: object) -> None:
        calls.append(1)
        inside.set()
        goes_on.wait(WAIT_S)

    consumer.consumer.commit_async({T0: 1}, callback)
    await until(consumer._reader.needs_attention)
    await cancel_soon(consumer.stop(), inside)
    stopping = asyncio.create_task(consumer.stop())
    await asyncio.sleep(0.05)
    assert not stopping.done()
    goes_on.set()
    await stopping
    assert calls == [1]
    producer = AsyncProducer(bootstrap_servers=node.bootstrap)
    await producer.start()
    await producer.send_and_wait("t", b"1")
    node.silent = True
    future = await producer.send("t", b"2")
    await cancel_soon(producer.flush())
    await cancel_soon(producer.stop())
    assert not future.done()
    await producer.stop(timeout=0.1)
    assert isinstance((await asyncio.gather(future, return_exceptions=True))[0], ClosedError)
    with pytest.raises(ClosedError):
        await producer.send("t", b"3")


async def cancel_soon(work: object, begun: threading.Event | None = None) -> None:
    task = asyncio.create_task(work)  # type: ignore[arg-type]
    if begun is not None:
        await until(begun.is_set)
    await asyncio.sleep(0.05)
    await cancel(task)


def test_a_cancelled_stop_goes_on_and_the_next_waits_for_it() -> None:
    with fake_node() as node:
        run(stops_cancelled(node))


async def sends_cancelled(node: FakeNode) -> None:
    options = {"buffer_bytes": 1000, "batch_bytes": 500, "linger_ms": 10_000, "request_timeout_ms": 300}
    async with AsyncProducer(bootstrap_servers=node.bootstrap, **options) as producer:
        await producer.send_and_wait("t", b"known") if node.batches[0] else await find(producer)
        node.silent = True
        futures = [await producer.send("t", b"x" * 300) for _ in range(2)]
        for _ in range(3):
            waits = asyncio.create_task(producer.send("t", b"cancelled" * 40))
            await asyncio.sleep(0.05)
            assert not waits.done()
            await cancel(waits)
        node.silent = False
        futures.append(await producer.send("t", b"y" * 300))
        await producer.flush()
        assert [(await future).offset for future in futures] == [0, 1, 2]
    values = [batch for _, _, batch in node.batches[0]]
    assert len(values) == 3
    assert not any(b"cancelled" in value for value in values)


async def find(producer: AsyncProducer) -> None:
    await asyncio.to_thread(producer._started().find, "t")


def test_a_cancelled_send_is_not_sent() -> None:
    with fake_node() as node:
        run(sends_cancelled(node))


def test_what_is_not_started_says_so() -> None:
    async def main() -> None:
        producer, consumer = AsyncProducer(), AsyncConsumer("t")
        for call in (producer.send("t"), producer.flush(), consumer.getone(), consumer.commit(), consumer.getmany()):
            with pytest.raises(ClosedError, match="start"):
                await call
        await producer.stop()
        await consumer.stop()

    run(main())


def test_a_loop_that_is_closed_under_a_client_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    with fake_node() as node:
        left: list[Producer] = []

        async def leave() -> None:
            consumer = AsyncConsumer("t", bootstrap_servers=node.bootstrap)
            await consumer.start()
            producer = AsyncProducer(bootstrap_servers=node.bootstrap, linger_ms=300)
            await producer.start()
            await producer.send("t", b"x")
            left.append(producer._started())
            left.append(consumer.consumer)  # type: ignore[arg-type]
            reading = asyncio.create_task(consumer.getone())
            await asyncio.sleep(0.01)
            assert not reading.done()

        run(leave())
        for client in left:
            client.close()
        assert node.end(0) == 1
        assert not caplog.records
