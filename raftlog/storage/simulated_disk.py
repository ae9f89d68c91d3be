"""The in-memory twin of OsDisk. It knows what was synced, and loses the rest when told to.

`crash(rng)` is a power failure. Every append or truncation since a file's last sync is kept, lost or
torn on its own (so a later piece may survive an earlier one, with zeros or garbage in between), and
every name made, renamed or removed since a directory's last sync is kept or lost on its own. That is
crueller than any one file system, which is the point. With `rng=None` nothing that was not synced is kept.

Deterministic: the same operations and the same rng give the same bytes. Handles that were opened before
a crash or a `restart()` are dead.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence

from raftlog.errors import DiskFullError, StorageError
from raftlog.types import Buffer

_TEAR_CHANCE = 0.25
_KEEP_CHANCE = 0.5
_inodes = itertools.count(1)


class _Content:
    """The bytes of one file, and what happened to them since the last sync."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.synced = bytearray()
        self.modified_ms = 0
        self.inode = next(_inodes)
        self.pending: list[tuple[int, bytes | None]] = []  # (position, bytes), or (size, None): a truncation

    def sync(self) -> None:
        for position, piece in self.pending:
            if piece is None:
                del self.synced[position:]
            else:
                self.synced[position : position + len(piece)] = piece
        self.pending.clear()

    def crash(self, rng: random.Random | None) -> None:
        after = self.synced
        for position, piece in self.pending:
            fate = 1.0 if rng is None else rng.random()
            if fate > _KEEP_CHANCE + _TEAR_CHANCE:
                continue
            if piece is None:
                del after[position:]
                continue
            if fate > _KEEP_CHANCE and rng is not None:
                piece = _torn(piece, rng)
            if len(after) < position:
                after.extend(bytes(position - len(after)))
            after[position : position + len(piece)] = piece
        self.data = bytearray(after)
        self.pending.clear()


def _torn(piece: bytes, rng: random.Random) -> bytes:
    """A prefix; then nothing, zeros, or garbage."""
    kept = rng.randrange(len(piece) + 1)
    rest = len(piece) - kept
    kind = rng.randrange(3)
    if kind == 0:
        return piece[:kept]
    return piece[:kept] + (bytes(rest) if kind == 1 else rng.randbytes(rest))


class _Directory:
    def __init__(self) -> None:
        self.entries: dict[str, _Content | _Directory] = {}
        self.synced: dict[str, _Content | _Directory] = {}
        # (names that vanish, the name that appears, what it names)
        self.pending: list[tuple[str, str, _Content | _Directory | None]] = []

    def link(self, name: str, node: _Content | _Directory) -> None:
        self.entries[name] = node
        self.pending.append(("", name, node))

    def unlink(self, name: str) -> None:
        del self.entries[name]
        self.pending.append((name, "", None))

    def rename(self, source: str, target: str) -> None:
        node = self.entries.pop(source)
        self.entries[target] = node
        self.pending.append((source, target, node))

    def sync(self) -> None:
        self.synced = dict(self.entries)
        self.pending.clear()

    def crash(self, rng: random.Random | None) -> None:
        after = dict(self.synced)
        for vanishes, appears, node in self.pending:
            if rng is None or rng.random() > _KEEP_CHANCE:
                continue
            if vanishes:
                after.pop(vanishes, None)
            if node is not None:
                after[appears] = node
        self.entries = after
        self.synced = dict(after)
        self.pending.clear()
        for name in sorted(after):
            after[name].crash(rng)


class SimulatedDisk:
    """One machine's disk. Faults are attributes that a simulator sets and clears.

    full: every append raises DiskFullError, with a short write that is put back first.
    capacity_bytes: the same, once all files together would be larger.
    wall_ms: the clock that says when a file was modified.
    fail_sync: the next syncs raise StorageError, and what they should have covered stays unsynced.
    """

    def __init__(self, wall_ms: Callable[[], int] = lambda: 0) -> None:
        self.wall_ms = wall_ms
        self._root = _Directory()
        self._boot = 0
        self.full = False
        self.fail_sync = False
        self.capacity_bytes: int | None = None
        self.used_bytes = 0
        self.syncs = 0

    # --- Disk ------------------------------------------------------------------------------

    def open(self, path: str, create: bool = False) -> SimulatedFile:
        parent, name = self._parent(path)
        node = parent.entries.get(name)
        if node is None:
            if not create:
                raise StorageError(f"cannot open {path}: No such file or directory")
            node = _Content()
            parent.link(name, node)
        if isinstance(node, _Directory):
            raise StorageError(f"cannot open {path}: Is a directory")
        return SimulatedFile(self, path, node, self._boot)

    def exists(self, path: str) -> bool:
        return self._find(path) is not None

    def is_dir(self, path: str) -> bool:
        return isinstance(self._find(path), _Directory)

    def list(self, path: str) -> list[str]:
        return sorted(self._directory(path).entries)

    def make_dir(self, path: str) -> None:
        directory = self._root
        for name in _names(path):
            node = directory.entries.get(name)
            if node is None:
                node = _Directory()
                directory.link(name, node)
                directory.sync()
                self._count_sync(path)
            if not isinstance(node, _Directory):
                raise StorageError(f"cannot make {path}: File exists")
            directory = node

    def rename(self, source: str, target: str) -> None:
        parent, name = self._parent(source)
        target_parent, target_name = self._parent(target)
        assert parent is target_parent, "renames stay within a directory"
        if name not in parent.entries:
            raise StorageError(f"cannot rename {source}: No such file or directory")
        replaced, moved = parent.entries.get(target_name), parent.entries[name]
        if replaced is not None and replaced is not moved and type(replaced) is not type(moved):
            raise StorageError(f"cannot rename {source}: a file and a directory do not replace each other")
        if isinstance(replaced, _Directory) and replaced.entries and replaced is not moved:
            raise StorageError(f"cannot rename {source}: Directory not empty")
        parent.rename(name, target_name)
        if isinstance(replaced, _Content) and replaced is not moved:
            self.used_bytes -= len(replaced.data)

    def remove(self, path: str) -> None:
        parent, name = self._parent(path)
        node = parent.entries.get(name)
        if not isinstance(node, _Content):
            raise StorageError(f"cannot remove {path}: No such file or directory")
        parent.unlink(name)
        self.used_bytes -= len(node.data)

    def remove_tree(self, path: str) -> None:
        parent, name = self._parent(path)
        _empty(self._directory(path))
        parent.unlink(name)
        self._measure()

    def sync_dir(self, path: str) -> None:
        directory = self._directory(path)
        self._count_sync(path)
        directory.sync()

    def read_whole(self, path: str) -> bytes:
        return bytes(self._content(path).data)

    def modified_ms(self, path: str) -> int:
        return self._content(path).modified_ms

    def free_bytes(self, path: str) -> int:
        if self.full:
            return 0
        return 2**40 if self.capacity_bytes is None else max(0, self.capacity_bytes - self.used_bytes)

    # --- what befalls it -------------------------------------------------------------------

    def crash(self, rng: random.Random | None = None) -> None:
        """Power failure. Afterwards everything that is left is durable."""
        self._root.crash(rng)
        self.restart()
        self._measure()

    def restart(self) -> None:
        """The process is gone (kill -9), the page cache is not: only handles die."""
        self._boot += 1

    def flip_bit(self, path: str, position: int, bit: int) -> None:
        content = self._content(path)
        content.data[position] ^= 1 << bit
        if position < len(content.synced):
            content.synced[position] ^= 1 << bit

    def byte_at(self, path: str, position: int) -> int | None:
        """None when there is no such file, or not so much of it."""
        content = self._find(path)
        if not isinstance(content, _Content) or position >= len(content.data):
            return None
        return content.data[position]

    def truncate_durable(self, path: str, size: int) -> None:
        """The file is shorter, without anyone having asked for it."""
        content = self._content(path)
        del content.data[size:]
        content.synced = bytearray(content.data)
        content.pending.clear()
        self._measure()

    def wipe(self, path: str) -> None:
        """Everything below `path` is gone, durably; the directory itself stays."""
        directory = self._directory(path)
        directory.entries.clear()
        directory.sync()
        self._measure()

    def files(self) -> dict[str, bytes]:
        """Every file with its bytes, as a process would read them now."""
        return {path: bytes(content.data) for path, content in _walk(self._root, "")}

    # --- insides ---------------------------------------------------------------------------

    def _find(self, path: str) -> _Content | _Directory | None:
        node: _Content | _Directory | None = self._root
        for name in _names(path):
            if not isinstance(node, _Directory):
                return None
            node = node.entries.get(name)
        return node

    def _directory(self, path: str) -> _Directory:
        node = self._find(path)
        if not isinstance(node, _Directory):
            raise StorageError(f"{path}: No such directory")
        return node

    def _content(self, path: str) -> _Content:
        node = self._find(path)
        if not isinstance(node, _Content):
            raise StorageError(f"{path}: No such file")
        return node

    def _parent(self, path: str) -> tuple[_Directory, str]:
        names = _names(path)
        return self._directory("/".join(names[:-1])), names[-1]

    def _measure(self) -> None:
        self.used_bytes = sum(len(content.data) for _, content in _walk(self._root, ""))

    def _count_sync(self, path: str) -> None:
        if self.fail_sync:
            raise StorageError(f"cannot sync {path}: Input/output error")
        self.syncs += 1


class SimulatedFile:
    def __init__(self, disk: SimulatedDisk, path: str, content: _Content, boot: int) -> None:
        self._disk = disk
        self._path = path
        self._content = content
        self._boot = boot
        self._sync_failed = False

    def _live(self) -> _Content:
        assert self._boot == self._disk._boot, f"{self._path}: a handle from before a crash"
        return self._content

    def append(self, data: Buffer | Sequence[Buffer]) -> None:
        content = self._live()
        piece = bytes(data) if isinstance(data, (bytes, bytearray, memoryview)) else b"".join(data)
        disk = self._disk
        if disk.full or (disk.capacity_bytes is not None and disk.used_bytes + len(piece) > disk.capacity_bytes):
            # The short write and its removal may both reach the platter, in part or whole.
            position = len(content.data)
            content.pending.append((position, piece[: len(piece) // 2]))
            content.pending.append((position, None))
            raise DiskFullError(f"cannot write {self._path}: No space left on device")
        if piece:
            content.pending.append((len(content.data), piece))
            content.data += piece
            content.modified_ms = disk.wall_ms()
            disk.used_bytes += len(piece)

    def read(self, position: int, size: int) -> bytes:
        return bytes(self._live().data[position : position + size])

    def truncate(self, size: int) -> None:
        content = self._live()
        self._disk.used_bytes += size - len(content.data)
        if size > len(content.data):
            extension = bytes(size - len(content.data))
            content.pending.append((len(content.data), extension))
            content.data += extension
        else:
            content.pending.append((size, None))
            del content.data[size:]

    def sync(self) -> None:
        content = self._live()
        if self._sync_failed:
            raise StorageError(f"an earlier sync of {self._path} failed; it is not tried again")
        self._sync_failed = self._disk.fail_sync
        self._disk._count_sync(self._path)
        content.sync()

    def size(self) -> int:
        return len(self._live().data)

    def inode(self) -> int:
        return self._live().inode

    def close(self) -> None:
        pass


def _names(path: str) -> list[str]:
    return [name for name in path.split("/") if name]


def _walk(directory: _Directory, prefix: str) -> list[tuple[str, _Content]]:
    found: list[tuple[str, _Content]] = []
    for name, node in sorted(directory.entries.items()):
        path = f"{prefix}/{name}" if prefix else name
        if isinstance(node, _Directory):
            found += _walk(node, path)
        else:
            found.append((path, node))
    return found


def _empty(directory: _Directory) -> None:
    for name in sorted(directory.entries):
        node = directory.entries[name]
        if isinstance(node, _Directory):
            _empty(node)
        directory.unlink(name)
