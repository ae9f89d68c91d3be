"""A change of the voters: each condition that a leader holds it against, and each rule, with what fails without it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from raftlog import limits
from raftlog.consensus.change import Change, WhyNot
from raftlog.consensus.in_sync import InSync
from raftlog.consensus.leader import Leader
from raftlog.consensus.voters import Outcome, VoterSet
from raftlog.errors import DiskFullError, ErrorCode
from raftlog.protocol import raft as r
from raftlog.types import Doubt, Half
from tests.consensus.messages import appended, sent_to
from tests.partition.harness import Cluster, Node, batch, produce


def grown(*, voters: int = 3, learners: tuple[int, ...] = (4,), **config: int) -> tuple[Cluster, Node]:
    """A group and its leader, with some records, and learners that hold them."""
    cluster = Cluster(voters, **config)
    leader = cluster.leader()
    appended(cluster, leader, b"a", b"b")
    for node_id in learners:
        cluster.join(node_id)
    learn(leader, Half(learners))
    cluster.settle(3.0)
    return cluster, leader


def change(leader: Node, *replicas: int, witnesses: tuple[int, ...] = (), expected: Any = (0, 0)) -> WhyNot | None:
    replica = leader.replica
    why: WhyNot | None = replica.member.change_to(
        Half(replicas, witnesses),
        expected,
        replica._clock.monotonic_s(),
        handing_over=replica._moving.under_way,
        in_sync_min=replica._in_sync_min,
    )
    return why


def learn(leader: Node, learners: Half) -> None:
    leader.replica.member.learn(learners, leader.replica._clock.monotonic_s())


def call_off(leader: Node, expected: Any = (0, 0)) -> WhyNot | None:
    now_s = leader.replica._clock.monotonic_s()
    why: WhyNot | None = leader.replica.member.call_off(expected, now_s, handing_over=False)
    return why


def halves(node: Node) -> list[tuple[int, ...]]:
    return [half.replicas for half in node.log.halves]


def away(cluster: Cluster, *node_ids: int) -> None:
    """They hear nothing any more, and the others know."""
    cluster.away |= set(node_ids)
    for node in cluster.nodes.values():
        for node_id in node_ids:
            if node.node_id not in cluster.away:
                node.replica.set_peer(node_id, 0)


def back(cluster: Cluster, *node_ids: int) -> None:
    cluster.away -= set(node_ids)
    for node in cluster.nodes.values():
        for node_id in node_ids:
            node.replica.set_peer(node_id, cluster.nodes[node_id].boot_id)
            cluster.nodes[node_id].replica.set_peer(node.node_id, node.boot_id)


def committed(node: Node) -> int:
    index: int = node.replica.member.commit_index
    return index


# --- all goes well ---------------------------------------------------------------------------


def test_a_replica_is_swapped_for_another() -> None:
    cluster, leader = grown()
    others = [node_id for node_id in (1, 2, 3) if node_id != leader.node_id]
    assert change(leader, leader.node_id, others[0], 4) is None
    assert halves(leader) == [(1, 2, 3), (leader.node_id, others[0], 4)]
    cluster.settle(1.0)
    appended(cluster, leader, b"c")
    cluster.settle(1.0)
    for node_id in (leader.node_id, others[0], 4):
        node = cluster.nodes[node_id]
        assert halves(node) == [(leader.node_id, others[0], 4)]
        assert (node.log.log_end_offset, node.log.state.doubt) == (3, Doubt.NONE)
    assert leader.replica.member.in_sync == tuple(sorted((leader.node_id, others[0], 4)))
    assert halves(cluster.nodes[others[1]]) == [(leader.node_id, others[0], 4)]  # it was told
    assert [result.error_code for result in leader.results()] == [ErrorCode.NONE] * 3


def test_one_becomes_three_and_three_become_one() -> None:
    cluster, leader = grown(voters=1, learners=(2, 3))
    assert change(leader, 1, 2, 3) is None
    cluster.settle(1.0)
    assert [halves(node) for node in cluster.nodes.values()] == [[(1, 2, 3)]] * 3
    newest = leader.log.configuration_at(leader.log.last_index)
    assert change(leader, 1, expected=(newest.term, newest.index)) is None
    cluster.settle(1.0)
    assert [halves(node) for node in cluster.nodes.values()] == [[(1,)]] * 3
    away(cluster, 2, 3)
    appended(cluster, leader, b"alone")
    assert committed(leader) == leader.log.last_index


def test_a_leader_that_is_left_out_hands_over_first() -> None:
    cluster, leader = grown(voters=1, learners=(3,))
    assert change(leader, 3) is None
    cluster.settle(3.0)
    assert [halves(cluster.nodes[node_id]) for node_id in (1, 3)] == [[(3,)]] * 2
    assert cluster.nodes[3].replica.leader_ready
    assert not leader.replica.is_leader
    assert cluster.nodes[3].log.configurations_in(0, 99)[-1].term > leader.log.configurations_in(0, 99)[0].term


def test_a_witness_comes_and_another_goes() -> None:
    cluster = Cluster(3, witnesses=1)
    leader = cluster.leader()
    appended(cluster, leader, b"a")
    cluster.join(4, is_witness=True)
    learn(leader, Half((), (4,)))
    cluster.settle(3.0)
    assert change(leader, 1, 2, witnesses=(4,)) is None
    cluster.settle(2.0)
    assert leader.log.halves == cluster.nodes[4].log.halves == cluster.nodes[3].log.halves == (Half((1, 2), (4,)),)
    away(cluster, 3)
    appended(cluster, leader, b"b")
    cluster.settle(2.0)
    assert cluster.nodes[4].log.last_index == leader.log.last_index == committed(leader)


def test_what_is_called_off_goes_back_to_the_old_voters() -> None:
    cluster, leader = grown()
    assert change(leader, 1, 2, 3, 4) is None
    away(cluster, 4)
    cluster.settle(5.0)
    assert halves(leader) == [(1, 2, 3), (1, 2, 3, 4)]
    assert call_off(leader) is None
    cluster.settle(1.0)
    assert halves(leader) == [(1, 2, 3)]
    assert committed(leader) == leader.log.last_index


def test_replicas_that_do_not_keep_up_are_given_up_after_a_while() -> None:
    cluster, leader = grown()
    assert change(leader, 1, 2, 3, 4) is None
    away(cluster, 4)
    cluster.settle(limits.JOINT_S - 1.0)
    assert halves(leader) == [(1, 2, 3), (1, 2, 3, 4)]
    cluster.settle(3.0)
    assert halves(leader) == [(1, 2, 3)]


def test_the_next_leader_goes_on_from_a_joint_configuration() -> None:
    cluster, leader = grown()
    assert change(leader, 1, 2, 3, 4) is None
    leader.replica.member.replicate(cluster.clock.monotonic_s())
    arriving, cluster.queue = cluster.queue, []
    for _, target, message, payload in arriving:
        cluster.nodes[target].replica.on_raft(message, payload)
    for node in cluster.nodes.values():
        if node is not leader:
            node.replica.turn()
    cluster.queue.clear()
    away(cluster, leader.node_id)
    cluster.settle(4.0)
    remaining = [node for node in cluster.nodes.values() if node is not leader]
    assert [halves(node) for node in remaining] == [[(1, 2, 3, 4)]] * 3


# --- conditions ------------------------------------------------------------------------------


def _not_ready(cluster: Cluster, leader: Node) -> None:
    leader.replica.member._seat.commit_index = leader.replica.member.role.epoch_index - 1


def _uncommitted(cluster: Cluster, leader: Node) -> None:
    leader.log.append_configuration((Half((1, 2, 3)),))
    leader.replica.member.role._change._follow(cluster.clock.monotonic_s())


def _joint(cluster: Cluster, leader: Node) -> None:
    assert change(leader, 1, 2, 3, 4) is None


def _handing_over(cluster: Cluster, leader: Node) -> None:
    leader.replica.hand_over()


def _doubtful(cluster: Cluster, leader: Node) -> None:
    leader.log.state.set_doubt(Doubt.CUT_TAIL, "torn")


def _learner_doubts(cluster: Cluster, leader: Node) -> None:
    leader.replica.member.role._progress[4].doubt = Doubt.CUT_TAIL


def _learner_behind(cluster: Cluster, leader: Node) -> None:
    leader.replica.member.role._progress[4].caught_up_s -= limits.IN_SYNC_JOIN_S


def _no_majority(cluster: Cluster, leader: Node) -> None:
    for node_id in (1, 2, 3):
        if node_id != leader.node_id:
            leader.replica.member.role._progress[node_id].doubt = Doubt.CUT_TAIL


def _no_room(cluster: Cluster, leader: Node) -> None:
    def full(halves: tuple[Half, ...]) -> int:
        raise DiskFullError("full")

    leader.log.append_configuration = full


def _well(cluster: Cluster, leader: Node) -> None:
    """Nothing stands in the way, but for what is asked."""


CONDITIONS: list[tuple[WhyNot, Callable[[Cluster, Node], None], tuple[int, ...]]] = [
    (WhyNot.NOT_READY, _not_ready, (1, 2, 3, 4)),
    (WhyNot.UNCOMMITTED, _uncommitted, (1, 2, 3, 4)),
    (WhyNot.JOINT, _joint, (1, 2, 3)),
    (WhyNot.HANDING_OVER, _handing_over, (1, 2, 3, 4)),
    (WhyNot.DOUBTFUL, _doubtful, (1, 2, 3, 4)),
    (WhyNot.SAME, _well, (1, 2, 3)),
    (WhyNot.MALFORMED, _well, ()),
    (WhyNot.MALFORMED, _well, (1, 2, 2)),
    (WhyNot.NO_LEARNER, _well, (1, 2, 5)),
    (WhyNot.LEARNER_DOUBTS, _learner_doubts, (1, 2, 3, 4)),
    (WhyNot.LEARNER_BEHIND, _learner_behind, (1, 2, 3, 4)),
    (WhyNot.NO_MAJORITY, _no_majority, (1, 2, 3, 4)),
    (WhyNot.NO_ROOM, _no_room, (1, 2, 3, 4)),
]


@pytest.mark.parametrize(("why", "spoil", "replicas"), CONDITIONS, ids=[row[0].name for row in CONDITIONS])
def test_each_condition_is_refused_with_its_own_reason(
    why: WhyNot, spoil: Callable[[Cluster, Node], None], replicas: tuple[int, ...]
) -> None:
    cluster, leader = grown()
    spoil(cluster, leader)
    newest = leader.log.configuration_at(leader.log.last_index)
    expected = (0, 0) if newest is None else (newest.term, newest.index)
    before = leader.log.last_index
    assert change(leader, *replicas, expected=expected) is why
    assert leader.log.last_index == before


def test_what_an_older_controller_asked_for_changes_nothing() -> None:
    cluster, leader = grown()
    assert change(leader, 1, 2, 3, 4) is None
    cluster.settle(1.0)
    assert change(leader, 1, 2, 3) is WhyNot.OTHER
    newest = leader.log.configuration_at(leader.log.last_index)
    assert change(leader, 1, 2, 3, expected=(newest.term, newest.index - 1)) is WhyNot.OTHER


def test_no_node_changes_its_kind() -> None:
    _, leader = grown()
    assert change(leader, 1, 2, witnesses=(3,)) is WhyNot.MALFORMED
    assert change(leader, 1, 2, 4, witnesses=(4,)) is WhyNot.MALFORMED


def test_a_new_witness_has_to_be_fed_first() -> None:
    cluster = Cluster(3, witnesses=1)
    leader = cluster.leader()
    cluster.join(4, is_witness=True)
    learn(leader, Half((), (4,)))
    cluster.settle(3.0)
    leader.replica.member.role._progress[4].match_index = 1
    assert change(leader, 1, 2, witnesses=(4,)) is WhyNot.WITNESS_UNFED


def test_the_new_half_keeps_min_insync_replicas() -> None:
    _, leader = grown(min_insync_replicas=2)
    other = next(node_id for node_id in (1, 2, 3) if node_id != leader.node_id)
    leader.replica.member.role._progress[4].match_index = 1
    leader.replica.member.role._in_sync.leave(other)
    assert change(leader, leader.node_id, 4) is WhyNot.TOO_FEW
    leader.replica.member.role._progress[4].match_index = leader.log.last_index
    assert change(leader, leader.node_id, 4) is None


# --- rules, and what fails without them ------------------------------------------------------


def learners_count_nowhere() -> None:
    """Two of three are gone, two learners are there: no commit, no proof of leading, and nobody else is in sync."""
    cluster, leader = grown(learners=(4, 5))
    others = [node_id for node_id in (1, 2, 3) if node_id != leader.node_id]
    before = committed(leader)
    away(cluster, *others)
    leader.request("c", produce(9), [batch(b"x")])
    cluster.settle(1.0)
    role = leader.replica.member.role
    assert leader.replica.is_leader
    assert role._progress[4].match_index == leader.log.last_index > before
    assert committed(leader) == before
    assert role.in_sync == (leader.node_id,)
    assert not role.hears_majority(cluster.clock.monotonic_s(), 0.5)
    assert not role.confirmed(role.ask_confirmation() - 2)


def a_leader_waits_for_learners_with_what_goes_for_good() -> None:
    cluster, leader = grown()
    away(cluster, 4)
    held = leader.log.last_index
    appended(cluster, leader, b"c", b"d")
    cluster.settle(1.0)
    assert leader.replica.member.held_index <= held


def a_learner_that_stalls_is_given_up() -> None:
    cluster, leader = grown()
    away(cluster, 4)
    appended(cluster, leader, b"c")
    cluster.settle(limits.LEARNER_STALLED_S + 2.0)
    role = leader.replica.member.role
    assert 4 not in role._progress
    assert "has not come on" in role._change.given_up[4]
    assert leader.replica.member.held_index == leader.log.last_index


def who_joins_is_waited_for_before_it_counts() -> None:
    """acks=all waits for it from J on, and it is shown once it holds what was acknowledged."""
    _, leader = grown()
    role = leader.replica.member.role
    role._progress[4].match_index = leader.log.last_index - 1
    assert change(leader, 1, 2, 3, 4) is None
    assert 4 not in role.in_sync
    assert role._in_sync.lowest_match(role._progress, 99) < leader.log.last_index - 1


def who_joins_with_all_that_was_acknowledged_is_in_sync_at_once() -> None:
    """{1, 2} to {1, 3} with two required: a produce of the same turn is not refused."""
    cluster, leader = grown(voters=2, min_insync_replicas=2)
    assert change(leader, leader.node_id, 4) is None
    leader.request("c", produce(9), [batch(b"x")])
    cluster.settle(1.0)
    assert leader.results()[-1].error_code == ErrorCode.NONE
    assert halves(leader) == [(leader.node_id, 4)]


def a_new_replica_out_of_sync_does_not_replace_one() -> None:
    """{1, 2, w} to {1, 3, w}, 3 gone: C would leave what is committed on one disk, and a witness ahead of the other."""
    cluster = Cluster(3, witnesses=1)
    leader = cluster.leader()
    appended(cluster, leader, b"a")
    other = next(node_id for node_id in (1, 2) if node_id != leader.node_id)
    cluster.join(4)
    learn(leader, Half((4,)))
    cluster.settle(3.0)
    assert change(leader, leader.node_id, 4, witnesses=(3,)) is None
    away(cluster, 4)
    appended(cluster, leader, b"b")
    cluster.settle(5.0)
    assert halves(leader) == [(1, 2), (leader.node_id, 4)]
    back(cluster, 4)
    cluster.settle(3.0)
    assert halves(leader) == [(leader.node_id, 4)]
    assert other not in leader.replica.member.in_sync


def a_new_leader_knows_of_no_replica_whether_it_is_in_sync() -> None:
    """It begins with all of them in the ISR; that is no reason to drop the old ones."""
    cluster, leader = grown()
    assert change(leader, 1, 2, 4) is None
    role = leader.replica.member.role
    newest = leader.log.configuration_at(leader.log.last_index)
    role._seat.commit_index = newest.index
    role._in_sync._states[4] = type(role._in_sync._states[4])(2)
    role._in_sync._note_members()
    role._progress[4].match_index = newest.index - 1
    assert 4 in role.in_sync
    leader.replica.member.advance_change(cluster.clock.monotonic_s(), handing_over=False)
    assert halves(leader) == [(1, 2, 3), (1, 2, 4)]


def who_leaves_hears_of_it_once_it_is_committed() -> None:
    cluster, leader = grown()
    leaving = next(node_id for node_id in (1, 2, 3) if node_id != leader.node_id)
    assert change(leader, *(node_id for node_id in (1, 2, 3) if node_id != leaving), 4) is None
    cluster.settle(0.5)
    role, now_s = leader.replica.member.role, cluster.clock.monotonic_s()
    end = role._change.newest.index
    role._seat.commit_index = end - 1  # C is appended, and not committed yet
    role._change.leaving.add(leaving)
    role._progress[leaving] = progress = role._change._new_progress(now_s)
    progress.on_success(role._links.sequence + 1, end - 1, now_s, 1)

    def sent(seconds: float) -> list[Any]:
        leader.replica.member.replicate(now_s + seconds)
        return [m for m in sent_to(cluster, leaving, r.AppendEntries) if m.entries]

    assert not sent(1.0)
    role._seat.commit_index = end
    assert sent(2.0)


def a_leader_leaves_a_joint_configuration_only_with_an_entry_of_its_own_term() -> None:
    """J is committed; 2 has appended C to itself alone in term 2; 1 leads term 3 and has committed nothing of it."""
    cluster, leader = grown()
    assert change(leader, 1, 2, 3, 4) is None
    newest = leader.log.configuration_at(leader.log.last_index)
    role = leader.replica.member.role
    role._seat.commit_index = newest.index
    role._change._epoch_index = newest.index + 1
    assert role._change.call_off((0, 0), cluster.clock.monotonic_s(), handing_over=False) is None
    leader.replica.member.advance_change(cluster.clock.monotonic_s(), handing_over=False)
    assert halves(leader) == [(1, 2, 3), (1, 2, 3, 4)]


def only_a_leader_that_leads_still_says_who_is_a_learner() -> None:
    cluster, leader = grown(learners=())
    newcomer = cluster.join(4)
    others = [node_id for node_id in (1, 2, 3) if node_id != leader.node_id]
    away(cluster, *others)
    learn(leader, Half((4,)))
    cluster.settle(1.0)
    assert leader.replica.is_leader
    assert newcomer.replica.member._seat.rejoin.mute


def a_learner_that_copies_an_old_configuration_does_not_stand() -> None:
    """{1} has moved to {2}; 1 comes back with an empty directory and copies the entries that name it alone."""
    cluster, leader = grown(voters=1, learners=(2,))
    assert change(leader, 2) is None
    cluster.settle(3.0)
    term = cluster.nodes[2].log.state.term
    old = cluster.join(1)
    old.replica.member._seat.rejoin.hear_learner()
    old.log.state.set_term(term, 2)
    old.log.append_epoch_start(1)
    old.log.append_configuration((Half((1,)),))
    away(cluster, 2)
    cluster.settle(10.0)
    assert not old.replica.is_leader


def min_insync_replicas_counts_the_new_half() -> None:
    cluster, leader = grown(learners=(4, 5), min_insync_replicas=3)
    assert change(leader, leader.node_id, 4, 5) is None
    away(cluster, 4)
    cluster.settle(2.0)
    assert len(leader.replica.member.in_sync) == 4
    leader.request("c", produce(9), [batch(b"x")])
    cluster.settle(0.5)
    assert leader.results()[-1].error_code == ErrorCode.NOT_ENOUGH_REPLICAS


def a_learner_is_asked_to_lead_by_nobody() -> None:
    _, leader = grown()
    assert leader.replica.member.role._progress[4].match_index == leader.log.last_index
    assert not leader.replica.member.transfer_to(4)


def _every_vote_counts(self: VoterSet, votes: Any, candidate_last_index: int) -> Outcome:
    return Outcome.MAJORITY if self.is_majority(votes) else Outcome.OPEN


RULES: list[tuple[Callable[[], None], object, str, Any]] = [
    (a_leader_waits_for_learners_with_what_goes_for_good, Leader, "held_index", property(lambda self: 10**6)),
    (a_learner_that_stalls_is_given_up, Change, "_give_up_stalled", lambda self, now_s: None),
    (who_joins_is_waited_for_before_it_counts, InSync, "follow", lambda self, followers, holders: None),
    (
        who_joins_with_all_that_was_acknowledged_is_in_sync_at_once,
        InSync,
        "follow",
        lambda self, followers, holders, follow=InSync.follow: follow(self, followers),
    ),
    (a_new_replica_out_of_sync_does_not_replace_one, Change, "_keeps_up", lambda self, node_id: True),
    (
        a_new_leader_knows_of_no_replica_whether_it_is_in_sync,
        Change,
        "_keeps_up",
        lambda self, node_id: node_id in self._in_sync.members,
    ),
    (who_leaves_hears_of_it_once_it_is_committed, Change, "is_told_of", lambda self, node_id: True),
    (
        a_leader_leaves_a_joint_configuration_only_with_an_entry_of_its_own_term,
        Change,
        "is_committed",
        property(lambda self: self.newest is None or self.newest.index <= self._seat.commit_index),
    ),
    (only_a_leader_that_leads_still_says_who_is_a_learner, Leader, "confirmed", lambda self, asked: True),
    (a_learner_that_copies_an_old_configuration_does_not_stand, VoterSet, "outcome", _every_vote_counts),
    (min_insync_replicas_counts_the_new_half, Leader, "in_sync_count", property(lambda self: len(self.in_sync))),
]
UNCONDITIONAL = [
    learners_count_nowhere,
    a_learner_is_asked_to_lead_by_nobody,
]


@pytest.mark.parametrize("rule", [row[0] for row in RULES] + UNCONDITIONAL, ids=lambda rule: rule.__name__)
def test_a_rule_holds(rule: Callable[[], None]) -> None:
    rule()


@pytest.mark.parametrize(("rule", "owner", "name", "instead"), RULES, ids=[row[0].__name__ for row in RULES])
def test_its_absence_is_noticed(
    rule: Callable[[], None], owner: object, name: str, instead: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, name, instead)
    with pytest.raises(AssertionError):
        rule()
