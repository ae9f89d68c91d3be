"""The index on disk: one small LMDB environment per replica. The only module that imports lmdb.

    key   b"o" + base offset (8 bytes, big-endian)      b"i" + Raft index (8 bytes, big-endian)
    value Raft index     int64                          base offset int64
          leader epoch   int32
          segment        int64   its base offset
          position       int64
          max timestamp  int64   of the segment's batches in front of this one

It is never synced: it is derived, and a power failure may leave anything of it. LMDB reads through a memory
map, where a damaged or short file is a SIGBUS or a SIGSEGV and no exception. So a file shorter than its own
header says is deleted before it is touched, and one byte in the file `reading` tells the next start of a death:

    0   nobody was in LMDB
    1   a process died while it used LMDB: by a bad file, or by a kill -9 that has nothing to do with it.
        The whole index is read once, with the byte at 2, before it is used.
    2   it died of that reading, too: the index is deleted, and the log builds it anew.

Deleting at 1 would make one kill -9 in forty, under load, cost the reading of the whole log.
"""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import lmdb

from raftlog.errors import DiskFullError
from raftlog.limits import INDEX_MAP_BYTES_MAX, INDEX_MAP_START_BYTES, INDEX_MAP_STEP_BYTES
from raftlog.storage.disk import storage_errors
from raftlog.storage.index import IndexEntry, IndexTail, IndexUsage

_KEY = struct.Struct(">cq")
_OFFSET_VALUE = struct.Struct(">qiqqq")
_INDEX_VALUE = struct.Struct(">q")
_MARKER = "reading"
_IDLE, _READING, _PROBING = b"0", b"1", b"2"

_Answer = TypeVar("_Answer")

with suppress(ImportError):  # the first `open` of a process imports it otherwise, in each worker from the disk
    import lmdb._envid


class LmdbIndex:
    """One per worker; `directory` is its own."""

    def __init__(self, directory: str, map_bytes_max: int = INDEX_MAP_BYTES_MAX) -> None:
        self._directory = directory
        self._map_bytes_max = map_bytes_max
        self._tail = IndexTail()
        with storage_errors("open the index", directory):
            found = self._marker_byte()
            if found == _PROBING:
                shutil.rmtree(directory, ignore_errors=True)
            Path(directory).mkdir(parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            self._marker = os.open(f"{directory}/{_MARKER}", flags, 0o644)
        with self._reading(_PROBING if found == _READING else _READING):
            self._environment = self._open_or_begin_anew(probing=found == _READING)

    # --- the environment -------------------------------------------------------------------

    def _open_environment(self) -> lmdb.Environment:
        size = max(INDEX_MAP_START_BYTES, self._file_bytes())
        try:
            # No lock file and no reader table: one process, one thread, no transaction left open.
            return lmdb.open(self._directory, map_size=size, sync=False, metasync=False, lock=False, readahead=False)
        except lmdb.DiskError as error:
            raise DiskFullError(f"no room for the index {self._directory}: {error}") from error

    def _open_or_begin_anew(self, probing: bool) -> lmdb.Environment:
        try:
            environment = self._open_checked()
        except lmdb.Error:
            self._delete_files()
            return self._open_environment()
        if probing and not _is_readable(environment):
            environment.close()
            self._delete_files()
            return self._open_environment()
        return environment

    def _open_checked(self) -> lmdb.Environment:
        environment = self._open_environment()
        pages = environment.info()["last_pgno"] + 1
        if self._file_bytes() < pages * environment.stat()["psize"] and pages > 2:
            environment.close()
            raise lmdb.CorruptedError("the file is shorter than its header says")
        return environment

    def _file_bytes(self) -> int:
        try:
            return os.stat(f"{self._directory}/data.mdb").st_size
        except FileNotFoundError:
            return 0

    def _marker_byte(self) -> bytes:
        try:
            descriptor = os.open(f"{self._directory}/{_MARKER}", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return b""
        try:
            return os.read(descriptor, 2)
        finally:
            os.close(descriptor)

    @contextmanager
    def _reading(self, marker: bytes = _READING) -> Iterator[None]:
        # The marker BEFORE the map is touched: a signal leaves no other trace.
        self._mark(marker)
        yield
        self._mark(_IDLE)

    def _mark(self, marker: bytes) -> None:
        with storage_errors("write", f"{self._directory}/{_MARKER}"):
            os.pwrite(self._marker, marker, 0)

    def _delete_files(self) -> None:
        for name in ("data.mdb", "lock.mdb"):
            Path(f"{self._directory}/{name}").unlink(missing_ok=True)

    def _begin_anew(self) -> None:
        """What cannot be read or written is dropped: the log finds its way without.

        Raises DiskFullError; the environment is closed then, and begun anew with the next commit.
        """
        self._environment.close()
        self._delete_files()
        self._environment = self._open_environment()

    # --- look up ---------------------------------------------------------------------------

    def floor_offset(self, offset: int) -> IndexEntry | None:
        return self._tail.floor_offset(offset) or self._read(lambda cursor: _floor_offset(cursor, offset))

    def floor_index(self, raft_index: int) -> IndexEntry | None:
        return self._tail.floor_index(raft_index) or self._read(lambda cursor: _floor_index(cursor, raft_index))

    def last_committed(self) -> IndexEntry | None:
        return self._read(lambda cursor: _floor_offset(cursor, 2**63 - 1))

    def _read(self, question: Callable[[lmdb.Cursor], _Answer | None]) -> _Answer | None:
        """Without room there is no answer: the marker cannot be written, or nothing begun anew."""
        with suppress(DiskFullError), self._reading():
            try:
                with self._environment.begin() as transaction, transaction.cursor() as cursor:
                    return question(cursor)
            except (lmdb.Error, struct.error):
                self._begin_anew()
        return None

    # --- change ----------------------------------------------------------------------------

    def add(self, entry: IndexEntry) -> None:
        self._tail.add(entry)

    def pending(self) -> int:
        return len(self._tail.entries)

    def usage(self) -> IndexUsage:
        with suppress(DiskFullError, lmdb.Error), self._reading():
            info, page_bytes = self._environment.info(), self._environment.stat()["psize"]
            return IndexUsage(info["map_size"], (info["last_pgno"] + 1) * page_bytes)
        return IndexUsage(0, 0)  # there is no room to begin it anew

    def commit(self, end_offset: int) -> None:
        entries = self._tail.below(end_offset)
        if not entries:
            return

        try:
            self._write(lambda transaction: _put(transaction, entries))
        except DiskFullError:
            raise
        except lmdb.Error:
            self._begin_anew()
            self._write(lambda transaction: _put(transaction, entries))
        self._tail.drop_below(end_offset)

    def truncate(self, offset: int) -> None:
        self._tail.drop_from(offset)
        self._cut(lambda transaction: _delete(transaction, offset, 2**63 - 1))

    def delete_head(self, offset: int) -> None:
        self._tail.drop_below(offset)
        self._cut(lambda transaction: _delete(transaction, 0, offset))

    def replace(self, offset: int, end_offset: int, entries: Sequence[IndexEntry]) -> None:
        self._tail.drop_below(end_offset)

        def change(transaction: lmdb.Transaction) -> None:
            _delete(transaction, offset, end_offset)
            _put(transaction, entries)

        self._cut(change)

    def clear(self) -> None:
        self._tail = IndexTail()
        with self._reading():
            if self._is_empty():
                return
            self._begin_anew()

    def _is_empty(self) -> bool:
        try:
            return not self._environment.stat()["entries"]
        except lmdb.Error:
            return False  # it is closed

    def _cut(self, change: Callable[[lmdb.Transaction], None]) -> None:
        """A cut that has no room to be written down drops everything instead."""
        try:
            self._write(change)
        except (DiskFullError, lmdb.Error, struct.error):
            with self._reading():
                self._begin_anew()

    def _write(self, change: Callable[[lmdb.Transaction], None]) -> None:
        """One transaction, in a map that grows. Raises DiskFullError with nothing changed."""
        with self._reading():
            while True:
                try:
                    with self._environment.begin(write=True) as transaction:
                        change(transaction)
                    return
                except lmdb.MapFullError as error:
                    self._grow(error)
                except lmdb.DiskError as error:
                    raise DiskFullError(f"no room for the index {self._directory}: {error}") from error

    def _grow(self, error: lmdb.Error) -> None:
        size = self._environment.info()["map_size"] + INDEX_MAP_STEP_BYTES
        if size > self._map_bytes_max:
            raise DiskFullError(f"the index {self._directory} has reached {self._map_bytes_max} bytes") from error
        try:
            self._environment.set_mapsize(size)
        except (lmdb.Error, MemoryError) as refused:
            raise DiskFullError(f"the index {self._directory} cannot grow: {refused}") from refused

    def close(self) -> None:
        """What was not committed is forgotten; recovery reads it from the log again."""
        if self._marker < 0:
            return
        self._tail = IndexTail()
        self._environment.close()
        os.close(self._marker)
        self._marker = -1


def _is_readable(environment: lmdb.Environment) -> bool:
    """Reads everything: dies of a file that would kill later, and is False for one that is not ours."""
    try:
        with environment.begin() as transaction, transaction.cursor() as cursor:
            for key, value in cursor:
                (_OFFSET_VALUE if key[:1] == b"o" else _INDEX_VALUE).unpack(value)
    except (lmdb.Error, struct.error):
        return False
    return True


def _floor_offset(cursor: lmdb.Cursor, offset: int) -> IndexEntry | None:
    found = _floor(cursor, b"o", offset)
    if found is None:
        return None
    raft_index, epoch, segment, position, max_timestamp_ms = _OFFSET_VALUE.unpack(found[1])
    return IndexEntry(found[0], raft_index, epoch, segment, position, max_timestamp_ms)


def _floor_index(cursor: lmdb.Cursor, raft_index: int) -> IndexEntry | None:
    found = _floor(cursor, b"i", raft_index)
    if found is None:
        return None
    (base_offset,) = _INDEX_VALUE.unpack(found[1])
    entry = _floor_offset(cursor, base_offset)
    return entry if entry is not None and entry.raft_index == found[0] else None


def _floor(cursor: lmdb.Cursor, kind: bytes, number: int) -> tuple[int, bytes] | None:
    """The last key of this kind that is not above `number`, with its value."""
    key = _KEY.pack(kind, number)
    # set_range finds the first key that is not below; behind the last key there is none.
    if cursor.set_range(key):
        if cursor.key() != key and not cursor.prev():
            return None
    elif not cursor.last():
        return None
    found_kind, found = _KEY.unpack(cursor.key())
    return (found, bytes(cursor.value())) if found_kind == kind else None


def _put(transaction: lmdb.Transaction, entries: Sequence[IndexEntry]) -> None:
    for entry in entries:
        transaction.put(_KEY.pack(b"o", entry.base_offset), _OFFSET_VALUE.pack(*entry[1:]))
        transaction.put(_KEY.pack(b"i", entry.raft_index), _INDEX_VALUE.pack(entry.base_offset))


def _delete(transaction: lmdb.Transaction, start_offset: int, end_offset: int) -> None:
    """Entries with base offset in [start_offset, end_offset), under both keys."""
    with transaction.cursor() as cursor:
        found = cursor.set_range(_KEY.pack(b"o", max(0, start_offset)))
        while found:
            kind, offset = _KEY.unpack(cursor.key())
            if kind != b"o" or offset >= end_offset:
                break
            raft_index = _OFFSET_VALUE.unpack(cursor.value())[0]
            transaction.delete(_KEY.pack(b"i", raft_index))
            # Deleting under another key moves the cursor, so it is placed again.
            transaction.delete(_KEY.pack(b"o", offset))
            found = cursor.set_range(_KEY.pack(b"o", offset))
