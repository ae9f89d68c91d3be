"""When a replica that may lack what it acknowledged counts again (docs/architecture.md, "Doubtful replicas").

It must durably hold the leader's log end as of its rejoin, and know it committed; or, under a leader that was
elected by the votes of all replicas, the vote of *this* process among them, hold that leader's no-op. (A replica
that was damaged after such an election may have acknowledged more than the no-op since, so for it only the first
way is open.) One that lost its term and vote with its disk must first hear the term of every other replica: its
forgotten vote may be what a candidate of a higher term is standing on.

A learner has promised nothing as a voter, and cannot tell that from a lost disk: an empty directory is LOST_DISK. It
need not hear the others' terms once a leader has said that it is no voter. Its doubt ends as any doubt does: the log
that it copies from the beginning may name it, long ago.
Pure: indexes in, a decision out.
"""

from __future__ import annotations

from collections.abc import Iterable

from raftlog.types import Doubt


class Rejoin:
    """One replica's way back, from its start until its doubt ends."""

    def __init__(self, others: Iterable[int], doubt: Doubt, *, strange: bool = False) -> None:
        """`others`: everyone it may have acknowledged with. `strange`: nobody knows who that is."""
        lost = doubt in (Doubt.LOST_DISK, Doubt.LOST_STATE)
        self.unheard = set(others) if lost else set()
        self._strange = lost and strange
        self._highest_term = 0
        self._leader_term = 0
        self._until_index = 0
        self._by_all = False
        self._voted_term = 0

    @property
    def mute(self) -> bool:
        """True while this replica may not vote, stand or end its doubt: some term was not heard yet."""
        return self._strange or bool(self.unheard)

    def hear(self, node_id: int, term: int) -> int | None:
        """Another replica's current term. Returns the highest once all were heard: adopt it, vote spent."""
        if not self.unheard:
            return None
        self.unheard.discard(node_id)
        self._highest_term = max(self._highest_term, term)
        return None if self.mute else self._highest_term

    def narrow(self, named: Iterable[int]) -> int | None:
        """A newer image of the metadata names only these: a committed configuration is without the others."""
        if not self.unheard:
            return None
        self.unheard.intersection_update(named)
        return None if self.mute else self._highest_term

    def hear_learner(self) -> None:
        """The leader whose term this replica has just taken, vote spent, says that it is no voter."""
        self.unheard.clear()
        self._strange = False

    def on_vote(self, term: int) -> None:
        """This process voted, itself included, with its doubt on the vote."""
        self._voted_term = term

    def on_append(self, leader_term: int, leader_last_index: int, all_votes_index: int) -> None:
        """First contact with a leader fixes how far this replica must come under it."""
        if leader_term > self._leader_term:
            self._leader_term = leader_term
            self._by_all = all_votes_index > 0 and leader_term == self._voted_term
            self._until_index = all_votes_index if self._by_all else leader_last_index

    def is_over(self, leader_term: int, synced_index: int, match_index: int, commit_index: int) -> bool:
        """`match_index`: up to where this log is known to equal the leader's."""
        if self.mute or self._leader_term == 0 or leader_term != self._leader_term:
            return False
        held = min(synced_index, match_index) >= self._until_index
        return held and (self._by_all or commit_index >= self._until_index)
