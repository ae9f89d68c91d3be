"""A simulator that can fail: with a guard taken out, a remembered story breaks an invariant."""

from __future__ import annotations

import pytest

from raftlog.simulator.run import run_seed
from raftlog.simulator.sabotage import GUARDS

# Guard, scenario (empty: the mix of faults), seeds of which at least one notices, and as what.
NOTICED = [
    ("G1", "moving-leader", range(4), {"stuck", "lost", "diverged", "crashed"}),
    ("G2", "moving-leader", range(4), {"diverged", "lost"}),
    ("G3", "late-answers", range(4), {"lost", "diverged"}),
    ("G4", "narrow-links", range(3), {"stuck"}),
    ("G5", "", range(40), {"lost", "diverged"}),
    ("G6", "restless-voter", range(6), {"two_leaders", "lost"}),
    ("G7", "stale-majority", range(11, 20), {"lost", "diverged"}),
    ("G8", "stale-majority", range(4, 14), {"lost", "diverged"}),
    ("G11", "returning-node", range(1, 4), {"stuck"}),
    ("H1", "groups", range(3), {"lost"}),
    ("H2", "hung-coordinator", range(15), {"lost", "diverged"}),
    ("V1", "torn-promotion", range(1, 2), {"lost"}),
    ("V2", "untold-voter", range(2), {"stuck"}),
    ("V3", "out-of-sync-promotion", range(2), {"stuck"}),
    ("V4", "returning-founder", range(4), {"lost", "diverged", "two_leaders"}),
    ("V5", "steady-swap", range(2), {"stuck"}),
    ("V6", "gone-while-all-moved", range(2), {"stuck", "two_leaders"}),
    ("S1", "lost-question", range(1), {"stuck"}),
    ("S2", "unheard-power-failure", range(1), {"stuck"}),
    ("S3", "refused-forever", range(1), {"stuck"}),
    ("S4", "two-woken-followers", range(10), {"stuck"}),
    ("S5", "superseded-sleeper", range(1), {"lost"}),
    ("S6", "hour-of-sleep", range(1), {"stuck"}),
    ("S7", "hung-sleeper", range(3), {"stuck"}),
    ("K1", "kafka-door", range(1, 3), {"lost"}),
    ("K2", "kafka-door", range(1, 5), {"diverged"}),
    ("K3", "kafka-door", range(1, 3), {"lost"}),
    ("all", "", range(40), {"lost", "diverged", "stuck", "two_leaders", "crashed"}),
]


@pytest.mark.parametrize(("guard", "scenario", "seeds", "kinds"), NOTICED, ids=[row[0] for row in NOTICED])
def test_the_absence_of_a_guard_is_noticed(guard: str, scenario: str, seeds: range, kinds: set[str]) -> None:
    for seed in seeds:
        kind = run_seed(seed, scenario=scenario, guard_off=guard).kind
        if kind:
            assert kind in kinds
            return
    pytest.fail(f"no seed of {list(seeds)} noticed that {guard} was off")


def test_every_guard_that_can_be_taken_out_is_listed() -> None:
    assert {row[0] for row in NOTICED} == {*GUARDS, "all"}
