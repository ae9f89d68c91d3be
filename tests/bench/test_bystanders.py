"""What idle clients and a consumer far behind cost, of servers and load clients that are made up."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import pytest

from comparison.bystanders import measure_behind, measure_idle
from comparison.system import Shape
from comparison.workloads import BEHIND, IDLE_CONNECTIONS, IDLE_PARTITIONS, Row, Workload
from raftlog.errors import RaftlogError
from raftlog_cli.bench_load import Result


class Load:
    def __init__(self, records: int, requests: int) -> None:
        self._result = Result(
            requests=requests, records=records, seconds=1.0, cpu_s=0.1, p50_ms=None, p99_ms=None, p999_ms=None
        )

    def warm_up(self) -> None:
        pass

    def measure(self) -> Result:
        return self._result


class Servers:
    """`rates`: of each load that is started, in its order."""

    def __init__(self, *rates: int) -> None:
        self._rates = list(rates)
        self.asked: list[tuple[str, int | None]] = []

    def pids(self) -> list[int]:
        return [os.getpid()]

    def shape(self, workload: Workload) -> Shape:
        return Shape(workload.in_flight, workload.batch_records, workload.connections or 1)

    @contextlib.contextmanager
    def load(self, workload: Workload, *, seconds: float, warm_up_s: float) -> Iterator[Load]:
        self.asked.append((workload.mode, workload.connections))
        yield Load(self._rates[0], self._rates.pop(0))


def _row(workload: Workload) -> Row:
    return Row(
        system="made up",
        variant="",
        workload=workload.key,
        replicas=3,
        fsync=False,
        record_size=workload.record_size,
        in_flight=workload.in_flight,
        batch_records=workload.batch_records,
    )


def test_the_producer_beside_a_consumer_is_set_against_itself_alone_before_and_after() -> None:
    servers, row = Servers(1200, 900, 5000, 800), _row(BEHIND)
    measure_behind(servers, BEHIND, row, 0.0, 0.0)  # type: ignore[arg-type]
    assert servers.asked == [("produce", 3), ("produce", 3), ("consume", 1), ("produce", 3)]
    assert (row.records_per_s, row.read_per_s, row.cost_percent) == (900, 5000, pytest.approx(10.0))


def test_idle_connections_are_counted_and_their_memory_shared_out() -> None:
    row = _row(IDLE_CONNECTIONS)
    measure_idle(Servers(2000), IDLE_CONNECTIONS, row, 0.05, 0.0)  # type: ignore[arg-type]
    assert row.connections == 2000 and row.bytes_each is not None
    assert row.idle_percent is not None and row.held_percent is not None and row.records_per_s == 0


def test_servers_that_end_idle_connections_give_no_figure() -> None:
    with pytest.raises(RaftlogError, match="only 1999 of 2000 connections were kept"):
        measure_idle(Servers(1999), IDLE_CONNECTIONS, _row(IDLE_CONNECTIONS), 0.05, 0.0)  # type: ignore[arg-type]


def test_the_topic_of_idle_partitions_is_there_before_the_servers_are_measured() -> None:
    servers, row = Servers(0, 6), _row(IDLE_PARTITIONS)
    measure_idle(servers, IDLE_PARTITIONS, row, 0.05, 0.0)  # type: ignore[arg-type]
    assert servers.asked == [("attend", 1), ("attend", 1)]
    assert (row.requests_per_s, row.bytes_each) == (6, None)
