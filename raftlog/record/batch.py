"""RecordBatch v2: read, check, stamp, build and decode. Bytes in, bytes out.

    RecordBatch =>                      bytes
      BaseOffset           int64         0..8    set by the leader; not under the CRC
      Length               int32         8..12   of all that follows this field
      PartitionLeaderEpoch int32        12..16   = Raft term; set by the leader; not under the CRC
      Magic                int8         16..17   2
      CRC                  uint32       17..21   CRC-32C of all that follows this field
      Attributes           int16        21..23   0..2 compression, 3 timestamp type, 4 transactional, 5 control
      LastOffsetDelta      int32        23..27
      BaseTimestamp        int64        27..35   ms
      MaxTimestamp         int64        35..43   ms
      ProducerId           int64        43..51   -1: none
      ProducerEpoch        int16        51..53
      BaseSequence         int32        53..57
      RecordCount          int32        57..61
      Records              [Record]     61..     compressed as a whole when the attributes say so

    Record => Length varint, Attributes int8, TimestampDelta varlong, OffsetDelta varint,
              Key bytes, Value bytes, Headers [Key string, Value bytes]      (lengths are varints, -1: null)

The two fields that the leader fills in lie in front of the CRC, so that a batch goes from the producer to
every disk and every consumer without being computed again. Source: Kafka, "Message format"; KIP-98.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple, TypeVar

import google_crc32c
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder

from raftlog.errors import (
    CorruptMessageError,
    InvalidRecordError,
    InvalidTimestampError,
    MessageTooLargeError,
    UnreadableRecordsError,
    UnsupportedForMessageFormatError,
)
from raftlog.limits import DECOMPRESSED_BYTES_MAX, RECORD_BYTES_MAX
from raftlog.record.compression import COMPRESSIONS, compress, decompress
from raftlog.record.plain import PlainBatch, PlainRecord, read_plain, read_times
from raftlog.types import Buffer

Headers = list[tuple[str, bytes | None]]
T = TypeVar("T")

MAGIC = 2
HEADER_BYTES = 61
PREFIX_BYTES = 12  # base offset and length, which Length does not count
STAMPED_BYTES = 16  # base offset, length, leader epoch: all that a leader writes
CRC_START = 21  # the CRC covers everything from the attributes on

_HEADER = struct.Struct(
    ">q"  # base offset
    "i"  # length
    "i"  # partition leader epoch
    "b"  # magic
    "I"  # CRC
    "h"  # attributes
    "i"  # last offset delta
    "q"  # base timestamp
    "q"  # max timestamp
    "q"  # producer id
    "h"  # producer epoch
    "i"  # base sequence
    "i"  # record count
)
_STAMP = struct.Struct(">qii")
_LENGTH = struct.Struct(">i")
_CRC = struct.Struct(">I")
_ATTRIBUTES = struct.Struct(">h")
_NUMBERS = struct.Struct(">qhi")  # producer id, producer epoch, base sequence
_MAX_TIMESTAMP_START = 35
_NUMBERS_START = 43
_TIME = struct.Struct(">q")
COMPRESSION_MASK = 0x07
_LOG_APPEND_TIME = 0x08
_TRANSACTIONAL_OR_CONTROL = 0x30
_CONTROL = 0x20

_BAD_RECORD = (CorruptRecordException, ValueError, OverflowError, MemoryError)

_crc32c = google_crc32c.value
_unpack_header = _HEADER.unpack_from
_new = tuple.__new__

stamp_bytes = _STAMP.pack
"""stamp_bytes(base_offset, batch_bytes - PREFIX_BYTES, leader_epoch) -> the first STAMPED_BYTES of a batch."""


# Where a header has its fields, for loops over batches: reading one by its name takes half as long again.
BASE_OFFSET = 0
BATCH_BYTES = 1
LEADER_EPOCH = 2
_MAGIC_FIELD = 3
_CRC_FIELD = 4
_ATTRIBUTES_FIELD = 5
LAST_OFFSET_DELTA = 6
MAX_TIMESTAMP = 8
PRODUCER_ID = 9
PRODUCER_EPOCH = 10
BASE_SEQUENCE = 11
RECORD_COUNT = 12


class BatchHeader(NamedTuple):
    base_offset: int
    batch_bytes: int  # the whole batch, prefix included
    leader_epoch: int
    magic: int
    crc: int
    attributes: int
    last_offset_delta: int
    base_timestamp_ms: int
    max_timestamp_ms: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    record_count: int

    @property
    def next_offset(self) -> int:
        return self.base_offset + self.last_offset_delta + 1

    @property
    def compression(self) -> str:
        """One of COMPRESSIONS. Raises CorruptMessageError for bits that mean none of them."""
        code = self.attributes & COMPRESSION_MASK
        if code >= len(COMPRESSIONS):
            raise CorruptMessageError(f"unknown compression {code}")
        return COMPRESSIONS[code]


@dataclass(slots=True)
class Record:
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers = field(default_factory=list)


def read_header(buffer: Buffer, position: int = 0) -> BatchHeader:
    """The header at `position`. Raises CorruptMessageError when it is cut short or its length is impossible.

    Says nothing of magic and CRC, and the batch may go on behind the end of the buffer.
    """
    try:
        base, length, epoch, magic, crc, attributes, delta, first, last, pid, pepoch, sequence, count = _unpack_header(
            buffer, position
        )
    except struct.error:
        raise CorruptMessageError("a batch header that is cut short") from None
    if length < HEADER_BYTES - PREFIX_BYTES:
        raise CorruptMessageError(f"a batch of {length} bytes is shorter than its header")
    return _new(
        BatchHeader,
        (base, length + 12, epoch, magic, crc, attributes, delta, first, last, pid, pepoch, sequence, count),
    )


def check_crc(buffer: Buffer, position: int, header: BatchHeader) -> bool:
    """Whether the batch at `position`, which must lie in the buffer as a whole, is what was sent."""
    body = buffer[position + CRC_START : position + header.batch_bytes]
    return bool(_crc32c(body if type(body) is bytes else bytes(body)) == header.crc)


def check_batch(buffer: Buffer) -> BatchHeader:
    """The header of a batch as a producer sent it: exactly one, intact, with data records only.

    Raises CorruptMessageError, UnsupportedForMessageFormatError (magic), InvalidRecordError (counts, kinds),
    InvalidTimestampError (its type).
    """
    # An older format has its magic at the same place, which is why the magic comes first.
    if len(buffer) > STAMPED_BYTES and buffer[16] != MAGIC:
        raise UnsupportedForMessageFormatError(f"magic {buffer[16]}, only {MAGIC} is known")
    header = read_header(buffer)
    if header[BATCH_BYTES] != len(buffer):
        raise CorruptMessageError(f"the batch header says {header.batch_bytes} bytes, the frame has {len(buffer)}")
    body = buffer[CRC_START:]
    if _crc32c(body if type(body) is bytes else bytes(body)) != header[_CRC_FIELD]:
        raise CorruptMessageError("the checksum of a batch does not match")
    if header[RECORD_COUNT] < 1 or header[LAST_OFFSET_DELTA] != header[RECORD_COUNT] - 1:
        delta = header.last_offset_delta
        raise InvalidRecordError(f"{header.record_count} records with a last offset delta of {delta}")
    if header[_ATTRIBUTES_FIELD]:
        _check_attributes(header[_ATTRIBUTES_FIELD])
    return header


def _check_attributes(attributes: int) -> None:
    if attributes & _TRANSACTIONAL_OR_CONTROL:
        raise InvalidRecordError("transactional and control batches are not taken")
    if attributes & _LOG_APPEND_TIME:
        raise InvalidTimestampError("a producer gives the time of creation; the type of time is LogAppendTime")
    if attributes & COMPRESSION_MASK >= len(COMPRESSIONS):
        raise InvalidRecordError(f"unknown compression {attributes & COMPRESSION_MASK}")


def split(payload: Buffer) -> Iterator[tuple[int, BatchHeader]]:
    """(position, header) of each batch; raises CorruptMessageError at the first byte that cannot be one.

    Checks magic and lengths; the CRC is check_crc's.
    """
    position, end = 0, len(payload)
    while position < end:
        header = read_header(payload, position)
        if header[_MAGIC_FIELD] != MAGIC:
            raise CorruptMessageError(f"magic {header.magic} at position {position}")
        if position + header[BATCH_BYTES] > end:
            raise CorruptMessageError(f"the batch at position {position} is cut short")
        yield position, header
        position += header[BATCH_BYTES]


def stamp(batch: Buffer, base_offset: int, leader_epoch: int) -> bytes:
    """The batch with what a leader fills in. Both fields lie outside the CRC."""
    return b"".join((stamp_bytes(base_offset, len(batch) - PREFIX_BYTES, leader_epoch), batch[STAMPED_BYTES:]))


def numbered(batch: Buffer, producer_id: int, producer_epoch: int, base_sequence: int) -> bytes:
    """The batch as another producer epoch sends it: these fields lie under the CRC, which is computed anew."""
    numbers = _NUMBERS.pack(producer_id, producer_epoch, base_sequence)
    covered = b"".join((batch[CRC_START:_NUMBERS_START], numbers, batch[_NUMBERS_START + _NUMBERS.size :]))
    return b"".join((batch[: CRC_START - _CRC.size], _CRC.pack(_crc32c(covered)), covered))


def with_append_time(batch: Buffer, header: BatchHeader, now_ms: int) -> tuple[Buffer, BatchHeader]:
    """The batch with its leader's time instead of its producer's: that of all its records. A writable one is changed.

    Type and time lie under the CRC, which is computed anew.
    """
    attributes = header.attributes | _LOG_APPEND_TIME
    front, behind = batch[CRC_START + 2 : _MAX_TIMESTAMP_START], batch[_NUMBERS_START:]
    covered = b"".join((_ATTRIBUTES.pack(attributes), front, _TIME.pack(now_ms), behind))
    crc = _crc32c(covered)
    if isinstance(batch, memoryview) and not batch.readonly:
        _CRC.pack_into(batch, CRC_START - _CRC.size, crc)
        _ATTRIBUTES.pack_into(batch, CRC_START, attributes)
        _TIME.pack_into(batch, _MAX_TIMESTAMP_START, now_ms)
    else:
        batch = b"".join((batch[: CRC_START - _CRC.size], _CRC.pack(crc), covered))
    return batch, header._replace(crc=crc, attributes=attributes, max_timestamp_ms=now_ms)


class BatchBuilder:
    """Collects records for one batch; base offset 0 and epoch -1 until a leader stamps them."""

    def __init__(self, compression: str = "none", max_bytes: int = RECORD_BYTES_MAX) -> None:
        """`max_bytes` bounds the batch before compression; a single record may exceed it."""
        assert compression in COMPRESSIONS, compression
        self._compression = compression
        self._builder = DefaultRecordBatchBuilder(MAGIC, 0, 0, -1, -1, -1, max_bytes)
        # The codec's own append, for those who count for themselves and set `count` before `build`: (index,
        # timestamp_ms, key, value, headers) -> None when the batch is full. Half the time of `append`.
        self.append_at: Callable[[int, int, bytes | None, bytes | None, Headers], object | None] = self._builder.append
        self.count = 0

    def append(
        self,
        timestamp_ms: int,
        key: bytes | None,
        value: bytes | None,
        headers: Headers | None = None,
    ) -> bool:
        """False, and nothing is taken, when the batch is full."""
        count = self.count
        if self.append_at(count, timestamp_ms, key, value, headers or []) is None:
            return False
        self.count = count + 1
        return True

    def number(self, producer_id: int, producer_epoch: int, base_sequence: int) -> None:
        """For idempotent producers; BEFORE `build`."""
        self._builder.set_producer_state(producer_id, producer_epoch, base_sequence)

    @property
    def size_bytes(self) -> int:
        """Before compression."""
        return int(self._builder.size())

    def build(self) -> bytes:
        """The batch. Compression that would make it larger is left out, as in Kafka's clients."""
        assert self.count > 0, "a batch without records"
        plain = bytes(self._builder.build())
        if self._compression == "none":
            return plain
        body = compress(plain[HEADER_BYTES:], self._compression)
        if len(body) + HEADER_BYTES >= len(plain):
            return plain
        attributes = COMPRESSIONS.index(self._compression)
        covered = b"".join((_ATTRIBUTES.pack(attributes), plain[CRC_START + 2 : HEADER_BYTES], body))
        length = _LENGTH.pack(HEADER_BYTES - PREFIX_BYTES + len(body))
        return b"".join((plain[:8], length, plain[12:17], _CRC.pack(_crc32c(covered)), covered))


def single_batch_bytes(timestamp_ms: int, key: bytes | None, value: bytes | None, headers: Headers) -> int:
    """What a batch of this one record takes, before compression."""
    builder = DefaultRecordBatchBuilder(MAGIC, 0, 0, -1, -1, -1, RECORD_BYTES_MAX)
    return HEADER_BYTES + int(builder.size_in_bytes(0, timestamp_ms, key, value, headers))


def encode(records: Iterable[tuple[int, bytes | None, bytes | None]], compression: str = "none") -> bytes:
    """One batch of (timestamp_ms, key, value)."""
    builder = BatchBuilder(compression)
    for timestamp_ms, key, value in records:
        taken = builder.append(timestamp_ms, key, value)
        assert taken, "more than one batch can hold"
    return builder.build()


def decode(payload: Buffer) -> Iterator[Record]:
    """Every record of batches that stand back to back. Raises CorruptMessageError at the first bad batch.

    Control batches hold no records for users and are skipped.
    """
    for position, header in split(payload):
        yield from decode_batch(payload, position, header, Record)


def decode_batch(
    payload: Buffer,
    position: int,
    header: BatchHeader,
    make: Callable[[int, int, bytes | None, bytes | None, Headers], T],
) -> list[T]:
    """make(offset, timestamp_ms, key, value, headers) of each record of the batch at `position`.

    For those who want records of a type of their own without paying for ours. Raises CorruptMessageError;
    UnreadableRecordsError where the checksum is right.
    """
    try:
        records = _records(payload, position, header)
        try:
            return [make(r.offset, r.timestamp, r.key, r.value, r.headers) for r in records]
        except _BAD_RECORD as error:
            if not _is_of_a_name(error):
                raise
            return [make(*record) for record in _plain(payload, position, header)]
    except _BAD_RECORD as error:
        raise _unreadable(header, f"a record does not decode: {error}") from None


def decode_pairs(payload: Buffer, position: int, header: BatchHeader) -> list[tuple[int, bytes | None, bytes | None]]:
    """(offset, key, value) of each record of the batch at `position`: a third of the time of `decode_batch`."""
    try:
        return [(r.offset, r.key, r.value) for r in _records(payload, position, header)]
    except _BAD_RECORD as error:
        if _is_of_a_name(error):
            return decode_batch(payload, position, header, lambda *fields: (fields[0], *fields[2:4]))
        raise _unreadable(header, f"a record does not decode: {error}") from None


def each_record(payload: Buffer, position: int, header: BatchHeader) -> Iterator[Any]:
    """The codec's record (offset, timestamp, key, value, headers) of each, decoded one by one, for who stops early.

    Raises as `decode_batch`.
    """
    seen = 0
    try:
        try:
            for record in _records(payload, position, header):
                yield record
                seen += 1
        except _BAD_RECORD as error:
            if not _is_of_a_name(error):
                raise
            yield from islice(_plain(payload, position, header), seen, None)
    except _BAD_RECORD as error:
        raise _unreadable(header, f"a record does not decode: {error}") from None


def each_time(batch: Buffer, header: BatchHeader) -> tuple[int, Iterator[tuple[int, int]]]:
    """What the batch unpacks to, in bytes, and (offset, timestamp_ms) of each record, found out one by one.

    Raises as `decode_batch`; so does the iterator.
    """
    if not check_crc(batch, 0, header):
        raise CorruptMessageError("the checksum of a batch does not match")
    if header.attributes & _CONTROL:
        return 0, iter(())
    body = _body(batch, 0, header)
    return len(body), _times(body, header)


def _times(body: bytes, header: BatchHeader) -> Iterator[tuple[int, int]]:
    try:
        yield from read_times(body, _as_plain(header))
    except _BAD_RECORD as error:
        raise _unreadable(header, f"a record does not decode: {error}") from None


def _unreadable(header: BatchHeader, reason: str) -> UnreadableRecordsError:
    return UnreadableRecordsError(reason, header.base_offset, max(header.base_offset, header.next_offset))


def _is_of_a_name(error: BaseException) -> bool:
    """The codec takes no header whose name is not UTF-8. (Its Python twin wraps the error.)"""
    return isinstance(error, UnicodeDecodeError) or isinstance(error.__cause__, UnicodeDecodeError)


def _records(payload: Buffer, position: int, header: BatchHeader) -> Iterable[Any]:
    """The codec's own records, which raise one of _BAD_RECORD where they are no such."""
    if not check_crc(payload, position, header):
        raise CorruptMessageError(f"the checksum of the batch at position {position} does not match")
    if header.attributes & _CONTROL:
        return []
    batch = bytes(payload[position : position + header.batch_bytes])
    if header.compression != "none":
        # The codec reads plain records, so the header that it gets says "none".
        attributes = _ATTRIBUTES.pack(header.attributes & ~COMPRESSION_MASK)
        body = _body(batch, 0, header)
        batch = b"".join((batch[:CRC_START], attributes, batch[CRC_START + 2 : HEADER_BYTES], body))
    return DefaultRecordBatch(batch)  # type: ignore[no-any-return]


def _plain(payload: Buffer, position: int, header: BatchHeader) -> Iterator[PlainRecord]:
    """The records of a batch that `_records` has looked at."""
    return read_plain(_body(payload, position, header), _as_plain(header))


def _as_plain(header: BatchHeader) -> PlainBatch:
    return PlainBatch(
        header.base_offset, header.attributes, header.base_timestamp_ms, header.max_timestamp_ms, header.record_count
    )


def _body(payload: Buffer, position: int, header: BatchHeader) -> bytes:
    """The records of a batch, uncompressed."""
    body = bytes(payload[position + HEADER_BYTES : position + header.batch_bytes])
    compression = header.compression
    if compression == "none":
        return body
    try:
        return decompress(body, compression, DECOMPRESSED_BYTES_MAX)
    except (CorruptMessageError, MessageTooLargeError) as error:
        raise _unreadable(header, str(error)) from None
