"""scripts/bench/growth: every line is measured, and one that fails says so."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from comparison import growth
from comparison.growth import Figures, markdown, measure
from raftlog.errors import ConfigError


@pytest.mark.cluster
def test_partitions_data_on_disk_and_many_clients_each_give_a_line(tmp_path: Path) -> None:
    settings = msgspec.structs.replace(growth._SETTINGS, seconds=0.3)
    partitions, size, crowd = measure(tmp_path, settings, [2], [2_000_000])
    assert (partitions.what, size.what) == ("partitions: 2", "0.002 GB in each replica")
    assert partitions.produced and partitions.produced_a_partition == partitions.produced / 2
    assert size.produced and size.consumed and size.ready_s and size.memory_mb
    assert crowd.produced and crowd.consumed
    assert list(tmp_path.iterdir()) == []


def test_what_does_not_fit_on_the_disk_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="have to be free"):
        measure(tmp_path, growth._SETTINGS, [1], [10**18])


def test_what_was_not_measured_stays_empty() -> None:
    text = markdown([Figures(what="partitions: 4", produced=1000, produced_a_partition=250)])
    assert [cell.strip() for cell in text.splitlines()[2].split("|")[1:-1]] == [
        "partitions: 4",
        "1,000",
        "250",
        "",
        "",
        "",
    ]
