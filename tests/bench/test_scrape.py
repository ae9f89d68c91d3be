"""scripts/bench/scrape: what a scrape costs, with the node's own code."""

from __future__ import annotations

import pytest

from comparison.scrape import main, measure


def test_a_scrape_of_100_partitions_is_measured_step_by_step() -> None:
    steps = measure(100, 3)
    parts_ms = sum(steps[step] for step in ("figures put together", "sent", "received", "processes", "OpenMetrics"))
    assert steps["a scrape as OpenMetrics"] == pytest.approx(parts_ms)
    assert 0 < parts_ms < 30  # 8 where nothing else runs; a scrape of 1,000 is to stay below 100


def test_the_table_names_the_steps(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--partitions", "10", "--rounds", "1"]) == 0
    assert "a scrape as text" in capsys.readouterr().out
