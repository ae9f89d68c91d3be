"""Appending to a log, and making what was appended durable. The hot path of a worker's turn.

An append is one write into the page cache. `persist()` is the one durability step of a turn.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Sequence
from itertools import chain

from raftlog.clock import Clock
from raftlog.errors import CorruptMessageError, DiskFullError, StorageError
from raftlog.limits import (
    INDEX_COMMIT_BYTES,
    INDEX_INTERVAL_BYTES,
    INDEX_PENDING_MAX,
    PRODUCER_SNAPSHOT_BYTES,
    TAIL_CACHE_BYTES,
)
from raftlog.record.batch import PREFIX_BYTES, STAMPED_BYTES, BatchHeader, stamp_bytes
from raftlog.storage.disk import Buffer, Disk
from raftlog.storage.epochs import Epochs
from raftlog.storage.fail_points import FailPoint
from raftlog.storage.hard_state import HardState
from raftlog.storage.index import IndexEntry, OffsetIndex
from raftlog.storage.lookup import Lookup
from raftlog.storage.opening import generation_directory, remove_generations_but
from raftlog.storage.producers import Producers
from raftlog.storage.reader import LogReader
from raftlog.storage.segment import Segment, SegmentName
from raftlog.storage.snapshots import Snapshots
from raftlog.storage.state import EpochStart, State, StateFile
from raftlog.storage.tail import Run, TailCache
from raftlog.types import Doubt, Flush, TopicConfig

_COPY_FREE_BYTES = 4096  # above this a memoryview is cheaper than a copy of the frame's body

# Base offsets and positions of the batches in one piece of memory, and the offset behind them.
_Shape = tuple["array[int]", "array[int]", int]


class AppendingLog(HardState):
    last_index: int
    last_term: int
    log_end_offset: int  # exclusive
    synced_end_offset: int
    producers: Producers  # as the log's end has them

    def __init__(
        self,
        *,
        disk: Disk,
        directory: str,
        config: TopicConfig,
        flush: Flush,
        clock: Clock,
        index: OffsetIndex,
        state: State,
        state_file: StateFile,
        fail_point: FailPoint,
    ) -> None:
        super().__init__(state, state_file)
        self._disk = disk
        self._directory = directory
        self._config = config
        self._flush = flush
        self._clock = clock
        self._index = index
        self._fail_point = fail_point
        self._segments: list[Segment] = []
        self._tail = TailCache(TAIL_CACHE_BYTES)
        self._dirty: list[Segment] = []
        self._names_dirty = False
        self._roll_next = False
        self._indexed_position = 0  # of the last index entry in the active segment
        self._index_due_bytes = 0  # appended since the index was committed
        self._index_error: DiskFullError | None = None
        self._begin_generation()

    def _begin_generation(self) -> None:
        """Empty, from the state's horizon on."""
        state = self._state
        self._log_directory = generation_directory(self._directory, state.generation)
        self._segments.clear()
        self._dirty.clear()
        self._tail.clear()
        self._epochs = Epochs(state)
        self._lookup = Lookup(self._segments, self._index, self._tail, self._epochs)
        self._reader = LogReader(self._lookup, self._tail)
        self._snapshots = Snapshots(self._disk, self._log_directory, self._fail_point)
        self.producers = Producers()
        self._snapshot_due_bytes = 0  # appended since a snapshot of the producers was written
        self.last_index = state.horizon_index - 1
        self.log_end_offset = state.horizon_offset
        self.last_term = state.horizon_prev_term
        self._durable_end_offset = 0  # really fdatasynced, whatever `flush` says
        self._mark_synced()

    # --- append ----------------------------------------------------------------------------

    def append_epoch_start(self, term: int) -> int:
        """The no-op of a new epoch; returns its index. Durable, with all that stands before it."""
        assert self.last_term < term <= self._state.term
        self._check_usable()
        # The batches in front BEFORE `state`: an epoch start that they do not reach would be dropped.
        self._sync_segments()
        self._fail_point("epoch.batches-durable")
        start = EpochStart(term, self.last_index + 1, self.log_end_offset)
        before = self._state.epoch_starts
        self._state.epoch_starts = [*before, start]
        try:
            self._write_state()
        except DiskFullError:
            self._state.epoch_starts = before
            raise
        self._epochs.append(start)
        self.last_index += 1
        self.last_term = term
        self._mark_synced()
        return self.last_index

    def append_as_leader(self, frames: Sequence[Buffer], headers: Sequence[BatchHeader], term: int) -> list[Run]:
        """Stamps checked batches with offset and epoch, and appends them with one write. Not durable yet.

        Immutable frames are copied into one run. A writable one is stamped where it stands and becomes a run itself: it
        is the log's from then on. DiskFullError leaves the log as it was.
        """
        assert term == self.last_term, "the no-op of an epoch comes first"
        offset = self.log_end_offset
        position = 0
        base_offsets: array[int] = array("q")
        positions: array[int] = array("q")
        parts: list[Buffer] = []
        pieces: list[Buffer] = []
        shapes: list[_Shape] = []
        add_offset, add_position, add_part = base_offsets.append, positions.append, parts.append
        for frame, header in zip(frames, headers, strict=True):
            batch_bytes = header[1]
            stamp = stamp_bytes(offset, batch_bytes - PREFIX_BYTES, term)
            if type(frame) is memoryview and not frame.readonly:
                if parts:
                    pieces.append(b"".join(parts))
                    shapes.append((base_offsets, positions, offset))
                    position, base_offsets, positions, parts = 0, array("q"), array("q"), []
                    add_offset, add_position, add_part = base_offsets.append, positions.append, parts.append
                frame[:STAMPED_BYTES] = stamp
                pieces.append(frame)
                shapes.append((array("q", (offset,)), array("q", (0,)), offset + header[6] + 1))
            else:
                add_offset(offset)
                add_position(position)
                add_part(stamp)
                add_part(frame[STAMPED_BYTES:] if batch_bytes < _COPY_FREE_BYTES else memoryview(frame)[STAMPED_BYTES:])
                position += batch_bytes
            offset += header[6] + 1
        if parts:
            pieces.append(b"".join(parts))
            shapes.append((base_offsets, positions, offset))
        return self._append(pieces, shapes, headers)

    def append_as_follower(
        self, first_index: int, payload: Buffer | Sequence[Buffer], headers: Sequence[BatchHeader]
    ) -> None:
        """Batches of one epoch as they stand in the leader's log, checksums checked, in one write.

        `payload` may be several pieces, each of whole batches. Raises CorruptMessageError, with nothing
        appended, when offsets or epochs do not go on from here. DiskFullError leaves the log as it was.
        """
        assert first_index == self.last_index + 1
        pieces = [payload] if isinstance(payload, (bytes, bytearray, memoryview)) else list(payload)
        shapes: list[_Shape] = []
        following = iter(headers)
        offset = self.log_end_offset
        for piece in pieces:
            base_offsets: array[int] = array("q")
            positions: array[int] = array("q")
            position, size = 0, len(piece)
            while position < size:
                header = next(following, None)
                if header is None or header[0] != offset or header[2] != self.last_term:
                    raise CorruptMessageError(f"a batch that does not follow offset {offset} of epoch {self.last_term}")
                base_offsets.append(offset)
                positions.append(position)
                offset += header[6] + 1
                position += header[1]
            if position != size or not size:
                raise CorruptMessageError("a payload that is not whole batches")
            shapes.append((base_offsets, positions, offset))
        assert next(following, None) is None, "more headers than batches"
        self._append(pieces, shapes, headers)

    def _append(self, pieces: list[Buffer], shapes: list[_Shape], headers: Sequence[BatchHeader]) -> list[Run]:
        """One write for all pieces, into one segment. Raises with the log as it was."""
        self._check_usable()
        if self._index_error is not None:
            self._check_index_room()
        segment = self._writable_segment(sum(map(len, pieces)))
        position = segment.size
        try:
            segment.file.append(pieces[0] if len(pieces) == 1 else pieces)
        except StorageError as error:
            self._fail(error)
            if isinstance(error, DiskFullError):
                # What was written in part and put back is unsynced like any write. It has to be synced BEFORE a
                # later segment is acknowledged, or a power failure may bring half a batch back below it.
                self._mark_dirty(segment)
                self._forget_empty(segment)
            raise
        self._fail_point("append.written")
        self._mark_dirty(segment)
        self._add_index_entries(segment, pieces, shapes, headers)
        self._note_producers(shapes, headers)
        runs = []
        for data, (base_offsets, positions, next_offset) in zip(pieces, shapes, strict=True):
            run = Run(
                first_index=self.last_index + 1,
                term=self.last_term,
                base_offsets=base_offsets,
                positions=positions,
                data=data,
                next_offset=next_offset,
                segment=segment,
                position=position,
            )
            position += len(data)
            self.last_index += run.count
            self.log_end_offset = next_offset
            self._tail.add(run)
            runs.append(run)
        self._index_due_bytes += position - segment.size
        self._snapshot_due_bytes += position - segment.size
        segment.size = position
        return runs

    def _writable_segment(self, size: int) -> Segment:
        """The active segment, or a new one. One call's batches stay together, so it may be longer by that."""
        if self._segments and not self._roll_next:
            active = self._segments[-1]
            if active.size + size <= self._config.segment_bytes:
                return active
        if self._segments:
            self.write_commit_bound()
            self._write_snapshot()
        name = SegmentName(self.log_end_offset, self.last_index + 1)
        segment = Segment(self._disk, self._log_directory, name, 0, self._clock.wall_ms())
        try:
            segment.create()
        except StorageError as error:
            self._fail(error)
            raise
        self._fail_point("append.segment-created")
        self._names_dirty = True
        self._segments.append(segment)
        self._roll_next = False
        return segment

    def _mark_dirty(self, segment: Segment) -> None:
        if not segment.dirty:
            segment.dirty = True
            self._dirty.append(segment)

    def _forget_empty(self, segment: Segment) -> None:
        if segment.size == 0:
            self._segments.remove(segment)
            self._dirty.remove(segment)
            segment.close()
            self._disk.remove(segment.path)

    def _note_producers(self, shapes: list[_Shape], headers: Sequence[BatchHeader]) -> None:
        for header in headers:
            if header[9] >= 0:
                base_offsets = chain.from_iterable(shape[0] for shape in shapes)
                self.producers.note_all(headers, base_offsets, self.last_index + 1, self._clock.wall_ms())
                return

    def _write_snapshot(self) -> None:
        """Of the producers as the log's end has them. Only saves reading, so a full disk may go without."""
        self._snapshot_due_bytes = 0
        try:
            self._snapshots.write(self.last_index, self.last_term, self.log_end_offset, self.producers)
            kept = {segment.name for segment in self._segments}
            kept.add(SegmentName(self._state.horizon_offset, self._state.horizon_index))
            self._snapshots.thin_out(kept)
        except DiskFullError:
            return
        except StorageError as error:
            self._fail(error)
            raise

    def _add_index_entries(
        self, segment: Segment, pieces: list[Buffer], shapes: list[_Shape], headers: Sequence[BatchHeader]
    ) -> None:
        """One entry where a segment begins, and one at the first batch behind each interval."""
        start = segment.size
        newest = segment.max_timestamp_ms
        due = 0 if start == 0 else self._indexed_position + INDEX_INTERVAL_BYTES
        seen, raft_index = 0, self.last_index + 1
        for piece, (base_offsets, positions, _) in zip(pieces, shapes, strict=True):
            first, end = seen, seen + len(positions)
            place = bisect_left(positions, due - start)
            while place < len(positions):
                newest = _newest(newest, headers, seen, first + place)
                seen = first + place
                at = start + positions[place]
                self._index.add(
                    IndexEntry(base_offsets[place], raft_index + place, self.last_term, segment.base_offset, at, newest)
                )
                self._indexed_position = at
                due = at + INDEX_INTERVAL_BYTES
                place = bisect_left(positions, due - start, place + 1)
            newest = _newest(newest, headers, seen, end)
            seen = end
            raft_index += len(positions)
            start += len(piece)
        segment.max_timestamp_ms = newest

    # --- durability ------------------------------------------------------------------------

    def persist(self) -> None:
        """Everything appended and set so far is durable when this returns (batches: unless flush is `os`).

        Segments BEFORE the names of new ones BEFORE `state`. DiskFullError: `state` could not be written,
        nothing that depends on it may leave, and the next persist() tries again.
        """
        self._check_usable()
        if self._dirty or self._names_dirty:
            self._sync_segments()
        if self._state_dirty:
            self._write_state()
            if self._state.doubt == Doubt.NONE:
                remove_generations_but(self._disk, self._directory, self._state)
        self._mark_synced()
        if self._index_due_bytes >= INDEX_COMMIT_BYTES:
            self._commit_index()
        if self._snapshot_due_bytes >= PRODUCER_SNAPSHOT_BYTES:
            self._write_snapshot()

    def _mark_synced(self) -> None:
        self.synced_index = self.last_index
        self.synced_end_offset = self.log_end_offset

    def _sync_segments(self, *, also_active: bool = False) -> None:
        """With flush=os the active segment is left to the kernel; a closed one is synced here, once."""
        left = None
        if self._flush == Flush.OS and not also_active and self._segments:
            left = self._segments[-1]
        try:
            for segment in self._dirty:
                if segment is not left:
                    segment.file.sync()
                    segment.dirty = False
            self._fail_point("persist.data-synced")
            if self._names_dirty:
                # The names BEFORE the first ack in a new segment, or the segment itself may be gone.
                self._disk.sync_dir(self._log_directory)
                self._names_dirty = False
                self._fail_point("persist.names-synced")
                self._lookup.close_idle()
        except StorageError as error:
            self._fail(error)
            raise
        self._dirty = [segment for segment in self._dirty if segment.dirty]
        self._durable_end_offset = self._dirty[0].base_offset if self._dirty else self.log_end_offset

    def _commit_index(self) -> None:
        """Only what is really synced: recovery trusts what lies in front of the last committed entry."""
        self._index_due_bytes = 0
        try:
            self._index.commit(self._durable_end_offset)
        except DiskFullError as error:
            # The entries stay in memory and the log goes on, until there are too many of them.
            self._index_error = error
        else:
            self._index_error = None

    def _check_index_room(self) -> None:
        if self._index.pending() < INDEX_PENDING_MAX:
            return
        self._commit_index()
        if self._index_error is not None:
            raise DiskFullError(str(self._index_error))


def _newest(newest: int, headers: Sequence[BatchHeader], start: int, end: int) -> int:
    for number in range(start, end):
        timestamp_ms = headers[number][8]
        if timestamp_ms > newest:
            newest = timestamp_ms
    return newest
