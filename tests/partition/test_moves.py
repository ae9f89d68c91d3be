"""The leadership of one partition moves on purpose: at once where nothing is on its way, and again where it did not."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from raftlog import limits
from raftlog.errors import ErrorCode
from raftlog.protocol.raft import TimeoutNow
from raftlog.protocol.records import ElectLeaderRequest, ElectLeaderResponse
from tests.partition.harness import PLACE, Cluster, Node
from tests.requests import request_of


def asked_to_stand(cluster: Cluster) -> list[int]:
    return [target for _, target, message, _ in cluster.queue if isinstance(message, TimeoutNow)]


def led_by_another(cluster: Cluster) -> Node:
    """The preferred replica, 1, was away while another was elected, and has just come back."""
    assert cluster.leader() is cluster.nodes[1]
    cluster.away = {1}
    leader = cluster.leader()
    for away in ({1}, set()):
        cluster.away = away
        while (1 in away) == (1 in leader.replica.status().in_sync):
            cluster.settle(0.05)
    return leader


def test_an_idle_leader_that_hands_over_waits_for_no_heartbeat() -> None:
    cluster = Cluster(3)
    leader = cluster.leader()
    cluster.settle(0.1)
    now_s = cluster.clock.monotonic_s()
    assert leader.replica.next_wakeup_s() > now_s
    leader.replica.hand_over()
    assert leader.replica.next_wakeup_s() <= now_s
    leader.replica.turn()
    assert len(asked_to_stand(cluster)) == 1
    assert leader.replica.next_wakeup_s() > now_s, "it has asked, and waits"


def test_a_leader_that_is_alone_in_sync_does_not_spin_when_it_is_to_hand_over() -> None:
    """There is nobody to ask (seed 7 took 17,264 turns)."""
    cluster = Cluster(3)
    leader = cluster.leader()
    for node_id in set(cluster.nodes) - {leader.node_id}:
        leader.replica.set_peer(node_id, 0)
    leader.replica.turn()
    leader.replica.hand_over()
    assert leader.replica.next_wakeup_s() > cluster.clock.monotonic_s()


def test_the_preferred_replica_is_asked_in_the_turn_in_which_its_time_has_come() -> None:
    """Not once it has answered the next heartbeat: on a busy machine that is later than the move may take."""
    cluster = Cluster(3)
    leader = led_by_another(cluster)
    began_s = cluster.clock.monotonic_s()
    while not asked_to_stand(cluster):
        cluster.settle()
        cluster.clock.advance(0.05)
        leader.replica.turn()
        assert leader.replica.leader_ready
    assert asked_to_stand(cluster) == [1]
    assert cluster.clock.monotonic_s() - began_s < limits.PREFERRED_LEADER_S + 2.5 * limits.HEARTBEAT_S


def test_a_move_back_that_failed_is_tried_again_soon_then_more_and_more_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    asked_s: list[float] = []
    lost = True
    send = Node.send_raft

    def send_or_lose(node: Node, node_id: int, message: Any, payload: Any) -> None:
        if lost and isinstance(message, TimeoutNow):
            asked_s.append(node.cluster.clock.monotonic_s())
        else:
            send(node, node_id, message, payload)

    monkeypatch.setattr(Node, "send_raft", send_or_lose)
    cluster = Cluster(3)
    leader = led_by_another(cluster)
    cluster.settle(150.0)
    assert leader.replica.leader_ready
    waits_s = [later - earlier for earlier, later in pairwise(asked_s)]
    assert waits_s[:6] == pytest.approx([2.0, 4.0, 8.0, 16.0, 30.0, 30.0], abs=1.1 * limits.HEARTBEAT_S)
    lost = False
    cluster.settle(limits.PREFERRED_LEADER_AGAIN_MAX_S + 1.0)
    assert cluster.nodes[1].replica.leader_ready


# --- asked for -----------------------------------------------------------------------------------
def _elect(node: Node) -> ElectLeaderResponse:
    node.request("c", request_of(ElectLeaderRequest(), 7, **PLACE), [])
    node.cluster.settle(0.1)
    answer = node.answers.pop()[1]
    assert isinstance(answer, ElectLeaderResponse)
    return answer


def test_the_preferred_replica_leads_when_somebody_asks_for_it() -> None:
    cluster = Cluster(3)
    leader = led_by_another(cluster)
    began_s = cluster.clock.monotonic_s()
    assert _elect(leader).error_code == ErrorCode.NONE
    assert cluster.leader() is cluster.nodes[1]
    assert cluster.clock.monotonic_s() - began_s < limits.PREFERRED_LEADER_S / 2
    assert _elect(cluster.nodes[1]).error_code == ErrorCode.NONE
    assert cluster.nodes[1].replica.leader_ready, "it leads already"


def test_a_preferred_replica_that_is_not_in_sync_is_not_asked_to_lead() -> None:
    cluster = Cluster(3)
    assert cluster.leader() is cluster.nodes[1]
    cluster.away = {1}
    leader = cluster.leader()
    while 1 in leader.replica.status().in_sync:
        cluster.settle(0.1)
    assert _elect(leader).error_code == ErrorCode.PREFERRED_LEADER_NOT_AVAILABLE
    follower = next(node for node in cluster.nodes.values() if node.node_id != 1 and node is not leader)
    assert _elect(follower).error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER
