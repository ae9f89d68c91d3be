"""The plan of a run: from its seed alone, with quiet times, and no more damage than replication survives."""

from __future__ import annotations

import random
from itertools import combinations

import pytest

from raftlog.faultlab.places import HostPlace
from raftlog.faultlab.schedule import FAULTS, SCENARIOS, Planned, draw, has_majority, shapes_of, usable
from raftlog.faultlab.shape import Shape

ALL = list(FAULTS.values())


def cuts(name: str, nodes: tuple[int, ...]) -> set[tuple[int, int]]:
    shapes = shapes_of(Planned(0, 1, FAULTS[name], nodes), nodes)
    return {pair for pair, shape in shapes.items() if shape.cut}


def test_a_seed_fixes_the_plan() -> None:
    assert draw(7, 120, [1, 2, 3], ALL) == draw(7, 120, [1, 2, 3], ALL)
    assert draw(7, 120, [1, 2, 3], ALL) != draw(8, 120, [1, 2, 3], ALL)


@pytest.mark.parametrize("seed", range(20))
def test_every_fault_comes_before_one_comes_again(seed: int) -> None:
    plan = draw(seed, 600, [1, 2, 3, 4, 5], ALL)
    drawn = [planned.fault.name for planned in plan]
    assert set(drawn[: len(ALL)]) >= set(FAULTS) - set(drawn[-3:]) or set(drawn) == set(FAULTS)
    assert all(planned.at_s + planned.hold_s <= 600 for planned in plan)


def test_about_a_quarter_of_the_time_has_no_fault() -> None:
    quiet_s = total_s = 0.0
    for seed in range(50):
        end_s = 0.0
        for planned in draw(seed, 300, [1, 2, 3], ALL):
            quiet_s += max(0.0, planned.at_s - end_s)
            end_s = max(end_s, planned.at_s + planned.hold_s)
        total_s += end_s
    assert 0.2 < quiet_s / total_s < 0.35


def test_disks_are_damaged_one_at_a_time_and_only_while_all_is_whole() -> None:
    damaging = [planned for seed in range(20) for planned in draw(seed, 300, [1, 2, 3], ALL) if planned.fault.damages]
    assert damaging
    assert all(planned.when_whole and len(planned.nodes) == 1 for planned in damaging)


def test_what_a_place_cannot_do_is_left_out_with_the_reason() -> None:
    faults, left_out = usable(["isolate", "kill-node"], HostPlace.missing)
    assert [fault.name for fault in faults] == ["kill-node"]
    assert left_out == {"isolate": HostPlace.missing["network"]}


def test_a_plan_without_faults_is_empty() -> None:
    assert draw(1, 60, [1, 2, 3], []) == []


def test_the_network_is_cut_where_its_faults_say() -> None:
    assert cuts("isolate", (2, 1, 3)) == {(2, 1), (2, 3), (1, 2), (3, 2)}
    assert cuts("one-way", (2, 1, 3)) == {(2, 1)}
    assert cuts("halves", (5, 4, 1, 2, 3)) == {
        pair for one in (5, 4) for other in (1, 2, 3) for pair in ((one, other), (other, one))
    }
    # Of three, two do not hear each other; of five, each hears its two neighbours.
    assert cuts("ring", (1, 2, 3)) == {(1, 3), (3, 1)}
    ring = cuts("ring", (1, 2, 3, 4, 5))
    assert all(sum((node, other) not in ring for other in range(1, 6) if other != node) == 2 for node in range(1, 6))
    assert shapes_of(Planned(0, 1, FAULTS["slow"], (1, 2, 3)), (1, 2, 3))[1, 2].delay_ms > 0


def test_a_majority_is_more_than_half_that_all_hear_each_other() -> None:
    nodes = [1, 2, 3]
    cut = Shape(cut=True)
    assert has_majority(nodes, [3], {})
    assert not has_majority(nodes, [2, 3], {})
    assert not has_majority(nodes, [3], {(1, 2): cut})
    assert has_majority(nodes, [], {(1, 2): cut})
    everywhere = dict.fromkeys(combinations(nodes, 2), cut)
    assert not has_majority(nodes, [], everywhere)


@pytest.mark.parametrize("name", SCENARIOS)
@pytest.mark.parametrize("nodes", [3, 5])
def test_scenarios_are_plans_over_the_nodes_there_are(name: str, nodes: int) -> None:
    plan = SCENARIOS[name](range(1, nodes + 1), random.Random(1))
    assert plan
    assert all(set(planned.nodes) <= set(range(1, nodes + 1)) for planned in plan)
