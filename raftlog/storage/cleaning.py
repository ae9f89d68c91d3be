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
from raftlog.storage.checked import CheckedLog
from raftlog.storage.compaction import CLEANED, Compaction, DamagedError, Plan, Rewritten
from raftlog.storage.opening import put_in_place
from raftlog.storage.segment import Segment
from raftlog.storage.state import CleanMark, Swap
from raftlog.types import CleanupPolicy


class CleaningLog(CheckedLog):
    compactions = 0  # passes that came to their end since the start
    _compaction: Compaction | None = None
    _compact_from_ms = 0  # after a pass that found no room
    _purge_offset = 0  # of the pass under way
    _swap_named = False  # on the disk `state` still names a segment that is in place, which harms nobody for a while

    @property
    def is_compacting(self) -> bool:
        return self._compaction is not None

    def begin_compaction(self, held_index: int, now_ms: int) -> None:
        """Begins a pass where one is worth it. Every replica with records holds the log up to `held_index`."""
        if CleanupPolicy.COMPACT not in self._config.cleanup_policy:
            self.abandon_compaction()
            return
        if self._compaction is not None or self.damage is not None or now_ms < self._compact_from_ms:
            return
        count = self._compactable()
        if self._swap_named and count:
            self._state_dirty = (
                True  # of a pass that did not come to its end: forgotten BEFORE a file has its name again
            )
            self._swap_named = False
        if not count or self._state_dirty:
            return
        segments = self._segments[:count]
        end_offset, last_index = self._segments[count].base_offset, self._segments[count].first_index - 1
        purge_offset = self._ripe_offset(now_ms)
        dirty = sum(
            segment.size for segment, following in zip(segments, self._segments[1:], strict=False)
            if following.base_offset > self._state.clean_offset
        )  # fmt: skip
        if dirty < limits.COMPACTION_DIRTY_RATIO * sum(segment.size for segment in segments) and not (
            purge_offset and held_index >= last_index
        ):
            return
        producers, _ = self._recall_up_to(last_index)
        if not producers.complete:
            return  # something in front could not be read: which headers have to stay is not known
        kept = frozenset(batch.raft_index for state in producers.states.values() for batch in state.batches)
        self._remove_cleaned()
        self._purge_offset = purge_offset
        plan = Plan(
            segments, end_offset, self._state.clean_offset, purge_offset, held_index, kept,
            self._config.segment_bytes, limits.COMPACTION_KEYS_MAX,
        )  # fmt: skip
        self._compaction = Compaction(plan, self._disk, self._epochs)

    def _compactable(self) -> int:
        """How many segments are closed, and committed and synced as a whole."""
        bound = min(self._bound, self.synced_index)
        count = 0
        while count + 1 < len(self._segments) and self._segments[count + 1].first_index - 1 <= bound:
            if self._segments[count].dirty:
                break
            count += 1
        return count

    def _ripe_offset(self, now_ms: int) -> int:
        """Tombstones in front of it have been kept for long enough; 0: there are none."""
        due_ms = now_ms - self._config.delete_retention_ms
        return max((mark.offset for mark in self._state.clean_marks if mark.at_ms <= due_ms), default=0)

    def _remove_cleaned(self) -> None:
        """What passes without an end have left. Nothing in `state` names it."""
        assert not self._state_dirty
        for name in self._disk.list(self._log_directory):
            if name.endswith(CLEANED):
                self._disk.remove(f"{self._log_directory}/{name}")

    def compact(self, budget_bytes: int, now_ms: int) -> None:
        """One slice of the pass under way. Raises CorruptLogError, the log failed, for damage that can be refetched.

        A disk without room ends the pass, and another one is begun later.
        """
        compaction = self._compaction
        if compaction is None:
            return
        self._check_usable()
        if self._segments[: len(compaction.segments)] != compaction.segments:
            self.abandon_compaction()  # the head was deleted, or another generation begun
            return
        try:
            rewritten = compaction.step(budget_bytes)
            if rewritten is not None:
                self._swap(rewritten, compaction)
            if compaction.done:
                self._note_clean(compaction, now_ms)
                self._compaction = None
                self.compactions += 1
        except DamagedError as damaged:
            self.abandon_compaction()
            self._is_whole(damaged.segment)
        except DiskFullError:
            self.abandon_compaction()
            self._compact_from_ms = now_ms + int(limits.COMPACTION_RETRY_S * 1000)
        except StorageError as error:
            self._fail(error)
            raise

    def abandon_compaction(self) -> None:
        """Ends a pass that is under way. What it has put in place stays."""
        if self._compaction is not None:
            self._compaction.abandon()
            self._compaction = None

    def _swap(self, new: Rewritten, compaction: Compaction) -> None:
        """Raises DiskFullError with the log as it was, and the rewritten file left where it is."""
        self._fail_point("compact.written")
        new.file.sync()
        new.file.close()
        self._disk.sync_dir(self._log_directory)
        self._fail_point("compact.durable")
        self._commit_index()  # entries that are still in memory are replaced below
        first, state = new.sources[0], self._state
        before = state.purged_index
        state.swap = swap = Swap(first.base_offset, first.first_index, new.end_offset, new.size_bytes)
        state.purged_index = max(before, new.purged_index)
        try:
            self._write_state()
        except DiskFullError:
            # One copy may name the file. It is removed once `state` is written again without.
            state.swap, state.purged_index = None, before
            raise
        self._fail_point("compact.state-durable")
        segment = Segment(self._disk, self._log_directory, first.name, new.size_bytes, first.created_ms)
        segment.max_timestamp_ms = new.max_timestamp_ms
        try:
            self._disk.rename(new.path, first.path)
            self._fail_point("compact.renamed")
            for source in new.sources:
                source.close()
            put_in_place(self._disk, self._log_directory, [source.path for source in new.sources[1:]])
        except StorageError as error:
            self.failed = error  # half in place: the next start does the rest
            raise
        self._fail_point("compact.swapped")
        count = len(new.sources)
        place = self._segments.index(first)
        self._segments[place : place + count] = compaction.segments[place : place + count] = [segment]
        self._index.replace(swap.base_offset, swap.end_offset, new.entries)
        self._tail.delete_head(self._segments[place + 1].first_index)
        self._lookup.forget()
        self.swaps += 1
        state.swap = None
        self._swap_named = True

    def _note_clean(self, compaction: Compaction, now_ms: int) -> None:
        """Durable with the next write of `state`; a pass that is forgotten is only made again."""
        state = self._state
        marks = [mark for mark in state.clean_marks if mark.offset > self._purge_offset]
        if compaction.kept_ripe_tombstones:  # not held everywhere when the pass began
            marks.insert(0, CleanMark(self._purge_offset, 0))
        if compaction.kept_tombstones and (not marks or marks[-1].offset < compaction.clean_offset):
            marks.append(CleanMark(compaction.clean_offset, now_ms))
        if len(marks) > limits.CLEAN_MARKS_MAX:
            del marks[-2]  # what it spoke of waits for the last one
        if self._swap_named or (marks, compaction.clean_offset) != (state.clean_marks, state.clean_offset):
            state.clean_marks, state.clean_offset = marks, compaction.clean_offset
            self._state_dirty = True
            self._write_state()
            self._swap_named = False
