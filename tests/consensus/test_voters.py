"""G7 and the rules for doubtful votes."""

from raftlog.consensus.voters import Outcome, Vote, VoterSet
from raftlog.types import Doubt

SURE = Vote(Doubt.NONE, 5)
TORN = Vote(Doubt.CUT_TAIL, 5)
SHORT = Vote(Doubt.SHORT, 5)
LOST = Vote(Doubt.LOST_DISK, 1)
THREE = VoterSet((1, 2, 3))


def test_a_majority_without_doubt_elects() -> None:
    assert THREE.outcome({1: SURE, 2: SURE}, 9) is Outcome.MAJORITY


def test_a_doubtful_vote_does_not_make_a_majority() -> None:
    assert THREE.outcome({1: SURE, 2: TORN}, 9) is Outcome.OPEN


def test_the_votes_of_all_replicas_elect() -> None:
    assert THREE.outcome({1: TORN, 2: TORN, 3: TORN}, 9) is Outcome.ALL


def test_a_majority_of_lost_disks_closes_the_election_by_all() -> None:
    assert THREE.outcome({1: SURE, 2: LOST, 3: LOST}, 9) is Outcome.CLOSED


def test_a_majority_below_its_bound_closes_the_election_by_all() -> None:
    assert THREE.outcome({1: TORN, 2: SHORT, 3: SHORT}, 9) is Outcome.CLOSED


def test_a_candidate_below_a_voters_bound_is_not_elected_by_all() -> None:
    assert THREE.outcome({1: TORN, 2: TORN, 3: Vote(Doubt.CUT_TAIL, 10)}, 9) is Outcome.CLOSED


def test_a_single_replica_with_a_torn_tail_elects_itself() -> None:
    assert VoterSet((1,)).outcome({1: TORN}, 9) is Outcome.ALL


def test_a_single_replica_with_a_lost_disk_does_not() -> None:
    assert VoterSet((1,)).outcome({1: LOST}, 9) is Outcome.CLOSED
