"""The command behind scripts/bench/growth: how cost grows with partitions, with data on disk and with clients.

Three nodes on loopback, replication factor 3, acks=all, 200-byte records in batches of 50. The load clients are those
of `raftlog bench`.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import psutil

from raftlog import Admin
from raftlog.errors import ConfigError, RaftlogError
from raftlog.node.local import LocalCluster
from raftlog.protocol.messages import TopicMetadata
from raftlog_cli.bench_load import Plan, Result
from raftlog_cli.bench_run import LoadProcess, Settings, own_topic, plan_for, with_leaders
from raftlog_cli.output import note, print_json
from raftlog_cli.own_cluster import ended_by_signals, temporary_directory

from .machine import busy_cores, described, machine
from .summary import table

_NODES = 3
_SETTINGS = Settings(
    record_size=200, batch_records=50, in_flight=50, partitions=1, replication_factor=_NODES, acks=-1, seconds=5
)
_FILL_S = 3600.0
_READ_IN_FLIGHT = 4
_PREFERRED_S = 60.0
_PRODUCERS, _CONSUMERS = 3, 10
_TITLES = {
    "_partitions": "partitions: {}",
    "_size": "{} GB in each replica",
    "_crowd": f"{_PRODUCERS} producers and {{}} consumers of one partition",
}


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """Records a second in all; `ready_s` from starting all nodes to a leader with all replicas in sync."""

    what: str = ""
    produced: float | None = None
    produced_a_partition: float | None = None
    consumed: float | None = None
    ready_s: float | None = None
    memory_mb: float | None = None


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="growth", description=__doc__.partition("\n")[0])
    parser.add_argument("--partitions", type=_numbers, default=[1, 4, 16, 64], metavar="N,…", help="(1,4,16,64)")
    parser.add_argument(
        "--gigabytes", type=_numbers, default=[1, 10], metavar="N,…", help="of records, three times (1,10)"
    )
    parser.add_argument("--seconds", type=float, default=5, metavar="S", help="for each figure (5)")
    parser.add_argument("--json", action="store_true", help="the machine and every line as one object")
    options = parser.parse_args(arguments)
    settings = msgspec.structs.replace(_SETTINGS, seconds=options.seconds)
    try:
        with ended_by_signals(), temporary_directory("growth-") as directory:
            found = machine(directory)
            lines = measure(directory, settings, options.partitions, [round(each * 1e9) for each in options.gigabytes])
            found["busy_after"] = busy_cores()
    except ConfigError as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        note("growth: stopped; the nodes have ended and their data is removed")
        return 130
    if options.json:
        print_json({"machine": found, "lines": lines})
    else:
        sys.stdout.write(markdown(lines))
        print(f"\n{described(found)}, and {found['busy_after']} after it.")
    return 0


def _numbers(text: str) -> list[float]:
    numbers = [float(each) for each in text.split(",")]
    if not all(number > 0 for number in numbers):
        raise argparse.ArgumentTypeError("more than 0")
    return numbers


def markdown(lines: Sequence[Figures]) -> str:
    columns = ("", "produced/s", "a partition", "consumed/s", "ready again, s", "memory (PSS), MB")
    return table(
        columns,
        [
            [
                line.what,
                _shown(line.produced, ",.0f"),
                _shown(line.produced_a_partition, ",.0f"),
                _shown(line.consumed, ",.0f"),
                _shown(line.ready_s, ".1f"),
                _shown(line.memory_mb, ",.0f"),
            ]
            for line in lines
        ],
    )


def _shown(value: float | None, shape: str) -> str:
    return "" if value is None else format(value, shape)


def measure(directory: Path, settings: Settings, partitions: Sequence[float], sizes: Sequence[int]) -> list[Figures]:
    needed = _NODES * max(sizes, default=0) * 1.2
    if shutil.disk_usage(directory).free < needed + 5e9:
        raise ConfigError(f"{needed / 1e9:.0f} GB and 5 more have to be free under {directory}")
    lines = []
    for count in partitions:
        lines.append(_on_fresh_nodes(directory, settings, _partitions, int(count)))
    for size in sizes:
        lines.append(_on_fresh_nodes(directory, settings, _size, size))
    return [*lines, _on_fresh_nodes(directory, settings, _crowd, _CONSUMERS)]


Measure = Callable[[LocalCluster, Admin, Settings, int], Figures]


def _on_fresh_nodes(directory: Path, settings: Settings, one: Measure, number: int) -> Figures:
    """What fails becomes a line that says so."""
    what = _TITLES[one.__name__].format(f"{number / 1e9:g}" if one is _size else number)
    note(what)
    try:
        with _cluster(directory) as (cluster, admin, bootstrap):
            bound = msgspec.structs.replace(settings, bootstrap=bootstrap)
            return msgspec.structs.replace(one(cluster, admin, bound, number), what=what)
    except (RaftlogError, OSError, psutil.Error) as error:
        return Figures(what=f"{what}: no figures, {error}")


@contextlib.contextmanager
def _cluster(directory: Path) -> Iterator[tuple[LocalCluster, Admin, str]]:
    data = directory / "nodes"
    try:
        with LocalCluster(nodes=_NODES, directory=data) as cluster, Admin(bootstrap_servers=cluster.bootstrap) as admin:
            yield cluster, admin, cluster.bootstrap
    finally:
        shutil.rmtree(data, ignore_errors=True)


def _partitions(cluster: LocalCluster, admin: Admin, settings: Settings, count: int) -> Figures:
    settings = msgspec.structs.replace(settings, partitions=count)
    with own_topic(admin, settings) as topic:
        rate = _rate(_run([plan_for(settings, topic, "produce")])[0])
    return Figures(produced=rate, produced_a_partition=rate / count)


def _size(cluster: LocalCluster, admin: Admin, settings: Settings, size: int) -> Figures:
    """Filled, killed, started again, measured: all pages that fit are still in the cache."""
    records = -(-size // (settings.record_size * settings.batch_records)) * settings.batch_records
    with own_topic(admin, settings) as topic:
        _fill(settings, topic, records)
        for node_id in list(cluster.pids):
            cluster.kill(node_id)
        start_s = time.monotonic()
        for node_id in cluster.endpoints:
            cluster.start(node_id, wait=False)
        cluster.wait_ready(cluster.endpoints)
        with_leaders(admin, topic.name)
        ready_s = time.monotonic() - start_s
        topic = _led_by_preferred(admin, topic.name)
        fetch = plan_for(settings, topic, "fetch", records=records, in_flight=_READ_IN_FLIGHT, warm_up_s=0)
        consumed = _rate(_run([fetch])[0])
        produced = _rate(_run([plan_for(settings, topic, "produce")])[0])
        memory_mb = _memory_mb(cluster.pids.values())
    return Figures(produced=produced, consumed=consumed, ready_s=ready_s, memory_mb=memory_mb)


def _led_by_preferred(admin: Admin, name: str) -> TopicMetadata:
    """A leadership goes back to the first replica after a while, which would end a run in its middle."""
    end_s = time.monotonic() + _PREFERRED_S
    while True:
        topic = with_leaders(admin, name)
        if all(each.leader_id == each.replicas[0] for each in topic.partitions) or time.monotonic() > end_s:
            return topic
        time.sleep(0.2)


def _crowd(cluster: LocalCluster, admin: Admin, settings: Settings, consumers: int) -> Figures:
    records = 20_000 * settings.batch_records
    with own_topic(admin, settings) as topic:
        _fill(settings, topic, records)
        fetch = plan_for(settings, topic, "fetch", records=records, in_flight=_READ_IN_FLIGHT)
        results = _run([plan_for(settings, topic, "produce")] * _PRODUCERS + [fetch] * consumers)
    return Figures(
        produced=sum(map(_rate, results[:_PRODUCERS])),
        consumed=sum(map(_rate, results[_PRODUCERS:])),
    )


def _fill(settings: Settings, topic: TopicMetadata, records: int) -> None:
    (result,) = _run([plan_for(settings, topic, "fill", records=records, seconds=_FILL_S, warm_up_s=0)])
    if result.records < records:
        raise RaftlogError(f"only {result.records:,} records could be filled in within {_FILL_S:.0f} s")


def _run(plans: Sequence[Plan]) -> list[Result]:
    """All at once: the clock starts when each of them is warm."""
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(len(plans)) as threads:
        loads = [stack.enter_context(LoadProcess(plan)) for plan in plans]
        list(threads.map(LoadProcess.warm_up, loads))
        return list(threads.map(LoadProcess.measure, loads))


def _rate(result: Result) -> float:
    return result.records / result.seconds


def _memory_mb(pids: Iterable[int]) -> float:
    """PSS of the nodes and of all below them: what is shared counts once."""
    total = 0
    for pid in pids:
        node = psutil.Process(pid)
        for process in (node, *node.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                total += process.memory_full_info().pss
    return total / 1e6


if __name__ == "__main__":
    sys.exit(main())
