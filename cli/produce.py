"""`raftlog produce`: the records of a file or of stdin, each acknowledged or counted as failed."""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from io import BufferedReader
from typing import TYPE_CHECKING, cast

import click

from raftlog.errors import (
    ConfigError,
    InvalidRecordError,
    InvalidTimestampError,
    MessageTooLargeError,
    RaftlogError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
)

from .connect import describe_topics, open_admin
from .ending import ended_by_signals
from .explain import explain_raftlog_error, unknown_partition
from .input import split, split_key
from .options import PARTITION, bootstrap_option, excludes, json_option, parse_pairs
from .output import note, print_json, size_text
from .record_format import unescape

if TYPE_CHECKING:
    from raftlog.client.producer.batch import RecordFuture

PARTITIONERS = ("sticky", "round-robin", "murmur2", "crc32")
_AFTER_END_S = 5.0  # how long records that are under way are waited for after Ctrl-C or a malformed record
_PROGRESS_EVERY_RECORDS = 500

PartitionFunction = Callable[[bytes | None, list[int]], int]


class Outcome:
    """Counts what became of the records. `done` and `fail` may be called by the client's thread or by ours."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.sent = 0
        self.sent_bytes = 0
        self.acknowledged = 0
        self.failed = 0
        self.first_failure = ""
        self.fatal = False  # the next record would fare no better

    def done(self, number: int, future: RecordFuture) -> None:
        error = future.exception()
        if error is not None:
            self.fail(number, error)
            return
        with self._lock:
            self.acknowledged += 1

    def fail(self, number: int, error: RaftlogError) -> None:
        with self._lock:
            self.failed += 1
            if not self.first_failure:
                self.first_failure = f"record {number}: {explain_raftlog_error(error)}"
            if not isinstance(error, MessageTooLargeError | InvalidRecordError | InvalidTimestampError):
                self.fatal = True


@click.command()
@click.argument("topic")
@click.option("--file", "path", metavar="PATH", help="Read the records from this file.  [default: stdin]")
@click.option("--null-delimited", is_flag=True, help="Records end with a zero byte instead of a newline.")
@click.option(
    "--key-separator",
    metavar="TEXT",
    help=r"What stands before the first TEXT of a line, e.g. : or \t, is the key.  [default: no keys]",
)
@click.option(
    "--header", "headers", multiple=True, metavar="NAME=VALUE", help="A header of each record; may be repeated."
)
@click.option("--partition", type=PARTITION, metavar="N", help="Send every record to this partition.")
@click.option(
    "--partitioner",
    metavar="NAME|MODULE:FUNCTION",
    default="murmur2",
    show_default=True,
    help=f"Which partition a record goes to: {', '.join(PARTITIONERS)}, or a function of (key, partitions). murmur2 "
    "and crc32 go by the key; records without one are spread batch by batch, as sticky does with all.",
)
@click.option(
    "--acks",
    type=click.Choice(["0", "1", "all"]),
    default="all",
    show_default=True,
    help="When a record counts as written: 0 at once, 1 when its leader has it, all when every in-sync replica has it.",
)
@click.option(
    "--compression",
    type=click.Choice(["none", "gzip", "snappy", "lz4", "zstd"]),
    default="none",
    show_default=True,
    help="How batches are compressed.",
)
@click.option("--create", is_flag=True, help="Create the topic, with the defaults, if there is none.")
@bootstrap_option
@json_option
@excludes("--partition", ("--partitioner",), "each says where a record goes")
def produce(
    topic: str,
    path: str | None,
    null_delimited: bool,
    key_separator: str | None,
    headers: tuple[str, ...],
    partition: int | None,
    partitioner: str,
    acks: str,
    compression: str,
    create: bool,
    bootstrap: str,
    as_json: bool,
) -> None:
    """Write records to a topic, one per line of a file or of stdin.

    Exit code 0 means that every record was acknowledged. A summary goes to stderr.

    \b
    Examples:
        echo hello | raftlog produce orders
        raftlog produce orders --file orders.txt --compression zstd
        printf 'k1:v1\\nk2:v2\\n' | raftlog produce orders --key-separator :
        find . -print0 | raftlog produce files --null-delimited --create
        raftlog produce orders --file orders.txt --partitioner mymodule:by_first_letter
    """
    separator = _separator(key_separator)
    pairs: list[tuple[str, bytes | None]] = [
        (name, value.encode("utf-8", "surrogateescape")) for name, value in parse_pairs(headers, "--header")
    ]
    chosen = _partitioner(partitioner)
    from raftlog import Producer

    outcome = Outcome()
    ended_by: BaseException | None = None
    with ended_by_signals(), _open_input(path) as stream:
        _check_topic(bootstrap, topic, partition, create)
        if stream.isatty():
            note("one record per line; Ctrl-D ends")
        start_s = time.monotonic()
        producer = Producer(
            bootstrap_servers=bootstrap,
            acks="all" if acks == "all" else int(acks),
            compression=compression,
            partitioner=chosen,
        )
        send = functools.partial(producer.send, topic, headers=pairs, partition=partition)
        try:
            _send_all(send, stream, b"\0" if null_delimited else b"\n", separator, outcome)
            producer.flush()
        except (KeyboardInterrupt, SystemExit, RaftlogError) as error:
            # What was sent before counts all the same, and the summary says how much that was.
            ended_by = error
        finally:
            producer.close(timeout=_AFTER_END_S if ended_by else None)
    _summarise(topic, outcome, acks, time.monotonic() - start_s, as_json)
    if ended_by is not None:
        raise ended_by
    if outcome.acknowledged < outcome.sent:
        missing = outcome.sent - outcome.acknowledged
        raise RaftlogError(
            f"{missing} of {outcome.sent} records were not acknowledged; {outcome.first_failure or 'no answer came'}"
        )


def _separator(text: str | None) -> bytes | None:
    if text is None:
        return None
    try:
        separator = unescape(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--key-separator") from None
    if not separator:
        raise click.BadParameter("it is empty", param_hint="--key-separator")
    return separator


def _partitioner(text: str) -> str | PartitionFunction:
    if text in PARTITIONERS:
        return text
    module_name, colon, function_name = text.partition(":")
    if not colon:
        raise click.BadParameter(
            f"{text!r} is neither {', '.join(PARTITIONERS)} nor MODULE:FUNCTION", param_hint="--partitioner"
        )
    sys.path.insert(0, os.getcwd())  # where a user's module most often is, and an installed command does not look
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except Exception as error:  # importing runs the user's code, which may raise anything
        raise click.BadParameter(f"{text!r}: {type(error).__name__}: {error}", param_hint="--partitioner") from error
    if not callable(function):
        raise click.BadParameter(f"{text!r} is not a function", param_hint="--partitioner")
    return _checked(text, function)


def _checked(name: str, function: Callable[..., object]) -> PartitionFunction:
    """The user's function; whatever it does wrong is an error that names it."""

    def choose(key: bytes | None, partitions: list[int]) -> int:
        try:
            chosen = function(key, partitions)
        except Exception as error:
            raise ConfigError(f"partitioner {name} raised {type(error).__name__}: {error}") from error
        if not isinstance(chosen, int) or chosen not in partitions:
            raise ConfigError(f"partitioner {name} returned {chosen!r}, which is none of {partitions}")
        return chosen

    return choose


@contextlib.contextmanager
def _open_input(path: str | None) -> Iterator[BufferedReader]:
    if path is None:
        if sys.stdin is None:
            raise ConfigError("stdin is closed; name a file with --file")
        yield cast(BufferedReader, sys.stdin.buffer)
        return
    with open(path, "rb") as stream:
        yield stream


def _check_topic(bootstrap: str, topic: str, partition: int | None, create: bool) -> None:
    """Before the first record is read: a topic that is not there is the user's to create, not ours."""
    from raftlog.protocol.topics import NewTopic

    with open_admin(bootstrap) as admin:
        try:
            (found,) = admin.describe_topics([topic])
        except UnknownTopicOrPartitionError:
            if create:
                with contextlib.suppress(TopicAlreadyExistsError):
                    admin.create_topics([NewTopic(name=topic)])
            (found,) = describe_topics(admin, [topic])
        partitions = len(found.partitions)
    if partition is not None and partition >= partitions:
        raise unknown_partition(topic, partition, partitions)


def _send_all(
    send: Callable[..., RecordFuture],
    stream: BufferedReader,
    delimiter: bytes,
    separator: bytes | None,
    outcome: Outcome,
) -> None:
    """Raises what ends the whole, KeyboardInterrupt included; a single record's failure is counted."""
    key: bytes | None = None
    with _progress(stream) as progress:
        for number, piece in enumerate(split(stream, delimiter), 1):
            value = piece
            if separator is not None:
                parted = split_key(piece, separator)
                if parted is None:
                    raise InvalidRecordError(f"record {number} has no key separator; nothing after it was sent")
                key, value = parted
            outcome.sent += 1
            outcome.sent_bytes += len(piece)
            send(value=value, key=key).add_done_callback(functools.partial(outcome.done, number))
            if outcome.fatal:
                return
            if number % _PROGRESS_EVERY_RECORDS == 0:
                progress(outcome.sent_bytes + number)


@contextlib.contextmanager
def _progress(stream: BufferedReader) -> Iterator[Callable[[int], None]]:
    """A bar on stderr when that is a terminal and the input a file; gives a function of the bytes read."""
    status = os.fstat(stream.fileno())
    if not (sys.stderr.isatty() and stat.S_ISREG(status.st_mode)):
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=status.st_size)
        yield lambda read_bytes: bar.update(task, completed=read_bytes)
        bar.update(task, completed=status.st_size)


def _summarise(topic: str, outcome: Outcome, acks: str, seconds: float, as_json: bool) -> None:
    rate = outcome.acknowledged / seconds if seconds > 0 else 0.0
    if as_json:
        print_json(
            {
                "topic": topic,
                "records": outcome.sent,
                "acked": outcome.acknowledged,
                "failed": outcome.sent - outcome.acknowledged,
                "bytes": outcome.sent_bytes,
                "seconds": round(seconds, 3),
                "records_per_s": round(rate),
                "acks": acks,
            }
        )
        return
    said = "sent, nothing is acknowledged with acks=0"
    if acks != "0":
        said = f"acknowledged {outcome.acknowledged:,}, acks={acks}"
    note(
        f"produced {outcome.sent:,} record{'s' * (outcome.sent != 1)} ({size_text(outcome.sent_bytes)}) to {topic} "
        f"in {seconds:.2f} s, {rate:,.0f} records/s: {said}"
    )
