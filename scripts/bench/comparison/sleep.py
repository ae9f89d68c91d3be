"""The command behind scripts/bench/sleep: what idle partitions cost, and what it takes to wake them.

Three nodes on loopback, partitions with one record and three replicas each, at which nobody looks. What their workers
use of a core, each; how long the first record of each takes, and the next one; after SIGKILL to a node that leads many
of them, when each is led again. A tree whose partitions do not sleep can be measured with it as well.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import sys
import time
from collections.abc import Sequence

import psutil

from raftlog import Admin, NewTopic, Producer
from raftlog.node.local import LocalCluster
from raftlog_cli.ending import ended_by_signals
from raftlog_cli.output import note, print_json
from raftlog_cli.own_cluster import temporary_directory

from .arguments import positive
from .machine import busy_cores, described, machine

_TOPIC = "asleep"
_REPLICAS = 3
_WAIT_S = 60.0
_APART_S = 0.05  # between two records: what a partition needs is to be seen, not what a hundred need together
_LOOK_S = 0.01


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="sleep", description=__doc__.partition("\n")[0])
    parser.add_argument("--partitions", type=int, default=100, metavar="N", help="of the topic (100)")
    parser.add_argument("--settle", type=positive, default=20, metavar="S", help="until they sleep (20)")
    parser.add_argument("--seconds", type=positive, default=60, metavar="S", help="how long is measured (60)")
    parser.add_argument("--json", action="store_true", help="the machine and every figure as one object")
    options = parser.parse_args(arguments)
    try:
        with ended_by_signals(), temporary_directory("sleep-") as directory:
            found = machine(directory)
            with LocalCluster(nodes=3, directory=directory / "nodes") as cluster:
                figures = measure(cluster, options.partitions, options.settle, options.seconds)
            found["busy_after"] = busy_cores()
    except KeyboardInterrupt:
        note("sleep: stopped; the nodes have ended and their data is removed")
        return 130
    if options.json:
        print_json({"machine": found, "figures": figures})
    else:
        for name, value in figures.items():
            print(f"{name:50} {value:10.4g}")
        print(f"{described(found)}, and {found['busy_after']} after it.")
    return 0


def measure(cluster: LocalCluster, partitions: int, settle_s: float, seconds: float) -> dict[str, float]:
    others = {worker.pid for node_id in cluster.pids for worker in cluster.workers(node_id)}
    with Admin(cluster.bootstrap) as admin:
        admin.create_topics([NewTopic(name=_TOPIC, partitions=partitions, replication_factor=_REPLICAS)])
        _records(cluster, partitions)
        note(f"{partitions} partitions are there; {settle_s:.0f} s until they sleep")
        time.sleep(settle_s)
        pids = [w.pid for node_id in cluster.pids for w in cluster.workers(node_id) if w.pid not in others]
        figures = _idle(pids, list(cluster.pids.values()), seconds)
        for name, times_ms in (
            ("first record", _records(cluster, partitions)),
            ("next", _records(cluster, partitions)),
        ):
            figures[f"{name}, p50 ms"], figures[f"{name}, p99 ms"] = _percentiles(times_ms)
        time.sleep(settle_s)
        led_s = _failover(cluster, admin)
        figures["partitions of the killed node"] = len(led_s)
        figures["led again, p50 s"], figures["led again, p99 s"] = _percentiles(led_s)
    return figures


def _idle(workers: Sequence[int], supervisors: Sequence[int], seconds: float) -> dict[str, float]:
    def used() -> dict[int, int]:
        return {pid: _cpu_ns(pid) for pid in (*workers, *supervisors)}

    before, began_s = used(), time.monotonic()
    time.sleep(seconds)
    seconds, after = time.monotonic() - began_s, used()
    share = {pid: 100 * (after[pid] - before[pid]) / 1e9 / seconds for pid in before}
    return {
        "workers": len(workers),
        "a worker, mean % of a core": statistics.mean(share[pid] for pid in workers),
        "a worker, median % of a core": statistics.median(share[pid] for pid in workers),
        "a supervisor, mean % of a core": statistics.mean(share[pid] for pid in supervisors),
    }


def _cpu_ns(pid: int) -> int:
    """Of all its threads: ticks of 10 ms are too coarse for what an idle process uses."""
    total = 0
    for thread in psutil.Process(pid).threads():
        with open(f"/proc/{pid}/task/{thread.id}/schedstat") as file:
            total += int(file.read().split()[0])
    return total


def _records(cluster: LocalCluster, partitions: int) -> list[float]:
    """One to each partition, one after the other, in milliseconds each."""
    times_ms = []
    with Producer(cluster.bootstrap, linger_ms=0) as producer:
        for partition in range(partitions):
            began_s = time.perf_counter()
            producer.send(_TOPIC, b"a record", partition=partition).result(_WAIT_S)
            times_ms.append(1000 * (time.perf_counter() - began_s))
            time.sleep(_APART_S)
    return times_ms


def _failover(cluster: LocalCluster, admin: Admin) -> list[float]:
    """Seconds from SIGKILL until another node is known to lead, for each partition of the killed one."""
    leaders = _leaders(admin)
    victim = max(cluster.pids, key=list(leaders.values()).count)
    lost = {partition for partition, leader in leaders.items() if leader == victim}
    os.kill(cluster.pids[victim], signal.SIGKILL)  # its workers end with it
    began_s, led_s = time.monotonic(), dict[int, float]()
    while lost - led_s.keys() and time.monotonic() - began_s < _WAIT_S:
        for partition, leader in _leaders(admin).items():
            if partition in lost and leader not in (-1, victim):
                led_s.setdefault(partition, time.monotonic() - began_s)
        time.sleep(_LOOK_S)
    cluster.kill(victim)  # what is left of it
    return [led_s.get(partition, _WAIT_S) for partition in lost]


def _leaders(admin: Admin) -> dict[int, int]:
    (topic,) = admin.describe_topics([_TOPIC])
    return {found.partition: found.leader_id for found in topic.partitions}


def _percentiles(values: Sequence[float]) -> tuple[float, float]:
    in_order = sorted(values)
    return in_order[len(in_order) // 2], in_order[min(len(in_order) - 1, int(0.99 * len(in_order)))]


if __name__ == "__main__":
    sys.exit(main())
