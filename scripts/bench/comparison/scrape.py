"""The command behind scripts/bench/scrape: processor time of one scrape of a node, step by step.

The supervisor's side and the HTTP process's side, as they are, fed with what busy workers tell. The processes that are
looked at are real, and do nothing: no machine of ours runs a thousand busy workers.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import msgspec

from raftlog.histogram import BOUNDS_S
from raftlog.http.exposition import OPENMETRICS_TYPE
from raftlog.http.metrics import Scrape, render
from raftlog.http.processes import Processes
from raftlog.node import channel as ch
from raftlog.node.figure_book import FigureBook
from raftlog.partition.stages import STAGES
from raftlog.protocol.report import Figures, NodeReport, PartitionFigures, Timing
from raftlog.types import ReplicaStatus, Role

from .arguments import whole_number
from .summary import table

_APIS = ("Produce", "Fetch", "ListOffsets", "Metadata", "ApiVersions", "DescribeReplica")
_CODES = ("NOT_LEADER_OR_FOLLOWER", "OFFSET_OUT_OF_RANGE")
_EACH_TOPIC = 10  # partitions

T = TypeVar("T")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="scrape", description=__doc__.partition("\n")[0])
    parser.add_argument("--partitions", type=whole_number, default=1000, metavar="N", help="hosted by the node (1000)")
    parser.add_argument(
        "--rounds", type=whole_number, default=10, metavar="N", help="the median of so many scrapes (10)"
    )
    parser.add_argument("--json", action="store_true", help="milliseconds by step, as one object")
    options = parser.parse_args(arguments)
    steps = measure(options.partitions, options.rounds)
    if options.json:
        print(msgspec.json.encode({"partitions": options.partitions, "cpu_ms": steps}).decode())
    else:
        print(table(["step", "CPU ms"], [[name, f"{cpu_ms:.1f}"] for name, cpu_ms in steps.items()]))
    return 0


def measure(partitions: int, rounds: int) -> dict[str, float]:
    """Milliseconds of processor time of each step, and together, as text and as OpenMetrics. Medians."""
    taken: dict[str, list[float]] = {}

    def timed(step: str, work: Callable[[], T]) -> T:
        begin_s = time.thread_time()
        found = work()
        taken.setdefault(step, []).append(1000 * (time.thread_time() - begin_s))
        return found

    book, looks = FigureBook(time.time), Processes()
    for number in range(partitions):
        book.take(number, _told(number))
    with _sleepers(partitions) as pids:
        for number in range(rounds + 1):  # in the first round, all is new
            for changed in range(partitions):
                book.take(changed, _told(changed))
            gc.collect()
            if number == 1:
                taken.clear()
            figures = timed("figures put together", book.whole)
            report = _report(partitions, figures, pids)
            told = timed("sent", lambda: msgspec.msgpack.encode(ch.Told(number=1, report=report)))  # noqa: B023
            heard = timed("received", lambda: msgspec.msgpack.decode(told, type=ch.Told)).report  # noqa: B023
            usages = timed("processes", lambda: looks.look(heard.processes))  # noqa: B023
            scrape = Scrape(heard, True, [], usages, (1, 1), 0)
            timed("text", lambda: render(scrape, ""))  # noqa: B023
            timed("OpenMetrics", lambda: render(scrape, OPENMETRICS_TYPE))  # noqa: B023
    looks.close()
    steps = {step: statistics.median(each_ms) for step, each_ms in taken.items()}
    before_ms = sum(steps.values()) - steps["text"] - steps["OpenMetrics"]
    return {
        **steps,
        "a scrape as text": before_ms + steps["text"],
        "a scrape as OpenMetrics": before_ms + steps["OpenMetrics"],
    }


def _told(number: int) -> Figures:
    """What the worker of a busy leader tells its supervisor."""
    figures = Figures()
    figures.count(0, "refused_messages", "native")
    for code in _CODES:
        figures.count(number, "errors", "worker", code)
    for door in ("native", "inner"):
        for api in _APIS:
            figures.count(1000 + number, "requests", door, api)
            figures.count(0.123456789 * number, "request_handling_seconds", door, api)
    figures.levels["connections", "native"] = 3
    for each in range(3):
        figures.levels["sessions", "native", f"client-{each}", "1.0"] = 1
    buckets = list(range(len(BOUNDS_S) + 1))
    for stage in STAGES:
        figures.timings["produce_stage_seconds", stage] = Timing(buckets, 1.23456789)
    figures.timings["sync_seconds",] = Timing(buckets, 1.23456789)
    own = PartitionFigures(
        topic=f"topic-{number // _EACH_TOPIC}",
        partition=number % _EACH_TOPIC,
        elections=1,
        produced_bytes=1_000_000_000 + number,
        fetched_bytes=1_000_000_000 + number,
        elected_ms=1_700_000_000_000 + number,
        index_map_bytes=1 << 20,
        index_used_bytes=1 << 15,
    )
    figures.partitions.append(own)
    # As it arrives: no two workers share an object.
    return msgspec.msgpack.decode(msgspec.msgpack.encode(figures), type=Figures)


def _report(partitions: int, figures: Figures, pids: Sequence[int]) -> NodeReport:
    statuses = [
        ReplicaStatus(
            topic=f"topic-{number // _EACH_TOPIC}",
            topic_id=b"t" * 16,
            partition=number % _EACH_TOPIC,
            node_id=1,
            role=Role.FOLLOWER if number % 3 else Role.LEADER,
            leader_id=1,
            leader_epoch=7,
            high_watermark=1_000_000 + number,
            log_end_offset=1_000_003 + number,
            size_bytes=1_234_567_890,
            in_sync=() if number % 3 else (1, 2, 3),
        )
        for number in range(partitions)
    ]
    return NodeReport(
        node_id=1,
        cluster_id="bench",
        obstacles=[],
        replicas=statuses,
        sizes=[3] * partitions,
        lags=[0] * partitions,
        nodes_alive=3,
        nodes_known=3,
        processes={"supervisor": [os.getpid()], "worker": list(pids)},
        figures=figures,
    )


@contextlib.contextmanager
def _sleepers(count: int) -> Iterator[list[int]]:
    """Small processes: a fork of this one would hold all that it holds, and to add that up is what is measured."""
    sleepers: list[subprocess.Popen[bytes]] = []
    try:
        for _ in range(count):
            sleepers.append(subprocess.Popen(["sleep", "infinity"]))
        yield [sleeper.pid for sleeper in sleepers]
    finally:
        for sleeper in sleepers:
            sleeper.kill()
            sleeper.wait()


if __name__ == "__main__":
    sys.exit(main())
