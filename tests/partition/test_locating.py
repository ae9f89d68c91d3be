"""Where batches lie, for who sends them from the file: what is told stays true, whatever becomes of the log."""

from __future__ import annotations

from typing import Any

import pytest

from raftlog import limits
from raftlog.errors import ErrorCode
from raftlog.protocol.records import LocateRequest, LocateResponse, NoteSentRequest
from raftlog.record.batch import check_batch, decode, split
from raftlog.types import CleanupPolicy
from tests.partition.compacted import compacted_cluster, rounds, write
from tests.partition.harness import PLACE, Cluster, Node, batch, fetch, produce
from tests.requests import request_of


def _put(cluster: Cluster, leader: Node, count: int, size: int = 300) -> None:
    for number in range(count):
        leader.request("p", produce(number), [batch(b"%d" % number + bytes(size))])
        cluster.settle()
    assert {result.error_code for result in leader.results()} == {0}
    leader.answers.clear()


def _locate(node: Node, offset: int, max_bytes: int = 1 << 20, **known: int) -> LocateResponse:
    node.request("door", request_of(LocateRequest(offset, max_bytes, **known), 7, **PLACE), [])
    node.cluster.settle()
    answer = node.answers.pop()[1]
    assert isinstance(answer, LocateResponse)
    return answer


def _open(node: Node, place: LocateResponse) -> Any:
    file = node.disk.open(place.path)
    assert file.inode() == place.inode
    return file


def _fetched(node: Node, offset: int, max_bytes: int) -> bytes:
    node.request("c", fetch(offset, max_bytes=max_bytes, skip_empty=True), [])
    node.cluster.settle()
    return bytes(node.answers.pop()[2])


@pytest.mark.parametrize("max_bytes", [1, 1000, 40_000, 1 << 20])
@pytest.mark.parametrize("restarted", [False, True])
def test_what_is_located_is_what_a_fetch_answers_or_the_beginning_of_it(max_bytes: int, restarted: bool) -> None:
    """From the memory of a leader, and from a log that was opened anew, whose index is all that there is."""
    cluster = Cluster(segment_bytes=200_000)
    _put(cluster, cluster.leader(), 900)
    if restarted:
        cluster.settle(2.0)
        cluster.power_failure(None)
    leader = cluster.leader()
    assert leader.log.segment_count > 1
    offset = 0
    while offset < 900:
        place = _locate(leader, offset, max_bytes)
        assert (place.error_code, place.high_watermark) == (ErrorCode.NONE, 900)
        data = _open(leader, place).read(place.position, place.length)
        wanted = _fetched(leader, offset, max_bytes)
        assert wanted.startswith(data) and len(data) > len(wanted) - 40_000
        headers = [header for _, header in split(data)]
        assert headers[0].base_offset == offset
        offset = headers[-1].next_offset


@pytest.mark.parametrize("max_bytes", [1, 10_000, 40_000])
def test_places_that_follow_are_those_that_would_be_told_one_by_one(max_bytes: int) -> None:
    cluster = Cluster(segment_bytes=200_000)
    _put(cluster, cluster.leader(), 900)
    leader = cluster.leader()
    offset, told = 500, 0
    while offset < 900 and told < 60:
        first = _locate(leader, offset, max_bytes, ahead=1000)
        assert len(first.following) == limits.LOCATED_AHEAD_MAX or first.following[-1].next_offset == 900
        for place in (first, *first.following):
            single = _locate(leader, offset, max_bytes)
            assert single.following == []
            assert place.next_offset == single.next_offset
            assert (place.path, place.position, place.length) == (single.path, single.position, single.length)
            *_, (_, last) = split(_open(leader, single).read(single.position, single.length))
            assert last.next_offset == single.next_offset
            offset = place.next_offset
            told += 1


def test_what_is_not_committed_is_not_located() -> None:
    cluster = Cluster(3)
    leader = cluster.leader()
    _put(cluster, leader, 3)
    leader.request("p", produce(9), [batch(b"not yet")])
    leader.request("door", request_of(LocateRequest(1, 1 << 20), 7, **PLACE), [])
    leader.request("door", request_of(LocateRequest(3, 1 << 20), 8, **PLACE), [])
    leader.replica.turn()
    first, second = (answer for _, answer, _ in leader.answers)
    assert leader.log.log_end_offset == 4
    data = _open(leader, first).read(first.position, first.length)
    assert [record.offset for record in decode(data)] == [1, 2]
    assert (second.error_code, second.length, second.high_watermark) == (ErrorCode.NONE, 0, 3)


def test_what_cannot_be_read_is_not_located() -> None:
    cluster = Cluster(3, segment_bytes=1024)
    leader = cluster.leader()
    _put(cluster, leader, 20)
    leader.replica.delete_head(5)
    assert _locate(leader, 4).error_code == ErrorCode.OFFSET_OUT_OF_RANGE
    assert _locate(leader, 21).error_code == ErrorCode.OFFSET_OUT_OF_RANGE
    assert _locate(leader, 6, leader_epoch=leader.replica.leader_epoch + 1).error_code == ErrorCode.UNKNOWN_LEADER_EPOCH
    follower = next(node for node in cluster.nodes.values() if node is not leader)
    assert _locate(follower, 6).error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER


def test_no_place_begins_with_an_empty_batch() -> None:
    cluster = compacted_cluster(1)
    write(cluster, rounds(50))
    cluster.settle(3.0)
    leader = cluster.leader()
    leader.answers.clear()
    place = _locate(leader, 3)
    assert next(decode(_open(leader, place).read(place.position, place.length))).offset > 30


def test_a_place_stays_true_when_its_segment_is_rewritten_or_removed() -> None:
    cluster = Cluster(cleanup_policy=CleanupPolicy.COMPACT | CleanupPolicy.DELETE, segment_bytes=1024)
    leader = cluster.leader()
    write(cluster, rounds(3))
    leader.answers.clear()
    place = _locate(leader, 0)
    file, before = _open(leader, place), _fetched(leader, 0, 1 << 20)
    write(cluster, rounds(60))
    cluster.settle(3.0)
    leader.answers.clear()
    again = _locate(leader, 0)
    assert (again.path, again.inode) != (place.path, place.inode), "who has the file open asks for its number again"
    assert file.read(place.position, place.length) == before
    leader.replica.delete_head(50)
    cluster.settle(1.0)
    assert file.read(place.position, place.length) == before


def test_what_was_located_and_is_cut_with_consent_stays_in_the_file_that_was_named() -> None:
    """An accepted loss takes back what was committed: others come to stand at the same place, of another file."""
    cluster = Cluster(retention_ms=-1)
    leader = cluster.leader()
    _put(cluster, leader, 10)
    place = _locate(leader, 0)
    file, before = _open(leader, place), _fetched(leader, 0, 1 << 20)
    log = leader.log
    log.state.lower_commit_bound(4)
    log.persist()
    log.truncate_from(7)
    assert log.log_end_offset == 4
    kept = log.read(0, 1 << 20, 4)
    assert len(kept) < len(before) and before.startswith(kept)
    assert file.read(place.position, place.length) == before
    assert log.segments.in_order[-1].file.inode() != place.inode
    assert not [path for path in leader.disk.files() if path.endswith(".cleaned")]
    cluster.power_failure(None)
    assert cluster.nodes[1].log.read(0, 1 << 20, 4) == kept


def test_a_cut_of_what_was_never_located_copies_nothing() -> None:
    cluster = Cluster(retention_ms=-1)
    leader = cluster.leader()
    _put(cluster, leader, 5)
    place = _locate(leader, 0)
    log = leader.log
    log.append_as_leader([batch(b"x")], [check_batch(batch(b"x"))], log.last_term)
    log.truncate_from(log.last_index)
    assert log.segments.in_order[-1].file.inode() == place.inode


def test_places_that_are_told_are_not_counted_and_what_was_sent_is() -> None:
    cluster = Cluster()
    leader = cluster.leader()
    _put(cluster, leader, 300)
    assert _locate(leader, 0, 10_000, ahead=8).following
    assert leader.replica.fetched_bytes == 0
    fetched = len(_fetched(leader, 0, 10_000))
    assert leader.replica.fetched_bytes == fetched
    for node in cluster.nodes.values():
        before = node.replica.fetched_bytes
        node.request("door", request_of(NoteSentRequest(700), 8, **PLACE), [])
        node.request("door", request_of(NoteSentRequest(-5), 9, **PLACE), [])
        assert node.replica.fetched_bytes == before + 700


def test_what_was_sent_of_another_partition_is_not_counted() -> None:
    leader = Cluster().leader()
    leader.request("door", request_of(NoteSentRequest(700), 8, **{**PLACE, "partition": 1}), [])
    assert leader.replica.fetched_bytes == 0
