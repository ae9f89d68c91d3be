"""Produce, fetch and list offsets of real replicas on simulated disks."""

from __future__ import annotations

import tracemalloc
from collections.abc import Hashable
from typing import Any
from unittest import mock

import google_crc32c
import pytest

from raftlog import limits
from raftlog.errors import ErrorCode
from raftlog.protocol.envelope import Request
from raftlog.protocol.records import FetchResponse, ListOffsetsRequest
from raftlog.record.batch import HEADER_BYTES, BatchBuilder, decode
from raftlog.storage.index import MemoryIndex
from raftlog.storage.log import PartitionLog
from raftlog.types import EARLIEST_TIMESTAMP, LATEST_TIMESTAMP, CleanupPolicy, Flush
from tests.partition.harness import PLACE, TOPIC_ID, Cluster, Node, batch, fetch, produce
from tests.requests import request_of


def last_fetch(node: Any) -> tuple[FetchResponse, bytes | None]:
    return next((r, p) for _, r, p in reversed(node.answers) if isinstance(r, FetchResponse))


def test_a_single_replica_leads_in_its_first_turn() -> None:
    cluster = Cluster()
    cluster.settle()
    assert cluster.nodes[1].replica.leader_ready


def test_offsets_are_given_without_a_gap_and_read_back() -> None:
    cluster = Cluster()
    leader = cluster.leader()
    leader.request("c", produce(1), [batch(b"a", b"b")])
    leader.request("c", produce(2), [batch(b"c")])
    cluster.settle()
    assert [(r.correlation_id, r.error_code, r.base_offset) for r in leader.results()] == [(1, 0, 0), (2, 0, 2)]
    leader.request("c", fetch(0), [])
    cluster.settle()
    response, data = last_fetch(leader)
    assert response.high_watermark == 3
    assert [record.value for record in decode(data or b"")] == [b"a", b"b", b"c"]


@pytest.mark.parametrize(
    ("change", "frames", "code"),
    [
        ({"topic_id": b"another-topic-id"}, [batch(b"x")], ErrorCode.INCONSISTENT_TOPIC_ID),
        ({"partition": 3}, [batch(b"x")], ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        ({"acks": 2}, [batch(b"x")], ErrorCode.INVALID_REQUIRED_ACKS),
        ({}, [], ErrorCode.INVALID_REQUEST),
        ({}, [batch(b"x"), batch(b"y")], ErrorCode.INVALID_REQUEST),
        ({}, [batch(b"x")[:-1]], ErrorCode.CORRUPT_MESSAGE),
        ({}, [batch(b"x")[:HEADER_BYTES] + b"!" + batch(b"x")[HEADER_BYTES + 1 :]], ErrorCode.CORRUPT_MESSAGE),
        ({}, [batch(b"x")[:16] + b"\x01" + batch(b"x")[17:]], ErrorCode.UNSUPPORTED_FOR_MESSAGE_FORMAT),
        ({}, [batch(b"x" * 2_000_000)], ErrorCode.MESSAGE_TOO_LARGE),
    ],
)
def test_what_cannot_be_taken_is_refused_and_leaves_the_log_as_it_is(
    change: dict[str, Any], frames: list[bytes], code: ErrorCode
) -> None:
    cluster = Cluster()
    leader = cluster.leader()
    leader.request("c", produce(1, **change), frames)
    cluster.settle()
    assert [r.error_code for r in leader.results()] == [code]
    assert leader.log.log_end_offset == 0


def test_acks_0_is_never_answered() -> None:
    cluster = Cluster()
    leader = cluster.leader()
    leader.request("c", produce(1, acks=0), [batch(b"a")])
    cluster.settle(2.0)
    assert leader.results() == []
    assert leader.log.log_end_offset == 1


def test_acks_1_needs_only_the_leaders_disk_and_acks_all_a_majority() -> None:
    cluster = Cluster(3)
    leader = cluster.leader()
    cluster.away = set(cluster.nodes) - {leader.node_id}
    leader.request("c", produce(1, acks=1), [batch(b"one")])
    leader.request("c", produce(2, acks=-1), [batch(b"all")])
    cluster.settle()
    assert [(r.correlation_id, r.error_code) for r in leader.results()] == [(1, 0)]
    cluster.away = {min(cluster.away)}
    cluster.settle(0.5)
    assert [(r.correlation_id, r.error_code) for r in leader.results()] == [(1, 0), (2, 0)]


def test_a_follower_refuses_and_names_the_leader() -> None:
    cluster = Cluster(3)
    leader = cluster.leader()
    follower = next(node for node in cluster.nodes.values() if node is not leader)
    follower.request("c", produce(1), [batch(b"a")])
    follower.request("c", fetch(0), [])
    cluster.settle()
    [result] = follower.results()
    assert (result.error_code, result.leader_id) == (ErrorCode.NOT_LEADER_OR_FOLLOWER, leader.node_id)
    assert last_fetch(follower)[0].error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER


def test_what_waits_too_long_is_answered_once_with_an_open_outcome() -> None:
    cluster = Cluster(3)
    leader = cluster.leader()
    cluster.away = set(cluster.nodes) - {leader.node_id}
    leader.request("c", produce(1, timeout_ms=300), [batch(b"a")])
    cluster.settle(0.6)
    assert [r.error_code for r in leader.results()] == [ErrorCode.REQUEST_TIMED_OUT]
    cluster.away = set()
    cluster.settle(0.5)
    assert len(leader.results()) == 1
    assert leader.replica.high_watermark == 1  # it was committed after all: that is what "open" means


def test_leadership_that_is_lost_ends_what_waits_as_unknown() -> None:
    cluster = Cluster(3)
    old = cluster.leader()
    cluster.away = set(cluster.nodes) - {old.node_id}
    old.request("c", produce(1, timeout_ms=60_000), [batch(b"lost")])
    cluster.settle(0.1)
    cluster.away = {old.node_id}
    new = cluster.leader()
    new.request("d", produce(2), [batch(b"kept")])
    cluster.settle()
    cluster.away = set()
    cluster.settle(1.0)
    assert [r.error_code for r in old.results()] == [ErrorCode.REQUEST_TIMED_OUT]
    assert old.log.state.truncations == 1
    assert [r.value for r in decode(old.replica.read_committed(0, 1 << 20))] == [b"kept"]


def test_a_new_leader_does_not_serve_before_its_own_no_op_is_committed() -> None:
    cluster = Cluster(3)
    old = cluster.leader()
    old.request("c", produce(1), [batch(b"a")])
    cluster.settle()
    cluster.away = {old.node_id}
    cluster.queue.clear()
    for _ in range(400):
        cluster.clock.advance(0.01)
        for node in cluster.nodes.values():
            if node is old:
                continue
            node.replica.turn()
            if node.replica.is_leader and not node.replica.leader_ready:
                node.request("c", fetch(0), [])
                assert last_fetch(node)[0].error_code == ErrorCode.OFFSET_NOT_AVAILABLE
                return
        arriving, cluster.queue = cluster.queue, []
        for source, target, message, payload in arriving:
            if old.node_id not in (source, target):
                cluster.nodes[target].replica.on_raft(message, payload)
    pytest.fail("no election happened")


def test_a_fetch_waits_for_records_and_for_no_longer_than_it_said() -> None:
    cluster = Cluster()
    leader = cluster.leader()
    leader.request("c", fetch(0, max_wait_ms=200), [])
    leader.request("d", fetch(0, max_wait_ms=10_000), [])
    cluster.settle()
    assert leader.answers == []
    cluster.settle(0.3)
    assert [client for client, _, _ in leader.answers] == ["c"]
    leader.request("p", produce(1), [batch(b"a")])
    cluster.settle()
    assert [client for client, response, _ in leader.answers if isinstance(response, FetchResponse)] == ["c", "d"]


def _fetched(node: Node) -> list[tuple[Hashable, int]]:
    return [(client, len(data or b"")) for client, answer, data in node.answers if isinstance(answer, FetchResponse)]


def test_one_turn_serves_no_more_than_its_bytes_and_the_next_ones_the_rest_in_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "FETCHED_BYTES_PER_TURN", 25_000)
    cluster = Cluster(1)
    leader = cluster.leader()
    leader.request("p", produce(1), [batch(bytes(9_000))])
    cluster.settle()
    for number in range(8):
        leader.request(number, fetch(0), [])
    served = []
    while len(_fetched(leader)) < 8:
        assert leader.replica.next_wakeup_s() <= cluster.clock.monotonic_s(), "the next turn is due at once"
        before = len(_fetched(leader))
        leader.replica.turn()
        served.append(len(_fetched(leader)) - before)
    assert served == [3, 3, 2]
    assert [client for client, _ in _fetched(leader)] == list(range(8))


def test_a_fetch_that_wants_more_is_read_again_only_when_there_is_more() -> None:
    cluster = Cluster(1)
    leader = cluster.leader()
    leader.request("p", produce(1), [batch(b"a")])
    cluster.settle()
    with mock.patch.object(leader.log, "read", wraps=leader.log.read) as read:
        leader.request("c", fetch(0, min_bytes=200, max_wait_ms=60_000), [])
        cluster.settle(5.0)
        assert (read.call_count, _fetched(leader)) == (1, [])
        leader.request("p", produce(2), [batch(bytes(300))])
        cluster.settle()
        assert (read.call_count, len(_fetched(leader))) == (2, 1)


def test_a_fetch_that_the_next_batch_does_not_fit_into_does_not_wait_for_more() -> None:
    """Who is behind and wants much would be held up for its whole wait at each of those."""
    cluster = Cluster(1)
    leader = cluster.leader()
    for number, size in enumerate((10, 3000)):
        leader.request("p", produce(number), [batch(bytes(size))])
        cluster.settle()
    leader.request("c", fetch(0, min_bytes=2000, max_bytes=2000, max_wait_ms=60_000), [])
    cluster.settle()
    assert len(_fetched(leader)) == 1


def test_a_fetch_from_a_closed_segment_does_not_wait_for_what_cannot_come() -> None:
    cluster = Cluster(1, segment_bytes=1024)
    leader = cluster.leader()
    for number in range(20):
        leader.request("p", produce(number), [batch(bytes(200))])
        cluster.settle()
    leader.request("c", fetch(0, min_bytes=100_000, max_wait_ms=60_000), [])
    cluster.settle()
    assert len(_fetched(leader)) == 1
    leader.request("c", fetch(19, min_bytes=100_000, max_wait_ms=1_000), [])
    cluster.settle()
    assert len(_fetched(leader)) == 1
    cluster.settle(1.1)
    assert len(_fetched(leader)) == 2


def test_what_a_compacted_topic_has_to_look_into_counts_as_work_of_the_turn() -> None:
    cluster = Cluster(1, cleanup_policy=CleanupPolicy.COMPACT)
    leader = cluster.leader()
    builder = BatchBuilder("zstd")
    builder.append(1, b"key", bytes(4_000_000))
    frame = builder.build()
    assert len(frame) < 10_000
    leader.request("p", produce(1), [frame])
    assert leader.replica.unpacked_bytes > 4_000_000
    leader.replica.turn()
    assert leader.replica.unpacked_bytes == 0


def test_a_fetch_outside_the_log_is_out_of_range() -> None:
    cluster = Cluster()
    leader = cluster.leader()
    leader.request("c", fetch(1), [])
    leader.request("c", fetch(-5), [])
    cluster.settle()
    assert [r.error_code for _, r, _ in leader.answers] == [ErrorCode.OFFSET_OUT_OF_RANGE] * 2


def by_time(timestamp_ms: int) -> Request[ListOffsetsRequest]:
    return request_of(ListOffsetsRequest(timestamp_ms=timestamp_ms), **PLACE)


def test_offsets_by_time_and_at_both_ends() -> None:
    cluster = Cluster()
    leader = cluster.leader()
    leader.request("c", produce(1), [batch(b"a", b"b")])
    cluster.settle()
    leader.answers.clear()
    for number, timestamp_ms in enumerate((LATEST_TIMESTAMP, EARLIEST_TIMESTAMP, 0, 1_800_000_000_000, -7)):
        leader.request(number, by_time(timestamp_ms), [])
    cluster.settle()
    found = [(r.error_code, r.offset) for _, r, _ in sorted(leader.answers, key=lambda answer: answer[0])]
    assert found == [(0, 2), (0, 0), (0, 0), (0, -1), (ErrorCode.INVALID_REQUEST, -1)]


def test_a_full_disk_refuses_writes_loses_nothing_and_goes_on_when_there_is_room() -> None:
    cluster = Cluster()
    leader = cluster.leader()
    leader.request("c", produce(1), [batch(b"kept")])
    cluster.settle()
    leader.disk.full = True
    leader.request("c", produce(2), [batch(b"refused")])
    cluster.settle()
    assert leader.results()[-1].error_code == ErrorCode.KAFKA_STORAGE_ERROR
    assert "no room" in leader.replica.status().error
    leader.disk.full = False
    cluster.settle(1.2)
    leader.request("c", produce(3), [batch(b"taken")])
    cluster.settle()
    assert (leader.results()[-1].error_code, leader.results()[-1].base_offset) == (0, 1)
    assert leader.replica.status().error == ""


def test_a_follower_without_room_does_not_acknowledge_and_catches_up_later() -> None:
    cluster = Cluster(3)
    leader = cluster.leader()
    follower = next(node for node in cluster.nodes.values() if node is not leader)
    follower.disk.full = True
    leader.request("c", produce(1), [batch(b"a")])
    cluster.settle(1.0)
    # The other two are a majority, and one that takes nothing is not in sync.
    assert leader.results()[-1].error_code == 0
    assert follower.node_id not in leader.replica.status().in_sync
    assert follower.log.log_end_offset == 0
    follower.disk.full = False
    cluster.settle(3.0)
    assert follower.log.log_end_offset == 1


def test_a_follower_does_not_complain_of_its_disk_for_ever() -> None:
    cluster = Cluster(3)
    leader = cluster.leader()
    follower = next(node for node in cluster.nodes.values() if node is not leader)
    leader.request("c", produce(1), [batch(b"a")])
    follower.disk.full = True
    cluster.settle(3.0)
    assert "no room" in follower.replica.status().error
    follower.disk.full = False
    cluster.settle(3.0)
    assert follower.replica.status().error == ""


def test_a_graceful_stop_hands_leadership_over_without_an_election_time_out() -> None:
    cluster = Cluster(3)
    leader = cluster.leader()
    leader.replica.hand_over()
    cluster.settle()
    assert not leader.replica.is_leader
    assert any(node.replica.leader_ready for node in cluster.nodes.values() if node is not leader)


def test_a_leader_without_a_majority_stops_serving_within_two_seconds() -> None:
    cluster = Cluster(3)
    leader = cluster.leader()
    cluster.away = set(cluster.nodes) - {leader.node_id}
    cluster.settle(2.0)
    assert not leader.replica.is_leader


def test_the_commit_bound_is_written_within_a_second_also_when_load_stops() -> None:
    cluster = Cluster()
    leader = cluster.leader()
    leader.request("c", produce(1), [batch(b"a")])
    cluster.settle(1.0)
    on_disk = PartitionLog.open(
        disk=leader.disk,
        directory="orders-0",
        topic_id=TOPIC_ID,
        config=cluster.spec.config,
        flush=Flush.ALWAYS,
        clock=cluster.clock,
        index=lambda path: MemoryIndex(),
    )
    assert on_disk.state.commit_bound == leader.log.last_index


def test_an_idle_single_replica_still_looks_after_retention() -> None:
    cluster = Cluster(segment_bytes=1024, retention_ms=1000)
    leader = cluster.leader()
    for number in range(20):
        leader.request("c", produce(number), [batch(b"x" * 200)])
        cluster.settle()
    cluster.clock.advance(10.0)
    leader.replica.turn()
    assert leader.log.state.log_start_offset > 0


def test_a_batch_of_exactly_the_limit_is_taken_and_no_larger_one() -> None:
    limit = 5_000
    cluster = Cluster(max_record_bytes=limit)
    leader = cluster.leader()
    overhead = len(batch(bytes(4_900))) - 4_900
    for number, size in enumerate((limit, limit + 1)):
        frame = batch(bytes(size - overhead))
        assert len(frame) == size
        leader.request("c", produce(number), [frame])
    cluster.settle()
    assert {r.correlation_id: r.error_code for r in leader.results()} == {0: 0, 1: ErrorCode.MESSAGE_TOO_LARGE}
    (text,) = (r.error_text for r in leader.results() if r.error_code)
    assert "5001 bytes" in text and "5000" in text


def stamped(*timestamps_ms: int) -> bytes:
    builder = BatchBuilder()
    for timestamp_ms in timestamps_ms:
        builder.append(timestamp_ms, None, b"x" * 100, [])
    return builder.build()


def test_a_record_of_the_far_future_is_refused_and_says_why() -> None:
    limit_ms = 5_000
    cluster = Cluster(message_timestamp_after_max_ms=limit_ms)
    leader = cluster.leader()
    now_ms = cluster.clock.wall_ms()
    late = stamped(now_ms - 1, now_ms + limit_ms + 1, now_ms)
    for number, frame in enumerate((stamped(now_ms + limit_ms), late, stamped(now_ms * 1_000_000), stamped(-1), late)):
        leader.request("c", produce(number), [frame])
    cluster.settle()
    refused = {r.correlation_id: r.error_text for r in leader.results() if r.error_code == ErrorCode.INVALID_TIMESTAMP}
    assert set(refused) == {1, 2, 4}
    assert str(now_ms * 1_000_000) in refused[2] and str(limit_ms) in refused[2] and "milliseconds" in refused[2]
    assert leader.log.log_end_offset == 2


def test_a_batch_whose_time_is_that_of_an_append_is_not_a_producers() -> None:
    cluster = Cluster()
    leader = cluster.leader()
    frame = bytearray(batch(b"x"))
    frame[22] |= 0x08
    frame[17:21] = google_crc32c.value(bytes(frame[21:])).to_bytes(4, "big")
    leader.request("c", produce(1), [bytes(frame)])
    cluster.settle()
    assert [r.error_code for r in leader.results()] == [ErrorCode.INVALID_TIMESTAMP]


@pytest.mark.parametrize("timestamp_ms", [1_700_000_000_000_000_000, 2**62, -1])
def test_a_timestamp_that_cannot_be_right_does_not_stop_retention_nor_hasten_it(timestamp_ms: int) -> None:
    """As older versions took them: also after a restart, on whichever replica leads then."""
    cluster = Cluster(3, segment_bytes=1024, retention_ms=60_000, message_timestamp_after_max_ms=2**62)
    leader = cluster.leader()
    leader.request("c", produce(1), [stamped(timestamp_ms)])
    for number in range(40):
        leader.request("c", produce(number + 2), [stamped(cluster.clock.wall_ms())])
        cluster.settle(0.05)
    assert all(result.error_code == 0 for result in leader.results())
    cluster.settle(20)
    cluster.power_failure(None)
    leader = cluster.leader()
    cluster.settle(20)
    assert {node.log.state.log_start_offset for node in cluster.nodes.values()} == {0}
    cluster.settle(30)
    assert min(node.log.state.log_start_offset for node in cluster.nodes.values()) > 20


def compressed(compression: str, mebibytes: int, key: bytes | None = None) -> bytes:
    builder = BatchBuilder(compression, max_bytes=1 << 30)
    for _ in range(mebibytes):
        builder.append(1_700_000_000_000, key, bytes(1 << 20), [])
    return builder.build()


@pytest.mark.parametrize("compression", ["gzip", "snappy", "lz4", "zstd"])
def test_a_batch_that_no_consumer_could_read_is_refused_and_what_follows_is_taken_in_order(compression: str) -> None:
    cluster = Cluster(max_record_bytes=64 << 20)
    leader = cluster.leader()
    frames = [compressed(compression, size) for size in (130, 100, 1)] + [batch(b"behind")]
    for number, frame in enumerate(frames):
        leader.request("c", produce(number, timeout_ms=300_000), [frame])
    leader.request("other", produce(9), [batch(b"other")])
    cluster.settle()
    assert leader.replica.unpacked_bytes <= limits.INSPECTED_BYTES_PER_TURN * 2
    for _ in range(400):
        cluster.settle()
    results = leader.results()
    assert [(r.correlation_id, r.error_code) for r in results if r.error_code] == [(0, ErrorCode.MESSAGE_TOO_LARGE)]
    (text,) = (r.error_text for r in results if r.error_code)
    assert str(limits.DECOMPRESSED_BYTES_MAX) in text
    offsets = [r.base_offset for r in results if r.correlation_id in (1, 2, 3)]
    assert len(offsets) == 3 and offsets == sorted(offsets)
    assert {r.correlation_id for r in results} == {0, 1, 2, 3, 9}


def test_what_is_looked_into_when_leadership_is_lost_is_refused_and_never_written() -> None:
    cluster = Cluster(3, cleanup_policy=CleanupPolicy.COMPACT)
    leader = cluster.leader()
    leader.request("c", produce(1, timeout_ms=300_000), [compressed("zstd", 3, b"key")])
    leader.replica.turn()
    assert not leader.results()
    cluster.away = {node for node in cluster.nodes if node != leader.node_id}
    with mock.patch("raftlog.partition.batch_inspection.INSPECTED_BYTES_PER_TURN", 0):
        cluster.settle(5)
    assert [r.error_code for r in leader.results()] == [ErrorCode.NOT_LEADER_OR_FOLLOWER]
    assert leader.log.log_end_offset == 0


def test_of_many_batches_that_are_looked_into_a_few_are_unpacked_at_a_time() -> None:
    cluster = Cluster(cleanup_policy=CleanupPolicy.COMPACT)
    leader = cluster.leader()
    frame = compressed("zstd", 32, b"key")
    clients = range(20)
    tracemalloc.start()
    for client in clients:
        leader.request(client, produce(client, timeout_ms=300_000), [frame])
    with mock.patch("raftlog.partition.batch_inspection.INSPECTED_BYTES_PER_TURN", 100_000):
        for _ in clients:
            leader.replica.turn()
        _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert not leader.results()
    assert peak_bytes < limits.INSPECTED_BYTES_MAX * 2
    for _ in clients:
        cluster.settle()
    assert sorted(r.correlation_id for r in leader.results() if not r.error_code) == list(clients)
