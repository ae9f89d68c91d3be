"""OffsetCommit, OffsetFetch, OffsetDelete: what groups have committed.

Kafka deletes what was committed for a topic together with the topic. Here a commit names the topic by its id, and one
for a topic that is no more counts for nothing. A door that has not heard of the newest topics yet may not decide that:
its node is asked, as far as it can speak for the cluster.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from raftlog import limits
from raftlog.errors import ErrorCode
from raftlog.kafka.calls import Call, Fields, Node
from raftlog.kafka.cluster import Cluster
from raftlog.kafka.codes import KafkaCode
from raftlog.kafka.handlers.coordinators import Words, ask_coordinator, ask_coordinators
from raftlog.kafka.wire import field
from raftlog.protocol import apis
from raftlog.protocol import groups as g
from raftlog.protocol.cluster import MetadataRequest, MetadataResponse, TopicMetadata

_FROM_OUTSIDE = -1  # the generation of who is in no group
_CODE_OF_GROUP_FROM = 2  # of OffsetFetch: before, each partition has the error
# Older clients expect no other way to be told to look for the coordinator again.
_OF_FETCH: Words = {ErrorCode.COORDINATOR_NOT_AVAILABLE: ErrorCode.NOT_COORDINATOR}
_OF_COMMIT: Words = {ErrorCode.MESSAGE_TOO_LARGE: KafkaCode.INVALID_COMMIT_OFFSET_SIZE}


def _topic(cluster: Cluster, named: Any) -> TopicMetadata | None:
    """By its id, or its name in older versions."""
    topic_id = field(named, "topic_id", None)
    return cluster.topics.get(named.name) if topic_id is None else cluster.topic_of_id(topic_id)


def _name_fields(named: Any) -> dict[str, Any]:
    """As it was asked for."""
    return {key: getattr(named, key) for key in ("name", "topic_id") if hasattr(named, key)}


def _unknown(named: Any) -> int:
    by_id = hasattr(named, "topic_id")
    return int(KafkaCode.UNKNOWN_TOPIC_ID if by_id else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)


# --- OffsetCommit ----------------------------------------------------------------------------------
async def offset_commit(call: Call) -> Fields:
    """How long older clients want an offset to be kept counts for nothing, as in Kafka from 2.1 on for newer ones."""
    request = call.request
    wanted = [(topic, each) for topic in request.topics for each in topic.partitions]
    judged = [_judge(call.cluster, topic, each) for topic, each in wanted]
    offsets = [each for each in judged if isinstance(each, g.CommittedOffset)]
    code = 0
    if offsets:
        # A generation below 0 is no member's, whoever says so.
        is_member = request.generation_id_or_member_epoch > _FROM_OUTSIDE
        body = g.OffsetCommitRequest(
            group_id=request.group_id,
            generation_id=request.generation_id_or_member_epoch if is_member else _FROM_OUTSIDE,
            member_id=request.member_id if is_member else "",
            group_instance_id=field(request, "group_instance_id", None) if is_member else None,
            offsets=offsets,
        )
        answer = await ask_coordinator(call, apis.OFFSET_COMMIT, body, words=_OF_COMMIT)
        code = answer.error_code
    codes = iter([each if isinstance(each, int) else code for each in judged])
    return {
        "topics": [
            {
                **_name_fields(topic),
                "partitions": [
                    {"partition_index": each.partition_index, "error_code": next(codes)} for each in topic.partitions
                ],
            }
            for topic in request.topics
        ]
    }


def _judge(cluster: Cluster, named: Any, asked: Any) -> g.CommittedOffset | int:
    """What is to be committed, or why not."""
    topic = _topic(cluster, named)
    if topic is None:
        return _unknown(named)
    if cluster.partition(topic.name, asked.partition_index) is None:
        return int(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
    metadata = asked.committed_metadata or ""
    if len(metadata) > limits.OFFSET_METADATA_CHARS_MAX:
        return int(KafkaCode.OFFSET_METADATA_TOO_LARGE)
    return g.CommittedOffset(
        topic=topic.name,
        topic_id=topic.topic_id,
        partition=asked.partition_index,
        offset=max(asked.committed_offset, g.NO_OFFSET),
        leader_epoch=max(field(asked, "committed_leader_epoch", -1), -1),
        metadata=metadata,
    )


# --- OffsetFetch -----------------------------------------------------------------------------------
class _Wanted(NamedTuple):
    """Of one group. `topics` None: all that it has committed."""

    group_id: str
    topics: Sequence[Any] | None


async def offset_fetch(call: Call) -> Fields:
    """Without transactions every commit is stable, whether that is required or not."""
    request = call.request
    several = field(request, "groups", None)
    wanted = [_Wanted(each.group_id, each.topics) for each in ([request] if several is None else several)]
    bodies = [
        g.OffsetFetchRequest(group_id=group_id, partitions=_places(call.cluster, topics)) for group_id, topics in wanted
    ]
    answers = await ask_coordinators(call, apis.OFFSET_FETCH, bodies, words=_OF_FETCH)
    await _drop_dead(call, answers)
    told = [_fetched(call, group, answer) for group, answer in zip(wanted, answers, strict=True)]
    return {"groups": told} if several is not None else told[0]


def _places(cluster: Cluster, topics: Sequence[Any] | None) -> list[tuple[str, int]] | None:
    if topics is None:
        return None
    named = [(_name(cluster, topic), topic.partition_indexes) for topic in topics]
    return [(name, partition) for name, partitions in named if name for partition in partitions]


def _name(cluster: Cluster, named: Any) -> str:
    """Empty for an id that no topic has."""
    if hasattr(named, "name"):
        return str(named.name)
    topic = cluster.topic_of_id(named.topic_id)
    return "" if topic is None else topic.name


async def _drop_dead(call: Call, answers: Sequence[g.OffsetFetchResponse]) -> None:
    """Takes out of `answers` what was committed for topics that are no more. Who cannot tell refuses."""
    topics = call.cluster.topics
    alive = {(name, topic.topic_id) for name, topic in topics.items()}
    doubtful = {each.topic for answer in answers for each in answer.offsets if (each.topic, each.topic_id) not in alive}
    if not doubtful:
        return
    told: MetadataResponse
    told, _ = await call.ask(
        Node(), apis.METADATA, MetadataRequest(sorted(doubtful)), timeout_s=limits.KAFKA_COORDINATOR_S
    )
    alive |= {(topic.name, topic.topic_id) for topic in told.topics if not topic.error_code}
    for answer in answers:
        found = [each for each in answer.offsets if (each.topic, each.topic_id) in alive]
        if len(found) < len(answer.offsets) and (told.error_code or not told.confirmed):
            answer.error_code = int(ErrorCode.COORDINATOR_LOAD_IN_PROGRESS)
        answer.offsets = found


def _fetched(call: Call, wanted: _Wanted, answer: g.OffsetFetchResponse) -> dict[str, Any]:
    found = {(key, each.partition): each for each in answer.offsets for key in (each.topic, each.topic_id)}
    group = {"group_id": wanted.group_id, "error_code": answer.error_code}
    if answer.error_code and call.version >= _CODE_OF_GROUP_FROM:
        return group
    if wanted.topics is None:
        by_topic: dict[tuple[str, bytes], list[Any]] = {}
        for each in answer.offsets:
            by_topic.setdefault((each.topic, each.topic_id), []).append(_offset(each.partition, each))
        return {
            **group,
            "topics": [
                {"name": name, "topic_id": topic_id, "partitions": partitions}
                for (name, topic_id), partitions in by_topic.items()
            ],
        }
    topics = []
    for asked in wanted.topics:
        key = field(asked, "topic_id", None) or asked.name
        code = answer.error_code if _name(call.cluster, asked) else int(KafkaCode.UNKNOWN_TOPIC_ID)
        partitions = [_offset(each, found.get((key, each)), code) for each in asked.partition_indexes]
        topics.append({**_name_fields(asked), "partitions": partitions})
    return {**group, "topics": topics}


def _offset(partition: int, found: g.CommittedOffset | None, code: int = 0) -> dict[str, Any]:
    return {
        "partition_index": partition,
        "committed_offset": g.NO_OFFSET if found is None else found.offset,
        "committed_leader_epoch": -1 if found is None else found.leader_epoch,
        "metadata": "" if found is None else found.metadata,
        "error_code": code,
    }


# --- OffsetDelete ----------------------------------------------------------------------------------
async def offset_delete(call: Call) -> Fields:
    request = call.request
    wanted = [(topic.name, each.partition_index) for topic in request.topics for each in topic.partitions]
    body = g.OffsetDeleteRequest(group_id=request.group_id, partitions=wanted)
    answer = await ask_coordinator(call, apis.OFFSET_DELETE, body)
    if answer.error_code:
        return {"error_code": answer.error_code}
    codes = iter(answer.partition_error_codes)
    return {
        "topics": [
            {
                "name": topic.name,
                "partitions": [
                    {"partition_index": each.partition_index, "error_code": next(codes)} for each in topic.partitions
                ],
            }
            for topic in request.topics
        ]
    }
