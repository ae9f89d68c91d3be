"""Batches of another log, made fit to be written to this one: a log holds what no producer may send.

    control batch          left out: it says how a transaction ended
    transactional batch    written as a plain one if its transaction was committed, else left out
    the broker's time      each record gets it as its own time: the type of time is a topic's to say
    filler, gap            compaction leaves offsets without records; what is written has none, so offsets move up

All others stay as they are, to the byte. Pure: headers and bytes in, bytes out.
"""

from __future__ import annotations

import struct

from raftlog.errors import CorruptMessageError
from raftlog.limits import DECOMPRESSED_BYTES_MAX
from raftlog.record.batch import HEADER_BYTES, BatchBuilder, BatchHeader, Headers, decode_batch
from raftlog.record.plain import PlainBatch, read_plain

_APPEND_TIME, _TRANSACTIONAL, _CONTROL = 0x08, 0x10, 0x20
_CONTROL_KEY = struct.Struct(">hh")  # version, type
_COMMIT = 1


class Transactions:
    """Whose records count. Is fed all batches of a partition, in order, BEFORE it is asked."""

    def __init__(self) -> None:
        self._open: dict[int, list[int]] = {}  # producer id to base offsets of batches whose fate is open
        self._aborted: set[int] = set()

    def feed(self, data: bytes, position: int, header: BatchHeader) -> None:
        """Raises CorruptMessageError for a control batch that does not decode."""
        if not header.attributes & _TRANSACTIONAL:
            return
        if not header.attributes & _CONTROL:
            self._open.setdefault(header.producer_id, []).append(header.base_offset)
            return
        ended = self._open.pop(header.producer_id, [])
        if _control_type(data, position, header) != _COMMIT:
            self._aborted.update(ended)

    def counts(self, header: BatchHeader) -> bool:
        """What was never ended counts for nothing, as for Kafka's consumers that read committed records."""
        return header.base_offset not in self._aborted and not any(
            header.base_offset in offsets for offsets in self._open.values()
        )


def as_produced(data: bytes, position: int, header: BatchHeader, first_offset: int = 0) -> bytes | None:
    """The batch as a producer would send it, without records below `first_offset`; None: nobody would see any of it.

    Raises CorruptMessageError.
    """
    if header.attributes & _CONTROL or not header.record_count or header.next_offset <= first_offset:
        return None
    whole = header.last_offset_delta == header.record_count - 1 and header.base_offset >= first_offset
    if whole and not header.attributes & (_APPEND_TIME | _TRANSACTIONAL):
        return data[position : position + header.batch_bytes]
    builder = BatchBuilder(header.compression, DECOMPRESSED_BYTES_MAX)
    for offset, timestamp_ms, key, value, headers in decode_batch(data, position, header, _fields):
        if offset >= first_offset and not builder.append(timestamp_ms, key, value, headers):
            raise CorruptMessageError(f"the batch at offset {header.base_offset} is larger than a batch may be")
    return builder.build() if builder.count else None


_Fields = tuple[int, int, bytes | None, bytes | None, Headers]


def _fields(offset: int, timestamp_ms: int, key: bytes | None, value: bytes | None, headers: Headers) -> _Fields:
    return offset, timestamp_ms, key, value, headers


def _control_type(data: bytes, position: int, header: BatchHeader) -> int:
    body = bytes(data[position + HEADER_BYTES : position + header.batch_bytes])
    plain = PlainBatch(
        header.base_offset, header.attributes, header.base_timestamp_ms, header.max_timestamp_ms, header.record_count
    )
    try:
        (_, _, key, *_) = next(iter(read_plain(body, plain)))
        return int(_CONTROL_KEY.unpack_from(key or b"")[1])
    except (ValueError, IndexError, StopIteration, struct.error):
        text = f"the control batch at offset {header.base_offset} does not say what it controls"
        raise CorruptMessageError(text) from None
