"""When a doubtful replica counts again."""

from raftlog.consensus.doubt import Rejoin
from raftlog.types import Doubt


def test_doubt_ends_at_the_leaders_end_as_of_the_rejoin_once_committed() -> None:
    rejoin = Rejoin((2, 3), Doubt.CUT_TAIL)
    rejoin.on_append(5, 100, 0)
    rejoin.on_append(5, 140, 0)  # the leader's log grows; the mark stays
    assert not rejoin.is_over(5, 100, 100, 99)
    assert not rejoin.is_over(5, 99, 100, 100)
    assert rejoin.is_over(5, 100, 100, 100)


def test_a_new_leader_sets_the_mark_anew() -> None:
    rejoin = Rejoin((2, 3), Doubt.CUT_TAIL)
    rejoin.on_append(5, 100, 0)
    rejoin.on_append(6, 120, 0)
    assert not rejoin.is_over(6, 100, 100, 100)


def test_under_a_leader_elected_by_all_its_no_op_is_enough() -> None:
    rejoin = Rejoin((2, 3), Doubt.CUT_TAIL)
    rejoin.on_vote(5)
    rejoin.on_append(5, 100, 90)
    assert rejoin.is_over(5, 90, 90, 1)


def test_an_election_by_all_before_this_start_says_nothing_of_what_was_lost_since() -> None:
    rejoin = Rejoin((2, 3), Doubt.CUT_TAIL)  # damaged, and started again, after it had voted in term 5
    rejoin.on_append(5, 100, 90)
    assert not rejoin.is_over(5, 90, 90, 1)
    assert rejoin.is_over(5, 100, 100, 100)


def test_a_lost_disk_stays_mute_until_every_other_term_was_heard() -> None:
    rejoin = Rejoin((2, 3), Doubt.LOST_DISK)
    rejoin.on_append(5, 1, 0)
    assert rejoin.mute
    assert rejoin.hear(2, 5) is None
    assert not rejoin.is_over(5, 10, 10, 10)
    assert rejoin.hear(3, 7) == 7
    assert not rejoin.mute
    assert rejoin.is_over(5, 10, 10, 10)


def test_a_torn_tail_is_not_mute() -> None:
    assert not Rejoin((2, 3), Doubt.CUT_TAIL).mute


def test_who_lost_its_disk_need_not_hear_whom_newer_metadata_does_not_name() -> None:
    rejoin = Rejoin((2, 3, 4), Doubt.LOST_DISK)
    assert rejoin.hear(2, 5) is None
    assert rejoin.narrow((1, 2, 3)) is None
    assert rejoin.mute
    assert rejoin.hear(3, 4) == 5
    assert not rejoin.mute
    assert Rejoin((2,), Doubt.CUT_TAIL).narrow((3,)) is None


def test_a_stranger_is_mute_until_a_leader_knows_it() -> None:
    rejoin = Rejoin((), Doubt.LOST_DISK, strange=True)
    assert rejoin.mute
    assert rejoin.hear(2, 5) is None
    assert rejoin.mute
    rejoin.hear_learner()
    assert not rejoin.mute
    rejoin.on_append(5, 9, 0)
    assert not rejoin.is_over(5, 8, 8, 8)
    assert rejoin.is_over(5, 9, 9, 9)
