"""Stories about groups that sleep, with seeds that stay the same."""

from __future__ import annotations

import pytest

from raftlog.simulator.run import run_seed
from raftlog.simulator.sleep_scenarios import SLEEP_SCENARIOS


@pytest.mark.parametrize("scenario", SLEEP_SCENARIOS)
def test_each_story_holds(scenario: str) -> None:
    seeds = range(1) if scenario == "hour-of-sleep" else range(6)
    broken = [verdict for seed in seeds if (verdict := run_seed(seed, scenario=scenario)).kind]
    assert not broken, [verdict.text for verdict in broken]


def test_groups_do_sleep_among_all_that_can_go_wrong() -> None:
    traces = [run_seed(seed, scenario="sleepers", trace=True).trace for seed in range(4)]
    assert all(any(" ASLEEP " in line for line in trace) for trace in traces)
