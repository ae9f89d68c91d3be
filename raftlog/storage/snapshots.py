"""Snapshots of what a log knows of its producers, beside its segments, so that a start reads few batches again.

    <base offset>.<Raft index>.producers =>       named like the segment that begins there
      Magic      8 bytes   b"RAFTLOGP"
      CRC        uint32    CRC-32C of all that follows
      Length     uint32    of the body
      Body       msgpack   [last index, its term, base offset, complete, {producer id: [epoch, taken ms, batches]}]
                           batches: [[first sequence, last sequence, base offset, Raft index], …], newest last

A snapshot holds what all entries in front of its Raft index say, and names the last of them: (index, term). It is used
only where the log holds exactly that entry, and with a right checksum, so one that a power failure tore, or that a
truncation made untrue, is as good as none: writing needs no sync. The exception is the snapshot at the horizon, since
no log is left in front of it to read again: `sync` makes it durable BEFORE those segments go.
"""

from __future__ import annotations

import contextlib
import re
import struct

import google_crc32c
import msgspec

from raftlog.errors import CorruptMessageError, DiskFullError
from raftlog.limits import PRODUCER_SNAPSHOTS_MAX
from raftlog.storage.disk import Disk
from raftlog.storage.fail_points import FailPoint
from raftlog.storage.producers import Producers, ProducerState
from raftlog.storage.segment import SegmentName
from raftlog.types import Buffer

_MAGIC = b"RAFTLOGP"
_PREFIX = struct.Struct(">8sII")
_NAME = re.compile(r"(\d{20})\.(\d{20})\.producers")


class Snapshot(msgspec.Struct, array_like=True, frozen=True):
    last_index: int
    last_term: int
    base_offset: int
    complete: bool
    states: dict[int, ProducerState]

    def producers(self) -> Producers:
        return Producers(dict(self.states), complete=self.complete)


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Snapshot).decode


def encode_snapshot(last_index: int, last_term: int, base_offset: int, producers: Producers) -> bytes:
    body = _encode(Snapshot(last_index, last_term, base_offset, producers.complete, producers.states))
    return _PREFIX.pack(_MAGIC, google_crc32c.value(body), len(body)) + body


def decode_snapshot(data: Buffer) -> Snapshot:
    """Raises CorruptMessageError for what is not a whole snapshot."""
    if len(data) < _PREFIX.size:
        raise CorruptMessageError("a snapshot of producers that is cut short")
    magic, crc, length = _PREFIX.unpack_from(data)
    body = bytes(data[_PREFIX.size :])
    if magic != _MAGIC or length != len(body) or google_crc32c.value(body) != crc:
        raise CorruptMessageError("a snapshot of producers that is not as it was written")
    try:
        snapshot = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CorruptMessageError(f"a snapshot of producers that does not decode: {error}") from None
    if not all(state.batches for state in snapshot.states.values()):
        raise CorruptMessageError("a snapshot of a producer without batches")
    return snapshot


class Snapshots:
    """Those in one generation's directory, oldest first. Raises StorageError."""

    def __init__(self, disk: Disk, directory: str, fail_point: FailPoint) -> None:
        self._disk = disk
        self._directory = directory
        self._fail_point = fail_point
        found = [_NAME.fullmatch(name) for name in disk.list(directory)] if disk.is_dir(directory) else []
        self.names = sorted(SegmentName(int(match[1]), int(match[2])) for match in found if match)

    def write(self, last_index: int, last_term: int, base_offset: int, producers: Producers) -> SegmentName:
        """What the entries up to `last_index` say, into the page cache. DiskFullError leaves none."""
        name = SegmentName(base_offset, last_index + 1)
        known = self.read(name)
        if known is not None and known.last_term == last_term:
            return name  # it may be the one at the horizon, which is durable, and must stay so
        file = self._disk.open(self._path(name), create=True)
        try:
            file.truncate(0)
            file.append(encode_snapshot(last_index, last_term, base_offset, producers))
        except DiskFullError:
            self._forget(name)
            self._disk.remove(self._path(name))
            raise
        finally:
            file.close()
        if name not in self.names:
            self.names.append(name)
            self.names.sort()
        self._fail_point("snapshot.written")
        return name

    def sync(self, name: SegmentName) -> None:
        """Durable, with its name, when this returns."""
        file = self._disk.open(self._path(name))
        try:
            file.sync()
        finally:
            file.close()
        self._disk.sync_dir(self._directory)

    def read(self, name: SegmentName) -> Snapshot | None:
        """None when it is missing or not whole."""
        if name not in self.names:
            return None
        with contextlib.suppress(CorruptMessageError):
            snapshot = decode_snapshot(self._disk.read_whole(self._path(name)))
            if (snapshot.base_offset, snapshot.last_index + 1) == name:
                return snapshot
        return None

    def remove_outside(self, first_index: int, last_index: int) -> None:
        """All that do not begin in [first_index, last_index + 1]."""
        self._remove([name for name in self.names if not first_index <= name.first_index <= last_index + 1])

    def thin_out(self, kept: set[SegmentName]) -> None:
        """Of those beside `kept`, the newest few stay."""
        between = [name for name in self.names if name not in kept]
        self._remove(between[:-PRODUCER_SNAPSHOTS_MAX])

    def _remove(self, names: list[SegmentName]) -> None:
        for name in names:
            self._forget(name)
            self._disk.remove(self._path(name))

    def _forget(self, name: SegmentName) -> None:
        if name in self.names:
            self.names.remove(name)

    def _path(self, name: SegmentName) -> str:
        return f"{self._directory}/{name.base_offset:020d}.{name.first_index:020d}.producers"
