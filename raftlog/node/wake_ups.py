"""Which sleeping workers are told of news that wakes them, and when: a bounded number a second.

News of a whole node concerns all groups that it has a replica of, and a node that comes and goes would wake them all at
once, again and again. So those that sleep are told in turn: first those whose leader may be gone, then the others. What
is news no more when its turn comes is not told. Requests of clients wake a group by themselves and wait for nobody.
"""

from __future__ import annotations

from raftlog.clock import NEVER_S
from raftlog.limits import WAKE_UPS_PER_S
from raftlog.node.gossip import ReplicaKey

_LATE_S = 0.1  # a supervisor that was busy for this long makes up for it


class WakeUps:
    """Of one node. Pure: keys and times in, keys out; all nodes have one order, so that a group is told at one time."""

    def __init__(self) -> None:
        self._urgent: set[ReplicaKey] = set()
        self._others: set[ReplicaKey] = set()
        self._due_s = 0.0

    def add(self, key: ReplicaKey, *, urgent: bool) -> None:
        if urgent:
            self._urgent.add(key)
            self._others.discard(key)
        elif key not in self._urgent:
            self._others.add(key)

    def forget(self, key: ReplicaKey) -> None:
        """It is awake, or gone."""
        self._urgent.discard(key)
        self._others.discard(key)

    @property
    def next_due_s(self) -> float:
        return self._due_s if self._urgent or self._others else NEVER_S

    def take(self, now_s: float) -> ReplicaKey | None:
        """The next one, if it is time; each takes its share of a second."""
        waiting = self._urgent or self._others
        if not waiting or now_s < self._due_s:
            return None
        key = min(waiting)
        waiting.discard(key)
        self._due_s = max(self._due_s, now_s - _LATE_S) + 1 / WAKE_UPS_PER_S
        return key
