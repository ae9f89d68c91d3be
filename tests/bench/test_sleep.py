"""scripts/bench/sleep: what idle partitions cost is measured, and every partition of a killed node is led again."""

from __future__ import annotations

import pytest

from comparison import sleep
from tests.conftest import ClusterFactory


@pytest.mark.cluster
def test_idle_partitions_their_first_records_and_a_killed_node_give_figures(fresh_cluster: ClusterFactory) -> None:
    figures = sleep.measure(fresh_cluster(), partitions=2, settle_s=1.0, seconds=1.0)
    assert figures["workers"] == 6
    assert 0 < figures["a worker, mean % of a core"] < 100
    assert 0 < figures["first record, p50 ms"] <= figures["first record, p99 ms"]
    assert figures["partitions of the killed node"] >= 1
    assert 0 < figures["led again, p99 s"] < sleep._WAIT_S
