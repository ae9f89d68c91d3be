"""News of a whole node wakes sleeping workers in turn: a bounded number a second, those without a leader first."""

from __future__ import annotations

from raftlog.clock import NEVER_S
from raftlog.limits import WAKE_UPS_PER_S
from raftlog.node.wake_ups import WakeUps


def key(number: int) -> tuple[bytes, int]:
    return b"t" * 16, number


def woken(wake_ups: WakeUps, from_s: float, seconds: float) -> list[int]:
    """In ticks of 10 ms, as many as a supervisor has."""
    found = []
    for tick in range(int(seconds * 100)):
        while (taken := wake_ups.take(from_s + tick / 100)) is not None:
            found.append(taken[1])
    return found


def test_so_many_a_second_and_no_more() -> None:
    wake_ups = WakeUps()
    for number in range(500):
        wake_ups.add(key(number), urgent=False)
    first = len(woken(wake_ups, 100.0, 1.0))
    assert 0.9 * WAKE_UPS_PER_S <= first <= 1.2 * WAKE_UPS_PER_S
    assert len(woken(wake_ups, 101.0, 4.0)) <= 4.2 * WAKE_UPS_PER_S


def test_those_whose_leader_may_be_gone_are_first_and_the_order_is_that_of_their_names() -> None:
    wake_ups = WakeUps()
    for number in (7, 3, 5, 1):
        wake_ups.add(key(number), urgent=number in (3, 7))
    assert woken(wake_ups, 0.0, 1.0) == [3, 7, 1, 5]


def test_one_that_is_awake_is_forgotten_and_nothing_is_due() -> None:
    wake_ups = WakeUps()
    wake_ups.add(key(1), urgent=True)
    wake_ups.add(key(2), urgent=False)
    assert wake_ups.next_due_s < NEVER_S
    wake_ups.forget(key(1))
    wake_ups.forget(key(2))
    assert wake_ups.next_due_s == NEVER_S
    assert wake_ups.take(1e9) is None
