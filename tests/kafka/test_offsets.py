"""What each partition's leader is asked for is answered as Kafka does, in every version that is listed."""

from __future__ import annotations

from typing import Any

import pytest

from raftlog.errors import ErrorCode
from raftlog.kafka.calls import Leader, Target
from raftlog.kafka.codes import KafkaCode
from raftlog.protocol import apis
from raftlog.protocol.records import (
    HIGH_WATERMARK,
    ActiveProducer,
    DeleteRecordsRequest,
    DeleteRecordsResponse,
    DescribeProducersRequest,
    DescribeProducersResponse,
    ListOffsetsRequest,
    ListOffsetsResponse,
    OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse,
)
from raftlog.types import EARLIEST_TIMESTAMP, LATEST_TIMESTAMP
from tests.kafka.door import Door, cluster, topic, topic_id, versions

LATEST_TIERED, PENDING_UPLOAD = -5, -6


def _door() -> Door:
    return Door(cluster(topic("orders", 1, (1, 2))))


def _offsets(door: Door, version: int, *partitions: dict[str, Any], name: str = "orders") -> list[dict[str, Any]]:
    (found,) = door.request("ListOffsets", version, topics=[{"name": name, "partitions": partitions}])["topics"]
    assert found["name"] == name
    told: list[dict[str, Any]] = found["partitions"]
    return told


def _leader(target: Target, body: ListOffsetsRequest) -> ListOffsetsResponse:
    """Of a log from 10 to 20, in epoch 5, whose node leads partition 0 only."""
    assert isinstance(target, Leader) and target.topic_id == topic_id(1)
    if target.partition:
        return apis.LIST_OFFSETS.refusal(ErrorCode.NOT_LEADER_OR_FOLLOWER, "not here", leader_id=2, leader_epoch=6)
    found = {LATEST_TIMESTAMP: (20, -1), EARLIEST_TIMESTAMP: (10, -1), 1234: (15, 1240)}
    offset, timestamp_ms = found.get(body.timestamp_ms, (-1, -1))
    return ListOffsetsResponse(offset=offset, timestamp_ms=timestamp_ms, leader_id=1, leader_epoch=5, record_epoch=3)


@pytest.mark.parametrize("version", versions("ListOffsets"))
def test_each_partition_is_asked_of_its_leader(version: int) -> None:
    door = _door()
    door.workers[apis.LIST_OFFSETS] = _leader
    times = (LATEST_TIMESTAMP, EARLIEST_TIMESTAMP, 1234, 9999)
    told = _offsets(door, version, *({"partition_index": 0, "timestamp": time_ms} for time_ms in times))
    assert [(each["offset"], each["timestamp"], each["error_code"]) for each in told] == [
        (20, -1, 0),
        (10, -1, 0),
        (15, 1240, 0),
        (-1, -1, 0),
    ]
    assert [each.get("leader_epoch", 3) for each in told[:3]] == [3, 3, 3]
    told = _offsets(door, version, {"partition_index": 1, "timestamp": -1}, {"partition_index": 7, "timestamp": -1})
    assert [each["error_code"] for each in told] == [
        ErrorCode.NOT_LEADER_OR_FOLLOWER,
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
    ]
    (told_of_none,) = _offsets(door, version, {"partition_index": 0, "timestamp": -1}, name="none")
    assert (told_of_none["error_code"], told_of_none["offset"]) == (ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, -1)


@pytest.mark.parametrize("timestamp", [LATEST_TIERED, PENDING_UPLOAD])
def test_nothing_is_in_remote_storage(timestamp: int) -> None:
    door = _door()
    door.workers[apis.LIST_OFFSETS] = _leader
    (told,) = _offsets(door, 11, {"partition_index": 0, "timestamp": timestamp})
    assert (told["error_code"], told["offset"], told["leader_epoch"]) == (0, -1, -1)


@pytest.mark.parametrize(("timestamp", "first"), [(-3, 7), (-4, 8), (-5, 9), (-6, 11), (-7, 99)])
def test_what_a_version_does_not_have_is_refused(timestamp: int, first: int) -> None:
    door = _door()
    door.workers[apis.LIST_OFFSETS] = _leader
    for version in versions("ListOffsets"):
        (told,) = _offsets(door, version, {"partition_index": 0, "timestamp": timestamp})
        assert told["error_code"] == (ErrorCode.UNSUPPORTED_VERSION if version < first else 0)


def test_a_client_of_an_older_leader_epoch_is_fenced() -> None:
    door = _door()
    door.workers[apis.LIST_OFFSETS] = _leader
    told = _offsets(
        door, 11, *({"partition_index": 0, "timestamp": -1, "current_leader_epoch": epoch} for epoch in (4, 5, -1))
    )
    assert [each["error_code"] for each in told] == [KafkaCode.FENCED_LEADER_EPOCH, 0, 0]
    assert told[0]["offset"] == -1
    assert [body.leader_epoch for _, body in door.asked] == [4, 5, -1]


def test_older_clients_are_told_what_they_know_of_a_new_leader() -> None:
    door = _door()
    door.workers[apis.LIST_OFFSETS] = lambda *_: ListOffsetsResponse(ErrorCode.OFFSET_NOT_AVAILABLE)
    for version, code in ((4, ErrorCode.LEADER_NOT_AVAILABLE), (5, ErrorCode.OFFSET_NOT_AVAILABLE)):
        assert _offsets(door, version, {"partition_index": 0, "timestamp": -1})[0]["error_code"] == code


# --- OffsetForLeaderEpoch ----------------------------------------------------------------------
@pytest.mark.parametrize("version", versions("OffsetForLeaderEpoch"))
def test_where_an_epoch_ends_is_asked_of_the_leader(version: int) -> None:
    door = _door()

    def ends(target: Target, body: OffsetForLeaderEpochRequest) -> OffsetForLeaderEpochResponse:
        if isinstance(target, Leader) and target.partition:
            return apis.OFFSET_FOR_LEADER_EPOCH.refusal(ErrorCode.NOT_LEADER_OR_FOLLOWER)
        epoch, end_offset = (body.epoch, 17) if body.epoch <= 5 else (-1, -1)
        return OffsetForLeaderEpochResponse(epoch=epoch, end_offset=end_offset, leader_id=1, leader_epoch=5)

    door.workers[apis.OFFSET_FOR_LEADER_EPOCH] = ends
    asked = [(0, 3, -1), (0, 9, 5), (0, 3, 4), (1, 3, -1), (7, 3, -1)]
    partitions = [
        {"partition": partition, "leader_epoch": epoch, "current_leader_epoch": current}
        for partition, epoch, current in asked
    ]
    answer = door.request("OffsetForLeaderEpoch", version, topics=[{"topic": "orders", "partitions": partitions}])
    (orders,) = answer["topics"]
    told = [(each["error_code"], each["leader_epoch"], each["end_offset"]) for each in orders["partitions"]]
    assert told == [
        (0, 3, 17),
        (0, -1, -1),
        (KafkaCode.FENCED_LEADER_EPOCH, -1, -1),
        (ErrorCode.NOT_LEADER_OR_FOLLOWER, -1, -1),
        (ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, -1, -1),
    ]


# --- DescribeProducers -------------------------------------------------------------------------
def test_producers_are_told_by_each_leader() -> None:
    door = _door()

    def known(target: Target, _body: DescribeProducersRequest) -> DescribeProducersResponse:
        if isinstance(target, Leader) and target.partition:
            return apis.DESCRIBE_PRODUCERS.refusal(ErrorCode.NOT_LEADER_OR_FOLLOWER, "not here")
        producer = ActiveProducer(producer_id=4000, producer_epoch=2, last_sequence=17, last_ms=1234)
        return DescribeProducersResponse(producers=[producer])

    door.workers[apis.DESCRIBE_PRODUCERS] = known
    answer = door.request("DescribeProducers", 0, topics=[{"name": "orders", "partition_indexes": [0, 1, 7]}])
    led, moved, unknown = answer["topics"][0]["partitions"]
    assert (led["partition_index"], led["error_code"], led["error_message"]) == (0, 0, None)
    assert led["active_producers"] == [
        {
            "producer_id": 4000,
            "producer_epoch": 2,
            "last_sequence": 17,
            "last_timestamp": 1234,
            "coordinator_epoch": -1,
            "current_txn_start_offset": -1,
        }
    ]
    assert (moved["error_code"], moved["error_message"]) == (ErrorCode.NOT_LEADER_OR_FOLLOWER, "not here")
    assert unknown["error_code"] == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


# --- DeleteRecords -----------------------------------------------------------------------------
@pytest.mark.parametrize("version", versions("DeleteRecords"))
def test_records_are_deleted_by_each_leader(version: int) -> None:
    door = _door()

    def deleted(_target: Target, body: DeleteRecordsRequest) -> DeleteRecordsResponse:
        if body.offset == HIGH_WATERMARK:
            return DeleteRecordsResponse(log_start_offset=20)
        return DeleteRecordsResponse(ErrorCode.OFFSET_OUT_OF_RANGE, "beyond")

    door.workers[apis.DELETE_RECORDS] = deleted
    offsets = [{"partition_index": 0, "offset": -1}, {"partition_index": 1, "offset": 99}]
    wanted = [
        {"name": "orders", "partitions": offsets},
        {"name": "none", "partitions": [{"partition_index": 0, "offset": 5}]},
    ]
    orders, none = door.request("DeleteRecords", version, topics=wanted, timeout=7000)["topics"]
    assert [(each["low_watermark"], each["error_code"]) for each in orders["partitions"]] == [
        (20, 0),
        (-1, ErrorCode.OFFSET_OUT_OF_RANGE),
    ]
    assert [each["error_code"] for each in none["partitions"]] == [ErrorCode.UNKNOWN_TOPIC_OR_PARTITION]
    assert [body.timeout_ms for _, body in door.asked] == [7000, 7000]
