"""Virtual time: a queue of things that happen, and clocks that may drift away from it."""

from __future__ import annotations

import heapq
from collections.abc import Callable

_WALL_MS = 1_700_000_000_000  # the wall clock of nodes and clients when a run begins


class Events:
    """Runs callables in order of virtual time; ties in the order in which they were added."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._added = 0

    def at(self, time_s: float, action: Callable[[], None]) -> None:
        self._added += 1
        heapq.heappush(self._heap, (max(time_s, self.now_s), self._added, action))

    def after(self, delay_s: float, action: Callable[[], None]) -> None:
        self.at(self.now_s + delay_s, action)

    def run_next(self) -> bool:
        if not self._heap:
            return False
        self.now_s, _, action = heapq.heappop(self._heap)
        action()
        return True


class DriftingClock:
    """One node's clock over virtual time: a constant drift of the monotonic clock, jumps of the wall clock."""

    def __init__(self, events: Events, rate: float, start_s: float) -> None:
        self._events = events
        self._rate = rate
        self._start_s = start_s
        self._wall_ms = _WALL_MS

    def monotonic_s(self) -> float:
        return self._start_s + self._events.now_s * self._rate

    def wall_ms(self) -> int:
        return self._wall_ms + int(self._events.now_s * 1000)

    def jump_wall(self, milliseconds: int) -> None:
        # Further behind its clients a leader refuses every record as one of the future.
        self._wall_ms = max(self._wall_ms + milliseconds, _WALL_MS - 3_600_000)

    def virtual_s(self, monotonic_s: float) -> float:
        """When, in virtual time, this clock will show `monotonic_s`."""
        return (monotonic_s - self._start_s) / self._rate
