"""Standing for election: the votes of one term, asked for twice, as prevotes (G11) and as votes (G7)."""

from __future__ import annotations

from raftlog.consensus.seat import Seat
from raftlog.consensus.voters import Outcome, Vote
from raftlog.types import NOBODY, Role


class Ballot:
    """Who would have, or has, this member lead one term; itself first. Each voter counts once (G7)."""

    def __init__(self, seat: Seat, term: int) -> None:
        self.term = term
        self._seat = seat
        self._votes = {seat.node_id: seat.vote}

    def grant(self, voter: int, vote: Vote) -> None:
        self._votes[voter] = vote

    @property
    def asked(self) -> tuple[int, ...]:
        """Whose votes would be those of all, as far as the votes so far tell; itself among them, or not."""
        return self._seat.voters.asked(self._votes)

    def outcome(self, *, loss_accepted: bool) -> Outcome:
        """`loss_accepted`: somebody has looked at what is lost and said that this replica is the truth."""
        result = self._seat.voters.outcome(self._votes, self._seat.log.last_index)
        return Outcome.ALL if result is Outcome.CLOSED and loss_accepted else result


class Candidate:
    """The role of a member that has begun a term, with its own vote, and waits for the votes of others."""

    kind = Role.CANDIDATE
    leader_id = NOBODY
    match_index = 0
    held_index = 0

    def __init__(self, ballot: Ballot) -> None:
        self.ballot = ballot
