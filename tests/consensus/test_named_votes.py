"""Whose votes are asked for: members of the candidate's newest configuration, and whoever a vote names."""

from __future__ import annotations

from raftlog.protocol import raft as r
from raftlog.types import Doubt, Half
from tests.consensus.messages import cluster_with_leader, head, sent_to
from tests.partition.harness import Cluster, Node


def _alone(cluster: Cluster, node: Node) -> None:
    cluster.away.update(cluster.nodes)
    cluster.away.discard(node.node_id)
    for other in cluster.nodes.values():
        if other is not node:
            node.replica.set_peer(other.node_id, other.boot_id)


def test_only_a_member_of_its_own_newest_configuration_stands() -> None:
    cluster, leader, follower = cluster_with_leader()
    others = tuple(node_id for node_id in cluster.nodes if node_id != follower.node_id)
    follower.log.append_configuration((Half(others),))
    _alone(cluster, follower)
    term = follower.log.state.term
    cluster.settle(5.0)
    assert follower.log.state.term == term
    timeout_now = r.TimeoutNow(*head(cluster, leader.node_id, follower.node_id, term))
    follower.replica.on_raft(timeout_now, None)
    cluster.settle(1.0)
    assert follower.log.state.term == term


def test_a_vote_says_whom_its_voter_knows_and_remembers() -> None:
    cluster, leader, follower = cluster_with_leader()
    follower.log.append_configuration((Half((1, 2, 3)), Half((1, 2, 4))))
    follower.log.state.set_doubt(Doubt.CUT_TAIL, "a torn tail")
    follower.log.state.values.remembered = Half((2, 7), (8,))
    follower.log.persist()
    ask = r.VoteRequest(*head(cluster, leader.node_id, follower.node_id, 9), 99, 9, True)
    cluster.queue.clear()
    follower.replica.on_raft(ask, None)
    follower.replica.turn()
    [vote] = sent_to(cluster, leader.node_id, r.VoteResponse)
    assert (vote.granted, vote.named) == (True, (1, 2, 3, 4, 7, 8))


def test_whoever_a_vote_names_is_asked_at_once() -> None:
    cluster, _, node = cluster_with_leader()
    _alone(cluster, node)
    node.replica.set_peer(4, 44)
    cluster.queue.clear()
    cluster.clock.advance(10.0)
    node.replica.turn()
    member = node.replica.member
    other = next(node_id for node_id in cluster.nodes if node_id != node.node_id)
    assert member._prevote is not None
    answer = r.PreVoteResponse(
        *head(cluster, other, node.node_id, member.term), member.term + 1, True, Doubt.CUT_TAIL, 1, (1, 2, 3, 4)
    )
    cluster.queue.clear()
    node.replica.on_raft(answer, None)
    node.replica.turn()
    assert [m.asked_term for m in sent_to(cluster, 4, r.PreVoteRequest)] == [member.term + 1]
