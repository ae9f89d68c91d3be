"""Producers and consumers over real sockets, against a node that keeps its logs in memory."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from raftlog import Admin, Consumer, Producer, TopicPartition
from raftlog.client.core.engine import Engine, parse_bootstrap
from raftlog.client.producer.batch import RecordFuture
from raftlog.errors import (
    BufferExhaustedError,
    ClosedError,
    DeliveryTimeoutError,
    ErrorCode,
    MessageTooLargeError,
    NoBrokersAvailableError,
    OffsetOutOfRangeError,
    UnknownTopicOrPartitionError,
)
from raftlog.record.batch import BatchBuilder, single_batch_bytes
from raftlog.types import Endpoint
from tests.client.fake_node import FakeNode, fake_node
from tests.patience import WAIT_S

T0 = TopicPartition("t", 0)
NOBODY = "127.0.0.1:1"


@pytest.fixture
def node() -> Iterator[FakeNode]:
    with fake_node(3) as node:
        yield node


def read_all(node: FakeNode, count: int, **options: object) -> list[tuple[int, int, bytes | None]]:
    """(partition, offset, value) of the first `count` records that come."""
    found: list[tuple[int, int, bytes | None]] = []
    deadline_s = time.monotonic() + WAIT_S
    with Consumer("t", bootstrap_servers=node.bootstrap, auto_offset_reset="earliest", **options) as consumer:  # type: ignore[arg-type]
        while len(found) < count and time.monotonic() < deadline_s:
            for records in consumer.poll(timeout_ms=200).values():
                found += [(record.partition, record.offset, record.value) for record in records]
    return found


@pytest.mark.parametrize("compression", [None, "gzip", "snappy", "lz4", "zstd"])
def test_a_record_comes_back_as_it_was_sent(node: FakeNode, compression: str | None) -> None:
    headers = [("trace", b"\x00\xff"), ("empty", b""), ("null", None)]
    with Producer(node.bootstrap, compression=compression) as producer:
        sent = [
            producer.send("t", b"value %d" % n * 20, b"key", headers, partition=1, timestamp_ms=1000 + n)
            for n in range(50)
        ]
        sent.append(producer.send("t", None, None, partition=1))
    with Consumer(bootstrap_servers=node.bootstrap) as consumer:
        consumer.assign([TopicPartition("t", 1)])
        consumer.seek_to_beginning()
        records = []
        while len(records) < 51:
            for polled in consumer.poll(timeout_ms=1000).values():
                records += polled
    assert [future.result(0).offset for future in sent] == list(range(51))
    first = records[0]
    assert (first.topic, first.partition, first.offset, first.timestamp_ms) == ("t", 1, 0, 1000)
    assert (first.key, first.value, first.headers) == (b"key", b"value 0" * 20, headers)
    last = records[-1]
    assert (last.key, last.value, last.headers) == (None, None, [])
    assert last.timestamp_ms == sent[-1].result(0).timestamp_ms
    assert abs(last.timestamp_ms - time.time() * 1000) < 60_000


@pytest.mark.parametrize("kind", [Producer, Consumer, Admin])
def test_a_cluster_that_is_not_there_is_told_after_a_bounded_wait(kind: type) -> None:
    started_s = time.monotonic()
    with pytest.raises(NoBrokersAvailableError, match=NOBODY):
        kind(bootstrap_servers=NOBODY, bootstrap_timeout_ms=300)
    assert 0.25 < time.monotonic() - started_s < 3


def test_one_living_address_of_many_is_enough(node: FakeNode) -> None:
    addresses = [f"127.0.0.1:{port}" for port in range(1, 6)]
    with Producer([*addresses, node.bootstrap]) as producer:
        assert producer.send("t", b"x").result(WAIT_S).topic == "t"


def test_an_unknown_topic_is_an_error_of_send_and_of_poll(node: FakeNode) -> None:
    with Producer(node.bootstrap) as producer, Consumer("nope", bootstrap_servers=node.bootstrap) as consumer:
        with pytest.raises(UnknownTopicOrPartitionError, match="nope"):
            producer.send("nope", b"x")
        with pytest.raises(UnknownTopicOrPartitionError, match="nope"):
            consumer.poll(timeout_ms=10_000)
        with pytest.raises(UnknownTopicOrPartitionError):
            producer.send("t", b"x", partition=3)
        assert producer.partitions_for("t") == {0, 1, 2}
        assert consumer.partitions_for_topic("t") == {0, 1, 2}
        assert consumer.partitions_for_topic("nope") is None


def test_wrong_arguments_are_errors_at_once(node: FakeNode) -> None:
    with Producer(node.bootstrap) as producer:
        with pytest.raises(TypeError):
            producer.send("t", "text")  # type: ignore[arg-type]
        producer.send("t", b"still works").result(WAIT_S)
    for options in ({"acks": 2}, {"compression": "rar"}, {"partitioner": "best"}, {"batch_bytes": 0}):
        with pytest.raises(ValueError):
            Producer(node.bootstrap, **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError):
        Consumer("t", bootstrap_servers=node.bootstrap, auto_offset_reset="middle")
    for address in ("", "host:", "host:port", ":1", "host:0", "host:65536", "a b:1", "*:80", []):
        with pytest.raises(ValueError):
            parse_bootstrap(address)
    assert parse_bootstrap("a:1, b") == [Endpoint("a", 1), Endpoint("b", 7071)]


def test_a_silent_node_fills_the_buffer_and_everything_stays_bounded(node: FakeNode) -> None:
    producer = Producer(node.bootstrap, buffer_bytes=5000, batch_bytes=1000, max_block_ms=100)
    first = producer.send("t", b"x" * 500, partition=0)
    first.result(WAIT_S)
    node.silent = True
    futures = []
    with pytest.raises(BufferExhaustedError):
        for _ in range(100):
            futures.append(producer.send("t", b"x" * 500, partition=0))
    assert 4 <= len(futures) <= 12
    with pytest.raises(TimeoutError):
        producer.flush(timeout=0.1)
    started_s = time.monotonic()
    producer.close(timeout=0.1)
    assert time.monotonic() - started_s < 3
    for future in futures:
        assert isinstance(future.exception(timeout=0), ClosedError)
    with pytest.raises(ClosedError):
        producer.send("t", b"x")
    producer.close()


def test_records_that_are_never_answered_fail_after_the_delivery_time_out(node: FakeNode) -> None:
    with Producer(node.bootstrap, delivery_timeout_ms=500) as producer:
        producer.send("t", b"x", partition=0).result(WAIT_S)
        node.silent = True
        error = producer.send("t", b"x", partition=0).exception(5)
        assert isinstance(error, DeliveryTimeoutError)
        assert error.outcome_unknown


def test_a_producer_goes_on_when_its_node_comes_back(node: FakeNode) -> None:
    with Producer(node.bootstrap) as producer:
        producer.send("t", b"before", partition=0).result(WAIT_S)
        port = node.endpoint.port
        node.close()
        future = producer.send("t", b"after", partition=0)
        time.sleep(0.3)
        assert not future.done()
        again = FakeNode(3, port)
        try:
            assert future.result(WAIT_S).offset == 0
        finally:
            again.close()


def test_refusals_are_retried_inside(node: FakeNode) -> None:
    node.refuse = ErrorCode.NOT_LEADER_OR_FOLLOWER
    with Producer(node.bootstrap) as producer:
        futures = [producer.send("t", b"%d" % n, partition=0) for n in range(1000)]
        time.sleep(0.2)
        assert not any(future.done() for future in futures)
        node.refuse = ErrorCode.NONE
        assert [future.result(WAIT_S).offset for future in futures] == list(range(1000))


def test_a_record_that_is_too_large_fails_alone(node: FakeNode) -> None:
    with Producer(node.bootstrap) as producer:
        good = producer.send("t", b"x")
        bad = producer.send("t", b"x" * 1_100_000)
        assert isinstance(bad.exception(5), MessageTooLargeError)
        assert good.result(WAIT_S).offset == 0


@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_headers_count_in_the_size_of_a_record_and_those_behind_it_go_on(node: FakeNode, compression: str) -> None:
    with Producer(node.bootstrap, linger_ms=0, compression=compression) as producer:
        bad = producer.send("t", b"v", headers=[("h", bytes(70_000_000))], partition=0)
        assert bad.done()
        error = bad.exception(0)
        assert isinstance(error, MessageTooLargeError)
        assert not error.outcome_unknown
        assert "70000" in str(error) and "headers included" in str(error)
        assert producer.send("t", b"behind", partition=0).result(WAIT_S).offset == 0


def test_producer_and_leader_agree_on_the_largest_record(node: FakeNode) -> None:
    limit = 1024 * 1024
    with Producer(node.bootstrap, linger_ms=0) as producer:
        for name, content in (("", b""), ("header-ü", bytes(500_000))):
            headers = [(name, content)] if name else []
            fixed = single_batch_bytes(1, b"k", bytes(500_000), headers) - 500_000
            fits = producer.send("t", bytes(limit - fixed), b"k", headers, partition=0, timestamp_ms=1)
            fits.result(WAIT_S)
            assert encoded_bytes(limit - fixed, headers) == limit
            above = producer.send("t", bytes(limit - fixed + 1), b"k", headers, partition=0, timestamp_ms=1)
            assert isinstance(above.exception(5), MessageTooLargeError)


def encoded_bytes(size: int, headers: list[tuple[str, bytes | None]]) -> int:
    builder = BatchBuilder()
    builder.append(1, b"k", bytes(size), headers)
    return len(builder.build())


def test_without_acks_records_arrive_and_futures_have_no_offset(node: FakeNode) -> None:
    with Producer(node.bootstrap, acks=0) as producer:
        futures = [producer.send("t", b"%d" % n) for n in range(100)]
        producer.flush(WAIT_S)
        assert {future.result(0).offset for future in futures} == {-1}
        assert len(read_all(node, 100)) == 100


@contextmanager
def slow_network(node: FakeNode) -> Iterator[None]:
    """What clients send to the node takes 100 ms for each MB."""
    listener = socket.create_server(("127.0.0.1", 0))
    behind, node.endpoint = node.endpoint, Endpoint("127.0.0.1", listener.getsockname()[1])
    node.bootstrap = str(node.endpoint)

    def pump(source: socket.socket, sink: socket.socket, seconds_per_byte: float) -> None:
        with contextlib.suppress(OSError):
            while found := source.recv(200_000):
                time.sleep(len(found) * seconds_per_byte)
                sink.sendall(found)
            sink.shutdown(socket.SHUT_WR)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.create_connection(behind)
                for pair in ((client, server, 1e-7), (server, client, 0.0)):
                    threading.Thread(target=pump, args=pair, daemon=True).start()

    accepting = threading.Thread(target=accept, daemon=True)
    accepting.start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        accepting.join(WAIT_S)


def test_without_acks_close_covers_what_was_sent_though_the_process_ends_at_once(node: FakeNode) -> None:
    """Also while another client of the process is open."""
    script = """
import os, sys
from raftlog import Producer
other = Producer(sys.argv[1])
producer = Producer(sys.argv[1], acks=0, linger_ms=0)
for number in range(20):
    producer.send("t", bytes(1_000_000), partition=0)
producer.close()
os._exit(0)
"""
    with slow_network(node):
        subprocess.run([sys.executable, "-c", script, node.bootstrap], timeout=WAIT_S, check=True)
        assert node.end(0) == 20


def test_without_acks_closing_in_a_callback_waits_as_well(node: FakeNode) -> None:
    producer = Producer(node.bootstrap, acks=0)
    closed = threading.Event()

    def close(_: object) -> None:
        producer.close()
        closed.set()

    producer.send("t", b"x", partition=0).add_done_callback(close)
    assert closed.wait(10)
    assert node.end(0) == 1


def test_without_acks_a_silent_node_keeps_close_for_a_bounded_time(node: FakeNode) -> None:
    producer = Producer(node.bootstrap, acks=0)
    producer.send("t", b"x", partition=0).result(WAIT_S)
    node.silent = True
    started_s = time.monotonic()
    producer.close(timeout=0.3)
    assert 0.2 < time.monotonic() - started_s < 3


def test_records_go_where_the_partitioner_says(node: FakeNode) -> None:
    def by_first_letter(key: bytes | None, partitions: list[int]) -> int:
        return partitions[(key or b"?")[0] % len(partitions)]

    keys = [b"key-%d" % n for n in range(100)]
    for partitioner, expected in (
        ("crc32", [zlib.crc32(key) % 3 for key in keys]),
        (by_first_letter, [ord("k") % 3] * 100),
    ):
        with Producer(node.bootstrap, partitioner=partitioner) as producer:  # type: ignore[arg-type]
            futures = [producer.send("t", b"v", key) for key in keys]
            assert [future.result(WAIT_S).partition for future in futures] == expected
    with Producer(node.bootstrap, partitioner="round-robin", batch_bytes=100) as producer:
        counts = Counter(
            future.result(WAIT_S).partition for future in [producer.send("t", b"v" * 50) for _ in range(100)]
        )
    assert sorted(counts.values()) == [33, 33, 34]
    with Producer(node.bootstrap, batch_bytes=100) as producer:
        sticky = Counter(
            future.result(WAIT_S).partition for future in [producer.send("t", b"v" * 50) for _ in range(200)]
        )
    assert len(sticky) == 3


def test_many_threads_may_send(node: FakeNode) -> None:
    with Producer(node.bootstrap, batch_bytes=2000, buffer_bytes=20_000) as producer:

        def run(name: int) -> None:
            for n in range(500):
                producer.send("t", b"%d-%d" % (name, n), partition=n % 3)

        threads = [threading.Thread(target=run, args=(name,)) for name in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT_S)
        producer.flush(WAIT_S)
    found = read_all(node, 2000)
    assert len({value for _, _, value in found}) == 2000
    for name in range(4):
        for partition in range(3):
            mine = [value for place, _, value in found if place == partition and value]
            numbers = [int(value.split(b"-")[1]) for value in mine if value.startswith(b"%d-" % name)]
            assert numbers == sorted(numbers)


def fill(node: FakeNode, count: int, partition: int = 0) -> None:
    with Producer(node.bootstrap, batch_bytes=500) as producer:
        for n in range(count):
            producer.send("t", b"%d" % n, partition=partition)


def test_positions_seeks_and_bounds(node: FakeNode) -> None:
    fill(node, 100)
    with Consumer(bootstrap_servers=node.bootstrap) as consumer:
        consumer.assign([T0])
        assert consumer.position(T0) == 100  # auto_offset_reset is latest
        assert consumer.beginning_offsets([T0]) == {T0: 0}
        assert consumer.end_offsets([T0, TopicPartition("t", 1)]) == {T0: 100, TopicPartition("t", 1): 0}
        consumer.seek(T0, 42)
        assert consumer.position(T0) == 42
        (records,) = consumer.poll(timeout_ms=5000, max_records=3).values()
        assert [record.offset for record in records] == [42, 43, 44]
        assert consumer.position(T0) == 45
        consumer.seek_to_beginning(T0)
        assert consumer.position(T0) == 0
        assert next(consumer).value == b"0"
        assert consumer.position(T0) == 1
        assert consumer.highwater(T0) == 100
        consumer.seek_to_end()
        assert consumer.position(T0) == 100
        assert consumer.poll(timeout_ms=50) == {}
        with pytest.raises(ValueError, match="not assigned"):
            consumer.seek(TopicPartition("t", 1), 0)
        with pytest.raises(ValueError):
            consumer.seek(T0, -1)


def test_leaving_and_mixing_loops_and_polls_loses_and_doubles_nothing(node: FakeNode) -> None:
    fill(node, 500)
    seen = []
    with Consumer("t", bootstrap_servers=node.bootstrap, auto_offset_reset="earliest") as consumer:
        while len(seen) < 500:
            for record in consumer:
                seen.append(record.offset)
                assert consumer.position(T0) == record.offset + 1
                if len(seen) % 7 == 0:
                    break
            for records in consumer.poll(timeout_ms=0, max_records=5).values():
                seen += [record.offset for record in records]
            if len(seen) < 500:
                seen.append(next(consumer).offset)
    assert seen == list(range(500))


def test_iteration_ends_when_nothing_comes(node: FakeNode) -> None:
    fill(node, 10)
    options = {"auto_offset_reset": "earliest", "consumer_timeout_ms": 200}
    with Consumer("t", bootstrap_servers=node.bootstrap, **options) as consumer:  # type: ignore[arg-type]
        assert [record.value for record in consumer] == [b"%d" % n for n in range(10)]


def test_a_busy_partition_does_not_starve_the_others(node: FakeNode) -> None:
    fill(node, 3000, 0)
    fill(node, 30, 1)
    fill(node, 30, 2)
    with Consumer("t", bootstrap_servers=node.bootstrap, auto_offset_reset="earliest") as consumer:
        time.sleep(1.0)  # everything has been fetched, and now it is a matter of turns
        counts: Counter[int] = Counter()
        for _ in range(60):
            for place, records in consumer.poll(timeout_ms=5000, max_records=20).items():
                counts[place.partition] += len(records)
        assert counts[1] == counts[2] == 30
        assert counts[0] > 0


def test_out_of_range_is_reset_or_raised(node: FakeNode) -> None:
    fill(node, 10)
    with Consumer(bootstrap_servers=node.bootstrap, auto_offset_reset="earliest") as consumer:
        consumer.assign([T0])
        consumer.seek(T0, 5000)
        (records,) = consumer.poll(timeout_ms=5000).values()
        assert records[0].offset == 0
    with Consumer(bootstrap_servers=node.bootstrap, auto_offset_reset="none") as consumer:
        consumer.assign([T0])
        with pytest.raises(OffsetOutOfRangeError, match="seek first"):
            consumer.poll(timeout_ms=1000)
        consumer.seek(T0, 5000)
        with pytest.raises(OffsetOutOfRangeError, match="5000"):
            consumer.poll(timeout_ms=5000)
        consumer.seek(T0, 3)
        (records,) = consumer.poll(timeout_ms=5000).values()
        assert records[0].offset == 3


def test_an_error_of_one_partition_is_not_hidden_by_a_busy_one(node: FakeNode) -> None:
    fill(node, 2000)
    with Consumer(bootstrap_servers=node.bootstrap, auto_offset_reset="none") as consumer:
        consumer.assign([T0, TopicPartition("t", 1)])
        consumer.seek(T0, 0)
        with pytest.raises(OffsetOutOfRangeError, match="t-1"):
            consumer.poll(timeout_ms=1000)
        consumer.seek(TopicPartition("t", 1), 0)
        assert sum(map(len, consumer.poll(timeout_ms=5000, max_records=10).values())) == 10


def test_a_consumer_waits_for_records_and_gets_them_soon(node: FakeNode) -> None:
    with Consumer("t", bootstrap_servers=node.bootstrap) as consumer, Producer(node.bootstrap) as producer:
        for place in consumer.assignment():
            consumer.position(place)
        timer = threading.Timer(0.2, producer.send, ("t", b"late"))
        timer.start()
        started_s = time.monotonic()
        ((record,),) = consumer.poll(timeout_ms=10_000).values()
        assert record.value == b"late"
        assert time.monotonic() - started_s < 5
        timer.join()


def test_closing_a_consumer_ends_a_poll_in_another_thread(node: FakeNode) -> None:
    consumer = Consumer("t", bootstrap_servers=node.bootstrap)
    ended: list[Exception] = []

    def poll() -> None:
        try:
            consumer.poll(timeout_ms=60_000)
        except ClosedError as error:
            ended.append(error)

    thread = threading.Thread(target=poll)
    thread.start()
    time.sleep(0.1)
    consumer.close()
    thread.join(WAIT_S)
    assert len(ended) == 1


def test_callbacks_may_send_more_and_close(node: FakeNode) -> None:
    producer = Producer(node.bootstrap)
    finished = threading.Event()

    def again(_: object) -> None:
        producer.send("t", b"from a callback").add_done_callback(lambda _: finished.set())

    producer.send("t", b"x").add_done_callback(again)
    assert finished.wait(5)
    producer.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_bug_that_ends_the_thread_leaves_nobody_waiting(node: FakeNode) -> None:
    class Broken:
        aborted = False

        def step(self, now_s: float) -> float:
            raise RuntimeError("a bug")

        def abort(self) -> None:
            self.aborted = True

    part = Broken()
    engine = Engine(node.bootstrap, "test", frozenset())
    engine.start(part)
    with pytest.raises(ClosedError):
        engine.wait_for(lambda: False, 10.0)
    engine.stop()
    assert part.aborted
    engine.wake()  # after the end it does nothing


def test_bootstrap_addresses_of_ipv6_are_written_in_brackets() -> None:
    assert parse_bootstrap("[::1]:7072,[0::1],localhost:1") == [
        Endpoint("::1", 7072),
        Endpoint("::1", 7071),
        Endpoint("localhost", 1),
    ]
    for text in ("::1:7071", "[::1", "[::1]:", "[nonsense]:7071"):
        with pytest.raises(ValueError, match=r"IPv6|brackets|host:port|ADDRESS"):
            parse_bootstrap(text)


def test_what_waits_in_a_callback_does_the_clients_work_meanwhile(node: FakeNode) -> None:
    seen: list[object] = []
    finished = threading.Event()

    def more(future: RecordFuture) -> None:
        try:
            seen.append(producer.send("t", b"2", partition=1).result(WAIT_S).offset)
            for _ in range(20):  # more than the buffer holds
                producer.send("t", b"x" * 300, partition=0)
            other = producer.send("t", b"3", partition=2)
            producer.flush(WAIT_S)
            seen.append(other.done())
            with pytest.raises(UnknownTopicOrPartitionError):
                producer.send("unknown", b"x", max_block_ms=500)
            producer.close()
            with pytest.raises(ClosedError):
                producer.send("t", b"4")
            seen.append("closed")
        finally:
            finished.set()

    producer = Producer(node.bootstrap, linger_ms=300, buffer_bytes=2000, batch_bytes=500, delivery_timeout_ms=8_000)
    producer.send("t", b"1", partition=0).add_done_callback(more)
    assert finished.wait(20)
    assert seen == [0, True, "closed"]
    producer.close()
    assert node.end(0) == 21


def test_callbacks_run_one_after_the_other_also_when_they_wait(node: FakeNode) -> None:
    running = most = 0
    order: list[int] = []

    def callback(number: int) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        producer.flush(WAIT_S)
        order.append(number)
        running -= 1

    with Producer(node.bootstrap) as producer:
        for number in range(50):
            producer.send("t", b"x").add_done_callback(lambda _, number=number: callback(number))  # type: ignore[misc]
    assert most == 1
    assert order == list(range(50))


def test_close_keeps_its_time_when_a_callback_hangs(node: FakeNode) -> None:
    goes_on = threading.Event()
    hangs = threading.Event()

    def callback(_: object) -> None:
        hangs.set()
        goes_on.wait(30)

    producer = Producer(node.bootstrap, linger_ms=0)
    producer.send("t", b"1").add_done_callback(callback)
    assert hangs.wait(5)
    other = producer.send("t", b"2", partition=1)
    told: list[object] = []
    other.add_done_callback(told.append)
    started_s = time.monotonic()
    producer.close(timeout=0.2)
    assert time.monotonic() - started_s < 3
    error = other.exception(0)
    assert isinstance(error, ClosedError) and error.outcome_unknown
    assert told == [other]
    goes_on.set()
    producer.close(timeout=5)
    assert not producer._writer.engine._thread.is_alive()


def test_close_waits_for_a_callback_of_the_group_in_another_thread(node: FakeNode) -> None:
    """`close` in a second thread calls nothing while the first is in `attend`; a second `close` waits for the first."""
    consumer = Consumer(bootstrap_servers=node.bootstrap, group_id="g")
    consumer.assign([T0])
    inside, goes_on = threading.Event(), threading.Event()
    order: list[str] = []

    def told(*_: object) -> None:
        inside.set()
        goes_on.wait(10)
        order.append("the callback has ended")

    consumer.commit_async({T0: 1}, told)

    def poll() -> None:
        with pytest.raises(ClosedError):
            consumer.poll(20_000)

    polling = threading.Thread(target=poll)
    polling.start()
    assert inside.wait(10)

    def close() -> None:
        consumer.close()
        order.append("closed")

    closing = [threading.Thread(target=close) for _ in range(2)]
    for thread in closing:
        thread.start()
    time.sleep(0.1)
    assert order == []
    goes_on.set()
    for thread in (*closing, polling):
        thread.join(WAIT_S)
        assert not thread.is_alive()
    assert order == ["the callback has ended", "closed", "closed"]
