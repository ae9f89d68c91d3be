"""The judge of `demo --groups` finds each anomaly in a history that has it, and none in one that has none."""

from __future__ import annotations

import pytest

from raftlog_cli.demo_groups_judge import judge, two_owners
from raftlog_cli.group_member import HandOut, value_of

ENDS = [10, 4]


def out(partition: int, start: int, end: int, at_s: float, tenure: int = 0, wrong: int = 0) -> HandOut:
    return HandOut(partition, tenure, start, end, at_s, at_s + 0.1, wrong)


WHOLE = {"m": [out(0, 0, 10, 1), out(1, 0, 4, 2)]}


def test_a_history_without_fault_passes() -> None:
    first = {"a": [out(0, 0, 6, 1), out(0, 6, 10, 2)], "b": [out(1, 0, 4, 1)]}
    verdict = judge(ENDS, first, WHOLE)
    assert verdict == (14, 14, 0, 0, 14, 0, 0)
    assert verdict.failures() == []


def test_what_nobody_was_handed_is_missed() -> None:
    verdict = judge(ENDS, {"a": [out(0, 0, 6, 1)], "b": [out(1, 1, 4, 1)]}, WHOLE)
    assert (verdict.first_group_seen, verdict.missed) == (9, 5)
    assert len(verdict.failures()) == 1
    verdict = judge(ENDS, WHOLE, {"m": [out(0, 0, 10, 1)]})
    assert (verdict.missed, verdict.second_group_seen) == (0, 10)
    assert len(verdict.failures()) == 1


def test_what_a_successor_reads_again_is_a_reread_and_no_fault() -> None:
    first = {"dead": [out(0, 0, 6, 1)], "heir": [out(0, 3, 10, 5), out(1, 0, 4, 5)]}
    verdict = judge(ENDS, first, WHOLE)
    assert (verdict.rereads, verdict.missed, verdict.failures()) == (3, 0, [])


def test_what_was_not_sent_is_a_fault() -> None:
    assert judge(ENDS, {"m": [out(0, 0, 10, 1, wrong=2), out(1, 0, 4, 2)]}, WHOLE).wrong == 2
    assert judge(ENDS, {"m": [out(0, 0, 12, 1), out(1, 0, 4, 2)]}, WHOLE).wrong == 2
    assert value_of(1, 2, 6).startswith(b"13:")


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        # One after the other, and back again with an assignment of its own: what a rebalance does.
        ({"a": [out(0, 0, 1, 1), out(0, 1, 2, 2)], "b": [out(0, 2, 3, 3), out(0, 3, 4, 4)]}, 0),
        ({"a": [out(0, 0, 1, 1), out(0, 4, 5, 9, tenure=1)], "b": [out(0, 2, 3, 3), out(0, 3, 4, 4)]}, 0),
        # Paused, replaced, and it goes on with what it had: each hand-out of the other lies inside.
        ({"a": [out(0, 0, 1, 1), out(0, 1, 2, 9)], "b": [out(0, 1, 2, 3), out(0, 2, 3, 4)]}, 2),
        # Both at work.
        ({"a": [out(0, 0, 1, 1), out(0, 1, 2, 3)], "b": [out(0, 0, 1, 2), out(0, 1, 2, 4)]}, 2),
        # A single stale batch in the successor's time.
        ({"a": [out(0, 0, 1, 3.5)], "b": [out(0, 0, 1, 3), out(0, 1, 2, 4)]}, 1),
        # Other partitions have other owners.
        ({"a": [out(0, 0, 1, 1), out(0, 1, 2, 9)], "b": [out(1, 1, 2, 3)]}, 0),
        # A poll that was paused may have handed out before the pause: nothing is certain.
        ({"a": [out(0, 0, 1, 1), HandOut(0, 0, 1, 2, 1.5, 9.0)], "b": [out(0, 1, 2, 3)]}, 0),
    ],
)
def test_two_owners_are_seen_by_the_times_of_what_they_handed_out(
    members: dict[str, list[HandOut]], expected: int
) -> None:
    assert two_owners(members) == expected
