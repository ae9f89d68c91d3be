"""Term, vote, doubt and commit bound of one replica: the part of a log that is `state`.

A change is in memory until it is written; nothing that depends on it may leave BEFORE. After a StorageError
other than DiskFullError the log has failed: what the disk holds is not known, so nothing is written again.
"""

from __future__ import annotations

from raftlog.errors import CorruptLogError, DiskFullError, StorageError
from raftlog.storage.state import State, StateFile, add_reason, note_damage
from raftlog.types import Doubt

_DOUBTS = tuple(Doubt)


class HardState:
    def __init__(self, state: State, state_file: StateFile) -> None:
        self._state = state
        self._state_file = state_file
        self._state_dirty = False
        self._bound = state.commit_bound
        self.synced_index = 1
        self.failed: StorageError | None = None

    @property
    def term(self) -> int:
        return self._state.term

    @property
    def voted_for(self) -> int:
        return self._state.voted_for

    @property
    def doubt(self) -> Doubt:
        return _DOUBTS[self._state.doubt]

    @property
    def doubt_reason(self) -> str:
        return self._state.doubt_reason

    @property
    def commit_bound(self) -> int:
        """The Raft index that this replica has known to be committed and synced here."""
        return self._bound

    @property
    def truncations(self) -> int:
        return self._state.truncations

    @property
    def cuts(self) -> int:
        """How often a start cut a damaged tail since this directory was made."""
        return self._state.cuts

    @property
    def corruptions(self) -> int:
        """How often damage was found here since this directory was made."""
        return self._state.corruptions

    @property
    def is_state_dirty(self) -> bool:
        """Something of `state` was set and is not durable yet."""
        return self._state_dirty

    @property
    def topic_id(self) -> bytes:
        return self._state.topic_id

    @property
    def horizon_index(self) -> int:
        return self._state.horizon_index

    @property
    def horizon_prev_term(self) -> int:
        return self._state.horizon_prev_term

    @property
    def log_start_offset(self) -> int:
        return self._state.log_start_offset

    @property
    def purged_index(self) -> int:
        """Up to this Raft index tombstones may be gone from this log, and with them what they say of older values."""
        return self._state.purged_index

    def raise_purged(self, index: int) -> None:
        """Durable when this returns, BEFORE entries of a log that tombstones are gone from are appended here."""
        before = self._state.purged_index
        self._state.purged_index = index
        try:
            self._write_state()
        except StorageError:
            self._state.purged_index = before
            raise

    def set_term(self, term: int, voted_for: int) -> None:
        """Durable after persist(), and no vote or answer in this term may leave BEFORE."""
        assert term >= self._state.term, "the term never goes back"
        if (term, voted_for) != (self._state.term, self._state.voted_for):
            self._state.term = term
            self._state.voted_for = voted_for
            self._state_dirty = True

    def set_doubt(self, doubt: Doubt, reason: str) -> None:
        """NONE ends the doubt, once persist() has returned."""
        state = self._state
        state.doubt_reason = "" if doubt == Doubt.NONE else add_reason(state.doubt_reason, reason)
        state.doubt = int(doubt)
        self._state_dirty = True

    def note_damage(self, index: int, reason: str) -> None:
        """Doubt, reason and the first damaged Raft index, durably: BEFORE anything is cut or refetched.

        The next start reads the whole log again and cuts at `index` at the latest.
        """
        note_damage(self._state, index, reason)
        self._state_dirty = True
        self._write_state()

    def note_commit(self, index: int) -> None:
        """`index` is committed. What of it is synced here becomes the bound that is to be written."""
        synced = self.synced_index
        bound = index if index < synced else synced
        if bound > self._bound:
            self._bound = bound

    def lower_commit_bound(self, index: int) -> None:
        """What was committed above `index` is gone for good. Durable after persist()."""
        if index < self._bound:
            self._bound = index
            self._state_dirty = True

    def write_commit_bound(self) -> None:
        """Into one copy of `state`; nothing to do when that says it already."""
        state = self._state
        if self._bound == state.commit_bound:
            return
        if self._state_dirty:
            self._write_state()
            return
        self._check_usable()
        before, state.commit_bound = state.commit_bound, self._bound
        try:
            self._state_file.write_commit_bound(state)
        except StorageError as error:
            state.commit_bound = before
            self._fail(error)
            raise

    def _write_state(self) -> None:
        """Both copies, durable. After DiskFullError it is dirty if it was, or if one of them may say it already.

        Else whoever puts back what was to be written owes the disk nothing: a `state` that stays dirty without room
        holds up everything that `persist` stands in front of.
        """
        self._check_usable()
        bound, self._state.commit_bound = self._state.commit_bound, self._bound
        try:
            self._state_file.write(self._state)
        except StorageError as error:
            self._state.commit_bound = bound
            self._state_dirty = self._state_dirty or self._state_file.is_uneven
            self._fail(error)
            raise
        self._state_dirty = False

    def _fail(self, error: StorageError) -> None:
        if not isinstance(error, DiskFullError):
            self.failed = error

    def _check_may_cut(self, index: int) -> None:
        """What was committed is no leader's to take back: raises CorruptLogError, and the log has failed."""
        if index <= max(self._bound, self._state.horizon_index - 1):
            error = CorruptLogError(
                f"asked to cut Raft index {index}, though everything up to {self._bound} is committed"
            )
            self._fail(error)
            raise error

    def _check_may_reset(self, horizon_index: int, prev_term: int, held: int | None) -> None:
        """The same for beginning anew; `held` is the term of the entry before the new horizon here, None: it is not."""
        if horizon_index - 1 <= self._bound and held is not None and held != prev_term:
            error = CorruptLogError(
                f"asked to begin anew behind Raft index {horizon_index - 1} of term {prev_term}, "
                f"which is committed here with term {held}"
            )
            self._fail(error)
            raise error

    def _check_usable(self) -> None:
        if self.failed is not None:
            raise StorageError(f"the log has failed: {self.failed}")
