"""Reading a log without trusting the disk: what does not read back as it was written is found, noted and given up.

Damage comes to light where bytes are read: for a follower, for a consumer that found a bad checksum, or by the scrub,
which slowly reads everything again. A suspicion is confirmed by reading the whole segment from its name on, so that a
bad wire or a stale position is not taken for a bad disk. Then, when other replicas hold the same records:

    doubt, its reason and the damaged Raft index in `state`, synced, BEFORE the log fails and its worker ends

and the next start cuts there and refetches (opening.py). A log that nobody else holds (`refetchable` False) goes on
with what is whole; `damage` says what is not.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import NamedTuple, NoReturn

from raftlog.errors import CorruptLogError, CorruptMessageError, OffsetOutOfRangeError
from raftlog.record.batch import check_crc, split
from raftlog.record.compacted import entries_of
from raftlog.storage.epochs import Epochs
from raftlog.storage.lookup import Place
from raftlog.storage.reader import Entries, Extent
from raftlog.storage.replica_state import ReplicaState
from raftlog.storage.segment import SCAN_BYTES, BadBatchError, Segment
from raftlog.storage.segments import Segments


class Damage(NamedTuple):
    """Where a log is damaged. `raft_index` and `offset` of the first batch that is not as it was written."""

    raft_index: int
    offset: int
    reason: str

    def __str__(self) -> str:
        return f"damaged from offset {self.offset} on: {self.reason}"


class Cursor(NamedTuple):
    """The next batch of a segment."""

    position: int
    offset: int
    raft_index: int


def check_batches(
    segment: Segment, epochs: Epochs, cursor: Cursor | None = None, at_once: int = SCAN_BYTES
) -> Iterator[Cursor]:
    """What stands behind each batch from `cursor` (else the segment's beginning) on, all of it checked.

    Raises BadBatchError at the first batch that is not as it was written.
    """
    position, offset, index = cursor or Cursor(0, segment.base_offset, segment.first_index)
    for place, header in segment.walk(position, whole=True, at_once=at_once):
        index = epochs.next_batch_index(index)
        if header.base_offset != offset:
            raise BadBatchError(place, f"a batch at offset {header.base_offset} where {offset} was due")
        if header.leader_epoch != epochs.term_at(index):
            raise BadBatchError(place, f"a batch of epoch {header.leader_epoch} where {epochs.term_at(index)} was due")
        offset = header.next_offset
        index += entries_of(header)
        yield Cursor(place + header.batch_bytes, offset, index)


def inspect(segment: Segment, epochs: Epochs, end_offset: int) -> Damage | None:
    """The first damage of a segment whose last record stands in front of `end_offset`."""
    cursor = Cursor(0, segment.base_offset, segment.first_index)
    try:
        for behind in check_batches(segment, epochs):
            cursor = behind
        if cursor.offset != end_offset:
            raise BadBatchError(cursor.position, f"the segment ends at offset {cursor.offset}, not {end_offset}")
    except BadBatchError as bad:
        name = segment.path.rsplit("/", 1)[1]
        return Damage(
            epochs.next_batch_index(cursor.raft_index), cursor.offset, f"{name} at {bad.position}: {bad.reason}"
        )
    return None


class Scrubber:
    """What reads a log and trusts nothing that it reads; it looks for damage slowly, where nobody reads.

    `refetchable` tells whether other replicas hold what this one holds: for its owner to say, once.
    """

    def __init__(self, segments: Segments, state: ReplicaState) -> None:
        self.refetchable: Callable[[], bool] = lambda: False
        self.damage: Damage | None = None  # found, and nobody to refetch it from
        self._segments = segments
        self._state = state
        self._segment = -1  # base offset of the segment that the scrub reads
        self._cursor: Cursor | None = None
        self._mark = (0, 0, 0)  # of the segments in which the cursor stands

    # --- reading ---------------------------------------------------------------------------

    def read_entries(self, first_index: int, max_bytes: int) -> Entries:
        """Entries from first_index on, which lies in [horizon_index, last_index]; at least one.

        Raises CorruptLogError when they do not read back.
        """
        segments = self._segments
        assert self._state.horizon_index <= first_index <= segments.last_index
        try:
            return segments.reader.entries(first_index, segments.last_index, max_bytes)
        except (CorruptLogError, CorruptMessageError) as error:
            self.verify_entries(first_index, first_index)
            raise CorruptLogError(str(error)) from error

    def read(self, offset: int, max_bytes: int, end_offset: int, *, verify: bool = False) -> bytes:
        """Whole batches from the one that holds `offset` on, all below end_offset; at least one if there is one.

        Ends where a segment ends; `verify` checks their checksums. Raises OffsetOutOfRangeError outside
        [log start offset, log end offset], CorruptLogError when they do not read back: see `verify_offset` then.
        """
        segments = self._segments
        self._check_range(offset)
        end_offset = min(end_offset, segments.end_offset)
        if offset >= end_offset:
            return b""
        try:
            data = segments.reader.records(offset, max_bytes, end_offset)
            if verify and not all(check_crc(data, position, header) for position, header in split(data)):
                raise CorruptLogError(f"a batch from offset {offset} on does not match its checksum")
        except CorruptMessageError as error:
            raise CorruptLogError(str(error)) from error
        return data

    def locate(self, offset: int, max_bytes: int, end_offset: int) -> Extent | None:
        """Where they lie, for who sends them from the file: see LogReader. There they stay, whatever becomes of this
        log. `offset` lies in front of `end_offset`. Raises as `read`.
        """
        segments = self._segments
        self._check_range(offset)
        try:
            extent = segments.reader.locate(offset, max_bytes, end_offset, segments.end_offset)
        except CorruptMessageError as error:
            raise CorruptLogError(str(error)) from error
        segments.lend(end_offset)
        return extent

    def _check_range(self, offset: int) -> None:
        start_offset, end_offset = self._state.log_start_offset, self._segments.end_offset
        if not start_offset <= offset <= end_offset:
            raise OffsetOutOfRangeError(f"offset {offset} is not in [{start_offset}, {end_offset}]")

    def skip_empty(self, offset: int, end_offset: int, batches: int) -> int:
        """Where to read on instead of at `offset`, which the log holds: see LogReader. Raises CorruptLogError."""
        return self._segments.reader.skip_empty(offset, end_offset, batches)

    def batch_end(self, index: int) -> int:
        """The offset behind the batch at a Raft index that the log holds."""
        lookup = self._segments.lookup
        try:
            (segment, position), first_index = lookup.of_index(index)
            header = segment.header_at(position)
            if header is None:
                raise CorruptLogError(f"no batch at {position} of {segment.path}")
        except CorruptLogError:
            self.verify_entries(index, index)
            raise
        if first_index == index:
            lookup.remember_index(index, Place(segment, position))
        return header.next_offset

    # --- damage ----------------------------------------------------------------------------

    def verify_entries(self, first_index: int, last_index: int) -> None:
        """Somebody could not read these entries: reads their segments again, from the disk.

        Raises CorruptLogError, with the log failed, when they are damaged and can be refetched.
        """
        segments = self._segments
        segments.tail.clear()  # memory may be what is bad
        first = max(0, bisect_right(segments.in_order, first_index, key=_first_index) - 1)
        for segment in segments.in_order[first:]:
            if segment.first_index > last_index or not self.is_whole(segment):
                return

    def verify_offset(self, offset: int) -> None:
        """Likewise for the record at `offset`."""
        self._segments.tail.clear()
        number = self._segments.lookup.segment_number(offset)
        for segment in self._segments.in_order[number : number + 1]:
            self.is_whole(segment)

    def is_whole(self, segment: Segment) -> bool:
        """Raises CorruptLogError, with the log failed, when it is not and can be refetched."""
        damage = inspect(segment, self._segments.epochs, self._segments.end_of(segment))
        if damage is None:
            return True
        if self.refetchable():
            self._give_up(damage)
        self.damage = damage
        return False

    def begin_anew(self, reason: str) -> NoReturn:
        """All that this log holds is of no use: it is given up like damage, and fetched again after the next start."""
        values = self._state.values
        self._give_up(Damage(values.horizon_index, values.horizon_offset, reason))

    def _give_up(self, damage: Damage) -> NoReturn:
        self._state.note_damage(damage.raft_index, str(damage))
        raise self._state.fail(
            CorruptLogError(f"{damage}; at its next start this replica refetches it from the others")
        )

    # --- the scrub -------------------------------------------------------------------------

    def scrub(self, max_bytes: int) -> None:
        """Reads on through the log, about max_bytes of it, checking all; begins anew behind the end.

        Raises CorruptLogError, with the log failed, for damage that can be refetched.
        """
        self._state.check_usable()
        segments, values = self._segments, self._state.values
        if not segments.in_order or self.damage is not None:
            return
        mark = (values.generation, values.truncations, segments.swaps)
        if mark != self._mark:
            self._mark, self._cursor = mark, None  # positions may hold other batches now
        segment = segments.in_order[segments.lookup.segment_number(self._segment)]
        if segment.base_offset != self._segment:
            self._segment, self._cursor = segment.base_offset, None
        start = self._cursor.position if self._cursor else 0
        try:
            for cursor in check_batches(segment, segments.epochs, self._cursor, max_bytes):
                self._cursor = cursor
                if cursor.position - start >= max_bytes:
                    return
        except BadBatchError:
            self._cursor = None
            self.is_whole(segment)
            return
        self._cursor = None
        if segment is segments.in_order[-1]:
            self._segment = -1
        else:
            self._segment = segments.end_of(segment)
            segments.lookup.close_idle()


def _first_index(segment: Segment) -> int:
    return segment.first_index
