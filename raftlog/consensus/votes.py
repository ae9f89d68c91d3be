"""Who is elected (G7), as a pure function of the votes of one term.

A vote is counted once per voter, members only. A doubtful replica may lack records that it acknowledged, so
its vote does not count towards a majority. The votes of *all* replicas elect as well, since then nobody
is left who could hold more than the candidate, unless too much is known to be gone:
docs/architecture.md, "Doubtful replicas".
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping
from typing import NamedTuple

from raftlog.types import Doubt

# A replica in one of these states has less than it acknowledged, not just perhaps.
_LOST = (Doubt.LOST_DISK, Doubt.LOST_STATE, Doubt.SHORT)


class Vote(NamedTuple):
    doubt: Doubt
    bound: int  # the voter's commit bound, a Raft index


class Outcome(enum.Enum):
    OPEN = "more votes are needed"
    MAJORITY = "a majority of votes that are not doubtful"
    ALL = "the votes of all replicas"
    CLOSED = "all voted, but too much is known to be lost"


def majority(replicas: int) -> int:
    return replicas // 2 + 1


def outcome(votes: Mapping[int, Vote], replicas: Collection[int], candidate_last_index: int) -> Outcome:
    """`votes` holds only granted votes of one term, the candidate's own included."""
    assert all(voter in replicas for voter in votes)
    if sum(vote.doubt is Doubt.NONE for vote in votes.values()) >= majority(len(replicas)):
        return Outcome.MAJORITY
    if len(votes) < len(replicas):
        return Outcome.OPEN
    if sum(vote.doubt in _LOST for vote in votes.values()) >= majority(len(replicas)):
        return Outcome.CLOSED
    if any(candidate_last_index < vote.bound for vote in votes.values()):
        return Outcome.CLOSED
    return Outcome.ALL
