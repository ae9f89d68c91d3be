"""Scripted messages against real members of a group: what each guard refuses."""

from __future__ import annotations

import msgspec
import pytest

from raftlog.errors import CorruptLogError
from raftlog.protocol import raft as r
from raftlog.storage.producers import Producers
from raftlog.storage.snapshots import encode_snapshot
from raftlog.types import Doubt, Role
from tests.consensus.messages import cluster_with_leader, head, sent_to
from tests.partition.harness import Cluster, Node, batch, produce


def test_a_leader_takes_over_the_higher_log_start_of_a_follower() -> None:
    """An earlier leader moved it, and this one was away: what retention deleted does not come back (seed 20019)."""
    cluster = Cluster(3)
    leader = cluster.leader()
    for number in range(3):
        leader.request("c", produce(number), [batch(b"x")])
        cluster.settle(0.5)
    follower = next(node for node in cluster.nodes.values() if node is not leader)
    follower.log.delete_head(2)
    cluster.settle(1.0)
    assert {node.log.state.log_start_offset for node in cluster.nodes.values()} == {2}


def test_g3_a_leader_of_an_older_term_is_answered_with_ours() -> None:
    cluster, leader, follower = cluster_with_leader()
    term = follower.log.state.term
    stale = r.AppendEntries(*head(cluster, leader.node_id, follower.node_id, term - 1), 9, 1, 0, 1, 0, [], 0, 1, 0)
    follower.replica.on_raft(stale, None)
    follower.replica.turn()
    [answer] = sent_to(cluster, leader.node_id, r.AppendResponse)
    assert (answer.success, answer.term, answer.sequence) == (False, term, 9)


def test_g3_a_higher_term_makes_a_leader_step_down() -> None:
    cluster, leader, follower = cluster_with_leader()
    higher = head(cluster, follower.node_id, leader.node_id, leader.log.state.term + 1)
    leader.replica.on_raft(r.AppendResponse(*higher, 1, False, 0, 0, Doubt.NONE), None)
    leader.replica.turn()
    assert not leader.replica.is_leader


def reset(cluster: Cluster, leader: Node, follower: Node, *, term: int, sequence: int, horizon: int) -> r.ResetRequest:
    """As a leader sends it to one that lies behind its horizon; its log begins at offset 100, Raft index `horizon`."""
    return r.ResetRequest(*head(cluster, leader.node_id, follower.node_id, term), sequence, horizon, term, 100)


def test_g3_a_reset_of_an_older_term_is_answered_with_ours() -> None:
    cluster, leader, follower = cluster_with_leader()
    term, last = follower.log.state.term, follower.log.last_index
    stale = reset(cluster, leader, follower, term=term - 1, sequence=9, horizon=500)
    follower.replica.on_raft(stale, encode_snapshot(499, term - 1, 100, Producers()))
    follower.replica.turn()
    [answer] = sent_to(cluster, leader.node_id, r.AppendResponse)
    assert (answer.success, answer.term, answer.sequence) == (False, term, 9)
    assert follower.log.last_index == last


def test_g3_a_reset_older_than_the_last_one_taken_is_ignored() -> None:
    cluster, leader, follower = cluster_with_leader()
    term = follower.log.state.term
    for sequence, horizon in ((10, 600), (9, 700)):
        asked = reset(cluster, leader, follower, term=term, sequence=sequence, horizon=horizon)
        follower.replica.on_raft(asked, encode_snapshot(horizon - 1, term, 100, Producers()))
        follower.replica.turn()
    assert follower.log.last_index == 599
    assert len(sent_to(cluster, leader.node_id, r.AppendResponse)) == 1


def test_g3_a_term_that_is_heard_again_leaves_what_its_leader_said() -> None:
    """As by one that lost its disk: of the terms that all others have it takes the highest, which may be its own."""
    cluster, leader, follower = cluster_with_leader()
    term = follower.log.state.term
    member = follower.replica.member
    follower.replica.on_raft(
        reset(cluster, leader, follower, term=term, sequence=10, horizon=600),
        encode_snapshot(599, term, 100, Producers()),
    )
    member._adopt_term(term, member.node_id, cluster.clock.monotonic_s())
    follower.replica.on_raft(
        reset(cluster, leader, follower, term=term, sequence=9, horizon=700),
        encode_snapshot(699, term, 100, Producers()),
    )
    assert follower.log.last_index == 599
    assert member.leader_id == leader.node_id


def test_a_reset_with_a_damaged_snapshot_is_not_taken() -> None:
    cluster, leader, follower = cluster_with_leader()
    term, last = follower.log.state.term, follower.log.last_index
    asked = reset(cluster, leader, follower, term=term, sequence=10, horizon=600)
    follower.replica.on_raft(asked, encode_snapshot(599, term, 100, Producers())[:-1])
    follower.replica.turn()
    assert follower.log.last_index == last
    assert not sent_to(cluster, leader.node_id, r.AppendResponse)
    follower.replica.on_raft(asked, encode_snapshot(599, term, 100, Producers()))
    assert follower.log.last_index == 599


def test_a_reset_that_contradicts_what_is_committed_stops_the_worker() -> None:
    cluster, leader, follower = cluster_with_leader()
    term = follower.log.state.term
    asked = reset(
        cluster, leader, follower, term=term + 1, sequence=10, horizon=follower.replica.member.commit_index + 1
    )
    with pytest.raises(CorruptLogError):
        follower.replica.on_raft(asked, encode_snapshot(asked.horizon_index - 1, term + 1, 100, Producers()))


def test_a_leader_that_has_another_entry_where_one_is_committed_stops_the_worker_with_its_first_question() -> None:
    """A majority had lost what it acknowledged: refused, it would ask for ever, and nobody would hear why."""
    cluster, leader, follower = cluster_with_leader()
    for number in range(3):
        leader.request("c", produce(number), [batch(b"%d" % number)])
        cluster.settle(0.5)
    group = follower.replica.member
    committed = group.commit_index
    assert committed == follower.log.last_index
    probe = r.AppendEntries(
        *head(cluster, leader.node_id, follower.node_id, group.term + 2),
        1,
        committed,
        group.term + 1,
        committed,
        0,
        [],
        0,
        committed,
        0,
    )
    with pytest.raises(CorruptLogError, match=f"contradicts the committed entry {committed}"):
        follower.replica.on_raft(probe, None)
    assert follower.log.last_index == committed


def test_g7_a_second_answer_of_one_voter_is_one_vote() -> None:
    cluster = Cluster(5)
    node = cluster.nodes[1]
    cluster.away = {2, 3, 4, 5}
    group = node.replica.member
    group._elections.expire()
    node.replica.turn()
    assert group.role.kind is Role.CANDIDATE
    answer = r.VoteResponse(*head(cluster, 2, 1, group.term), True, Doubt.NONE, 1)
    for _ in range(5):
        node.replica.on_raft(msgspec.structs.replace(answer), None)
    assert group.role.kind is Role.CANDIDATE
    node.replica.on_raft(r.VoteResponse(*head(cluster, 3, 1, group.term), True, Doubt.NONE, 1), None)
    assert group.role.kind is Role.LEADER


def test_messages_of_another_boot_or_topic_are_dropped() -> None:
    cluster, leader, follower = cluster_with_leader()
    fields = list(head(cluster, leader.node_id, follower.node_id, leader.log.state.term + 5))
    for place, value in ((0, b"another-topic-id"), (1, 7), (2, 99), (3, 123), (4, 456)):
        forged = [*fields[:place], value, *fields[place + 1 :]]
        follower.replica.on_raft(r.VoteRequest(*forged, 10**6, 10**6, True), None)
    follower.replica.turn()
    assert follower.log.state.term == leader.log.state.term
    assert cluster.queue == []


def test_a_batch_with_a_wrong_checksum_is_not_appended_and_not_acknowledged() -> None:
    cluster, leader, follower = cluster_with_leader()
    cluster.away = {follower.node_id}
    leader.request("c", produce(1), [batch(b"good")])
    cluster.settle()
    entries = leader.log.read_entries(3, 1 << 20)
    damaged = bytearray(entries.payload)
    damaged[-1] ^= 1
    cluster.queue.clear()
    message = r.AppendEntries(
        *head(cluster, leader.node_id, follower.node_id, leader.log.state.term),
        99,
        2,
        leader.log.state.term,
        2,
        entries.count,
        entries.epoch_starts,
        0,
        leader.log.last_index,
        0,
    )
    follower.replica.on_raft(message, bytes(damaged))
    follower.replica.turn()
    assert follower.log.log_end_offset == 0
    (answer,) = sent_to(cluster, leader.node_id, r.AppendResponse)
    assert (answer.success, answer.damaged, answer.hint_index, answer.match_index) == (False, True, 3, 3)


def test_a_doubt_whose_end_cannot_be_written_goes_on_and_ends_no_worker() -> None:
    """Its acknowledgements must not count BEFORE `state` says that they do (seed 431, when it was found)."""
    cluster = Cluster(3)
    leader = cluster.leader()
    follower = next(node for node in cluster.nodes.values() if node is not leader)
    follower.log.state.set_doubt(Doubt.CUT_TAIL, "for this test")
    follower.log.persist()
    follower.disk.full = True
    cluster.settle(1.0)
    assert follower.log.state.doubt is Doubt.CUT_TAIL
    assert follower.node_id not in leader.replica.status().in_sync
    follower.disk.full = False
    cluster.settle(2.0)
    assert follower.log.state.doubt is Doubt.NONE
    assert follower.node_id in leader.replica.status().in_sync
