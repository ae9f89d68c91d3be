"""How far witnesses may be fed, so that their faster answer never blocks the election of a replica with records.

A voter refuses a candidate whose log ends before its own. A witness has but a few bytes to write, so it could be ahead
of every replica that holds records, and when the leader dies nobody would be elected. Therefore:

    a witness is sent nothing, no-ops included, beyond min(the leader's synced end, the match of every in-sync replica)
    a replica comes back into the ISR only at or above what a witness may hold

What an earlier leader fed lies below this one's own no-op, or conflicts with it and loses: a replica that holds the
no-op has the newer term. While the in-sync replicas are a majority by themselves nothing waits for a witness, so it
is fed now and then; otherwise at once, since it then decides what is committed. Pure: indexes and times in, an index
out.
"""

from __future__ import annotations

from raftlog import limits
from raftlog.clock import NEVER_S


class WitnessFeed:
    """Of one leadership, whose no-op is `epoch_index`; for all witnesses of the group together."""

    def __init__(self, epoch_index: int) -> None:
        self.last_index = 0
        """Witnesses may be sent entries up to here, now."""
        self._epoch_index = epoch_index
        self._due_s = 0.0
        self._pending = False

    @property
    def fed_index(self) -> int:
        """A replica that holds the log up to here is behind no witness."""
        return max(self._epoch_index, self.last_index)

    @property
    def next_due_s(self) -> float:
        return self._due_s if self._pending else NEVER_S

    def advance(self, held_index: int, *, awaited: bool, now_s: float) -> None:
        """All in-sync replicas hold `held_index`. `awaited`: they need a witness for a majority."""
        self._pending = held_index > self.last_index
        if self._pending and (awaited or now_s >= self._due_s):
            self.last_index = held_index
            self._pending = False
            self._due_s = now_s + limits.WITNESS_FEED_S
