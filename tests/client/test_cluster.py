"""Clients against real nodes: leaders killed and paused, nodes restarted, topics made anew."""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import pytest

from raftlog import Admin, Consumer, ConsumerRecord, NewTopic, Producer, RecordFuture, TopicPartition
from raftlog.errors import (
    ErrorCode,
    InvalidTopicError,
    RaftlogError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
)
from raftlog.network.context import KEPT_FROM_BYTES
from tests.client.led_topic import PARTITIONS, leader_of, new_topic
from tests.patience import WAIT_S

if TYPE_CHECKING:
    from raftlog.node.local import LocalCluster

FAILOVER_MAX_S = 6.0  # 2.5 s on a machine of its own; tests share theirs


class Load:
    """Sends numbered records to every partition until told to stop, and remembers what became of them."""

    def __init__(self, bootstrap: str, topic: str, value_bytes: int, pause_s: float) -> None:
        self.topic = topic
        self._value_bytes = value_bytes
        self._pause_s = pause_s
        self.producer = Producer(bootstrap, linger_ms=1)
        self.sent = [0] * PARTITIONS
        self.acked: list[list[tuple[int, int]]] = [[] for _ in range(PARTITIONS)]
        self.acked_s: list[list[float]] = [[] for _ in range(PARTITIONS)]
        self.failed: list[RaftlogError] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopping.wait(self._pause_s):
            for partition in range(PARTITIONS):
                number = self.sent[partition]
                self.sent[partition] += 1
                value = (b"%d" % number).ljust(self._value_bytes)
                future = self.producer.send(self.topic, value, partition=partition)
                future.add_done_callback(partial(self._done, partition, number))

    def _done(self, partition: int, number: int, future: RecordFuture) -> None:
        error = future.exception()
        if error is None:
            self.acked[partition].append((number, future.result().offset))
            self.acked_s[partition].append(time.monotonic())
        else:
            self.failed.append(error)

    def run_for(self, seconds: float) -> None:
        time.sleep(seconds)

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(WAIT_S)
        self.producer.close()

    def longest_gap_s(self, partition: int) -> float:
        return max(later - earlier for earlier, later in itertools.pairwise(self.acked_s[partition]))


@contextmanager
def load(bootstrap: str, topic: str, value_bytes: int = 0, pause_s: float = 0.001) -> Iterator[Load]:
    running = Load(bootstrap, topic, value_bytes, pause_s)
    try:
        yield running
    finally:
        running.stop()


@contextmanager
def killed_under_load(cluster: LocalCluster, **how: float) -> Iterator[tuple[Load, Callable[[], tuple[int, int]]]]:
    """A load, and who leads partition 0: (node id, process). Judged at the end."""
    with Admin(cluster.bootstrap) as admin:
        topic = new_topic(admin)
        leader_of(admin, topic)
        with load(cluster.bootstrap, topic, **how) as running:  # type: ignore[arg-type]
            yield running, lambda: leader_of(admin, topic)
        check(running, read_to_end(cluster.bootstrap, topic))


def read_to_end(bootstrap: str, topic: str) -> list[list[ConsumerRecord]]:
    places = [TopicPartition(topic, partition) for partition in range(PARTITIONS)]
    found: list[list[ConsumerRecord]] = [[] for _ in places]
    deadline_s = time.monotonic() + WAIT_S
    with Consumer(bootstrap_servers=bootstrap) as consumer:
        consumer.assign(places)
        consumer.seek_to_beginning()
        ends = consumer.end_offsets(places)
        while any(consumer.position(place) < ends[place] for place in places):
            assert time.monotonic() < deadline_s, "the end was not reached"
            for place, records in consumer.poll(timeout_ms=200).items():
                found[place.partition] += records
    return found


def check(running: Load, found: list[list[ConsumerRecord]]) -> None:
    """Each record is there exactly once, in the order of send, at the offset that its future said."""
    assert running.failed == []
    for partition, records in enumerate(found):
        assert [record.offset for record in records] == list(range(len(records)))
        numbers = [int(record.value or b"") for record in records]
        assert numbers == list(range(running.sent[partition]))
        for number, offset in running.acked[partition]:
            assert numbers[offset] == number


def test_topics_are_made_described_and_deleted(cluster: LocalCluster) -> None:
    with Admin(cluster.bootstrap) as admin:
        name = new_topic(admin)
        assert name in admin.list_topics()
        with pytest.raises(TopicAlreadyExistsError):
            admin.create_topics([NewTopic(name=name)])
        with pytest.raises(InvalidTopicError) as caught:
            admin.create_topics([NewTopic(name="no/slash"), NewTopic(name=name + "-more", partitions=2)])
        bad, good = caught.value.results
        assert bad.error_code is ErrorCode.INVALID_TOPIC_EXCEPTION
        assert (good.error_code, good.partitions, good.replication_factor) == (ErrorCode.NONE, 2, 3)
        with pytest.raises(UnknownTopicOrPartitionError, match="there is no topic no-such-topic") as caught:
            admin.describe_topics([name, "no-such-topic"])
        (found,) = caught.value.results
        assert (found.name, len(found.partitions)) == (name, PARTITIONS)
        status = admin.describe_cluster()
        assert {node.node_id for node in status.nodes} == {1, 2, 3}
        leader_of(admin, name)
        assert len(admin.describe_replicas([name])) == 9
        with pytest.raises(UnknownTopicOrPartitionError) as caught:
            admin.delete_topics([name, "no-such-topic"])
        gone, unknown = caught.value.results
        assert (gone.error_code, unknown.error_code) == (ErrorCode.NONE, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
        assert name not in admin.list_topics()


@pytest.mark.parametrize("acks", [0, 1, "all"])
@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_records_make_the_round_trip(cluster: LocalCluster, acks: str | int, compression: str) -> None:
    with Admin(cluster.bootstrap) as admin:
        topic = new_topic(admin)
        for partition in range(PARTITIONS):
            leader_of(admin, topic, partition)
    with Producer(cluster.bootstrap, acks=acks, compression=compression) as producer:
        futures = [producer.send(topic, b"%d" % n * 10, key=b"%d" % (n % 7)) for n in range(3000)]
    assert all(future.exception(0) is None for future in futures)
    with Consumer(topic, bootstrap_servers=cluster.bootstrap, auto_offset_reset="earliest") as consumer:
        values = []
        deadline_s = time.monotonic() + WAIT_S
        while len(values) < 3000 and time.monotonic() < deadline_s:
            for records in consumer.poll(timeout_ms=500).values():
                values += [record.value for record in records]
    assert sorted(values, key=lambda value: int(value or b"")) == sorted((b"%d" % n * 10 for n in range(3000)), key=int)


def test_offsets_are_found_by_time(cluster: LocalCluster) -> None:
    with Admin(cluster.bootstrap) as admin:
        topic = new_topic(admin)
    place = TopicPartition(topic, 0)
    with Producer(cluster.bootstrap, linger_ms=0) as producer:
        for n in range(10):
            producer.send(topic, b"x", partition=0, timestamp_ms=1_000_000 + n * 1000).result(WAIT_S)
    with Consumer(bootstrap_servers=cluster.bootstrap) as consumer:
        found = consumer.offsets_for_times({place: 1_004_500})[place]
        assert found is not None
        assert (found.offset, found.timestamp_ms) == (5, 1_005_000)
        assert consumer.offsets_for_times({place: 2_000_000}) == {place: None}
        with pytest.raises(UnknownTopicOrPartitionError):
            consumer.end_offsets([TopicPartition("no-such-topic", 0)])
        with pytest.raises(UnknownTopicOrPartitionError):
            consumer.end_offsets([TopicPartition(topic, 99)])


def test_a_topic_made_anew_is_written_and_read_from_its_beginning(cluster: LocalCluster) -> None:
    with Admin(cluster.bootstrap) as admin:
        topic = new_topic(admin, 1)
        options = {"bootstrap_servers": cluster.bootstrap, "auto_offset_reset": "earliest"}
        with Producer(cluster.bootstrap) as producer, Consumer(topic, **options) as consumer:  # type: ignore[arg-type]
            for n in range(50):
                producer.send(topic, b"old %d" % n).result(WAIT_S)
            assert next(consumer).value == b"old 0"
            admin.delete_topics([topic])
            admin.create_topics([NewTopic(name=topic, partitions=1, replication_factor=3)])
            assert producer.send(topic, b"new").result(WAIT_S).offset == 0
            deadline_s = time.monotonic() + WAIT_S
            value = None
            while value != b"new" and time.monotonic() < deadline_s:
                try:
                    for records in consumer.poll(timeout_ms=500).values():
                        value = records[-1].value
                except UnknownTopicOrPartitionError:
                    continue
            assert value == b"new"


def kill_node(cluster: LocalCluster, node_id: int, _process: int) -> Callable[[], None]:
    cluster.kill(node_id)
    return partial(cluster.start, node_id)


def stop_node(cluster: LocalCluster, node_id: int, _process: int) -> Callable[[], None]:
    cluster.stop(node_id)
    return partial(cluster.start, node_id)


def kill_worker(_cluster: LocalCluster, _node_id: int, process: int) -> Callable[[], None]:
    os.kill(process, signal.SIGKILL)
    return lambda: None


def pause_worker(_cluster: LocalCluster, _node_id: int, process: int) -> Callable[[], None]:
    os.kill(process, signal.SIGSTOP)
    return partial(os.kill, process, signal.SIGCONT)


@pytest.mark.parametrize("strike", [kill_node, stop_node, kill_worker, pause_worker])
def test_nothing_acknowledged_is_lost_when_a_leader_goes(
    fresh_cluster: Callable[..., LocalCluster], strike: Callable[[LocalCluster, int, int], Callable[[], None]]
) -> None:
    cluster = fresh_cluster(nodes=3)
    with Admin(cluster.bootstrap) as admin:
        topic = new_topic(admin)
        node_id, process = leader_of(admin, topic)
        options = {"bootstrap_servers": cluster.bootstrap, "auto_offset_reset": "earliest"}
        with Consumer(topic, **options) as follower, load(cluster.bootstrap, topic) as running:  # type: ignore[arg-type]
            followed: list[list[int]] = [[] for _ in range(PARTITIONS)]
            end_s = time.monotonic() + 10
            mend = None
            while time.monotonic() < end_s:
                for place, records in follower.poll(timeout_ms=100).items():
                    followed[place.partition] += [record.offset for record in records]
                if mend is None and time.monotonic() > end_s - 8:
                    mend = strike(cluster, node_id, process)
                elif mend is not None and time.monotonic() > end_s - 3:
                    mend()
                    mend = lambda: None  # noqa: E731
        found = read_to_end(cluster.bootstrap, topic)
    check(running, found)
    for offsets in followed:
        assert offsets == list(range(len(offsets)))
        assert len(offsets) > 100
    assert running.longest_gap_s(0) < FAILOVER_MAX_S


def test_each_record_is_written_once_and_in_order_across_several_kills(
    fresh_cluster: Callable[..., LocalCluster],
) -> None:
    """SIGKILL of whoever leads partition 0, again and again, with five batches of each partition in flight."""
    cluster = fresh_cluster(nodes=3)
    with killed_under_load(cluster) as (running, leader):
        for kill in range(6):
            running.run_for(1.0)
            node_id, process = leader()
            if kill % 3 == 2:
                cluster.kill(node_id)
                running.run_for(1.0)
                cluster.start(node_id)
            else:
                os.kill(process, signal.SIGKILL)
        running.run_for(3.0)
    assert min(running.sent) > 1000


def test_large_batches_that_were_acknowledged_survive_kills_of_their_leader(
    fresh_cluster: Callable[..., LocalCluster],
) -> None:
    """Each stays in ZeroMQ's memory, where it is stamped, and is written and sent to followers from there."""
    cluster = fresh_cluster(nodes=3)
    with killed_under_load(cluster, value_bytes=KEPT_FROM_BYTES, pause_s=0.01) as (running, leader):
        for _ in range(3):
            running.run_for(1.0)
            os.kill(leader()[1], signal.SIGKILL)
        running.run_for(2.0)
    assert min(running.sent) > 50


def test_a_producer_survives_the_restart_of_every_node(fresh_cluster: Callable[..., LocalCluster]) -> None:
    cluster = fresh_cluster(nodes=3)
    with Admin(cluster.bootstrap) as admin:
        topic = new_topic(admin)
        leader_of(admin, topic)
        with load(cluster.bootstrap, topic) as running:
            running.run_for(1.0)
            for node_id in (1, 2, 3):
                cluster.kill(node_id)
            running.run_for(1.0)
            for node_id in (1, 2, 3):
                cluster.start(node_id, wait=False)
            cluster.wait_ready((1, 2, 3))
            running.run_for(4.0)
        check(running, read_to_end(cluster.bootstrap, topic))
        assert topic in admin.list_topics()
