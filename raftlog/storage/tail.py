"""The newest batches of a log, in memory, for followers that keep up. Bounded in bytes.

A run is what was appended together: consecutive Raft indexes of one term with no epoch start in
between, in one piece of memory. A follower that keeps up is sent whole runs, which are not copied.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right

from raftlog.storage.segment import Segment
from raftlog.types import Buffer

_RUN_OVERHEAD_BYTES = 600  # the Python objects of a run; without it small runs would exceed the bound
_COMPACT_AFTER = 1024  # dead entries at the head of the lists, before they are cut off


class Run:
    """Batches of the tail that lie one behind the other in a segment file.

    `count` batches: indexes [first_index, first_index + count), bytes `data`, whose file begins at `position`.
    """

    __slots__ = (
        "base_offsets",
        "count",
        "data",
        "first_index",
        "next_offset",
        "position",
        "positions",
        "segment",
        "term",
    )

    def __init__(
        self,
        *,
        first_index: int,
        term: int,
        base_offsets: array[int],
        positions: array[int],
        data: Buffer,
        next_offset: int,
        segment: Segment,
        position: int,
    ) -> None:
        self.first_index = first_index
        self.term = term
        self.count = len(base_offsets)
        self.base_offsets = base_offsets
        self.positions = positions  # of each batch in `data`
        self.data = data
        self.next_offset = next_offset
        self.segment = segment
        self.position = position  # of `data` in the segment

    def end_position(self, place: int) -> int:
        """Where batch number `place` ends in `data`."""
        return self.positions[place + 1] if place + 1 < self.count else len(self.data)

    def offset_after(self, place: int) -> int:
        return self.base_offsets[place + 1] if place + 1 < self.count else self.next_offset

    def fitting(self, place: int, max_bytes: int) -> int:
        """The end (exclusive) of the batches from `place` on that fit into `max_bytes`; `place` when none does."""
        limit = self.positions[place] + max_bytes
        if len(self.data) <= limit:
            return self.count
        return max(place, bisect_right(self.positions, limit, place) - 1)


class TailCache:
    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._runs: list[Run] = []
        self._indexes: list[int] = []
        self._offsets: list[int] = []
        self._head = 0  # runs in front of it are dead
        self._bytes = 0

    def add(self, run: Run) -> None:
        self._runs.append(run)
        self._indexes.append(run.first_index)
        self._offsets.append(run.base_offsets[0])
        self._bytes += len(run.data) + _RUN_OVERHEAD_BYTES
        if self._bytes > self.max_bytes:
            self._shrink()

    def _shrink(self) -> None:
        while self._bytes > self.max_bytes and self._head < len(self._runs) - 1:
            self._drop_oldest()
        if self._head > _COMPACT_AFTER and self._head * 2 > len(self._runs):
            self._compact()

    def _drop_oldest(self) -> None:
        run = self._runs[self._head]
        self._bytes -= len(run.data) + _RUN_OVERHEAD_BYTES
        self._runs[self._head] = self._runs[-1]  # frees the bytes before the lists are compacted
        self._head += 1

    def _compact(self) -> None:
        del self._runs[: self._head], self._indexes[: self._head], self._offsets[: self._head]
        self._head = 0

    def find(self, index: int) -> Run | None:
        """The run that holds the batch of this Raft index."""
        place = bisect_right(self._indexes, index, self._head) - 1
        if place < self._head:
            return None
        run = self._runs[place]
        return run if index < run.first_index + run.count else None

    def find_offset(self, offset: int) -> Run | None:
        """The run that holds the record at `offset`."""
        place = bisect_right(self._offsets, offset, self._head) - 1
        if place < self._head:
            return None
        run = self._runs[place]
        return run if offset < run.next_offset else None

    def last_boundary(self, segment: Segment, limit: int) -> int | None:
        """The last place in `segment`, at or in front of the position `limit`, where a batch begins or ends."""
        at = bisect_right(self._runs, (segment.base_offset, limit), self._head, key=_place) - 1
        if at < self._head or self._runs[at].segment is not segment:
            return None
        run = self._runs[at]
        if run.position + len(run.data) <= limit:
            return run.position + len(run.data)
        return run.position + run.positions[bisect_right(run.positions, limit - run.position) - 1]

    def truncate(self, index: int) -> None:
        """Drops every run that reaches `index` or above."""
        while len(self._runs) > self._head and self._runs[-1].first_index + self._runs[-1].count > index:
            run = self._runs.pop()
            self._indexes.pop()
            self._offsets.pop()
            self._bytes -= len(run.data) + _RUN_OVERHEAD_BYTES

    def delete_head(self, index: int) -> None:
        """Drops every run that begins below `index`."""
        while self._head < len(self._runs) and self._runs[self._head].first_index < index:
            self._drop_oldest()
        self._compact()

    def clear(self) -> None:
        self._head = len(self._runs)
        self._compact()
        self._bytes = 0


def _place(run: Run) -> tuple[int, int]:
    return run.segment.base_offset, run.position
