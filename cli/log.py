"""`raftlog log`: the files of a log, read without a cluster."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click
import msgspec

from raftlog.errors import CorruptLogError, CorruptMessageError

from .options import json_option
from .record_format import json_bytes, json_headers

if TYPE_CHECKING:
    from raftlog.record.batch import Record
    from raftlog.storage.dump import DumpedBatch, SegmentDump

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@click.group()
def log() -> None:
    """Look into the files of a log.

    \b
    Example:
        raftlog log dump raftlog-data/1/orders-0/log.1/00000000000000000000.00000000000000000002.log
    """


@log.command()
@click.argument("segment", type=click.Path())
@json_option
def dump(segment: str, as_json: bool) -> None:
    """Show the batches and records of a segment file.

    With their checksums, and the first bad byte if there is one; the exit code is 1 then. Nothing is
    changed. The last batch of a segment that a node is writing to may look cut short.

    \b
    Examples:
        raftlog log dump raftlog-data/1/orders-0/log.1/00000000000000000000.00000000000000000002.log
        raftlog log dump SEGMENT --json | jq '.batches[].crc_ok'
    """
    from raftlog.storage.dump import SegmentDump

    dumped = SegmentDump(segment)
    if as_json:
        _write_json(dumped)
    else:
        _write_text(dumped)
    if dumped.first_bad_position is not None:
        raise CorruptLogError(f"the first bad byte is at position {dumped.first_bad_position}: {dumped.reason}")


def _write_text(dumped: SegmentDump) -> None:
    batches = records = 0
    for batch in dumped.batches():
        header = batch.header
        crc = "ok" if batch.crc_ok else "WRONG"
        click.echo(
            f"position {batch.position}: offsets {header.base_offset} to {header.next_offset - 1}, "
            f"{header.record_count} records, {header.batch_bytes} bytes, epoch {header.leader_epoch}, "
            f"{_compression(batch)}, crc {header.crc:08x} {crc}{_remarks(batch)}"
        )
        batches += 1
        readable, problem = _records(batch)
        if problem:
            click.echo(f"  {problem}")
        for record in readable:
            records += 1
            time = _time(record.timestamp_ms)
            headers = f" headers={record.headers!r}" if record.headers else ""
            click.echo(f"  offset {record.offset} {time} key={record.key!r} value={record.value!r}{headers}")
    click.echo(f"{dumped.size} bytes, {batches} batches, {records} records")


def _remarks(batch: DumpedBatch) -> str:
    problem = f", {batch.problem}" if batch.problem else ""
    return f", gap of {batch.gap} offsets in front{problem}" if batch.gap else problem


def _time(timestamp_ms: int) -> str:
    """As a date where it is one: an int64 of milliseconds reaches further than the years 1 to 9999."""
    try:
        return (_EPOCH + timedelta(milliseconds=timestamp_ms)).isoformat(timespec="milliseconds")
    except OverflowError:
        return f"{timestamp_ms} ms"


def _write_json(dumped: SegmentDump) -> None:
    """Batch by batch, since a segment is larger than anyone wants to hold."""
    out = sys.stdout
    out.write('{"segment":' + _json(dumped.path) + ',"batches":[')
    for number, batch in enumerate(dumped.batches()):
        header = batch.header
        readable, problem = _records(batch)
        shown = {
            "position": batch.position,
            "bytes": header.batch_bytes,
            "base_offset": header.base_offset,
            "next_offset": header.next_offset,
            "leader_epoch": header.leader_epoch,
            "compression": _compression(batch),
            "max_timestamp_ms": header.max_timestamp_ms,
            "crc": header.crc,
            "crc_ok": batch.crc_ok,
            "gap": batch.gap,
            "problem": batch.problem or problem or None,
            "records": [
                {
                    "offset": record.offset,
                    "timestamp_ms": record.timestamp_ms,
                    **json_bytes("key", record.key),
                    **json_bytes("value", record.value),
                    "headers": json_headers(record.headers),
                }
                for record in readable
            ],
        }
        out.write(("," if number else "") + _json(shown))
    end = {"size_bytes": dumped.size, "first_bad_byte": dumped.first_bad_position, "reason": dumped.reason or None}
    out.write("]," + _json(end)[1:] + "\n")


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _compression(batch: DumpedBatch) -> str:
    try:
        return batch.header.compression
    except CorruptMessageError:
        return "unknown compression"


def _records(batch: DumpedBatch) -> tuple[list[Record], str]:
    """The records, or why there are none although the checksum is right."""
    try:
        return batch.records(), ""
    except CorruptMessageError as error:
        return [], f"the records do not decode: {error}"
