"""The clock of every time-out goes on while the machine is suspended, where the system has such a clock."""

from __future__ import annotations

import time

import pytest

from raftlog.clock import SystemClock, monotonic_s

BOOTTIME = getattr(time, "CLOCK_BOOTTIME", None)


@pytest.mark.skipif(BOOTTIME is None, reason="only Linux has CLOCK_BOOTTIME")
@pytest.mark.parametrize("read_s", [monotonic_s, SystemClock().monotonic_s])
def test_time_outs_follow_the_clock_that_does_not_stand_still_in_suspend(
    read_s: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert BOOTTIME is not None and callable(read_s)
    before_s = time.clock_gettime(BOOTTIME)
    read = read_s()
    # In a machine that was never suspended both clocks may be equal, so the clock's own name is asked for too.
    assert before_s <= read <= time.clock_gettime(BOOTTIME)
    assert monotonic_s.func is time.clock_gettime and monotonic_s.args == (BOOTTIME,)  # type: ignore[attr-defined]
