"""LogAppendTime: the leader's time is that of all records, on every replica, whatever their producer said."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from raftlog.errors import ErrorCode
from raftlog.protocol.records import ListOffsetsRequest
from raftlog.record.batch import BatchBuilder, check_batch, check_crc, decode, numbered, read_header, with_append_time
from raftlog.record.compression import COMPRESSIONS
from raftlog.types import NEWEST_TIMESTAMP, CleanupPolicy, TimestampType, TopicConfig
from tests.partition.harness import PLACE, Cluster, Node, fetch, produce
from tests.requests import request_of

FAR_MS = 2**53  # no clock is there


def _batch(*times: int, compression: str = "none", key: bytes | None = None) -> bytes:
    builder = BatchBuilder(compression)
    for number, timestamp_ms in enumerate(times):
        builder.append(timestamp_ms, key, b"%d" % number + bytes(50), [("h", None)])
    return builder.build()


def _cluster(nodes: int = 1, **config: Any) -> tuple[Cluster, Node]:
    cluster = Cluster(nodes, **{"message_timestamp_type": TimestampType.LOG_APPEND_TIME, **config})
    return cluster, cluster.leader()


def _put(cluster: Cluster, leader: Node, *frames: bytes | memoryview, acks: int = -1) -> int:
    """When they were appended."""
    now_ms = cluster.clock.wall_ms()
    for number, frame in enumerate(frames):
        leader.request("p", produce(number, acks), [frame])
    cluster.settle()
    return now_ms


def _held(node: Node, offset: int = 0) -> bytes:
    data: bytes = node.log.read(offset, 1 << 20, node.log.log_end_offset)
    return data


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("writable", [False, True])
def test_a_batch_says_its_leaders_time_under_a_checksum_that_matches(compression: str, writable: bool) -> None:
    frame = _batch(5, 900, 7, compression=compression)
    given: Any = memoryview(bytearray(frame)) if writable else frame
    header = check_batch(given)
    changed, told = with_append_time(given, header, 1234)
    assert (changed is given) == writable
    assert read_header(changed) == told
    assert check_crc(changed, 0, told)
    assert (told.attributes, told.max_timestamp_ms) == (header.attributes | 8, 1234)
    assert told[7] == 5, "the time of its first record stays, as in Kafka"
    before, after = list(decode(frame)), list(decode(changed))
    assert [record.timestamp_ms for record in after] == [1234] * 3
    assert [(each.key, each.value, each.headers) for each in after] == [
        (each.key, each.value, each.headers) for each in before
    ]


@pytest.mark.parametrize("acks", [1, -1])
def test_all_replicas_hold_the_leaders_time_and_the_producer_is_told(acks: int) -> None:
    cluster, leader = _cluster(3)
    now_ms = _put(cluster, leader, _batch(1, FAR_MS), memoryview(bytearray(_batch(2))), acks=acks)
    cluster.settle(1.0)
    assert [(result.error_code, result.append_ms) for result in leader.results()] == [(0, now_ms)] * 2
    assert [record.timestamp_ms for record in decode(_held(leader))] == [now_ms] * 3
    assert len({_held(node) for node in cluster.nodes.values()}) == 1


def test_a_topic_with_the_producers_time_says_none() -> None:
    cluster, leader = _cluster(message_timestamp_type=TimestampType.CREATE_TIME)
    _put(cluster, leader, _batch(1))
    assert [(result.error_code, result.append_ms) for result in leader.results()] == [(0, -1)]
    assert next(decode(_held(leader))).timestamp_ms == 1


def test_a_batch_that_comes_again_later_is_the_same_batch() -> None:
    cluster, leader = _cluster()
    frame = numbered(_batch(1), 7, 0, 0)
    now_ms = _put(cluster, leader, frame, frame)
    cluster.settle(1.0)
    _put(cluster, leader, frame)
    assert {(result.error_code, result.base_offset) for result in leader.results()} == {(0, 0)}
    assert [record.timestamp_ms for record in decode(_held(leader))] == [now_ms]


def test_a_producer_may_not_give_this_type_itself() -> None:
    cluster, leader = _cluster()
    frame, _ = with_append_time(_batch(1), read_header(_batch(1)), 5)
    _put(cluster, leader, bytes(frame))
    assert [result.error_code for result in leader.results()] == [ErrorCode.INVALID_TIMESTAMP]


def test_records_are_found_by_their_leaders_time() -> None:
    cluster, leader = _cluster()
    times = []
    for _ in range(3):
        times.append(_put(cluster, leader, _batch(FAR_MS, 1)))
        cluster.clock.advance(5)
    cluster.settle(1.0)
    for asked, found in ((times[1], (2, times[1])), (times[1] + 1, (4, times[2])), (NEWEST_TIMESTAMP, (4, times[2]))):
        leader.request("c", request_of(ListOffsetsRequest(timestamp_ms=asked), 7, **PLACE), [])
        cluster.settle()
        answer = leader.answers.pop()[1]
        assert (answer.offset, answer.timestamp_ms) == found


def test_compaction_keeps_the_leaders_time() -> None:
    cluster, leader = _cluster(cleanup_policy=CleanupPolicy.COMPACT, segment_bytes=1024)
    now_ms = _put(cluster, leader, _batch(1, 2, key=b"a"), _batch(3, key=b"b"))
    for _ in range(20):
        cluster.clock.advance(1)
        _put(cluster, leader, _batch(1, key=b"a"))
    cluster.settle(3.0)
    leader.request("c", fetch(0, skip_empty=True), [])
    cluster.settle()
    first = next(decode(leader.answers.pop()[2]))
    assert (first.key, first.timestamp_ms) == (b"b", now_ms)


def test_the_type_may_change_while_records_come() -> None:
    cluster, leader = _cluster(message_timestamp_type=TimestampType.CREATE_TIME)
    _put(cluster, leader, _batch(1))
    config = TopicConfig(message_timestamp_type=TimestampType.LOG_APPEND_TIME)
    leader.replica.set_config(msgspec.structs.replace(cluster.spec, config=config))
    now_ms = _put(cluster, leader, _batch(1))
    assert [record.timestamp_ms for record in decode(_held(leader))] == [1, now_ms]
