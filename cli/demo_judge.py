"""The demo's judgement: what was sent and acknowledged against what was read. Pure: no cluster, no clock.

Every record has an id, `file:line`, and with it an index: its place in the order of sending. From a
whole read of each partition, from offset 0 on, it is judged per id:

    lost           acknowledged, and never read with the bytes that were sent
    duplicated     read again at another offset
    out of order   first read after a record of its partition that was sent later
    gap            an offset that does not follow the one before it, or an end that is not the end
    stranger       an id that was not sent, one in another partition, or other bytes under its id
    misplaced      acknowledged with an offset at which it does not stand

Memory: 13 bytes per record, whatever its size.
"""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Sequence
from typing import NamedTuple

PARTITIONS = 3

_ACKED = 1
_READ = 2
_AT_ITS_OFFSET = 4


class Verdict(NamedTuple):
    records: int
    acked: int
    consumed: int
    lost: int
    duplicated: int
    out_of_order: int
    gaps: int
    strangers: int
    misplaced: int

    def failures(self) -> list[str]:
        """Why this run may not pass; empty when it may."""
        counted = (
            (self.lost, "acknowledged records were lost"),
            (self.duplicated, "records were written more than once"),
            (self.out_of_order, "records are out of order"),
            (self.gaps, "offsets do not follow the one before"),
            (self.strangers, "records are not what was sent"),
            (self.misplaced, "records do not stand at the offset they were acknowledged with"),
        )
        return [f"{count:,} {text}" for count, text in counted if count]


class Judge:
    """Fed by one thread that sends, one at a time that learns of acknowledgements, and later one that reads.

    `sent` of an index comes before `acknowledged` of it. Indexes grow by one per record sent.
    """

    def __init__(self, files: Sequence[tuple[bytes, int]]) -> None:
        """`files`: (name, number of lines), in the order of sending."""
        self._first_index: dict[bytes, int] = {}
        self._lines: dict[bytes, int] = dict(files)
        assert len(self._lines) == len(files), "a file is named twice"
        self.records = 0
        for name, lines in files:
            self._first_index[name] = self.records
            self.records += lines
        self._checksums = array("I", bytes(4 * self.records))
        self._acked_offsets = array("q", bytes(8 * self.records))
        self._marks = bytearray(self.records)
        self.sent_of = [0] * PARTITIONS
        self.acked_of = [0] * PARTITIONS
        self.consumed = 0
        self._duplicated = 0
        self._out_of_order = 0
        self._gaps = 0
        self._strangers = 0
        self._next_offset = [0] * PARTITIONS
        self._highest_index = [-1] * PARTITIONS

    def partition_of(self, index: int) -> int:
        """Neighbours go to different partitions, so that each has its part in every moment of the run.

        The last record goes to partition 0, so that even the smallest input has one left for its leader
        when that is killed.
        """
        return (self.records - 1 - index) % PARTITIONS

    @property
    def acked(self) -> int:
        return sum(self.acked_of)

    def sent(self, index: int, value: bytes) -> None:
        self._checksums[index] = zlib.crc32(value)
        self.sent_of[self.partition_of(index)] += 1

    def acknowledged(self, index: int, offset: int) -> None:
        self._marks[index] |= _ACKED
        self._acked_offsets[index] = offset
        self.acked_of[self.partition_of(index)] += 1

    def read(self, partition: int, offset: int, key: bytes | None, value: bytes | None) -> None:
        """The next record of a partition, in the order in which the consumer gave it."""
        self.consumed += 1
        if offset != self._next_offset[partition]:
            self._gaps += 1
        self._next_offset[partition] = offset + 1
        index = self._index(key)
        if index is None or self.partition_of(index) != partition or zlib.crc32(value or b"") != self._checksums[index]:
            self._strangers += 1
            return
        marks = self._marks[index]
        if marks & _READ:
            self._duplicated += 1
        elif index < self._highest_index[partition]:
            self._out_of_order += 1
        else:
            self._highest_index[partition] = index
        if marks & _ACKED and self._acked_offsets[index] == offset:
            marks |= _AT_ITS_OFFSET
        self._marks[index] = marks | _READ

    def end(self, partition: int, end_offset: int) -> None:
        """All of a partition was read; `end_offset` is what the cluster says its high watermark is."""
        if self._next_offset[partition] != end_offset:
            self._gaps += 1

    def _index(self, key: bytes | None) -> int | None:
        name, _, line = (key or b"").rpartition(b":")
        first = self._first_index.get(name)
        if first is None or not line.isdigit() or not 1 <= int(line) <= self._lines[name]:
            return None
        return first + int(line) - 1

    def verdict(self) -> Verdict:
        lost = misplaced = 0
        for marks in self._marks:
            if marks & _ACKED and not marks & _AT_ITS_OFFSET:
                lost += not marks & _READ
                misplaced += bool(marks & _READ)
        return Verdict(
            records=self.records,
            acked=self.acked,
            consumed=self.consumed,
            lost=lost,
            duplicated=self._duplicated,
            out_of_order=self._out_of_order,
            gaps=self._gaps,
            strangers=self._strangers,
            misplaced=misplaced,
        )


class AckGaps:
    """The longest time without an acknowledgement, per partition, among those that end after the kill.

    Times are seconds of one monotonic clock.
    """

    def __init__(self) -> None:
        self._last_s: list[float | None] = [None] * PARTITIONS
        self._longest_s = [0.0] * PARTITIONS
        self.killed_s: float | None = None

    def acknowledged(self, partition: int, now_s: float) -> None:
        if self.killed_s is not None:
            last_s = self._last_s[partition]
            # A partition that had no acknowledgement before the kill waited since the kill.
            gap_s = now_s - (self.killed_s if last_s is None else last_s)
            self._longest_s[partition] = max(self._longest_s[partition], gap_s)
        self._last_s[partition] = now_s

    def resumed(self, partition: int, since_s: float) -> bool:
        """Whether anything was acknowledged after that time."""
        last_s = self._last_s[partition]
        return last_s is not None and last_s > since_s

    def failover_ms(self, partitions: Sequence[int]) -> int | None:
        """None when none of them was acknowledged anything after the kill.

        One to which nothing was under way says nothing; one that never answered fails its sends.
        """
        killed_s = self.killed_s
        if killed_s is None:
            return None
        gaps_s = [self._longest_s[each] for each in partitions if self.resumed(each, killed_s)]
        return round(1000 * max(gaps_s)) if gaps_s else None
