"""One cluster, two doors: groups with members of raftlog's client and of Kafka's, and idempotent producers of both."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, NamedTuple

import kafka
import pytest
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor

from raftlog import Admin, Consumer, Producer
from raftlog.errors import ErrorCode
from raftlog.node.local import LocalCluster
from raftlog.protocol import apis
from raftlog.protocol.envelope import decode_response, encode_request
from raftlog.protocol.records import ProduceRequest
from raftlog.record.batch import BatchBuilder
from raftlog.types import TopicPartition
from tests.kafka.tcp import METADATA, PRODUCE, KafkaSocket
from tests.node.asking import create_topic, exchange, leaders, metadata, until
from tests.patience import WAIT_S

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]
PARTITIONS = 4
ALL = set(range(PARTITIONS))
POLL_MS = 50
# kafka-python 3.0.12 forgets what it was assigned where `poll` ends before the answer to SyncGroup is there.
KAFKA_POLL_MS = 2_000
SETTLE_S = 40.0
LIST_OFFSETS, CREATE_TOPICS, INIT_PRODUCER_ID, DESCRIBE_PRODUCERS = 2, 19, 22, 61
# Our names of how partitions are shared out, and kafka-python's.
WAYS = {
    "range": RangePartitionAssignor,
    "round-robin": RoundRobinPartitionAssignor,
    "cooperative-sticky": CooperativeStickyAssignor,
}
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    with LocalCluster(3, directory=tmp_path_factory.mktemp("doors"), kafka=True) as running:
        yield running


@pytest.fixture
def topic(cluster: LocalCluster) -> str:
    name = f"orders-{next(_numbers)}"
    create_topic(cluster.endpoints[1], name, PARTITIONS, 3)
    return name


class Member:
    """Of a group, through one of the doors."""

    def __init__(self, consumer: Any, poll_ms: int) -> None:
        self._consumer = consumer
        self._poll_ms = poll_ms
        self.commit = consumer.commit
        self.close = consumer.close

    def poll(self) -> list[tuple[int, int]]:
        found = self._consumer.poll(self._poll_ms)
        return [(each.partition, each.offset) for records in found.values() for each in records]

    @property
    def share(self) -> set[int]:
        return {place.partition for place in self._consumer.assignment()}


def native(cluster: LocalCluster, topic: str, group: str, way: str, instance: str | None = None) -> Member:
    """Through raftlog's own door."""
    consumer = Consumer(
        topic,
        bootstrap_servers=cluster.bootstrap,
        partition_assignment_strategy=[way],
        **_membership(group, instance),
    )
    return Member(consumer, POLL_MS)


def kafkas(cluster: LocalCluster, topic: str, group: str, way: str, instance: str | None = None) -> Member:
    """Through the door for Kafka's clients: kafka-python's."""
    consumer = kafka.KafkaConsumer(
        topic,
        bootstrap_servers=cluster.kafka_bootstrap,
        partition_assignment_strategy=[WAYS[way]],
        **_membership(group, instance),
    )
    return Member(consumer, KAFKA_POLL_MS)


def _membership(group: str, instance: str | None) -> dict[str, Any]:
    """What both clients call by the same names."""
    return {
        "group_id": group,
        "group_instance_id": instance,
        "auto_offset_reset": "earliest",
        "enable_auto_commit": False,
        "heartbeat_interval_ms": 300,
    }


def _settle(*members: Member) -> None:
    """Each has a share, nothing is nobody's, and nothing is read twice."""

    def settled() -> bool:
        for member in members:
            assert not member.poll()
        shares = [member.share for member in members]
        return all(shares) and Counter(itertools.chain(*shares)) == Counter(ALL)

    until(settled, SETTLE_S, instead=lambda: str([member.share for member in members]))


def _write(cluster: LocalCluster, topic: str, door: str) -> set[tuple[int, int]]:
    """One record to each partition, through this door: (partition, offset) of each."""
    if door == "kafka":
        producer = kafka.KafkaProducer(bootstrap_servers=cluster.kafka_bootstrap)
        futures = [producer.send(topic, b"from Kafka's client", partition=partition) for partition in ALL]
        written = {(future.get(WAIT_S).partition, future.get(WAIT_S).offset) for future in futures}
        producer.close()
        return written
    with Producer(bootstrap_servers=cluster.bootstrap) as own:
        sent = [own.send(topic, b"from raftlog's", partition=partition) for partition in ALL]
        return {(each.result(WAIT_S).partition, each.result(WAIT_S).offset) for each in sent}


def _read(members: tuple[Member, ...], expected: set[tuple[int, int]]) -> None:
    """Together they read this, each record once."""
    found: list[tuple[int, int]] = []

    def all_there() -> bool:
        for member in members:
            found.extend(member.poll())
        return len(found) >= len(expected)

    until(all_there, instead=lambda: str(found))
    assert sorted(found) == sorted(expected)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("first_door", ["native", "kafka"])
def test_a_group_has_members_through_both_doors(cluster: LocalCluster, topic: str, way: str, first_door: str) -> None:
    """Who comes first leads the group and shares out for all, whatever language it speaks."""
    group = f"group-{topic}"
    doors = [native, kafkas] if first_door == "native" else [kafkas, native]
    first = doors[0](cluster, topic, group, way)
    _settle(first)
    second = doors[1](cluster, topic, group, way)
    _settle(first, second)
    _read((first, second), _write(cluster, topic, "kafka"))
    first.commit()
    second.commit()
    # What was read is read by nobody again, when one goes and the other takes its share.
    first.close()
    _settle(second)
    _read((second,), _write(cluster, topic, "native"))
    second.commit()
    second.close()
    # What the one door has committed the other begins at.
    third = doors[0](cluster, topic, group, way)
    _settle(third)
    _read((third,), _write(cluster, topic, "kafka"))
    third.close()


def test_a_static_member_comes_back_through_the_other_door(cluster: LocalCluster, topic: str) -> None:
    """Its name is what the group knows it by."""
    group = f"group-{topic}"
    stays = native(cluster, topic, group, "range", "stays")
    _settle(stays)
    moves = kafkas(cluster, topic, group, "range", "moves")
    _settle(stays, moves)
    shares = stays.share, moves.share
    with Admin(cluster.bootstrap) as admin:
        before = admin.describe_group(group).generation
        moves.close()  # a static member does not leave when it is closed
        moves = native(cluster, topic, group, "range", "moves")
        _settle(stays, moves)
        assert (stays.share, moves.share) == shares
        assert admin.describe_group(group).generation == before
    moves.close()
    stays.close()


def test_offsets_committed_through_one_door_are_seen_through_the_other(cluster: LocalCluster, topic: str) -> None:
    group = f"group-{topic}"
    _write(cluster, topic, "native")
    member = kafkas(cluster, topic, group, "range")
    _read((member,), {(partition, 0) for partition in ALL})
    member.commit()
    member.close()
    with Admin(cluster.bootstrap) as admin:
        assert admin.group_offsets(group) == {TopicPartition(topic, partition): 1 for partition in ALL}
        admin.set_group_offsets(group, {TopicPartition(topic, 2): 0})
    kafka_admin = kafka.KafkaAdminClient(bootstrap_servers=cluster.kafka_bootstrap)
    told = kafka_admin.list_group_offsets(group)[group]
    kafka_admin.close()
    assert {place.partition: each.offset for place, each in told.items()} == {0: 1, 1: 1, 2: 0, 3: 1}


# --- idempotent producers --------------------------------------------------------------------------
class Written(NamedTuple):
    error_code: int
    base_offset: int


def _produce(cluster: LocalCluster, topic: str, batch: bytes) -> Written:
    """Through Kafka's door, to partition 0."""

    def attempt() -> Written | None:
        with KafkaSocket(cluster.kafka_endpoints[1]) as client:
            told = client.ask(METADATA, 12, topics=[{"name": topic, "topic_id": None}])
        leader = told["topics"][0]["partitions"][0]["leader_id"]
        if leader < 0:
            return None
        data = {"name": topic, "partition_data": [{"index": 0, "records": batch}]}
        with KafkaSocket(cluster.kafka_endpoints[leader]) as client:
            answer = client.ask(PRODUCE, 9, transactional_id=None, acks=-1, timeout=10_000, topic_data=[data])
        (found,) = answer["responses"][0]["partition_responses"]
        return Written(found["error_code"], found["base_offset"])

    return until(attempt)


def _numbered(producer_id: int, epoch: int, sequence: int, count: int = 2) -> bytes:
    builder = BatchBuilder()
    for number in range(count):
        builder.append(0, None, b"%d" % (sequence + number))
    builder.number(producer_id, epoch, sequence)
    return builder.build()


def test_a_batch_sent_again_is_written_once_whichever_door_it_comes_through(cluster: LocalCluster, topic: str) -> None:
    with KafkaSocket(cluster.kafka_endpoints[2]) as client:
        told = client.ask(
            INIT_PRODUCER_ID,
            4,
            transactional_id=None,
            transaction_timeout_ms=timedelta(minutes=1),
            producer_id=-1,
            producer_epoch=-1,
        )
    first, second = (_numbered(told["producer_id"], told["producer_epoch"], sequence) for sequence in (0, 2))
    assert _produce(cluster, topic, first) == Written(0, 0)
    assert _produce_natively(cluster, topic, first) == Written(0, 0)
    assert _produce_natively(cluster, topic, second) == Written(0, 2)
    assert _produce(cluster, topic, second) == Written(0, 2)
    gap = _numbered(told["producer_id"], told["producer_epoch"], 9)
    for produce in (_produce, _produce_natively):
        assert produce(cluster, topic, gap).error_code == ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER


def test_idempotent_producers_of_both_doors_write_side_by_side(cluster: LocalCluster, topic: str) -> None:
    """Their ids come from the same counter."""
    count = 200
    ours = Producer(bootstrap_servers=cluster.bootstrap)
    theirs = kafka.KafkaProducer(bootstrap_servers=cluster.kafka_bootstrap, enable_idempotence=True, linger_ms=2)
    with ours:
        sent = [ours.send(topic, b"ours %d" % number, partition=0) for number in range(count)]
        offered = [theirs.send(topic, b"theirs %d" % number, partition=0) for number in range(count)]
        offsets = [each.result(WAIT_S).offset for each in sent] + [each.get(WAIT_S).offset for each in offered]
    theirs.close()
    assert sorted(offsets) == list(range(2 * count))
    with KafkaSocket(cluster.kafka_endpoints[1]) as client:
        leader = client.ask(METADATA, 12, topics=[{"name": topic, "topic_id": None}])["topics"][0]["partitions"][0]
    with KafkaSocket(cluster.kafka_endpoints[leader["leader_id"]]) as client:
        asked = [{"name": topic, "partition_indexes": [0]}]
        (told,) = client.ask(DESCRIBE_PRODUCERS, 0, topics=asked)["topics"][0]["partitions"]
    assert sorted(each["last_sequence"] for each in told["active_producers"]) == [count - 1, count - 1]


def _produce_natively(cluster: LocalCluster, topic: str, batch: bytes) -> Written:
    endpoint = until(lambda: leaders(cluster.endpoints[1], topic))[0]
    found = metadata(cluster.endpoints[1], [topic])
    assert found is not None
    header = encode_request(apis.PRODUCE, 7, ProduceRequest(acks=-1, timeout_ms=10_000), found.topics[0].topic_id, 0)
    _, _, (result,) = decode_response(exchange(endpoint, [header, batch])[0])
    return Written(result.error_code, result.base_offset)


# --- topics that were just made --------------------------------------------------------------------
def test_what_is_sent_with_acks_0_right_after_a_topic_was_made_is_there(cluster: LocalCluster) -> None:
    """Nobody tells the client that a leader was not known. It asks one broker for a topic, and another who leads it."""
    for round_, asked in enumerate([2, 3, 1] * 3):
        name = f"new-{round_}"
        with KafkaSocket(cluster.kafka_endpoints[1]) as client:
            new = {
                "name": name,
                "num_partitions": PARTITIONS,
                "replication_factor": 3,
                "assignments": [],
                "configs": [],
            }
            client.ask(CREATE_TOPICS, 5, topics=[new], timeout=10_000, validate_only=False)
        with KafkaSocket(cluster.kafka_endpoints[asked]) as client:
            # A leader that is not there within some seconds is named as none, and asked for again.
            told = until(lambda client=client, name=name: _led(_partitions(client, name)))  # type: ignore[misc]
        for partition in told:
            index = partition["partition_index"]
            data = {"name": name, "partition_data": [{"index": index, "records": _numbered(-1, -1, -1, 1)}]}
            listed = {"name": name, "partitions": [{"partition_index": index, "timestamp": -1}]}
            with KafkaSocket(cluster.kafka_endpoints[partition["leader_id"]]) as client:
                client.say(PRODUCE, 7, transactional_id=None, acks=0, timeout=10_000, topic_data=[data])
                # It has not ended the connection, and the record is there.
                client.ask(LIST_OFFSETS, 1, replica_id=-1, topics=[listed])
            until(lambda listed=listed, partition=partition: _end(cluster, partition["leader_id"], listed) == 1)  # type: ignore[misc]


def test_a_connection_with_acks_0_outlives_the_topic_that_it_wrote_to(cluster: LocalCluster, topic: str) -> None:
    """What was written is done with. Its end would take with it what is sent to other topics by then."""
    with KafkaSocket(cluster.kafka_endpoints[1]) as client:
        told = until(lambda: _led(client.ask(METADATA, 8, topics=[{"name": topic}])["topics"][0]["partitions"]))
    with KafkaSocket(cluster.kafka_endpoints[told[0]["leader_id"]]) as client:
        data = {"name": topic, "partition_data": [{"index": 0, "records": _numbered(-1, -1, -1, 1)}]}
        client.say(PRODUCE, 7, transactional_id=None, acks=0, timeout=100, topic_data=[data])
        listed = {"name": topic, "partitions": [{"partition_index": 0, "timestamp": -1}]}
        until(lambda: _end(cluster, told[0]["leader_id"], listed) == 1)
        with Admin(cluster.bootstrap) as admin:
            admin.delete_topics([topic])
        until(lambda: f"{topic}-0: stopped" in cluster.log_text(told[0]["leader_id"]))
        wanted = {"topics": [{"name": topic}], "allow_auto_topic_creation": False}
        unknown = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        until(lambda: client.ask(METADATA, 8, **wanted)["topics"][0]["error_code"] == unknown)


def _partitions(client: KafkaSocket, topic: str) -> list[dict[str, Any]]:
    (told,) = (each for each in client.ask(METADATA, 8, topics=None)["topics"] if each["name"] == topic)
    partitions: list[dict[str, Any]] = told["partitions"]
    return partitions


def _led(partitions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return partitions if all(each["leader_id"] > 0 for each in partitions) else []


def _end(cluster: LocalCluster, broker: int, listed: dict[str, Any]) -> int:
    with KafkaSocket(cluster.kafka_endpoints[broker]) as client:
        (found,) = client.ask(LIST_OFFSETS, 1, replica_id=-1, topics=[listed])["topics"][0]["partitions"]
    return int(found["offset"])
