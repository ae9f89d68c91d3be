"""From an offset, a Raft index or a time to a place in a segment.

An index entry only says where to begin to look. It counts when the header at its position has its base
offset and leader epoch, which together name one entry of the Raft log; else the segment is walked from
its beginning. A sequential reader asks nothing here: the end of each answer is remembered.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from raftlog.errors import CorruptLogError
from raftlog.limits import INDEX_INTERVAL_BYTES, OPEN_SEGMENTS_MAX, READER_PLACES_MAX
from raftlog.record.batch import BatchHeader
from raftlog.record.compacted import entries_of
from raftlog.storage.epochs import Epochs
from raftlog.storage.index import IndexEntry, OffsetIndex
from raftlog.storage.segment import Segment
from raftlog.storage.tail import TailCache

_GUESSES = 12  # each is a question to the index; even halving would come near a mebibyte by then


class Place(NamedTuple):
    segment: Segment
    position: int


class Lookup:
    """Shares `segments`, sorted, with the log that owns it."""

    def __init__(self, segments: list[Segment], index: OffsetIndex, tail: TailCache, epochs: Epochs) -> None:
        self._segments = segments
        self._index = index
        self._tail = tail
        self.epochs = epochs
        self._by_offset: dict[int, Place] = {}
        self._by_index: dict[int, Place] = {}

    def forget(self) -> None:
        """After a truncation or a deletion, positions may hold other batches."""
        self._by_offset.clear()
        self._by_index.clear()

    def remember_offset(self, offset: int, place: Place) -> None:
        _remember(self._by_offset, offset, self._next(place))

    def remember_index(self, raft_index: int, place: Place) -> None:
        _remember(self._by_index, raft_index, self._next(place))

    def _next(self, place: Place) -> Place | None:
        """A reader at the end of a closed segment goes on in the next one."""
        if place.position < place.segment.size or place.segment is self._segments[-1]:
            return place
        following = self.segment_number(place.segment.base_offset) + 1
        return Place(self._segments[following], 0)

    def of_offset(self, offset: int) -> Place:
        """The batch that holds the record at `offset`, which the log holds."""
        place = self._by_offset.pop(offset, None)
        if place is not None and place.position < place.segment.size:
            return place
        run = self._tail.find_offset(offset)
        if run is not None:
            number = bisect_right(run.base_offsets, offset) - 1
            return Place(run.segment, run.position + run.positions[number])
        segment = self._segments[self.segment_number(offset)]
        entry = self.verified(self._index.floor_offset(offset), segment)
        for position, header in segment.walk(entry.position if entry else 0):
            if header.next_offset > offset:
                return Place(segment, position)
        raise CorruptLogError(f"offset {offset} is not in {segment.path}")

    def of_index(self, raft_index: int) -> tuple[Place, int]:
        """The batch with this Raft index, which the log holds and which is no epoch start; and the batch's first index.

        That is another one only where the index lies within a filler.
        """
        place = self._by_index.pop(raft_index, None)
        if place is not None and place.position < place.segment.size:
            return place, raft_index
        run = self._tail.find(raft_index)
        if run is not None:
            return Place(run.segment, run.position + run.positions[raft_index - run.first_index]), raft_index
        number = bisect_right(self._segments, raft_index, key=_first_index) - 1
        segment = self._segments[number]
        entry = self.verified(self._index.floor_index(raft_index), segment)
        at = entry.raft_index if entry else segment.first_index
        for position, header in segment.walk(entry.position if entry else 0):
            end = at + entries_of(header)
            if at <= raft_index < end:
                return Place(segment, position), at
            at = self.epochs.next_batch_index(end)
        raise CorruptLogError(f"Raft index {raft_index} is not in {segment.path}")

    def verified(self, entry: IndexEntry | None, segment: Segment) -> IndexEntry | None:
        """The entry, if it speaks of this segment and the batch is really there."""
        if entry is None or entry.segment != segment.base_offset:
            return None
        header = segment.header_at(entry.position)
        if header is None or (header.base_offset, header.leader_epoch) != (entry.base_offset, entry.leader_epoch):
            return None
        return entry

    def from_time(self, timestamp_ms: int, start_offset: int) -> Iterator[tuple[Segment, int, BatchHeader]]:
        """(segment, position, header) of batches in order, from one in front of the first that holds `start_offset` or
        an offset behind it and a record that is not older. Segments without such a record are left out.
        """
        for number in range(self.segment_number(start_offset), len(self._segments)):
            segment = self._segments[number]
            if self.max_timestamp_ms(number) < timestamp_ms:
                continue
            position = self._time_floor(number, timestamp_ms)
            if start_offset > segment.base_offset:
                entry = self.verified(self._index.floor_offset(start_offset), segment)
                position = max(position, entry.position if entry else 0)
            for place, header in segment.walk(position):
                yield segment, place, header

    def last_boundary(self, first: Place, last: Place, offsets: tuple[int, int], limit: int) -> int:
        """The last known place between these two, at or in front of the position `limit`, where a batch begins.

        `offsets`: of the batches at the two. Entries are dense in bytes, so a few guesses come near. Where none is
        known it is `first`.
        """
        segment, low = first
        known = self._tail.last_boundary(segment, limit)
        if known is not None and known > low:
            return known
        (low_offset, high_offset), high, best = offsets, last.position, None
        for _ in range(_GUESSES):
            guess = low_offset + (high_offset - low_offset) * (limit - low) // max(1, high - low)
            guess = min(max(guess, low_offset + 1), high_offset - 1)
            entry = self._index.floor_offset(guess) if low_offset < guess else None
            if entry is None or entry.segment != segment.base_offset:
                break
            if entry.position > limit:
                high_offset, high = entry.base_offset, entry.position
                continue
            if best is None or entry.position > best.position:
                best = entry
            if limit - entry.position < 2 * INDEX_INTERVAL_BYTES:
                break
            low_offset, low = guess, max(low, entry.position)
        entry = self.verified(best, segment)
        return first.position if entry is None else max(first.position, entry.position)

    def number_before(self, offset: int) -> int:
        """Of the last segment that begins in front of `offset`; -1: there is none."""
        return bisect_left(self._segments, offset, key=_base_offset) - 1

    def headers_from(self, number: int, offset: int) -> Iterator[tuple[int, BatchHeader]]:
        """(position, header) of the batches of a segment, from one in front of that with `offset` on."""
        segment = self._segments[number]
        entry = self.verified(self._index.floor_offset(offset), segment)
        yield from segment.walk(entry.position if entry else 0)

    def base_offset(self, number: int) -> int:
        return self._segments[number].base_offset

    def _time_floor(self, number: int, timestamp_ms: int) -> int:
        """A position in front of the first batch that is not older. Entries' maxima only grow, hence halving."""
        segment = self._segments[number]
        low, high = segment.base_offset, self.end_offset(number)
        position = 0
        while low < high:
            entry = self.verified(self._index.floor_offset((low + high) // 2), segment)
            if entry is None or entry.max_timestamp_ms < timestamp_ms:
                position = max(position, entry.position if entry else 0)
                low = (low + high) // 2 + 1
            else:
                high = entry.base_offset
        return position

    def max_timestamp_ms(self, number: int) -> int:
        """Of all batches of a segment; worked out once for one that was closed before this start."""
        segment = self._segments[number]
        if segment.max_timestamp_ms < 0:
            entry = self.verified(self._index.floor_offset(self.end_offset(number) - 1), segment)
            newest = entry.max_timestamp_ms if entry else -1
            for _, header in segment.walk(entry.position if entry else 0):
                newest = max(newest, header.max_timestamp_ms)
            segment.max_timestamp_ms = newest
        return segment.max_timestamp_ms

    def end_offset(self, number: int) -> int:
        """Of a segment, exclusive; that of the last one is open."""
        if number + 1 < len(self._segments):
            return self._segments[number + 1].base_offset
        return 2**62

    def segment_number(self, offset: int) -> int:
        """Of the segment that holds `offset`, or would."""
        return max(0, bisect_right(self._segments, offset, key=_base_offset) - 1)

    def close_idle(self) -> None:
        """Old segments that were read keep no more than a few descriptors."""
        opened = [segment for segment in self._segments[:-1] if segment.is_open and not segment.dirty]
        for segment in opened[: max(0, len(opened) - OPEN_SEGMENTS_MAX)]:
            segment.close()


def _base_offset(segment: Segment) -> int:
    return segment.base_offset


def _first_index(segment: Segment) -> int:
    return segment.first_index


def _remember(memory: dict[int, Place], key: int, place: Place | None) -> None:
    if place is None:
        return
    if len(memory) >= READER_PLACES_MAX:
        del memory[next(iter(memory))]
    memory[key] = place
