"""What compaction makes of record batches. Bytes in, bytes out; every result is a RecordBatch v2 with a CRC of its own.

    shrunk    some of its records are gone. Base offset, last offset delta, term and the producer's numbers stay, the
              records that are left keep their offsets and times, and the codec is the same
    emptied   the same with no record left: what is known of its producer is in the header (KIP-98)
    filler    stands for consecutive entries of one term of which nothing is left: no records, no producer, the offsets
              that they had, and how many entries they were

    Filler => the header of a batch, with
      BaseOffset       that of the first entry
      LastOffsetDelta  up to the last offset of the last entry
      ProducerId       -1
      BaseSequence     the number of entries; of no meaning to anybody else where there is no producer
      RecordCount      0

So neither offsets nor Raft indexes have gaps: whoever counts batches counts a filler as `entries_of` says, and a reader
that knows only Kafka's format finds an empty batch and goes on behind it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

import google_crc32c
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from raftlog.errors import InvalidRecordError
from raftlog.record.batch import (
    BASE_SEQUENCE,
    CRC_START,
    HEADER_BYTES,
    MAGIC,
    PREFIX_BYTES,
    PRODUCER_ID,
    RECORD_COUNT,
    BatchHeader,
    Record,
    each_record,
)
from raftlog.record.compression import COMPRESSIONS, compress
from raftlog.record.plain import write_plain
from raftlog.types import Buffer

FILLER_ENTRIES_MAX = 2**30  # both numbers of a filler are int32

_FRONT = struct.Struct(">qiibI")  # base offset, length, leader epoch, magic, CRC
_COVERED = struct.Struct(">hiqqqhii")  # attributes, last offset delta, times, the producer's numbers, record count
COMPRESSION_MASK = 0x07
_BYTES_MAX = 2**31 - 1
_RECORD_WORK_BYTES = 200  # what it costs to look at a record, as bytes unpacked
_SLICE_WORK_BYTES = 128 * 1024  # between two looks at the clock of who asks


def entries_of(header: BatchHeader) -> int:
    """How many Raft entries a batch of the log stands for: 1, unless it is a filler."""
    return header[BASE_SEQUENCE] if header[RECORD_COUNT] == 0 and header[PRODUCER_ID] < 0 else 1


def is_filler(header: BatchHeader) -> bool:
    return header[RECORD_COUNT] == 0 and header[PRODUCER_ID] < 0


def filler(base_offset: int, next_offset: int, entries: int, leader_epoch: int) -> bytes:
    """Stands for `entries` entries with the offsets [base_offset, next_offset)."""
    assert 0 < entries <= FILLER_ENTRIES_MAX
    covered = _COVERED.pack(0, next_offset - base_offset - 1, -1, -1, -1, -1, entries, 0)
    return _assemble(base_offset, leader_epoch, covered, b"")


def shrunk(header: BatchHeader, records: Sequence[Record]) -> bytes:
    """The batch of `header` with only these of its records, in their order; none: emptied."""
    assert records or header.producer_id >= 0, "that would be taken for a filler"
    attributes, first_ms, body = header.attributes & ~COMPRESSION_MASK, header.base_timestamp_ms, b""
    newest_ms = max((record.timestamp_ms for record in records), default=header.max_timestamp_ms)
    if records:
        first_ms, body = records[0].timestamp_ms, _encoded(header.base_offset, records)
        if header.compression != "none":
            smaller = compress(body, header.compression)
            if len(smaller) < len(body):
                attributes, body = attributes | COMPRESSIONS.index(header.compression), smaller
    covered = _COVERED.pack(
        attributes,
        header.last_offset_delta,
        first_ms,
        newest_ms,
        header.producer_id,
        header.producer_epoch,
        header.base_sequence,
        len(records),
    )
    return _assemble(header.base_offset, header.leader_epoch, covered, body)


def _encoded(base_offset: int, records: Sequence[Record]) -> bytes:
    """The records of one batch, whose base timestamp is that of the first."""
    builder = DefaultRecordBatchBuilder(MAGIC, 0, 0, -1, -1, -1, _BYTES_MAX)
    try:
        for record in records:
            taken = builder.append(
                record.offset - base_offset, record.timestamp_ms, record.key, record.value, record.headers
            )
            assert taken is not None, "fewer records than one batch held"
    except UnicodeEncodeError:  # the name of a header that is not UTF-8
        first_ms = records[0].timestamp_ms
        return b"".join(
            [
                write_plain(each.timestamp_ms - first_ms, each.offset - base_offset, each.key, each.value, each.headers)
                for each in records
            ]
        )
    return bytes(builder.build())[HEADER_BYTES:]


def check_keyed(batch: Buffer, header: BatchHeader) -> Iterator[int]:
    """Every record of a compacted topic has a key. Raises InvalidRecordError, CorruptMessageError.

    Each item is the work of a slice, in bytes: a small batch may hold a hundred megabytes, or a million records.
    """
    work = 0
    for record in each_record(batch, 0, header):
        if record.key is None:
            raise InvalidRecordError(
                "a record without a key; the topic is compacted, which keeps the last one of each key"
            )
        work += _RECORD_WORK_BYTES + len(record.key) + len(record.value or b"")
        if work >= _SLICE_WORK_BYTES:
            yield work
            work = 0
    if work:
        yield work


def _assemble(base_offset: int, leader_epoch: int, covered: bytes, body: bytes) -> bytes:
    covered += body
    length = CRC_START - PREFIX_BYTES + len(covered)
    return _FRONT.pack(base_offset, length, leader_epoch, MAGIC, google_crc32c.value(covered)) + covered
