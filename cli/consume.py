"""`raftlog consume`: records of topics to stdout, as they come or up to their end."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import click

from raftlog.types import TopicPartition

from .connect import describe_topics, open_admin
from .consume_group import consume_in_group
from .ending import ended_by_signals
from .explain import unknown_partition
from .options import COUNT, PARTITION, bootstrap_option, check_group, excludes
from .output import note
from .record_format import Formatter, compile_format, format_json
from .record_output import Offsets, Reading, Start, copy_records
from .time_argument import parse_when

if TYPE_CHECKING:
    from raftlog import Consumer


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
    "--tail",
    type=COUNT,
    metavar="N",
    help="Instead of --from: the last N records of each partition, then on.",
)
@click.option(
    "--partition",
    "numbers",
    multiple=True,
    type=PARTITION,
    metavar="N",
    help="Only this one; may be repeated.",
)
@click.option(
    "--group",
    metavar="GROUP",
    callback=check_group,
    help="Share the partitions with the other members of this group, and start where it has committed; what is written "
    "is committed. --from says where to start in partitions of which nothing is committed yet.",
)
@click.option("--max", "max_records", type=COUNT, metavar="N", help="Exit after N records.")
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
@excludes("--json", ("--format",), "each says what a record is written as")
@excludes("--tail", ("--from", "--group"), "it says where to start")
@excludes("--group", ("--partition",), "the members of a group share the partitions")
def consume(
    topics: tuple[str, ...],
    start: str,
    tail: int | None,
    numbers: tuple[int, ...],
    group: str | None,
    max_records: int | None,
    exit_at_end: bool,
    template: str,
    as_json: bool,
    bootstrap: str,
) -> None:
    """Read the records of topics.

    They are written to stdout, from now on unless --from says otherwise, until Ctrl-C, which is no
    error. Order holds within a partition. A partition that is added meanwhile is read from its first
    record on, unless --partition or --exit-at-end says what is read. With --json, a key or value that
    is not UTF-8 is base64, and key_encoding or value_encoding says so.

    \b
    Examples:
        raftlog consume orders
        raftlog consume orders --from beginning --exit-at-end
        raftlog consume orders --from 1000 --partition 0 --max 10 --json
        raftlog consume orders --from 2026-11-22T10:00
        raftlog consume orders --from -1h --exit-at-end
        raftlog consume orders --tail 20
        raftlog consume orders --group billing
        raftlog consume orders clicks --format '%t %p %o %k %v\\n'
    """
    formatter = format_json if as_json else _formatter(template)
    since_ms = _since_ms(start)
    from raftlog import Consumer

    with contextlib.suppress(KeyboardInterrupt), ended_by_signals():
        partitions = _partitions(bootstrap, dict.fromkeys(topics), numbers)
        where = Start(start, since_ms, tail)
        # What retention deletes while we read is skipped, not an end.
        if group is not None:
            consume_in_group(bootstrap, group, partitions, where, exit_at_end, formatter, max_records)
            return
        with Consumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest") as consumer:
            if exit_at_end and start == "end" and tail is None:
                note("nothing to read: --exit-at-end from the end; add --from beginning")
            if numbers or exit_at_end:
                reading = _read_chosen(consumer, partitions, where, exit_at_end)
            else:
                reading = _read_all(consumer, topics, where)
            copy_records(reading, formatter, max_records)


def _read_chosen(consumer: Consumer, partitions: Sequence[TopicPartition], start: Start, exit_at_end: bool) -> Reading:
    ends = consumer.end_offsets(partitions)
    offsets = start.offsets(consumer, partitions, ends)
    consumer.assign(partitions)
    for partition, offset in offsets.items():
        consumer.seek(partition, offset)
    return Reading(consumer, ends if exit_at_end else None)


def _read_all(consumer: Consumer, topics: Iterable[str], start: Start) -> Reading:
    """`start` is for the partitions that are there now."""
    names = list(dict.fromkeys(topics))
    partitions = [
        TopicPartition(name, number) for name in names for number in sorted(consumer.partitions_for_topic(name) or ())
    ]
    ends = consumer.end_offsets(partitions)
    offsets = start.offsets(consumer, partitions, ends)
    consumer.subscribe(names)
    for partition in consumer.assignment() & offsets.keys():
        consumer.seek(partition, offsets[partition])
    return _AllPartitions(consumer, partitions)


class _AllPartitions(Reading):
    """Of topics that may get more. Those are read from their first record on, and a note says so."""

    def __init__(self, consumer: Consumer, partitions: Iterable[TopicPartition]) -> None:
        super().__init__(consumer, None)
        self._known = set(partitions)

    def written(self, positions: Offsets) -> None:
        added = self.consumer.assignment() - self._known
        self._known |= added
        for partition in sorted(added):
            note(f"{partition} is new: it is read from its first record on")


def _since_ms(start: str) -> int | None:
    """None for what is no time."""
    if start in ("beginning", "end") or start.isdecimal():
        return None
    try:
        return parse_when(start, round(time.time() * 1000))
    except ValueError as error:
        raise click.BadParameter(f"{error}; beginning, end and an offset are taken too", param_hint="--from") from None


def _formatter(template: str) -> Formatter:
    try:
        return compile_format(template)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--format") from None


def _partitions(bootstrap: str, topics: Iterable[str], numbers: tuple[int, ...]) -> list[TopicPartition]:
    chosen = []
    with open_admin(bootstrap) as admin:
        found = describe_topics(admin, list(topics))
    for topic in found:
        for number in numbers:
            if number >= len(topic.partitions):
                raise unknown_partition(topic.name, number, len(topic.partitions))
        chosen += [
            TopicPartition(topic.name, number) for number in sorted(set(numbers)) or range(len(topic.partitions))
        ]
    return chosen
