"""CreateTopics, DeleteTopics, CreatePartitions: passed on to the controller, whichever broker was asked."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

import msgspec

from raftlog.config import change_topic_config
from raftlog.errors import ErrorCode, InvalidReplicaAssignmentError, InvalidRequestError, RaftlogError
from raftlog.kafka import topic_settings, wire
from raftlog.kafka.calls import Call, Fields
from raftlog.kafka.cluster import Cluster
from raftlog.kafka.codes import KafkaCode
from raftlog.kafka.handlers.mutations import (
    Attempt,
    change,
    change_each,
    error_fields,
    is_led,
    patience_ms,
    refusal,
    settle,
)
from raftlog.protocol import apis
from raftlog.protocol.envelope import NO_TOPIC
from raftlog.protocol.topics import (
    CreatePartitionsRequest,
    CreateTopicsRequest,
    DeleteTopicsRequest,
    NewTopic,
    TopicResult,
)
from raftlog.types import TopicConfig


# --- CreateTopics ----------------------------------------------------------------------------------
async def create_topics(call: Call) -> Fields:
    request = call.request
    timeout_ms = patience_ms(request.timeout)
    deadline_s = call.now_s + timeout_ms / 1000
    counts = Counter(topic.name for topic in request.topics)
    results: dict[str, TopicResult] = {}
    wanted: dict[str, NewTopic] = {}
    for topic in request.topics:
        try:
            if counts[topic.name] > 1:
                raise InvalidRequestError(f"topic {topic.name} is named twice")
            wanted[topic.name] = _new_topic(topic)
        except RaftlogError as error:
            results[topic.name] = refusal(topic.name, error.code, str(error))
    new = list(wanted.values())

    def build(part: slice, attempt: Attempt) -> CreateTopicsRequest:
        validate_only = request.validate_only
        return CreateTopicsRequest(attempt.mutation_id, attempt.end_offset, new[part], timeout_ms, validate_only)

    for result in await change(call, list(wanted), apis.CREATE_TOPICS, build, deadline_s):
        results[result.name] = result
    if not request.validate_only:
        made = {name: result.topic_id for name, result in results.items() if not result.error_code}
        await settle(call, deadline_s, made, lambda cluster: all(is_led(cluster, *each) for each in made.items()))
    return {"topics": [_created(results[name], wanted.get(name)) for name in counts]}


def _new_topic(topic: Any) -> NewTopic:
    """Raises RaftlogError."""
    config = topic_settings.without_fixed((each.name, each.value) for each in topic.configs)
    return NewTopic(
        name=topic.name,
        partitions=topic.num_partitions,
        replication_factor=topic.replication_factor,
        config=config,
        replicas=_replicas(topic.assignments),
    )


def _replicas(assignments: Any) -> list[tuple[int, ...]]:
    """Raises InvalidReplicaAssignmentError."""
    placed = {each.partition_index: tuple(each.broker_ids) for each in assignments}
    if len(placed) < len(assignments) or sorted(placed) != list(range(len(placed))):
        raise InvalidReplicaAssignmentError("the partitions of an assignment are 0, 1, 2 and so on, each named once")
    return [placed[partition] for partition in range(len(placed))]


def _created(result: TopicResult, new: NewTopic | None) -> dict[str, Any]:
    fields = {"name": result.name, "topic_id": result.topic_id, **error_fields(result.error_code, result.error_text)}
    if result.error_code or new is None:
        return {**fields, "num_partitions": -1, "replication_factor": -1, "configs": None}
    config = change_topic_config(TopicConfig(), new.config, ())
    return {
        **fields,
        "num_partitions": result.partitions,
        "replication_factor": result.replication_factor,
        "configs": [
            {"name": each.name, "value": each.value, "read_only": each.read_only, "config_source": int(each.source)}
            for each in topic_settings.values(msgspec.structs.asdict(config))
        ],
    }


# --- DeleteTopics ----------------------------------------------------------------------------------
class _Named(NamedTuple):
    """A topic by its name, or by its id where the name is ""."""

    name: str
    topic_id: bytes


async def delete_topics(call: Call) -> Fields:
    request = call.request
    timeout_ms = patience_ms(request.timeout)
    deadline_s = call.now_s + timeout_ms / 1000
    counts = Counter(_named(request))
    answers: dict[_Named, dict[str, Any]] = {}
    meant: dict[str, _Named] = {}
    for each in counts:
        known = call.cluster.topic_of_id(each.topic_id)
        name = each.name or (known.name if known else "")
        if counts[each] > 1 or name in meant or (each.name and any(each.topic_id)):
            answers[each] = error_fields(ErrorCode.INVALID_REQUEST, "a topic is named once, by its name or by its id")
        elif not each.name and not any(each.topic_id):
            answers[each] = error_fields(ErrorCode.INVALID_REQUEST, "a topic has neither a name nor an id")
        elif not name:
            answers[each] = error_fields(KafkaCode.UNKNOWN_TOPIC_ID, "there is no topic with this id")
        else:
            meant[name] = each
    wanted = list(meant)

    def build(part: slice, attempt: Attempt) -> DeleteTopicsRequest:
        named = zip(wanted[part], attempt.topic_ids, strict=True)
        topics = [(name, topic_id if meant[name].name else meant[name].topic_id) for name, topic_id in named]
        return DeleteTopicsRequest(attempt.mutation_id, attempt.end_offset, topics, timeout_ms)

    results = await change(call, wanted, apis.DELETE_TOPICS, build, deadline_s)
    for result in results:
        each = meant[result.name]
        code: int = result.error_code
        if code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION and not each.name:
            code = KafkaCode.UNKNOWN_TOPIC_ID
        answers[each] = {**error_fields(code, result.error_text), "name": result.name, "topic_id": result.topic_id}
    gone = {result.name: result.topic_id for result in results if not result.error_code}
    await settle(
        call, deadline_s, gone, lambda cluster: not any(topic_id in cluster.names for topic_id in gone.values())
    )
    return {"responses": [{"name": each.name or None, "topic_id": each.topic_id, **answers[each]} for each in counts]}


def _named(request: Any) -> list[_Named]:
    names = wire.field(request, "topic_names", None)
    if names is not None:
        return [_Named(name, NO_TOPIC) for name in names]
    return [_Named(topic.name or "", topic.topic_id) for topic in request.topics]


# --- CreatePartitions ------------------------------------------------------------------------------
async def create_partitions(call: Call) -> Fields:
    request = call.request
    timeout_ms = patience_ms(request.timeout)
    deadline_s = call.now_s + timeout_ms / 1000
    counts = Counter(topic.name for topic in request.topics)
    answers: dict[str, dict[str, Any]] = {}
    wanted: dict[str, Any] = {}
    for topic in request.topics:
        if counts[topic.name] > 1:
            answers[topic.name] = error_fields(ErrorCode.INVALID_REQUEST, f"topic {topic.name} is named twice")
        elif topic.assignments is not None and not topic.assignments:
            text = "an assignment without a partition: leave it out and the controller chooses"
            answers[topic.name] = error_fields(ErrorCode.INVALID_REPLICA_ASSIGNMENT, text)
        else:
            wanted[topic.name] = topic
    names = list(wanted)

    def build(place: int, attempt: Attempt) -> CreatePartitionsRequest:
        topic = wanted[names[place]]
        return CreatePartitionsRequest(
            attempt.mutation_id,
            attempt.end_offset,
            name=topic.name,
            topic_id=attempt.topic_ids[0],
            partitions=topic.count,
            replicas=[tuple(each.broker_ids) for each in topic.assignments or ()],
            validate_only=request.validate_only,
        )

    results = await change_each(call, names, apis.CREATE_PARTITIONS, build, deadline_s)
    answers |= {result.name: error_fields(result.error_code, result.error_text) for result in results}
    if not request.validate_only:
        more = {result.name: result for result in results if not result.error_code}
        await settle(call, deadline_s, more, lambda cluster: all(_has(cluster, each) for each in more.values()))
    return {"results": [{"name": name, **answers[name]} for name in counts]}


def _has(cluster: Cluster, result: TopicResult) -> bool:
    topic = cluster.topics.get(result.name)
    return topic is not None and len(topic.partitions) >= result.partitions and is_led(cluster, result.name, b"")
