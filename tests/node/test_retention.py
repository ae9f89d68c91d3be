"""Records that go: by age, by size and by DeleteRecords, while clients are at work and nodes fail."""

from __future__ import annotations

import threading

import pytest

from raftlog import Admin, Consumer, ConsumerRecord, NewTopic, Producer, TopicPartition
from raftlog.errors import OffsetOutOfRangeError, RaftlogError
from raftlog.node.local import LocalCluster
from raftlog.protocol.records import HIGH_WATERMARK
from raftlog.record.batch import decode
from raftlog.types import TopicConfig
from tests.cli.command import unique
from tests.conftest import ClusterFactory
from tests.node import asking
from tests.node.on_disk import log_on_disk
from tests.node.retention import bytes_of, is_equal, leader_of, reading, statuses
from tests.patience import WAIT_S

SEGMENT_BYTES = 20_000
RETENTION_BYTES = 60_000


def new_topic(bootstrap: str, partitions: int = 1, **config: str) -> TopicPartition:
    name = unique("kept")
    with Admin(bootstrap) as admin:
        admin.create_topics([NewTopic(name=name, partitions=partitions, config=config)])
    return TopicPartition(name, 0)


def send(bootstrap: str, place: TopicPartition, count: int, first: int = 0) -> None:
    """Values that say their number, small batches, so that segments have many."""
    with Producer(bootstrap, linger_ms=0, batch_bytes=2000) as producer:
        futures = [producer.send(place.topic, value(n), partition=place.partition) for n in range(first, first + count)]
        producer.flush(WAIT_S)
        for future in futures:
            future.result(0)


def value(number: int) -> bytes:
    return b"%08d" % number * 20


def records_on_disk(cluster: LocalCluster, place: TopicPartition) -> list[dict[int, bytes | None]]:
    """What each node holds from its log start on. Stops the cluster."""
    (topic_id,) = {s.topic_id for s in statuses(cluster, place)}
    cluster.close()
    found = []
    for node_id in cluster.endpoints:
        held: dict[int, bytes | None] = {}
        with log_on_disk(cluster, node_id, place, topic_id) as log:
            start = offset = log.state.log_start_offset
            while data := log.read(offset, 1 << 20, log.log_end_offset):
                held.update({record.offset: record.value for record in decode(data) if record.offset >= start})
                offset = max(held) + 1
        found.append(held)
    return found


def test_retention_set_at_run_time_leaves_three_equal_nodes_after_a_kill_and_an_absence(
    fresh_cluster: ClusterFactory,
) -> None:
    cluster = fresh_cluster()
    place = new_topic(cluster.bootstrap)
    leader = leader_of(cluster, place)
    away = next(node_id for node_id in cluster.endpoints if node_id != leader)
    with reading(cluster.bootstrap, place) as reader, Admin(cluster.bootstrap) as admin:
        send(cluster.bootstrap, place, 300)
        asking.until(lambda: len(reader.records) == 300)
        cluster.kill(away)
        # The change has to reach two that run, and one that is away.
        settings = {"segment.bytes": str(SEGMENT_BYTES), "retention.bytes": str(RETENTION_BYTES)}
        admin.alter_topic(place.topic, settings)
        send(cluster.bootstrap, place, 1500, first=300)
        sender = threading.Thread(target=send, args=(cluster.bootstrap, place, 1500, 1800))
        sender.start()
        asking.until(lambda: reader.records[-1].offset >= 2100)
        cluster.kill(leader)  # in the middle; nobody leads without it
        cluster.start(leader)
        sender.join(WAIT_S)
        assert not sender.is_alive()
        asking.until(lambda: all(s.log_start_offset > 300 for s in statuses(cluster, place)))
        cluster.start(away)  # behind the horizon: it starts over
        send(cluster.bootstrap, place, 300, first=3300)
        asking.until(lambda: reader.records and reader.records[-1].offset == 3599)
        asking.until(lambda: is_equal(cluster, place) and statuses(cluster, place)[0].log_start_offset > 2000)
        told = _settings_told(cluster)
        admin.alter_topic(place.topic, {"retention.bytes": "-1"})  # nothing goes while the nodes are stopped
        asking.until(lambda: all(now > then for now, then in zip(_settings_told(cluster), told, strict=True)))
        send(cluster.bootstrap, place, 1, first=3600)  # what they say of it, they say after that
        asking.until(lambda: is_equal(cluster, place))
    # Once, or again where the horizon went by it a second time, as on a busy machine.
    generations = [path.suffix for path in (cluster.directory / str(away) / f"{place}").glob("log.*")]
    assert generations and max(generations) > ".1"
    # A follower that catches up is sent many batches at once, which are one segment: its bounds are its own, and what
    # it holds may be much more.
    sizes = [bytes_of(cluster, status.node_id, place) for status in statuses(cluster, place)]
    assert RETENTION_BYTES <= min(sizes) < 3600 * len(value(0)) / 2
    offsets = [record.offset for record in reader.records]
    assert offsets == sorted(set(offsets)), "nothing is read twice, or out of order"
    assert all(record.value == value(record.offset) for record in reader.records)
    held = records_on_disk(cluster, place)
    assert held[0] == held[1] == held[2] == {n: value(n) for n in range(min(held[0]), 3601)}


def _settings_told(cluster: LocalCluster) -> list[int]:
    """How often each node has told a worker of new settings."""
    return [cluster.log_text(node_id).count(" has new settings") for node_id in cluster.endpoints]


def test_segments_go_by_age_once_retention_ms_is_set(cluster: LocalCluster) -> None:
    place = new_topic(cluster.bootstrap)
    send(cluster.bootstrap, place, 100)
    with Admin(cluster.bootstrap) as admin:
        admin.alter_topic(place.topic, {"segment.ms": "1000", "retention.ms": "1000"})

        def gone() -> bool:
            send(cluster.bootstrap, place, 1, first=next(numbers))  # a segment closes when something follows
            found = statuses(cluster, place)
            return len(found) == 3 and all(s.log_start_offset >= 100 for s in found)

        numbers = iter(range(100, 1000))
        asking.until(gone)
        admin.alter_topic(place.topic, {}, reset=["retention.ms", "segment.ms"])

        def default_again() -> bool:
            (described,) = admin.describe_topics([place.topic])  # of any node, which hears of it in a moment
            return described.config["retention_ms"] == TopicConfig().retention_ms

        asking.until(default_again)
        admin.delete_topics([place.topic])


def test_a_consumer_behind_the_log_start_is_told_or_goes_where_it_said(cluster: LocalCluster) -> None:
    place = new_topic(cluster.bootstrap)
    send(cluster.bootstrap, place, 200)

    def consumer(reset: str) -> Consumer:
        opened = Consumer(bootstrap_servers=cluster.bootstrap, auto_offset_reset=reset, max_poll_records=10)
        opened.assign([place])
        opened.seek(place, 5)
        return opened

    with Admin(cluster.bootstrap) as admin, consumer("earliest") as earliest, consumer("latest") as latest:
        assert admin.delete_records({place: 150}) == {place: 150}
        earliest.seek(place, 5)
        latest.seek(place, 5)
        with consumer("none") as told:
            with pytest.raises(OffsetOutOfRangeError):
                asking.until(lambda: told.poll(timeout_ms=500))
            told.seek(place, 150)
            assert asking.until(lambda: told.poll(timeout_ms=500))[place][0].offset == 150
        assert asking.until(lambda: earliest.poll(timeout_ms=500))[place][0].offset == 150
        latest.poll(timeout_ms=1000)
        asking.until(lambda: latest.position(place) == 200)
        send(cluster.bootstrap, place, 1, first=200)
        assert asking.until(lambda: latest.poll(timeout_ms=500))[place][0].offset == 200
        assert earliest.beginning_offsets([place]) == {place: 150}
        admin.delete_topics([place.topic])


def test_reading_never_deletes(cluster: LocalCluster) -> None:
    place = new_topic(cluster.bootstrap, **{"segment.bytes": str(SEGMENT_BYTES), "retention.ms": "-1"})
    send(cluster.bootstrap, place, 500)
    sizes = [bytes_of(cluster, node_id, place) for node_id in cluster.endpoints]
    for _ in range(3):
        with Consumer(place.topic, bootstrap_servers=cluster.bootstrap, auto_offset_reset="earliest") as consumer:
            read: list[ConsumerRecord] = []
            while len(read) < 500:
                read += [record for records in consumer.poll(timeout_ms=1000).values() for record in records]
        assert [record.value for record in read] == [value(n) for n in range(500)]
    assert {s.log_start_offset for s in statuses(cluster, place)} == {0}
    assert [bytes_of(cluster, node_id, place) for node_id in cluster.endpoints] == sizes
    with Admin(cluster.bootstrap) as admin:
        admin.delete_topics([place.topic])


def test_deleted_records_stay_deleted_when_their_leader_is_killed_and_a_follower_was_away(
    fresh_cluster: ClusterFactory,
) -> None:
    cluster = fresh_cluster()
    place = new_topic(cluster.bootstrap, **{"segment.bytes": str(SEGMENT_BYTES), "retention.ms": "-1"})
    leader = leader_of(cluster, place)
    away = next(node_id for node_id in cluster.endpoints if node_id != leader)
    send(cluster.bootstrap, place, 600)
    cluster.kill(away)
    with Admin(cluster.bootstrap) as admin:
        before = bytes_of(cluster, leader, place)
        assert admin.delete_records({place: 501}) == {place: 501}
        cluster.kill(leader)
        cluster.start(away)
        other = leader_of(cluster, place)
        with Consumer(bootstrap_servers=cluster.bootstrap) as consumer:
            assert consumer.beginning_offsets([place]) == {place: 501}
        assert bytes_of(cluster, other, place) < before / 2
        cluster.start(leader)
        asking.until(lambda: is_equal(cluster, place))
        assert admin.delete_records({place: HIGH_WATERMARK}) == {place: 600}
        asking.until(lambda: {s.log_start_offset for s in statuses(cluster, place)} == {600})
        send(cluster.bootstrap, place, 300, first=600)
        asking.until(lambda: is_equal(cluster, place) and statuses(cluster, place)[0].high_watermark == 900)
    held = records_on_disk(cluster, place)
    assert held[0] == held[1] == held[2] == {n: value(n) for n in range(600, 900)}


def test_a_topic_made_anew_again_and_again_never_meets_its_old_logs(fresh_cluster: ClusterFactory) -> None:
    """A producer and a consumer use the name all the while; each time another node is down."""
    cluster = fresh_cluster()
    name = new_topic(cluster.bootstrap).topic
    place = TopicPartition(name, 0)
    rounds = 3
    got: list[bytes] = []
    stopping = threading.Event()

    def consume() -> None:
        with Consumer(name, bootstrap_servers=cluster.bootstrap, auto_offset_reset="earliest") as consumer:
            while not stopping.is_set():
                try:
                    for records in consumer.poll(timeout_ms=200).values():
                        got.extend(record.value or b"" for record in records)
                except RaftlogError:
                    continue  # it does not exist for a while

    reader = threading.Thread(target=consume, daemon=True)
    reader.start()
    ids = set()
    try:
        with Admin(cluster.bootstrap) as admin, Producer(cluster.bootstrap, linger_ms=0) as producer:
            for turn in range(rounds):
                down = turn % 3 + 1
                sent = [producer.send(name, b"%d:%d:" % (turn, n) + bytes(500)) for n in range(200)]
                producer.flush(WAIT_S)
                assert [future.result(0).offset for future in sent] == list(range(200)), "each life begins at 0"
                asking.until(lambda turn=turn: sum(v.startswith(b"%d:" % turn) for v in got) >= 200)
                # Acknowledged without it, where it was late; then it would not be there to delete it.
                asking.until(lambda down=down: bytes_of(cluster, down, place) > 100_000)
                cluster.kill(down)
                (topic,) = admin.describe_topics([name])
                ids.add(topic.topic_id)
                admin.delete_topics([name])
                (made,) = admin.create_topics([NewTopic(name=name, replication_factor=3)])
                assert bytes_of(cluster, down, place) > 100_000
                cluster.start(down)
                asking.until(lambda made=made: _hosts_only(cluster, place, made.topic_id))
            assert producer.send(name, b"last").result(WAIT_S).offset == 0
            asking.until(lambda: got[-1] == b"last")
    finally:
        stopping.set()
        reader.join(WAIT_S)
    assert len(ids) == rounds
    lives = [v.split(b":")[0] for v in got]
    assert lives == sorted(lives), "a new life's records are never followed by an old one's"
    asking.until(lambda: is_equal(cluster, place))
    for node_id in cluster.endpoints:
        left = {path.name for path in (cluster.directory / str(node_id)).iterdir() if path.is_dir()}
        assert left == {"__cluster_metadata-0", f"{place}"}
        assert bytes_of(cluster, node_id, place) < 1000, "the space of the old lives is given back"
    held = records_on_disk(cluster, place)
    assert held == [{0: b"last"}] * 3


def _hosts_only(cluster: LocalCluster, place: TopicPartition, topic_id: bytes) -> bool:
    found = statuses(cluster, place)
    clean = all(bytes_of(cluster, node_id, place) == 0 for node_id in cluster.endpoints)
    leftovers = [path for node_id in cluster.endpoints for path in (cluster.directory / str(node_id)).glob("*.deleted")]
    return len(found) == 3 and {s.topic_id for s in found} == {topic_id} and clean and not leftovers
