"""Runs the workloads on one system after the other, in rounds; whatever fails becomes a row that says so."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec
import psutil

from raftlog.errors import RaftlogError

from .bystanders import measure_behind, measure_connects, measure_idle
from .counters import counters, wire_between
from .system import Running, System, Variant
from .workloads import WORKLOADS, Row, Workload

# What a system or its load client may fail with; anything else is a bug of ours and ends the run.
_FAILURES = (RaftlogError, OSError, subprocess.SubprocessError, psutil.Error, msgspec.MsgspecError)
_SETTLE_S = 0.3  # for what the servers still do after the warm-up


class Pace(msgspec.Struct, frozen=True):
    rounds: int
    seconds: float
    warm_up_s: float


WHOLE = Pace(rounds=3, seconds=2.5, warm_up_s=1.0)
QUICK = Pace(rounds=1, seconds=0.8, warm_up_s=0.3)


def rounds(
    systems: Sequence[System],
    wanted: int,
    pace: Pace,
    directory: Path,
    say: Callable[[str], None],
    asked: Sequence[Workload] = WORKLOADS,
) -> Iterator[Row]:
    """Every system in every round, in another order each time, so that a slow minute meets all of them."""
    runs = [(system, variant) for system in systems for variant in system.variants]
    for number in range(pace.rounds):
        for system, variant in runs[number:] + runs[:number]:
            say(f"round {number + 1} of {pace.rounds}: {system.name}, {variant.label}")
            workloads = [workload for workload in variant.workloads if workload in asked]
            for row in _one(system, variant, wanted, pace, directory, workloads):
                if row.error:
                    say(f"{system.name}, {row.workload}: {row.error}")
                yield row


def _one(
    system: System, variant: Variant, wanted: int, pace: Pace, directory: Path, workloads: Sequence[Workload]
) -> Iterator[Row]:
    replicas = system.replicas(wanted)
    done: set[str] = set()

    def blank(workload: Workload, error: str = "") -> Row:
        return Row(
            system=system.name,
            variant=variant.label,
            workload=workload.key,
            replicas=replicas,
            fsync=variant.fsync,
            record_size=workload.record_size,
            in_flight=workload.in_flight,
            batch_records=workload.batch_records,
            error=error,
        )

    try:
        with (
            tempfile.TemporaryDirectory(prefix=f"{system.name}-", dir=directory, ignore_cleanup_errors=True) as own,
            system.started(Path(own), replicas, variant) as running,
        ):
            for workload in workloads:
                warm_up_s = 0.0 if done else system.settle_s * (pace.warm_up_s / WHOLE.warm_up_s)
                row = blank(workload)
                try:
                    _MEASURES[workload.mode](running, workload, row, pace.seconds, max(warm_up_s, pace.warm_up_s))
                except _FAILURES as error:
                    row.error = _said(error)
                done.add(workload.key)
                yield row
    except _FAILURES as error:
        for workload in workloads:
            if workload.key not in done:
                yield blank(workload, f"not started: {_said(error)}")


def _measure(running: Running, workload: Workload, row: Row, seconds: float, warm_up_s: float) -> None:
    shape = running.shape(workload)
    row.in_flight, row.batch_records, row.connections = shape.in_flight, shape.batch_records, shape.connections
    with running.load(workload, seconds=seconds, warm_up_s=warm_up_s) as load:
        load.warm_up()
        time.sleep(_SETTLE_S)
        before = counters(running.pids(), load.pid)
        result = load.measure()
        after = counters(running.pids(), load.pid)
    if not result.records:
        raise RaftlogError("nothing was done in the measured time")
    row.records_per_s = result.records / result.seconds
    row.mb_per_s = row.records_per_s * workload.record_size / 1e6
    if workload.timed:
        row.p50_ms, row.p99_ms, row.p999_ms = result.p50_ms, result.p99_ms, result.p999_ms
    row.client_cpu = result.cpu_s / result.seconds
    row.servers_cpu = (after.servers_cpu_s - before.servers_cpu_s) / result.seconds
    if not workload.consume and after.sockets is not None and before.sockets is not None:
        wire = wire_between(before.sockets, after.sockets, load.pid)
        row.client_wire_bytes = wire.client / (result.records + result.drained)
        row.all_wire_bytes = wire.all / (result.records + result.drained)


_MEASURES = {
    "produce": _measure,
    "consume": _measure,
    "decode": _measure,
    "behind": measure_behind,
    "hold": measure_idle,
    "attend": measure_idle,
    "connect": measure_connects,
}


def _said(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
