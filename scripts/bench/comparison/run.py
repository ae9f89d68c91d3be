"""The command behind scripts/bench/peers: raftlog and what a user would pick instead, measured beside each other.

Exit code 0: measured, also when some systems were left out; 1: none of them gave a figure; 2: wrong arguments.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from raftlog_cli.ending import ended_by_signals
from raftlog_cli.output import note, print_json
from raftlog_cli.own_cluster import temporary_directory

from .activemq import ActiveMq
from .kafka import Kafka
from .machine import busy_cores, described, machine
from .measuring import QUICK, WHOLE, rounds
from .nats import Nats
from .rabbitmq import QUORUM, STREAM
from .raftlog_system import Raftlog, RaftlogByKafka
from .summary import Line, markdown, summarise
from .system import System
from .valkey import Valkey
from .workloads import WORKLOADS, Workload

SYSTEMS: dict[str, System] = {
    "raftlog": Raftlog(),
    "raftlog-kafka": RaftlogByKafka(),
    "raftlog-secure": Raftlog(secure=True),
    "raftlog-kafka-secure": RaftlogByKafka(secure=True),
    "kafka-secure": Kafka(secure=True),
    **{system.name: system for system in (Kafka(), Nats(), STREAM, QUORUM, ActiveMq(), Valkey())},
}
HOW = (
    "Medians of the rounds, with the slowest and fastest round. In flight counts requests. Cores: CPU seconds a second "
    "of the load client and of the servers. Wire bytes: TCP payload for one record as the kernel counts it for each "
    "socket (ss -ti), over the client's connections both ways, and over all, those between servers included. "
    "× best peer: records/s, or p50 where one record is sent at a time or so many a second are offered, against the "
    "best other system. At a fixed rate a record's time runs from when it was due, so that what waited for others "
    "counts as late too. What is under TLS is set against others under TLS. × plain: the same against "
    "the same system without TLS."
)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.plot is not None:
        from .plots import missing_plots

        if reason := missing_plots():
            parser.error(f"--plot: {reason}")
    try:
        with ended_by_signals(), temporary_directory("peers-") as directory:
            lines = _compare(options, directory)
    except KeyboardInterrupt:
        note("peers: stopped; every server has ended and its data is removed")
        return 130
    return 0 if any(line.rounds for line in lines) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="peers",
        description="Run the same workloads on raftlog and on other systems, started here on loopback one at a time.",
        epilog="A system that is not installed is left out, and what it lacks is said.",
    )
    parser.add_argument(
        "--peers",
        type=_systems,
        default=[name for name in SYSTEMS if not name.endswith("-secure")],
        metavar="NAME,…",
        help=f"of {', '.join(SYSTEMS)} (default: all without TLS)",
    )
    parser.add_argument(
        "--workloads",
        type=_workloads,
        default=WORKLOADS,
        metavar="KEY,…",
        help=f"of {', '.join(workload.key for workload in WORKLOADS)} (default: all)",
    )
    parser.add_argument(
        "--replicas", type=int, choices=(1, 3), default=3, help="servers that hold each record, where a system can (3)"
    )
    parser.add_argument("--quick", action="store_true", help="one short round: shows that it works, measures little")
    parser.add_argument("--json", action="store_true", help="the machine, every line and every round as one object")
    parser.add_argument("--plot", type=Path, metavar="DIR", help="draw producer and consumer throughput there as SVG")
    return parser


def _systems(text: str) -> list[str]:
    names = list(dict.fromkeys(name for name in text.split(",") if name))
    unknown = [name for name in names if name not in SYSTEMS]
    if unknown or not names:
        raise argparse.ArgumentTypeError(f"no system {', '.join(unknown) or text!r}; there are {', '.join(SYSTEMS)}")
    return names


def _workloads(text: str) -> list[Workload]:
    known = {workload.key: workload for workload in WORKLOADS}
    keys = [key for key in text.split(",") if key]
    unknown = [key for key in keys if key not in known]
    if unknown or not keys:
        raise argparse.ArgumentTypeError(
            f"no workload {', '.join(unknown) or repr(text)}; there are {', '.join(known)}"
        )
    needed = {known[key].topic for key in keys if known[key].consume or known[key].mode == "behind"}
    return [each for each in WORKLOADS if each.key in keys or (each.mode == "produce" and each.topic in needed)]


def _compare(options: argparse.Namespace, directory: Path) -> list[Line]:
    left_out: dict[str, str] = {}
    systems = []
    for name in options.peers:
        if reason := SYSTEMS[name].missing():
            left_out[name] = reason
            note(f"{name} is left out: {reason}")
        else:
            systems.append(SYSTEMS[name])
    found = machine(directory)
    start_s = time.monotonic()
    pace = QUICK if options.quick else WHOLE
    rows = list(rounds(systems, options.replicas, pace, directory, note, options.workloads))
    lines = summarise(rows)
    versions = {system.name: system.version() for system in systems}
    found |= {"busy_after": busy_cores(), "minutes": round((time.monotonic() - start_s) / 60, 1)}
    if options.json:
        print_json(
            {"machine": found, "versions": versions, "pace": pace, "left_out": left_out, "lines": lines, "rows": rows}
        )
    else:
        sys.stdout.write(markdown(lines))
        print(HOW)
        print(f"\n{described(found)}, and {found['busy_after']} after it.")
        print(f"{pace.rounds} rounds of {pace.seconds:g} s for each figure, {found['minutes']} minutes in all.")
        print(f"Versions: {', '.join(f'{name} {version}' for name, version in versions.items())}.")
        for name, reason in left_out.items():
            print(f"{name} is left out: {reason}.")
    if options.plot is not None:
        from .plots import draw

        draw(lines, options.plot)
    return lines


if __name__ == "__main__":
    sys.exit(main())
