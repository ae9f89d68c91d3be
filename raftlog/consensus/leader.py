"""What a leader does for its followers: windows of AppendEntries (G4), resets, and the commit rule (G5)."""

from __future__ import annotations

from raftlog import limits
from raftlog.clock import LONG_AGO_S, NEVER_S
from raftlog.consensus.change import Change, WhyNot
from raftlog.consensus.in_sync import InSync
from raftlog.consensus.progress import Mode, Progress
from raftlog.consensus.seat import Seat
from raftlog.consensus.witness_feed import WitnessFeed
from raftlog.errors import CorruptLogError
from raftlog.protocol import raft as r
from raftlog.storage.log import PartitionLog
from raftlog.storage.reader import Entries
from raftlog.types import Doubt, Half, Role


class Leader:
    """The role of a member that leads one term, whose no-op `epoch_index` is durable here.

    `by_all`: it was elected by the votes of all voters, so whoever holds the no-op has nothing to doubt.
    """

    kind = Role.LEADER

    def __init__(self, seat: Seat, log: PartitionLog, epoch_index: int, now_s: float, *, by_all: bool) -> None:
        self._seat = seat
        self._log = log
        self._links = seat.links
        self._term = log.state.term
        self.leader_id = seat.node_id
        self.epoch_index = self.match_index = epoch_index
        self._all_votes_index = epoch_index if by_all else 0
        self._progress = {
            other: Progress(epoch_index, now_s, caught_up_s=now_s, first_sequence=self._links.sequence + 1)
            for other in seat.others
        }
        followers = [node_id for node_id in seat.voters.replicas if node_id != seat.node_id]
        self._in_sync = InSync(seat.node_id, followers, epoch_index, now_s)
        self._feed = WitnessFeed(epoch_index if seat.voters.witnesses else 0)
        self._change = Change(seat, log, self._progress, self._in_sync, epoch_index)
        self.acked_index = 0  # what acks=all may be answered for
        self._confirm = False
        self._read: tuple[int, Entries] | None = None  # in this turn, from this index on
        self._heartbeat_s = now_s  # when the followers are owed a sign of life
        self._blocked_since_s = now_s
        self._blocked_match = 0
        self._waking = 0  # since this leader woke: what has to be answered before it leads again; 0: nothing
        self._verified_s = LONG_AGO_S  # when this leader last read again what a follower could not read
        for other in seat.others:
            if not self._links.boots[other]:
                self._in_sync.leave(other)  # known to be gone: nobody waits for it

    # --- what others ask -------------------------------------------------------------------
    @property
    def is_ready(self) -> bool:
        """Its own no-op is committed, so its commit index is not older than any before it."""
        return self._seat.commit_index >= self.epoch_index

    @property
    def is_waking(self) -> bool:
        """It slept, and no majority has answered since: others may have elected another leader meanwhile."""
        return self._waking > 0

    @property
    def is_settled(self) -> bool:
        """Every follower holds the whole log, and no voters change."""
        last_index = self._log.last_index
        return (
            not self._change.under_way
            and not self._waking
            and all(progress.match_index == last_index for progress in self._progress.values())
        )

    def may_sleep(self, now_s: float) -> bool:
        """Every member is there, answers, and holds all that there is; nothing is under way."""
        last_index, log_start_offset = self._log.last_index, self._log.state.log_start_offset
        return (
            self.is_ready
            and self.is_settled
            and self._change.is_at_rest
            and self.acked_index == last_index
            and len(self.in_sync) == len(self._seat.voters.replicas)
            and self.hears_all(now_s)
            and all(
                p.doubt is Doubt.NONE and p.was_heard and p.log_start_offset == log_start_offset
                for p in self._progress.values()
            )
            and now_s <= self.next_due_s()
        )

    def hears_all(self, now_s: float) -> bool:
        """Every member is there, and has answered lately."""
        boots = self._links.boots
        return all(
            boots[node_id] != 0 and now_s - p.replied_s < limits.ELECTION_TIMEOUT_MIN_S
            for node_id, p in self._progress.items()
        )

    def wake(self) -> None:
        """It slept: a heartbeat leaves with the next `replicate`, and it leads nothing BEFORE a majority answered."""
        self._waking = self.ask_confirmation()
        self._end_waking()

    def _end_waking(self) -> None:
        if self._waking and self.confirmed(self._waking):
            self._waking = 0

    @property
    def in_sync(self) -> tuple[int, ...]:
        """The in-sync replicas, this leader among them."""
        return self._in_sync.members

    @property
    def held_index(self) -> int:
        """Up to here every replica with records has held the log, durably, learners among them."""
        state, witnesses = self._log.state, self._change.witnesses
        if state.doubt is not Doubt.NONE:
            return 0
        held_index = state.synced_index
        for node_id, progress in self._progress.items():
            if node_id in witnesses:
                continue
            if progress.doubt is not Doubt.NONE:
                return 0
            if progress.match_index < held_index:
                held_index = progress.match_index
        return held_index

    @property
    def held_log_start(self) -> int:
        """The highest log start offset that every in-sync replica and a majority of the voters has reached, durably."""
        starts = {node_id: progress.log_start_offset for node_id, progress in self._progress.items()}
        starts[self._seat.node_id] = self._log.state.log_start_offset
        reached = self._seat.voters.reached(starts)
        assert reached is not None  # all voters are in `starts`
        return min(reached, *(starts[node_id] for node_id in self.in_sync))

    def next_due_s(self) -> float:
        """When a sign of life is owed, somebody leaves the in-sync replicas, or witnesses are fed."""
        if not self._progress:
            return NEVER_S
        return min(self._heartbeat_s, self._in_sync.due_s(self._progress), self._feed.next_due_s, self._change.due_s())

    def hears_majority(self, now_s: float, within_s: float) -> bool:
        heard = [node_id for node_id, p in self._progress.items() if now_s - p.replied_s < within_s]
        return self._seat.voters.is_majority([self._seat.node_id, *heard])

    def is_blocked(self, now_s: float) -> bool:
        """With a majority in doubt nothing can commit, and so no doubt can end: only an election by all helps.

        A leader that reaches every replica and has been blocked like this for a while steps down for one; not while
        followers come nearer to its first entry: when they voted for it, their doubt ends there. What is appended
        behind that entry must not put the election off permanently.
        """
        seat, log = self._seat, self._log
        sure = [node_id for node_id, p in self._progress.items() if p.doubt is Doubt.NONE]
        if log.state.doubt is Doubt.NONE:
            sure.append(seat.node_id)
        if seat.voters.is_majority(sure) or seat.commit_index >= log.last_index:
            self._blocked_since_s = now_s
            return False
        followers = [self._progress[other] for other in seat.others]
        match = sum(min(p.match_index, self.epoch_index) for p in followers)
        reachable = all(now_s - p.replied_s < limits.ELECTION_TIMEOUT_MIN_S for p in followers)
        if not reachable:
            self._blocked_since_s = now_s
        elif match != self._blocked_match:
            self._blocked_since_s, self._blocked_match = now_s, match
        return now_s - self._blocked_since_s >= limits.ELECTION_TIMEOUT_MAX_S

    def ask_confirmation(self) -> int:
        """A round of heartbeats leaves with the next `replicate`. Returns what `confirmed` wants to know."""
        self._confirm = True
        return self._links.sequence + 1

    def confirmed(self, asked: int) -> bool:
        """Since `asked` a majority has answered in this term: nobody led a newer one when it was asked.

        Raft's ReadIndex (Ongaro, "Consensus: Bridging Theory and Practice", 6.4), over the sequence numbers of G3. One
        that has lost its term with its disk may have voted for a newer leader, and says nothing.
        """
        answered = [
            node_id
            for node_id, p in self._progress.items()
            if p.answered_sequence >= asked and p.doubt not in (Doubt.LOST_DISK, Doubt.LOST_STATE)
        ]
        return self._seat.voters.is_majority([self._seat.node_id, *answered])

    def transfer_to(self, node_id: int) -> bool:
        """Ask a follower that holds the whole log to stand at once. The caller has paused appends."""
        progress = self._progress.get(node_id)
        if progress is None or node_id not in self._seat.voters.replicas or progress.doubt is not Doubt.NONE:
            return False
        if progress.match_index != self._log.last_index or not self._links.boots[node_id]:
            return False
        self._links.hold(node_id, r.TimeoutNow)
        return True

    # --- a change of the voters -------------------------------------------------------------
    @property
    def successors(self) -> tuple[int, ...]:
        """Whom to hand over to, so that a change can end; empty nearly always."""
        return self._change.successors

    @property
    def in_sync_count(self) -> int:
        """The in-sync replicas that `min_insync_replicas` counts: those of the new half while the voters change."""
        halves = self._seat.voters.halves
        if len(halves) == 1:
            return len(self.in_sync)
        return sum(node_id in halves[1].replicas for node_id in self.in_sync)

    @property
    def learners(self) -> Half:
        return self._change.learners

    @property
    def learning(self) -> dict[int, int]:
        """By learner: the Raft index up to which it holds the log."""
        return {node_id: self._progress[node_id].match_index for node_id in self._change.learners.ids}

    @property
    def given_up(self) -> dict[int, str]:
        """Learners that are fed no more, and why."""
        return self._change.given_up

    def learn(self, learners: Half, now_s: float, bytes_per_s: int = 0) -> None:
        """Feed those who are to be members, instead of the learners before; `bytes_per_s` 0: LEARNER_BYTES_PER_S."""
        self._change.learn(learners, now_s, bytes_per_s)

    def change_to(
        self, half: Half, expected: tuple[int, int], now_s: float, *, handing_over: bool, in_sync_min: int
    ) -> WhyNot | None:
        """Begin to change the voters to `half`: see Change.begin."""
        return self._change.begin(
            half,
            expected,
            now_s,
            told_index=max(self.acked_index, self._feed.fed_index),
            handing_over=handing_over,
            in_sync_min=in_sync_min,
        )

    def call_off(self, expected: tuple[int, int], now_s: float, *, handing_over: bool) -> WhyNot | None:
        """Go back to the old voters, if the new ones do not stand alone yet: see Change.call_off."""
        return self._change.call_off(expected, now_s, handing_over=handing_over)

    def advance_change(self, now_s: float, *, handing_over: bool) -> None:
        """What a change of the voters needs in this turn."""
        self._change.advance(now_s, handing_over=handing_over)

    # --- what it sends ---------------------------------------------------------------------
    def replicate(self, now_s: float) -> None:
        """Send what each follower's window allows, and a sign of life where one is due."""
        heartbeat, self._confirm = self._confirm, False
        if now_s > self._heartbeat_s:
            heartbeat, self._heartbeat_s = True, now_s + limits.HEARTBEAT_S
        self._read = None
        boots, change = self._links.boots, self._change
        for node_id, progress in self._progress.items():
            if not boots[node_id]:
                continue
            progress.on_time(now_s, self._links.sequence + 1)
            if progress.mode is Mode.PROBE:
                if progress.may_send(now_s):
                    self._send_append(node_id, progress, now_s, with_entries=False)
                continue
            sent = False
            fed_later = node_id in change.witnesses  # after the sync
            last_index = self._log.last_index if not fed_later and change.is_told_of(node_id) else 0
            while progress.next_index <= last_index and progress.may_send(now_s) and change.may_feed(node_id, now_s):
                if not self._send_append(node_id, progress, now_s, with_entries=True):
                    break
                sent = True
            if heartbeat and not sent:
                self._send_append(node_id, progress, now_s, with_entries=False)

    def _feed_witnesses(self, now_s: float) -> None:
        """Index and term of what every in-sync replica holds, AFTER this turn's sync and answers counted."""
        held_index = self._in_sync.lowest_match(self._progress, self._log.state.synced_index)
        awaited = not self._seat.voters.is_majority(self.in_sync)
        self._feed.advance(held_index, awaited=awaited, now_s=now_s)
        for node_id in sorted(self._change.witnesses):
            progress = self._progress[node_id]
            behind = progress.mode is Mode.REPLICATE and progress.next_index <= self._feed.last_index
            there = self._links.boots[node_id] and self._change.is_told_of(node_id)
            if behind and there and progress.may_send(now_s):
                self._send_append(node_id, progress, now_s, with_entries=True)

    def _send_append(self, node_id: int, progress: Progress, now_s: float, *, with_entries: bool) -> bool:
        """One AppendEntries. False when nothing left (the follower is behind the horizon: a reset went instead)."""
        log, links = self._log, self._links
        is_witness = node_id in self._change.witnesses
        prev_index = progress.next_index - 1
        if prev_index < log.state.horizon_index - 1:
            if is_witness and log.state.horizon_index > self._feed.last_index + 1:
                return False  # what lies below the horizon is committed, but not held by all in-sync replicas
            self._send_reset(node_id, progress, now_s)
            return False
        prev_term = log.term_at(prev_index)
        count, epoch_starts, payload = 0, [], None
        if with_entries and is_witness:
            # No bytes: the first entries have the term in front of them, and each further term begins with its no-op.
            count = self._feed.last_index - prev_index
            starts = log.epoch_starts_from(progress.next_index)
            epoch_starts = [(start.index, start.term) for start in starts if start.index <= self._feed.last_index]
        elif with_entries:
            entries = self._entries_from(progress.next_index)
            count, epoch_starts, payload = entries.count, entries.epoch_starts, entries.payload
            if entries.first_index <= prev_index:  # next_index lies within what was compacted
                prev_index = entries.first_index - 1
                prev_term = log.term_at(prev_index)
        assert prev_term is not None
        configurations = [
            (start.index, start.halves) for start in log.configurations_in(prev_index + 1, prev_index + 1 + count)
        ]
        sequence = links.next_sequence()
        size_bytes = len(payload) if payload is not None else 0
        progress.note_sent(sequence, prev_index + count, size_bytes, now_s)
        self._change.note_fed(node_id, size_bytes, now_s)
        links.send(
            node_id,
            payload,
            r.AppendEntries,
            sequence,
            prev_index,
            prev_term,
            self._seat.commit_index,
            count,
            epoch_starts,
            log.state.log_start_offset,
            log.last_index,
            self._all_votes_index,
            self.held_index,
            log.state.purged_index,
            configurations,
            self._is_known_learner(node_id, progress),
        )
        return True

    def _is_known_learner(self, node_id: int, progress: Progress) -> bool:
        """One that has lost its disk, or has never had one, may be told that it is no voter.

        Once a majority has said, since its process began, that this leader leads still: a deposed one could take a
        voter of newer configurations for a learner, and end its doubt too early.
        """
        since = self._change.heard_since.get(node_id)
        if since is None or progress.doubt not in (Doubt.LOST_DISK, Doubt.LOST_STATE):
            return False
        return self._change.is_committed and self.confirmed(since)

    def _entries_from(self, index: int) -> Entries:
        """Read once for all followers that stand at the same place, as most do."""
        if self._read is None or self._read[0] != index:
            self._read = index, self._log.read_entries(index, limits.APPEND_MESSAGE_BYTES)
        return self._read[1]

    def _send_reset(self, node_id: int, progress: Progress, now_s: float) -> None:
        log = self._log
        sequence = self._links.next_sequence()
        if progress.mode is Mode.REPLICATE:
            progress.probe_from(progress.next_index, sequence)
        progress.note_sent(sequence, 0, 0, now_s)
        payload = None if node_id in self._change.witnesses else log.snapshot_at_horizon()
        horizon_index, prev_term = log.state.horizon_index, log.state.horizon_prev_term
        base_offset = log.offset_after(horizon_index - 1)
        known = log.configuration_at(horizon_index - 1)
        configuration = None if known is None else (known.term, known.index, known.base_offset, known.halves)
        self._links.send(
            node_id, payload, r.ResetRequest, sequence, horizon_index, prev_term, base_offset, configuration
        )

    # --- what it hears ---------------------------------------------------------------------
    def on_peer(self, node_id: int, now_s: float) -> None:
        """Another process answers for a follower, or none. A new one may have lost what was unsynced."""
        if node_id not in self._progress:
            return
        replied_s = self._progress[node_id].replied_s
        progress = Progress(self._log.last_index + 1, now_s, first_sequence=self._links.sequence + 1)
        progress.replied_s = replied_s  # this process has not answered yet
        self._progress[node_id] = progress
        self._in_sync.leave(node_id)
        self._change.on_peer(node_id)

    def on_append_response(self, m: r.AppendResponse, now_s: float) -> None:
        """In this term."""
        progress = self._progress.get(m.sender_id)
        if progress is None:
            return  # it counts nowhere, and is fed nothing
        progress.doubt = m.doubt
        last_index, next_sequence = self._log.last_index, self._links.sequence + 1
        if m.success:
            if m.match_index > last_index:
                raise CorruptLogError(
                    f"replica {m.sender_id} holds index {m.match_index} of term {m.term}, beyond its leader's end"
                )
            progress.on_success(m.sequence, m.match_index, now_s, next_sequence)
            progress.note_log_end(last_index, now_s)
            progress.log_start_offset = m.log_start_offset
            self._learn_log_start(m.log_start_offset)
        elif m.damaged:
            # Not sent again before the window is lost: a follower that can read nothing must not keep both busy.
            progress.replied_s = now_s
            self._verify_own_copy(m.hint_index, m.match_index, now_s)
        else:
            progress.on_refusal(m.sequence, m.hint_index, last_index, now_s, next_sequence)
        self._end_waking()

    def _learn_log_start(self, offset: int) -> None:
        """An earlier leader may have moved it further than this one had heard: what it let go does not come back."""
        if offset > self._log.state.log_start_offset:
            self._seat.delete_head(offset)

    def _verify_own_copy(self, first_index: int, last_index: int, now_s: float) -> None:
        """Tells a bad disk from a bad wire. Raises CorruptLogError when this replica's own copy is damaged."""
        log = self._log
        if now_s - self._verified_s < limits.APPEND_LOST_AFTER_S:
            return
        self._verified_s = now_s
        if log.state.horizon_index <= first_index <= last_index <= log.last_index:
            log.verify_entries(first_index, last_index)

    # --- what it counts --------------------------------------------------------------------
    def after_persist(self, now_s: float) -> None:
        """What this replica appended is durable: commit, acknowledge, and only then feed the witnesses."""
        self._advance_commit()
        self._advance_acked(now_s)
        if self._change.witnesses:
            self._feed_witnesses(now_s)

    def _advance_commit(self) -> None:
        """G5: the highest index of this term that a majority holds durably, ourselves up to the synced index."""
        seat, log = self._seat, self._log
        held = {node_id: p.match_index for node_id, p in self._progress.items() if p.doubt is Doubt.NONE}
        if log.state.doubt is Doubt.NONE:
            held[seat.node_id] = log.state.synced_index
        index = seat.voters.reached(held)
        if index is not None and index > seat.commit_index and log.term_at(index) == self._term:
            seat.commit_index = index
            # What others know to be deleted may have been above what was committed here until now.
            for progress in self._progress.values():
                self._learn_log_start(progress.log_start_offset)

    def _advance_acked(self, now_s: float) -> None:
        """What acks=all promises: committed, and durable on every in-sync replica. Never goes back."""
        self._in_sync.update(self._progress, max(self.acked_index, self._feed.fed_index), now_s)
        held_index = self._in_sync.lowest_match(self._progress, self._seat.commit_index)
        self.acked_index = max(self.acked_index, held_index)
