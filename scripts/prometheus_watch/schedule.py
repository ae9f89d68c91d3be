"""How far a group was behind at each moment, by who wrote its records and committed its offsets. Pure."""

from __future__ import annotations

from bisect import bisect_right

_STEP_S = 0.1


class Schedule:
    """Of one partition, whose offsets begin with 0 and have no gaps. Times are in seconds, as people have them."""

    def __init__(self) -> None:
        self._written_s: list[float] = []
        self._commits: list[tuple[float, float, int]] = []  # between these times, this became the offset

    def wrote(self, offset: int, at_s: float) -> None:
        assert offset == len(self._written_s)
        self._written_s.append(at_s)

    def committed(self, offset: int, begin_s: float, end_s: float) -> None:
        self._commits.append((begin_s, end_s, offset))

    def lags_s(self, at_s: float) -> set[float]:
        """All that could be right then: two while a commit is under way."""
        offsets = {commit[2] for commit in self._commits if commit[0] <= at_s < commit[1]}
        offsets |= {commit[2] for commit in [each for each in self._commits if each[1] <= at_s][-1:]}
        end = bisect_right(self._written_s, at_s)
        return {max(0.0, at_s - self._written_s[offset]) if offset < end else 0.0 for offset in offsets}

    def error_s(self, at_s: float, lag_s: float, late_s: float) -> float:
        """How far `lag_s` is from the nearest truth of a moment not more than `late_s` before or behind."""
        steps = round(late_s / _STEP_S)
        moments = (at_s + step * _STEP_S for step in range(-steps, steps + 1))
        return min((abs(lag_s - truth) for moment in moments for truth in self.lags_s(moment)), default=0.0)
