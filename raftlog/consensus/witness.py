"""The member of a Raft group that holds no records: it votes, and it counts entries by (index, term).

An AppendEntries to a witness has no payload. Its epoch starts are all that its entries need: a term begins with its
no-op, so every entry before the first of them has the term of the entry in front. The rules are a follower's:
truncate only on conflict (G1), commit what was shown (G2), nothing said before it is durable (G5), and doubt.
"""

from __future__ import annotations

from typing import Any

from raftlog.consensus.group import RaftGroup
from raftlog.consensus.member import Payload
from raftlog.errors import CorruptMessageError
from raftlog.protocol import raft as r
from raftlog.storage.producers import Producers
from raftlog.storage.witness_log import WitnessLog


class WitnessGroup(RaftGroup):
    """The member `node_id` of the group, over the log of a witness. It never stands, so it never leads."""

    # Only a leader reads records from its log and only a follower with records appends them.
    log: WitnessLog  # type: ignore[assignment]

    def __init__(self, *, log: WitnessLog, **fields: Any) -> None:
        super().__init__(log=log, **fields)  # type: ignore[arg-type]
        assert self.node_id in self.witnesses

    def delete_head(self, log_start_offset: int) -> None:
        """There are no records to delete; but who is elected next hears from this witness what is deleted."""
        self.log.raise_log_start(log_start_offset)

    def _start_prevote(self, now_s: float) -> None:
        """It has lost its leader, and waits for whoever stands."""
        self._elections.postpone(now_s)
        self.leader_id = -1

    def _on_timeout_now(self, m: r.TimeoutNow) -> None:
        """Nobody who knows the group asks a witness to lead."""

    def _producers_in(self, payload: Payload) -> Producers:
        return Producers()  # it takes no records, so none of theirs again

    def _store(self, m: r.AppendEntries, payload: Payload) -> None:
        log, last_index = self.log, m.prev_index + m.entries
        _check_starts(m, payload)
        conflict = self._first_conflict(m, last_index)
        if conflict is not None:
            self._truncate(conflict)
        if last_index > log.last_index:
            log.append(last_index, [start for start in m.epoch_starts if start[0] > log.last_index])

    def _first_conflict(self, m: r.AppendEntries, last_index: int) -> int | None:
        """G1: the first index that is here with another term. Terms differ first where one of the two begins one."""
        log = self.log
        first, end = max(m.prev_index + 1, log.horizon_index), min(last_index, log.last_index) + 1
        starts = dict(m.epoch_starts)
        places = {first, *starts, *(start.index for start in log.epoch_starts)}
        for index in sorted(place for place in places if first <= place < end):
            term = max((term for start, term in starts.items() if start <= index), default=m.prev_term)
            if log.term_at(index) != term:
                return index
        return None


def _check_starts(m: r.AppendEntries, payload: Payload) -> None:
    """Indexes among the entries and terms both grow, up to the leader's term; no bytes of records."""
    before = (m.prev_index, m.prev_term)
    for index, term in m.epoch_starts:
        if not (before[0] < index <= m.prev_index + m.entries and before[1] < term <= m.term):
            raise CorruptMessageError(f"an epoch start ({index}, {term}) behind {before}, of a leader in term {m.term}")
        before = (index, term)
    if len(payload):
        raise CorruptMessageError("a witness is sent no records")
