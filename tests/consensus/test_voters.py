"""G7 and the rules for doubtful votes."""

from raftlog.consensus.voters import Outcome, Vote, VoterSet
from raftlog.types import Doubt, Half

SURE = Vote(Doubt.NONE, 5)
TORN = Vote(Doubt.CUT_TAIL, 5)
SHORT = Vote(Doubt.SHORT, 5)
LOST = Vote(Doubt.LOST_DISK, 1)
THREE = VoterSet(Half((1, 2, 3)))


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
    assert VoterSet(Half((1,))).outcome({1: TORN}, 9) is Outcome.ALL


def test_a_single_replica_with_a_lost_disk_does_not() -> None:
    assert VoterSet(Half((1,))).outcome({1: LOST}, 9) is Outcome.CLOSED


# Two halves: {1, 2, 3} becomes {3, 4, 5}, where 5 is a witness.
JOINT = VoterSet(Half((1, 2, 3)), Half((3, 4), (5,)))


def test_a_majority_of_two_halves_is_one_of_each() -> None:
    assert not JOINT.is_majority((1, 2, 3))
    assert not JOINT.is_majority((3, 4, 5))
    assert JOINT.is_majority((2, 3, 5))
    assert JOINT.is_majority((1, 2, 4, 5))


def test_whoever_is_in_neither_half_counts_nowhere() -> None:
    assert not THREE.is_majority((1, 7, 8))
    assert THREE.reached({1: 9, 7: 9, 8: 9}) is None


def test_two_halves_have_reached_what_the_slower_one_has() -> None:
    assert JOINT.reached({1: 9, 2: 8, 3: 2, 4: 3, 5: 4}) == 3
    assert JOINT.reached({1: 1, 2: 2, 3: 9, 4: 9, 5: 9}) == 2
    assert JOINT.reached({1: 9, 2: 9, 3: 9}) is None


def test_everyone_is_named_once_replicas_first() -> None:
    assert (JOINT.replicas, JOINT.witnesses, JOINT.ids) == ((1, 2, 3, 4), (5,), (1, 2, 3, 4, 5))


def test_a_majority_of_each_half_elects() -> None:
    assert JOINT.outcome({1: SURE, 2: SURE, 3: SURE}, 9) is Outcome.OPEN
    assert JOINT.outcome({1: SURE, 2: SURE, 4: SURE, 5: TORN}, 9) is Outcome.OPEN
    assert JOINT.outcome({2: SURE, 3: SURE, 4: SURE}, 9) is Outcome.MAJORITY


def test_the_votes_of_all_are_those_of_both_halves() -> None:
    votes = {1: SURE, 2: TORN, 3: TORN, 4: SURE}
    assert JOINT.outcome(votes, 9) is Outcome.OPEN
    assert JOINT.outcome({**votes, 5: TORN}, 9) is Outcome.ALL


def test_a_lost_majority_of_either_half_closes_the_election_by_all() -> None:
    assert JOINT.outcome({1: LOST, 2: SHORT, 3: SURE, 4: SURE, 5: SURE}, 9) is Outcome.CLOSED
    assert JOINT.outcome({1: SURE, 2: SURE, 3: SURE, 4: LOST, 5: LOST}, 9) is Outcome.CLOSED


def test_a_lost_majority_of_all_closes_though_each_half_has_kept_one() -> None:
    seven = VoterSet(Half((1, 2, 3, 4, 5)), Half((3, 4, 5, 6, 7)))
    votes = {voter: LOST if voter in (1, 2, 6) else TORN for voter in range(1, 8)}
    assert seven.outcome(votes, 9) is Outcome.ALL
    assert seven.outcome({**votes, 7: SHORT}, 9) is Outcome.CLOSED


def test_the_votes_of_all_are_those_of_everyone_whom_a_vote_names() -> None:
    """{1, 2} takes 3, and a torn tail of 1 takes that back: 1 and 2 are not all, since 1 remembers 3."""
    two = VoterSet(Half((1, 2)))
    votes = {1: TORN._replace(named=(1, 2, 3)), 2: TORN._replace(named=(1, 2))}
    assert two.asked(votes) == (1, 2, 3)
    assert two.outcome(votes, 9) is Outcome.OPEN
    assert two.outcome({**votes, 3: SURE}, 9) is Outcome.ALL
    assert two.outcome({**votes, 3: SURE._replace(named=(3, 4))}, 9) is Outcome.OPEN


def test_a_vote_of_whoever_is_no_member_makes_no_majority() -> None:
    assert VoterSet(Half((1, 2))).outcome({1: SURE, 3: SURE, 4: SURE}, 9) is Outcome.OPEN


def test_a_lost_majority_of_those_who_were_asked_closes() -> None:
    votes = {1: SURE._replace(named=(1, 2, 3)), 2: LOST, 3: LOST}
    assert VoterSet(Half((1,))).outcome({1: TORN, 2: SURE}, 9) is Outcome.ALL
    assert VoterSet(Half((1, 2, 4, 5, 6))).outcome({**votes, 4: TORN, 5: TORN, 6: TORN, 7: LOST}, 9) is Outcome.ALL
    assert VoterSet(Half((1, 2))).outcome({**votes, 1: TORN._replace(named=(1, 2, 3))}, 9) is Outcome.CLOSED
