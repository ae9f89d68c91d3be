"""scripts/bench/growth: every line is measured, and one that fails says so."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from comparison import growth
from comparison.growth import Line, markdown, measure
from raftlog.errors import ConfigError


@pytest.mark.cluster
def test_partitions_data_on_disk_and_many_clients_each_give_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(growth, "_CROWD_RECORDS", 10_000)
    settings = msgspec.structs.replace(growth._SETTINGS, seconds=1)
    partitions, size, behind, crowd = measure(tmp_path, settings, [2], [2_000_000])
    assert [line.error for line in (partitions, size, behind, crowd)] == [""] * 4
    assert (partitions.what, size.what) == ("2", "0.002")
    assert partitions.figures["produced/s"] == 2 * partitions.figures["a partition"] > 0
    assert 0 < partitions.figures["idle replica, MB (PSS)"] < 100
    assert all(value > 0 for value in size.figures.values())
    # Where others are at work, one may get nothing in a second of a busy machine.
    assert len(behind.figures) == 5 and behind.figures["produced/s"] > 0
    assert max(rate for name, rate in behind.figures.items() if name.startswith("consumed")) > 0
    assert len(crowd.figures) == 2 and max(crowd.figures.values()) > 0
    assert list(tmp_path.iterdir()) == []


def test_what_does_not_fit_on_the_disk_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="have to be free"):
        measure(tmp_path, growth._SETTINGS, [1], [10**18])


def test_each_table_has_its_own_columns_and_what_was_not_measured_stays_empty() -> None:
    text = markdown(
        [
            Line(table="partitions", what="4", figures={"produced/s": 1000, "a partition": 250}),
            Line(table="partitions", what="16", figures={"produced/s": 1600}),
            Line(table="partitions", what="64", error="no room"),
            Line(table="clients", what="one", figures={"consumed/s": 0.25}),
        ]
    )
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    assert rows[0] == ["partitions", "produced/s", "a partition"]
    assert rows[2:4] == [["4", "1,000", "250"], ["16", "1,600", ""]]
    assert "partitions 64: no figures. no room" in text
    assert (rows[4], rows[6]) == (["clients", "consumed/s"], ["one", "0.25"])
