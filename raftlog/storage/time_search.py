"""The first record that is not older than a time, or the newest one, searched for in steps of bounded work.

The log may change between two steps: what was looked at is remembered by offset, since segments are rewritten and
deleted meanwhile. One batch is held unpacked at a time.
"""

from __future__ import annotations

from collections.abc import Iterator

from raftlog.errors import CorruptLogError, UnreadableRecordsError
from raftlog.record.batch import RECORD_COUNT, BatchHeader, each_time
from raftlog.storage.lookup import Lookup

_FIND_WORK = 200  # what it costs to find a batch and to begin with it, in records
_RECORD_BYTES = 200  # read and unpacked in the time that one record takes


class TimeSearch:
    """The search for the first record of a time or later, in steps.

    `step` until `done`; then `found` is (offset, timestamp_ms), or None: there is none.
    """

    def __init__(self, lookup: Lookup, timestamp_ms: int) -> None:
        self.done = False
        self.found: tuple[int, int] | None = None
        self._lookup = lookup
        self._timestamp_ms = timestamp_ms
        self._next_offset = 0  # everything in front of it was looked at
        self._header: BatchHeader | None = None  # of the batch that is looked at
        self._times: Iterator[tuple[int, int]] = iter(())

    def step(self, start_offset: int, end_offset: int, records: int) -> int:
        """Goes on in [start_offset, end_offset), for about the time that `records` take; returns how much it was.

        Raises CorruptLogError, CorruptMessageError.
        """
        work = 0
        while not self.done and work < records:
            header = self._header
            try:
                if header is None:
                    work += self._find(max(start_offset, self._next_offset), end_offset, records - work)
                else:
                    work += self._look(header, start_offset, end_offset, records - work)
            except UnreadableRecordsError as error:
                # Its records have no times that can be read. A consumer that begins there is told so.
                self._end((max(error.offset, start_offset), self._timestamp_ms))
        return work

    def _end(self, found: tuple[int, int] | None) -> None:
        self.done, self.found, self._times = True, found, iter(())

    def _find(self, start_offset: int, end_offset: int, records: int) -> int:
        """The next batch whose header says that it holds such a record."""
        work = _FIND_WORK
        for segment, position, header in self._lookup.from_time(self._timestamp_ms, start_offset):
            if header.base_offset >= end_offset:
                break
            if header.next_offset <= start_offset:
                continue
            if header.max_timestamp_ms >= self._timestamp_ms:
                frame = segment.file.read(position, header.batch_bytes)
                unpacked_bytes, self._times = each_time(frame, header)
                self._header = header
                return work + (len(frame) + unpacked_bytes) // _RECORD_BYTES
            self._next_offset = header.next_offset
            work += 1
            if work >= records + _FIND_WORK:
                return work
        self._end(None)
        return work

    def _look(self, header: BatchHeader, start_offset: int, end_offset: int, records: int) -> int:
        work = 0
        for offset, timestamp_ms in self._times:
            work += 1
            if timestamp_ms >= self._timestamp_ms and offset >= start_offset:
                self._end((offset, timestamp_ms) if offset < end_offset else None)
                return work
            if work >= records:
                return work
        self._next_offset, self._header = header.next_offset, None
        return work


class NewestSearch:
    """The same for the record with the largest timestamp, the first one of several.

    Batches are compared by what their headers say, the newest segments first, and only the best is looked into. Should
    its header say too much, the answer is the newest of its records.
    """

    def __init__(self, lookup: Lookup) -> None:
        self.done = False
        self.found: tuple[int, int] | None = None
        self._lookup = lookup
        self._segments_from = 2**62  # those that begin here or behind it were looked at
        self._next_offset = 0  # in the segment in front of them, everything up to here was
        self._best: BatchHeader | None = None
        self._times: Iterator[tuple[int, int]] | None = None  # of the best batch, once it is known
        self._newest: tuple[int, int] | None = None  # of those

    def step(self, start_offset: int, end_offset: int, records: int) -> int:
        """As TimeSearch.step."""
        work = 0
        while not self.done and work < records:
            try:
                if self._times is None:
                    work += self._compare(start_offset, end_offset, records - work)
                else:
                    work += self._look(self._times, start_offset, end_offset, records - work)
            except UnreadableRecordsError as error:
                assert self._best is not None
                self._end((max(error.offset, start_offset), self._best.max_timestamp_ms))
        return work

    def _end(self, found: tuple[int, int] | None) -> None:
        self.done, self.found, self._times = True, found, None

    def _compare(self, start_offset: int, end_offset: int, records: int) -> int:
        """The next piece of a segment; behind the last piece the best batch is opened."""
        lookup = self._lookup
        number = lookup.number_before(self._segments_from)
        if number < 0 or lookup.end_offset(number) <= start_offset:
            return _FIND_WORK + self._open_best(start_offset)
        work, best = _FIND_WORK, self._best
        if best is None or lookup.max_timestamp_ms(number) >= best.max_timestamp_ms:
            for _, header in lookup.headers_from(number, max(start_offset, self._next_offset)):
                if header.base_offset >= end_offset:
                    break
                if header.next_offset <= max(start_offset, self._next_offset):
                    continue
                self._next_offset = header.next_offset
                self._take_better(header)
                work += 1
                if work >= records + _FIND_WORK:
                    return work
        self._segments_from, self._next_offset = lookup.base_offset(number), 0
        return work

    def _take_better(self, header: BatchHeader) -> None:
        best = self._best
        if header[RECORD_COUNT] and (
            best is None or (-header.max_timestamp_ms, header.base_offset) < (-best.max_timestamp_ms, best.base_offset)
        ):
            self._best = header

    def _open_best(self, start_offset: int) -> int:
        best = self._best
        if best is None:
            self._end(None)
            return 0
        if best.next_offset <= start_offset:
            return self._begin_anew()
        segment, position = self._lookup.of_offset(best.base_offset)
        header = segment.header_at(position)
        if header is None:
            raise CorruptLogError(f"no batch at {position} of {segment.path}")
        if not header.record_count:
            return self._begin_anew()
        frame = segment.file.read(position, header.batch_bytes)
        unpacked_bytes, self._times = each_time(frame, header)
        return (len(frame) + unpacked_bytes) // _RECORD_BYTES

    def _begin_anew(self) -> int:
        """The best batch was deleted meanwhile, or compacted to nothing."""
        self._segments_from, self._next_offset, self._best = 2**62, 0, None
        return 0

    def _look(self, times: Iterator[tuple[int, int]], start_offset: int, end_offset: int, records: int) -> int:
        work = 0
        for offset, timestamp_ms in times:
            work += 1
            if start_offset <= offset < end_offset and (self._newest is None or timestamp_ms > self._newest[1]):
                self._newest = (offset, timestamp_ms)
            if work >= records:
                return work
        self._end(self._newest)
        return work
