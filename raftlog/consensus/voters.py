"""The voters of a Raft group and their majorities.

Everything that needs a majority asks a VoterSet, with the ids of those who agree; nothing else counts. A vote counts
once per voter, members only (G7). A doubtful replica may lack records that it acknowledged, so its vote does not count
towards a majority. The votes of *all* voters elect as well, since then nobody is left who could hold more than the
candidate, unless too much is known to be gone: docs/architecture.md, "Doubtful replicas".
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable, Mapping
from itertools import chain
from typing import NamedTuple

from raftlog.types import Doubt, Half

# A replica in one of these states has less than it acknowledged, not just perhaps.
_LOST = (Doubt.LOST_DISK, Doubt.LOST_STATE, Doubt.SHORT)


class Vote(NamedTuple):
    """A granted vote or prevote, with what the voter knows of its own losses."""

    doubt: Doubt
    bound: int  # the voter's commit bound, a Raft index
    named: tuple[int, ...] = ()  # of its newest configuration, and whom it remembers


class Outcome(enum.Enum):
    OPEN = "more votes are needed"
    MAJORITY = "a majority of votes that are not doubtful"
    ALL = "the votes of all replicas"
    CLOSED = "all voted, but too much is known to be lost"


class VoterSet:
    """The voters of one group, as a value: replicas hold the records, witnesses do not.

    While the voters change there are two halves, the old one and the new one, and a majority is one of each (Ongaro,
    "Consensus: Bridging Theory and Practice", 4.3). Whoever else agrees counts nowhere.
    """

    __slots__ = ("_needed", "halves", "ids", "replicas", "witnesses")

    def __init__(self, *halves: Half) -> None:
        assert 1 <= len(halves) <= 2
        self.halves = halves
        self.replicas = _each_once(half.replicas for half in halves)  # the first half's preferred leader first
        self.witnesses = _each_once(half.witnesses for half in halves)
        self.ids = self.replicas + self.witnesses
        assert len(set(self.ids)) == len(self.ids), "a node is a replica or a witness"
        self._needed = [(half.ids, len(half.ids) // 2 + 1) for half in halves]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, VoterSet) and self.halves == other.halves

    def __hash__(self) -> int:
        return hash(self.halves)

    def is_majority(self, ids: Collection[int]) -> bool:
        """Of each half."""
        return all(_is_majority(half, ids) for half in self.halves)

    def reached(self, values: Mapping[int, int]) -> int | None:
        """The highest value that a majority has reached, of `values` by voter. None: too few of them are known."""
        lowest = None
        for ids, majority in self._needed:
            ranked = sorted([values[voter] for voter in ids if voter in values], reverse=True)
            if len(ranked) < majority:
                return None
            reached = ranked[majority - 1]
            lowest = reached if lowest is None or reached < lowest else lowest
        return lowest

    def asked(self, votes: Mapping[int, Vote]) -> tuple[int, ...]:
        """Everyone here and everyone whom a vote names."""
        return _each_once((self.ids, *(vote.named for vote in votes.values())))

    def outcome(self, votes: Mapping[int, Vote], candidate_last_index: int) -> Outcome:
        """`votes` holds only granted votes of one term, the candidate's own included, of whoever was asked.

        All are those in the candidate's configuration and those whom a vote names: the newest configuration that any of
        them has held may be one that the candidate has not, or has not any more.
        """
        if self.is_majority([voter for voter, vote in votes.items() if vote.doubt is Doubt.NONE]):
            return Outcome.MAJORITY
        everyone = self.asked(votes)
        if any(voter not in votes for voter in everyone):
            return Outcome.OPEN
        lost = [voter for voter, vote in votes.items() if vote.doubt in _LOST]
        if any(_is_majority(half, lost) for half in (*self.halves, Half(everyone))):
            return Outcome.CLOSED
        if any(candidate_last_index < vote.bound for vote in votes.values()):
            return Outcome.CLOSED
        return Outcome.ALL


def _is_majority(half: Half, ids: Collection[int]) -> bool:
    return sum(voter in ids for voter in half.ids) > len(half.ids) // 2


def _each_once(parts: Iterable[tuple[int, ...]]) -> tuple[int, ...]:
    return tuple(dict.fromkeys(chain.from_iterable(parts)))
