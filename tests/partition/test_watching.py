"""Who watches the end of a log is told when something changes, and costs nothing until then."""

from __future__ import annotations

from typing import Any

import pytest

from raftlog import limits
from raftlog.errors import ErrorCode
from raftlog.protocol.records import WatchRequest, WatchResponse
from tests.partition.harness import PLACE, Cluster, Node, batch, produce
from tests.requests import request_of


def _cluster(nodes: int = 1, **config: int) -> tuple[Cluster, Node]:
    """With three records."""
    cluster = Cluster(nodes, **config)
    leader = cluster.leader()
    _put(cluster, leader, 3)
    leader.answers.clear()
    return cluster, leader


def _put(cluster: Cluster, leader: Node, count: int) -> None:
    for number in range(count):
        leader.request("p", produce(number), [batch(b"%d" % number)])
        cluster.settle()


def _watch(node: Node, offset: int, client: Any = "door", **known: int) -> None:
    node.request(client, request_of(WatchRequest(offset, **known), 1, **PLACE), [])


def _told(node: Node) -> list[tuple[Any, int, int]]:
    return [
        (client, each.error_code, each.high_watermark)
        for client, each, _ in node.answers
        if isinstance(each, WatchResponse)
    ]


def test_who_watches_the_end_is_told_when_it_moves() -> None:
    cluster, leader = _cluster(3)
    _watch(leader, 3)
    cluster.settle(1.0)
    assert not _told(leader)
    _put(cluster, leader, 1)
    assert _told(leader) == [("door", 0, 4)]
    _put(cluster, leader, 1)
    assert len(_told(leader)) == 1, "told once"


def test_what_has_moved_already_is_told_at_once() -> None:
    cluster, leader = _cluster()
    _watch(leader, 2, "behind")
    _watch(leader, 3, "of an older epoch", leader_epoch=leader.replica.leader_epoch - 1)
    _watch(leader, 3, "of another start", log_start_offset=1)
    _watch(leader, 3, "who knows all", leader_epoch=leader.replica.leader_epoch, log_start_offset=0)
    assert leader.replica.next_wakeup_s() <= cluster.clock.monotonic_s(), "the next turn comes at once"
    cluster.settle()
    assert sorted(client for client, _, _ in _told(leader)) == ["behind", "of an older epoch", "of another start"]


def test_who_watches_is_told_that_the_log_starts_elsewhere() -> None:
    cluster, leader = _cluster(segment_bytes=1024)
    _watch(leader, 3)
    cluster.settle()
    leader.replica.delete_head(2)
    cluster.settle()
    assert [(answer.log_start_offset, answer.high_watermark) for _, answer, _ in leader.answers] == [(2, 3)]


def test_who_watches_is_told_that_the_leader_leads_no_more() -> None:
    cluster, leader = _cluster(3)
    _watch(leader, 3)
    cluster.settle()
    cluster.away = {node_id for node_id in cluster.nodes if node_id != leader.node_id}
    cluster.settle(limits.LEADER_FALLBACK_S + 1)
    assert [code for _, code, _ in _told(leader)] == [ErrorCode.NOT_LEADER_OR_FOLLOWER]


def test_a_follower_and_a_leader_of_an_older_epoch_refuse() -> None:
    cluster, leader = _cluster(3)
    follower = next(node for node in cluster.nodes.values() if node is not leader)
    _watch(follower, 3)
    _watch(leader, 3, leader_epoch=leader.replica.leader_epoch + 1)
    cluster.settle()
    assert [code for _, code, _ in _told(follower)] == [ErrorCode.NOT_LEADER_OR_FOLLOWER]
    assert [code for _, code, _ in _told(leader)] == [ErrorCode.UNKNOWN_LEADER_EPOCH]


def test_a_session_watches_once_and_not_for_ever() -> None:
    cluster, leader = _cluster()
    _watch(leader, 3)
    _watch(leader, 4)
    cluster.settle()
    assert _told(leader) == [("door", 0, 3)], "the first question ends with the second one"
    cluster.settle(1.0)
    cluster.clock.advance(limits.WATCH_S)
    assert leader.replica.next_wakeup_s() <= cluster.clock.monotonic_s()
    cluster.settle()
    assert len(_told(leader)) == 2


def test_watches_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "WAITING_FETCHES_MAX", 2)
    cluster, leader = _cluster()
    for number in range(3):
        _watch(leader, 3, number)
    cluster.settle()
    assert _told(leader) == [(2, ErrorCode.THROTTLING_QUOTA_EXCEEDED, 3)]


def test_a_leader_that_is_watched_does_nothing_meanwhile() -> None:
    _, leader = _cluster()
    _watch(leader, 3)
    leader.replica.turn()
    leader.replica.turn()
    assert leader.replica._nothing_to_do(leader.cluster.clock.monotonic_s())
