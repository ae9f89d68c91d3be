"""scripts/bench/cost: what each role costs, beside what the kernel needs for the same bytes."""

from __future__ import annotations

from pathlib import Path

import pytest

from comparison.cost import Line, against, markdown, measure
from comparison.round_trips import link_p50_us, tcp_p50_us
from comparison.workloads import BATCHES
from raftlog.types import Flush


@pytest.mark.cluster
def test_leader_follower_and_fetch_are_measured_beside_their_floor(tmp_path: Path) -> None:
    lines = measure(tmp_path, Flush.OS, 0.5, [BATCHES], 20_000_000)
    assert [line.role for line in lines] == ["leader", "follower", "leader"]
    for line in lines:
        assert line.records_per_s > 0
        assert line.ns_a_record > line.ns_a_byte > 0
        assert 0 < line.floor_ns_a_byte < 100
        assert 0 <= line.user <= 1
    assert [path.name for path in tmp_path.iterdir()] == ["nodes"]


def test_the_table_says_how_far_above_the_floor_it_is() -> None:
    text = markdown([Line("one", "leader", 1000, 900, 4.5, 0.5, 1.5)])
    cells = [cell.strip() for cell in text.splitlines()[2].split("|")[1:-1]]
    assert cells == ["one", "leader", "1,000", "900", "4.50", "50 %", "1.50", "3.0"]


def test_what_is_under_tls_is_set_against_the_same_without_it() -> None:
    plain = [Line("one", "follower", 1000, 900, 4.0, 0.5, 2.0)]
    lines = plain + against(plain, [Line("one", "follower", 800, 1000, 5.0, 0.5, 2.0)])
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in markdown(lines).splitlines()]
    assert (rows[0][-1], rows[2][-1], rows[3][1], rows[3][-1]) == ("× plain", "", "follower, TLS", "1.25")


def test_a_round_trip_takes_some_time_over_either_kind_of_socket() -> None:
    assert 1 < tcp_p50_us(20) < 1_000_000
    assert 1 < link_p50_us(20) < 1_000_000
