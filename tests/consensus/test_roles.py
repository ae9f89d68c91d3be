"""The roles by themselves: objects made by hand over a real log, with what they would send."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest

from raftlog.clock import ManualClock
from raftlog.consensus.candidate import Ballot, Candidate
from raftlog.consensus.follower import Follower
from raftlog.consensus.leader import Leader
from raftlog.consensus.links import Links
from raftlog.consensus.member import RaftMember
from raftlog.consensus.record_copy import RecordCopy
from raftlog.consensus.seat import Seat
from raftlog.consensus.voters import Outcome, Vote, VoterSet
from raftlog.errors import InvalidRequestError
from raftlog.protocol import codec
from raftlog.protocol import raft as r
from raftlog.storage.index import MemoryIndex
from raftlog.storage.log import PartitionLog
from raftlog.storage.simulated_disk import SimulatedDisk
from raftlog.types import NOBODY, Doubt, Flush, ReplicaSpec, TopicConfig
from tests.partition.harness import TOPIC_ID

SPEC = ReplicaSpec(topic="orders", topic_id=TOPIC_ID, partition=0, replicas=(1, 2, 3))
HEAD = (TOPIC_ID, 0, 2, 20, 10, 5)  # from node 2 to node 1, in term 5


class Desk:
    """Node 1 of three, at the end of an empty log in term 5; the others are up."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, Any]] = []
        self.log = PartitionLog.open(
            disk=SimulatedDisk(),
            directory="orders-0",
            topic_id=TOPIC_ID,
            config=TopicConfig(),
            flush=Flush.ALWAYS,
            clock=ManualClock(),
            index=lambda path: MemoryIndex(),
        )
        self.log.state.set_term(5, 1)
        self.links = Links(1, 10, SPEC, self.log.state, lambda node_id, m, payload: self.sent.append((node_id, m)))
        self.links.boots.update({2: 20, 3: 30})
        self.seat = Seat(1, VoterSet(SPEC.half), self.log, self.links)

    def follower(self) -> Follower:
        return Follower(self.seat, RecordCopy(self.seat, self.log))

    def leader(self) -> Leader:
        return Leader(self.seat, self.log, self.log.append_epoch_start(5), 1.0, by_all=False)


def append(prev_index: int, prev_term: int, *starts: tuple[int, int], commit: int = 1) -> r.AppendEntries:
    """No-ops behind (prev_index, prev_term); no-ops need no bytes."""
    return r.AppendEntries(*HEAD, 1, prev_index, prev_term, commit, len(starts), list(starts), 0, 9, 0)


def answer(match_index: int, sequence: int, **changes: Any) -> r.AppendResponse:
    return r.AppendResponse(*HEAD, sequence, True, match_index, 0, Doubt.NONE, **changes)


def test_a_follower_answers_only_after_the_sync() -> None:
    desk = Desk()
    desk.follower().on_append(append(1, 0, (2, 4)), b"")
    assert desk.sent == []
    desk.log.persist()
    desk.links.release()
    [(to, response)] = desk.sent
    assert (to, response.success, response.match_index) == (2, True, 2)


def test_a_follower_commits_no_more_than_it_was_shown() -> None:
    desk = Desk()
    follower = desk.follower()
    follower.on_append(append(1, 0, (2, 3), (3, 4)), b"")
    follower.on_append(append(2, 3, commit=9), b"")
    assert desk.seat.commit_index == 2
    follower.on_append(append(3, 4, commit=9), b"")
    assert desk.seat.commit_index == 3


def test_a_follower_cuts_what_its_leader_has_otherwise_and_nothing_else() -> None:
    desk = Desk()
    follower = desk.follower()
    follower.on_append(append(1, 0, (2, 2), (3, 3)), b"")
    follower.on_append(append(1, 0, (2, 2)), b"")
    assert (desk.log.last_index, desk.log.state.truncations) == (3, 0)
    follower.on_append(append(2, 2, (3, 4)), b"")
    assert (desk.log.last_term, desk.log.state.truncations) == (4, 1)


def test_a_follower_says_where_the_leader_should_try_next() -> None:
    desk = Desk()
    follower = desk.follower()
    follower.on_append(append(7, 4), b"")
    follower.on_append(append(1, 0, (2, 2), (3, 3)), b"")
    follower.on_append(append(3, 4), b"")
    refused = [m for _, m in desk.links.held if not m.success]  # type: ignore[union-attr]
    assert [m.hint_index for m in refused] == [2, 3]  # one past its end; the start of the conflicting term


def test_a_candidate_counts_each_voter_once_and_itself_first() -> None:
    desk = Desk()
    candidate = Candidate(Ballot(desk.seat, 5))
    assert candidate.leader_id == NOBODY
    assert candidate.ballot.outcome(loss_accepted=False) is Outcome.OPEN
    candidate.ballot.grant(2, Vote(Doubt.CUT_TAIL, 1))
    candidate.ballot.grant(2, Vote(Doubt.CUT_TAIL, 1))
    assert candidate.ballot.outcome(loss_accepted=False) is Outcome.OPEN
    candidate.ballot.grant(3, Vote(Doubt.NONE, 1))
    assert candidate.ballot.outcome(loss_accepted=False) is Outcome.MAJORITY


def test_only_an_accepted_loss_elects_where_a_majority_lost_its_disks() -> None:
    ballot = Ballot(Desk().seat, 5)
    for voter in (2, 3):
        ballot.grant(voter, Vote(Doubt.LOST_DISK, 1))
    assert ballot.outcome(loss_accepted=False) is Outcome.CLOSED
    assert ballot.outcome(loss_accepted=True) is Outcome.ALL


def test_a_leader_commits_what_a_majority_holds_itself_only_once_it_is_synced() -> None:
    desk = Desk()
    leader = desk.leader()
    leader.replicate(1.0)
    assert [to for to, _ in desk.sent] == [2, 3]
    leader.after_persist(1.0)
    assert (desk.seat.commit_index, leader.is_ready) == (1, False)
    leader.on_append_response(answer(leader.epoch_index, 1), 1.1)
    leader.after_persist(1.1)
    assert (desk.seat.commit_index, leader.is_ready) == (leader.epoch_index, True)
    assert leader.acked_index == 0, "node 3 is in sync still, and has not answered"


def test_a_leader_counts_no_doubtful_follower() -> None:
    desk = Desk()
    leader = desk.leader()
    leader.replicate(1.0)
    leader.on_append_response(msgspec.structs.replace(answer(leader.epoch_index, 1), doubt=Doubt.CUT_TAIL), 1.1)
    leader.after_persist(1.1)
    assert desk.seat.commit_index == 1


def test_a_leader_that_hears_no_majority_any_more_says_so() -> None:
    leader = Desk().leader()
    leader.replicate(1.0)
    leader.on_append_response(answer(1, 1), 2.0)
    assert leader.hears_majority(3.4, 1.5)
    assert not leader.hears_majority(3.6, 1.5)


def test_a_leader_leads_still_for_who_asks_once_a_majority_has_answered_since() -> None:
    leader = Desk().leader()
    leader.replicate(1.0)
    leader.on_append_response(answer(1, 1), 1.1)
    asked = leader.ask_confirmation()
    assert not leader.confirmed(asked)
    leader.replicate(1.2)
    leader.on_append_response(answer(1, asked), 1.3)
    assert leader.confirmed(asked)


def test_a_member_leaves_nothing_of_a_leadership_to_the_next_role() -> None:
    desk = Desk()
    member = RaftMember(
        node_id=1,
        boot_id=10,
        spec=SPEC,
        log=desk.log,
        rng=random.Random(1),
        send=lambda node_id, m, payload: None,
        now_s=1.0,
    )
    for other, boot_id in ((2, 20), (3, 30)):
        member.set_peer(other, boot_id, 1.0)
    member._elections.expire()
    member.tick(2.0)
    member.receive(r.VoteResponse(*HEAD[:5], member.term, True, Doubt.NONE, 1), None, 2.0)
    assert (member.is_leader, member.leader_id, member.in_sync) == (True, 1, (1, 2, 3))
    member.receive(r.AppendResponse(*HEAD[:5], member.term + 1, 1, False, 0, 1, Doubt.NONE), None, 2.1)
    assert (member.is_leader, member.leader_id, member.in_sync, member.acked_index) == (False, NOBODY, (), 0)


@pytest.mark.parametrize("kind", [r.AppendResponse, r.VoteResponse, r.PreVoteResponse])
def test_a_doubt_that_nobody_knows_is_refused_with_the_message(kind: Any) -> None:
    """By the decoder: it never gets as far as a member."""
    fields = {
        r.AppendResponse: (1, True, 1, 0, Doubt.NONE),
        r.VoteResponse: (True, Doubt.NONE, 1),
        r.PreVoteResponse: (6, True, Doubt.NONE, 1),
    }
    good = kind(*HEAD, *fields[kind])
    assert codec.decode_raft(codec.encode(good)) == good
    good.doubt = 99
    with pytest.raises(InvalidRequestError):
        codec.decode_raft(codec.encode(good))
