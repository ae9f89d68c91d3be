"""What a replica does beside its turn: the commit bound within a second, the roll by age, retention, the scrub."""

from __future__ import annotations

from raftlog import limits
from raftlog.clock import NEVER_S, Clock
from raftlog.consensus.member import RaftMember
from raftlog.errors import DiskFullError
from raftlog.storage.log import PartitionLog

REST_S = 0.001  # between two turns, where something is overdue that could not be done


class Housekeeping:
    def __init__(self, log: PartitionLog, member: RaftMember, clock: Clock) -> None:
        self._log = log
        self._member = member
        self._clock = clock
        self._bound_due_s = 0.0
        self._bound_written = 0
        self._look_due_s = 0.0
        self._compact_due_s = 0.0
        self._scrub_due_s = 0.0

    def next_due_s(self, now_s: float) -> float:
        """When the commit bound has to be written, or a compaction goes on; never, while there is nothing to do."""
        due_s = self._compact_due_s if self._log.cleaner.is_compacting else NEVER_S
        if self._bound() != self._bound_written:
            due_s = min(due_s, self._bound_due_s)
        return max(due_s, now_s + REST_S)

    def is_due(self, now_s: float) -> bool:
        """Whether `keep` has something to do. (A look at ages wakes nobody: it waits for the next turn.)"""
        bound_due = now_s >= self._bound_due_s and self._bound() != self._bound_written
        compact_due = now_s >= self._compact_due_s and self._log.cleaner.is_compacting
        return bound_due or compact_due or now_s >= self._look_due_s

    def keep(self, now_s: float, *, leading: bool) -> None:
        """Raises DiskFullError when the bound could not be written; it is tried again. CorruptLogError: log.scrub."""
        if now_s >= self._look_due_s:
            self._look_due_s = now_s + limits.HOUSE_S
            self._look(now_s, self._clock.wall_ms(), leading=leading)
        if self._log.cleaner.is_compacting and now_s >= self._compact_due_s:
            self._compact_due_s = now_s + limits.COMPACTION_S
            self._log.cleaner.step(limits.COMPACTION_SLICE_BYTES, self._clock.wall_ms())
        self._write_bound_when_due(now_s)

    def _look(self, now_s: float, now_ms: int, *, leading: bool) -> None:
        """At what has become old, at a piece of the log as it lies on the disk, and for a compaction to begin."""
        self._log.appender.roll_when_old(now_ms)
        self._log.producers.expire(now_ms)
        if leading:
            start = self._log.retention_start(now_ms)
            if start > self._log.state.log_start_offset:
                self._member.stir(now_s)  # a sleeping group wakes, and all hear of it
                self._member.delete_head(start)
        self._member.delete_head(self._log.state.log_start_offset)  # what DeleteRecords left, once it is closed
        if now_s >= self._scrub_due_s:
            self._scrub_due_s = now_s + limits.SCRUB_S
            self._log.scrubber.scrub(limits.SCRUB_BYTES)
        self._log.cleaner.begin(self._member.held_index, now_ms)

    def _write_bound_when_due(self, now_s: float) -> None:
        bound = self._bound()
        if bound == self._bound_written:
            self._bound_due_s = now_s + limits.COMMIT_BOUND_S
        elif now_s >= self._bound_due_s:
            self._bound_due_s = now_s + limits.COMMIT_BOUND_S
            try:
                self._log.state.write_commit_bound()
            except DiskFullError:
                self._bound_due_s = now_s + limits.DISK_RETRY_S
                raise
            self._bound_written = bound

    def _bound(self) -> int:
        return min(self._member.commit_index, self._log.state.synced_index)
