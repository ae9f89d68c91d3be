"""Where each leader epoch starts in the Raft log; pure arithmetic on indexes.

No-op entries have an index and no bytes. Every other index at or above the horizon is one batch, so the
index of a batch is found by counting batches and skipping epoch starts.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right

from raftlog.storage.state import EpochStart, State


class Epochs:
    """The epoch starts of a `State`, sorted by index (and so by term)."""

    def __init__(self, state: State) -> None:
        self.reload(state)

    def reload(self, state: State) -> None:
        """What a truncation, a deletion of the head or a reset has left of them."""
        self.horizon_index = state.horizon_index
        self.horizon_prev_term = state.horizon_prev_term
        self.starts = list(state.epoch_starts)
        self._indexes = [start.index for start in self.starts]
        self._known = set(self._indexes)

    def append(self, start: EpochStart) -> None:
        self.starts.append(start)
        self._indexes.append(start.index)
        self._known.add(start.index)

    def term_at(self, index: int) -> int:
        """The term of the entry at `index` >= horizon_index - 1, were the log long enough."""
        place = bisect_right(self._indexes, index)
        return self.starts[place - 1].term if place else self.horizon_prev_term

    def first_index_of_term(self, index: int) -> int:
        """The first index at or above the horizon whose term is that of `index`."""
        place = bisect_right(self._indexes, index)
        return self.starts[place - 1].index if place else self.horizon_index

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
