"""Compaction on real nodes: with a consumer at work, a kill -9 in the middle and a follower away, no key is lost."""

from __future__ import annotations

import threading

from raftlog import Admin, Consumer, NewTopic, Producer, TopicPartition
from raftlog.node.local import LocalCluster
from raftlog.record.batch import decode, split
from raftlog.types import Doubt
from tests.cli.command import unique
from tests.conftest import ClusterFactory
from tests.node import asking
from tests.node.on_disk import log_on_disk
from tests.node.retention import bytes_of, is_equal, leader_of, reading, statuses
from tests.patience import WAIT_S

_KEYS = 25
_SETTINGS = {"cleanup.policy": "compact", "segment.bytes": "20000", "delete.retention.ms": "500"}


def _new_topic(bootstrap: str) -> TopicPartition:
    name = unique("compacted")
    with Admin(bootstrap) as admin:
        admin.create_topics([NewTopic(name=name, partitions=1, config=_SETTINGS)])
    return TopicPartition(name, 0)


def _key(number: int) -> bytes:
    return b"key-%d" % (number % _KEYS)


def _value(number: int) -> bytes:
    return b"%08d" % number * 20


def _send(bootstrap: str, place: TopicPartition, first: int, end: int) -> None:
    with Producer(bootstrap, linger_ms=0, batch_bytes=1000) as producer:
        for number in range(first, end):
            producer.send(place.topic, _value(number), key=_key(number), partition=0)
        producer.flush(WAIT_S)


def _delete(bootstrap: str, place: TopicPartition, numbers: range) -> None:
    with Producer(bootstrap) as producer:
        for number in numbers:
            producer.send(place.topic, None, key=_key(number), partition=0)
        producer.flush(WAIT_S)


def _last_values_on_disk(
    cluster: LocalCluster, node_id: int, place: TopicPartition, topic_id: bytes
) -> dict[bytes, bytes]:
    found: dict[bytes, bytes | None] = {}
    offset = 0
    with log_on_disk(cluster, node_id, place, topic_id) as log:
        assert log.state.doubt is Doubt.NONE
        while data := log.read(offset, 5000, log.log_end_offset):
            for record in decode(data):
                if record.offset >= offset:
                    found[record.key or b""] = record.value
            *_, (_, header) = split(data)
            offset = header.next_offset
    return {key: value for key, value in found.items() if value is not None}


def test_three_nodes_have_the_same_last_value_of_every_key_after_a_kill_and_an_absence(
    fresh_cluster: ClusterFactory,
) -> None:
    cluster = fresh_cluster()
    place = _new_topic(cluster.bootstrap)
    leader = leader_of(cluster, place)
    away = next(node_id for node_id in cluster.endpoints if node_id != leader)
    with reading(cluster.bootstrap, place) as reader:
        _send(cluster.bootstrap, place, 0, 600)
        cluster.kill(away)
        sender = threading.Thread(target=_send, args=(cluster.bootstrap, place, 600, 3000))
        sender.start()
        asking.until(lambda: reader.records and reader.records[-1].offset >= 1200)
        cluster.kill(leader)  # in the middle
        cluster.start(leader)
        sender.join(WAIT_S)
        assert not sender.is_alive()
        _delete(cluster.bootstrap, place, range(5))
        asking.until(
            lambda: max(bytes_of(cluster, node, place) for node in cluster.endpoints if node != away) < 100_000
        )
        cluster.start(away)
        # More of the other keys, so that segments close and tombstones go.
        for number in range(3000, 3400, 10):
            _send(cluster.bootstrap, place, number + 5, number + 10)
        asking.until(lambda: is_equal(cluster, place))
        asking.until(lambda: max(bytes_of(cluster, node, place) for node in cluster.endpoints) < 100_000)
        end = statuses(cluster, place)[0].log_end_offset
        asking.until(lambda: reader.records[-1].offset == end - 1)
    offsets = [record.offset for record in reader.records]
    assert offsets == sorted(set(offsets)), "nothing is read twice, or out of order"
    assert all(record.key == _key(int(record.value[:8])) for record in reader.records if record.value)
    expected = {_key(number): _value(number) for number in range(3000) if number % _KEYS >= 5}
    for number in range(3000, 3400, 10):
        expected |= {_key(each): _value(each) for each in range(number + 5, number + 10)}
    read = {record.key: record.value for record in reader.records}
    assert {key: value for key, value in read.items() if value is not None} == expected
    # Somebody who comes now finds the same.
    with Consumer(place.topic, bootstrap_servers=cluster.bootstrap, auto_offset_reset="earliest") as late:
        again: dict[bytes | None, bytes | None] = {}
        while late.position(place) != end:
            for records in late.poll(timeout_ms=500).values():
                again |= {record.key: record.value for record in records}
    assert {key: value for key, value in again.items() if value is not None} == expected
    (topic_id,) = {status.topic_id for status in statuses(cluster, place)}
    node_ids = list(cluster.endpoints)
    cluster.close()
    for node_id in node_ids:
        assert _last_values_on_disk(cluster, node_id, place, topic_id) == expected
