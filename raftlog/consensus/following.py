"""What a follower does with its leader's messages: compare, truncate only on conflict (G1), append, commit what was
shown (G2), start over behind the horizon, and come back from doubt.
"""

from __future__ import annotations

from raftlog.consensus.compacted import StoringCompacted, checked
from raftlog.consensus.member import Payload
from raftlog.errors import CorruptLogError, CorruptMessageError, DiskFullError
from raftlog.protocol import raft as r
from raftlog.storage.producers import Producers
from raftlog.storage.snapshots import decode_snapshot
from raftlog.types import Doubt, Role


class Following(StoringCompacted):
    def delete_head(self, log_start_offset: int) -> None:
        """Let whole segments below an offset go, never what is not committed here."""
        try:
            self.log.delete_head(min(log_start_offset, self.log.offset_after(self.commit_index)), self.commit_index)
        except DiskFullError:
            return  # even deleting writes `state`; the next heartbeat asks again

    def _accept_leader(self, sender: int, term: int, now_s: float) -> None:
        assert not (self.is_leader and term == self.term), "two leaders in one term"
        if term > self.term:
            # The vote of a term whose leader is known can only have gone to it.
            self._adopt_term(term, sender, now_s)
        elif self.role is not Role.FOLLOWER:
            self._follow_nobody(now_s)
        self.leader_id = sender
        self._asked_term = 0
        self._transferred = False
        self._heard_leader_s = now_s
        self._elections.postpone(now_s)

    def _on_append(self, m: r.AppendEntries, payload: Payload, now_s: float) -> None:
        if m.term < self.term:
            self._answer(m.sender_id, m.sequence, success=False)  # G3: it carries our term
            return
        self._accept_leader(m.sender_id, m.term, now_s)
        self._rejoin.on_append(m.term, m.last_index, m.all_votes_index)
        log = self.log
        if log.doubt is not Doubt.NONE and m.last_index < log.commit_bound and not self._forget_bound(m.commit_index):
            return
        if m.prev_index > log.last_index:
            self._answer(m.sender_id, m.sequence, success=False, hint_index=log.last_index + 1)
            return
        # Below the horizon everything is committed, hence equal on all replicas.
        if m.prev_index >= log.horizon_index - 1 and log.term_at(m.prev_index) != m.prev_term:
            self._check_not_committed(m.prev_index)
            hint = log.first_index_of_term(m.prev_index)
            self._answer(m.sender_id, m.sequence, success=False, hint_index=max(hint, self.commit_index + 1))
            return
        if m.entries:
            try:
                self._store(m, payload)
            except CorruptMessageError:
                self.refused_batches += 1
                last = m.prev_index + m.entries
                self._answer(
                    m.sender_id, m.sequence, success=False, hint_index=m.prev_index + 1, match_index=last, damaged=True
                )
                return
            except DiskFullError:
                # Not answered: the leader's window runs out and it comes again. The status says why.
                return
        last_new = m.prev_index + m.entries
        self._held_index = m.held_index
        self._match_index = max(self._match_index, last_new)
        self._commit_up_to(m.commit_index, last_new)
        if m.log_start_offset > log.log_start_offset:
            self.delete_head(m.log_start_offset)
        self._answer(m.sender_id, m.sequence, success=True, match_index=last_new)

    def _forget_bound(self, commit_index: int) -> bool:
        """A leader that ends below what this replica knew to be committed, and lost: the loss was accepted.

        Durable BEFORE its entries are appended, or a start would take them for committed as far as the old bound.
        """
        self.log.lower_commit_bound(commit_index)
        try:
            self.log.persist()
        except DiskFullError:
            return False
        return True

    def _commit_up_to(self, leader_commit_index: int, last_shown_index: int) -> None:
        """G2: never beyond what this message showed to be equal to the leader's log."""
        self.commit_index = max(self.commit_index, min(leader_commit_index, last_shown_index))

    def _store(self, m: r.AppendEntries, payload: Payload) -> None:
        """G1: what is here already is skipped; only a conflict truncates; the rest is appended."""
        headers = checked(payload, m.entries - len(m.epoch_starts))
        if len(headers) != m.entries - len(m.epoch_starts):
            self._store_compacted(m, payload, headers)
            return
        index, batch = m.prev_index + 1, 0
        end = m.prev_index + m.entries + 1
        starts = dict(m.epoch_starts)
        while index < end:
            term = starts[index] if index in starts else headers[batch][1].leader_epoch
            if not self._is_present(index, term):
                break
            batch += index not in starts
            index += 1
        if index == end:
            return
        self._make_room(index, m)
        while index < end:
            if index in starts:
                assert starts[index] <= m.term
                self.log.append_epoch_start(starts[index])
                index += 1
                continue
            stop = min((start for start in starts if start > index), default=end)
            group = headers[batch : batch + stop - index]
            first = group[0][0]
            last_position, last_header = group[-1]
            self.log.append_as_follower(
                index,
                memoryview(payload)[first : last_position + last_header.batch_bytes],
                [header for _, header in group],
            )
            batch += stop - index
            index = stop

    def _on_reset(self, m: r.ResetRequest, payload: Payload, now_s: float) -> None:
        if m.term < self.term:
            self._answer(m.sender_id, m.sequence, success=False)
            return
        self._accept_leader(m.sender_id, m.term, now_s)
        if (m.term, m.sequence) <= self._heard_sequence:
            return  # G3: a reset older than the last one taken
        try:
            producers = self._producers_in(payload)
        except CorruptMessageError:
            self.refused_batches += 1
            return  # not answered: the leader comes again
        self._heard_sequence = (m.term, m.sequence)
        log = self.log
        last_kept = m.horizon_index - 1
        if last_kept >= log.horizon_index - 1 and log.term_at(last_kept) == m.prev_term:
            self._answer(m.sender_id, m.sequence, success=True, match_index=last_kept)
            return
        if last_kept <= max(self.commit_index, log.commit_bound) and log.doubt is Doubt.NONE:
            raise CorruptLogError(
                f"the leader of term {m.term} asks to start over at index {m.horizon_index}, "
                f"which contradicts what is committed here (up to {self.commit_index})"
            )
        try:
            log.reset_to(m.horizon_index, m.prev_term, m.base_offset, producers)
        except DiskFullError:
            return  # not answered: the leader comes again
        self._match_index = last_kept
        self._commit_up_to(last_kept, last_kept)
        self._answer(m.sender_id, m.sequence, success=True, match_index=last_kept)

    def _producers_in(self, payload: Payload) -> Producers:
        return decode_snapshot(payload).producers()

    def _end_doubt(self) -> None:
        log = self.log
        if log.doubt is Doubt.NONE:
            return
        match_index = self.epoch_index if self.is_leader else self._match_index
        if self._rejoin.is_over(self.term, log.synced_index, match_index, self.commit_index):
            doubt, reason = log.doubt, log.doubt_reason
            log.set_doubt(Doubt.NONE, "")
            try:
                log.persist()  # BEFORE the first acknowledgement that counts
            except DiskFullError:
                log.set_doubt(doubt, reason)  # not written, so not over: the next turn tries again
