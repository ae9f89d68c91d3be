"""`raftlog import`: the records of an export, or of Apache Kafka's own files, written to a topic; each once."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from raftlog.errors import MessageTooLargeError, RaftlogError, TopicAlreadyExistsError
from raftlog.types import LATEST_TIMESTAMP, TopicPartition

from .connect import describe_topics, open_admin
from .log_copy import FoundBatch, Stretch, batches, committed_ends, read_manifest, segments, stretches
from .options import bootstrap_option, excludes, json_option
from .output import note, print_json

if TYPE_CHECKING:
    from raftlog import Admin
    from raftlog.client.admin.batches import BatchReader, BatchWriter

_TOGETHER_MAX = 8  # partitions that are written at the same time
_BODY_FROM = 57  # of a batch: what two that hold the same records have in common, from the number of records on


class Source(NamedTuple):
    """The files of one partition. `first_offset`: what lies below is not meant; `end_offset` None: all of it is."""

    partition: int
    files: list[Stretch]
    first_offset: int
    end_offset: int | None
    transactions: bool  # it may hold some


class Written(NamedTuple):
    """What an import has written to a partition.

    `shift`: how far offsets have moved down; None: by different numbers, since there were gaps.
    """

    partition: int
    records: int
    found_before: int
    shift: int | None


@click.command("import")
@click.argument("topic")
@click.option("--from", "exported", type=click.Path(exists=True), metavar="FILE|DIR", help="An export.")
@click.option(
    "--kafka-log-dir",
    "kafka",
    multiple=True,
    type=click.Path(exists=True, file_okay=False),
    metavar="DIR",
    help="A directory of Apache Kafka's `log.dirs`, of a broker that is stopped; may be repeated for several brokers.",
)
@click.option("--source", metavar="TOPIC", help="With --kafka-log-dir: the topic's name there.  [default: TOPIC]")
@click.option("--keep-offsets", is_flag=True, help="Write nothing unless every record keeps its offset.")
@bootstrap_option
@json_option
@excludes("--from", ("--kafka-log-dir",), "one import has one source")
def import_topic(
    topic: str,
    exported: str | None,
    kafka: tuple[str, ...],
    source: str | None,
    keep_offsets: bool,
    bootstrap: str,
    as_json: bool,
) -> None:
    """Write the records of an export, or of Apache Kafka's files, to a topic.

    A topic that is not there is made, with the settings of the export; one that is there has to be empty, or to
    hold the beginning of the same records: an import that was interrupted goes on when it is started again, and
    writes no record twice. Keys, values, headers, timestamps and compression stay as they are. Offsets stay where
    the log began with offset 0 and has no gap; else they move down, and the command says by how much.

    Of Kafka's files it takes what its consumers could read: up to the high watermark that the broker has noted, and
    of transactions those that were committed. Retention of the topic counts for old records as for new ones.

    \b
    Examples:
        raftlog import orders --from backup/orders
        raftlog import orders --from backup/orders --keep-offsets
        raftlog import orders --kafka-log-dir /var/lib/kafka/data
    """
    if exported is None and not kafka:
        raise click.UsageError("say what to import: --from FILE|DIR or --kafka-log-dir DIR")
    if source is not None and not kafka:
        raise click.UsageError("--source names a topic of --kafka-log-dir")
    from raftlog.client.admin.batches import BatchReader, BatchWriter

    config: dict[str, str] = {}
    if exported is not None:
        sources, config = _of_export(Path(exported))
    else:
        sources = _of_kafka([Path(directory) for directory in kafka], source or topic)
    if keep_offsets:
        for each in sources:
            _check_offsets(topic, each)
    with open_admin(bootstrap) as admin:
        _make_topic(admin, topic, len(sources), config)
        ends = admin.list_offsets({TopicPartition(topic, each.partition): LATEST_TIMESTAMP for each in sources})
    with BatchReader(bootstrap) as reader, BatchWriter(bootstrap) as writer:
        writer.begin()
        written = _write_all(topic, sources, ends, reader, writer)
    if as_json:
        names = ("partition", "records", "found_before", "shift")
        print_json({"topic": topic, "partitions": [dict(zip(names, each, strict=True)) for each in written]})
        return
    records = sum(each.records for each in written)
    click.echo(f"imported {records:,} records into {len(written)} partitions of topic {topic}")
    for done in written:
        if done.shift != 0:
            moved = "by different numbers: there were gaps" if done.shift is None else f"down by {done.shift}"
            note(f"{topic}-{done.partition}: offsets have moved {moved}")


# --- what is read ------------------------------------------------------------------------------
def _of_export(copy: Path) -> tuple[list[Source], dict[str, str]]:
    manifest = read_manifest(copy)
    if manifest is None:
        raise RaftlogError(f"{copy} holds no export; `raftlog export TOPIC --to {copy}` makes one")
    if not manifest.complete:
        raise RaftlogError(f"the export in {copy} is not complete: run `raftlog export` again, it goes on")
    sources = [
        Source(part.partition, [stretch], part.start_offset, part.end_offset, transactions=False)
        for part, stretch in zip(manifest.partitions, stretches(copy, manifest), strict=True)
    ]
    return sources, {name: str(value) for name, value in manifest.config.items()}


def _of_kafka(directories: Sequence[Path], topic: str) -> list[Source]:
    found: dict[int, Source] = {}
    for directory in directories:
        ends = committed_ends(directory)
        for path in sorted(directory.glob(f"{topic}-*")):
            number = path.name.removeprefix(f"{topic}-")
            if path.is_dir() and number.isdecimal() and int(number) not in found:
                end_offset = ends.get(path.name)
                found[int(number)] = Source(int(number), segments(path), 0, end_offset, transactions=True)
    if not found:
        raise RaftlogError(f"there is no partition of topic {topic} in {', '.join(map(str, directories))}")
    missing = sorted(set(range(max(found) + 1)) - set(found))
    if missing:
        raise RaftlogError(
            f"partition {missing[0]} of topic {topic} is not there: name the directories of the other brokers too"
        )
    return [found[number] for number in sorted(found)]


def _all_batches(source: Source) -> Iterator[FoundBatch]:
    """Raises RaftlogError, behind the last batch, where the files end before `source.end_offset`."""
    next_offset = source.first_offset
    for file in source.files:
        next_offset = max(next_offset, file.base_offset)  # Kafka's compaction may leave nothing of the end of a segment
        for found in batches(file.path, file.begin_bytes, file.end_bytes):
            if source.end_offset is not None and found.header.base_offset >= source.end_offset:
                return
            next_offset = found.header.next_offset
            yield found
    if source.end_offset is not None and next_offset < source.end_offset:
        raise RaftlogError(
            f"partition {source.partition} ends at offset {next_offset}, and records up to {source.end_offset} "
            f"belong to it: {source.files[-1].path if source.files else 'its file'} was cut, or a file is missing"
        )


def _produced(source: Source) -> Iterator[tuple[bytes, int, int]]:
    """(batch, records, offset of the first in the source) of all that is to be written."""
    from raftlog.record.batch import read_header
    from raftlog.record.copies import Transactions, as_produced

    transactions = Transactions()
    if source.transactions:
        for found in _all_batches(source):
            transactions.feed(found.data, 0, found.header)
    for found in _all_batches(source):
        if not transactions.counts(found.header):
            continue
        batch = as_produced(found.data, 0, found.header, source.first_offset)
        if batch is not None:
            yield batch, read_header(batch).record_count, max(found.header.base_offset, source.first_offset)


def _check_offsets(topic: str, source: Source) -> None:
    offset = 0
    for _, records, base_offset in _produced(source):
        if base_offset != offset:
            raise RaftlogError(
                f"{topic}-{source.partition}: the record with offset {base_offset} would get offset {offset}; "
                "without --keep-offsets it does"
            )
        offset += records


# --- what is written ---------------------------------------------------------------------------
def _make_topic(admin: Admin, topic: str, partitions: int, config: dict[str, str]) -> None:
    from raftlog.protocol.topics import NewTopic

    try:
        admin.create_topics([NewTopic(name=topic, partitions=partitions, replication_factor=-1, config=config)])
        return
    except TopicAlreadyExistsError:
        (found,) = describe_topics(admin, [topic])
    if len(found.partitions) != partitions:
        raise RaftlogError(
            f"topic {topic} has {len(found.partitions)} partitions, and what is imported {partitions}: "
            "import into a topic that is not there"
        )


def _write_all(
    topic: str, sources: Sequence[Source], ends: dict[TopicPartition, int], reader: BatchReader, writer: BatchWriter
) -> list[Written]:
    stopping = threading.Event()
    with ThreadPoolExecutor(min(_TOGETHER_MAX, len(sources))) as threads:
        writing = [
            threads.submit(_write, TopicPartition(topic, each.partition), each, ends, reader, writer, stopping)
            for each in sources
        ]
        try:
            return [each.result() for each in writing]
        except BaseException:
            stopping.set()
            raise


def _write(
    place: TopicPartition,
    source: Source,
    ends: dict[TopicPartition, int],
    reader: BatchReader,
    writer: BatchWriter,
    stopping: threading.Event,
) -> Written:
    found_before = ends[place]
    offset = sequence = 0
    shifts: set[int] = set()
    for batch, records, base_offset in _produced(source):
        if stopping.is_set():
            break
        shifts.add(base_offset - offset)
        if offset >= found_before:
            try:
                at = writer.write(place, batch, sequence)
            except MessageTooLargeError as error:
                raise RaftlogError(f"{place}: {error}; `raftlog topic alter` sets max.message.bytes") from None
            if at != offset:
                raise RaftlogError(f"{place}: somebody else writes to it: offset {offset} became {at}")
            sequence += records
        elif offset + records >= found_before:
            _check_same(reader, place, batch, offset, offset + records == found_before)
        offset += records
    if offset < found_before:
        raise _other_records(place)
    return Written(place.partition, sequence, found_before, next(iter(shifts or {0})) if len(shifts) < 2 else None)


def _check_same(reader: BatchReader, place: TopicPartition, batch: bytes, offset: int, ends_there: bool) -> None:
    """The last batch that is there is the one of the import."""
    there = reader.read(place, offset) if ends_there else b""
    if there[_BODY_FROM : len(batch)] != batch[_BODY_FROM:] or len(there) != len(batch):
        raise _other_records(place)


def _other_records(place: TopicPartition) -> RaftlogError:
    return RaftlogError(f"{place} holds other records than the import: import into a topic that is not there")
