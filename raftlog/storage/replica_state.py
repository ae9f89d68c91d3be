"""Term, vote, doubt and bounds of one replica: what `state` says, in memory and on the disk.

A change is in memory until it is written; nothing that depends on it may leave BEFORE. After a StorageError
other than DiskFullError the log has failed: what the disk holds is not known, so nothing is written again.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from raftlog.errors import CorruptLogError, DiskFullError, StorageError
from raftlog.storage.state import State, StateFile, add_reason, note_damage
from raftlog.types import Doubt, Half

E = TypeVar("E", bound=StorageError)

_DOUBTS = tuple(Doubt)


class ReplicaState:
    """What one replica must never forget, and whether its disk still keeps it. A log holds one, of records or not.

    `values` are as they are now, on the disk or not yet. Voters change them through the methods here, parts of the log
    within `change`.
    """

    def __init__(self, values: State, file: StateFile) -> None:
        self.values = values
        self.is_dirty = False  # something was set and is not durable yet
        self.synced_index = 1  # the log is durable up to here
        self.commit_bound = values.commit_bound  # Raft index known to be committed and synced here
        self.failed: StorageError | None = None
        self._file = file

    @property
    def term(self) -> int:
        return self.values.term

    @property
    def voted_for(self) -> int:
        return self.values.voted_for

    @property
    def doubt(self) -> Doubt:
        return _DOUBTS[self.values.doubt]

    @property
    def doubt_reason(self) -> str:
        return self.values.doubt_reason

    @property
    def remembered(self) -> Half:
        """While in doubt: members of configurations that this replica held once, and lost with a tail."""
        return self.values.remembered if self.values.doubt else Half(())

    @property
    def truncations(self) -> int:
        return self.values.truncations

    @property
    def cuts(self) -> int:
        """How often a start cut a damaged tail since this directory was made."""
        return self.values.cuts

    @property
    def corruptions(self) -> int:
        """How often damage was found here since this directory was made."""
        return self.values.corruptions

    @property
    def is_bound_due(self) -> bool:
        """The commit bound on disk is an older one."""
        return self.commit_bound != self.values.commit_bound

    @property
    def topic_id(self) -> bytes:
        return self.values.topic_id

    @property
    def horizon_index(self) -> int:
        return self.values.horizon_index

    @property
    def horizon_prev_term(self) -> int:
        return self.values.horizon_prev_term

    @property
    def log_start_offset(self) -> int:
        return self.values.log_start_offset

    @property
    def purged_index(self) -> int:
        """Up to this Raft index tombstones may be gone from this log, and with them what they say of older values."""
        return self.values.purged_index

    # --- what a voter changes --------------------------------------------------------------

    def raise_purged(self, index: int) -> None:
        """Durable when this returns, BEFORE entries of a log that tombstones are gone from are appended here."""
        with self.change() as values:
            values.purged_index = index

    def set_term(self, term: int, voted_for: int) -> None:
        """Durable after persist(), and no vote or answer in this term may leave BEFORE."""
        values = self.values
        assert term >= values.term, "the term never goes back"
        if (term, voted_for) != (values.term, values.voted_for):
            values.term, values.voted_for = term, voted_for
            self.is_dirty = True

    def set_doubt(self, doubt: Doubt, reason: str) -> None:
        """NONE ends the doubt, once persist() has returned."""
        values = self.values
        values.doubt_reason = "" if doubt == Doubt.NONE else add_reason(values.doubt_reason, reason)
        values.doubt = int(doubt)
        self.is_dirty = True

    def note_new(self) -> None:
        """The directory was empty because nothing was here before, as a leader says: that was no damage."""
        values = self.values
        if values.doubt == Doubt.LOST_DISK and values.corruptions == 1:  # as it began, and told so for the first time
            values.corruptions = 0
            values.doubt_reason = "it is new, and copies the log"
            self.is_dirty = True

    def note_damage(self, index: int, reason: str) -> None:
        """Doubt, reason and the first damaged Raft index, durably: BEFORE anything is cut or refetched.

        The next start reads the whole log again and cuts at `index` at the latest.
        """
        note_damage(self.values, index, reason)
        self.is_dirty = True
        self.write()

    def note_commit(self, index: int) -> None:
        """`index` is committed. What of it is synced here becomes the bound that is to be written."""
        synced = self.synced_index
        bound = index if index < synced else synced
        if bound > self.commit_bound:
            self.commit_bound = bound

    def lower_commit_bound(self, index: int) -> None:
        """What was committed above `index` is gone for good. Durable after persist()."""
        if index < self.commit_bound:
            self.commit_bound = index
            self.is_dirty = True

    # --- to the disk -----------------------------------------------------------------------

    @contextmanager
    def change(self) -> Iterator[State]:
        """For values that are set and durable at once. StorageError, a full disk first of all: none of them is set."""
        before = copy.copy(self.values)
        try:
            yield self.values
            self.write()
        except StorageError:
            before.sequence = self.values.sequence  # of the file, which has counted this attempt
            for name in State.__struct_fields__:
                setattr(self.values, name, getattr(before, name))
            raise

    def write_commit_bound(self) -> None:
        """Into one copy of `state`; nothing to do when that says it already."""
        values = self.values
        if not self.is_bound_due:
            return
        if self.is_dirty:
            self.write()
            return
        self.check_usable()
        before, values.commit_bound = values.commit_bound, self.commit_bound
        try:
            self._file.write_commit_bound(values)
        except StorageError as error:
            values.commit_bound = before
            self.fail(error)
            raise

    def write(self) -> None:
        """Both copies, durable. After DiskFullError it is dirty if it was, or if one of them may say it already.

        Else whoever puts back what was to be written owes the disk nothing: a `state` that stays dirty without room
        holds up everything that `persist` stands in front of.
        """
        self.check_usable()
        before, self.values.commit_bound = self.values.commit_bound, self.commit_bound
        try:
            self._file.write(self.values)
        except StorageError as error:
            self.values.commit_bound = before
            self.is_dirty = self.is_dirty or self._file.is_uneven
            self.fail(error)
            raise
        self.is_dirty = False

    # --- what ends a log -------------------------------------------------------------------

    def fail(self, error: E) -> E:
        """The log has failed, unless it was only for want of room. Returns the error, which is to be raised."""
        if not isinstance(error, DiskFullError):
            self.failed = error
        return error

    def check_may_cut(self, index: int) -> None:
        """What was committed is no leader's to take back: raises CorruptLogError, and the log has failed."""
        if index <= max(self.commit_bound, self.horizon_index - 1):
            raise self.fail(
                CorruptLogError(
                    f"asked to cut Raft index {index}, though everything up to {self.commit_bound} is committed"
                )
            )

    def check_may_reset(self, horizon_index: int, prev_term: int, held: int | None) -> None:
        """The same for beginning anew; `held` is the term of the entry before the new horizon here, None: it is not."""
        if horizon_index - 1 <= self.commit_bound and held is not None and held != prev_term:
            raise self.fail(
                CorruptLogError(
                    f"asked to begin anew behind Raft index {horizon_index - 1} of term {prev_term}, "
                    f"which is committed here with term {held}"
                )
            )

    def check_usable(self) -> None:
        if self.failed is not None:
            raise StorageError(f"the log has failed: {self.failed}")
