"""Working out what a log knows of its producers: the newest usable snapshot, then the batch headers behind it.

Needed at a start and after a truncation. Reads only headers, and few: a snapshot comes every PRODUCER_SNAPSHOT_BYTES.
At the horizon there is nothing to read again, so the snapshot there is durable BEFORE `state` names that horizon.
"""

from __future__ import annotations

from bisect import bisect_left

from raftlog.errors import CorruptLogError
from raftlog.record.compacted import entries_of
from raftlog.storage.epochs import Epochs
from raftlog.storage.lookup import Place
from raftlog.storage.producers import Producers
from raftlog.storage.segment import Segment, SegmentName
from raftlog.storage.segments import Segments
from raftlog.storage.snapshots import Snapshot, Snapshots, encode_snapshot
from raftlog.storage.state import State


def keep_snapshot_at(segments: Segments, segment: Segment, now_ms: int) -> None:
    """Makes sure that there is a snapshot where `segment` begins, durable; the horizon is moved there next."""
    snapshots, name = segments.snapshots, SegmentName(segment.base_offset, segment.first_index)
    last_index = segment.first_index - 1
    last_term = segments.epochs.term_at(last_index)
    known = snapshots.read(name)
    if known is None or known.last_term != last_term:
        producers, _ = recall(segments, last_index, now_ms)
        snapshots.write(last_index, last_term, segment.base_offset, producers)
    snapshots.sync(name)
    segments.fail_point("head.snapshot-durable")


def snapshot_at_horizon(segments: Segments, values: State) -> bytes:
    """What was known of producers at the horizon, never what came later; for a follower that begins there."""
    known = segments.snapshots.read(SegmentName(values.horizon_offset, values.horizon_index))
    if known is None or known.last_term != values.horizon_prev_term:
        # Nothing is in front of index 2. Elsewhere it was lost, and the follower has to know that.
        producers = Producers(complete=values.horizon_index == 2)
    else:
        producers = known.producers()
    return encode_snapshot(values.horizon_index - 1, values.horizon_prev_term, values.horizon_offset, producers)


def usable_snapshot(snapshots: Snapshots, epochs: Epochs, last_index: int) -> Snapshot | None:
    """The newest one whose last entry is at or below `last_index`, and in this log."""
    for name in reversed(snapshots.names):
        if epochs.horizon_index <= name.first_index <= last_index + 1:
            snapshot = snapshots.read(name)
            if snapshot is not None and epochs.term_at(snapshot.last_index) == snapshot.last_term:
                return snapshot
    return None


def recall(segments: Segments, last_index: int, now_ms: int) -> tuple[Producers, int]:
    """What the entries up to `last_index` say of producers, and how many bytes of log were walked for it.

    What cannot be read is a hole: everything known in front of it is forgotten, and the walk goes on behind it.
    """
    epochs, in_order = segments.epochs, segments.in_order
    snapshot = usable_snapshot(segments.snapshots, epochs, last_index)
    if snapshot is None:
        # Nothing was ever deleted in front of the first entry that a log can have, whose index is 2.
        producers, index = Producers(complete=epochs.horizon_index == 2), epochs.horizon_index
    else:
        producers, index = snapshot.producers(), snapshot.last_index + 1
    index = epochs.next_batch_index(index)
    walked = 0
    while index <= last_index:
        try:
            place, index = segments.lookup.of_index(index)
            walked += place.segment.size - place.position
            index = _walk(producers, place, index, last_index, epochs, now_ms)
        except CorruptLogError:
            producers.forget_all()
            number = bisect_left(in_order, index + 1, key=_first_index)
            index = in_order[number].first_index if number < len(in_order) else last_index + 1
    return producers, walked


def _walk(producers: Producers, place: Place, index: int, last_index: int, epochs: Epochs, now_ms: int) -> int:
    """Notes the batches from `index` to the end of its segment; returns the index of the batch behind them."""
    for _, header in place.segment.walk(place.position):
        if index > last_index:
            break
        if header.producer_id >= 0:
            producers.note(header, header.base_offset, index, now_ms)
        index = epochs.next_batch_index(index + entries_of(header))
    return index


def _first_index(segment: Segment) -> int:
    return segment.first_index
