"""Working out what a log knows of its producers: the newest usable snapshot, then the batch headers behind it.

Needed at a start and after a truncation. Reads only headers, and few: a snapshot comes every PRODUCER_SNAPSHOT_BYTES.
At the horizon there is nothing to read again, so the snapshot there is durable BEFORE `state` names that horizon.
"""

from __future__ import annotations

from bisect import bisect_left

from raftlog.errors import CorruptLogError
from raftlog.record.compacted import entries_of
from raftlog.storage.epochs import Epochs
from raftlog.storage.lookup import Lookup, Place
from raftlog.storage.producers import Producers
from raftlog.storage.segment import Segment, SegmentName
from raftlog.storage.snapshots import Snapshot, Snapshots, encode_snapshot
from raftlog.storage.taking import TakingLog


class RecallingLog(TakingLog):
    def _recall(self) -> None:
        """`producers` as the log's end has them, from the disk."""
        self._snapshots.remove_outside(self._state.horizon_index, self.last_index)
        self.producers, walked = self._recall_up_to(self.last_index)
        self._snapshot_due_bytes = walked

    def _recall_up_to(self, last_index: int) -> tuple[Producers, int]:
        return recall(self._snapshots, self._segments, self._lookup, last_index, self._clock.wall_ms())

    def _keep_snapshot_at(self, segment: Segment) -> None:
        """Makes sure that there is a snapshot where `segment` begins, durable; the horizon is moved there next."""
        name = SegmentName(segment.base_offset, segment.first_index)
        last_index = segment.first_index - 1
        last_term = self._epochs.term_at(last_index)
        known = self._snapshots.read(name)
        if known is None or known.last_term != last_term:
            producers, _ = self._recall_up_to(last_index)
            self._snapshots.write(last_index, last_term, segment.base_offset, producers)
        self._snapshots.sync(name)
        self._fail_point("head.snapshot-durable")

    def _keep_snapshot_in(
        self, directory: str, last_index: int, last_term: int, base_offset: int, producers: Producers
    ) -> None:
        """The same for the horizon that a new generation begins at."""
        snapshots = Snapshots(self._disk, directory, self._fail_point)
        snapshots.sync(snapshots.write(last_index, last_term, base_offset, producers))
        self._fail_point("reset.snapshot-durable")

    def snapshot_at_horizon(self) -> bytes:
        """What was known of producers at the horizon, never what came later; for a follower that begins there."""
        state = self._state
        known = self._snapshots.read(SegmentName(state.horizon_offset, state.horizon_index))
        if known is None or known.last_term != state.horizon_prev_term:
            # Nothing is in front of index 2. Elsewhere it was lost, and the follower has to know that.
            producers = Producers(complete=state.horizon_index == 2)
        else:
            producers = known.producers()
        return encode_snapshot(state.horizon_index - 1, state.horizon_prev_term, state.horizon_offset, producers)


def usable_snapshot(snapshots: Snapshots, epochs: Epochs, last_index: int) -> Snapshot | None:
    """The newest one whose last entry is at or below `last_index`, and in this log."""
    for name in reversed(snapshots.names):
        if epochs.horizon_index <= name.first_index <= last_index + 1:
            snapshot = snapshots.read(name)
            if snapshot is not None and epochs.term_at(snapshot.last_index) == snapshot.last_term:
                return snapshot
    return None


def recall(
    snapshots: Snapshots, segments: list[Segment], lookup: Lookup, last_index: int, now_ms: int
) -> tuple[Producers, int]:
    """What the entries up to `last_index` say of producers, and how many bytes of log were walked for it.

    What cannot be read is a hole: everything known in front of it is forgotten, and the walk goes on behind it.
    """
    epochs = lookup.epochs
    snapshot = usable_snapshot(snapshots, epochs, last_index)
    if snapshot is None:
        # Nothing was ever deleted in front of the first entry that a log can have, whose index is 2.
        producers, index = Producers(complete=epochs.horizon_index == 2), epochs.horizon_index
    else:
        producers, index = snapshot.producers(), snapshot.last_index + 1
    index = epochs.next_batch_index(index)
    walked = 0
    while index <= last_index:
        try:
            place, index = lookup.of_index(index)
            walked += place.segment.size - place.position
            index = _walk(producers, place, index, last_index, epochs, now_ms)
        except CorruptLogError:
            producers.forget_all()
            number = bisect_left(segments, index + 1, key=_first_index)
            index = segments[number].first_index if number < len(segments) else last_index + 1
    return producers, walked


def _walk(producers: Producers, place: Place, index: int, last_index: int, epochs: Epochs, now_ms: int) -> int:
    """Notes the batches from `index` to the end of its segment; returns the index of the batch behind them."""
    for _, header in place.segment.walk(place.position):
        if index > last_index:
            break
        if header[9] >= 0:
            producers.note(header, header[0], index, now_ms)
        index = epochs.next_batch_index(index + entries_of(header))
    return index


def _first_index(segment: Segment) -> int:
    return segment.first_index
