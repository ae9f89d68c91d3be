"""What a follower does with its leader's messages: compare, truncate only on conflict (G1), append, commit what was
shown (G2), and start over behind the horizon.
"""

from __future__ import annotations

from raftlog.consensus.configuration import configuration_in_front
from raftlog.consensus.record_copy import RecordCopy
from raftlog.consensus.seat import Seat
from raftlog.consensus.witness_copy import WitnessCopy
from raftlog.errors import CorruptLogError, CorruptMessageError, DiskFullError
from raftlog.protocol import raft as r
from raftlog.types import NOBODY, Buffer, Doubt, Role


class Follower:
    """The role of a member that follows the leader of one term, or does not know it yet."""

    kind = Role.FOLLOWER

    def __init__(self, seat: Seat, copy: RecordCopy | WitnessCopy) -> None:
        self._seat = seat
        self._copy = copy
        self.leader_id = NOBODY
        self.match_index = 0  # up to where this log is known to equal the leader's
        self.held_index = 0  # up to where the leader has said that every replica holds the log
        self._reset_sequence = 0  # of the newest reset taken

    def on_append(self, m: r.AppendEntries, payload: Buffer) -> None:
        """From the leader of this term."""
        seat, log, links = self._seat, self._seat.log, self._seat.links
        seat.rejoin.on_append(m.term, m.last_index, m.all_votes_index)
        short = log.state.doubt is not Doubt.NONE and m.last_index < log.state.commit_bound
        if short and not self._forget_bound(m.commit_index):
            return
        if m.prev_index > log.last_index:
            links.answer(m, success=False, hint_index=log.last_index + 1)
            return
        # Below the horizon everything is committed, hence equal on all replicas.
        if m.prev_index >= log.state.horizon_index - 1 and log.term_at(m.prev_index) != m.prev_term:
            seat.check_not_committed(m.prev_index)
            hint = log.first_index_of_term(m.prev_index)
            links.answer(m, success=False, hint_index=max(hint, seat.commit_index + 1))
            return
        last_new = m.prev_index + m.entries
        if m.entries:
            try:
                self._copy.store(m, payload)
            except CorruptMessageError:
                links.answer(m, success=False, hint_index=m.prev_index + 1, match_index=last_new, damaged=True)
                return
            except DiskFullError:
                # Not answered: the leader's window runs out and it comes again. The status says why.
                return
        self.held_index = m.held_index
        self.match_index = max(self.match_index, last_new)
        self._commit_up_to(m.commit_index, last_new)
        if m.log_start_offset > log.state.log_start_offset:
            seat.delete_head(m.log_start_offset)
        links.answer(m, success=True, match_index=last_new)

    def _forget_bound(self, commit_index: int) -> bool:
        """A leader that ends below what this replica knew to be committed, and lost: the loss was accepted.

        Durable BEFORE its entries are appended, or a start would take them for committed as far as the old bound.
        """
        log = self._seat.log
        log.state.lower_commit_bound(commit_index)
        try:
            log.persist()
        except DiskFullError:
            return False
        return True

    def _commit_up_to(self, leader_commit_index: int, last_shown_index: int) -> None:
        """G2: never beyond what this message showed to be equal to the leader's log."""
        seat = self._seat
        seat.commit_index = max(seat.commit_index, min(leader_commit_index, last_shown_index))

    def on_reset(self, m: r.ResetRequest, payload: Buffer) -> None:
        """From the leader of this term, which does not have what this log lacks any more."""
        seat, log, links = self._seat, self._seat.log, self._seat.links
        if m.sequence <= self._reset_sequence:
            return  # G3: a reset older than the last one taken
        try:
            producers = self._copy.producers_in(payload)
            configuration = configuration_in_front(m)
        except CorruptMessageError:
            return  # not answered: the leader comes again
        self._reset_sequence = m.sequence
        last_kept = m.horizon_index - 1
        if last_kept >= log.state.horizon_index - 1 and log.term_at(last_kept) == m.prev_term:
            links.answer(m, success=True, match_index=last_kept)
            return
        if last_kept <= max(seat.commit_index, log.state.commit_bound) and log.state.doubt is Doubt.NONE:
            raise CorruptLogError(
                f"the leader of term {m.term} asks to start over at index {m.horizon_index}, "
                f"which contradicts what is committed here (up to {seat.commit_index})"
            )
        try:
            log.reset_to(m.horizon_index, m.prev_term, m.base_offset, producers, configuration)
        except DiskFullError:
            return  # not answered: the leader comes again
        self.match_index = last_kept
        self._commit_up_to(last_kept, last_kept)
        links.answer(m, success=True, match_index=last_kept)
