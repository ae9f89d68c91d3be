"""The command behind scripts/kafka-clients: Kafka's clients, unchanged, against raftlog or any cluster.

Exit code 0: nothing failed; 1: something did; 2: wrong arguments, or nothing could be tried.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from raftlog.node.local import LocalCluster
from raftlog_cli.ending import ended_by_signals
from raftlog_cli.output import note, print_json
from raftlog_cli.own_cluster import temporary_directory

from . import security
from .bench import Bench
from .cross import cross
from .matrix import CHECKS, Cell, fill
from .report import table
from .security import CERTIFICATE, SCRAM
from .tools import CLIENTS, OWN, SCRIBE, WITHOUT_SECURITY, MissingError

CROSS = "cross"


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    if options.security and options.bootstrap:
        note("kafka-clients: --security is of the cluster that is started here, and --bootstrap names another")
        return 2
    start_s = time.monotonic()
    left_out: dict[str, str] = {}
    try:
        scribe = SCRIBE.prepare()
    except MissingError as missing:
        note(f"kafka-clients: {missing}")
        return 2
    commands = {}
    for name in options.clients:
        try:
            if name in WITHOUT_SECURITY and options.security:
                raise MissingError("its program knows nothing of --security")
            if name == OWN and options.bootstrap:
                raise MissingError("it speaks raftlog's own protocol, and --bootstrap names servers of Kafka's")
            commands[name] = CLIENTS[name].prepare()
        except MissingError as missing:
            left_out[name] = str(missing)
            note(f"{name} is left out: {missing}")
    try:
        with (
            ended_by_signals(),
            temporary_directory("kafka-clients-") as directory,
            _servers(options, directory) as (bootstrap, own, data, proofs),
        ):
            benches = [
                Bench(name, command, scribe, own if name == OWN else bootstrap, directory, data, bootstrap, proofs)
                for name, command in commands.items()
            ]
            versions, cells = _run(benches, options)
    except KeyboardInterrupt:
        note("kafka-clients: stopped")
        return 130
    minutes = round((time.monotonic() - start_s) / 60, 1)
    if options.json:
        print_json(
            {
                "clients": versions,
                "left_out": left_out,
                "cells": [cell._asdict() for cell in cells],
                "minutes": minutes,
            }
        )
    else:
        sys.stdout.write(table(versions, cells, left_out))
        print(f"{minutes} minutes.")
    if not cells:
        return 2
    return 1 if any(cell.verdict == "fails" for cell in cells) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kafka-clients",
        description="Run every operation of every Kafka client that there are tools for, and check what it got.",
        epilog="The newest releases within scripts/kafka_clients/versions.toml are fetched into build/kafka-clients.",
    )
    parser.add_argument(
        "--clients",
        type=lambda text: names(text, CLIENTS),
        default=list(CLIENTS),
        metavar="NAME,…",
        help=f"of {', '.join(CLIENTS)} (default: all)",
    )
    parser.add_argument(
        "--checks",
        type=lambda text: names(text, [*CHECKS, CROSS]),
        default=[*CHECKS, CROSS],
        metavar="NAME,…",
        help=f"of {', '.join([*CHECKS, CROSS])} (default: all)",
    )
    parser.add_argument(
        "--bootstrap", metavar="HOST:PORT,…", help="a cluster that runs (default: three nodes of raftlog are started)"
    )
    parser.add_argument(
        "--security",
        choices=[SCRAM, CERTIFICATE],
        help="over TLS; the clients log in by SCRAM-SHA-512 (SASL_SSL), or show a certificate (SSL)",
    )
    parser.add_argument("--together", type=int, default=3, metavar="N", help="clients at a time (3)")
    parser.add_argument("--json", action="store_true", help="everything as one object")
    return parser


def names(text: str, known: Iterable[str]) -> list[str]:
    names = list(dict.fromkeys(name for name in text.split(",") if name))
    unknown = set(names) - set(known)
    if unknown or not names:
        raise argparse.ArgumentTypeError(f"no {', '.join(sorted(unknown)) or 'name'}; there are {', '.join(known)}")
    return names


@contextlib.contextmanager
def _servers(
    options: argparse.Namespace, directory: Path
) -> Iterator[tuple[str, str, list[Path], Mapping[str, str] | None]]:
    """Where they listen for Kafka's clients and for raftlog's, where their data is, and how one proves who one is."""
    if options.bootstrap:
        yield options.bootstrap, "", [], None
        return
    with LocalCluster(
        3,
        directory=directory / "nodes",
        kafka=True,
        secure=bool(options.security),
    ) as cluster:
        yield (
            cluster.kafka_bootstrap,
            cluster.bootstrap,
            [directory / "nodes" / str(node_id) for node_id in cluster.endpoints],
            security.prepare(cluster, options.security) if options.security else None,
        )


def _run(benches: list[Bench], options: argparse.Namespace) -> tuple[dict[str, str], list[Cell]]:
    checks = [CHECKS[name] for name in options.checks if name != CROSS]
    versions: dict[str, str] = {}
    cells: list[Cell] = []

    def column(bench: Bench) -> list[Cell]:
        found = []
        for cell in fill(bench, checks):
            versions.setdefault(bench.name, bench.version)
            if cell.verdict == "fails":
                note(f"{cell.client} {cell.check}: {cell.reason}")
            found.append(cell)
        return found

    with ThreadPoolExecutor(options.together) as pool:
        for found in pool.map(column, benches):
            cells += found
    if CROSS in options.checks:
        cells += cross(benches, note)
    return versions, cells


if __name__ == "__main__":
    sys.exit(main())
