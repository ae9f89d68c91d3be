"""Where each leader epoch starts in the Raft log, and who votes from where on; pure arithmetic on indexes.

No-ops and configurations are entries with an index and no bytes. Every other index at or above the horizon is one
batch, so the index of a batch is found by counting batches and skipping those. A configuration stands among the epoch
starts with the term of the entry in front of it, so terms are equal now and then.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right

from raftlog.storage.state import EpochStart, State
from raftlog.types import Half


class Epochs:
    """The epoch starts and configurations of a `State`, sorted by index (and so by term)."""

    halves: tuple[Half, ...]
    """Of the newest configuration, committed or not; empty: the group is as it was founded."""

    def __init__(self, state: State) -> None:
        self.reload(state)

    def reload(self, state: State) -> None:
        """What a truncation, a deletion of the head or a reset has left of them."""
        self.horizon_index = state.horizon_index
        self.horizon_prev_term = state.horizon_prev_term
        self.horizon_offset = state.horizon_offset
        self.starts = list(state.epoch_starts)
        self._indexes = [start.index for start in self.starts]
        self._known = set(self._indexes)
        self._horizon_configuration = state.horizon_configuration
        self._configurations = [start for start in self.starts if start.halves]
        self._note_newest()

    def append(self, start: EpochStart) -> None:
        self.starts.append(start)
        self._indexes.append(start.index)
        self._known.add(start.index)
        if start.halves:
            self._configurations.append(start)
            self._note_newest()

    def _note_newest(self) -> None:
        newest = self.configuration_at(2**63)
        self.halves = newest.halves if newest is not None else ()

    def configuration_at(self, index: int) -> EpochStart | None:
        """The newest configuration at or below `index`, in front of the horizon too; None: the group was founded so."""
        place = bisect_right(self._configurations, index, key=_index)
        return self._configurations[place - 1] if place else self._horizon_configuration

    def configurations_in(self, first: int, end: int) -> list[EpochStart]:
        """Those with an index in [first, end)."""
        return [start for start in self._configurations if first <= start.index < end]

    def term_at(self, index: int) -> int:
        """The term of the entry at `index` >= horizon_index - 1, were the log long enough."""
        place = bisect_right(self._indexes, index)
        return self.starts[place - 1].term if place else self.horizon_prev_term

    def of_offset(self, offset: int) -> int:
        """The term of the batch with the record at `offset`; behind the last one that of the last entry."""
        place = bisect_right(self.starts, offset, key=_base_offset)
        return self.starts[place - 1].term if place else self.horizon_prev_term

    def around(self, term: int) -> tuple[int | None, int | None]:
        """The last known term up to `term`, and the base offset of the first one behind it; None where there is none.

        Of what is in front of the horizon only the last term is known: it goes on behind it.
        """
        place = bisect_right(self.starts, term, key=_term)
        following = self.starts[place].base_offset if place < len(self.starts) else None
        if place:
            return self.starts[place - 1].term, following
        if 0 < self.horizon_prev_term <= term:
            return self.horizon_prev_term, following
        return None, self.horizon_offset

    def first_index_of_term(self, index: int) -> int:
        """The first index at or above the horizon whose term is that of `index`."""
        term = self.term_at(index)
        if term == self.horizon_prev_term:
            return self.horizon_index
        return self.starts[bisect_left(self.starts, term, key=_term)].index

    def last_start(self, index: int) -> int:
        """The index of the last epoch start or configuration at or below `index`; the horizon where there is none."""
        place = bisect_right(self._indexes, index)
        return self._indexes[place - 1] if place else self.horizon_index

    def is_start(self, index: int) -> bool:
        return index in self._known

    def start_at(self, index: int) -> EpochStart:
        return self.starts[bisect_left(self._indexes, index)]

    def next_batch_index(self, index: int) -> int:
        """`index`, or the first one behind it that is not an epoch start."""
        while index in self._known:
            index += 1
        return index

    def below(self, index: int) -> list[EpochStart]:
        return self.starts[: bisect_left(self._indexes, index)]

    def from_index(self, index: int) -> list[EpochStart]:
        return self.starts[bisect_left(self._indexes, index) :]


def _base_offset(start: EpochStart) -> int:
    return start.base_offset


def _index(start: EpochStart) -> int:
    return start.index


def _term(start: EpochStart) -> int:
    return start.term
