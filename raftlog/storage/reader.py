"""Reading a log: whole batches, straight from the tail in memory or the segment file, never decoded."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NamedTuple

from raftlog.errors import CorruptLogError
from raftlog.record.batch import HEADER_BYTES, PREFIX_BYTES, read_header
from raftlog.record.compacted import entries_of
from raftlog.storage.lookup import Lookup, Place
from raftlog.storage.segment import Segment
from raftlog.storage.tail import TailCache
from raftlog.types import Buffer

_LARGE_RUN_BYTES = 128 * 1024  # such a run goes alone: joining it with others would copy it
_EXTENT = struct.Struct(">qi11xi")  # base offset, length, last offset delta of a batch header
_unpack_extent = _EXTENT.unpack_from
_ENTRIES = struct.Struct(">8xi31xq2xii")  # length, producer id, base sequence, record count
_unpack_entries = _ENTRIES.unpack_from


@dataclass(slots=True)
class Entries:
    """Consecutive entries of the Raft log, as they are sent.

    `count` consecutive Raft indexes from first_index on; those in `epoch_starts` have no bytes, each other one is
    a batch, or one of several that a filler stands for."""

    first_index: int
    count: int
    epoch_starts: list[tuple[int, int]]  # (index, term)
    payload: Buffer


class Extent(NamedTuple):
    """Whole batches in the file at `path`, whose number is `inode`; `next_offset` is behind them."""

    path: str
    inode: int
    position: int
    length: int
    next_offset: int


class LogReader:
    def __init__(self, lookup: Lookup, tail: TailCache) -> None:
        self._lookup = lookup
        self._tail = tail

    def entries(self, first_index: int, last_index: int, max_bytes: int) -> Entries:
        """From first_index on, up to last_index; at least one, whatever its size.

        Where first_index lies within a filler they begin with the filler's first.
        """
        epochs = self._lookup.epochs
        index = first_index
        starts: list[tuple[int, int]] = []
        parts: list[Buffer] = []
        room = max_bytes
        while index <= last_index:
            if epochs.is_start(index):
                starts.append((index, epochs.start_at(index).term))
                index += 1
                continue
            run = self._tail.find(index)
            if run is None:
                if not parts:
                    batches, begin, end = self._entries_of_file(index, last_index, max_bytes, starts)
                    begin = min(begin, first_index)
                    return Entries(begin, end - begin, starts, batches)
                break
            place = index - run.first_index
            end_place = run.fitting(place, room)
            if end_place == place:
                if index > first_index and (parts or starts):
                    break
                end_place = place + 1
            if place == 0 and end_place == run.count:
                part: Buffer = run.data
            else:
                part = memoryview(run.data)[run.positions[place] : run.end_position(end_place - 1)]
            if parts and len(part) >= _LARGE_RUN_BYTES:
                break
            parts.append(part)
            room -= len(part)
            index = run.first_index + end_place
            if room < HEADER_BYTES or len(part) >= _LARGE_RUN_BYTES:
                break
        payload = parts[0] if len(parts) == 1 else b"".join(parts)
        return Entries(first_index, index - first_index, starts, payload)

    def _entries_of_file(
        self, index: int, last_index: int, max_bytes: int, starts: list[tuple[int, int]]
    ) -> tuple[bytes, int, int]:
        """The batches from that of `index` on that stand in one segment, its first index and the index behind them."""
        epochs = self._lookup.epochs
        (segment, position), begin = self._lookup.of_index(index)
        data = _read_from(segment, position, max_bytes)
        header = read_header(data)
        if header.leader_epoch != epochs.term_at(begin):
            raise CorruptLogError(f"{segment.path} at {position} is not Raft index {begin}")
        cut = header.batch_bytes
        index = begin + entries_of(header)
        while index <= last_index:
            if epochs.is_start(index):
                starts.append((index, epochs.start_at(index).term))
                index += 1
            elif cut + HEADER_BYTES > len(data):
                break
            else:
                length, producer_id, sequence, records = _unpack_entries(data, cut)
                end = cut + length + PREFIX_BYTES
                if end > len(data) or end <= cut:
                    break
                cut = end
                index += 1 if records or producer_id >= 0 else sequence
        self._lookup.remember_index(index, Place(segment, position + cut))
        return data[:cut], begin, index

    def records(self, offset: int, max_bytes: int, end_offset: int) -> bytes:
        """Whole batches of one segment from that of `offset` on, all below end_offset, at least one of them."""
        segment, position = self._lookup.of_offset(offset)
        data = _read_from(segment, position, max_bytes)
        header = read_header(data)
        if not header.base_offset <= offset < header.next_offset:
            raise CorruptLogError(f"{segment.path} at {position} does not hold offset {offset}")
        cut, size, following = 0, len(data), offset
        while cut + HEADER_BYTES <= size:
            base, length, delta = _unpack_extent(data, cut)
            end = cut + length + PREFIX_BYTES
            if end > size or base + delta >= end_offset:
                break
            if end <= cut:
                raise CorruptLogError(f"{segment.path} at {position + cut} holds no batch")
            cut = end
            following = base + delta + 1
        if cut:
            self._lookup.remember_offset(following, Place(segment, position + cut))
        self._lookup.close_idle()
        return data[:cut]

    def locate(self, offset: int, max_bytes: int, end_offset: int, log_end_offset: int) -> Extent | None:
        """Where what `records` answers lies, or a little less of it, unread. None: the first batch has no records."""
        segment, position = place = self._lookup.of_offset(offset)
        header = segment.header_at(position)
        if header is None or not header.base_offset <= offset < header.next_offset:
            raise CorruptLogError(f"{segment.path} at {position} does not hold offset {offset}")
        if not header.record_count:
            return None
        segment_end = min(self._lookup.end_offset(self._lookup.segment_number(segment.base_offset)), log_end_offset)
        stop = segment.size if end_offset >= segment_end else self._lookup.of_offset(end_offset).position
        limit = position + max_bytes
        first_end = position + header.batch_bytes
        end = stop
        if stop > limit:
            offsets = header.base_offset, min(end_offset, segment_end)
            end = self._lookup.last_boundary(place, Place(segment, stop), offsets, limit)
            if end <= position:
                end = _last_boundary(segment, position, limit)
            end = min(max(end, first_end), stop)
        following = segment.header_at(end) if end < segment.size else None
        next_offset = segment_end
        if following is not None:
            next_offset = following.base_offset
            self._lookup.remember_offset(next_offset, Place(segment, end))
        extent = Extent(segment.path, segment.file.inode(), position, end - position, next_offset)
        self._lookup.close_idle()
        return extent

    def skip_empty(self, offset: int, end_offset: int, batches: int) -> int:
        """`offset`, or behind the batches without records from there on; after so many of them, or at their segment's
        end, it is to be asked again. At most end_offset.
        """
        segment, position = self._lookup.of_offset(offset)
        for place, header in segment.walk(position):
            if header.record_count or not batches or header.base_offset >= end_offset:
                self._lookup.remember_offset(header.base_offset, Place(segment, place))
                return min(max(offset, header.base_offset), end_offset)
            batches -= 1
            offset = header.next_offset
        return min(offset, end_offset)


def _last_boundary(segment: Segment, position: int, limit: int) -> int:
    """Where the last batch from `position` on ends that ends at or in front of `limit`."""
    for place, header in segment.walk(position):
        if place + header.batch_bytes > limit:
            return place
    return segment.size


def _read_from(segment: Segment, position: int, max_bytes: int) -> bytes:
    """At least the whole batch at `position`, else about max_bytes of what follows it."""
    size = max(HEADER_BYTES, min(max_bytes, segment.size - position))
    data = segment.file.read(position, size)
    need = read_header(data).batch_bytes
    if need > len(data):
        data = segment.file.read(position, need)
    if need > len(data):
        raise CorruptLogError(f"{segment.path} ends within the batch at {position}")
    return data
