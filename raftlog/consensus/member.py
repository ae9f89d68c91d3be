"""One member of a Raft group: it holds a role, makes every change of it, and votes; pysyncobj has terms and timer.

The caller's turn gives the order (docs/durability.md):

    receive()…  ->  tick()  ->  [append as leader]  ->  replicate()  ->  log.persist()  ->  after_persist()

What is sent by `replicate` (AppendEntries) may leave BEFORE the local sync, since the leader counts itself only up to
its synced index. Everything that claims durability (votes, success replies, any message in a new term) is held
back and leaves from `after_persist` only (G5). No clock, socket or file is reached for; the log is the disk.

    voters.py       VoterSet: the one place that counts majorities
    seat.py         Seat: what stays while the role changes (log, commit index), with its links (links.py)
    follower.py     Follower, with the copy of its leader's log (record_copy.py, witness_copy.py)
    candidate.py    Candidate
    leader.py       Leader, with the progress of each follower, the in-sync replicas and the witnesses' feed
    change.py       Change: whom a leader feeds besides the voters, and when it may change them
    hibernation.py  Hibernation: whether the group sleeps, and the time that it measures by

Guards G1 to G11 are named where they stand; docs/consensus.md says what each one prevents.
"""

from __future__ import annotations

import random
from collections.abc import Iterable

from raftlog import limits
from raftlog.clock import LONG_AGO_S, NEVER_S
from raftlog.consensus.candidate import Ballot, Candidate
from raftlog.consensus.change import WhyNot
from raftlog.consensus.elections import Elections
from raftlog.consensus.follower import Follower
from raftlog.consensus.hibernation import Hibernation
from raftlog.consensus.leader import Leader
from raftlog.consensus.links import Links, Send
from raftlog.consensus.record_copy import RecordCopy
from raftlog.consensus.seat import Log, Seat
from raftlog.consensus.voters import Outcome, Vote, VoterSet
from raftlog.consensus.witness_copy import WitnessCopy
from raftlog.errors import DiskFullError
from raftlog.protocol import raft as r
from raftlog.storage.witness_log import WitnessLog
from raftlog.types import NOBODY, Buffer, Doubt, Half, ReplicaSpec


class RaftMember:
    """The member `node_id` of the group of `spec`. A witness, which has a WitnessLog, never stands, so it never leads.

    A learner is none of the voters of `spec`, and stands once a configuration of its log names it.

    Raises StorageError from the log only.
    """

    def __init__(
        self,
        *,
        node_id: int,
        boot_id: int,
        spec: ReplicaSpec,
        log: Log,
        rng: random.Random,
        send: Send,
        now_s: float,
    ) -> None:
        assert node_id not in (spec.replicas if isinstance(log, WitnessLog) else spec.witnesses)
        self.node_id = node_id
        self.log = log
        self._links = Links(node_id, boot_id, spec, log.state, send)
        self._seat = Seat(node_id, VoterSet(spec.half), log, self._links)
        self._elections = Elections(node_id, log, rng, now_s)
        self._hibernation = Hibernation(now_s)
        self.role: Follower | Candidate | Leader = self._new_follower()
        self._prevote: Ballot | None = None  # G11: asked for since the last change of role, and not given up
        self._transferred = False  # the leader has asked this replica to stand
        self._heard_leader_s = LONG_AGO_S
        self._asked_terms_s = LONG_AGO_S
        self._loss_accepted_until_s = 0.0
        self._renews = False
        self._is_alone_at_start = not self._seat.others  # nobody to wait for: the first tick may stand

    # --- what others ask -------------------------------------------------------------------
    @property
    def voters(self) -> VoterSet:
        """As this member knows them: of the newest configuration of its log, committed or not."""
        return self._seat.voters

    @property
    def is_leader(self) -> bool:
        return isinstance(self.role, Leader)

    @property
    def leader_ready(self) -> bool:
        """Leads, and its commit index is not older than that of any leader before it.

        Not when it slept, and a majority has not said since that it leads still.
        """
        role = self.role
        return isinstance(role, Leader) and role.is_ready and not role.is_waking

    @property
    def is_waking(self) -> bool:
        """As leader: it slept, and does not know yet whether it leads still."""
        return isinstance(self.role, Leader) and self.role.is_waking

    @property
    def is_asleep(self) -> bool:
        return self._hibernation.is_asleep

    @property
    def is_drowsy(self) -> bool:
        """Asleep, or about to be: whatever happens has to be told (`stir`) at once."""
        return self._hibernation.is_drowsy

    @property
    def leader_id(self) -> int:
        return self.role.leader_id

    @property
    def term(self) -> int:
        return self.log.state.term

    @property
    def commit_index(self) -> int:
        return self._seat.commit_index

    @property
    def acked_index(self) -> int:
        """As leader: what acks=all may be answered for."""
        return self.role.acked_index if isinstance(self.role, Leader) else 0

    @property
    def in_sync(self) -> tuple[int, ...]:
        """The in-sync replicas, as their leader knows them; empty elsewhere."""
        return self.role.in_sync if isinstance(self.role, Leader) else ()

    @property
    def in_sync_count(self) -> int:
        """How many of them `min_insync_replicas` counts."""
        return self.role.in_sync_count if isinstance(self.role, Leader) else 0

    @property
    def successors(self) -> tuple[int, ...]:
        """As leader: whom to hand over to, so that a change of the voters can end."""
        return self.role.successors if isinstance(self.role, Leader) else ()

    @property
    def is_held_elsewhere(self) -> bool:
        """What is committed here can be fetched again. Not by a leader that is alone in sync, with witnesses."""
        if isinstance(self.role, Leader) and self.voters.witnesses:
            return len(self.role.in_sync) > 1
        return self.voters.replicas != (self.node_id,)

    @property
    def held_index(self) -> int:
        """Up to here every replica with records has held the log, durably; on a follower as its leader last said."""
        return self.role.held_index

    @property
    def held_log_start(self) -> int:
        """As leader: see Leader."""
        return self._leading().held_log_start

    def is_settled(self, now_s: float) -> bool:
        """Everything here is durable and committed, nothing is held back, and no timer is due."""
        return (
            not self._links.held
            and self._seat.is_at_rest
            and (self.role.is_settled if isinstance(self.role, Leader) else not self._is_alone_at_start)
            and now_s < self.next_wakeup_s()
        )

    def next_wakeup_s(self) -> float:
        """When `tick` is due even if nothing arrives. Never, while the group sleeps."""
        if self.is_asleep:
            return NEVER_S
        if isinstance(self.role, Leader):
            return self._hibernation.clock_s(self.role.next_due_s())
        return self._hibernation.clock_s(self._elections.deadline_s)

    # --- what a caller tells it ------------------------------------------------------------
    # Each takes the time of its caller's clock, and goes on with that of the group (hibernation.py).
    def stir(self, now_s: float) -> None:
        """Something happens that concerns the group: who sleeps wakes, and nobody goes to sleep for a while."""
        if self._hibernation.stir(now_s):
            self._wake(self._hibernation.group_s(now_s), tells=True)

    def _wake(self, now_s: float, *, tells: bool) -> None:
        """A follower begins a whole time-out: it is not its leader that was silent. It `tells` all others that it woke.

        The leader answers with a round of heartbeats, which ends that time-out. The others begin theirs at the same
        time: when no leader is left, who stands first is not refused by one that has just been woken by the question.
        """
        role = self.role
        if isinstance(role, Leader):
            role.wake()
            return
        self._elections.postpone(now_s)
        if tells:
            self._ask_prevotes(self._seat.others, 0)

    def set_silent(self, nodes: Iterable[int], now_s: float) -> None:
        """Nodes that the supervisor does not hear. Their processes may be well, and are not taken for gone."""
        if not self._hibernation.set_silent(nodes).isdisjoint(self._seat.others):
            self.stir(now_s)

    def rest(self, now_s: float) -> None:
        """As leader, at the end of a turn, and nobody wants anything: ask all to sleep once that was so for a while."""
        role, sleep, links = self.role, self._hibernation, self._links
        if sleep.round and links.sequence != sleep.round:
            sleep.stir(now_s)  # a heartbeat had to leave BEFORE all had agreed, and wakes those who have
        if (
            not isinstance(role, Leader)
            or not sleep.may_ask(now_s, self._seat.others)
            or not self._may_sleep(sleep.group_s(now_s))
        ):
            return
        sleep.ask(links.next_sequence(), self._seat.others)
        boots = self._boots()
        for node_id in self._seat.others:
            links.send(
                node_id,
                None,
                r.SleepRequest,
                sleep.round,
                self.log.last_index,
                self.log.last_term,
                self._configuration_index,
                boots,
            )
        self._sleep_if_agreed(now_s)

    def _may_sleep(self, now_s: float) -> bool:
        """Everything here is durable, committed and noted as such, and no timer is due."""
        role, seat = self.role, self._seat
        if not seat.is_at_rest or self.log.state.is_bound_due or seat.rejoin.mute:
            return False
        if isinstance(role, Leader):
            return role.may_sleep(now_s)
        return isinstance(role, Follower) and self._prevote is None and now_s < self._elections.deadline_s

    def _boots(self) -> list[tuple[int, int]]:
        """The process of each voter, as this member knows it."""
        return [(node_id, self._links.boot_of(node_id)) for node_id in self.voters.ids]

    @property
    def _configuration_index(self) -> int:
        newest = self.log.configuration_at(self.log.last_index)
        return 0 if newest is None else newest.index

    def set_peer(self, node_id: int, boot_id: int, now_s: float) -> None:
        """The boot id of another member's process; 0: it is gone."""
        boots = self._links.boots
        if node_id == self.node_id or boots.get(node_id, 0) == boot_id:
            return
        boots[node_id] = boot_id
        self.stir(now_s)
        now_s = self._hibernation.group_s(now_s)
        if self._is_founder:
            self._elections.hasten(now_s)
        if boot_id == 0 and node_id == self.leader_id:
            # Its supervisor, or a broken connection, says so: no need to sit the time-out out.
            self._heard_leader_s = LONG_AGO_S
            self._elections.hasten(now_s)
        if isinstance(self.role, Leader):
            self.role.on_peer(node_id, now_s)

    def delete_head(self, log_start_offset: int) -> None:
        """Let what lies below an offset go, never what is not committed here."""
        self._seat.delete_head(log_start_offset)

    def ask_confirmation(self) -> int:
        """As leader: see Leader."""
        return self._leading().ask_confirmation()

    def confirmed(self, asked: int) -> bool:
        """Whether this member leads still, by what a majority has answered since `asked`."""
        return isinstance(self.role, Leader) and self.role.confirmed(asked)

    def transfer_to(self, node_id: int) -> bool:
        """As leader: ask a follower that holds the whole log to stand at once. The caller has paused appends."""
        return isinstance(self.role, Leader) and self.role.transfer_to(node_id)

    @property
    def learning(self) -> dict[int, int]:
        """As leader, by learner: the Raft index up to which it holds the log; empty elsewhere."""
        return self.role.learning if isinstance(self.role, Leader) else {}

    @property
    def given_up(self) -> dict[int, str]:
        """As leader: learners that are fed no more, and why."""
        return self._leading().given_up

    def learn(self, learners: Half, now_s: float, bytes_per_s: int = 0) -> None:
        """As leader: feed those who are to be members, instead of the learners before."""
        role = self._leading()
        if learners != role.learners:
            self.stir(now_s)
        role.learn(learners, self._hibernation.group_s(now_s), bytes_per_s)

    def change_to(
        self, half: Half, expected: tuple[int, int], now_s: float, *, handing_over: bool, in_sync_min: int
    ) -> WhyNot | None:
        """As leader: begin to change the voters, see Change.begin. It is done once a C is committed, by any leader."""
        self.stir(now_s)
        now_s = self._hibernation.group_s(now_s)
        return self._leading().change_to(half, expected, now_s, handing_over=handing_over, in_sync_min=in_sync_min)

    def call_off(self, expected: tuple[int, int], now_s: float, *, handing_over: bool) -> WhyNot | None:
        """As leader: go back to the old voters, if the new ones do not stand alone yet, see Change.call_off."""
        self.stir(now_s)
        now_s = self._hibernation.group_s(now_s)
        return self._leading().call_off(expected, now_s, handing_over=handing_over)

    def advance_change(self, now_s: float, *, handing_over: bool) -> None:
        """Step 3 of a turn: what a change of the voters needs."""
        if isinstance(self.role, Leader):
            self.role.advance_change(self._hibernation.group_s(now_s), handing_over=handing_over)

    def narrow(self, named: Iterable[int], now_s: float) -> None:
        """A newer image of the metadata names these: one that lost its disk need not hear others."""
        self._end_muteness(self._seat.rejoin.narrow(named), self._hibernation.group_s(now_s))

    def accept_loss(self, now_s: float, *, renews: bool = False) -> None:
        """For RECOVERY_S an election by all votes is open for this replica, whatever is known to be lost.

        All others have to vote, with empty disks or not, so that none is left that holds more. Kept in memory: a
        permission that outlived its moment could undo in a year what was acknowledged since.

        `renews`: its voters, of a group that has changed them, become a configuration of its own term. One that the
        metadata has heard of may be lost, and would be newer there than any that is left.
        """
        self._renews = renews
        self.stir(now_s)
        now_s = self._hibernation.group_s(now_s)
        if isinstance(self.role, Leader):
            if self.role.is_ready:
                return
            self._become(self._new_follower(), now_s)  # it can commit nothing; its followers' doubt needs an election
        self._loss_accepted_until_s = now_s + limits.RECOVERY_S
        self._elections.hasten(now_s)

    # --- the turn --------------------------------------------------------------------------
    def receive(self, message: r.RaftMessage, payload: Buffer | None, now_s: float) -> None:
        """Take one message of another member. Anything not from its current boot to ours is dropped."""
        if not self._links.accepts(message):
            return
        if isinstance(message, r.SleepResponse):
            self._on_sleep_response(message, now_s)
            return
        self._stir_for(message, now_s)
        if isinstance(message, r.SleepRequest):
            self._on_sleep_request(message, now_s)
            return
        now_s = self._hibernation.group_s(now_s)
        self._end_muteness(self._seat.rejoin.hear(message.sender_id, message.term), now_s)
        match message:
            case r.AppendEntries():
                follower = self._follower_of(message, now_s)
                if follower is not None:
                    if message.learner:
                        self._seat.rejoin.hear_learner()
                        self.log.state.note_new()
                    follower.on_append(message, payload or b"")
            case r.AppendResponse():
                self._on_append_response(message, now_s)
            case r.PreVoteRequest():
                self._on_prevote_request(message, now_s)
            case r.PreVoteResponse():
                self._on_prevote_response(message, now_s)
            case r.VoteRequest():
                self._on_vote_request(message, now_s)
            case r.VoteResponse():
                self._on_vote_response(message, now_s)
            case r.ResetRequest():
                follower = self._follower_of(message, now_s)
                if follower is not None:
                    follower.on_reset(message, payload or b"")
            case r.TimeoutNow():
                self._on_timeout_now(message)

    def _stir_for(self, m: r.RaftMessage, now_s: float) -> None:
        """Any message wakes a sleeper, for good, whatever it answers.

        Else one that alone is cut off from the leader would be refused forever by one that sleeps on.
        """
        hibernation = self._hibernation
        if hibernation.is_asleep:
            hibernation.stir(now_s)
            woken_by_leader = isinstance(m, r.AppendEntries) and m.sender_id == self.leader_id
            self._wake(hibernation.group_s(now_s), tells=not woken_by_leader)
        elif isinstance(m, r.PreVoteRequest | r.VoteRequest | r.TimeoutNow | r.ResetRequest):
            hibernation.stir(now_s)

    def _on_sleep_request(self, m: r.SleepRequest, now_s: float) -> None:
        """Agreed to with everything that the leader holds, and with what it knows of the members."""
        log, hibernation = self.log, self._hibernation
        agreed = (
            m.term == self.term
            and m.sender_id == self.leader_id
            and (m.last_index, m.last_term) == (log.last_index, log.last_term)
            and m.last_index == self.role.match_index
            and m.configuration_index == self._configuration_index
            and m.boots == self._boots()
            and hibernation.may_agree(now_s, self._seat.others)
            and self._may_sleep(hibernation.group_s(now_s))
        )
        if agreed:
            hibernation.fall_asleep(now_s)
        self._links.hold(m.sender_id, r.SleepResponse, m.sequence, agreed)

    def _on_sleep_response(self, m: r.SleepResponse, now_s: float) -> None:
        sleep = self._hibernation
        if m.term > self.term:
            self.stir(now_s)
            self._adopt_term(m.term, NOBODY, sleep.group_s(now_s))
        elif m.sequence == sleep.round:
            if m.agreed:
                sleep.agreed(m.sender_id, m.sequence)
                self._sleep_if_agreed(now_s)
            else:
                sleep.stir(now_s)

    def _sleep_if_agreed(self, now_s: float) -> None:
        """As leader. What it sent since it asked has woken those who had agreed."""
        sleep = self._hibernation
        if sleep.is_agreed and self._links.sequence == sleep.round and self._may_sleep(sleep.group_s(now_s)):
            sleep.fall_asleep(now_s)

    def _end_muteness(self, adopted: int | None, now_s: float) -> None:
        if adopted is not None and adopted >= self.term:
            # The vote of that term may have been given before the disk was lost: it counts as spent.
            self._adopt_term(adopted, self.node_id, now_s)

    def tick(self, now_s: float) -> None:
        """Timers: ask for prevotes, stand for election, step down without a majority."""
        now_s = self._hibernation.group_s(now_s)
        if self._seat.rejoin.mute and now_s - self._asked_terms_s >= limits.HEARTBEAT_S:
            self._asked_terms_s = now_s
            self._ask_prevotes(dict.fromkeys((*self._seat.others, *sorted(self._seat.rejoin.unheard))), 0)
        if isinstance(self.role, Leader):
            if self.role.is_blocked(now_s) or not self.role.hears_majority(now_s, limits.LEADER_FALLBACK_S):
                self._become(self._new_follower(), now_s)
            return
        deadline_s = self._elections.deadline_s
        if deadline_s > 0.0 and (now_s >= deadline_s or self._is_alone_at_start):
            self._is_alone_at_start = False
            self._start_prevote(now_s)
        if self._elections.tick(now_s):
            self._stand(now_s)

    def replicate(self, now_s: float) -> None:
        """As leader: send what each follower's window allows, and heartbeats when due."""
        if isinstance(self.role, Leader):
            self.role.replicate(self._hibernation.group_s(now_s))

    def after_persist(self, now_s: float) -> None:
        """All that was appended, and term and vote, are durable: count, commit, and let go what was held."""
        role, seat = self.role, self._seat
        if isinstance(role, Leader):
            role.after_persist(self._hibernation.group_s(now_s))
        self.log.state.note_commit(seat.commit_index)
        seat.end_doubt(role.match_index)
        self._links.release()

    # --- the role --------------------------------------------------------------------------
    def _become(self, role: Follower | Candidate | Leader, now_s: float) -> None:
        """The one place where the role changes. A new object each time: nothing of the last role's state is left.

        Follower  -> Candidate  its prevote was won, or its leader asked it to stand; its term has begun
        Candidate -> Candidate  nobody won that term, and the next prevote was won
        Candidate -> Leader     elected, and the no-op of its term is durable
        Candidate -> Follower   another member leads its term; a higher term was heard; no room for its no-op
        Follower  -> Follower   a higher term was heard: what was known of the last leader is over
        Leader    -> Follower   a higher term was heard; no majority answers; a majority is in doubt (`is_blocked`);
                                the operator accepts a loss while nothing can be committed
        """
        was, self.role = self.role, role
        self._prevote = None
        self._hibernation.call_off()
        if isinstance(was, Leader):
            self._elections.postpone(now_s)

    def _new_follower(self) -> Follower:
        log = self.log
        copy = WitnessCopy(self._seat, log) if isinstance(log, WitnessLog) else RecordCopy(self._seat, log)
        return Follower(self._seat, copy)

    def _adopt_term(self, term: int, voted_for: int, now_s: float) -> None:
        if term > self.term or not isinstance(self.role, Follower):
            self._become(self._new_follower(), now_s)
        self._elections.adopt_term(term, voted_for, now_s)

    def _follower_of(self, m: r.AppendEntries | r.ResetRequest, now_s: float) -> Follower | None:
        """The role in which a leader's message is taken; None when its term is over, which it is told (G3)."""
        role = self.role
        if m.term < self.term:
            self._links.answer(m, success=False)
            return None
        if m.term > self.term:
            # The vote of a term whose leader is known can only have gone to it.
            self._adopt_term(m.term, m.sender_id, now_s)
        elif not isinstance(role, Follower):
            assert not isinstance(role, Leader), "two leaders in one term"
            self._become(self._new_follower(), now_s)
        role = self.role
        assert isinstance(role, Follower)
        role.leader_id = m.sender_id
        self._prevote = None
        self._transferred = False
        self._heard_leader_s = now_s
        self._elections.postpone(now_s)
        return role

    def _leading(self) -> Leader:
        assert isinstance(self.role, Leader), "asked of leaders only"
        return self.role

    def _on_append_response(self, m: r.AppendResponse, now_s: float) -> None:
        if m.term > self.term:
            self._adopt_term(m.term, NOBODY, now_s)
        elif isinstance(self.role, Leader) and m.term == self.term:  # G3: a lower one answers another term's message
            self.role.on_append_response(m, now_s)

    # --- standing --------------------------------------------------------------------------
    @property
    def _is_founder(self) -> bool:
        """Of a group that never had a leader, the preferred one stands first."""
        return self.term == 0 and self.voters.replicas[:1] == (self.node_id,)

    def _start_prevote(self, now_s: float) -> None:
        """G11: ask whether an election could be won before disturbing anybody with a new term."""
        self._elections.postpone(now_s)
        if self._is_founder:
            self._elections.hasten(now_s)  # the others may not know this process yet: ask again soon
        is_witness = isinstance(self.log, WitnessLog)
        if self._seat.rejoin.mute and not is_witness:
            return
        if isinstance(self.role, Follower):
            self.role.leader_id = NOBODY
        if is_witness or self.node_id not in self.voters.ids:
            return  # it waits for a replica that stands
        self._prevote = Ballot(self._seat, self.term + 1)
        self._ask_prevotes(self._prevote.asked, self._prevote.term)
        self._count_prevotes(self._prevote, now_s)

    def _ask_prevotes(self, nodes: Iterable[int], asked_term: int) -> None:
        for other in nodes:
            self._links.hold(other, r.PreVoteRequest, asked_term, self.log.last_index, self.log.last_term)

    def _count_prevotes(self, prevote: Ballot, now_s: float) -> None:
        if self._outcome(prevote, now_s) in (Outcome.MAJORITY, Outcome.ALL):
            self._elections.expire()

    def _outcome(self, ballot: Ballot, now_s: float) -> Outcome:
        return ballot.outcome(loss_accepted=now_s < self._loss_accepted_until_s)

    def _stand(self, now_s: float) -> None:
        """pysyncobj has just begun a new term with a vote for ourselves."""
        candidate = Candidate(Ballot(self._seat, self.term))
        self._become(candidate, now_s)
        self._seat.rejoin.on_vote(self.term)
        transfer, self._transferred = self._transferred, False
        self._ask_votes(candidate.ballot.asked, transfer=transfer)
        self._count_votes(candidate, now_s)

    def _ask_votes(self, nodes: Iterable[int], *, transfer: bool) -> None:
        for other in nodes:
            self._links.hold(other, r.VoteRequest, self.log.last_index, self.log.last_term, transfer)

    def _count_votes(self, candidate: Candidate, now_s: float) -> None:
        result = self._outcome(candidate.ballot, now_s)
        if result in (Outcome.MAJORITY, Outcome.ALL):
            self._lead(result is Outcome.ALL, now_s)

    def _lead(self, by_all: bool, now_s: float) -> None:
        log = self.log
        assert not isinstance(log, WitnessLog), "a witness never stands"
        doubt, reason = log.state.doubt, log.state.doubt_reason
        if by_all and doubt is not Doubt.NONE:
            log.state.set_doubt(Doubt.NONE, "")
            log.state.lower_commit_bound(log.last_index)  # matters when a loss was accepted
        renews, self._renews = self._renews and self._loss_accepted_until_s > now_s, False
        self._loss_accepted_until_s = 0.0
        try:
            # Syncs the batches before it, THEN `state` with term, vote and this epoch start. BEFORE any batch of it.
            epoch_index = log.append_epoch_start(self.term)
            if renews:
                log.append_configuration(self.voters.halves)
        except DiskFullError:
            log.state.set_doubt(doubt, reason)
            self._become(self._new_follower(), now_s)  # the vote stands; one with room may win the next term
            return
        self._become(Leader(self._seat, log, epoch_index, now_s, by_all=by_all), now_s)
        self._seat.rejoin.on_append(self.term, epoch_index, epoch_index if by_all else 0)

    def _on_timeout_now(self, m: r.TimeoutNow) -> None:
        if isinstance(self.log, WitnessLog):
            return  # nobody who knows the group asks a witness to lead
        if self.node_id not in self.voters.ids:
            return  # likewise
        if m.term == self.term and m.sender_id == self.leader_id and not self._seat.rejoin.mute:
            self._transferred = True
            self._elections.expire()

    # --- voting ----------------------------------------------------------------------------
    def _candidate_is_current(self, last_term: int, last_index: int) -> bool:
        return (last_term, last_index) >= (self.log.last_term, self.log.last_index)

    def _leader_is_alive(self, now_s: float) -> bool:
        """G11, stickiness: a leader was heard within the shortest time-out, or is this replica itself."""
        if isinstance(self.role, Leader):
            return self.role.hears_majority(now_s, limits.ELECTION_TIMEOUT_MIN_S)
        return now_s - self._heard_leader_s < limits.ELECTION_TIMEOUT_MIN_S

    def _on_prevote_request(self, m: r.PreVoteRequest, now_s: float) -> None:
        granted = (
            m.asked_term > self.term
            and not self._seat.rejoin.mute
            and not self._leader_is_alive(now_s)
            and self._candidate_is_current(m.last_term, m.last_index)
        )
        self._links.hold(m.sender_id, r.PreVoteResponse, m.asked_term, granted, *self._seat.vote)

    def _on_prevote_response(self, m: r.PreVoteResponse, now_s: float) -> None:
        prevote = self._prevote
        if m.term > self.term and not self._seat.rejoin.mute:
            self._adopt_term(m.term, NOBODY, now_s)
        elif m.granted and prevote is not None and m.asked_term == prevote.term:
            asked = prevote.asked
            prevote.grant(m.sender_id, Vote(m.doubt, m.bound, m.named))
            self._ask_prevotes([other for other in prevote.asked if other not in asked], prevote.term)
            self._count_prevotes(prevote, now_s)

    def _on_vote_request(self, m: r.VoteRequest, now_s: float) -> None:
        if self._seat.rejoin.mute or (self._leader_is_alive(now_s) and not m.transfer and m.term > self.term):
            return
        if m.term > self.term:
            self._adopt_term(m.term, NOBODY, now_s)
        granted = (
            m.term == self.term
            and isinstance(self.role, Follower)
            and self.log.state.voted_for in (NOBODY, m.sender_id)
            and self._candidate_is_current(m.last_term, m.last_index)
        )
        vote = self._seat.vote
        if granted:
            self._seat.rejoin.on_vote(m.term)
            self._elections.adopt_term(m.term, m.sender_id, now_s)
            self._elections.postpone(now_s)
        self._links.hold(m.sender_id, r.VoteResponse, granted, *vote)

    def _on_vote_response(self, m: r.VoteResponse, now_s: float) -> None:
        role = self.role
        if m.term > self.term:
            self._adopt_term(m.term, NOBODY, now_s)
        elif m.granted and m.term == self.term and isinstance(role, Candidate):
            asked = role.ballot.asked
            role.ballot.grant(m.sender_id, Vote(m.doubt, m.bound, m.named))
            self._ask_votes([other for other in role.ballot.asked if other not in asked], transfer=False)
            self._count_votes(role, now_s)
