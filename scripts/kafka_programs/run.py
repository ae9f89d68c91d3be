"""The command behind scripts/kafka-programs: programs that were written for Kafka, unchanged, with raftlog.

Exit code 0: nothing failed; 1: something did; 2: wrong arguments, or nothing could be tried.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from kafka_clients.bench import Bench
from kafka_clients.program import FailedError
from kafka_clients.run import names
from kafka_clients.tools import SCRIBE, MissingError
from raftlog.node.local import LocalCluster
from raftlog_cli.ending import ended_by_signals
from raftlog_cli.output import note, plain_table, print_json
from raftlog_cli.own_cluster import temporary_directory

from . import connect, mirror, spark, streams
from .stage import Stage


class Trial(NamedTuple):
    version: Callable[[], str]  # fetches and builds what is needed. Raises MissingError
    run: Callable[[Stage], Iterator[str]]  # what was seen, step by step. Raises FailedError


class Outcome(NamedTuple):
    program: str
    version: str
    verdict: str  # ok, fails
    seen: list[str]
    reason: str
    seconds: float


TRIALS = {
    name: Trial(each.version, each.run)
    for name, each in (("connect", connect), ("mirror", mirror), ("streams", streams), ("spark", spark))
}


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    start_s = time.monotonic()
    outcomes: list[Outcome] = []
    left_out: dict[str, str] = {}
    try:
        scribe = SCRIBE.prepare()
        with ended_by_signals():
            for name in options.programs:
                try:
                    version = TRIALS[name].version()
                except MissingError as missing:
                    left_out[name] = str(missing)
                    note(f"{name} is left out: {missing}")
                else:
                    outcomes.append(_try(name, version, scribe, options.keep))
    except MissingError as missing:
        note(f"kafka-programs: {missing}")
        return 2
    except KeyboardInterrupt:
        note("kafka-programs: stopped")
        return 130
    minutes = round((time.monotonic() - start_s) / 60, 1)
    if options.json:
        told = [outcome._asdict() for outcome in outcomes]
        print_json({"programs": told, "left_out": left_out, "minutes": minutes})
    else:
        sys.stdout.write(table(outcomes, left_out))
        print(f"{minutes} minutes.")
    if not outcomes:
        return 2
    return 1 if any(outcome.verdict == "fails" for outcome in outcomes) else 0


def table(outcomes: Sequence[Outcome], left_out: Mapping[str, str]) -> str:
    rows = [(each.program, each.version, each.verdict, f"{each.seconds:.0f} s") for each in outcomes]
    lines = [plain_table(("program", "version", "outcome", "time"), rows)] if rows else []
    for each in outcomes:
        lines += [f"\n{each.program}:\n", *(f"  {step}\n" for step in each.seen)]
        lines += [f"  FAILS: {each.reason}\n"] if each.reason else []
    lines += [f"{name} is left out: {reason}\n" for name, reason in left_out.items()]
    return "".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kafka-programs",
        description="Run programs that were written for Kafka on three nodes of raftlog, one after the other, each on "
        "nodes of its own, and check every record that comes out.",
        epilog="The newest releases within scripts/kafka_clients/versions.toml are fetched into build/kafka-clients: "
        "Java 17 and Maven are needed, and 0.6 GB for Spark. Up to two virtual machines run, with 512 MB of heap each.",
    )
    parser.add_argument(
        "--programs",
        type=lambda text: names(text, TRIALS),
        default=list(TRIALS),
        metavar="NAME,…",
        help=f"of {', '.join(TRIALS)} (default: all)",
    )
    parser.add_argument("--keep", action="store_true", help="keep the logs and data of a program that fails")
    parser.add_argument("--json", action="store_true", help="everything as one object")
    return parser


def _try(name: str, version: str, scribe: Sequence[str], keep: bool) -> Outcome:
    start_s = time.monotonic()
    seen: list[str] = []
    reason = ""
    with temporary_directory("kafka-programs-") as directory:
        try:
            for step in _steps(name, scribe, directory):
                note(f"{name}: {step}")
                seen.append(step)
        except FailedError as failure:
            reason = " ".join(str(failure).split())
            note(f"{name} fails: {reason}")
            if keep:
                kept = tempfile.mkdtemp(prefix=f"kafka-programs-{name}-")
                shutil.copytree(directory, kept, dirs_exist_ok=True)
                note(f"its logs are in {kept}")
    seconds = round(time.monotonic() - start_s, 1)
    return Outcome(name, version, "fails" if reason else "ok", seen, reason, seconds)


def _steps(name: str, scribe: Sequence[str], directory: Path) -> Iterator[str]:
    with LocalCluster(3, directory=directory / "nodes", kafka=True) as cluster:
        bench = Bench(name, scribe, scribe, cluster.kafka_bootstrap, directory, [])
        with bench.running():
            yield from TRIALS[name].run(Stage(bench, cluster.kafka_bootstrap, directory, scribe))


if __name__ == "__main__":
    sys.exit(main())
