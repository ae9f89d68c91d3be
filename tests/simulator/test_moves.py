"""Stories about replicas that move, with seeds that stay the same."""

from __future__ import annotations

import pytest

from raftlog.simulator.move_scenarios import moves
from raftlog.simulator.run import run_seed
from raftlog.simulator.scenarios import SPARES
from raftlog.simulator.world import World


@pytest.mark.parametrize("scenario", [story for story in SPARES if story != "moves"])
def test_each_story_holds(scenario: str) -> None:
    broken = [verdict for seed in range(2) if (verdict := run_seed(seed, scenario=scenario)).kind]
    assert not broken, [verdict.text for verdict in broken]


@pytest.mark.parametrize("nodes", [3, 5])
@pytest.mark.parametrize("seed", range(4))
def test_seeds_in_which_replicas_move_break_no_invariant(seed: int, nodes: int) -> None:
    verdict = run_seed(seed, scenario="moves", nodes=nodes)
    assert not verdict.kind, verdict.text


def test_replicas_do_move() -> None:
    world = World(0, spares=3)
    moves(world)
    assert world.mover is not None
    assert world.mover.done >= 5


def test_a_seed_fixes_everything_where_replicas_move() -> None:
    first, second = run_seed(4, scenario="moves"), run_seed(4, scenario="moves")
    assert (first.trace_hash, first.acked, first.steps) == (second.trace_hash, second.acked, second.steps)
