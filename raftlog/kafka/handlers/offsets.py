"""ListOffsets, OffsetForLeaderEpoch, DescribeProducers, DeleteRecords: each partition's leader knows."""

from __future__ import annotations

from typing import Any

from raftlog import limits
from raftlog.errors import ErrorCode
from raftlog.kafka import wire
from raftlog.kafka.calls import Call, Fields
from raftlog.kafka.codes import KafkaCode
from raftlog.kafka.handlers.mutations import error_fields
from raftlog.kafka.handlers.partitions import Question, ask_leaders, grouped
from raftlog.protocol import apis
from raftlog.protocol.records import (
    DeleteRecordsRequest,
    DescribeProducersRequest,
    DescribeProducersResponse,
    ListOffsetsRequest,
    ListOffsetsResponse,
    OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse,
)
from raftlog.types import EARLIEST_TIMESTAMP, LATEST_TIMESTAMP

# What lies in remote storage, which raftlog has not: Kafka without it answers the same.
_REMOTE_TIMESTAMPS = (-5, -6)  # the latest one there, the earliest one that is not there yet
_OFFSET_NOT_AVAILABLE_FROM = 5
# What is asked for with a negative timestamp, and the first version that has it.
_SPECIAL_FROM = {LATEST_TIMESTAMP: 0, EARLIEST_TIMESTAMP: 0, -3: 7, -4: 8, -5: 9, -6: 11}
_NO_EPOCH = -1


# --- ListOffsets -----------------------------------------------------------------------------------
async def list_offsets(call: Call) -> Fields:
    """The isolation level says nothing: without transactions all that is committed is stable."""
    topics = call.request.topics
    questions = [
        Question(
            topic.name,
            each.partition_index,
            ListOffsetsRequest(
                LATEST_TIMESTAMP if each.timestamp in _REMOTE_TIMESTAMPS else each.timestamp,
                wire.field(each, "current_leader_epoch", _NO_EPOCH),
            ),
        )
        for topic in topics
        for each in topic.partitions
    ]
    answers = await ask_leaders(call, questions, apis.LIST_OFFSETS)
    told = grouped([topic.partitions for topic in topics], answers, lambda each, answer: _offset(call, each, answer))
    return {"topics": [{"name": topic.name, "partitions": fields} for topic, fields in zip(topics, told, strict=True)]}


def _offset(call: Call, asked: Any, answer: ListOffsetsResponse) -> dict[str, Any]:
    code = _code(wire.field(asked, "current_leader_epoch", _NO_EPOCH), answer)
    if asked.timestamp < 0 and call.version < _SPECIAL_FROM.get(asked.timestamp, call.version + 1):
        code = int(ErrorCode.UNSUPPORTED_VERSION)
    if code == ErrorCode.OFFSET_NOT_AVAILABLE and call.version < _OFFSET_NOT_AVAILABLE_FROM:
        code = ErrorCode.LEADER_NOT_AVAILABLE
    fields = {"partition_index": asked.partition_index, "error_code": code}
    if code or answer.offset < 0 or asked.timestamp in _REMOTE_TIMESTAMPS:
        return fields
    return {
        **fields,
        "timestamp": answer.timestamp_ms,
        "offset": answer.offset,
        "leader_epoch": answer.record_epoch,
    }


def _code(known_epoch: int, answer: Any) -> int:
    """The error of an answer. A client that knows an older leader epoch than the leader's own has to look again."""
    if not answer.error_code and _NO_EPOCH < known_epoch < answer.leader_epoch:
        return int(KafkaCode.FENCED_LEADER_EPOCH)
    return int(answer.error_code)


# --- OffsetForLeaderEpoch --------------------------------------------------------------------------
async def offset_for_leader_epoch(call: Call) -> Fields:
    topics = call.request.topics
    questions = [
        Question(topic.topic, each.partition, OffsetForLeaderEpochRequest(each.leader_epoch, each.current_leader_epoch))
        for topic in topics
        for each in topic.partitions
    ]
    answers = await ask_leaders(call, questions, apis.OFFSET_FOR_LEADER_EPOCH)
    told = grouped([topic.partitions for topic in topics], answers, _epoch_end)
    return {
        "topics": [{"topic": topic.topic, "partitions": fields} for topic, fields in zip(topics, told, strict=True)]
    }


def _epoch_end(asked: Any, answer: OffsetForLeaderEpochResponse) -> dict[str, Any]:
    code = _code(asked.current_leader_epoch, answer)
    fields = {"partition": asked.partition, "error_code": code}
    return fields if code else {**fields, "leader_epoch": answer.epoch, "end_offset": answer.end_offset}


# --- DescribeProducers -----------------------------------------------------------------------------
async def describe_producers(call: Call) -> Fields:
    """Idempotent producers; none of them has a transaction."""
    topics = call.request.topics
    places = [(topic.name, partition) for topic in topics for partition in topic.partition_indexes]
    questions = [Question(name, partition, DescribeProducersRequest()) for name, partition in places]
    answers = await ask_leaders(call, questions, apis.DESCRIBE_PRODUCERS)
    told = grouped([topic.partition_indexes for topic in topics], answers, _producers)
    return {"topics": [{"name": topic.name, "partitions": fields} for topic, fields in zip(topics, told, strict=True)]}


def _producers(partition: int, answer: DescribeProducersResponse) -> dict[str, Any]:
    producers = [
        {
            "producer_id": each.producer_id,
            "producer_epoch": each.producer_epoch,
            "last_sequence": each.last_sequence,
            "last_timestamp": each.last_ms,
            "coordinator_epoch": -1,
            "current_txn_start_offset": -1,
        }
        for each in answer.producers
    ]
    error = error_fields(answer.error_code, answer.error_text)
    return {"partition_index": partition, **error, "active_producers": producers}


# --- DeleteRecords ---------------------------------------------------------------------------------
async def delete_records(call: Call) -> Fields:
    topics = call.request.topics
    timeout_ms = min(max(call.request.timeout, 0), limits.ADMIN_TIMEOUT_MS)
    questions = [
        Question(topic.name, each.partition_index, DeleteRecordsRequest(offset=each.offset, timeout_ms=timeout_ms))
        for topic in topics
        for each in topic.partitions
    ]
    answers = await ask_leaders(call, questions, apis.DELETE_RECORDS)
    told = grouped(
        [topic.partitions for topic in topics],
        answers,
        lambda each, answer: {
            "partition_index": each.partition_index,
            "low_watermark": -1 if answer.error_code else answer.log_start_offset,
            "error_code": answer.error_code,
        },
    )
    return {"topics": [{"name": topic.name, "partitions": fields} for topic, fields in zip(topics, told, strict=True)]}
