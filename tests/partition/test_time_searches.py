"""A question by time goes on over many turns, and other requests with it."""

from __future__ import annotations

from typing import Any

import pytest

from raftlog import limits
from raftlog.errors import ErrorCode
from raftlog.protocol.records import DeleteRecordsRequest, FetchResponse, ListOffsetsRequest, ListOffsetsResponse
from raftlog.record.batch import encode
from tests.partition.harness import PLACE, Cluster, Node, batch, fetch, produce
from tests.requests import request_of

RECORDS = 40_000
LAST_MS = 1_000 + RECORDS - 1


def _cluster(nodes: int = 1, **config: int) -> tuple[Cluster, Node]:
    """With one batch of many records, which is small."""
    cluster = Cluster(nodes, max_record_bytes=1 << 20, **config)
    leader = cluster.leader()
    frame = encode([(1_000 + number, None, b"") for number in range(RECORDS)], "zstd")
    leader.request("p", produce(1), [frame])
    cluster.settle()
    assert [result.error_code for result in leader.results()] == [0]
    leader.answers.clear()
    return cluster, leader


def _ask(node: Node, timestamp_ms: int, client: int = 1) -> None:
    node.request(client, request_of(ListOffsetsRequest(timestamp_ms=timestamp_ms), **PLACE), [])


def _answers(node: Node) -> list[tuple[Any, int, int]]:
    return [
        (client, each.error_code, each.offset)
        for client, each, _ in node.answers
        if isinstance(each, ListOffsetsResponse)
    ]


def _turns_until_answered(node: Node, count: int) -> int:
    for turn in range(1000):
        if len(_answers(node)) == count:
            return turn
        assert node.replica.next_wakeup_s() <= node.cluster.clock.monotonic_s(), "nothing would come of it"
        node.replica.turn()
    raise AssertionError("no answer")


def test_others_are_served_while_a_time_is_searched_for() -> None:
    _, leader = _cluster()
    _ask(leader, LAST_MS)
    leader.replica.turn()
    leader.request("p", produce(2), [batch(b"x")])
    leader.request("f", fetch(0), [])
    _ask(leader, 1_500, 2)
    leader.replica.turn()
    assert [result.base_offset for result in leader.results()] == [RECORDS]
    assert any(isinstance(answer, FetchResponse) for _, answer, _ in leader.answers)
    assert _turns_until_answered(leader, 1) <= 2
    assert _answers(leader) == [(2, 0, 500)], "a short one does not wait for a long one"
    turns = _turns_until_answered(leader, 2)
    assert turns >= RECORDS // limits.SEARCHED_RECORDS_PER_TURN - 5
    assert _answers(leader)[1] == (1, 0, RECORDS - 1)


def test_who_asks_again_adds_no_work() -> None:
    _, leader = _cluster()
    _ask(leader, LAST_MS)
    alone = _turns_until_answered(leader, 1)
    leader.answers.clear()
    for number in range(10):
        _ask(leader, LAST_MS, number)
        leader.replica.turn()
    assert _turns_until_answered(leader, 10) + 10 <= alone + 2
    assert sorted(_answers(leader)) == [(number, 0, RECORDS - 1) for number in range(10)]


def test_of_many_searches_two_hold_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    _, leader = _cluster()
    for number in range(20):
        _ask(leader, LAST_MS - number, number)
    for _ in range(5):
        leader.replica.turn()
    searches = leader.replica._bounds._searches._asked.values()
    assert sum(asked.search._header is not None for asked in searches) == limits.TIME_SEARCHES_AT_ONCE
    _turns_until_answered(leader, 20)
    assert sorted(_answers(leader)) == [(number, 0, RECORDS - 1 - number) for number in range(20)]
    monkeypatch.setattr(limits, "WAITING_FETCHES_MAX", 5)
    leader.answers.clear()
    for number in range(8):
        _ask(leader, LAST_MS, number)
        leader.replica.turn()
    _turns_until_answered(leader, 8)
    refused = [number for number, code, _ in _answers(leader) if code == ErrorCode.THROTTLING_QUOTA_EXCEEDED]
    assert refused == [5, 6, 7]


def test_records_that_are_deleted_meanwhile_are_not_found() -> None:
    cluster, leader = _cluster()
    leader.request("p", produce(2), [encode([(LAST_MS + 5, None, b"x")])])
    _ask(leader, LAST_MS)
    leader.replica.turn()
    delete = request_of(DeleteRecordsRequest(offset=RECORDS), 5, **PLACE)
    leader.request("c", delete, [])
    cluster.settle()
    assert _answers(leader) == [(1, 0, RECORDS)]


def test_records_that_come_meanwhile_are_found() -> None:
    cluster, leader = _cluster()
    _ask(leader, LAST_MS + 5)
    leader.request("p", produce(2), [encode([(LAST_MS + 9, None, b"x")])])
    cluster.settle()
    assert _answers(leader) == [(1, 0, RECORDS)]


def test_a_search_ends_with_the_leadership() -> None:
    cluster, leader = _cluster(3)
    _ask(leader, LAST_MS)
    for _ in range(10):
        leader.replica.turn()
        arriving, cluster.queue = cluster.queue, []
        for _, target, message, payload in arriving:
            cluster.nodes[target].replica.on_raft(message, payload)
            cluster.nodes[target].replica.turn()
        if leader.replica._bounds._searches.count:
            break
    assert not _answers(leader)
    follower = next(node for node in cluster.nodes.values() if node is not leader)
    cluster.away = {leader.node_id}
    cluster.settle(4)
    cluster.away = set()
    cluster.queue.clear()
    assert follower.replica.leader_epoch > leader.replica.leader_epoch
    cluster.clock.advance(1)
    for node in cluster.nodes.values():
        if node is not leader:
            node.replica.turn()
    for _, target, message, payload in cluster.queue:
        if target == leader.node_id:
            leader.replica.on_raft(message, payload)
    cluster.queue.clear()
    assert not leader.replica.is_leader
    assert _answers(leader) == [(1, ErrorCode.NOT_LEADER_OR_FOLLOWER, -1)]


def test_a_search_that_nobody_asks_for_any_more_ends() -> None:
    cluster, leader = _cluster()
    _ask(leader, LAST_MS)
    leader.replica.turn()
    leader.replica.turn()
    cluster.clock.advance(limits.TIME_SEARCH_S + 1)
    leader.replica.turn()
    assert _answers(leader) == [(1, ErrorCode.REQUEST_TIMED_OUT, -1)]
