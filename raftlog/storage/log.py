"""The log of one replica: its segments, its index and its `state`, as one thing.

What is appended is in the page cache; `persist()` makes it durable, and nothing may be acknowledged, voted
or counted before it returned. The orders that make a power failure harmless, each tested with a crash at
every fail point:

    append          the segment's bytes, then its name in the directory; BEFORE `state` that relies on them
    a new epoch     the batches in front of it BEFORE `state`; `state` BEFORE the batches of that epoch
    a truncation    index BEFORE segments; whole segments, newest first, BEFORE the cut; the cut BEFORE `state`
    the head        the snapshot of producers there BEFORE `state` (log start, horizon) BEFORE segments are removed
    a reset         the new generation's directory BEFORE `state` that names it; `state` BEFORE the old one goes
    a compaction    the rewritten segment BEFORE `state` that names it; `state` BEFORE the old ones go    (cleaner.py)
    recovery        doubt and its reason in `state` BEFORE anything is cut        (opening.py)

DiskFullError leaves the log as it was. After any other StorageError the log has failed: what the disk holds
is not known any more, so every later write raises, and the worker ends.

Raft indexes: 1 is a sentinel of term 0 that is always there; the horizon is at least 2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

from raftlog.clock import Clock
from raftlog.errors import StorageError
from raftlog.limits import HEAD_SEGMENTS_MAX
from raftlog.storage.appender import Appender
from raftlog.storage.cleaner import Cleaner
from raftlog.storage.disk import Disk
from raftlog.storage.fail_points import FailPoint, no_fail_point
from raftlog.storage.index import IndexUsage, OffsetIndex
from raftlog.storage.opening import generation_directory, load_state, open_generation
from raftlog.storage.producer_recall import keep_snapshot_at, snapshot_at_horizon
from raftlog.storage.producers import Producers
from raftlog.storage.recovery import Findings
from raftlog.storage.replica_state import ReplicaState
from raftlog.storage.scrubber import Damage, Scrubber
from raftlog.storage.segments import Segments
from raftlog.storage.snapshots import Snapshots
from raftlog.storage.state import EpochStart, StateFile
from raftlog.storage.time_search import NewestSearch, TimeSearch
from raftlog.types import NEWEST_TIMESTAMP, NO_VOTERS, CleanupPolicy, Doubt, Flush, Half, TopicConfig


class PartitionLog:
    """The log of one replica that keeps records. Made by `open`; one per worker, used by one thread.

        state       what must never be forgotten: term, vote, doubt, bounds      replica_state.py
        segments    the records, and what leads to them                          segments.py
        appender    puts batches behind the end and makes them durable           appender.py
        scrubber    reads, and notes what is damaged                             scrubber.py
        cleaner     compacts                                                     cleaner.py

    What cuts it, at the end, at the head or as a whole, concerns all of them and is here.
    """

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
        remembered: Half = NO_VOTERS,
        fail_point: FailPoint = no_fail_point,
    ) -> Self:
        """Recovers what is there. `existed` = LOST_DISK when the node knows of a replica whose directory is empty.

        `remembered`: with whom it may have acknowledged then, as the metadata says.

        Raises InconsistentTopicIdError, CorruptLogError (no intact state), ConfigError (a newer format),
        DiskFullError (no room to write the doubt that recovery found; nothing was cut).
        """
        file = StateFile(disk, directory, fail_point)
        values = load_state(disk, directory, topic_id, existed, file, remembered)
        fail_point("open.state-created")
        entries = index(f"{directory}/index.lmdb")
        found = open_generation(disk, directory, values, file, entries, clock.wall_ms(), fail_point)
        state = ReplicaState(values, file)
        segments = Segments(
            disk=disk,
            directory=directory,
            state=state,
            config=config,
            flush=flush,
            index=entries,
            fail_point=fail_point,
        )
        log = cls(state, segments, clock, directory)
        log._go_on_from(found)
        return log

    def __init__(self, state: ReplicaState, segments: Segments, clock: Clock, directory: str) -> None:
        self.state = state
        self.segments = segments
        self.appender = appender = Appender(segments, state, clock)
        self.scrubber = scrubber = Scrubber(segments, state)
        self.cleaner = Cleaner(segments, state, appender, scrubber)
        self._clock = clock
        self._directory = directory
        # What is done for each batch and message goes to the parts without a call in between.
        self.append_epoch_start = appender.append_epoch_start
        self.append_configuration = appender.append_configuration
        self.append_as_leader = appender.append_as_leader
        self.append_as_follower = appender.append_as_follower
        self.append_compacted = appender.append_compacted
        self.persist = appender.persist
        self.read = scrubber.read
        self.locate = scrubber.locate
        self.skip_empty = scrubber.skip_empty
        self.read_entries = scrubber.read_entries
        self.verify_entries = scrubber.verify_entries
        self.verify_offset = scrubber.verify_offset
        self.begin_anew = scrubber.begin_anew

    def _go_on_from(self, found: Findings) -> None:
        self.segments.take_found(found.segments, found.unsynced, found.last_index, found.end_offset)
        self.appender.recall()
        self.persist()
        self.appender.commit_index()

    # --- what the log holds ----------------------------------------------------------------

    @property
    def last_index(self) -> int:
        return self.segments.last_index

    @property
    def last_term(self) -> int:
        return self.segments.last_term

    @property
    def log_end_offset(self) -> int:
        """Exclusive."""
        return self.segments.end_offset

    @property
    def synced_end_offset(self) -> int:
        return self.segments.synced_end_offset

    @property
    def producers(self) -> Producers:
        """As the log's end has them."""
        return self.appender.producers

    @property
    def damage(self) -> Damage | None:
        """Found, and nobody to refetch it from."""
        return self.scrubber.damage

    @property
    def epoch_starts(self) -> list[EpochStart]:
        return self.segments.epochs.starts

    @property
    def halves(self) -> tuple[Half, ...]:
        """Of the newest configuration of this log, committed or not; empty: the group is as it was founded."""
        return self.segments.epochs.halves

    def configuration_at(self, index: int) -> EpochStart | None:
        """The newest configuration at or below `index`; None: the group is as it was founded."""
        return self.segments.epochs.configuration_at(index)

    def configurations_in(self, first_index: int, end_index: int) -> list[EpochStart]:
        return self.segments.epochs.configurations_in(first_index, end_index)

    def epoch_starts_from(self, index: int) -> list[EpochStart]:
        return self.segments.epochs.from_index(index)

    @property
    def size_bytes(self) -> int:
        return self.segments.size_bytes

    @property
    def index_usage(self) -> IndexUsage:
        return self.segments.index.usage()

    @property
    def syncs(self) -> int:
        """fsync and fdatasync calls of this log's disk."""
        return self.segments.disk.syncs

    @property
    def active_base_offset(self) -> int:
        """Of the segment that grows."""
        in_order = self.segments.in_order
        return in_order[-1].base_offset if in_order else self.log_end_offset

    @property
    def segment_count(self) -> int:
        return len(self.segments.in_order)

    def epoch_of_offset(self, offset: int) -> int:
        """In which leader epoch the record at `offset` was written, or would be."""
        return self.segments.epochs.of_offset(offset)

    def epoch_before(self, epoch: int) -> tuple[int | None, int | None]:
        """The last leader epoch up to `epoch` that this log knows, and where the next one behind it begins; or None."""
        return self.segments.epochs.around(epoch)

    def term_at(self, index: int) -> int | None:
        """None outside [horizon_index - 1, last_index]."""
        if not self.state.values.horizon_index - 1 <= index <= self.segments.last_index:
            return None
        return self.segments.epochs.term_at(index)

    def first_index_of_term(self, index: int) -> int:
        """The first index whose term is that of `index`, not below the horizon."""
        return self.segments.epochs.first_index_of_term(index)

    def offset_after(self, index: int) -> int:
        """The offset of the first record behind entry `index`, which lies in [horizon_index - 1, last_index]."""
        segments, values = self.segments, self.state.values
        if index == segments.last_index:
            return segments.end_offset
        assert index < segments.last_index
        if index < values.horizon_index:
            return values.horizon_offset
        run = segments.tail.find(index)
        if run is not None:
            return run.offset_after(index - run.first_index)
        if segments.epochs.is_start(index):
            return segments.epochs.start_at(index).base_offset
        return self.scrubber.batch_end(index)

    def search_time(self, timestamp_ms: int) -> TimeSearch | NewestSearch:
        """For the first record that is not older than timestamp_ms; NEWEST_TIMESTAMP: for the newest one."""
        lookup = self.segments.lookup
        return NewestSearch(lookup) if timestamp_ms == NEWEST_TIMESTAMP else TimeSearch(lookup, timestamp_ms)

    def snapshot_at_horizon(self) -> bytes:
        """What was known of producers there; for a follower that begins there."""
        return snapshot_at_horizon(self.segments, self.state.values)

    # --- cutting ---------------------------------------------------------------------------

    def truncate_from(self, index: int) -> None:
        """Drops `index` and everything behind it, durably. Nothing to do above the end.

        At or below the commit bound it raises CorruptLogError and the log has failed: what was committed
        is not another leader's to take back.
        """
        state, segments = self.state, self.segments
        state.check_usable()
        if index > segments.last_index:
            return
        state.check_may_cut(index)
        self.cleaner.abandon()  # BEFORE a segment that it rewrites may be the active one again
        end_offset = self.offset_after(index - 1)
        batch_index = segments.epochs.next_batch_index(index)
        place = segments.place_to_cut(batch_index) if batch_index <= segments.last_index else None
        # Index and snapshots BEFORE the segments, or they would speak of batches that are gone.
        segments.snapshots.remove_outside(state.horizon_index, index - 1)
        segments.fail_point("truncate.snapshots-removed")
        segments.index.truncate(end_offset)
        segments.tail.truncate(index)
        segments.lookup.forget()
        segments.fail_point("truncate.index-cut")
        try:
            if place is not None:
                segments.cut(place, end_offset)
            segments.fail_point("truncate.data-durable")
            # The cut BEFORE `state`: an epoch start without its batches is dropped at recovery, but
            # batches without their epoch start could not be told from a healthy older epoch's.
            state.values.epoch_starts = segments.epochs.below(index)
            state.values.truncations += 1
            state.is_dirty = True
            segments.end_at(index - 1, end_offset)
            if self.producers.last_index >= index:
                self.appender.recall()
        except StorageError as error:
            # Half a truncation in memory is no log to go on with; the disk is recovered at the next start.
            state.failed = error
            raise
        self.persist()

    def delete_head(self, log_start_offset: int, committed_index: int = 2**62) -> None:
        """Moves the log start up to there, and removes the segments that lie below it as a whole; never the active one.

        It may lie inside a segment, or a batch; a segment below it that was active then, or one too many for a turn,
        goes at the next call. What is committed is for the caller to know; an epoch start behind it, which has no
        offset of its own, keeps the segment in front of it. Nothing below the synced end is needed for it.
        """
        state, segments, in_order = self.state, self.segments, self.segments.in_order
        state.check_usable()
        log_start_offset = max(min(log_start_offset, segments.synced_end_offset), state.log_start_offset)
        count = 0  # of the segments that go
        while (
            count + 1 < min(len(in_order), HEAD_SEGMENTS_MAX)
            and in_order[count + 1].base_offset <= log_start_offset
            and in_order[count + 1].first_index <= committed_index + 1
        ):
            count += 1
        if not count and log_start_offset == state.log_start_offset:
            return
        first = in_order[count] if count else None
        if first is not None:
            keep_snapshot_at(segments, first, self._clock.wall_ms())
        # `state` BEFORE the segments go: a log that begins above its horizon would look damaged.
        with state.change() as values:
            values.log_start_offset = log_start_offset
            if first is not None:
                values.horizon_index, values.horizon_offset = first.first_index, first.base_offset
                values.horizon_prev_term = segments.epochs.term_at(first.first_index - 1)
                # What holds at the horizon stays, or a follower that begins there would not know who votes.
                values.horizon_configuration = segments.epochs.configuration_at(first.first_index - 1)
                values.epoch_starts = segments.epochs.from_index(first.first_index)
        segments.fail_point("head.state-durable")
        if count:
            segments.remove_head(count)

    def reset_to(
        self,
        horizon_index: int,
        prev_term: int,
        base_offset: int,
        producers: Producers,
        configuration: EpochStart | None = None,
    ) -> None:
        """Begins anew, empty, behind Raft index horizon_index - 1 of prev_term, in a new generation directory.

        `producers` are what was known of them there, `configuration` is the newest one in front of it.
        Raises CorruptLogError, and fails the log, when what is committed here says otherwise.
        """
        state, segments, disk = self.state, self.segments, self.segments.disk
        state.check_usable()
        state.check_may_reset(horizon_index, prev_term, self.term_at(horizon_index - 1))
        self.cleaner.abandon()
        generation = state.values.generation + 1
        new_directory = generation_directory(self._directory, generation)
        if disk.exists(new_directory):
            disk.remove_tree(new_directory)  # of a reset that a crash ended before it was told
        # The directory BEFORE `state` that names it, `state` BEFORE the old one goes.
        disk.make_dir(new_directory)
        segments.fail_point("reset.generation-made")
        snapshots = Snapshots(disk, new_directory, segments.fail_point)
        snapshots.sync(snapshots.write(horizon_index - 1, prev_term, base_offset, producers))
        segments.fail_point("reset.snapshot-durable")
        segments.index.clear()
        with state.change() as values:
            values.generation = generation
            values.horizon_index, values.horizon_prev_term = horizon_index, prev_term
            values.horizon_offset = values.log_start_offset = base_offset
            values.epoch_starts, values.horizon_configuration = [], configuration
            values.clean_offset, values.clean_marks = base_offset, []
        segments.fail_point("reset.state-durable")
        segments.begin_generation()
        self.appender.begin_generation(producers)
        segments.remove_old_generations()
        segments.fail_point("reset.old-removed")

    # --- housekeeping ----------------------------------------------------------------------

    def retention_start(self, now_ms: int) -> int:
        """The log start that the topic's retention allows: that of the first segment to keep."""
        config, in_order = self.segments.config, self.segments.in_order
        start = self.state.log_start_offset
        if CleanupPolicy.DELETE not in config.cleanup_policy:
            return start
        size = self.size_bytes
        for number, segment in enumerate(in_order[:-1]):
            too_old = config.retention_ms >= 0 and now_ms - self._newest_ms(number, now_ms) > config.retention_ms
            too_large = config.retention_bytes >= 0 and size - segment.size >= config.retention_bytes
            if not (too_old or too_large):
                break
            size -= segment.size
            start = max(start, in_order[number + 1].base_offset)
        return start

    def _newest_ms(self, number: int, now_ms: int) -> int:
        """When the newest record of a closed segment was made; when it was written, where its time cannot be right.

        That is one of the future, or none (-1): it must neither keep the segment nor give it away (KIP-937).
        """
        newest_ms = self.segments.lookup.max_timestamp_ms(number)
        if 0 <= newest_ms <= now_ms:
            return newest_ms
        return self.segments.disk.modified_ms(self.segments.in_order[number].path)

    def set_config(self, config: TopicConfig) -> None:
        self.segments.config = config

    def close(self) -> None:
        """Persists everything, whatever `flush` says, unless the log has failed. Idempotent."""
        if self.state.failed is None:
            self.cleaner.abandon()
            self.segments.sync(also_active=True)
            self.persist()
            self.state.write_commit_bound()
            self.appender.write_snapshot()
            self.appender.commit_index()
        self.segments.close()
