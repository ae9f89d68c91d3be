"""Metadata and DescribeTopicPartitions: brokers, topics, leaders. Topics that are asked for may be made."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

from raftlog import limits
from raftlog.config import check_topic_name
from raftlog.errors import ErrorCode, InvalidTopicError
from raftlog.kafka import wire
from raftlog.kafka.calls import Call, Fields
from raftlog.kafka.cluster import Cluster
from raftlog.kafka.codes import KafkaCode
from raftlog.kafka.handlers.mutations import Attempt, change, is_led, settle, wait_until
from raftlog.protocol import apis
from raftlog.protocol.cluster import PartitionMetadata, TopicMetadata
from raftlog.protocol.envelope import NO_TOPIC
from raftlog.protocol.topics import CreateTopicsRequest, NewTopic
from raftlog.security.acls import CLUSTER_NAME, Operation, ResourceType
from raftlog.types import INTERNAL_TOPICS, NOBODY

NOT_ASKED = -(2**31)
_LISTENER_NOT_FOUND_FROM = 6
_IDS_FROM = 12  # 10 and 11 have the field, and nobody may use it
_PARTITIONS_PER_ANSWER_MAX = 2_000  # Kafka's `max.request.partition.size.limit`


class _Asked(NamedTuple):
    """A topic by its name, or by its id where there is no name."""

    name: str | None
    topic_id: bytes


async def metadata(call: Call) -> Fields:
    await first_news(call)
    asked = _asked(call)
    failed: dict[str, int] = {}
    if asked is not None and wire.field(call.request, "allow_auto_topic_creation", True):
        failed = await _create_missing(call, asked)
    await _until_led(call, None if asked is None else [_name_of(call.cluster, each) for each in asked])
    cluster = call.cluster
    if asked is None:
        topics = [_topic(call, topic) for _, topic in sorted(cluster.topics.items())]
    else:
        topics = [_one(call, each, failed) for each in asked]
    include = wire.field(call.request, "include_cluster_authorized_operations", False)
    return {
        "brokers": broker_fields(cluster),
        "cluster_id": cluster.cluster_id,
        "controller_id": controller_id(cluster),
        "topics": topics,
        "cluster_authorized_operations": cluster_operations(call) if include else NOT_ASKED,
    }


async def _until_led(call: Call, names: Collection[str] | None) -> None:
    """Waits for leaders of what was just made: of these topics, or of all.

    In Kafka a partition has a leader from the first. A client that is told of one without keeps that for seconds.
    """
    unled = {place: due_s for place, due_s in call.cluster.unled.items() if names is None or place[0] in names}
    if unled:
        await wait_until(call, max(unled.values()), lambda cluster: not unled.keys() & cluster.unled.keys())


def _name_of(cluster: Cluster, asked: _Asked) -> str:
    return cluster.names.get(asked.topic_id, "") if asked.name is None else asked.name


async def first_news(call: Call) -> None:
    """A door that has just begun is told of the cluster within moments."""
    deadline_s = call.now_s + limits.KAFKA_FIRST_NEWS_S
    while not call.cluster.brokers and await call.changed(deadline_s):
        pass


def cluster_operations(call: Call) -> int:
    """None for who may not describe the cluster."""
    return (
        call.operations(ResourceType.CLUSTER, CLUSTER_NAME)
        if call.sees(Operation.DESCRIBE, ResourceType.CLUSTER, CLUSTER_NAME)
        else 0
    )


def broker_fields(cluster: Cluster) -> list[dict[str, Any]]:
    return [
        {
            "node_id": broker.node_id,
            "broker_id": broker.node_id,
            "host": broker.endpoint.host,
            "port": broker.endpoint.port,
        }
        for broker in cluster.brokers
    ]


def controller_id(cluster: Cluster) -> int:
    """Whoever is asked passes on what is the controller's; the node that has it is the shortest way."""
    brokers = [broker.node_id for broker in cluster.brokers]
    return cluster.controller_id if cluster.controller_id in brokers else next(iter(brokers), NOBODY)


def _asked(call: Call) -> list[_Asked] | None:
    """None: all topics."""
    topics = call.request.topics
    if topics is None or (call.version == 0 and not topics):
        return None
    named = (_Asked(each.name, wire.field(each, "topic_id", NO_TOPIC)) for each in topics)
    return list(dict.fromkeys(named))


def _one(call: Call, asked: _Asked, failed: dict[str, int]) -> dict[str, Any]:
    cluster, name = call.cluster, asked.name
    topic: TopicMetadata | None = None
    code: int
    if call.version < _IDS_FROM and any(asked.topic_id):
        code = ErrorCode.INVALID_REQUEST
    elif name is None:
        topic = cluster.topic_of_id(asked.topic_id)
        code = KafkaCode.UNKNOWN_TOPIC_ID
    else:
        topic = cluster.topics.get(name)
        unknown = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION if _is_legal(name) else ErrorCode.INVALID_TOPIC_EXCEPTION
        code = failed.get(name, unknown)
    if topic is not None:
        return _topic(call, topic)
    return {
        "error_code": int(code),
        "name": name if call.version >= _IDS_FROM else name or "",
        "topic_id": asked.topic_id,
        "is_internal": name is not None and cluster.is_internal(name),
    }


def _topic(call: Call, topic: TopicMetadata) -> dict[str, Any]:
    include = wire.field(call.request, "include_topic_authorized_operations", False)
    has_code = call.version >= _LISTENER_NOT_FOUND_FROM
    closed = KafkaCode.LISTENER_NOT_FOUND if has_code else ErrorCode.LEADER_NOT_AVAILABLE
    return {
        "error_code": 0,
        "name": topic.name,
        "topic_id": topic.topic_id,
        "is_internal": call.cluster.is_internal(topic.name),
        "partitions": [_partition(call.cluster, partition, closed) for partition in topic.partitions],
        "topic_authorized_operations": call.operations(ResourceType.TOPIC, topic.name) if include else NOT_ASKED,
    }


def _partition(cluster: Cluster, partition: PartitionMetadata, closed: int) -> dict[str, Any]:
    """`closed`: what is said where the leader is there and has no door for Kafka's clients."""
    leader_id, code = partition.leader_id, 0
    if leader_id < 0:
        code = int(ErrorCode.LEADER_NOT_AVAILABLE)
    elif all(broker.node_id != leader_id for broker in cluster.brokers):
        leader_id, code = NOBODY, int(closed)
    replicas = partition.replicas + partition.adding  # as in Kafka: all that the partition has while they move
    living = cluster.living(replicas)
    return {
        "error_code": code,
        "partition_index": partition.partition,
        "leader_id": leader_id,
        "leader_epoch": partition.leader_epoch,
        "replica_nodes": replicas,
        "isr_nodes": partition.in_sync,
        "offline_replicas": [node_id for node_id in replicas if node_id not in living],
    }


# --- topics made by being asked for ----------------------------------------------------------------
async def _create_missing(call: Call, asked: Iterable[_Asked]) -> dict[str, int]:
    """Makes the topics that are not there; the error of each that is not there even now."""
    cluster = call.cluster
    names = [each.name for each in asked if each.name and each.name not in cluster.topics and _is_legal(each.name)]
    names = [name for name in names if name not in INTERNAL_TOPICS][: limits.TOPICS_PER_REQUEST_MAX]
    if not names or not call.settings.auto_create_topics:
        return {}
    deadline_s = call.now_s + limits.KAFKA_CREATE_S

    def build(part: slice, attempt: Attempt) -> CreateTopicsRequest:
        new = [NewTopic(name=name) for name in names[part]]
        return CreateTopicsRequest(attempt.mutation_id, attempt.end_offset, new, int(limits.KAFKA_CREATE_S * 1000))

    results = await change(call, names, apis.CREATE_TOPICS, build, deadline_s)
    # Another client may have been first.
    codes = {result.name: result.error_code for result in results}
    fine = (ErrorCode.NONE, ErrorCode.TOPIC_ALREADY_EXISTS)
    made = [name for name in names if codes[name] in fine]

    def are_led(cluster: Cluster) -> bool:
        return all(is_led(cluster, name, b"") for name in made)

    await wait_until(call, deadline_s, are_led)
    await settle(call, deadline_s, made, are_led)
    waits = (*fine, ErrorCode.REQUEST_TIMED_OUT)
    return {name: ErrorCode.LEADER_NOT_AVAILABLE if codes[name] in waits else codes[name] for name in names}


def _is_legal(name: str) -> bool:
    try:
        check_topic_name(name, internal=True)
    except InvalidTopicError:
        return False
    return True


# --- DescribeTopicPartitions -----------------------------------------------------------------------
async def describe_topic_partitions(call: Call) -> Fields:
    """As Metadata, a bounded number of partitions at a time; the cursor says where the next request goes on."""
    await first_news(call)
    await _until_led(call, {each.name for each in call.request.topics} or None)
    cluster, request = call.cluster, call.request
    first, index = ("", 0) if request.cursor is None else (request.cursor.topic_name, request.cursor.partition_index)
    asked = {each.name for each in request.topics}
    if index < 0 or (asked and first and first not in asked):
        return {"topics": [{"error_code": int(ErrorCode.INVALID_REQUEST), "name": name} for name in sorted(asked)]}
    names = sorted(name for name in asked or cluster.topics if name >= first)
    left = min(max(request.response_partition_limit, 1), _PARTITIONS_PER_ANSWER_MAX)
    topics: list[dict[str, Any]] = []
    for name in names:
        if left <= 0:
            return {"topics": topics, "next_cursor": {"topic_name": name, "partition_index": 0}}
        topic = cluster.topics.get(name)
        if topic is None:
            unknown = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            code = unknown if _is_legal(name) else ErrorCode.INVALID_TOPIC_EXCEPTION
            topics.append({"error_code": int(code), "name": name, "is_internal": cluster.is_internal(name)})
            continue
        begin = index if name == first else 0
        described = _described(call, topic, begin, begin + left)
        topics.append(described)
        left -= len(described["partitions"])
        if begin + len(described["partitions"]) < len(topic.partitions):
            following = begin + len(described["partitions"])
            return {"topics": topics, "next_cursor": {"topic_name": name, "partition_index": following}}
    return {"topics": topics}


def _described(call: Call, topic: TopicMetadata, begin: int, end: int) -> dict[str, Any]:
    cluster = call.cluster
    # Nobody but the replicas in sync may be elected. Java's client fails on the null that would say "not known".
    eligible: dict[str, list[int]] = {"eligible_leader_replicas": [], "last_known_elr": []}
    partitions = [
        {**_partition(cluster, each, KafkaCode.LISTENER_NOT_FOUND), **eligible} for each in topic.partitions[begin:end]
    ]
    return {
        "error_code": 0,
        "name": topic.name,
        "topic_id": topic.topic_id,
        "is_internal": cluster.is_internal(topic.name),
        "partitions": partitions,
        "topic_authorized_operations": call.operations(ResourceType.TOPIC, topic.name),
    }
