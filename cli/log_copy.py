"""A copy of a topic on disk: batches back to back as in a log, and what it is a copy of.

As a directory:

    DIR/export.json                            which topic, its settings, and where each partition begins and ends
    DIR/orders-0/00000000000000000000.log      named by its first offset

As one file, which is called FILE.part until all of it is there:

    a line of JSON      what export.json says
    batches             of each partition in turn, up to the offset that the line gives for its end

A directory of Apache Kafka's log looks the same without export.json, with several such files a partition. Every batch
is checked against its checksum as it is read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from raftlog.errors import CorruptMessageError, RaftlogError
from raftlog.record.batch import HEADER_BYTES, MAGIC, PREFIX_BYTES, BatchHeader, check_crc, read_header

MANIFEST = "export.json"
FORMAT = 1
FILE_SUFFIX = ".raftlog"
_LINE_BYTES_MAX = 64 * 1024 * 1024  # a partition takes some 60 bytes of it
_NOTED_ENDS = "replication-offset-checkpoint"


class CopiedPartition(msgspec.Struct, frozen=True, kw_only=True):
    """Records with offsets in [start_offset, end_offset), those that were there when the export began."""

    partition: int
    start_offset: int
    end_offset: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a copy of a topic holds: the file beside its records.

    `complete`: all of it is there, and was synced before this was written.
    """

    format: int = FORMAT
    cluster_id: str
    topic: str
    topic_id: str
    config: dict[str, int | str]
    partitions: list[CopiedPartition]
    complete: bool = False


class Stretch(NamedTuple):
    """Where batches stand back to back: none that begins at `base_offset` or behind it stands before them.

    `end_bytes` None: to the end of the file.
    """

    path: Path
    base_offset: int
    begin_bytes: int = 0
    end_bytes: int | None = None


class FoundBatch(NamedTuple):
    data: bytes
    header: BatchHeader


def is_one_file(copy: Path) -> bool:
    """Of a copy that is there, or is to be made."""
    return copy.is_file() or (copy.suffix == FILE_SUFFIX and not copy.is_dir())


def read_manifest(copy: Path) -> Manifest | None:
    """None: there is none. Raises RaftlogError where it cannot be read."""
    path = copy if is_one_file(copy) else copy / MANIFEST
    try:
        with path.open("rb") as file:
            data = file.readline(_LINE_BYTES_MAX) if path is copy else file.read()
    except FileNotFoundError:
        return None
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RaftlogError(f"{path} is no export, or is damaged: {error}") from None
    if manifest.format != FORMAT:
        raise RaftlogError(f"{path} was written by another raftlog, in format {manifest.format}")
    return manifest


def manifest_line(manifest: Manifest) -> bytes:
    return msgspec.json.encode(manifest) + b"\n"


def stretches(copy: Path, manifest: Manifest) -> list[Stretch]:
    """Where the batches of each partition are. Raises CorruptMessageError; what is cut is shorter than it should be."""
    if not is_one_file(copy):
        parts = manifest.partitions
        return [Stretch(partition_file(copy, manifest.topic, part), part.start_offset) for part in parts]
    found = []
    with copy.open("rb") as file:
        at = len(file.readline())
        for part in manifest.partitions:
            begin, offset = at, part.start_offset
            while offset < part.end_offset and len(head := file.read(HEADER_BYTES)) == HEADER_BYTES:
                header = read_header(head)
                # The checksum does not cover the offset.
                if not follows(header, offset, is_first=at == begin):
                    raise CorruptMessageError(f"{copy} at byte {at}: no batch with offset {offset}")
                at, offset = at + header.batch_bytes, header.next_offset
                file.seek(at)
            found.append(Stretch(copy, part.start_offset, begin, at))
    return found


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Replaced as a whole, and durable when this returns."""
    aside = directory / f"{MANIFEST}.new"
    with aside.open("wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(manifest)) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    aside.rename(directory / MANIFEST)
    sync_directory(directory)


def sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def partition_file(directory: Path, topic: str, part: CopiedPartition) -> Path:
    return directory / f"{topic}-{part.partition}" / f"{part.start_offset:020}.log"


def follows(header: BatchHeader, offset: int, *, is_first: bool) -> bool:
    """Whether the batch holds the record with this offset, and begins with it unless it is the first of a copy."""
    begins = header.base_offset <= offset if is_first else header.base_offset == offset
    return begins and header.next_offset > offset and header.batch_bytes >= HEADER_BYTES


def segments(directory: Path) -> list[Stretch]:
    """The files of one partition, in their order."""
    paths = sorted(path for path in directory.iterdir() if path.suffix == ".log" and path.stem.isdecimal())
    return [Stretch(path, int(path.stem)) for path in paths]


def batches(path: Path, begin_bytes: int = 0, end_bytes: int | None = None) -> Iterator[FoundBatch]:
    """All whole batches of a file or a part of it, checked. Raises CorruptMessageError; one that is cut short ends it.

    So does a zero instead of a batch: Kafka may take room for a segment before it is needed.
    """
    with path.open("rb") as file:
        at = file.seek(begin_bytes)
        while (end_bytes is None or at < end_bytes) and len(head := file.read(HEADER_BYTES)) == HEADER_BYTES:
            size_bytes = int.from_bytes(head[8:PREFIX_BYTES], "big", signed=True) + PREFIX_BYTES
            if head[16] != MAGIC and any(head):
                raise CorruptMessageError(
                    f"{path} at byte {at}: batches of format {head[16]}, from before Kafka 0.11, are not read"
                )
            if size_bytes <= PREFIX_BYTES:
                return
            data = head + file.read(size_bytes - HEADER_BYTES)
            if len(data) < size_bytes:
                return
            header = read_header(data)
            if not check_crc(data, 0, header):
                raise CorruptMessageError(f"{path} at byte {at}: the checksum of a batch does not match")
            yield FoundBatch(data, header)
            at += size_bytes


def committed_ends(directory: Path) -> dict[str, int]:
    """High watermarks by `topic-partition`, as Kafka has noted them beside its logs; empty where it has not."""
    try:
        lines = (directory / _NOTED_ENDS).read_text().splitlines()
    except OSError:
        return {}
    ends = {}
    for line in lines[2:]:  # behind the version and the number of lines
        topic, partition, offset = line.rsplit(" ", 2)
        ends[f"{topic}-{partition}"] = int(offset)
    return ends
