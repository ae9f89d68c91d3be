"""The command behind scripts/prometheus-watch: three nodes under load and faults, watched by a real Prometheus.

The queries of docs/operations.md are asked when something happens, and each has to name what it was: the node whose
disk was made slow, the partitions that lost a replica when a node was killed, the time of the last election, the
slowest consumer. A group that commits by a schedule shows how right its lag in seconds is.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from raftlog import Admin, Consumer, NewTopic, Producer, TopicPartition
from raftlog.errors import ConfigError, RaftlogError
from raftlog.node.local import LocalCluster
from raftlog.types import Role
from raftlog_cli.ending import ended_by_signals
from raftlog_cli.output import note
from raftlog_cli.own_cluster import temporary_directory

from .prometheus import ROOT, Prometheus, Sample, prometheus
from .schedule import Schedule

_EVERY_S = 5
_TOPIC, _PARTITIONS = "orders", 3
_SCHEDULED = "scheduled"
_RATE = 100  # records a second
_SLOW_NODE, _KILLED_NODE = 3, 2
_SEE_S = 90.0  # a scrape, its rate over some minutes, and a machine that has other work
_LATE_S = 2.0
_ROUNDING_S = 0.5
_TRIES_S = 300.0  # of a record of the schedule, which has to be written whatever happens


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    question: str
    wanted: str
    got: str
    right: bool


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="prometheus-watch", description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10, metavar="N", help="how long, 2 or more (10)")
    options = parser.parse_args(arguments)
    try:
        with ended_by_signals(), temporary_directory("prometheus-") as directory:
            answers = watch(directory, options.minutes * 60)
    except ConfigError as error:
        parser.error(str(error))
    for each in answers:
        print(f"{'right' if each.right else 'WRONG'}  {each.question}: {each.got}; wanted: {each.wanted}")
    return 0 if all(each.right for each in answers) else 1


def watch(directory: Path, seconds: float) -> list[Answer]:
    sign = directory / "slow"
    library = _library(directory)
    slow = ["env", f"LD_PRELOAD={library}", f"SLOW_DISK={sign}"]
    prefix = lambda node_id: slow if node_id == _SLOW_NODE else []  # noqa: E731
    nodes = LocalCluster(3, directory=directory / "nodes", http=True, prefix=prefix, ready_timeout_s=300)
    (directory / "nodes").mkdir()
    with nodes as cluster, prometheus(directory, cluster.http_endpoints, _EVERY_S) as watching:
        return _Watch(cluster, watching, sign).run(seconds)


class _Watch:
    def __init__(self, cluster: LocalCluster, watching: Prometheus, sign: Path) -> None:
        self._cluster = cluster
        self._prometheus = watching
        self._sign = sign
        self._queries = _documented()
        self._answers: list[Answer] = []
        self._over = threading.Event()
        self._alerts: set[str] = set()
        self._schedule = Schedule()
        self._began_s = time.time()

    def run(self, seconds: float) -> list[Answer]:
        begin_s = time.monotonic()

        def until(part: float) -> None:
            time.sleep(max(0.0, begin_s + part * seconds - time.monotonic()))
            self._alerts |= self._prometheus.alerts()
            note(f"{time.monotonic() - begin_s:4.0f} s")

        with Admin(self._cluster.bootstrap) as admin:
            admin.create_topics([NewTopic(name=_TOPIC, partitions=_PARTITIONS), NewTopic(name=_SCHEDULED)])
            admin.set_group_offsets("slow", {TopicPartition(_TOPIC, 0): 0})
            works = (self._produce, self._consume, self._keep_schedule)
            threads = [threading.Thread(target=work, daemon=True) for work in works]
            for thread in threads:
                thread.start()
            until(0.15)
            self._lose_a_node(until)
            until(0.45)
            self._slow_disk(until)
            until(0.75)
            self._end_a_worker(admin)
            until(0.95)
            self._ask_for_the_slowest()
            self._over.set()
            for thread in threads:
                thread.join()
        self._judge_lag()
        self._say_cost()
        return self._answers

    # --- faults, and what is asked then ------------------------------------------------------------
    def _lose_a_node(self, until: Callable[[float], None]) -> None:
        note(f"node {_KILLED_NODE} is killed")
        self._cluster.kill(_KILLED_NODE)
        wanted = {f"{_TOPIC}-{number}" for number in range(_PARTITIONS)}
        self._ask("which partition lost a replica", ", ".join(sorted(wanted)), lambda found: wanted <= _places(found))
        until(0.3)
        note(f"node {_KILLED_NODE} is started")
        self._cluster.start(_KILLED_NODE, wait=False)
        self._ask("which partition lost a replica", "none", lambda found: not found)

    def _slow_disk(self, until: Callable[[float], None]) -> None:
        note(f"the disk of node {_SLOW_NODE} becomes slow")
        self._sign.touch()
        until(0.6)
        instance = str(self._cluster.http_endpoints[_SLOW_NODE])
        self._ask("which disk is slow", instance, lambda found: _first(found)[0].get("instance") == instance)
        self._sign.unlink()

    def _end_a_worker(self, admin: Admin) -> None:
        deadline_s = time.monotonic() + _SEE_S
        while not (pid := _leaders_pid(admin)) and time.monotonic() < deadline_s:
            time.sleep(0.2)
        assert pid, f"{_TOPIC}-0 has no leader"
        note(f"the worker that leads {_TOPIC}-0 is killed")
        at_s = time.time()
        _kill(pid)
        self._ask(
            "when was the last election",
            "the seconds since the leader was killed, less what the election took",
            lambda found: bool(found) and abs(time.time() - at_s - found[0][1]) < _EVERY_S,
        )

    def _ask_for_the_slowest(self) -> None:
        self._ask("who is the slowest consumer", "slow", lambda found: _first(found)[0].get("group") == "slow")

    def _ask(self, question: str, wanted: str, is_right: Callable[[list[tuple[dict[str, str], float]]], bool]) -> None:
        """Until the answer is right: what happened has to be scraped first."""
        deadline_s = time.monotonic() + _SEE_S
        began_s = time.monotonic()
        while True:
            found = self._prometheus.ask(self._queries[question])
            right = is_right(found)
            if right or time.monotonic() > deadline_s:
                break
            time.sleep(1)
        got = "; ".join(f"{_words(labels)} {value:.3g}" for labels, value in sorted(found, key=lambda each: -each[1]))
        took = f" (after {time.monotonic() - began_s:.0f} s)"
        self._answers.append(Answer(question=question, wanted=wanted, got=(got or "none") + took, right=right))
        note(f"{question}: {got or 'none'}{took}")

    # --- load --------------------------------------------------------------------------------------
    def _produce(self) -> None:
        with Producer(self._cluster.bootstrap) as producer:
            while not self._over.wait(0.1):
                for _ in range(_RATE // 10):
                    producer.send(_TOPIC, b"x" * 200)

    def _consume(self) -> None:
        with Consumer(_TOPIC, bootstrap_servers=self._cluster.bootstrap, group_id="fast") as consumer:
            while not self._over.is_set():
                consumer.poll(500)

    def _keep_schedule(self) -> None:
        """A record each second, and each minute all of them are committed."""
        place, end = TopicPartition(_SCHEDULED, 0), 0
        with Producer(self._cluster.bootstrap, linger_ms=0) as producer, Admin(self._cluster.bootstrap) as admin:
            while not self._over.wait(1):
                now_s = time.time()
                offset = producer.send(_SCHEDULED, b"x", timestamp_ms=round(now_s * 1000)).result(_TRIES_S).offset
                self._schedule.wrote(offset, now_s)
                if offset >= end + 60:
                    end = offset + 1
                    begin_s = time.time()
                    admin.set_group_offsets(_SCHEDULED, {place: end})
                    self._schedule.committed(end, begin_s, time.time())
                elif not end:
                    end = 1
                    admin.set_group_offsets(_SCHEDULED, {place: end})
                    self._schedule.committed(end, now_s, time.time())

    # --- the end -----------------------------------------------------------------------------------
    def _judge_lag(self) -> None:
        samples: list[Sample] = self._prometheus.samples(f'raftlog_group_lag_seconds{{group="{_SCHEDULED}"}}[1h]')
        errors_s = [self._schedule.error_s(at_s, value, _LATE_S) for at_s, value in samples]
        wrong = [error_s for error_s in errors_s if error_s > _ROUNDING_S]
        for (at_s, value), error_s in zip(samples, errors_s, strict=True):
            if error_s > _ROUNDING_S:
                could_be = ", ".join(f"{lag_s:.1f}" for lag_s in sorted(self._schedule.lags_s(at_s)))
                note(f"{at_s - self._began_s:4.0f} s: {value:.1f} s behind was scraped, and it was {could_be}")
        got = f"{len(samples)} samples, {len(wrong)} of them are no lag of a moment within {_LATE_S:.0f} s"
        if errors_s:
            got += f"; errors: median {statistics.median(errors_s):.2f} s, largest {max(errors_s):.1f} s"
        self._answers.append(
            Answer(question="lag in seconds", wanted="all are", got=got, right=len(samples) > 10 and not wrong)
        )

    def _say_cost(self) -> None:
        for what in ("max_over_time(scrape_duration_seconds[1h])", "avg_over_time(scrape_duration_seconds[1h])"):
            note(f"{what}: {', '.join(f'{value:.3f}' for _, value in self._prometheus.ask(what))}")
        note(f"alerts that were pending or fired: {', '.join(sorted(self._alerts)) or 'none'}")


def _documented() -> dict[str, str]:
    """The queries that operations.md shows, by what they answer."""
    page = (ROOT / "docs" / "operations.md").read_text().partition("What people ask of Prometheus first")[2]
    return dict(re.findall(r"^\| ([a-z ]+) \| `(.+)` \|$", page.partition("\n## ")[0], re.M))


def _first(found: list[tuple[dict[str, str], float]]) -> tuple[dict[str, str], float]:
    """The one with the highest value."""
    return max(found, key=lambda each: each[1] if each[1] == each[1] else -1.0, default=({}, 0.0))


def _places(found: list[tuple[dict[str, str], float]]) -> set[str]:
    return {f"{labels['topic']}-{labels['partition']}" for labels, _ in found}


def _words(labels: dict[str, str]) -> str:
    return " ".join(f"{name}={value}" for name, value in labels.items() if name not in ("__name__", "job"))


def _leaders_pid(admin: Admin) -> int:
    """0: nobody leads the first partition now."""
    statuses = admin.describe_replicas([_TOPIC])
    return next((each.worker_pid for each in statuses if each.partition == 0 and each.role == Role.LEADER), 0)


def _kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def _library(directory: Path) -> Path:
    library = directory / "slow_disk.so"
    source = Path(__file__).with_name("slow_disk.c")
    try:
        subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise ConfigError(f"needs a C compiler, for a slow disk: {error}") from None
    return library


if __name__ == "__main__":
    try:
        sys.exit(main())
    except RaftlogError as error:
        sys.exit(f"prometheus-watch: {error}")
