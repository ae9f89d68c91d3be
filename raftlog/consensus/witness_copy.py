"""A witness's copy of its leader's log: which entries there are, by (index, term), and no records.

An AppendEntries to a witness has no payload. Its epoch starts are all that its entries need: a term begins with its
no-op, so every entry before the first of them has the term of the entry in front.
"""

from __future__ import annotations

from raftlog.consensus.configuration import configurations_among
from raftlog.consensus.seat import Seat
from raftlog.errors import CorruptMessageError
from raftlog.protocol import raft as r
from raftlog.storage.producers import Producers
from raftlog.storage.witness_log import WitnessLog
from raftlog.types import Buffer, Half


class WitnessCopy:
    """The log of one witness, as its leader fills it."""

    def __init__(self, seat: Seat, log: WitnessLog) -> None:
        self._seat = seat
        self._log = log

    def producers_in(self, payload: Buffer) -> Producers:
        return Producers()  # it takes no records, so none of theirs again

    def store(self, m: r.AppendEntries, payload: Buffer) -> None:
        """G1, as for a follower with records: only a conflict truncates."""
        log, last_index = self._log, m.prev_index + m.entries
        configurations = configurations_among(m)
        _check_starts(m, payload, configurations)
        conflict = self._first_conflict(m, last_index)
        if conflict is not None:
            self._seat.truncate(conflict)
        if last_index > log.last_index:
            log.append(last_index, [start for start in m.epoch_starts if start[0] > log.last_index], configurations)

    def _first_conflict(self, m: r.AppendEntries, last_index: int) -> int | None:
        """The first index that is here with another term. Terms differ first where one of the two begins one."""
        log = self._log
        first, end = max(m.prev_index + 1, log.state.horizon_index), min(last_index, log.last_index) + 1
        starts = dict(m.epoch_starts)
        places = {first, *starts, *(start.index for start in log.epoch_starts)}
        for index in sorted(place for place in places if first <= place < end):
            term = max((term for start, term in starts.items() if start <= index), default=m.prev_term)
            if log.term_at(index) != term:
                return index
        return None


def _check_starts(m: r.AppendEntries, payload: Buffer, configurations: dict[int, tuple[Half, ...]]) -> None:
    """Indexes among the entries and terms both grow, up to the leader's term; no bytes of records.

    A configuration has the term of the entry in front of it.
    """
    before = (m.prev_index, m.prev_term)
    for index, term in m.epoch_starts:
        grows = term == before[1] if index in configurations else before[1] < term <= m.term
        if not (before[0] < index <= m.prev_index + m.entries and grows):
            raise CorruptMessageError(f"an epoch start ({index}, {term}) behind {before}, of a leader in term {m.term}")
        before = (index, term)
    if len(payload):
        raise CorruptMessageError("a witness is sent no records")
