"""Appending to a log, and making what was appended durable. The hot path of a worker's turn.

An append is one write into the page cache. `persist()` is the one durability step of a turn.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Sequence
from itertools import chain
from operator import itemgetter

from raftlog import limits
from raftlog.clock import Clock
from raftlog.errors import CorruptMessageError, DiskFullError, StorageError
from raftlog.histogram import Histogram
from raftlog.limits import INDEX_COMMIT_BYTES, INDEX_INTERVAL_BYTES, INDEX_PENDING_MAX, PRODUCER_SNAPSHOT_BYTES
from raftlog.record.batch import (
    BASE_OFFSET,
    BATCH_BYTES,
    LAST_OFFSET_DELTA,
    LEADER_EPOCH,
    MAX_TIMESTAMP,
    PREFIX_BYTES,
    PRODUCER_ID,
    STAMPED_BYTES,
    BatchHeader,
    stamp_bytes,
)
from raftlog.record.compacted import entries_of
from raftlog.storage.index import IndexEntry
from raftlog.storage.producer_recall import recall
from raftlog.storage.producers import Producers
from raftlog.storage.replica_state import ReplicaState
from raftlog.storage.segment import Segment, SegmentName
from raftlog.storage.segments import Segments
from raftlog.storage.state import EpochStart
from raftlog.storage.tail import Run
from raftlog.types import Buffer, Doubt, Half

_COPY_FREE_BYTES = 4096  # above this a memoryview is cheaper than a copy of the frame's body

# Base offsets and positions of the batches in one piece of memory, and the offset behind them.
_Shape = tuple["array[int]", "array[int]", int]

_max_timestamp_of = itemgetter(MAX_TIMESTAMP)


class Appender:
    """What puts batches behind a log's end and makes them durable. It knows the producers as the end has them."""

    def __init__(self, segments: Segments, state: ReplicaState, clock: Clock) -> None:
        self.producers = Producers()
        self._segments = segments
        self._state = state
        self._clock = clock
        self._roll_next = False
        self._index_due_bytes = 0  # appended since the index was committed
        self._index_error: DiskFullError | None = None
        self._snapshot_due_bytes = 0  # appended since a snapshot of the producers was written
        self.syncs = Histogram()  # of what was appended
        self.last_sync_s = 0.0

    def begin_generation(self, producers: Producers) -> None:
        """The log is empty, and this is what is known of producers in front of it."""
        self.producers = producers
        self._snapshot_due_bytes = 0

    def recall(self) -> None:
        """`producers` as the log's end has them, from the disk."""
        segments = self._segments
        segments.snapshots.remove_outside(self._state.horizon_index, segments.last_index)
        self.producers, walked = recall(segments, segments.last_index, self._clock.wall_ms())
        self._snapshot_due_bytes = walked

    # --- append ----------------------------------------------------------------------------

    def append_epoch_start(self, term: int) -> int:
        """The no-op of a new epoch; returns its index. Durable, with all that stands before it."""
        assert self._segments.last_term < term <= self._state.term
        return self._append_without_batch(term, ())

    def append_configuration(self, halves: tuple[Half, ...]) -> int:
        """Who votes from here on; returns its index. Durable, with all that stands before it.

        BEFORE a batch behind it is written: one behind a missing epoch start is found by its term, but one behind a
        missing configuration would be counted one index too low, and nothing would notice.
        """
        assert halves and self._segments.last_term > 0, "the no-op of an epoch comes first"
        return self._append_without_batch(self._segments.last_term, halves)

    def _append_without_batch(self, term: int, halves: tuple[Half, ...]) -> int:
        segments, state = self._segments, self._state
        state.check_usable()
        # The batches in front BEFORE `state`: an epoch start that they do not reach would be dropped.
        segments.sync()
        segments.fail_point("epoch.batches-durable")
        start = EpochStart(term, segments.last_index + 1, segments.end_offset, halves)
        with state.change() as values:
            values.epoch_starts = [*values.epoch_starts, start]
        segments.epochs.append(start)
        segments.last_index += 1
        segments.last_term = term
        segments.mark_synced()
        return segments.last_index

    def append_as_leader(self, frames: Sequence[Buffer], headers: Sequence[BatchHeader], term: int) -> list[Run]:
        """Stamps checked batches with offset and epoch, and appends them with one write. Not durable yet.

        Immutable frames are copied into one run. A writable one is stamped where it stands and becomes a run itself: it
        is the log's from then on. DiskFullError leaves the log as it was.
        """
        segments = self._segments
        assert term == segments.last_term, "the no-op of an epoch comes first"
        segments.tail.max_bytes = limits.TAIL_CACHE_BYTES  # for all followers
        offset = segments.end_offset
        position = 0
        base_offsets: array[int] = array("q")
        positions: array[int] = array("q")
        parts: list[Buffer] = []
        pieces: list[Buffer] = []
        shapes: list[_Shape] = []
        add_offset, add_position, add_part = base_offsets.append, positions.append, parts.append
        for frame, header in zip(frames, headers, strict=True):
            batch_bytes = header[BATCH_BYTES]
            stamp = stamp_bytes(offset, batch_bytes - PREFIX_BYTES, term)
            if type(frame) is memoryview and not frame.readonly:
                if parts:
                    pieces.append(b"".join(parts))
                    shapes.append((base_offsets, positions, offset))
                    position, base_offsets, positions, parts = 0, array("q"), array("q"), []
                    add_offset, add_position, add_part = base_offsets.append, positions.append, parts.append
                frame[:STAMPED_BYTES] = stamp
                pieces.append(frame)
                shapes.append((array("q", (offset,)), array("q", (0,)), offset + header[LAST_OFFSET_DELTA] + 1))
            else:
                add_offset(offset)
                add_position(position)
                add_part(stamp)
                add_part(frame[STAMPED_BYTES:] if batch_bytes < _COPY_FREE_BYTES else memoryview(frame)[STAMPED_BYTES:])
                position += batch_bytes
            offset += header[LAST_OFFSET_DELTA] + 1
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
        segments = self._segments
        assert first_index == segments.last_index + 1
        segments.tail.max_bytes = limits.FOLLOWER_TAIL_BYTES  # for itself, should it lead next
        pieces = [payload] if isinstance(payload, (bytes, bytearray, memoryview)) else list(payload)
        shapes: list[_Shape] = []
        following = iter(headers)
        offset, term = segments.end_offset, segments.last_term
        for piece in pieces:
            base_offsets: array[int] = array("q")
            positions: array[int] = array("q")
            position, size = 0, len(piece)
            while position < size:
                header = next(following, None)
                if header is None or header[BASE_OFFSET] != offset or header[LEADER_EPOCH] != term:
                    raise _not_next(offset, term, header)
                base_offsets.append(offset)
                positions.append(position)
                offset += header[LAST_OFFSET_DELTA] + 1
                position += header[BATCH_BYTES]
            if position != size or not size:
                raise CorruptMessageError("a payload that is not whole batches")
            shapes.append((base_offsets, positions, offset))
        assert next(following, None) is None, "more headers than batches"
        self._append(pieces, shapes, headers)

    def append_compacted(self, data: bytes, headers: Sequence[BatchHeader]) -> None:
        """What another log has compacted: batches and fillers of one epoch, checksums checked, in one write.

        As durable, and as seldom on the disk, as any append; but they are not kept in memory, where the place of a
        batch in its run tells its Raft index. Only a follower that comes from far behind gets any. Raises
        CorruptMessageError, with nothing appended, when offsets or epochs do not go on from here. DiskFullError leaves
        the log as it was.
        """
        segments = self._segments
        offset, term = segments.end_offset, segments.last_term
        for header in headers:
            if header.base_offset != offset or header.leader_epoch != term or entries_of(header) < 1:
                raise _not_next(offset, term, header)
            offset = header.next_offset
        segment = self._write(data, len(data))
        position, now_ms = segment.size, self._clock.wall_ms()
        for header in headers:
            index = segments.last_index + 1
            if position == 0 or position >= segments.indexed_position + INDEX_INTERVAL_BYTES:
                newest_ms = segment.max_timestamp_ms
                segments.index.add(
                    IndexEntry(header.base_offset, index, term, segment.base_offset, position, newest_ms)
                )
                segments.indexed_position = position
            if header.producer_id >= 0:
                self.producers.note(header, header.base_offset, index, now_ms)
            segment.max_timestamp_ms = max(segment.max_timestamp_ms, header.max_timestamp_ms)
            position += header.batch_bytes
            segments.last_index += entries_of(header)
        segments.end_offset = offset
        segment.size = position
        self._index_due_bytes += len(data)
        self._snapshot_due_bytes += len(data)

    def _append(self, pieces: list[Buffer], shapes: list[_Shape], headers: Sequence[BatchHeader]) -> list[Run]:
        """One write for all pieces, into one segment. Raises with the log as it was."""
        segments = self._segments
        segment = self._write(pieces[0] if len(pieces) == 1 else pieces, sum(map(len, pieces)))
        self._add_index_entries(segment, pieces, shapes, headers)
        self._note_producers(shapes, headers)
        position = segment.size
        runs = []
        for data, (base_offsets, positions, next_offset) in zip(pieces, shapes, strict=True):
            run = Run(
                first_index=segments.last_index + 1,
                term=segments.last_term,
                base_offsets=base_offsets,
                positions=positions,
                data=data,
                next_offset=next_offset,
                segment=segment,
                position=position,
            )
            position += len(data)
            segments.last_index += run.count
            segments.end_offset = next_offset
            segments.tail.add(run)
            runs.append(run)
        self._index_due_bytes += position - segment.size
        self._snapshot_due_bytes += position - segment.size
        segment.size = position
        return runs

    def _write(self, data: Buffer | list[Buffer], size: int) -> Segment:
        """`size` bytes behind the end of the segment that is returned, which does not count them yet."""
        segments, state = self._segments, self._state
        state.check_usable()
        if self._index_error is not None:
            self._check_index_room()
        segment = self._writable_segment(size)
        try:
            segment.file.append(data)
        except StorageError as error:
            state.fail(error)
            if isinstance(error, DiskFullError):
                # What was written in part and put back is unsynced like any write. It has to be synced BEFORE a
                # later segment is acknowledged, or a power failure may bring half a batch back below it.
                segments.mark_dirty(segment)
                segments.forget_empty(segment)
            raise
        segments.fail_point("append.written")
        segments.mark_dirty(segment)
        return segment

    def _writable_segment(self, size: int) -> Segment:
        """The active segment, or a new one. One call's batches stay together, so it may be longer by that."""
        segments = self._segments
        if segments.in_order:
            active = segments.in_order[-1]
            if not self._roll_next and active.size + size <= segments.config.segment_bytes:
                return active
            self._state.write_commit_bound()
            self.write_snapshot()
        segment = segments.create(self._clock.wall_ms())
        self._roll_next = False
        return segment

    def roll_when_old(self, now_ms: int) -> None:
        """The next append goes to a new segment when the active one is older than segment_ms."""
        in_order = self._segments.in_order
        if in_order and now_ms - in_order[-1].created_ms >= self._segments.config.segment_ms:
            self._roll_next = True

    def _note_producers(self, shapes: list[_Shape], headers: Sequence[BatchHeader]) -> None:
        for header in headers:
            if header[PRODUCER_ID] >= 0:
                base_offsets = chain.from_iterable(shape[0] for shape in shapes)
                first_index = self._segments.last_index + 1
                self.producers.note_all(headers, base_offsets, first_index, self._clock.wall_ms())
                return

    def write_snapshot(self) -> None:
        """Of the producers as the log's end has them. Only saves reading, so a full disk may go without."""
        segments, values = self._segments, self._state.values
        self._snapshot_due_bytes = 0
        try:
            segments.snapshots.write(segments.last_index, segments.last_term, segments.end_offset, self.producers)
            kept = {segment.name for segment in segments.in_order}
            kept.add(SegmentName(values.horizon_offset, values.horizon_index))
            segments.snapshots.thin_out(kept)
        except DiskFullError:
            return
        except StorageError as error:
            self._state.fail(error)
            raise

    def _add_index_entries(
        self, segment: Segment, pieces: list[Buffer], shapes: list[_Shape], headers: Sequence[BatchHeader]
    ) -> None:
        """One entry where a segment begins, and one at the first batch behind each interval."""
        segments = self._segments
        start = segment.size
        newest = segment.max_timestamp_ms
        due = 0 if start == 0 else segments.indexed_position + INDEX_INTERVAL_BYTES
        seen, raft_index, term = 0, segments.last_index + 1, segments.last_term
        for piece, (base_offsets, positions, _) in zip(pieces, shapes, strict=True):
            first, end = seen, seen + len(positions)
            place = bisect_left(positions, due - start)
            while place < len(positions):
                newest = _newest(newest, headers[seen : first + place])
                seen = first + place
                at = start + positions[place]
                entry = IndexEntry(base_offsets[place], raft_index + place, term, segment.base_offset, at, newest)
                segments.index.add(entry)
                segments.indexed_position = at
                due = at + INDEX_INTERVAL_BYTES
                place = bisect_left(positions, due - start, place + 1)
            newest = _newest(newest, headers[seen:end])
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
        segments, state = self._segments, self._state
        state.check_usable()
        if segments.is_dirty:
            began_s = self._clock.monotonic_s()
            segments.sync()
            self.last_sync_s = self._clock.monotonic_s() - began_s
            self.syncs.observe(self.last_sync_s)
        if state.is_dirty:
            state.write()
            if state.doubt is Doubt.NONE:
                segments.remove_old_generations()
        segments.mark_synced()
        if self._index_due_bytes >= INDEX_COMMIT_BYTES:
            self.commit_index()
        if self._snapshot_due_bytes >= PRODUCER_SNAPSHOT_BYTES:
            self.write_snapshot()

    def commit_index(self) -> None:
        """Only what is really synced: recovery trusts what lies in front of the last committed entry."""
        self._index_due_bytes = 0
        try:
            self._segments.index.commit(self._segments.durable_end_offset)
        except DiskFullError as error:
            # The entries stay in memory and the log goes on, until there are too many of them.
            self._index_error = error
        else:
            self._index_error = None

    def _check_index_room(self) -> None:
        if self._segments.index.pending() < INDEX_PENDING_MAX:
            return
        self.commit_index()
        if self._index_error is not None:
            raise DiskFullError(str(self._index_error))


def _newest(newest_ms: int, headers: Sequence[BatchHeader]) -> int:
    return max(newest_ms, max(map(_max_timestamp_of, headers), default=-1))


def _not_next(offset: int, term: int, header: BatchHeader | None) -> CorruptMessageError:
    came = "no batch" if header is None else f"base offset {header.base_offset} in epoch {header.leader_epoch}"
    return CorruptMessageError(f"expected base offset {offset} in epoch {term}, got {came}")
