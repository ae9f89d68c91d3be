"""The segments of a log's generation, in order, with all that leads to a batch in them: index, tail, lookup, epochs."""

from __future__ import annotations

from bisect import bisect_right

from raftlog import limits
from raftlog.errors import CorruptLogError, StorageError
from raftlog.storage.compaction import CLEANED
from raftlog.storage.disk import Disk
from raftlog.storage.epochs import Epochs
from raftlog.storage.fail_points import FailPoint
from raftlog.storage.index import IndexEntry, OffsetIndex
from raftlog.storage.lookup import Lookup, Place
from raftlog.storage.opening import generation_directory, remove_generations_but
from raftlog.storage.reader import LogReader
from raftlog.storage.replica_state import ReplicaState
from raftlog.storage.segment import SCAN_BYTES, Segment, SegmentName
from raftlog.storage.snapshots import Snapshots
from raftlog.storage.tail import TailCache
from raftlog.types import Flush, TopicConfig


class Segments:
    """The segments of one generation, oldest first, and where the log that they hold ends.

    `last_index` and `last_term` count epoch starts too, which have no bytes. `end_offset` is exclusive. What is
    appended is in the page cache; `sync` makes it durable.
    """

    directory: str
    snapshots: Snapshots  # of the producers, beside the segments
    last_index: int
    last_term: int
    end_offset: int
    durable_end_offset: int  # really fdatasynced, whatever `flush` says
    synced_end_offset: int  # as far as `flush` asks for it

    def __init__(
        self,
        *,
        disk: Disk,
        directory: str,
        state: ReplicaState,
        config: TopicConfig,
        flush: Flush,
        index: OffsetIndex,
        fail_point: FailPoint,
    ) -> None:
        """`directory` is the replica's; each generation has its own in it."""
        self.disk = disk
        self.config = config
        self.fail_point = fail_point
        self.index = index
        self.in_order: list[Segment] = []
        self.tail = TailCache(limits.TAIL_CACHE_BYTES)
        self.epochs = Epochs(state.values)
        self.lookup = Lookup(self.in_order, index, self.tail, self.epochs)
        self.reader = LogReader(self.lookup, self.tail)
        self.indexed_position = 0  # of the last index entry in the active segment
        self.swaps = 0  # segments that compaction has replaced
        self._lent_offset = 0  # in front of it others may read the files themselves
        self._replica_directory = directory
        self._state = state
        self._flush = flush
        self._dirty: list[Segment] = []
        self._names_dirty = False
        self.begin_generation()

    def begin_generation(self) -> None:
        """Empty, from the state's horizon on."""
        values = self._state.values
        for segment in self.in_order:
            segment.close()
        self.directory = generation_directory(self._replica_directory, values.generation)
        self.snapshots = Snapshots(self.disk, self.directory, self.fail_point)
        self.in_order.clear()
        self._dirty.clear()
        self.tail.clear()
        self.lookup.forget()
        self.durable_end_offset = 0
        self.end_at(values.horizon_index - 1, values.horizon_offset)
        self.mark_synced()

    def take_found(self, found: list[Segment], unsynced: list[Segment], last_index: int, end_offset: int) -> None:
        """What a start has found.

        What a killed process had written is read like the rest, and answered for: it has to be durable first. The index
        commits only what is synced, so these are the segments from its last entry on.
        """
        self.in_order.extend(found)
        for segment in unsynced:
            self.mark_dirty(segment)
        self._names_dirty = bool(self._dirty)
        if found:
            self.indexed_position = found[-1].size
        self.end_at(last_index, end_offset)

    def end_at(self, last_index: int, end_offset: int) -> None:
        """The end has moved, and with it or with the horizon the epoch starts that count."""
        self.epochs.reload(self._state.values)
        self.last_index = last_index
        self.last_term = self.epochs.term_at(last_index)
        self.end_offset = end_offset
        self.durable_end_offset = min(self.durable_end_offset, end_offset)

    @property
    def size_bytes(self) -> int:
        return sum(segment.size for segment in self.in_order)

    @property
    def is_dirty(self) -> bool:
        """Bytes or names wait for a sync."""
        return bool(self._dirty) or self._names_dirty

    def end_of(self, segment: Segment) -> int:
        """The offset behind its last record."""
        following = bisect_right(self.in_order, segment.base_offset, key=_base_offset)
        return self.in_order[following].base_offset if following < len(self.in_order) else self.end_offset

    # --- what grows ------------------------------------------------------------------------

    def create(self, created_ms: int) -> Segment:
        """A new active segment, which is empty until the first batch is appended."""
        name = SegmentName(self.end_offset, self.last_index + 1)
        segment = Segment(self.disk, self.directory, name, 0, created_ms)
        try:
            segment.create()
        except StorageError as error:
            self._state.fail(error)
            raise
        self.fail_point("append.segment-created")
        self._names_dirty = True
        self.in_order.append(segment)
        return segment

    def mark_dirty(self, segment: Segment) -> None:
        if not segment.dirty:
            segment.dirty = True
            self._dirty.append(segment)

    def forget_empty(self, segment: Segment) -> None:
        if segment.size == 0:
            self.in_order.remove(segment)
            self._drop(segment)

    def sync(self, *, also_active: bool = False) -> None:
        """With flush=os the active segment is left to the kernel; a closed one is synced here, once."""
        left = None
        if self._flush == Flush.OS and not also_active and self.in_order:
            left = self.in_order[-1]
        try:
            for segment in self._dirty:
                if segment is not left:
                    segment.file.sync()
                    segment.dirty = False
            self.fail_point("persist.data-synced")
            if self._names_dirty:
                # The names BEFORE the first ack in a new segment, or the segment itself may be gone.
                self.disk.sync_dir(self.directory)
                self._names_dirty = False
                self.fail_point("persist.names-synced")
                self.lookup.close_idle()
        except StorageError as error:
            self._state.fail(error)
            raise
        self._dirty = [segment for segment in self._dirty if segment.dirty]
        self.durable_end_offset = self._dirty[0].base_offset if self._dirty else self.end_offset

    def mark_synced(self) -> None:
        self._state.synced_index = self.last_index
        self.synced_end_offset = self.end_offset

    # --- what goes -------------------------------------------------------------------------

    def place_to_cut(self, index: int) -> Place:
        """Of the batch with this Raft index. Raises CorruptLogError, the log failed, within what was compacted."""
        place, first_index = self.lookup.of_index(index)
        if first_index != index:
            raise self._state.fail(CorruptLogError(f"asked to cut Raft index {index}, within what was compacted"))
        return place

    def lend(self, end_offset: int) -> None:
        """Somebody else reads from the files what is in front of `end_offset`, which is committed."""
        self._lent_offset = max(self._lent_offset, end_offset)

    def cut(self, place: Place, end_offset: int) -> None:
        """Ends the log at `place`. Newest first, so that what a crash leaves has no hole.

        What was lent and is cut all the same was lost with consent: its reader keeps the old file, and not one in which
        other batches come to stand in its place.
        """
        keep = place.segment if place.position > 0 else None
        removed = False
        while self.in_order and self.in_order[-1] is not keep:
            segment = self.in_order.pop()
            self._drop(segment)
            removed = True
            if segment is place.segment:
                break
        if removed:
            self.disk.sync_dir(self.directory)
            self.fail_point("truncate.segments-removed")
        if keep is not None:
            if end_offset < self._lent_offset:
                self._copy(keep, place.position)
            else:
                keep.file.truncate(place.position)
            self.fail_point("truncate.tail-cut")
            keep.file.sync()
            keep.size = place.position
            keep.max_timestamp_ms = -1  # worked out again when somebody asks
        if self.in_order:
            self.indexed_position = self.in_order[-1].size

    def _copy(self, segment: Segment, size: int) -> None:
        """The beginning of a segment, in another file under its name. One that is not whole goes at the next start."""
        unfinished = segment.path + CLEANED
        copy = self.disk.open(unfinished, create=True)
        copy.truncate(0)
        for position in range(0, size, SCAN_BYTES):
            copy.append(segment.file.read(position, min(SCAN_BYTES, size - position)))
        copy.sync()  # BEFORE it has the name
        copy.close()
        segment.close()
        self.disk.rename(unfinished, segment.path)
        self.disk.sync_dir(self.directory)

    def remove_head(self, count: int) -> None:
        """The first `count` segments, which lie below the horizon that `state` has by now."""
        values = self._state.values
        self.epochs.reload(values)
        self.index.delete_head(values.horizon_offset)
        self.tail.delete_head(values.horizon_index)
        self.lookup.forget()
        try:
            for segment in self.in_order[:count]:
                self._drop(segment)
            del self.in_order[:count]
            self.snapshots.remove_outside(values.horizon_index, self.last_index)
            self.fail_point("head.segments-removed")
            self.disk.sync_dir(self.directory)
        except StorageError as error:
            self._state.failed = error
            raise

    def remove_old_generations(self) -> None:
        remove_generations_but(self.disk, self._replica_directory, self._state.values)

    def replace(self, sources: list[Segment], rewritten: Segment, end_offset: int, entries: list[IndexEntry]) -> None:
        """`rewritten`, whose file is in place, stands for `sources`, which are closed; the active one is behind it."""
        place = self.in_order.index(sources[0])
        self.in_order[place : place + len(sources)] = [rewritten]
        self.index.replace(rewritten.base_offset, end_offset, entries)
        self.tail.delete_head(self.in_order[place + 1].first_index)
        self.lookup.forget()
        self.swaps += 1

    def _drop(self, segment: Segment) -> None:
        if segment in self._dirty:
            self._dirty.remove(segment)
        segment.close()
        self.disk.remove(segment.path)

    def close(self) -> None:
        self.index.close()
        for segment in self.in_order:
            segment.close()


def _base_offset(segment: Segment) -> int:
    return segment.base_offset
