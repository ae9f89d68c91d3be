"""The first record that is not older than a time, searched for in steps of bounded work.

The log may change between two steps: what was looked at is remembered by offset, since segments are rewritten and
deleted meanwhile. One batch is held unpacked at a time.
"""

from __future__ import annotations

from collections.abc import Iterator

from raftlog.errors import UnreadableRecordsError
from raftlog.record.batch import BatchHeader, each_time
from raftlog.storage.lookup import Lookup

_FIND_WORK = 200  # what it costs to find a batch and to begin with it, in records
_RECORD_BYTES = 200  # read and unpacked in the time that one record takes


class TimeSearch:
    """`step` until `done`; then `found` is (offset, timestamp_ms), or None: there is none."""

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
