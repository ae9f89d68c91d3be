"""What the processes of a node have counted, over their ends: a worker that starts again goes on where it was.

Prometheus takes a counter that goes down for one that began again. What a process counted last is kept when it ends,
so that what is told never goes down while the node runs; what it counted since it told is lost with one that is killed.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from operator import add

from raftlog.protocol.report import Count, Figures, Labels, Level, Timing

PARTITION_PREFIX = "partition_"  # such figures are of one partition, and go with it
_Series = tuple[str, Labels]


@dataclass
class _Totals:
    counts: dict[_Series, float] = field(default_factory=dict)
    of_partitions: dict[_Series, float] = field(default_factory=dict)
    timings: dict[_Series, tuple[list[int], float]] = field(default_factory=dict)

    def add(self, figures: Figures) -> None:
        for count in figures.counts:
            counts = self.of_partitions if count.name.startswith(PARTITION_PREFIX) else self.counts
            series = count.name, count.labels
            counts[series] = counts.get(series, 0) + count.value
        for timing in figures.timings:
            self._add_timing((timing.name, timing.labels), timing.counts, timing.sum_s)

    def merge(self, others: _Totals) -> None:
        for series, value in others.counts.items():
            self.counts[series] = self.counts.get(series, 0) + value
        for series, value in others.of_partitions.items():
            self.of_partitions[series] = self.of_partitions.get(series, 0) + value
        for series, (counts, sum_s) in others.timings.items():
            self._add_timing(series, counts, sum_s)

    def _add_timing(self, series: _Series, counts: list[int], sum_s: float) -> None:
        known = self.timings.get(series)
        # Plain loops in C: a thousand workers have six thousand histograms.
        self.timings[series] = (list(map(add, known[0], counts)), known[1] + sum_s) if known else (counts, sum_s)


@dataclass
class _Source:
    """One worker or door, over all of its processes."""

    began_s: float
    now: Figures = field(default_factory=lambda: Figures([], [], []))  # of the process that runs
    ended: _Totals = field(default_factory=_Totals)  # of those before it


class FigureBook:
    """By source: the key of a worker's replica, or a door. `wall_s`: the time as people have it."""

    def __init__(self, wall_s: Callable[[], float]) -> None:
        self._wall_s = wall_s
        self._began_s = wall_s()
        self._sources: dict[Hashable, _Source] = {}
        self._forgotten = _Totals()

    def take(self, source: Hashable, figures: Figures) -> None:
        """What its process says now."""
        self._source(source).now = figures

    def end(self, source: Hashable) -> None:
        """Its process is gone; the next one counts from 0."""
        found = self._sources.get(source)
        if found is not None:
            found.ended.add(found.now)
            found.now = Figures([], [], [])

    def forget(self, source: Hashable) -> None:
        """It is gone for good. What is not of its partition stays counted."""
        self.end(source)
        found = self._sources.pop(source, None)
        if found is not None:
            found.ended.of_partitions.clear()
            self._forgotten.merge(found.ended)

    def has_counted(self, name: str) -> bool:
        """Of any labels, since the node began."""
        totals = [self._forgotten, *(source.ended for source in self._sources.values())]
        return any(series[0] == name and value for each in totals for series, value in each.counts.items()) or any(
            count.name == name and count.value for source in self._sources.values() for count in source.now.counts
        )

    def whole(self) -> Figures:
        """Of all sources together, since the node began."""
        node = _Totals()
        node.merge(self._forgotten)
        of_partitions: list[Count] = []
        levels: dict[_Series, float] = {}
        for source in self._sources.values():
            node.merge(source.ended)
            node.add(source.now)
            of_partitions += [Count(*series, value, source.began_s) for series, value in node.of_partitions.items()]
            node.of_partitions.clear()
            for level in source.now.levels:
                series = level.name, level.labels
                levels[series] = levels.get(series, 0) + level.value
        return Figures(
            [Count(*series, value, self._began_s) for series, value in node.counts.items()] + of_partitions,
            [Level(*series, value) for series, value in levels.items()],
            [Timing(*series, *found, self._began_s) for series, found in node.timings.items()],
        )

    def _source(self, source: Hashable) -> _Source:
        found = self._sources.get(source)
        if found is None:
            found = self._sources[source] = _Source(self._wall_s())
        return found
