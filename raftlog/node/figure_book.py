"""What the processes of a node have counted, over their ends: a worker that starts again goes on where it was.

Prometheus takes a counter that goes down for one that began again. What a process counted last is kept when it ends,
so that what is told never goes down while the node runs; what it counted since it told is lost with one that is killed.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field

from msgspec.structs import replace

from raftlog.protocol.report import Figures, PartitionFigures, Series, Timing


@dataclass
class _Source:
    """One worker or door, over all of its processes. Of what ended only counts and timings are kept."""

    began_s: float
    now: Figures = field(default_factory=Figures)  # of the process that runs
    ended: Figures = field(default_factory=Figures)  # of those before it


class FigureBook:
    """By source: the key of a worker's replica, or a door. `wall_s`: the time as people have it."""

    def __init__(self, wall_s: Callable[[], float]) -> None:
        self._wall_s = wall_s
        self._began_s = wall_s()
        self._sources: dict[Hashable, _Source] = {}
        self._forgotten = Figures()

    def take(self, source: Hashable, figures: Figures) -> None:
        """What its process says now."""
        found = self._sources.get(source)
        if found is None:
            found = self._sources[source] = _Source(self._wall_s())
        found.now = figures

    def end(self, source: Hashable) -> None:
        """Its process is gone; the next one counts from 0."""
        found = self._sources.get(source)
        if found is not None:
            ended = _sum([found.ended, found.now])
            ended.partitions = [
                replace(each, elected_ms=0, index_map_bytes=0, index_used_bytes=0) for each in _partitions(found)
            ]
            found.ended, found.now = ended, Figures()

    def forget(self, source: Hashable) -> None:
        """It is gone for good. What is not of its partition stays counted."""
        self.end(source)
        found = self._sources.pop(source, None)
        if found is not None:
            self._forgotten = _sum([self._forgotten, found.ended])

    def has_counted(self, name: str) -> bool:
        """Of any labels, since the node began."""
        return any(series[0] == name and value for told in self._all() for series, value in told.counts.items())

    def whole(self) -> Figures:
        """Of all sources together, since the node began."""
        whole = _sum(self._all())
        whole.began_s = self._began_s
        levels = whole.levels
        for source in self._sources.values():
            for series, value in source.now.levels.items():
                levels[series] = levels.get(series, 0) + value
            whole.partitions += _partitions(source)
        return whole

    def _all(self) -> Iterable[Figures]:
        yield self._forgotten
        for source in self._sources.values():
            yield source.ended
            yield source.now


def _sum(told: Iterable[Figures]) -> Figures:
    """Of the counts and timings. A thousand workers have thirty thousand of them, so a histogram is added up in C."""
    whole = Figures()
    counts = whole.counts
    timings: dict[Series, list[Timing]] = {}
    for figures in told:
        for series, value in figures.counts.items():
            counts[series] = counts.get(series, 0) + value
        for series, timing in figures.timings.items():
            timings.setdefault(series, []).append(timing)
    for series, found in timings.items():
        buckets, sums_s = zip(*found, strict=True)
        whole.timings[series] = Timing(list(map(sum, zip(*buckets, strict=True))), sum(sums_s))
    return whole


def _partitions(source: _Source) -> list[PartitionFigures]:
    """What a worker says of its replica, since the first of its processes began; nothing of others."""
    before, now = source.ended.partitions, source.now.partitions
    if not before or not now:
        return [replace(each, began_s=source.began_s) for each in now or before]
    return [
        replace(
            now[0],
            elections=before[0].elections + now[0].elections,
            produced_bytes=before[0].produced_bytes + now[0].produced_bytes,
            fetched_bytes=before[0].fetched_bytes + now[0].fetched_bytes,
            began_s=source.began_s,
        )
    ]
