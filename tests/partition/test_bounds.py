"""ListOffsets of the newest record, and where leader epochs end."""

from __future__ import annotations

from typing import Any

import pytest

from raftlog import limits
from raftlog.errors import ErrorCode
from raftlog.protocol import apis
from raftlog.protocol.envelope import encode_response
from raftlog.protocol.records import (
    ActiveProducer,
    DescribeProducersRequest,
    DescribeProducersResponse,
    ListOffsetsRequest,
    ListOffsetsResponse,
    OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse,
)
from raftlog.record.batch import encode, numbered, read_header
from raftlog.types import EARLIEST_LOCAL_TIMESTAMP, EARLIEST_TIMESTAMP, LATEST_TIMESTAMP, NEWEST_TIMESTAMP
from tests.partition.compacted import compacted_cluster
from tests.partition.harness import PLACE, Cluster, Node, produce
from tests.requests import request_of


def _put(cluster: Cluster, *batches: list[int], compression: str = "none") -> Node:
    """Each a batch of records with these timestamps."""
    leader = cluster.leader()
    for number, times in enumerate(batches):
        leader.request("p", produce(number), [encode([(each, None, b"") for each in times], compression)])
        cluster.settle()
    assert {result.error_code for result in leader.results()} <= {0}
    leader.answers.clear()
    return leader


def _offset(node: Node, timestamp_ms: int) -> tuple[int, int]:
    response = _listed(node, timestamp_ms)
    assert response.error_code == ErrorCode.NONE
    return response.offset, response.timestamp_ms


def _listed(node: Node, timestamp_ms: int) -> ListOffsetsResponse:
    node.request("c", request_of(ListOffsetsRequest(timestamp_ms=timestamp_ms), 7, **PLACE), [])
    node.cluster.settle()
    answer = node.answers.pop()[1]
    assert isinstance(answer, ListOffsetsResponse)
    return answer


@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_the_newest_record_is_the_first_with_the_largest_timestamp(compression: str) -> None:
    leader = _put(Cluster(), [10, 30, 20], [50, 70, 60, 70], [70], [40], compression=compression)
    assert _offset(leader, NEWEST_TIMESTAMP) == (4, 70)


def test_no_record_is_the_newest_of_an_empty_log() -> None:
    assert _offset(Cluster().leader(), NEWEST_TIMESTAMP) == (-1, -1)


def test_the_newest_record_is_found_over_segments_and_restarts() -> None:
    cluster = Cluster(segment_bytes=1024, retention_ms=-1)
    leader = _put(cluster, *([number % 50] * 5 for number in range(100)))
    assert leader.log.segment_count > 5
    assert _offset(leader, NEWEST_TIMESTAMP) == (245, 49)
    cluster.power_failure(None)
    leader = cluster.leader()
    assert _offset(leader, NEWEST_TIMESTAMP) == (245, 49)


def test_what_was_deleted_is_not_the_newest() -> None:
    cluster = Cluster(segment_bytes=1024, retention_ms=-1)
    leader = _put(cluster, [90, 91, 92], *([number] for number in range(60)))
    leader.replica.delete_head(2)
    cluster.settle()
    assert _offset(leader, NEWEST_TIMESTAMP) == (2, 92)
    leader.replica.delete_head(3)
    cluster.settle()
    assert _offset(leader, NEWEST_TIMESTAMP) == (62, 59)


def test_what_is_not_committed_is_not_the_newest() -> None:
    cluster = Cluster(3)
    leader = _put(cluster, [10, 20], [15])
    leader.request("p", produce(9), [encode([(99, None, b"")])])
    leader.replica.turn()
    assert leader.log.log_end_offset == 4 and leader.replica.high_watermark == 3
    search = leader.log.search_time(NEWEST_TIMESTAMP)
    while not search.done:
        search.step(0, leader.replica.high_watermark, 1)
    assert search.found == (1, 20)


def test_the_newest_record_is_searched_for_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SEARCHED_RECORDS_PER_TURN", 2)
    leader = _put(Cluster(), *([number] * 10 for number in range(30)))
    assert _offset(leader, NEWEST_TIMESTAMP) == (290, 29)


def test_compaction_leaves_the_time_of_the_newest_record_that_stays() -> None:
    cluster = compacted_cluster(1)
    leader = cluster.leader()
    records = [(99, b"twice"), (50, b"kept"), *[(1, b"often")] * 40, (7, b"twice"), *[(1, b"often")] * 20]
    for number, (timestamp_ms, key) in enumerate(records):
        leader.request("p", produce(number), [encode([(timestamp_ms, key, bytes(60))])])
        cluster.settle()
    leader.answers.clear()
    cluster.settle(3.0)
    assert _offset(leader, NEWEST_TIMESTAMP) == (1, 50)


def test_a_shrunk_batch_says_the_largest_time_of_what_it_holds() -> None:
    cluster = compacted_cluster(1)
    leader = cluster.leader()
    leader.request("p", produce(1), [encode([(99, b"a", b""), (50, b"b", b"")])])
    for number in range(40):
        leader.request("p", produce(2 + number), [encode([(3, b"a", bytes(60))])])
        cluster.settle()
    leader.answers.clear()
    cluster.settle(3.0)
    assert read_header(leader.log.read(0, 1, 2)).max_timestamp_ms == 50
    assert _offset(leader, NEWEST_TIMESTAMP) == (1, 50)


def test_the_earliest_local_offset_is_the_earliest() -> None:
    cluster = Cluster(segment_bytes=1024, retention_ms=-1)
    leader = _put(cluster, [1], [2], [3])
    leader.replica.delete_head(1)
    cluster.settle()
    assert _offset(leader, EARLIEST_LOCAL_TIMESTAMP) == _offset(leader, EARLIEST_TIMESTAMP) == (1, -1)


# --- leader epochs -------------------------------------------------------------------------------
def _three_epochs() -> tuple[Cluster, Node, list[tuple[int, int]]]:
    """With two records each; (epoch, its first offset) of each."""
    cluster = Cluster(retention_ms=-1)
    epochs = []
    for number in range(3):
        leader = cluster.leader()
        epochs.append((leader.replica.leader_epoch, 2 * number))
        _put(cluster, [1, 2])
        if number < 2:
            cluster.settle(2.0)
            cluster.power_failure(None)
    return cluster, cluster.leader(), epochs


def _end_of(node: Node, epoch: int, leader_epoch: int = -1) -> tuple[int, int, int]:
    question: Any = OffsetForLeaderEpochRequest(epoch, leader_epoch)
    node.request("c", request_of(question, 7, **PLACE), [])
    node.cluster.settle()
    answer = node.answers.pop()[1]
    assert isinstance(answer, OffsetForLeaderEpochResponse)
    return answer.error_code, answer.epoch, answer.end_offset


def test_an_epoch_ends_where_the_next_one_begins() -> None:
    _, leader, ((first, _), (second, second_start), (third, third_start)) = _three_epochs()
    assert _end_of(leader, first) == (0, first, second_start)
    assert _end_of(leader, second) == (0, second, third_start)
    assert _end_of(leader, third) == (0, third, 6)
    assert _end_of(leader, third + 1) == (0, -1, -1), "nobody has led in it as far as this leader knows"
    assert _end_of(leader, -1) == (0, -1, -1)
    assert _end_of(leader, third, third + 1)[0] == ErrorCode.UNKNOWN_LEADER_EPOCH


def test_an_epoch_without_a_leader_ends_where_the_one_before_it_does() -> None:
    cluster = Cluster(1)
    leader = _put(cluster, [1, 2])
    epoch = leader.replica.leader_epoch
    leader.log.state.set_term(epoch + 4, -1)
    leader.log.persist()
    cluster.power_failure(None)
    leader = _put(cluster, [3])
    assert leader.replica.leader_epoch == epoch + 5
    assert [_end_of(leader, epoch + extra) for extra in (0, 1, 4)] == [(0, epoch, 2)] * 3


def test_an_epoch_of_which_nothing_is_left_ends_where_the_log_begins() -> None:
    cluster = Cluster(segment_bytes=1024, retention_ms=-1)
    leader = _put(cluster, *([1] * 20 for _ in range(20)))
    epoch = leader.replica.leader_epoch
    cluster.settle(2.0)
    cluster.power_failure(None)
    leader = _put(cluster, *([1] * 20 for _ in range(20)))
    leader.replica.delete_head(790)
    cluster.settle()
    assert leader.log.state.horizon_index > 24, "segments of the second epoch are gone"
    begins = leader.log.state.values.horizon_offset
    assert 400 < begins <= 790
    assert _end_of(leader, epoch) == (0, epoch, begins), "the next one is known from there on"
    assert _end_of(leader, leader.replica.leader_epoch) == (0, leader.replica.leader_epoch, 800)


def test_an_offset_comes_with_the_epoch_in_which_it_was_written() -> None:
    _, leader, ((first, _), (second, _), (third, _)) = _three_epochs()
    assert _listed(leader, EARLIEST_TIMESTAMP).record_epoch == first
    assert _listed(leader, LATEST_TIMESTAMP).record_epoch == third
    assert _listed(leader, 2).record_epoch == first
    assert leader.log.epoch_of_offset(3) == second
    answer = _listed(leader, 1000)
    assert (answer.offset, answer.record_epoch, answer.leader_epoch) == (-1, -1, third)


def test_a_follower_does_not_say_where_epochs_end() -> None:
    cluster = Cluster(3)
    leader = _put(cluster, [1])
    follower = next(node for node in cluster.nodes.values() if node is not leader)
    assert _end_of(follower, 1)[0] == ErrorCode.NOT_LEADER_OR_FOLLOWER


# --- producers -----------------------------------------------------------------------------------
def _producers(node: Node) -> DescribeProducersResponse:
    node.request("c", request_of(DescribeProducersRequest(), 7, **PLACE), [])
    node.cluster.settle()
    answer = node.answers.pop()[1]
    assert isinstance(answer, DescribeProducersResponse)
    return answer


def test_the_producers_that_the_log_remembers_are_told() -> None:
    cluster = Cluster()
    leader = cluster.leader()
    assert _producers(leader).producers == []
    for number, (producer_id, epoch, sequence) in enumerate(((7, 0, 0), (9, 3, 0), (7, 0, 2))):
        frame = numbered(encode([(1, None, b""), (2, None, b"")]), producer_id, epoch, sequence)
        leader.request("p", produce(number), [frame])
        cluster.settle()
    cluster.settle(1.0)
    told = _producers(leader).producers
    assert [(each.producer_id, each.producer_epoch, each.last_sequence) for each in told] == [(9, 3, 1), (7, 0, 3)]
    assert all(0 <= cluster.clock.wall_ms() - each.last_ms < 5_000 for each in told)


def test_the_most_producers_that_there_are_fit_a_header() -> None:
    producers = [
        ActiveProducer(producer_id=2**62 + n, producer_epoch=2**15 - 1, last_sequence=2**31 - 1, last_ms=2**62)
        for n in range(limits.PRODUCERS_MAX)
    ]
    response = DescribeProducersResponse(producers=producers)
    assert len(encode_response(apis.DESCRIBE_PRODUCERS, 1, response)) < limits.HEADER_BYTES_MAX
