"""What a generation's segments hold, and where they stop being a log. Reads only; PartitionLog acts on it.

Segments are taken in order from the horizon on. Offsets have to be continuous, Raft indexes are counted,
each batch's epoch has to be the one that the epoch starts give for its index, and from the last entry
that the index had committed (its bytes were synced by then) every checksum has to match. The older part
is read as far as its end of each segment can be known: one lookup and the headers behind it. A flipped bit
there is found by the scrub (scrubber.py); when damage was noted in `state`, everything is read again.

The first byte that does not fit is where the log ends. What stands behind it is not a log any more.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field

from raftlog.limits import INDEX_INTERVAL_BYTES
from raftlog.record.batch import BASE_OFFSET, HEADER_BYTES, LAST_OFFSET_DELTA, LEADER_EPOCH, MAX_TIMESTAMP, RECORD_COUNT
from raftlog.record.compacted import entries_of
from raftlog.storage.disk import Disk
from raftlog.storage.epochs import Epochs
from raftlog.storage.index import IndexEntry, OffsetIndex
from raftlog.storage.lookup import Lookup
from raftlog.storage.segment import BadBatchError, Segment, parse_segment_name
from raftlog.storage.state import EpochStart, State, worse_doubt
from raftlog.storage.tail import TailCache
from raftlog.types import Doubt


@dataclass
class Findings:
    """What the examination of a log at its start has found.

    `cut`: (segment, size to keep) of the segment with the first bad byte; `removed` stand behind it.
    """

    segments: list[Segment] = field(default_factory=list)
    last_index: int = 1
    end_offset: int = 0
    cut: tuple[Segment, int] | None = None
    removed: list[Segment] = field(default_factory=list)
    below_head: list[Segment] = field(default_factory=list)  # a deletion of the head that did not finish
    unsynced: list[Segment] = field(default_factory=list)  # may hold bytes that no sync covered
    dropped_epochs: list[EpochStart] = field(default_factory=list)
    doubt: Doubt = Doubt.NONE
    reasons: list[str] = field(default_factory=list)

    def suspect(self, doubt: Doubt, reason: str) -> None:
        self.doubt = worse_doubt(self.doubt, doubt)
        self.reasons.append(reason)


def examine(disk: Disk, directory: str, state: State, index: OffsetIndex, now_ms: int) -> Findings:
    """The findings on a generation's directory. Fills the index for what it had not committed."""
    try:
        return _Examination(disk, directory, state, index, now_ms).run()
    except _DistrustError:
        index.clear()
        return _Examination(disk, directory, state, index, now_ms).run()


class _DistrustError(Exception):
    """The part of which only headers are read is damaged: every checksum has to be looked at to know from where on."""


class _Examination:
    def __init__(self, disk: Disk, directory: str, state: State, index: OffsetIndex, now_ms: int) -> None:
        self._disk = disk
        self._directory = directory
        self._state = state
        self._index = index
        self._epochs = Epochs(state)
        self._now_ms = now_ms
        self._last_index = state.horizon_index - 1
        self._offset = state.horizon_offset
        self._found = Findings()

    def run(self) -> Findings:
        found = self._found
        segments = self._list()
        found.below_head = [each for each in segments if each.base_offset < self._state.horizon_offset]
        segments = segments[len(found.below_head) :]
        found.segments = list(segments)
        lookup = Lookup(found.segments, self._index, TailCache(0), self._epochs)
        if self._state.damaged_index:
            self._index.clear()  # where there is one bad batch there may be more: all are read again
        anchor = self._anchor(lookup, segments)
        if anchor is None:
            self._index.clear()
        for number, segment in enumerate(segments):
            start = None
            trusted = False
            if anchor is not None and segment.base_offset <= anchor.segment:
                trusted = segment.base_offset < anchor.segment
                start = anchor
                if trusted:
                    next_base = segments[number + 1].base_offset
                    start = lookup.verified(self._index.floor_offset(next_base - 1), segment)
            try:
                self._check_segment(segment, start, trusted)
            except BadBatchError as bad:
                if trusted:
                    raise _DistrustError from bad
                self._end_here(segments, number, bad)
                break
            if not trusted:
                found.unsynced.append(segment)
        self._take_epoch_starts()
        if found.cut is not None and found.cut[1] > 0 and found.cut[0] not in found.unsynced:
            found.unsynced.append(found.cut[0])
        found.last_index = self._last_index
        found.end_offset = self._offset
        self._judge()
        return found

    def _list(self) -> list[Segment]:
        names = [parse_segment_name(name) for name in self._disk.list(self._directory)]
        segments = []
        for name in sorted(name for name in names if name is not None):
            segment = Segment(self._disk, self._directory, name, 0, self._now_ms)
            segment.size = segment.file.size()
            segment.close()
            segments.append(segment)
        return segments

    def _anchor(self, lookup: Lookup, segments: list[Segment]) -> IndexEntry | None:
        """The newest committed entry that speaks of a batch that is there; newer ones are stale and go."""
        by_base = {segment.base_offset: segment for segment in segments}
        while (entry := self._index.last_committed()) is not None:
            segment = by_base.get(entry.segment)
            if segment is not None and lookup.verified(entry, segment) is not None:
                return entry
            self._index.truncate(entry.base_offset)
        return None

    def _check_segment(self, segment: Segment, start: IndexEntry | None, trusted: bool) -> None:
        """Walks one segment to its end; raises BadBatchError where it stops being the log."""
        self._take_epoch_starts()
        if (segment.base_offset, segment.first_index) != (self._offset, self._last_index + 1):
            raise BadBatchError(
                0,
                f"the log ends at offset {self._offset}, Raft index {self._last_index}, in front of this segment",
            )
        if segment.size == 0:
            raise BadBatchError(0, "the segment is empty")
        position = 0
        if start is not None:
            position = start.position
            self._offset = start.base_offset
            self._last_index = start.raft_index - 1
            segment.max_timestamp_ms = start.max_timestamp_ms
        indexed = position if start is not None else -INDEX_INTERVAL_BYTES
        first = segment.header_at(0)
        if first is not None:
            segment.created_ms = min(self._now_ms, max(0, first.max_timestamp_ms))
        # Local names: this loop sees every batch of a log whose index is gone.
        index_due = indexed + INDEX_INTERVAL_BYTES
        newest, next_start, term = segment.max_timestamp_ms, -1, -1
        damaged = self._state.damaged_index
        for place, header in segment.walk(position, whole=not trusted):
            if header[BASE_OFFSET] != self._offset:
                raise BadBatchError(place, f"a batch at offset {header.base_offset} where {self._offset} was due")
            if self._last_index + 1 >= next_start:
                self._take_epoch_starts()
                next_start, term = self._epoch_from(self._last_index + 1)
                if next_start == self._last_index + 1:
                    raise BadBatchError(place, f"a batch at Raft index {next_start}, where epoch {term} starts")
            if header[LEADER_EPOCH] != term:
                raise BadBatchError(place, f"a batch of epoch {header.leader_epoch} where the epoch starts say {term}")
            entries = 1 if header[RECORD_COUNT] else entries_of(header)
            if self._last_index + entries >= next_start:
                raise BadBatchError(
                    place, f"a filler of {entries} entries reaches over the epoch start at {next_start}"
                )
            if 0 < damaged <= self._last_index + entries:
                raise BadBatchError(place, "the batch was found damaged before")
            if place >= index_due and not trusted:
                index_due = place + INDEX_INTERVAL_BYTES
                index = self._last_index + 1
                self._index.add(IndexEntry(self._offset, index, term, segment.base_offset, place, newest))
            self._last_index += entries
            if header[MAX_TIMESTAMP] > newest:
                newest = header[MAX_TIMESTAMP]
            segment.max_timestamp_ms = newest
            self._offset += header[LAST_OFFSET_DELTA] + 1

    def _epoch_from(self, index: int) -> tuple[int, int]:
        """The first epoch start at or behind `index`, and the term of a batch at `index`."""
        following = self._epochs.from_index(index)
        return (following[0].index if following else 2**63), self._epochs.term_at(index)

    def _take_epoch_starts(self) -> None:
        """Counts the no-ops that follow; one that is due at another offset is not reached."""
        while self._epochs.is_start(self._last_index + 1):
            if self._epochs.start_at(self._last_index + 1).base_offset != self._offset:
                return
            self._last_index += 1

    def _end_here(self, segments: list[Segment], number: int, bad: BadBatchError) -> None:
        found = self._found
        segment = segments[number]
        behind = segments[number + 1 :]
        lost = segment.size - bad.position + sum(each.size for each in behind)
        found.cut = (segment, bad.position)
        found.removed = behind
        found.segments = segments[: number + (bad.position > 0)]
        good_behind = bool(behind) or _intact_behind(segment, bad.position)
        found.suspect(
            Doubt.CORRUPT if good_behind else Doubt.CUT_TAIL,
            f"cut {lost} bytes at position {bad.position} of {segment.path.rsplit('/', 1)[1]}: {bad.reason}",
        )

    def _judge(self) -> None:
        found = self._found
        found.dropped_epochs = self._epochs.from_index(found.last_index + 1)
        for start in found.dropped_epochs:
            what = "the configuration" if start.halves else f"epoch {start.term}"
            found.suspect(
                Doubt.CUT_TAIL, f"the log ends at Raft index {found.last_index}, in front of {what} at {start.index}"
            )
        if found.last_index < self._state.commit_bound:
            found.suspect(
                Doubt.SHORT,
                f"the log ends at Raft index {found.last_index}, below its commit bound {self._state.commit_bound}",
            )


def entries_for(segment: Segment, epochs: Epochs) -> list[IndexEntry]:
    """What the index says of a segment; as far as it can be read."""
    found: list[IndexEntry] = []
    index, due, newest = segment.first_index, 0, -1
    with suppress(BadBatchError):
        for place, header in segment.walk():
            index = epochs.next_batch_index(index)
            if place >= due:
                due = place + INDEX_INTERVAL_BYTES
                entry = IndexEntry(header.base_offset, index, header.leader_epoch, segment.base_offset, place, newest)
                found.append(entry)
            newest = max(newest, header.max_timestamp_ms)
            index += entries_of(header)
    return found


def _intact_behind(segment: Segment, position: int) -> bool:
    """Whether a good batch follows the bad one: then this is no torn tail."""
    header = segment.header_at(position)
    if header is None or not HEADER_BYTES <= header.batch_bytes <= segment.size - position:
        return False
    try:
        next(iter(segment.walk(position + header.batch_bytes, whole=True)))
    except (BadBatchError, StopIteration):
        return False
    return True
