"""`raftlog consume`: records of topics to stdout, as they come or up to their end."""

from __future__ import annotations

import contextlib
import select
import sys
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from raftlog.errors import ErrorCode, OffsetOutOfRangeError, RaftlogError
from raftlog.types import TopicPartition

from .explain import unknown_partition, unknown_topic
from .options import bootstrap_option
from .output import note
from .record_format import Formatter, compile_format, format_json
from .when import parse_when

if TYPE_CHECKING:
    from raftlog import Consumer

_POLL_MS = 200  # how soon a reader that has gone is noticed
_POLL_RECORDS = 5_000  # bounds what is held before it is written
_STALLED_S = 30.0  # with --exit-at-end, the longest wait for records that are known to be there


@click.command()
@click.argument("topics", nargs=-1, required=True, metavar="TOPIC…")
@click.option(
    "--from",
    "start",
    default="end",
    show_default=True,
    metavar="beginning|end|OFFSET|TIME",
    help="Where to start in each partition. TIME: the first record at or after it, as 2026-11-22T10:00 (local; or with "
    "Z or an offset; or the date alone), or so long ago: -90s, -30m, -1h, -2d.",
)
@click.option(
    "--partition",
    "numbers",
    multiple=True,
    type=click.IntRange(min=0),
    metavar="N",
    help="Only this one; may be repeated.",
)
@click.option("--max", "max_records", type=click.IntRange(min=1), metavar="N", help="Exit after N records.")
@click.option("--exit-at-end", is_flag=True, help="Exit at what was the end when the command started.")
@click.option(
    "--format",
    "template",
    default=r"%v\n",
    show_default=True,
    help=r"%t topic, %p partition, %o offset, %T timestamp in ms, %k key, %v value, %h headers; \n \t \0 \xHH.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object per record and line; binary as base64.")
@bootstrap_option
def consume(
    topics: tuple[str, ...],
    start: str,
    numbers: tuple[int, ...],
    max_records: int | None,
    exit_at_end: bool,
    template: str,
    as_json: bool,
    bootstrap: str,
) -> None:
    """Read the records of topics.

    They are written to stdout, from now on unless --from says otherwise, until Ctrl-C, which is no
    error. Order holds within a partition. With --json, a key or value that is not UTF-8 is base64,
    and key_encoding or value_encoding says so.

    \b
    Examples:
        raftlog consume orders
        raftlog consume orders --from beginning --exit-at-end
        raftlog consume orders --from 1000 --partition 0 --max 10 --json
        raftlog consume orders --from 2026-11-22T10:00
        raftlog consume orders --from -1h --exit-at-end
        raftlog consume orders clicks --format '%t %p %o %k %v\\n'
    """
    formatter = format_json if as_json else _formatter(template)
    since_ms = _since_ms(start)
    from raftlog import Consumer

    with contextlib.suppress(KeyboardInterrupt):
        partitions = _partitions(bootstrap, dict.fromkeys(topics), numbers)
        # What retention deletes while we read is skipped, not an end.
        with Consumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest") as consumer:
            ends = _seek(consumer, partitions, start, since_ms)
            if exit_at_end and start == "end":
                note("nothing to read: --exit-at-end from the end; add --from beginning")
            _copy(consumer, formatter, ends if exit_at_end else None, max_records)


def _since_ms(start: str) -> int | None:
    """None for what is no time."""
    if start in ("beginning", "end") or start.isdecimal():
        return None
    try:
        return parse_when(start, round(time.time() * 1000))
    except ValueError as error:
        raise click.BadParameter(f"{error}; nor beginning, end or an offset", param_hint="--from") from None


def _formatter(template: str) -> Formatter:
    try:
        return compile_format(template)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--format") from None


def _partitions(bootstrap: str, topics: Iterable[str], numbers: tuple[int, ...]) -> list[TopicPartition]:
    from raftlog import Admin

    chosen = []
    with Admin(bootstrap_servers=bootstrap) as admin:
        found = admin.describe_topics(list(topics))
    for topic in found:
        if topic.error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION:
            raise unknown_topic(topic.name)
        for number in numbers:
            if number >= len(topic.partitions):
                raise unknown_partition(topic.name, number, len(topic.partitions))
        chosen += [
            TopicPartition(topic.name, number) for number in sorted(set(numbers)) or range(len(topic.partitions))
        ]
    return chosen


def _seek(
    consumer: Consumer, partitions: list[TopicPartition], start: str, since_ms: int | None
) -> dict[TopicPartition, int]:
    """Sets every position explicitly and returns the ends as they are now."""
    consumer.assign(partitions)
    ends = consumer.end_offsets(partitions, linearizable=True)
    beginnings = ends if start == "end" else consumer.beginning_offsets(partitions)
    found = {} if since_ms is None else consumer.offsets_for_times(dict.fromkeys(partitions, since_ms))
    for partition in partitions:
        offset = beginnings[partition]
        if since_ms is not None:
            first = found[partition]
            offset = ends[partition] if first is None else first.offset
        if start.isdecimal():
            offset = int(start)
            if not beginnings[partition] <= offset <= ends[partition]:
                raise OffsetOutOfRangeError(
                    f"{partition} has offsets {beginnings[partition]} to {ends[partition]} (exclusive), not {offset}"
                )
        consumer.seek(partition, offset)
    return ends


def _copy(
    consumer: Consumer, formatter: Formatter, ends: dict[TopicPartition, int] | None, max_records: int | None
) -> None:
    """Until `max_records` are written, or every partition is at its end; for ever with neither.

    Raises BrokenPipeError when the reader has gone, also while there is nothing to write.
    """
    out = sys.stdout.buffer
    reader = _Reader()
    left = max_records
    progress_s = time.monotonic()
    while left != 0 and not (ends is not None and all(consumer.position(each) >= end for each, end in ends.items())):
        polled = consumer.poll(timeout_ms=_POLL_MS, max_records=min(left or _POLL_RECORDS, _POLL_RECORDS))
        for partition, records in polled.items():
            # The last batch may reach past what was the end when the command started.
            wanted = records if ends is None else [record for record in records if record.offset < ends[partition]]
            out.write(b"".join(map(formatter, wanted)))
            if left is not None:
                left -= len(wanted)
        out.flush()
        now_s = time.monotonic()
        if polled:
            progress_s = now_s
        elif ends is not None and now_s - progress_s > _STALLED_S:
            behind = ", ".join(str(each) for each, end in ends.items() if consumer.position(each) < end)
            raise RaftlogError(f"no records of {behind} for {_STALLED_S:.0f} s; `raftlog cluster status` may say why")
        reader.check()


class _Reader:
    """Notices that the reader of our pipe has gone although nothing is written to it."""

    def __init__(self) -> None:
        self._poll = select.poll()
        with contextlib.suppress(OSError):  # a stdout that is no file, as in tests
            self._poll.register(sys.stdout.fileno(), 0)

    def check(self) -> None:
        if any(event & select.POLLERR for _, event in self._poll.poll(0)):
            raise BrokenPipeError
