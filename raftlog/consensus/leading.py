"""What a leader does for its followers: windows of AppendEntries (G4), resets, and the commit rule (G5)."""

from __future__ import annotations

from raftlog import limits
from raftlog.consensus.following import Following
from raftlog.consensus.member import NOBODY
from raftlog.consensus.progress import Mode, Progress
from raftlog.consensus.votes import majority
from raftlog.errors import CorruptLogError
from raftlog.protocol import raft as r
from raftlog.types import Doubt


class Leading(Following):
    @property
    def leader_ready(self) -> bool:
        """This leader's own no-op is committed, so its commit index is not older than any before it."""
        return self.is_leader and self.commit_index >= self.epoch_index

    def match_of(self, node_id: int) -> Progress | None:
        """As leader: what is known of a follower."""
        return self._progress.get(node_id)

    def progress_of_others(self) -> list[tuple[int, Progress]]:
        """As leader: what is known of each other voter."""
        return list(self._progress.items())

    def progress_of_replicas(self) -> list[tuple[int, Progress]]:
        """As leader: what is known of each follower that holds records."""
        return [(node_id, progress) for node_id, progress in self._progress.items() if node_id in self.replicas]

    @property
    def in_sync(self) -> tuple[int, ...]:
        """The in-sync replicas, this leader among them; empty on a follower."""
        return self._in_sync.members if self._in_sync is not None else ()

    @property
    def is_held_elsewhere(self) -> bool:
        """What is committed here can be fetched again. Not by a leader that is alone in sync, with witnesses."""
        if self.is_leader and self.witnesses:
            return len(self.in_sync) > 1
        return len(self.replicas) > 1

    @property
    def held_index(self) -> int:
        """Up to here every replica with records has held the log, durably; on a follower as its leader last said."""
        if not self.is_leader:
            return self._held_index
        if self.log.doubt is not Doubt.NONE:
            return 0
        followers = (self._progress[node_id] for node_id in self.replicas if node_id != self.node_id)
        matches = [0 if progress.doubt is not Doubt.NONE else progress.match_index for progress in followers]
        return min([self.log.synced_index, *matches])

    def ask_confirmation(self) -> int:
        """A round of heartbeats leaves with the next `replicate`. Returns what `confirmed` wants to know."""
        self._confirm = True
        return self._sequence + 1

    def confirmed(self, asked: int) -> bool:
        """Since `asked` a majority has answered in this term: nobody led a newer one when it was asked.

        Raft's ReadIndex (Ongaro, "Consensus: Bridging Theory and Practice", 6.4), over the sequence numbers of G3. One
        that has lost its term with its disk may have voted for a newer leader, and says nothing.
        """
        answered = sum(
            progress.answered_sequence >= asked and progress.doubt not in (Doubt.LOST_DISK, Doubt.LOST_STATE)
            for progress in self._progress.values()
        )
        return self.is_leader and answered + 1 >= majority(len(self.voters))

    def transfer_to(self, node_id: int) -> bool:
        """Ask a follower that holds the whole log to stand at once. The caller has paused appends."""
        progress = self._progress.get(node_id)
        ready = progress is not None and progress.doubt is Doubt.NONE
        if not ready or progress.match_index != self.log.last_index or not self._boots[node_id]:  # type: ignore[union-attr]
            return False
        self._hold(node_id, r.TimeoutNow)
        return True

    def replicate(self, now_s: float) -> None:
        """As leader: send what each follower's window allows, and heartbeats when due."""
        heartbeat = self._elections.take_heartbeat() or self._confirm
        self._confirm = False
        if not self.is_leader:
            return
        for node_id in self._others:
            if not self._boots[node_id]:
                continue
            progress = self._progress[node_id]
            progress.on_time(now_s, self._sequence + 1)
            if progress.mode is Mode.PROBE:
                if progress.may_send(now_s):
                    self._send_append(node_id, progress, now_s, with_entries=False)
                continue
            sent = False
            last_index = 0 if node_id in self.witnesses else self.log.last_index  # those are fed after the sync
            while progress.next_index <= last_index and progress.may_send(now_s):
                if not self._send_append(node_id, progress, now_s, with_entries=True):
                    break
                sent = True
            if heartbeat and not sent:
                self._send_append(node_id, progress, now_s, with_entries=False)

    def _feed_witnesses(self, now_s: float) -> None:
        """Index and term of what every in-sync replica holds, AFTER this turn's sync and answers counted."""
        assert self._in_sync is not None
        held_index = self._in_sync.lowest_match(self._progress, self.log.synced_index)
        awaited = len(self._in_sync.members) < majority(len(self.voters))
        self._feed.advance(held_index, awaited=awaited, now_s=now_s)
        for node_id in self.witnesses:
            progress = self._progress[node_id]
            behind = progress.mode is Mode.REPLICATE and progress.next_index <= self._feed.last_index
            if behind and self._boots[node_id] and progress.may_send(now_s):
                self._send_append(node_id, progress, now_s, with_entries=True)

    def _send_append(self, node_id: int, progress: Progress, now_s: float, *, with_entries: bool) -> bool:
        """One AppendEntries. False when nothing left (the follower is behind the horizon: a reset went instead)."""
        log = self.log
        prev_index = progress.next_index - 1
        if prev_index < log.horizon_index - 1:
            if node_id in self.witnesses and log.horizon_index > self._feed.last_index + 1:
                return False  # what lies below the horizon is committed, but not held by all in-sync replicas
            self._send_reset(node_id, progress, now_s)
            return False
        prev_term = log.term_at(prev_index)
        assert prev_term is not None
        count, epoch_starts, payload = 0, [], None
        if with_entries and node_id in self.witnesses:
            # No bytes: the first entries have the term in front of them, and each further term begins with its no-op.
            count = self._feed.last_index - prev_index
            starts = log.epoch_starts_from(progress.next_index)
            epoch_starts = [(start.index, start.term) for start in starts if start.index <= self._feed.last_index]
        elif with_entries:
            entries = log.read_entries(progress.next_index, limits.APPEND_MESSAGE_BYTES)
            count, epoch_starts, payload = entries.count, entries.epoch_starts, entries.payload
            if entries.first_index <= prev_index:  # next_index lies within what was compacted
                prev_index = entries.first_index - 1
                prev_term = log.term_at(prev_index)
                assert prev_term is not None
        self._sequence += 1
        message = r.AppendEntries(
            self._topic_id, self._partition, self.node_id, self._boot_id, self._boots[node_id], self.term,
            self._sequence, prev_index, prev_term, self.commit_index, count, epoch_starts,
            log.log_start_offset, log.last_index, self._all_votes_index, self.held_index, log.purged_index,
        )  # fmt: skip
        size_bytes = len(payload) if payload is not None else 0
        progress.note_sent(self._sequence, prev_index + count, size_bytes, now_s)
        self._send_now(node_id, message, payload)
        return True

    def _send_reset(self, node_id: int, progress: Progress, now_s: float) -> None:
        log = self.log
        self._sequence += 1
        if progress.mode is Mode.REPLICATE:
            progress.probe_from(progress.next_index, self._sequence)
        message = r.ResetRequest(
            self._topic_id, self._partition, self.node_id, self._boot_id, self._boots[node_id], self.term,
            self._sequence, log.horizon_index, log.horizon_prev_term, log.offset_after(log.horizon_index - 1),
        )  # fmt: skip
        progress.note_sent(self._sequence, 0, 0, now_s)
        self._send_now(node_id, message, None if node_id in self.witnesses else log.snapshot_at_horizon())

    def _on_append_response(self, m: r.AppendResponse, now_s: float) -> None:
        if m.term > self.term:
            self._adopt_term(m.term, NOBODY, now_s)
            return
        if not self.is_leader or m.term < self.term:
            return  # G3: an answer to another term's message
        progress = self._progress[m.sender_id]
        progress.doubt = m.doubt
        self._elections.note_response(m.sender_id, now_s)
        if m.success:
            if m.match_index > self.log.last_index:
                raise CorruptLogError(
                    f"replica {m.sender_id} holds index {m.match_index} of term {m.term}, beyond its leader's end"
                )
            progress.on_success(m.sequence, m.match_index, now_s, self._sequence + 1)
            progress.note_log_end(self.log.last_index, now_s)
            progress.log_start_offset = m.log_start_offset
            self._learn_log_start()
        elif m.damaged:
            # Not sent again before the window is lost: a follower that can read nothing must not keep both busy.
            self._verify_own_copy(m.hint_index, m.match_index, now_s)
        else:
            progress.on_refusal(m.sequence, m.hint_index, self.log.last_index, now_s, self._sequence + 1)

    def _learn_log_start(self) -> None:
        """An earlier leader may have moved it further than this one had heard: what it let go does not come back."""
        for progress in self._progress.values():
            if progress.log_start_offset > self.log.log_start_offset:
                self.delete_head(progress.log_start_offset)

    def _verify_own_copy(self, first_index: int, last_index: int, now_s: float) -> None:
        """Tells a bad disk from a bad wire. Raises CorruptLogError when this replica's own copy is damaged."""
        log = self.log
        if now_s - self._verified_s < limits.APPEND_LOST_AFTER_S:
            return
        self._verified_s = now_s
        if log.horizon_index <= first_index <= last_index <= log.last_index:
            log.verify_entries(first_index, last_index)

    def _advance_commit(self) -> None:
        """G5: the highest index of this term that a majority holds durably, ourselves up to the synced index."""
        held = [p.match_index for p in self._progress.values() if p.doubt is Doubt.NONE]
        if self.log.doubt is Doubt.NONE:
            held.append(self.log.synced_index)
        needed = majority(len(self.voters))
        if len(held) < needed:
            return
        held.sort(reverse=True)
        index = held[needed - 1]
        if index > self.commit_index and self.log.term_at(index) == self.term:
            self.commit_index = index
            # What others know to be deleted may have been above what was committed here until now.
            self._learn_log_start()

    def _advance_acked(self, now_s: float) -> None:
        """What acks=all promises: committed, and durable on every in-sync replica. Never goes back."""
        assert self._in_sync is not None
        self._in_sync.update(self._progress, max(self.acked_index, self._feed.fed_index), now_s)
        held_index = self._in_sync.lowest_match(self._progress, self.commit_index)
        self.acked_index = max(self.acked_index, held_index)

    def _yield_to_all_votes(self, now_s: float) -> None:
        """With a majority in doubt nothing can commit, and so no doubt can end: only an election by all helps.

        A leader that reaches every replica and has been blocked like this for a while steps down for one; not while
        followers come nearer to its first entry: when they voted for it, their doubt ends there. What is appended
        behind that entry must not put the election off for ever.
        """
        match = sum(min(p.match_index, self.epoch_index) for p in self._progress.values())
        sure = sum(p.doubt is Doubt.NONE for p in self._progress.values()) + (self.log.doubt is Doubt.NONE)
        reachable = all(now_s - p.replied_s < limits.ELECTION_TIMEOUT_MIN_S for p in self._progress.values())
        if sure >= majority(len(self.voters)) or not reachable or self.commit_index >= self.log.last_index:
            self._blocked_since_s = now_s
        elif match != self._blocked_match:
            self._blocked_since_s, self._blocked_match = now_s, match
        elif now_s - self._blocked_since_s >= limits.ELECTION_TIMEOUT_MAX_S:
            self._follow_nobody(now_s)
