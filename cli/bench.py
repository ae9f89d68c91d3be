"""`raftlog bench`: what a cluster takes and hands out, by a load client in a process of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from raftlog.limits import LOCAL_NODES_MAX
from raftlog.types import Flush

from .ending import ended_by_signals
from .options import COUNT, Seconds, check_bootstrap, excludes, json_option
from .output import note, print_json, print_table
from .own_cluster import own_cluster, temporary_directory

if TYPE_CHECKING:
    from .bench_run import Settings

_ACKS = {"0": 0, "1": 1, "all": -1}
_OF_OWN_NODES = ("--local", "--flush", "--secure", "--data")

_FLUSH = click.option(
    "--flush",
    type=click.Choice([str(mode) for mode in Flush]),
    default=str(Flush.ALWAYS),
    show_default=True,
    help="Of nodes started here: sync before every acknowledgement, or leave that to the system.",
)
_DATA = click.option(
    "--data",
    metavar="DIR",
    help="Of nodes started here: data goes under DIR and is removed afterwards.  [default: ./raftlog-data]",
)


_NODES = click.IntRange(1, LOCAL_NODES_MAX)
_SECURE = click.option("--secure", is_flag=True, help="Of nodes started here: all encrypted, and with certificates.")


@click.group()
def bench() -> None:
    """Measure how fast a cluster takes and hands out records.

    The nodes are started on this machine, and share its cores with the load client, unless
    --bootstrap names a running cluster. The flush mode and the file system stand beside every
    figure, since on a tmpfs every sync is free.

    \b
    Example:
        raftlog bench produce --seconds 5
        raftlog bench consume --local 1
    """


def _options(in_flight: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """What both commands take, but for their own default of --in-flight."""
    count = COUNT
    options = (
        click.option(
            "--local", "nodes", type=_NODES, metavar="N", help="Start so many nodes on this machine.  [default: 3]"
        ),
        click.option(
            "--bootstrap",
            metavar="HOST:PORT,…",
            envvar="RAFTLOG_BOOTSTRAP",
            show_envvar=True,
            callback=check_bootstrap,
            help="Measure this running cluster, in a topic that is deleted afterwards.",
        ),
        click.option(
            "--record-size", type=count, metavar="N", default=200, show_default=True, help="Bytes of a value."
        ),
        click.option(
            "--batch-records", type=count, metavar="N", default=50, show_default=True, help="Records per request."
        ),
        click.option(
            "--in-flight",
            type=count,
            metavar="N",
            default=in_flight,
            show_default=True,
            help="Requests under way to each leader.",
        ),
        click.option(
            "--partitions", type=count, metavar="N", default=1, show_default=True, help="Partitions of the topic."
        ),
        click.option(
            "--replication-factor",
            type=count,
            metavar="N",
            help="Replicas of each partition.  [default: 3, or all nodes]",
        ),
        click.option(
            "--acks", type=click.Choice(list(_ACKS)), default="all", show_default=True, help="As of `raftlog produce`."
        ),
        click.option(
            "--seconds",
            type=Seconds(0.1),
            metavar="S",
            default=10,
            show_default=True,
            help="Measured time.",
        ),
        _FLUSH,
        _SECURE,
        _DATA,
        json_option,
    )

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        command = excludes("--bootstrap", _OF_OWN_NODES, "that is for nodes that are started here")(command)
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


@bench.command()
@click.option(
    "--rate",
    type=COUNT,
    metavar="N",
    help="Offer so many records a second, and measure each request from when it was due.  [default: as many as go]",
)
@_options(in_flight=50)
def produce(as_json: bool, **options: Any) -> None:
    """Measure how fast records are taken.

    Batches that were encoded before, with many requests under way; after a warm-up of up to 2 s,
    records and bytes per second, and the time that each request took. How long a record takes where the
    cluster is not at its limit is what --rate tells.

    \b
    Examples:
        raftlog bench produce
        raftlog bench produce --batch-records 1 --in-flight 1000
        raftlog bench produce --batch-records 1 --in-flight 1000 --rate 10000
        raftlog bench produce --record-size 1000 --batch-records 256 --in-flight 16 --json
        raftlog bench produce --bootstrap 127.0.0.1:7071 --partitions 3 --acks 1
    """
    from .bench_run import measure_produce

    options["rate"] = options["rate"] or 0
    if options["rate"] and options["acks"] == "0":
        raise click.UsageError("--rate measures the time until a record is acknowledged; --acks 0 asks for no answer")
    _measure(options, measure_produce, as_json)


@bench.command()
@_options(in_flight=4)
def consume(as_json: bool, **options: Any) -> None:
    """Measure how fast records are handed out.

    A topic is filled first, then read over and over from its beginning, in whole batches that the
    load client does not parse. decoded_records_per_s is what a Consumer gives, which takes every
    record out of its batch.

    \b
    Examples:
        raftlog bench consume
        raftlog bench consume --record-size 1000 --partitions 3 --json
    """
    from .bench_run import measure_consume

    _measure(options, measure_consume, as_json)


@bench.command()
@click.option("--blows", type=COUNT, metavar="N", default=20, show_default=True, help="How often the leader goes.")
@click.option("--graceful", is_flag=True, help="Stop the leader's node with SIGTERM instead of killing it.")
@click.option("--rate", type=COUNT, metavar="N", default=10_000, show_default=True, help="Records a second.")
@_FLUSH
@_SECURE
@_DATA
@json_option
def failover(blows: int, graceful: bool, rate: int, flush: str, secure: bool, data: str | None, as_json: bool) -> None:
    """Measure the gap that clients see when a leader goes.

    Three nodes are started here, and a steady stream of records is sent with acks=all. The node that leads is killed
    (kill -9) and started again, over and over; each gap is the longest time between two acknowledgements around a
    blow. In the end all is read back: the exit code is 1 when a record was lost, duplicated or out of order.

    \b
    Examples:
        raftlog bench failover
        raftlog bench failover --graceful --blows 5 --json
    """
    from .failover_run import measure_failover

    with contextlib.ExitStack() as stack:
        stack.enter_context(ended_by_signals())
        directory = stack.enter_context(temporary_directory("bench-", _parent(data)))
        cluster = stack.enter_context(own_cluster(3, directory, Flush(flush), secure=secure))
        found = measure_failover(cluster, blows=blows, graceful=graceful, rate=rate)
    _show(found.figures() | {"flush": flush, "graceful": graceful, "secure": secure}, as_json)
    if found.lost or found.duplicated or found.out_of_order or found.failed:
        raise SystemExit(1)


Measure = Callable[["Settings"], dict[str, object]]


def _measure(options: dict[str, Any], measure: Measure, as_json: bool) -> None:
    from .bench_run import Settings
    from .filesystem import fdatasync_p50_ms, file_system_type

    nodes, bootstrap, flush, data = (options.pop(name) for name in ("nodes", "bootstrap", "flush", "data"))
    secure = options.pop("secure")
    if nodes is not None and bootstrap is not None:
        bootstrap = None  # of the environment
    options["acks"] = _ACKS[options["acks"]]
    settings = Settings(**options)
    disk: dict[str, object] = {"file_system": None, "fdatasync_p50_ms": None}
    with contextlib.ExitStack() as stack:
        stack.enter_context(ended_by_signals())
        if bootstrap is None:
            directory = stack.enter_context(temporary_directory("bench-", _parent(data)))
            disk = {
                "file_system": file_system_type(directory),
                "fdatasync_p50_ms": round(fdatasync_p50_ms(directory), 3),
            }
            note(f"starting {nodes or 3} nodes on {disk['file_system']}, flush {flush}")
            cluster = stack.enter_context(own_cluster(nodes or 3, directory, Flush(flush), secure=secure))
            settings = msgspec.structs.replace(settings, bootstrap=cluster.bootstrap, pids=tuple(cluster.pids.values()))
        else:
            settings = msgspec.structs.replace(settings, bootstrap=bootstrap)
        figures = measure(settings) | disk
    _show(figures, as_json)


def _parent(data: str | None) -> Path | None:
    """Where data of nodes started here goes; None: the default."""
    if not data:
        return None
    Path(data).mkdir(parents=True, exist_ok=True)
    return Path(data)


def _show(figures: dict[str, object], as_json: bool) -> None:
    if as_json:
        print_json(figures)
    else:
        print_table(("figure", "value"), [(name.replace("_", " "), _text(value)) for name, value in figures.items()])


def _text(value: object) -> str | int | None:
    if isinstance(value, float):
        return f"{value:,.3f}" if value < 100 else f"{value:,.0f}"
    if isinstance(value, list):
        return ", ".join(f"{each:,.0f}" for each in value)
    return value if isinstance(value, int) or value is None else str(value)
