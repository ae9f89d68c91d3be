"""The log of a witness: the (index, term) of each entry and not one record, all of it in `state`.

    epoch starts   [(term, first index of that term)] and configurations, as a log of records has them
    last index     how far the last of them reaches

Entries of one term have consecutive indexes, so a term costs a few bytes however many entries it has. What was
appended or truncated is in memory until `persist()` writes both copies of `state`, each replaced whole: a crash
finds all of a turn's change or none, so a tail can neither be torn nor shorter than its commit bound. What is left to
doubt is a lost directory. The order is that of any log: `persist()` BEFORE an answer or a vote that relies on it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Self

from raftlog.limits import WITNESS_EPOCHS_MAX
from raftlog.storage.disk import Disk
from raftlog.storage.epochs import Epochs
from raftlog.storage.fail_points import FailPoint, no_fail_point
from raftlog.storage.opening import load_state
from raftlog.storage.producers import Producers
from raftlog.storage.replica_state import ReplicaState
from raftlog.storage.state import EpochStart, StateFile
from raftlog.types import NO_VOTERS, Doubt, Half

_NO_OFFSET = -1  # a witness knows no offsets
_NONE: Mapping[int, tuple[Half, ...]] = {}


class WitnessLog:
    """The log of a witness: of each entry where its term begins, in `state`. Made by `open`, used by one thread.

    Its methods are those of PartitionLog that a voter needs.
    """

    @classmethod
    def open(
        cls,
        *,
        disk: Disk,
        directory: str,
        topic_id: bytes,
        existed: Doubt = Doubt.NONE,
        remembered: Half = NO_VOTERS,
        fail_point: FailPoint = no_fail_point,
    ) -> Self:
        """`existed` = LOST_DISK when the node knows of a witness whose directory is empty; see PartitionLog.open.

        Raises InconsistentTopicIdError, CorruptLogError (no intact state), ConfigError (a newer format), DiskFullError.
        """
        file = StateFile(disk, directory, fail_point)
        values = load_state(disk, directory, topic_id, existed, file, remembered)
        fail_point("open.state-created")
        return cls(disk, ReplicaState(values, file))

    def __init__(self, disk: Disk, state: ReplicaState) -> None:
        self.state = state
        self._disk = disk
        self._epochs = Epochs(state.values)
        self.last_term = self._epochs.term_at(state.values.last_index)
        state.synced_index = state.values.last_index

    # --- what the log holds ----------------------------------------------------------------

    @property
    def last_index(self) -> int:
        return self.state.values.last_index

    @property
    def epoch_starts(self) -> list[EpochStart]:
        return self._epochs.starts

    @property
    def halves(self) -> tuple[Half, ...]:
        """Of the newest configuration of this log, committed or not; empty: the group is as it was founded."""
        return self._epochs.halves

    def configuration_at(self, index: int) -> EpochStart | None:
        """The newest configuration at or below `index`; None: the group is as it was founded."""
        return self._epochs.configuration_at(index)

    @property
    def syncs(self) -> int:
        """fsync calls of this log's disk."""
        return self._disk.syncs

    def term_at(self, index: int) -> int | None:
        """None outside [horizon_index - 1, last_index]."""
        if not self.state.values.horizon_index - 1 <= index <= self.state.values.last_index:
            return None
        return self._epochs.term_at(index)

    def first_index_of_term(self, index: int) -> int:
        """The first index whose term is that of `index`, not below the horizon."""
        return self._epochs.first_index_of_term(index)

    # --- what changes it -------------------------------------------------------------------

    def append(
        self,
        last_index: int,
        epoch_starts: Sequence[tuple[int, int]],
        configurations: Mapping[int, tuple[Half, ...]] = _NONE,
    ) -> None:
        """Entries up to `last_index`: of the last term here, until an (index, term) among them begins another.

        One that has `configurations` begins none.
        """
        self.state.check_usable()
        assert last_index > self.state.values.last_index
        for index, term in epoch_starts:
            halves = configurations.get(index, ())
            assert self.state.values.last_index < index <= last_index
            assert (self.last_term == term if halves else self.last_term < term) and term <= self.state.term
            self._epochs.append(EpochStart(term, index, _NO_OFFSET, halves))
            self.last_term = term
        self._set_end(last_index)

    def truncate_from(self, index: int) -> None:
        """Drops `index` and everything behind it. Nothing to do above the end.

        At or below the commit bound it raises CorruptLogError and the log has failed, as with a log of records.
        """
        self.state.check_usable()
        if index > self.state.values.last_index:
            return
        self.state.check_may_cut(index)
        self.state.values.epoch_starts = self._epochs.below(index)
        self.state.values.truncations += 1
        self._epochs.reload(self.state.values)
        self._set_end(index - 1)

    def raise_log_start(self, offset: int) -> None:
        """Records below `offset` are deleted. Durable after persist()."""
        if offset > self.state.values.log_start_offset:
            self.state.values.log_start_offset = offset
            self.state.is_dirty = True

    def reset_to(
        self,
        horizon_index: int,
        prev_term: int,
        base_offset: int,
        producers: Producers,
        configuration: EpochStart | None = None,
    ) -> None:
        """Begins anew behind Raft index horizon_index - 1 of prev_term. Offsets and producers are not kept here.

        `configuration` is the newest one in front of it.

        Raises CorruptLogError, and fails the log, when what is committed here says otherwise.
        """
        self.state.check_usable()
        self.state.check_may_reset(horizon_index, prev_term, self.term_at(horizon_index - 1))
        self._move_horizon(horizon_index, prev_term, [], configuration)
        self._set_end(horizon_index - 1)

    def persist(self) -> None:
        """All of it is durable when this returns. DiskFullError: nothing that depends on it may leave; try again."""
        self.state.check_usable()
        if self.state.is_dirty:
            if len(self._epochs.starts) > WITNESS_EPOCHS_MAX:
                self._forget_old_epochs()
            self.state.write()
        self.state.synced_index = self.state.values.last_index

    def close(self) -> None:
        """Persists everything, unless the log has failed. Idempotent."""
        if self.state.failed is None:
            self.persist()
            self.state.write_commit_bound()

    def _set_end(self, last_index: int) -> None:
        self.state.values.last_index = last_index
        self.state.values.epoch_starts = self._epochs.starts
        self.last_term = self._epochs.term_at(last_index)
        self.state.synced_index = min(self.state.synced_index, last_index)
        self.state.is_dirty = True

    def _forget_old_epochs(self) -> None:
        """The horizon moves to the last start up to the commit bound: nobody asks for what lies below."""
        first = self._epochs.last_start(self.state.commit_bound)
        if first > self.state.values.horizon_index:
            configuration = self._epochs.configuration_at(first - 1)
            self._move_horizon(first, self._epochs.term_at(first - 1), self._epochs.from_index(first), configuration)

    def _move_horizon(
        self, index: int, prev_term: int, epoch_starts: list[EpochStart], configuration: EpochStart | None
    ) -> None:
        self.state.values.horizon_index, self.state.values.horizon_prev_term = index, prev_term
        self.state.values.horizon_configuration = configuration
        self.state.values.epoch_starts = epoch_starts
        self._epochs.reload(self.state.values)
