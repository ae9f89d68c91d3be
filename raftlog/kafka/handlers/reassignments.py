"""AlterPartitionReassignments, ListPartitionReassignments: replicas move to other brokers (KIP-455), by plans.

Kafka's clients know nothing of witnesses: the controller keeps those that there are, and places what is missing.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from raftlog.errors import (
    ErrorCode,
    InvalidReplicationFactorError,
    InvalidRequestError,
    RaftlogError,
    UnknownTopicOrPartitionError,
)
from raftlog.kafka import wire
from raftlog.kafka.calls import Call, Controller, Fields
from raftlog.kafka.handlers.mutations import FORGOTTEN, error_fields, look_up, patience_ms
from raftlog.limits import REASSIGNMENTS_PER_REQUEST_MAX
from raftlog.protocol import apis
from raftlog.protocol.reassignments import (
    AlterReassignmentsRequest,
    AlterReassignmentsResponse,
    ListReassignmentsRequest,
    ListReassignmentsResponse,
    OngoingReassignment,
    Reassignment,
)
from raftlog.types import TopicPartition

_Wanted = dict[TopicPartition, tuple[int, ...] | None]
_Answers = dict[TopicPartition, dict[str, Any]]


# --- AlterPartitionReassignments -------------------------------------------------------------------
async def alter_partition_reassignments(call: Call) -> Fields:
    """Each partition stands or falls alone; NONE says that its plan is in the metadata."""
    request = call.request
    named = [
        (TopicPartition(topic.name, each.partition_index), each.replicas)
        for topic in request.topics
        for each in topic.partitions
    ]
    counts = Counter(place for place, _ in named)
    wanted: _Wanted = {}
    answers: _Answers = {}
    for place, replicas in named:
        try:
            if counts[place] > 1:
                raise InvalidRequestError(f"{place} is named twice")
            _check(call, place, replicas)
            wanted[place] = None if replicas is None else tuple(replicas)
        except RaftlogError as error:
            answers[place] = error_fields(error.code, str(error))
    answers |= await _carry_out(call, wanted, call.now_s + patience_ms(request.timeout) / 1000)
    topics: dict[str, list[dict[str, Any]]] = {topic.name: [] for topic in request.topics}
    for place in counts:
        topics[place.topic].append({"partition_index": place.partition, **answers[place]})
    return {
        **error_fields(ErrorCode.NONE, ""),
        "allow_replication_factor_change": wire.field(request, "allow_replication_factor_change", True),
        "responses": [{"name": name, "partitions": partitions} for name, partitions in topics.items()],
    }


def _check(call: Call, place: TopicPartition, replicas: Any) -> None:
    """Raises RaftlogError."""
    partition = call.cluster.partition(*place)
    if partition is None:
        raise UnknownTopicOrPartitionError(f"there is no partition {place}")
    may_change = wire.field(call.request, "allow_replication_factor_change", True)
    if replicas is not None and not may_change and len(replicas) != len(partition.replicas):
        raise InvalidReplicationFactorError(
            f"{place} has {len(partition.replicas)} replicas, and the request allows no other number than that"
        )


async def _carry_out(call: Call, wanted: _Wanted, deadline_s: float) -> _Answers:
    """As many at once as one request of the controller may name."""
    answers: _Answers = {}
    places = list(wanted)
    for at in range(0, len(places), REASSIGNMENTS_PER_REQUEST_MAX):
        part = places[at : at + REASSIGNMENTS_PER_REQUEST_MAX]
        answer = await _ask(call, {place: wanted[place] for place in part}, deadline_s)
        if answer.error_code:
            answers |= dict.fromkeys(part, error_fields(answer.error_code, answer.error_text))
        for result in answer.results:
            fields = error_fields(result.error_code, result.error_text)
            answers[TopicPartition(result.topic, result.partition)] = fields
    return answers


async def _ask(call: Call, wanted: _Wanted, deadline_s: float) -> AlterReassignmentsResponse:
    names = sorted({place.topic for place in wanted})
    found = await look_up(call, names, deadline_s)
    if found.error_code:
        return AlterReassignmentsResponse(found.error_code, found.error_text)
    topic_ids = dict(zip(names, found.topic_ids, strict=True))
    changes = [
        Reassignment(topic=place.topic, topic_id=topic_ids[place.topic], partition=place.partition, replicas=replicas)
        for place, replicas in wanted.items()
    ]
    body = AlterReassignmentsRequest(call.mint_id(), found.end_offset, changes=changes)
    answer: AlterReassignmentsResponse
    left_s = max(deadline_s - call.now_s, 0.0)
    answer, _ = await call.ask(Controller(), apis.ALTER_REASSIGNMENTS, body, timeout_s=left_s)
    if answer.error_code == ErrorCode.INVALID_UPDATE_VERSION:
        return AlterReassignmentsResponse(ErrorCode.REQUEST_TIMED_OUT, FORGOTTEN)
    return answer


# --- ListPartitionReassignments --------------------------------------------------------------------
async def list_partition_reassignments(call: Call) -> Fields:
    request = call.request
    asked = None
    if request.topics is not None:
        asked = {(topic.name, partition) for topic in request.topics for partition in topic.partition_indexes}
    body = ListReassignmentsRequest(None if asked is None else sorted({name for name, _ in asked}))
    answer: ListReassignmentsResponse
    timeout_s = patience_ms(request.timeout) / 1000
    answer, _ = await call.ask(Controller(), apis.LIST_REASSIGNMENTS, body, timeout_s=timeout_s)
    topics: dict[str, list[dict[str, Any]]] = {}
    for each in answer.ongoing:
        if asked is None or (each.topic, each.partition) in asked:
            topics.setdefault(each.topic, []).append(_ongoing(each))
    return {
        **error_fields(answer.error_code, answer.error_text),
        "topics": [{"name": name, "partitions": partitions} for name, partitions in topics.items()],
    }


def _ongoing(each: OngoingReassignment) -> dict[str, Any]:
    """Kafka's list of replicas while they move: those that shall be, then those that go."""
    return {
        "partition_index": each.partition,
        "replicas": each.target_replicas + each.removing,
        "adding_replicas": each.adding,
        "removing_replicas": each.removing,
    }
