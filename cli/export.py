"""`raftlog export`: a copy of a topic's records, in a directory or a file, that goes on where it was interrupted."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click
import msgspec

from raftlog.config import config_for_people
from raftlog.errors import CorruptMessageError, OffsetOutOfRangeError, RaftlogError
from raftlog.types import EARLIEST_TIMESTAMP, LATEST_TIMESTAMP, TopicPartition

from .connect import describe_topics, open_admin
from .log_copy import (
    CopiedPartition,
    Manifest,
    batches,
    follows,
    is_one_file,
    manifest_line,
    partition_file,
    read_manifest,
    sync_directory,
    write_manifest,
)
from .options import bootstrap_option, json_option
from .output import note, print_json, size_text

if TYPE_CHECKING:
    from raftlog import Admin
    from raftlog.client.admin.batches import BatchReader


@click.command()
@click.argument("topic")
@click.option("--to", "target", required=True, type=click.Path(), metavar="FILE|DIR", help="Where to.")
@bootstrap_option
@json_option
def export(topic: str, target: str, bootstrap: str, as_json: bool) -> None:
    """Copy a topic's records into a directory or a file, as they are.

    All that was there when the export began, of all partitions: what is written meanwhile is not in it. Batches
    are copied as the log has them, compressed or not, with their offsets and timestamps, and each is checked
    against its checksum. When it was interrupted, the same command goes on where it was. `raftlog import` writes
    it to a topic.

    A name that ends with .raftlog becomes one file, any other one a directory with a file for each partition.

    \b
    Examples:
        raftlog export orders --to backup/orders
        raftlog export orders --to backup/orders.raftlog
        raftlog import orders --from backup/orders
    """
    from raftlog.client.admin.batches import BatchReader

    copy: _CopyOfFile | _CopyOfDirectory
    copy = _CopyOfFile(Path(target)) if is_one_file(Path(target)) else _CopyOfDirectory(Path(target))
    with open_admin(bootstrap) as admin:
        manifest = _begin(admin, topic, copy)
    if not manifest.complete:
        with BatchReader(bootstrap) as reader:
            copy.fill(reader, manifest)
    records = sum(part.end_offset - part.start_offset for part in manifest.partitions)
    size_bytes = copy.size_bytes(manifest)
    if as_json:
        print_json({"topic": topic, "to": target, "partitions": manifest.partitions, "bytes": size_bytes})
    else:
        click.echo(
            f"exported topic {topic} to {target}: {len(manifest.partitions)} partitions, {records:,} offsets, "
            f"{size_text(size_bytes)}"
        )


def _begin(admin: Admin, topic: str, copy: _CopyOfFile | _CopyOfDirectory) -> Manifest:
    """Of the export that is there already, if it is of this topic; else of a new one."""
    (found,) = describe_topics(admin, [topic])
    cluster_id = admin.describe_cluster().cluster_id
    known = copy.known()
    if known is not None:
        if (known.cluster_id, known.topic_id) != (cluster_id, found.topic_id.hex()):
            raise RaftlogError(f"{copy.target} holds an export of another topic or cluster: export to another place")
        note(f"{copy.target} is complete already" if known.complete else f"going on with the export in {copy.target}")
        return known
    places = [TopicPartition(topic, each.partition) for each in found.partitions]
    ends = admin.list_offsets(dict.fromkeys(places, LATEST_TIMESTAMP))
    starts = admin.list_offsets(dict.fromkeys(places, EARLIEST_TIMESTAMP))
    manifest = Manifest(
        cluster_id=cluster_id,
        topic=topic,
        topic_id=found.topic_id.hex(),
        config=config_for_people(found.config),
        partitions=[
            CopiedPartition(
                partition=place.partition, start_offset=min(starts[place], ends[place]), end_offset=ends[place]
            )
            for place in sorted(places)
        ],
    )
    copy.begin(manifest)
    return manifest


class _CopyOfDirectory:
    """A file for each partition; its manifest says whether all of it is there."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def known(self) -> Manifest | None:
        found = read_manifest(self.target)
        if found is None and self.target.exists() and any(self.target.iterdir()):
            raise RaftlogError(f"{self.target} is not empty and holds no export: take an empty directory")
        return found

    def begin(self, manifest: Manifest) -> None:
        self.target.mkdir(parents=True, exist_ok=True)
        write_manifest(self.target, manifest)

    def fill(self, reader: BatchReader, manifest: Manifest) -> None:
        for part in manifest.partitions:
            path = partition_file(self.target, manifest.topic, part)
            path.parent.mkdir(exist_ok=True)
            path.touch()
            with path.open("r+b") as file:
                _copy(reader, TopicPartition(manifest.topic, part.partition), part, path, file)
                os.fsync(file.fileno())
            sync_directory(path.parent)
        sync_directory(self.target)
        write_manifest(self.target, msgspec.structs.replace(manifest, complete=True))  # AFTER all of it is durable

    def size_bytes(self, manifest: Manifest) -> int:
        return sum(partition_file(self.target, manifest.topic, part).stat().st_size for part in manifest.partitions)


class _CopyOfFile:
    """One file; it has its name once all of it is there, and another one before."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self._part = target.with_name(f"{target.name}.part")

    def known(self) -> Manifest | None:
        if self.target.exists():
            return read_manifest(self.target)
        if not self._part.exists():
            return None
        with self._part.open("rb") as file:
            if not file.readline().endswith(b"\n"):
                return None  # it ended before it said what it is
        found = read_manifest(self._part)
        return found and msgspec.structs.replace(found, complete=False)

    def begin(self, manifest: Manifest) -> None:
        self.target.parent.mkdir(parents=True, exist_ok=True)
        self._part.write_bytes(manifest_line(msgspec.structs.replace(manifest, complete=True)))

    def fill(self, reader: BatchReader, manifest: Manifest) -> None:
        with self._part.open("r+b") as file:
            file.seek(len(file.readline()))
            for part in manifest.partitions:
                _copy(reader, TopicPartition(manifest.topic, part.partition), part, self._part, file)
            os.fsync(file.fileno())
        self._part.rename(self.target)  # AFTER all of it is durable
        sync_directory(self.target.absolute().parent)

    def size_bytes(self, manifest: Manifest) -> int:
        return self.target.stat().st_size


def _copy(reader: BatchReader, place: TopicPartition, part: CopiedPartition, path: Path, file: BinaryIO) -> None:
    """Behind where `file` stands: what is whole there stays, the rest is cut and copied."""
    at, offset = _copied(path, file.tell(), part)
    file.seek(at)
    if offset < part.end_offset:
        file.truncate()
    while offset < part.end_offset:
        try:
            data = reader.read(place, offset)
        except OffsetOutOfRangeError:
            raise RaftlogError(
                f"{place}: the records from offset {offset} on were deleted while they were exported; "
                "start again, to another place"
            ) from None
        checked, offset = _checked(reader, place, data, offset, part.end_offset)
        file.write(checked)
    file.flush()


def _copied(path: Path, begin_bytes: int, part: CopiedPartition) -> tuple[int, int]:
    """Where what is whole of this partition ends in the file, and the offset behind it."""
    at, offset = begin_bytes, part.start_offset
    with contextlib.suppress(CorruptMessageError):  # where a power failure ended it: from there on it is copied again
        for found in batches(path, begin_bytes):
            if offset >= part.end_offset or not follows(found.header, offset, is_first=at == begin_bytes):
                break
            at, offset = at + len(found.data), found.header.next_offset
    return at, offset


def _checked(
    reader: BatchReader, place: TopicPartition, data: bytes, offset: int, end_offset: int
) -> tuple[bytes, int]:
    """Those batches of `data` that are wanted, and the offset behind them. Raises CorruptMessageError."""
    try:
        return _wanted(data, offset, end_offset)
    except CorruptMessageError:
        note(f"{place}: damage at or behind offset {offset}; its leader is asked to look at its disk")
        return _wanted(reader.read(place, offset, verify=True), offset, end_offset)


def _wanted(data: bytes, offset: int, end_offset: int) -> tuple[bytes, int]:
    from raftlog.record.batch import check_crc, split

    first: int | None = None
    end = 0
    for position, header in split(data):
        if header.next_offset <= offset:
            continue
        if header.base_offset >= end_offset:
            break
        if not check_crc(data, position, header) or (first is not None and header.base_offset != offset):
            raise CorruptMessageError(f"the batch with offset {offset} does not match its checksum")
        first = position if first is None else first
        end, offset = position + header.batch_bytes, header.next_offset
    if first is None:
        raise CorruptMessageError(f"no batch with offset {offset} came, and records up to {end_offset} are there")
    return data[first:end], offset
