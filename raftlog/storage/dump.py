"""What a segment file holds, batch by batch, for whoever has to look at one. Reads only, needs no log.

It goes on behind a batch whose checksum is wrong, as long as lengths lead from one header to the next, and
ends at the first byte where they do not.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from raftlog.errors import StorageError
from raftlog.record.batch import BatchHeader, Record, check_crc, decode
from raftlog.storage.disk import File, OsDisk
from raftlog.storage.segment import BadBatchError, SegmentName, parse_segment_name, walk_file


@dataclass(slots=True)
class DumpedBatch:
    position: int
    header: BatchHeader
    crc_ok: bool
    data: bytes
    problem: str = ""  # what else is wrong with it: offsets that go back
    gap: int = 0  # offsets left out in front of it, as compaction elsewhere does; raftlog's own leaves none

    def records(self) -> list[Record]:
        """Empty when the checksum is wrong. Raises CorruptMessageError when they do not decode."""
        return list(decode(self.data)) if self.crc_ok else []


class SegmentDump:
    """Iterate `batches()`; `size`, `name` and, once that ended, `first_bad_position` and `reason` tell the rest."""

    def __init__(self, path: str) -> None:
        """Raises StorageError when the file cannot be read."""
        self.path = path
        self.name: SegmentName | None = parse_segment_name(os.path.basename(path))
        self.size = 0
        self.first_bad_position: int | None = None  # of the first byte that is not as it was written
        self.reason = ""

    def batches(self) -> Iterator[DumpedBatch]:
        disk = OsDisk()
        if disk.is_dir(self.path):
            raise StorageError(f"{self.path} is a directory, not a segment")
        file = disk.open(self.path, read_only=True)
        try:
            self.size = file.size()
            yield from self._batches(file)
        finally:
            file.close()

    def _batches(self, file: File) -> Iterator[DumpedBatch]:
        due = self.name.base_offset if self.name is not None else None
        try:
            for position, header in walk_file(file, 0, self.size, whole=False):
                data = file.read(position, header.batch_bytes)
                crc_ok = check_crc(data, 0, header)
                problem, gap = "", 0
                if due is not None and header.base_offset != due:
                    # A segment of raftlog's own is named by its first Raft index too.
                    if header.base_offset > due and self.name is None:
                        gap = header.base_offset - due
                    else:
                        problem = f"base offset {header.base_offset} where {due} was due"
                if not crc_ok:
                    self._bad(position, "the checksum of a batch does not match")
                elif problem:
                    self._bad(position, problem)
                due = header.next_offset
                yield DumpedBatch(position, header, crc_ok, data, problem, gap)
        except BadBatchError as bad:
            self._bad(bad.position, bad.reason)

    def _bad(self, position: int, reason: str) -> None:
        if self.first_bad_position is None:
            self.first_bad_position = position
            self.reason = reason
