"""The disk seam: the few file operations that storage needs, and the real one.

Nothing is durable before `sync()` (the bytes of a file) and `sync_dir()` (names made, renamed or removed
in a directory) have returned. The in-memory twin, which can lose exactly what those did not cover,
is simulated_disk.py.

A failed fsync is never retried: the kernel may have dropped the dirty pages and would then report success
for bytes that are gone (the "fsyncgate" of 2018). It raises StorageError, which ends the worker.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from raftlog.errors import DiskFullError, StorageError
from raftlog.types import Buffer

_BUFFERS_PER_WRITE = 1024  # IOV_MAX on Linux
_NO_ROOM = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))


class File(Protocol):
    def append(self, data: Buffer | Sequence[Buffer]) -> None:
        """All of it behind the end, or DiskFullError/StorageError with the file back at its old end."""
        ...

    def read(self, position: int, size: int) -> bytes:
        """Up to `size` bytes; fewer only where the file ends."""
        ...

    def truncate(self, size: int) -> None: ...

    def sync(self) -> None:
        """All that was appended or truncated is durable when this returns."""
        ...

    def size(self) -> int: ...

    def inode(self) -> int:
        """The number that no other file has while somebody holds this one open."""
        ...

    def close(self) -> None: ...


class Disk(Protocol):
    """Paths are strings with '/'. Every failure is a StorageError."""

    @property
    def syncs(self) -> int:
        """fsync and fdatasync calls so far."""
        ...

    def open(self, path: str, create: bool = False) -> File: ...

    def exists(self, path: str) -> bool: ...

    def is_dir(self, path: str) -> bool: ...

    def list(self, path: str) -> list[str]:
        """The names in a directory, sorted."""
        ...

    def make_dir(self, path: str) -> None:
        """The directory and its parents, durable when this returns. It may exist."""
        ...

    def rename(self, source: str, target: str) -> None:
        """Within one directory; replaces a file. Durable after sync_dir."""
        ...

    def remove(self, path: str) -> None: ...

    def remove_tree(self, path: str) -> None: ...

    def sync_dir(self, path: str) -> None: ...

    def read_whole(self, path: str) -> bytes: ...

    def free_bytes(self, path: str) -> int: ...

    def modified_ms(self, path: str) -> int:
        """Wall time of the last append to a file."""
        ...


@contextmanager
def storage_errors(what: str, path: str) -> Iterator[None]:
    """An OSError becomes a StorageError that says what could not be done; DiskFullError where it is a lack of room."""
    try:
        yield
    except OSError as error:
        raise _storage_error(what, path, error) from error


def _storage_error(what: str, path: str, error: OSError) -> StorageError:
    cls = DiskFullError if error.errno in _NO_ROOM else StorageError
    return cls(f"cannot {what} {path}: {error.strerror or error}")


def _sync_failed(path: str, error: OSError) -> StorageError:
    """Never DiskFullError: what a failed sync dropped does not come back with room."""
    return StorageError(f"cannot sync {path}: {error.strerror}")


class OsDisk:
    """The real one. `syncs` counts fsync and fdatasync calls, for the status and the bench."""

    def __init__(self) -> None:
        self.syncs = 0

    def open(self, path: str, create: bool = False, *, read_only: bool = False) -> OsFile:
        flags = (os.O_RDONLY if read_only else os.O_RDWR) | os.O_CLOEXEC | (os.O_CREAT if create else 0)
        with storage_errors("open", path):
            return OsFile(self, path, os.open(path, flags, 0o644))

    def exists(self, path: str) -> bool:
        return os.path.exists(path)

    def is_dir(self, path: str) -> bool:
        return os.path.isdir(path)

    def list(self, path: str) -> list[str]:
        with storage_errors("list", path):
            return sorted(os.listdir(path))

    def make_dir(self, path: str) -> None:
        missing = []
        level = path
        while level and not os.path.isdir(level):
            missing.append(level)
            level = os.path.dirname(level)
        with storage_errors("make", path):
            for directory in reversed(missing):
                Path(directory).mkdir(exist_ok=True)
                self.sync_dir(os.path.dirname(directory) or ".")

    def rename(self, source: str, target: str) -> None:
        with storage_errors("rename", source):
            os.rename(source, target)

    def remove(self, path: str) -> None:
        with storage_errors("remove", path):
            os.remove(path)

    def remove_tree(self, path: str) -> None:
        with storage_errors("remove", path):
            shutil.rmtree(path)

    def sync_dir(self, path: str) -> None:
        with storage_errors("open", path):
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        except OSError as error:
            raise _sync_failed(path, error) from error
        finally:
            os.close(descriptor)
        self.syncs += 1

    def read_whole(self, path: str) -> bytes:
        file = self.open(path, read_only=True)
        try:
            return file.read(0, file.size())
        finally:
            file.close()

    def free_bytes(self, path: str) -> int:
        with storage_errors("look at", path):
            figures = os.statvfs(path)
            return figures.f_bavail * figures.f_frsize

    def modified_ms(self, path: str) -> int:
        with storage_errors("look at", path):
            return os.stat(path).st_mtime_ns // 1_000_000


class OsFile:
    def __init__(self, disk: OsDisk, path: str, descriptor: int) -> None:
        self._disk = disk
        self._path = path
        self._descriptor = descriptor
        self._sync_failed = False
        self._size = os.fstat(descriptor).st_size

    def append(self, data: Buffer | Sequence[Buffer]) -> None:
        start = self._size
        try:
            if isinstance(data, (bytes, bytearray, memoryview)):
                self._size += self._write(data, start)
            else:
                for first in range(0, len(data), _BUFFERS_PER_WRITE):
                    self._write_all(data[first : first + _BUFFERS_PER_WRITE])
        except OSError as error:
            # Half a batch behind the end would be taken for a torn tail after a restart.
            self._put_back(start)
            raise _storage_error("write", self._path, error) from error

    def _write(self, data: Buffer, position: int) -> int:
        size = len(data)
        written = os.pwrite(self._descriptor, data, position)
        while written < size:
            # A write that moves nothing says neither ENOSPC nor success.
            step = os.pwrite(self._descriptor, memoryview(data)[written:], position + written)
            if step == 0:
                raise OSError(errno.EIO, "a write of nothing")
            written += step
        return size

    def _write_all(self, buffers: Sequence[Buffer]) -> None:
        size = sum(map(len, buffers))
        written = os.pwritev(self._descriptor, buffers, self._size)
        if written < size:
            self._write(b"".join(buffers)[written:], self._size + written)
        self._size += size

    def _put_back(self, size: int) -> None:
        self._size = size
        with storage_errors("truncate", self._path):
            os.ftruncate(self._descriptor, size)

    def read(self, position: int, size: int) -> bytes:
        with storage_errors("read", self._path):
            data = os.pread(self._descriptor, size, position)
            if len(data) == size or position + len(data) >= self._size:
                return data
            parts = [data]
            got = len(data)
            while got < size and data:
                data = os.pread(self._descriptor, size - got, position + got)
                parts.append(data)
                got += len(data)
            return b"".join(parts)

    def truncate(self, size: int) -> None:
        with storage_errors("truncate", self._path):
            os.ftruncate(self._descriptor, size)
        self._size = size

    def sync(self) -> None:
        if self._sync_failed:
            raise StorageError(f"an earlier sync of {self._path} failed; it is not tried again")
        try:
            os.fdatasync(self._descriptor)
        except OSError as error:
            self._sync_failed = True
            raise _sync_failed(self._path, error) from error
        self._disk.syncs += 1

    def size(self) -> int:
        return self._size

    def inode(self) -> int:
        with storage_errors("look at", self._path):
            return os.fstat(self._descriptor).st_ino

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
