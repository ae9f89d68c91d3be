"""The log of one replica: its segments, its index and its `state`, as one thing.

What is appended is in the page cache; `persist()` makes it durable, and nothing may be acknowledged, voted
or counted before it returned. The orders that make a power failure harmless, each tested with a crash at
every fail point:

    append          the segment's bytes, then its name in the directory; BEFORE `state` that relies on them
    a new epoch     the batches in front of it BEFORE `state`; `state` BEFORE the batches of that epoch
    a truncation    index BEFORE segments; whole segments, newest first, BEFORE the cut; the cut BEFORE `state`
    the head        the snapshot of producers there BEFORE `state` (log start, horizon) BEFORE segments are removed
    a reset         the new generation's directory BEFORE `state` that names it; `state` BEFORE the old one goes
    a compaction    the rewritten segment BEFORE `state` that names it; `state` BEFORE the old ones go    (cleaning.py)
    recovery        doubt and its reason in `state` BEFORE anything is cut        (opening.py)

DiskFullError leaves the log as it was. After any other StorageError the log has failed: what the disk holds
is not known any more, so every later write raises, and the worker ends.

Raft indexes: 1 is a sentinel of term 0 that is always there; the horizon is at least 2.
Here are opening and cutting; checked.py reads, appending.py appends, hard_state.py holds term, vote and doubt.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

from raftlog.clock import Clock
from raftlog.errors import CorruptLogError, DiskFullError, StorageError
from raftlog.limits import HEAD_SEGMENTS_MAX
from raftlog.storage.cleaning import CleaningLog
from raftlog.storage.disk import Disk
from raftlog.storage.fail_points import FailPoint, no_fail_point
from raftlog.storage.index import OffsetIndex
from raftlog.storage.lookup import Place
from raftlog.storage.opening import (
    generation_directory,
    load_state,
    open_generation,
    remove_generations_but,
)
from raftlog.storage.producers import Producers
from raftlog.storage.segment import Segment
from raftlog.storage.state import EpochStart, StateFile
from raftlog.storage.time_search import TimeSearch
from raftlog.types import CleanupPolicy, Doubt, Flush, TopicConfig


class PartitionLog(CleaningLog):
    """Made by `open`. One per worker, used by one thread."""

    @classmethod
    def open(
        cls,
        *,
        disk: Disk,
        directory: str,
        topic_id: bytes,
        config: TopicConfig,
        flush: Flush,
        clock: Clock,
        index: Callable[[str], OffsetIndex],
        existed: Doubt = Doubt.NONE,
        fail_point: FailPoint = no_fail_point,
    ) -> Self:
        """Recovers what is there. `existed` = LOST_DISK when the node knows of a replica whose directory is empty.

        Raises InconsistentTopicIdError, CorruptLogError (no intact state), ConfigError (a newer format),
        DiskFullError (no room to write the doubt that recovery found; nothing was cut).
        """
        state_file = StateFile(disk, directory, fail_point)
        state = load_state(disk, directory, topic_id, existed, state_file)
        fail_point("open.state-created")
        log = cls(
            disk=disk,
            directory=directory,
            config=config,
            flush=flush,
            clock=clock,
            index=index(f"{directory}/index.lmdb"),
            state=state,
            state_file=state_file,
            fail_point=fail_point,
        )
        log._recover()
        return log

    def _recover(self) -> None:
        found = open_generation(
            self._disk,
            self._directory,
            self._state,
            self._state_file,
            self._index,
            self._clock.wall_ms(),
            self._fail_point,
        )
        self._begin_generation()
        self._segments.extend(found.segments)
        self.last_index = found.last_index
        self.log_end_offset = found.end_offset
        self.last_term = self._epochs.term_at(self.last_index)
        # What a killed process had written is read like the rest, and answered for: it has to be durable
        # first. The index commits only what is synced, so these are the segments from its last entry on.
        for segment in found.unsynced:
            segment.dirty = True
            self._dirty.append(segment)
        self._names_dirty = bool(self._dirty)
        if self._segments:
            self._indexed_position = self._segments[-1].size
        self._recall()
        self.persist()
        self._commit_index()

    # --- what the log holds ----------------------------------------------------------------

    @property
    def epoch_starts(self) -> list[EpochStart]:
        return self._epochs.starts

    def epoch_starts_from(self, index: int) -> list[EpochStart]:
        return self._epochs.from_index(index)

    @property
    def size_bytes(self) -> int:
        return sum(segment.size for segment in self._segments)

    @property
    def syncs(self) -> int:
        """fsync and fdatasync calls of this log's disk."""
        return self._disk.syncs

    @property
    def active_base_offset(self) -> int:
        """Of the segment that grows."""
        return self._segments[-1].base_offset if self._segments else self.log_end_offset

    @property
    def segment_count(self) -> int:
        return len(self._segments)

    @property
    def tail_cache_bytes(self) -> int:
        return self._tail.max_bytes

    @tail_cache_bytes.setter
    def tail_cache_bytes(self, value: int) -> None:
        self._tail.max_bytes = value

    def term_at(self, index: int) -> int | None:
        """None outside [horizon_index - 1, last_index]."""
        if not self._state.horizon_index - 1 <= index <= self.last_index:
            return None
        return self._epochs.term_at(index)

    def first_index_of_term(self, index: int) -> int:
        """The first index whose term is that of `index`, not below the horizon."""
        return self._epochs.first_index_of_term(index)

    def offset_after(self, index: int) -> int:
        """The offset of the first record behind entry `index`, which lies in [horizon_index - 1, last_index]."""
        if index == self.last_index:
            return self.log_end_offset
        assert index < self.last_index
        if index < self._state.horizon_index:
            return self._state.horizon_offset
        run = self._tail.find(index)
        if run is not None:
            return run.offset_after(index - run.first_index)
        if self._epochs.is_start(index):
            return self._epochs.start_at(index).base_offset
        return self._batch_end(index)

    def search_time(self, timestamp_ms: int) -> TimeSearch:
        """For the first record that is not older than timestamp_ms."""
        return TimeSearch(self._lookup, timestamp_ms)

    # --- cutting ---------------------------------------------------------------------------

    def truncate_from(self, index: int) -> None:
        """Drops `index` and everything behind it, durably. Nothing to do above the end.

        At or below the commit bound it raises CorruptLogError and the log has failed: what was committed
        is not another leader's to take back.
        """
        self._check_usable()
        if index > self.last_index:
            return
        self._check_may_cut(index)
        self.abandon_compaction()  # BEFORE a segment that it rewrites may be the active one again
        end_offset = self.offset_after(index - 1)
        batch_index = self._epochs.next_batch_index(index)
        place = self._place_to_cut(batch_index) if batch_index <= self.last_index else None
        # Index and snapshots BEFORE the segments, or they would speak of batches that are gone.
        self._snapshots.remove_outside(self._state.horizon_index, index - 1)
        self._fail_point("truncate.snapshots-removed")
        self._index.truncate(end_offset)
        self._tail.truncate(index)
        self._lookup.forget()
        self._fail_point("truncate.index-cut")
        try:
            if place is not None:
                self._cut_segments(place)
            self._fail_point("truncate.data-durable")
            # The cut BEFORE `state`: an epoch start without its batches is dropped at recovery, but
            # batches without their epoch start could not be told from a healthy older epoch's.
            self._state.epoch_starts = self._epochs.below(index)
            self._state.truncations += 1
            self._epochs = self._lookup.epochs = type(self._epochs)(self._state)
            self.last_index = index - 1
            self.log_end_offset = end_offset
            self.last_term = self._epochs.term_at(self.last_index)
            self._durable_end_offset = min(self._durable_end_offset, end_offset)
            self._state_dirty = True
            if self.producers.last_index >= index:
                self._recall()
        except StorageError as error:
            # Half a truncation in memory is no log to go on with; the disk is recovered at the next start.
            self.failed = error
            raise
        self.persist()

    def _place_to_cut(self, index: int) -> Place:
        place, first_index = self._lookup.of_index(index)
        if first_index != index:
            self._fail(error := CorruptLogError(f"asked to cut Raft index {index}, within what was compacted"))
            raise error
        return place

    def _cut_segments(self, place: Place) -> None:
        """Ends the log at `place`. Newest first, so that what a crash leaves has no hole."""
        keep = place.segment if place.position > 0 else None
        removed = False
        while self._segments and self._segments[-1] is not keep:
            segment = self._segments[-1]
            last = segment is place.segment
            self._segments.pop()
            self._drop(segment)
            removed = True
            if last:
                break
        if removed:
            self._disk.sync_dir(self._log_directory)
            self._fail_point("truncate.segments-removed")
        if keep is not None:
            keep.file.truncate(place.position)
            self._fail_point("truncate.tail-cut")
            keep.file.sync()
            keep.size = place.position
            keep.max_timestamp_ms = -1  # worked out again when somebody asks
        if self._segments:
            self._indexed_position = self._segments[-1].size

    def _drop(self, segment: Segment) -> None:
        if segment in self._dirty:
            self._dirty.remove(segment)
        segment.close()
        self._disk.remove(segment.path)

    def delete_head(self, log_start_offset: int, committed_index: int = 2**62) -> None:
        """Moves the log start up to there, and removes the segments that lie below it as a whole; never the active one.

        It may lie inside a segment, or a batch; a segment below it that was active then, or one too many for a turn,
        goes at the next call. What is committed is for the caller to know; an epoch start behind it, which has no
        offset of its own, keeps the segment in front of it. Nothing below the synced end is needed for it.
        """
        self._check_usable()
        log_start_offset = max(min(log_start_offset, self.synced_end_offset), self._state.log_start_offset)
        count = 0  # of the segments that go
        while (
            count + 1 < min(len(self._segments), HEAD_SEGMENTS_MAX)
            and self._segments[count + 1].base_offset <= log_start_offset
            and self._segments[count + 1].first_index <= committed_index + 1
        ):
            count += 1
        if not count and log_start_offset == self._state.log_start_offset:
            return
        if count:
            self._keep_snapshot_at(self._segments[count])
        state = self._state
        before = (state.horizon_index, state.horizon_prev_term, state.horizon_offset, state.epoch_starts)
        old_start, state.log_start_offset = state.log_start_offset, log_start_offset
        if count:
            first = self._segments[count]
            state.horizon_prev_term = self._epochs.term_at(first.first_index - 1)
            state.horizon_index = first.first_index
            state.horizon_offset = first.base_offset
            state.epoch_starts = self._epochs.from_index(first.first_index)
        try:
            # `state` BEFORE the segments go: a log that begins above its horizon would look damaged.
            self._write_state()
        except DiskFullError:
            state.log_start_offset = old_start
            state.horizon_index, state.horizon_prev_term, state.horizon_offset, state.epoch_starts = before
            raise
        self._fail_point("head.state-durable")
        if count:
            self._remove_head(count)

    def _remove_head(self, count: int) -> None:
        self._epochs = self._lookup.epochs = type(self._epochs)(self._state)
        self._index.delete_head(self._state.horizon_offset)
        self._tail.delete_head(self._state.horizon_index)
        self._lookup.forget()
        try:
            for segment in self._segments[:count]:
                self._drop(segment)
            del self._segments[:count]
            self._snapshots.remove_outside(self._state.horizon_index, self.last_index)
            self._fail_point("head.segments-removed")
            self._disk.sync_dir(self._log_directory)
        except StorageError as error:
            self.failed = error
            raise

    def reset_to(self, horizon_index: int, prev_term: int, base_offset: int, producers: Producers) -> None:
        """Begins anew, empty, behind Raft index horizon_index - 1 of prev_term, in a new generation directory.

        `producers` are what was known of them there.
        Raises CorruptLogError, and fails the log, when what is committed here says otherwise.
        """
        self._check_usable()
        self._check_may_reset(horizon_index, prev_term, self.term_at(horizon_index - 1))
        self.abandon_compaction()
        state = self._state
        generation = state.generation + 1
        new_directory = generation_directory(self._directory, generation)
        if self._disk.exists(new_directory):
            self._disk.remove_tree(new_directory)  # of a reset that a crash ended before it was told
        # The directory BEFORE `state` that names it, `state` BEFORE the old one goes.
        self._disk.make_dir(new_directory)
        self._fail_point("reset.generation-made")
        self._keep_snapshot_in(new_directory, horizon_index - 1, prev_term, base_offset, producers)
        self._index.clear()
        old = (state.generation, state.horizon_index, state.horizon_prev_term, state.horizon_offset)
        old_start, old_epochs = state.log_start_offset, state.epoch_starts
        state.generation = generation
        state.horizon_index, state.horizon_prev_term, state.horizon_offset = horizon_index, prev_term, base_offset
        state.log_start_offset, state.epoch_starts = base_offset, []
        old_clean, state.clean_offset, state.clean_marks = (state.clean_offset, state.clean_marks), base_offset, []
        try:
            self._write_state()
        except DiskFullError:
            state.generation, state.horizon_index, state.horizon_prev_term, state.horizon_offset = old
            state.log_start_offset, state.epoch_starts = old_start, old_epochs
            state.clean_offset, state.clean_marks = old_clean
            raise
        self._fail_point("reset.state-durable")
        for segment in self._segments:
            segment.close()
        self._begin_generation()
        self.producers = producers
        remove_generations_but(self._disk, self._directory, state)
        self._fail_point("reset.old-removed")

    # --- housekeeping ----------------------------------------------------------------------

    def retention_start(self, now_ms: int) -> int:
        """The log start that the topic's retention allows: that of the first segment to keep."""
        config = self._config
        start = self._state.log_start_offset
        if CleanupPolicy.DELETE not in config.cleanup_policy:
            return start
        size = self.size_bytes
        for number, segment in enumerate(self._segments[:-1]):
            too_old = config.retention_ms >= 0 and now_ms - self._newest_ms(number, now_ms) > config.retention_ms
            too_large = config.retention_bytes >= 0 and size - segment.size >= config.retention_bytes
            if not (too_old or too_large):
                break
            size -= segment.size
            start = max(start, self._segments[number + 1].base_offset)
        return start

    def _newest_ms(self, number: int, now_ms: int) -> int:
        """When the newest record of a closed segment was made; when it was written, where its time cannot be right.

        That is one of the future, or none (-1): it must neither keep the segment nor give it away (KIP-937).
        """
        newest_ms = self._lookup.max_timestamp_ms(number)
        if 0 <= newest_ms <= now_ms:
            return newest_ms
        return self._disk.modified_ms(self._segments[number].path)

    def maybe_roll(self, now_ms: int) -> None:
        """The next append goes to a new segment when the active one is older than segment_ms."""
        if self._segments and now_ms - self._segments[-1].created_ms >= self._config.segment_ms:
            self._roll_next = True

    def set_config(self, config: TopicConfig) -> None:
        self._config = config

    def close(self) -> None:
        """Persists everything, whatever `flush` says, unless the log has failed. Idempotent."""
        if self.failed is None:
            self.abandon_compaction()
            self._sync_segments(also_active=True)
            self.persist()
            self.write_commit_bound()
            self._write_snapshot()
            self._commit_index()
        self._index.close()
        for segment in self._segments:
            segment.close()
