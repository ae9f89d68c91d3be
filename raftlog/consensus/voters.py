"""The voters of a Raft group and their majorities.

Everything that needs a majority asks a VoterSet, with the ids of those who agree; nothing else counts. A vote counts
once per voter, members only (G7). A doubtful replica may lack records that it acknowledged, so its vote does not count
towards a majority. The votes of *all* voters elect as well, since then nobody is left who could hold more than the
candidate, unless too much is known to be gone: docs/architecture.md, "Doubtful replicas".
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping
from typing import NamedTuple

import msgspec

from raftlog.types import Doubt

# A replica in one of these states has less than it acknowledged, not just perhaps.
_LOST = (Doubt.LOST_DISK, Doubt.LOST_STATE, Doubt.SHORT)


class Vote(NamedTuple):
    """A granted vote or prevote, with what the voter knows of its own losses."""

    doubt: Doubt
    bound: int  # the voter's commit bound, a Raft index


class Outcome(enum.Enum):
    OPEN = "more votes are needed"
    MAJORITY = "a majority of votes that are not doubtful"
    ALL = "the votes of all replicas"
    CLOSED = "all voted, but too much is known to be lost"


class VoterSet(msgspec.Struct, frozen=True):
    """The voters of one group, as a value: replicas hold the records, witnesses do not."""

    replicas: tuple[int, ...]  # the preferred leader first
    witnesses: tuple[int, ...] = ()

    @property
    def ids(self) -> tuple[int, ...]:
        return self.replicas + self.witnesses

    def is_majority(self, ids: Collection[int]) -> bool:
        """`ids` are voters, each of them once."""
        return len(ids) >= self._majority

    def reached(self, values: Mapping[int, int]) -> int | None:
        """The highest value that a majority has reached, of `values` by voter. None: too few of them are known."""
        if len(values) < self._majority:
            return None
        return sorted(values.values(), reverse=True)[self._majority - 1]

    def outcome(self, votes: Mapping[int, Vote], candidate_last_index: int) -> Outcome:
        """`votes` holds only granted votes of one term, the candidate's own included."""
        assert all(voter in self.ids for voter in votes)
        if self.is_majority([voter for voter, vote in votes.items() if vote.doubt is Doubt.NONE]):
            return Outcome.MAJORITY
        if len(votes) < len(self.ids):
            return Outcome.OPEN
        if self.is_majority([voter for voter, vote in votes.items() if vote.doubt in _LOST]):
            return Outcome.CLOSED
        if any(candidate_last_index < vote.bound for vote in votes.values()):
            return Outcome.CLOSED
        return Outcome.ALL

    @property
    def _majority(self) -> int:
        return (len(self.replicas) + len(self.witnesses)) // 2 + 1
