"""The command behind scripts/bench/growth: how cost grows with partitions, with data on disk and with clients.

Three nodes on loopback, replication factor 3, acks=all, 200-byte records in batches of 50. The load clients are those
of `raftlog bench`. With `--replicas 1` there is one node, so that a disk holds three times as much in each.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import psutil

from raftlog import Admin
from raftlog.errors import ConfigError, RaftlogError
from raftlog.node.local import LocalCluster
from raftlog.protocol.cluster import TopicMetadata
from raftlog_cli.bench_load import Plan, Result
from raftlog_cli.bench_run import LoadProcess, Settings, own_topic, plan_for, with_leaders
from raftlog_cli.ending import ended_by_signals
from raftlog_cli.output import note, print_json
from raftlog_cli.own_cluster import temporary_directory

from .arguments import positive, positives
from .counters import memory_bytes, scheduled_s
from .machine import busy_cores, described, machine
from .summary import table

_SETTINGS = Settings(
    record_size=200, batch_records=50, in_flight=50, partitions=1, replication_factor=3, acks=-1, seconds=5
)
_FILL_S = 3600.0
_READ_IN_FLIGHT = 4
_CONSUMER_IN_FLIGHT = 1  # what `Consumer` asks of one partition at a time
_PREFERRED_S = 60.0
_PRODUCERS, _CONSUMERS = 3, 10
_CROWD_RECORDS = 1_000_000
_IDLE_SECONDS = 4  # so many times longer, since an idle replica uses a few ticks of a process's clock
_SETTLE_S = 2.0


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One table's line: `figures` by the names of their columns. `error`: why there are none."""

    table: str
    what: str
    figures: dict[str, float] = {}
    error: str = ""


Figures = dict[str, float]
Measure = Callable[[Path, LocalCluster, Admin, Settings], Figures]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="growth", description=__doc__.partition("\n")[0])
    parser.add_argument("--partitions", type=positives, default=[1, 4, 16, 64], metavar="N,…", help="(1,4,16,64)")
    parser.add_argument(
        "--gigabytes", type=positives, default=[1, 10], metavar="N,…", help="of records in each replica (1,10)"
    )
    parser.add_argument("--replicas", type=int, choices=(1, 3), default=3, help="of each partition, a node each (3)")
    parser.add_argument("--seconds", type=positive, default=5, metavar="S", help="for each figure (5)")
    parser.add_argument("--json", action="store_true", help="the machine and every line as one object")
    options = parser.parse_args(arguments)
    settings = msgspec.structs.replace(_SETTINGS, seconds=options.seconds, replication_factor=options.replicas)
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
        print(f"{described(found)}, and {found['busy_after']} after it.")
    return 0


def markdown(lines: Sequence[Line]) -> str:
    """A table for each group of lines, and a sentence for each line without figures."""
    texts = []
    for name in dict.fromkeys(line.table for line in lines):
        mine = [line for line in lines if line.table == name]
        good = [line for line in mine if not line.error]
        columns = list(dict.fromkeys(column for line in good for column in line.figures))
        if good:
            cells = [[line.what, *(_shown(line.figures.get(column)) for column in columns)] for line in good]
            texts.append(table([name, *columns], cells))
        texts.extend(f"\n{name} {line.what}: no figures. {line.error}\n" for line in mine if line.error)
        texts.append("\n")
    return "".join(texts)


def _shown(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def measure(directory: Path, settings: Settings, partitions: Sequence[float], sizes: Sequence[int]) -> list[Line]:
    needed = _nodes(settings) * max(sizes, default=0) * 1.2
    if shutil.disk_usage(directory).free < needed + 5e9:
        raise ConfigError(f"{needed / 1e9:.0f} GB and 5 more have to be free under {directory}")
    lines = []
    for count in map(int, partitions):
        spread = msgspec.structs.replace(settings, partitions=count)
        lines.append(_line(directory, spread, "partitions", str(count), _partitions))
    for size in sizes:
        lines.append(_line(directory, settings, "GB in each replica", f"{size / 1e9:g}", _of_size(size)))
    crowd = f"{_PRODUCERS} producers and {_CONSUMERS} consumers"
    lines.append(
        _line(directory, settings, "clients of one partition", "a producer, and a consumer far behind", _behind)
    )
    lines.append(_line(directory, settings, "clients of one partition", crowd, _crowd))
    return lines


def _line(directory: Path, settings: Settings, name: str, what: str, one: Measure) -> Line:
    """On fresh nodes. What fails becomes a line that says so."""
    note(f"{name}: {what}")
    data = directory / "nodes"
    try:
        with (
            LocalCluster(nodes=_nodes(settings), directory=data) as cluster,
            Admin(bootstrap_servers=cluster.bootstrap) as admin,
        ):
            figures = one(data, cluster, admin, msgspec.structs.replace(settings, bootstrap=cluster.bootstrap))
    except (RaftlogError, OSError, psutil.Error) as error:
        return Line(table=name, what=what, error=" ".join(str(error).split()) or type(error).__name__)
    finally:
        shutil.rmtree(data, ignore_errors=True)
    return Line(table=name, what=what, figures=figures)


def _partitions(data: Path, cluster: LocalCluster, admin: Admin, settings: Settings) -> Figures:
    idle_s = settings.seconds * _IDLE_SECONDS
    time.sleep(_SETTLE_S)
    cpu_before, memory_before_mb = _cpu_share(cluster, idle_s), _memory_mb(cluster)
    with own_topic(admin, settings) as topic:
        time.sleep(_SETTLE_S)
        replicas = settings.partitions * _nodes(settings)
        idle_cpu = (_cpu_share(cluster, idle_s) - cpu_before) / replicas
        idle_mb = (_memory_mb(cluster) - memory_before_mb) / replicas
        rate = _rate(_run([plan_for(settings, _led_by_preferred(admin, topic.name), "produce")])[0])
    return {
        "produced/s": rate,
        "a partition": rate / settings.partitions,
        "idle replica, % of a core": 100 * idle_cpu,
        "idle replica, MB (PSS)": idle_mb,
    }


def _of_size(size: int) -> Measure:
    def measure(data: Path, cluster: LocalCluster, admin: Admin, settings: Settings) -> Figures:
        """Filled, read, killed, started again, measured."""
        records = -(-size // (settings.record_size * settings.batch_records)) * settings.batch_records
        with own_topic(admin, settings) as topic:
            _fill(settings, topic, records)

            def consumed(seconds: float) -> float:
                """From the first record on, by a reader that has not read before."""
                fetch = plan_for(settings, topic, "fetch", records=records, in_flight=_READ_IN_FLIGHT, warm_up_s=0)
                return _rate(_run([msgspec.structs.replace(fetch, seconds=seconds)])[0])

            consumed(settings.seconds)  # of what a reader may need, all is in the page cache then
            before = consumed(settings.seconds)
            for node_id in list(cluster.pids):
                cluster.kill(node_id)
            start_s = time.monotonic()
            for node_id in cluster.endpoints:
                cluster.start(node_id, wait=False)
            cluster.wait_ready(cluster.endpoints)
            with_leaders(admin, topic.name)
            ready_s = time.monotonic() - start_s
            topic = _led_by_preferred(admin, topic.name)
            first = consumed(settings.seconds)
            _drop_from_cache(data, topic)
            cold = consumed(settings.seconds)
            produced = _rate(_run([plan_for(settings, topic, "produce")])[0])
            memory_mb = _memory_mb(cluster)
        return {
            "consumed/s": before,
            "killed, ready again in s": ready_s,
            "consumed/s, first pass after it": first,
            "from a cold cache": cold,
            "produced/s": produced,
            "memory of all nodes, MB (PSS)": memory_mb,
        }

    return measure


def _led_by_preferred(admin: Admin, name: str) -> TopicMetadata:
    """A leadership goes back to the first replica after a while, which would end a run in its middle."""
    end_s = time.monotonic() + _PREFERRED_S
    while True:
        topic = with_leaders(admin, name)
        if all(each.leader_id == each.replicas[0] for each in topic.partitions) or time.monotonic() > end_s:
            return topic
        time.sleep(0.2)


def _drop_from_cache(data: Path, topic: TopicMetadata) -> None:
    for path in data.glob(f"*/{topic.name}-*/log.*/*.log"):
        with path.open("rb") as file:
            os.fsync(file.fileno())  # a page that is not on the disk cannot be dropped
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _behind(data: Path, cluster: LocalCluster, admin: Admin, settings: Settings) -> Figures:
    """A consumer that has all the log in front of it, none of it in the page cache, while records are produced."""
    records = _CROWD_RECORDS * 10 * settings.batch_records // _SETTINGS.batch_records
    with own_topic(admin, settings) as topic:
        _fill(settings, topic, records)
        produce = plan_for(settings, topic, "produce")
        alone = _rate(_run([produce])[0])
        figures = {"produced/s": alone}
        for in_flight in (_CONSUMER_IN_FLIGHT, _READ_IN_FLIGHT):
            _drop_from_cache(data, topic)
            fetch = plan_for(settings, topic, "fetch", records=records, in_flight=in_flight)
            produced, consumed = _run([produce, fetch])
            figures[f"beside a consumer, {in_flight} in flight"] = _rate(produced)
            figures[f"consumed/s, {in_flight} in flight"] = _rate(consumed)
    return figures


def _crowd(data: Path, cluster: LocalCluster, admin: Admin, settings: Settings) -> Figures:
    with own_topic(admin, settings) as topic:
        _fill(settings, topic, _CROWD_RECORDS)
        fetch = plan_for(settings, topic, "fetch", records=_CROWD_RECORDS, in_flight=_READ_IN_FLIGHT)
        results = _run([plan_for(settings, topic, "produce")] * _PRODUCERS + [fetch] * _CONSUMERS)
    return {
        "produced/s": sum(map(_rate, results[:_PRODUCERS])),
        "consumed/s": sum(map(_rate, results[_PRODUCERS:])),
    }


def _nodes(settings: Settings) -> int:
    """One for each replica."""
    assert settings.replication_factor is not None
    return settings.replication_factor


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


def _pids(cluster: LocalCluster) -> list[int]:
    return list(cluster.pids.values())


def _cpu_share(cluster: LocalCluster, seconds: float) -> float:
    """Cores that all nodes use while nobody asks them for anything."""
    before_s = scheduled_s(_pids(cluster))
    time.sleep(seconds)
    return (scheduled_s(_pids(cluster)) - before_s) / seconds


def _memory_mb(cluster: LocalCluster) -> float:
    return memory_bytes(_pids(cluster)) / 1e6


if __name__ == "__main__":
    sys.exit(main())
