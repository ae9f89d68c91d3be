"""Standing for election and voting: prevote (G11), one counted vote per voter and term (G7), doubt on every vote.

pysyncobj runs the timers, terms and candidacies (elections.py); who is elected is decided in votes.py.
"""

from __future__ import annotations

from collections.abc import Mapping

from raftlog import limits
from raftlog.consensus.feeding import WitnessFeed
from raftlog.consensus.in_sync import InSync
from raftlog.consensus.member import NOBODY, Member
from raftlog.consensus.progress import Progress
from raftlog.consensus.votes import Outcome, Vote, majority, outcome
from raftlog.errors import DiskFullError
from raftlog.protocol import raft as r
from raftlog.types import Doubt, Role


class Voting(Member):
    def _start_prevote(self, now_s: float) -> None:
        """G11: ask whether an election could be won before disturbing anybody with a new term."""
        self._elections.postpone(now_s)
        if self._is_founder:
            self._elections.hasten(now_s)  # the others may not know this process yet: ask again soon
        if self._rejoin.mute:
            return
        self.leader_id = -1
        self._asked_term = self.term + 1
        self._prevotes = {self.node_id: self._own_vote()}
        self._ask_prevotes(self._asked_term)
        self._count_prevotes(now_s)

    @property
    def _is_founder(self) -> bool:
        """Of a group that never had a leader, the preferred one stands first."""
        return self.term == 0 and self.node_id == self.replicas[0]

    def _ask_prevotes(self, asked_term: int) -> None:
        for other in self._others:
            self._hold(other, r.PreVoteRequest, asked_term, self.log.last_index, self.log.last_term)

    def _count_prevotes(self, now_s: float) -> None:
        if self._outcome(self._prevotes, now_s) in (Outcome.MAJORITY, Outcome.ALL):
            self._elections.expire()

    def _outcome(self, votes: Mapping[int, Vote], now_s: float) -> Outcome:
        result = outcome(votes, self.voters, self.log.last_index)
        if result is Outcome.CLOSED and now_s < self._loss_accepted_until_s:
            return Outcome.ALL  # somebody has looked at what is lost and said that this replica is the truth
        return result

    def accept_loss(self, now_s: float) -> None:
        """For RECOVERY_S an election by all votes is open for this replica, whatever is known to be lost.

        All others have to vote, with empty disks or not, so that none is left that holds more. Kept in memory: a
        permission that outlived its moment could undo in a year what was acknowledged since.
        """
        if self.is_leader and self.commit_index < self.epoch_index:
            self._follow_nobody(now_s)  # one that can commit nothing; its followers' doubt needs another election
        if not self.is_leader:
            self._loss_accepted_until_s = now_s + limits.RECOVERY_S
            self._elections.hasten(now_s)

    def _stand(self, now_s: float) -> None:
        """pysyncobj has just begun a new term with a vote for ourselves."""
        self.leader_id = -1
        self._prevotes = {}
        self._asked_term = 0
        self._votes = {self.node_id: self._own_vote()}
        self._rejoin.on_vote(self.term)
        transfer, self._transferred = self._transferred, False
        for other in self._others:
            self._hold(other, r.VoteRequest, self.log.last_index, self.log.last_term, transfer)
        self._count_votes(now_s)

    def _count_votes(self, now_s: float) -> None:
        result = self._outcome(self._votes, now_s)
        if result in (Outcome.MAJORITY, Outcome.ALL):
            self._lead(result is Outcome.ALL, now_s)

    def _lead(self, by_all: bool, now_s: float) -> None:
        doubt, reason = self.log.doubt, self.log.doubt_reason
        if by_all and doubt is not Doubt.NONE:
            self.log.set_doubt(Doubt.NONE, "")
            self.log.lower_commit_bound(self.log.last_index)  # matters when a loss was accepted
        self._loss_accepted_until_s = 0.0
        try:
            # Syncs the batches before it, THEN `state` with term, vote and this epoch start. BEFORE any batch of it.
            self.epoch_index = self.log.append_epoch_start(self.term)
        except DiskFullError:
            self.log.set_doubt(doubt, reason)
            self._follow_nobody(now_s)  # the vote stands; somebody with room may win the next term
            return
        self._elections.become_leader(now_s)
        self._blocked_since_s = now_s
        self.leader_id = self.node_id
        self._all_votes_index = self.epoch_index if by_all else 0
        self._rejoin.on_append(self.term, self.epoch_index, self._all_votes_index)
        self._progress = {
            other: Progress(self.epoch_index, now_s, caught_up_s=now_s, first_sequence=self._sequence + 1)
            for other in self._others
        }
        followers = [node_id for node_id in self.replicas if node_id != self.node_id]
        self._in_sync = InSync(self.node_id, followers, self.epoch_index, now_s)
        self._feed = WitnessFeed(self.epoch_index if self.witnesses else 0)
        for other in self._others:
            if not self._boots[other]:
                self._in_sync.leave(other)  # known to be gone: nobody waits for it
        self.acked_index = 0

    def _own_vote(self) -> Vote:
        return Vote(self.log.doubt, self.log.commit_bound)

    def _candidate_is_current(self, last_term: int, last_index: int) -> bool:
        return (last_term, last_index) >= (self.log.last_term, self.log.last_index)

    def _leader_is_alive(self, now_s: float) -> bool:
        """G11, stickiness: a leader was heard within the shortest time-out, or is this replica itself."""
        if self.is_leader:
            heard = sum(now_s - p.replied_s < limits.ELECTION_TIMEOUT_MIN_S for p in self._progress.values())
            return heard + 1 >= majority(len(self.voters))
        return now_s - self._heard_leader_s < limits.ELECTION_TIMEOUT_MIN_S

    def _on_prevote_request(self, m: r.PreVoteRequest, now_s: float) -> None:
        granted = (
            m.asked_term > self.term
            and not self._rejoin.mute
            and not self._leader_is_alive(now_s)
            and self._candidate_is_current(m.last_term, m.last_index)
        )
        vote = self._own_vote()
        self._hold(m.sender_id, r.PreVoteResponse, m.asked_term, granted, vote.doubt, vote.bound)

    def _on_prevote_response(self, m: r.PreVoteResponse, now_s: float) -> None:
        if m.term > self.term and not self._rejoin.mute:
            self._adopt_term(m.term, NOBODY, now_s)
        elif m.granted and m.asked_term == self._asked_term == self.term + 1 and not self.is_leader:
            self._prevotes[m.sender_id] = Vote(m.doubt, m.bound)
            self._count_prevotes(now_s)

    def _on_vote_request(self, m: r.VoteRequest, now_s: float) -> None:
        if self._rejoin.mute or (self._leader_is_alive(now_s) and not m.transfer and m.term > self.term):
            return
        if m.term > self.term:
            self._adopt_term(m.term, NOBODY, now_s)
        granted = (
            m.term == self.term
            and self.role is Role.FOLLOWER
            and self.log.voted_for in (NOBODY, m.sender_id)
            and self._candidate_is_current(m.last_term, m.last_index)
        )
        vote = self._own_vote()
        if granted:
            self._rejoin.on_vote(m.term)
            self._elections.adopt_term(m.term, m.sender_id, now_s)
            self._elections.postpone(now_s)
        self._hold(m.sender_id, r.VoteResponse, granted, vote.doubt, vote.bound)

    def _on_vote_response(self, m: r.VoteResponse, now_s: float) -> None:
        if m.term > self.term:
            self._adopt_term(m.term, NOBODY, now_s)
        elif m.granted and m.term == self.term and self.role is Role.CANDIDATE:
            self._votes[m.sender_id] = Vote(m.doubt, m.bound)
            self._count_votes(now_s)

    def _on_timeout_now(self, m: r.TimeoutNow) -> None:
        if m.term == self.term and m.sender_id == self.leader_id and not self._rejoin.mute:
            self._transferred = True
            self._elections.expire()
