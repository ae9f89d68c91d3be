"""What clients cost that do little or come late: idle ones, new ones, and a consumer that is far behind."""

from __future__ import annotations

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor

import msgspec

from raftlog.errors import RaftlogError
from raftlog_cli.bench_load import Result

from .counters import memory_bytes, scheduled_s
from .system import Running
from .workloads import Row, Workload

_IDLE_TIMES = 4  # idle servers use a few milliseconds a second, so that it takes longer to see what is added
_SETTLE_S = 1.0
_ONE_FETCH_AT_A_TIME = 1  # as consumers ask one partition


def measure_idle(running: Running, workload: Workload, row: Row, seconds: float, warm_up_s: float) -> None:
    """The servers without the idle clients, and then with them. A topic of its own is there in both."""
    idle_s = seconds * _IDLE_TIMES
    shape = running.shape(workload)
    row.in_flight, row.connections = 0, shape.connections
    if workload.mode == "attend":
        _create(running, workload)
    time.sleep(_SETTLE_S)
    memory_before = memory_bytes(running.pids())
    row.idle_percent = _percent(running, idle_s)
    with running.load(workload, seconds=idle_s, warm_up_s=warm_up_s) as load:
        load.warm_up()
        before_s = scheduled_s(running.pids())
        result = load.measure()
        row.held_percent = 100 * (scheduled_s(running.pids()) - before_s) / result.seconds
        memory_after = memory_bytes(running.pids())
    row.client_cpu = result.cpu_s / result.seconds
    if workload.mode == "attend":
        row.requests_per_s = result.requests / result.seconds
        return
    if result.records < shape.connections:
        raise RaftlogError(f"only {result.records} of {shape.connections} connections were kept")
    row.bytes_each = (memory_after - memory_before) / shape.connections


def measure_connects(running: Running, workload: Workload, row: Row, seconds: float, warm_up_s: float) -> None:
    """All CPU that the servers use meanwhile is counted: what they do without is a few thousandths of a core."""
    shape = running.shape(workload)
    row.in_flight, row.connections = 0, shape.connections
    with running.load(workload, seconds=seconds, warm_up_s=warm_up_s) as load:
        load.warm_up()
        before_s = scheduled_s(running.pids())
        result = load.measure()
        used_s = scheduled_s(running.pids()) - before_s
    row.client_cpu, row.servers_cpu = result.cpu_s / result.seconds, used_s / result.seconds
    row.connects_per_s = result.records / result.seconds
    row.connects_per_core = result.records / used_s


def _create(running: Running, workload: Workload) -> None:
    """A client that comes and goes leaves the topic."""
    with running.load(workload, seconds=0, warm_up_s=0) as load:
        load.measure()


def _percent(running: Running, seconds: float) -> float:
    before_s = scheduled_s(running.pids())
    time.sleep(seconds)
    return 100 * (scheduled_s(running.pids()) - before_s) / seconds


def measure_behind(running: Running, workload: Workload, row: Row, seconds: float, warm_up_s: float) -> None:
    """A producer beside a consumer that begins at the first record, and the same producer alone before and after."""
    produce = msgspec.structs.replace(workload, mode="produce")
    consume = msgspec.structs.replace(workload, mode="consume", in_flight=_ONE_FETCH_AT_A_TIME, connections=1)
    shape = running.shape(produce)
    row.in_flight, row.batch_records, row.connections = shape.in_flight, shape.batch_records, shape.connections

    def together(*workloads: Workload) -> list[float]:
        results = _at_once(running, workloads, seconds, warm_up_s)
        return [result.records / result.seconds for result in results]

    (before,) = together(produce)
    beside, read = together(produce, consume)
    (after,) = together(produce)
    row.records_per_s, row.read_per_s = beside, read
    row.mb_per_s = beside * workload.record_size / 1e6
    row.cost_percent = 100 * (1 - beside / ((before + after) / 2))


def _at_once(running: Running, workloads: tuple[Workload, ...], seconds: float, warm_up_s: float) -> list[Result]:
    """The clock starts when each of them is warm."""
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(len(workloads)) as threads:
        loads = [
            stack.enter_context(running.load(workload, seconds=seconds, warm_up_s=warm_up_s)) for workload in workloads
        ]
        list(threads.map(lambda load: load.warm_up(), loads))
        return list(threads.map(lambda load: load.measure(), loads))
