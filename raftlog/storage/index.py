"""The index seam: offset, or Raft index -> where in which segment. Sparse and derived.

An index may be stale, short or gone. It is never believed: the log checks each answer against the batch
header at that position, where (base offset, leader epoch) names one entry of the Raft log and no other.

New entries stay in memory until `commit`, which a log calls only for entries whose bytes are synced; so
the last committed entry is a place from which recovery may start to read.

The in-memory twin keeps what was committed in a `MemoryIndexStore`, which survives a simulated crash and
may lose its newest commits in it, as an LMDB file does that was never synced. The real one is lmdb_index.py.
"""

from __future__ import annotations

import random
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from raftlog.errors import DiskFullError


class IndexEntry(NamedTuple):
    base_offset: int
    raft_index: int
    leader_epoch: int
    segment: int  # base offset of the segment that holds the batch
    position: int  # of the batch in that segment
    max_timestamp_ms: int  # of the segment's batches in front of this one; -1 when there are none


class IndexUsage(NamedTuple):
    """How full an index is.

    `map_bytes`: what its memory map can hold before it must grow. `used_bytes`: what the file has needed at most.
    """

    map_bytes: int
    used_bytes: int


class OffsetIndex(Protocol):
    def add(self, entry: IndexEntry) -> None:
        """The next entry; offsets and Raft indexes grow."""
        ...

    def floor_offset(self, offset: int) -> IndexEntry | None:
        """The last entry with base_offset <= offset."""
        ...

    def floor_index(self, raft_index: int) -> IndexEntry | None:
        """The last entry with raft_index <= raft_index."""
        ...

    def last_committed(self) -> IndexEntry | None: ...

    def commit(self, end_offset: int) -> None:
        """Moves the entries below `end_offset` out of memory. DiskFullError: they stay, try again later."""
        ...

    def truncate(self, offset: int) -> None:
        """Drops every entry with base_offset >= offset, and never fails to: what cannot be cut is dropped whole."""
        ...

    def delete_head(self, offset: int) -> None:
        """Drops entries with base_offset < offset."""
        ...

    def replace(self, offset: int, end_offset: int, entries: Sequence[IndexEntry]) -> None:
        """These, committed, instead of all with a base offset in [offset, end_offset). Like `truncate` never fails."""
        ...

    def clear(self) -> None: ...

    def pending(self) -> int:
        """Entries in memory, for the bound on them."""
        ...

    def usage(self) -> IndexUsage: ...

    def close(self) -> None: ...


class IndexTail:
    """The entries that are not committed yet, sorted."""

    def __init__(self) -> None:
        self.entries: list[IndexEntry] = []
        self._offsets: list[int] = []
        self._indexes: list[int] = []

    def add(self, entry: IndexEntry) -> None:
        assert not self.entries or entry.base_offset > self.entries[-1].base_offset
        self.entries.append(entry)
        self._offsets.append(entry.base_offset)
        self._indexes.append(entry.raft_index)

    def floor_offset(self, offset: int) -> IndexEntry | None:
        place = bisect_right(self._offsets, offset)
        return self.entries[place - 1] if place else None

    def floor_index(self, raft_index: int) -> IndexEntry | None:
        place = bisect_right(self._indexes, raft_index)
        return self.entries[place - 1] if place else None

    def below(self, end_offset: int) -> list[IndexEntry]:
        return self.entries[: bisect_left(self._offsets, end_offset)]

    def drop_below(self, end_offset: int) -> None:
        place = bisect_left(self._offsets, end_offset)
        del self.entries[:place], self._offsets[:place], self._indexes[:place]

    def drop_from(self, offset: int) -> list[IndexEntry]:
        """Drops the entries with base_offset >= offset, and returns them."""
        place = bisect_left(self._offsets, offset)
        dropped = self.entries[place:]
        del self.entries[place:], self._offsets[place:], self._indexes[place:]
        return dropped


class _Committed(IndexTail):
    """What an LMDB file would hold. `cut` are the entries that the last truncation dropped."""

    def __init__(self) -> None:
        super().__init__()
        self.cut: list[IndexEntry] = []

    def crash(self, rng: random.Random) -> None:
        """No commit was ever synced: the file is as it was at any time since the last truncation, or before it."""
        if self.cut and rng.random() < 0.5:
            self.drop_from(self.cut[0].base_offset)
            for entry in self.cut:
                self.add(entry)
        self.cut = []
        keep = rng.randrange(len(self.entries) + 1)
        if keep < len(self.entries):
            self.drop_from(self.entries[keep].base_offset)


class MemoryIndexStore:
    """What the indexes of one machine have committed, by directory. Pass its `open` to PartitionLog.open."""

    def __init__(self, is_full: Callable[[], bool] = lambda: False) -> None:
        self._committed: dict[str, _Committed] = {}
        self._is_full = is_full

    def open(self, directory: str) -> MemoryIndex:
        return MemoryIndex(self._committed.setdefault(directory, _Committed()), self._is_full)

    def crash(self, rng: random.Random) -> None:
        """A power failure."""
        for _, committed in sorted(self._committed.items()):
            committed.crash(rng)

    def wipe(self, directory: str) -> None:
        self._committed.pop(directory, None)


class MemoryIndex:
    """The twin of LmdbIndex."""

    def __init__(self, committed: _Committed | None = None, is_full: Callable[[], bool] = lambda: False) -> None:
        self._is_full = is_full
        self._committed = _Committed() if committed is None else committed
        self._tail = IndexTail()

    def add(self, entry: IndexEntry) -> None:
        self._tail.add(entry)

    def floor_offset(self, offset: int) -> IndexEntry | None:
        return self._tail.floor_offset(offset) or self._committed.floor_offset(offset)

    def floor_index(self, raft_index: int) -> IndexEntry | None:
        return self._tail.floor_index(raft_index) or self._committed.floor_index(raft_index)

    def last_committed(self) -> IndexEntry | None:
        return self._committed.entries[-1] if self._committed.entries else None

    def commit(self, end_offset: int) -> None:
        if self._is_full():
            raise DiskFullError("no room for the index")
        for entry in self._tail.below(end_offset):
            self._committed.add(entry)
        self._tail.drop_below(end_offset)

    def truncate(self, offset: int) -> None:
        self._tail.drop_from(offset)
        dropped = self._committed.drop_from(offset)
        if dropped:
            self._committed.cut = dropped

    def delete_head(self, offset: int) -> None:
        self._tail.drop_below(offset)
        self._committed.drop_below(offset)

    def replace(self, offset: int, end_offset: int, entries: Sequence[IndexEntry]) -> None:
        self._tail.drop_below(end_offset)
        dropped = self._committed.drop_from(offset)
        if dropped:
            self._committed.cut = dropped
        if not self._is_full():
            for entry in (*entries, *(entry for entry in dropped if entry.base_offset >= end_offset)):
                self._committed.add(entry)

    def clear(self) -> None:
        self.truncate(-1)

    def pending(self) -> int:
        return len(self._tail.entries)

    def usage(self) -> IndexUsage:
        return IndexUsage(0, 0)

    def close(self) -> None:
        """What was not committed is forgotten, as by LmdbIndex."""
        self._tail = IndexTail()
