"""The clock seam: time is passed in, never reached for, so that a simulator can own it."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Protocol

# CLOCK_MONOTONIC stands still while a machine is suspended, and a leader or a group member would go on afterwards as
# if no time had passed. CLOCK_BOOTTIME does not, and only Linux has it. A partial costs less than a function.
monotonic_s: Callable[[], float] = (
    functools.partial(time.clock_gettime, time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic
)
"""Seconds that never go back and, on Linux, go on in a suspended machine. Every time-out is measured with it."""


NEVER_S = float("inf")
LONG_AGO_S = float("-inf")


class Clock(Protocol):
    def monotonic_s(self) -> float:
        """Seconds that never go back; for time-outs."""
        ...

    def wall_ms(self) -> int:
        """Milliseconds since the epoch; for records and retention, never for time-outs."""
        ...


class SystemClock:
    def monotonic_s(self) -> float:
        return monotonic_s()

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000


class ManualClock:
    """The twin for tests and simulations: it moves when told to."""

    def __init__(self, start_s: float = 1000.0, wall_ms: int = 1_700_000_000_000) -> None:
        self._now_s = start_s
        self._wall_offset_ms = wall_ms - int(start_s * 1000)

    def monotonic_s(self) -> float:
        return self._now_s

    def wall_ms(self) -> int:
        return int(self._now_s * 1000) + self._wall_offset_ms

    def advance(self, seconds: float) -> None:
        assert seconds >= 0
        self._now_s += seconds

    def jump_wall(self, milliseconds: int) -> None:
        """Step the wall clock alone, as an operator or NTP would."""
        self._wall_offset_ms += milliseconds
