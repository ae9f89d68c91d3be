"""One segment file: record batches back to back, and nothing else.

Its name is `<base offset>.<Raft index of its first batch>.log`, twenty digits each. The first batch is
written together with the file, so a healthy segment is never empty.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from raftlog.errors import CorruptLogError, CorruptMessageError
from raftlog.limits import BATCH_BYTES_MAX
from raftlog.record.batch import HEADER_BYTES, MAGIC, BatchHeader, check_crc, read_header
from raftlog.storage.disk import Disk, File

SCAN_BYTES = 1024 * 1024  # read at once where whole batches are checked
WALK_BYTES = 32 * 1024  # read at once where only headers are, about two index intervals

_NAME = re.compile(r"(\d{20})\.(\d{20})\.log")


class SegmentName(NamedTuple):
    base_offset: int
    first_index: int

    def __str__(self) -> str:
        return f"{self.base_offset:020d}.{self.first_index:020d}.log"


def parse_segment_name(name: str) -> SegmentName | None:
    """None for a file that is not a segment."""
    match = _NAME.fullmatch(name)
    return SegmentName(int(match[1]), int(match[2])) if match else None


class BadBatchError(CorruptLogError):
    """The bytes at `position` are not a batch that was written here."""

    def __init__(self, position: int, reason: str) -> None:
        super().__init__(reason)
        self.position = position
        self.reason = reason


class Segment:
    """An open segment. `size` counts what was appended, synced or not."""

    __slots__ = (
        "_disk",
        "_file",
        "base_offset",
        "created_ms",
        "dirty",
        "first_index",
        "max_timestamp_ms",
        "name",
        "path",
        "size",
    )

    def __init__(self, disk: Disk, directory: str, name: SegmentName, size: int, created_ms: int) -> None:
        self._disk = disk
        self._file: File | None = None
        self.path = f"{directory}/{name}"
        self.base_offset = name.base_offset
        self.first_index = name.first_index
        self.size = size
        self.name = name
        self.created_ms = created_ms
        self.max_timestamp_ms = -1  # of all its batches; -1: not worked out yet
        self.dirty = False  # holds bytes that no sync covered

    @property
    def file(self) -> File:
        """Opened when first needed: an old segment that nobody reads holds no descriptor."""
        if self._file is None:
            self._file = self._disk.open(self.path)
        return self._file

    def create(self) -> None:
        self._file = self._disk.open(self.path, create=True)
        self._file.truncate(0)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    @property
    def is_open(self) -> bool:
        return self._file is not None

    def header_at(self, position: int) -> BatchHeader | None:
        """None when no batch header lies there."""
        if not 0 <= position <= self.size - HEADER_BYTES:
            return None
        try:
            header = read_header(self.file.read(position, HEADER_BYTES))
        except CorruptMessageError:
            return None
        return header if header.magic == MAGIC else None

    def walk(
        self, position: int = 0, *, whole: bool = False, at_once: int = SCAN_BYTES
    ) -> Iterator[tuple[int, BatchHeader]]:
        """(position, header) of each batch from `position` to the end; `whole` checks every checksum too.

        `at_once`: how many bytes are read at a time where whole batches are.

        Raises BadBatchError at the first byte that cannot be part of a good batch.
        """
        yield from walk_file(self.file, position, self.size, whole=whole, at_once=at_once)


def walk_file(
    file: File, position: int, size: int, *, whole: bool, at_once: int = SCAN_BYTES
) -> Iterator[tuple[int, BatchHeader]]:
    """Segment.walk on any file of `size` bytes."""
    step = at_once if whole else WALK_BYTES
    buffer, start = b"", position
    while position < size:
        need = HEADER_BYTES
        if position + need > size:
            raise BadBatchError(position, f"{size - position} bytes are too few for a batch")
        if position + need > start + len(buffer):
            buffer, start = file.read(position, min(step, size - position)), position
        try:
            header = read_header(buffer, position - start)
        except CorruptMessageError as error:
            raise BadBatchError(position, str(error)) from None
        end = position + header.batch_bytes
        if header.magic != MAGIC or header.last_offset_delta < 0 or header.base_offset < 0:
            raise BadBatchError(position, "the bytes are not a batch header")
        if end > size or header.batch_bytes > BATCH_BYTES_MAX:
            raise BadBatchError(position, f"a batch of {header.batch_bytes} bytes leaves its segment")
        if whole:
            if end > start + len(buffer):
                buffer, start = file.read(position, max(min(step, size - position), header.batch_bytes)), position
            if not check_crc(buffer, position - start, header):
                raise BadBatchError(position, "the checksum of a batch does not match")
        yield position, header
        position = end
