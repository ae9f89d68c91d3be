"""auto_offset_reset="latest", and partitions and topics that come after the consumer has subscribed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from raftlog import Admin, Consumer, NewTopic, Producer, TopicPartition
from raftlog.errors import UnknownTopicOrPartitionError
from tests.cli.command import start
from tests.client.grouping import unique

if TYPE_CHECKING:
    from raftlog.node.local import LocalCluster

RECORDS = [b"%d" % number for number in range(20)]


def make(cluster: LocalCluster, name: str) -> None:
    with Admin(cluster.bootstrap) as admin:
        admin.create_topics([NewTopic(name=name, partitions=1)])


def fill(cluster: LocalCluster, name: str, partition: int) -> None:
    with Producer(cluster.bootstrap) as producer:
        for value in RECORDS:
            producer.send(name, value, partition=partition)


def add_partition(cluster: LocalCluster, name: str) -> None:
    """With records, which are there before any consumer has noticed."""
    with Admin(cluster.bootstrap) as admin:
        admin.create_partitions(name, 2)
    fill(cluster, name, 1)


class Reader:
    def __init__(self, consumer: Consumer) -> None:
        self.consumer = consumer
        self.read: list[tuple[str, int, bytes]] = []

    def poll(self) -> None:
        with contextlib.suppress(UnknownTopicOrPartitionError):  # it may come
            for place, records in self.consumer.poll(20).items():
                self.read += [(*place, record.value or b"") for record in records]


def poll_until(readers: Sequence[Reader], found: Callable[[], bool], within_s: float = 30.0) -> None:
    deadline_s = time.monotonic() + within_s
    while not found():
        assert time.monotonic() < deadline_s, [reader.read for reader in readers]
        for reader in readers:
            reader.poll()


def test_what_comes_later_is_read_from_its_first_record(cluster: LocalCluster) -> None:
    old, new = unique("grows"), unique("comes")
    make(cluster, old)
    fill(cluster, old, 0)
    with contextlib.ExitStack() as stack:

        def reader(group: str | None) -> Reader:
            return Reader(stack.enter_context(Consumer(bootstrap_servers=cluster.bootstrap, group_id=group)))

        alone, shared, matching = readers = [reader(None), reader(unique("g")), reader(unique("g"))]
        alone.consumer.subscribe([old, new])
        shared.consumer.subscribe([old, new])
        matching.consumer.subscribe(pattern=f"{old}|{new}")
        command = start(cluster, "consume", old, "--from", "beginning", "--format", r"%p:%v\n")
        stack.callback(command.communicate)
        stack.callback(command.kill)
        poll_until(readers, lambda: all(each.consumer.assignment() for each in readers))
        for each in readers:
            assert each.consumer.position(TopicPartition(old, 0)) == len(RECORDS)
        assert command.stdout is not None and command.stderr is not None
        assert [command.stdout.readline() for _ in RECORDS] == [b"0:%s\n" % value for value in RECORDS]

        add_partition(cluster, old)
        make(cluster, new)
        fill(cluster, new, 0)
        expected = sorted([(old, 1, value) for value in RECORDS] + [(new, 0, value) for value in RECORDS])
        poll_until(readers, lambda: all(len(each.read) >= len(expected) for each in readers))
        assert [sorted(each.read) for each in readers] == [expected] * 3
        assert [command.stdout.readline() for _ in RECORDS] == [b"1:%s\n" % value for value in RECORDS]
        assert command.stderr.readline() == f"{old}-1 is new: it is read from its first record on\n".encode()


def test_a_successor_reads_what_came_to_a_partition_that_the_group_did_not_begin_with(cluster: LocalCluster) -> None:
    """Nobody of the group has noticed the partition, and nobody has committed by itself, when the only member ends."""
    topic, group = unique("grows"), unique("g")
    make(cluster, topic)
    fill(cluster, topic, 0)
    first = Reader(Consumer(topic, bootstrap_servers=cluster.bootstrap, group_id=group))
    poll_until([first], lambda: bool(first.consumer.assignment()))
    assert first.consumer.position(TopicPartition(topic, 0)) == len(RECORDS)
    with Admin(cluster.bootstrap) as admin:
        poll_until([first], lambda: bool(admin.group_offsets(group)), within_s=3.0)  # BEFORE an interval has passed
    first.consumer.close(autocommit=False)
    fill(cluster, topic, 0)
    add_partition(cluster, topic)
    with Consumer(topic, bootstrap_servers=cluster.bootstrap, group_id=group) as consumer:
        second = Reader(consumer)
        expected = sorted((topic, number, value) for number in range(2) for value in RECORDS)
        poll_until([second], lambda: len(second.read) >= len(expected))
        assert sorted(second.read) == expected
