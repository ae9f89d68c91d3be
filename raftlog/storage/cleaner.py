"""When a log is compacted, and how a rewritten segment takes the place of others.

    the rewritten segment written and synced, then its name           BEFORE `state` names it (and the tombstones gone)
    `state` with its size and what it stands for, synced              BEFORE it is renamed over the first of those
    renamed, the other segments removed, the directory synced         BEFORE `state` forgets it, with its next write
    `state` without it, synced                                        BEFORE another file may get its name

A crash before the first `state` leaves the old segments and a file that the next start removes; behind it the next
start does the rest (opening.py). The first segment and the rewritten one have the same name, so no reader of names
finds a hole or an overlap but where `state` says that there is one.

Rewritten is only what is closed and below the commit bound, so `state` that names a rewritten segment also has a bound
above it. The index is derived and its entries are checked against the headers, so it may follow whenever it can.
"""

from __future__ import annotations

from raftlog import limits
from raftlog.errors import DiskFullError, StorageError
from raftlog.storage.appender import Appender
from raftlog.storage.compaction import CLEANED, Compaction, DamagedError, Plan, Rewritten
from raftlog.storage.opening import put_in_place
from raftlog.storage.producer_recall import recall
from raftlog.storage.replica_state import ReplicaState
from raftlog.storage.scrubber import Scrubber
from raftlog.storage.segment import Segment
from raftlog.storage.segments import Segments
from raftlog.storage.state import CleanMark, Swap
from raftlog.types import CleanupPolicy


class Cleaner:
    """What compacts a log, a pass over its closed segments at a time, in slices. Nothing for another cleanup policy."""

    def __init__(self, segments: Segments, state: ReplicaState, appender: Appender, scrubber: Scrubber) -> None:
        self.passes = 0  # that came to their end since the start
        self._segments = segments
        self._state = state
        self._appender = appender
        self._scrubber = scrubber
        self._compaction: Compaction | None = None
        self._begin_from_ms = 0  # after a pass that found no room
        self._purge_offset = 0  # of the pass under way
        # On the disk `state` still names a segment that is in place, which harms nobody for a while.
        self._swap_named = False

    @property
    def is_compacting(self) -> bool:
        return self._compaction is not None

    def begin(self, held_index: int, now_ms: int) -> None:
        """Begins a pass where one is worth it. Every replica with records holds the log up to `held_index`."""
        segments, values = self._segments, self._state.values
        if CleanupPolicy.COMPACT not in segments.config.cleanup_policy:
            self.abandon()
            return
        if self._compaction is not None or self._scrubber.damage is not None or now_ms < self._begin_from_ms:
            return
        count = self._compactable()
        if self._swap_named and count:
            # Of a pass that did not come to its end: forgotten BEFORE a file has its name again.
            self._state.is_dirty = True
            self._swap_named = False
        if not count or self._state.is_dirty:
            return
        chosen, following = segments.in_order[:count], segments.in_order[count]
        end_offset, last_index = following.base_offset, following.first_index - 1
        purge_offset = self._ripe_offset(now_ms)
        purges = purge_offset and held_index >= last_index
        dirty = sum(segment.size for segment in chosen if segments.end_of(segment) > values.clean_offset)
        if dirty < limits.COMPACTION_DIRTY_RATIO * sum(segment.size for segment in chosen) and not purges:
            return
        producers, _ = recall(segments, last_index, now_ms)
        if not producers.complete:
            return  # something in front could not be read: which headers have to stay is not known
        self._remove_cleaned()
        self._purge_offset = purge_offset
        plan = Plan(
            segments=chosen,
            end_offset=end_offset,
            clean_offset=values.clean_offset,
            purge_offset=purge_offset,
            held_index=held_index,
            kept_indexes=frozenset(batch.raft_index for state in producers.states.values() for batch in state.batches),
            segment_bytes=segments.config.segment_bytes,
            keys_max=limits.COMPACTION_KEYS_MAX,
        )
        self._compaction = Compaction(plan, segments.disk, segments.epochs)

    def _compactable(self) -> int:
        """How many segments are closed, and committed and synced as a whole."""
        bound = min(self._state.commit_bound, self._state.synced_index)
        in_order = self._segments.in_order
        count = 0
        while count + 1 < len(in_order) and in_order[count + 1].first_index - 1 <= bound:
            if in_order[count].dirty:
                break
            count += 1
        return count

    def _ripe_offset(self, now_ms: int) -> int:
        """Tombstones in front of it have been kept for long enough; 0: there are none."""
        due_ms = now_ms - self._segments.config.delete_retention_ms
        return max((mark.offset for mark in self._state.values.clean_marks if mark.at_ms <= due_ms), default=0)

    def _remove_cleaned(self) -> None:
        """What passes without an end have left. Nothing in `state` names it."""
        assert not self._state.is_dirty
        disk, directory = self._segments.disk, self._segments.directory
        for name in disk.list(directory):
            if name.endswith(CLEANED):
                disk.remove(f"{directory}/{name}")

    def step(self, budget_bytes: int, now_ms: int) -> None:
        """One slice of the pass under way. Raises CorruptLogError, the log failed, for damage that can be refetched.

        A disk without room ends the pass, and another one is begun later.
        """
        compaction = self._compaction
        if compaction is None:
            return
        self._state.check_usable()
        if self._segments.in_order[: len(compaction.segments)] != compaction.segments:
            self.abandon()  # the head was deleted, or another generation begun
            return
        try:
            rewritten = compaction.step(budget_bytes)
            if rewritten is not None:
                self._swap(rewritten, compaction)
            if compaction.done:
                self._note_clean(compaction, now_ms)
                self._compaction = None
                self.passes += 1
        except DamagedError as damaged:
            self.abandon()
            self._scrubber.is_whole(damaged.segment)
        except DiskFullError:
            self.abandon()
            self._begin_from_ms = now_ms + int(limits.COMPACTION_RETRY_S * 1000)
        except StorageError as error:
            self._state.fail(error)
            raise

    def abandon(self) -> None:
        """Ends a pass that is under way. What it has put in place stays."""
        if self._compaction is not None:
            self._compaction.abandon()
            self._compaction = None

    def _swap(self, new: Rewritten, compaction: Compaction) -> None:
        """Raises DiskFullError with the log as it was, and the rewritten file left where it is."""
        segments, disk, directory = self._segments, self._segments.disk, self._segments.directory
        segments.fail_point("compact.written")
        new.file.sync()
        new.file.close()
        disk.sync_dir(directory)
        segments.fail_point("compact.durable")
        self._appender.commit_index()  # entries that are still in memory are replaced below
        first = new.sources[0]
        # Without room one copy may name the file. It is removed once `state` is written again without.
        with self._state.change() as values:
            values.swap = Swap(first.base_offset, first.first_index, new.end_offset, new.size_bytes)
            values.purged_index = max(values.purged_index, new.purged_index)
        segments.fail_point("compact.state-durable")
        segment = Segment(disk, directory, first.name, new.size_bytes, first.created_ms)
        segment.max_timestamp_ms = new.max_timestamp_ms
        try:
            disk.rename(new.path, first.path)
            segments.fail_point("compact.renamed")
            for source in new.sources:
                source.close()
            put_in_place(disk, directory, [source.path for source in new.sources[1:]])
        except StorageError as error:
            self._state.failed = error  # half in place: the next start does the rest
            raise
        segments.fail_point("compact.swapped")
        place = compaction.segments.index(first)
        compaction.segments[place : place + len(new.sources)] = [segment]
        segments.replace(new.sources, segment, new.end_offset, new.entries)
        values.swap = None
        self._swap_named = True

    def _note_clean(self, compaction: Compaction, now_ms: int) -> None:
        """Durable with the next write of `state`; a pass that is forgotten is only made again."""
        values = self._state.values
        marks = [mark for mark in values.clean_marks if mark.offset > self._purge_offset]
        if compaction.kept_ripe_tombstones:  # not held everywhere when the pass began
            marks.insert(0, CleanMark(self._purge_offset, 0))
        if compaction.kept_tombstones and (not marks or marks[-1].offset < compaction.clean_offset):
            marks.append(CleanMark(compaction.clean_offset, now_ms))
        if len(marks) > limits.CLEAN_MARKS_MAX:
            del marks[-2]  # what it spoke of waits for the last one
        if self._swap_named or (marks, compaction.clean_offset) != (values.clean_marks, values.clean_offset):
            values.clean_marks, values.clean_offset = marks, compaction.clean_offset
            self._state.is_dirty = True
            self._state.write()
            self._swap_named = False
