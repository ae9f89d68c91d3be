"""Records, uncompressed, read and written one by one in Python: where the codec does not take a header's name.

A header's name is a string in Kafka's format, and any client may send one whose bytes are not UTF-8. It is read with
"surrogateescape" (PEP 383), so that `name.encode("utf-8", "surrogateescape")` gives the bytes back. Ten times slower
than the codec.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

_NAMES = ("utf-8", "surrogateescape")
_VARINT_BYTES_MAX = 10
_LOG_APPEND_TIME = 0x08


class PlainRecord(NamedTuple):
    """The attributes that the codec's records have."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]


class PlainBatch(NamedTuple):
    """What records are relative to."""

    base_offset: int
    attributes: int
    base_timestamp_ms: int
    max_timestamp_ms: int
    record_count: int


def read_plain(body: bytes, batch: PlainBatch) -> Iterator[PlainRecord]:
    """Each record of `body`, which is all of a batch behind its header. Raises ValueError where it is none."""
    position = 0
    for _ in range(batch.record_count):
        length, position = _varint(body, position)
        end = position + length
        if not position < end <= len(body):
            raise ValueError(f"a record of {length} bytes leaves its batch")
        delta_ms, position = _varint(body, position + 1)
        delta, position = _varint(body, position)
        key, position = _bytes(body, position)
        value, position = _bytes(body, position)
        count, position = _varint(body, position)
        if not 0 <= count <= end - position:
            raise ValueError(f"a record of {length} bytes with {count} headers")
        headers: list[tuple[str, bytes | None]] = []
        for _ in range(count):
            name, position = _bytes(body, position)
            if name is None:
                raise ValueError("a header without a name")
            content, position = _bytes(body, position)
            headers.append((name.decode(*_NAMES), content))
        if position != end:
            raise ValueError(f"a record of {length} bytes that ends {position - end} bytes behind")
        appended = batch.attributes & _LOG_APPEND_TIME
        timestamp_ms = batch.max_timestamp_ms if appended else batch.base_timestamp_ms + delta_ms
        yield PlainRecord(batch.base_offset + delta, timestamp_ms, key, value, headers)
    if position != len(body):
        raise ValueError(f"{len(body) - position} bytes behind the last record")


def read_times(body: bytes, batch: PlainBatch) -> Iterator[tuple[int, int]]:
    """(offset, timestamp_ms) of each record, whatever else it holds: a million headers cost nothing here.

    Raises as `read_plain`, of what it looks at.
    """
    position, size, appended = 0, len(body), batch.attributes & _LOG_APPEND_TIME
    for _ in range(batch.record_count):
        length, position = _varint(body, position)
        end = position + length
        if not position < end <= size:
            raise ValueError(f"a record of {length} bytes leaves its batch")
        delta_ms, position = _varint(body, position + 1)
        delta, _ = _varint(body, position)
        yield batch.base_offset + delta, batch.max_timestamp_ms if appended else batch.base_timestamp_ms + delta_ms
        position = end


def write_plain(
    delta_ms: int, delta: int, key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes | None]]
) -> bytes:
    """One record, its time and offset relative to its batch's."""
    parts = [b"\0", _encoded(delta_ms), _encoded(delta), _sized(key), _sized(value), _encoded(len(headers))]
    for name, content in headers:
        parts += (_sized(name.encode(*_NAMES)), _sized(content))
    body = b"".join(parts)
    return _encoded(len(body)) + body


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """(number, position behind it): zigzag, seven bits a byte."""
    number = 0
    for count in range(_VARINT_BYTES_MAX):
        if position >= len(data):
            raise ValueError("a number that is cut short")
        byte = data[position]
        position += 1
        number |= (byte & 0x7F) << 7 * count
        if byte < 0x80:
            return (number >> 1) ^ -(number & 1), position
    raise ValueError("a number of more than 64 bits")


def _bytes(data: bytes, position: int) -> tuple[bytes | None, int]:
    length, position = _varint(data, position)
    if length < 0:
        return None, position
    if length > len(data) - position:
        raise ValueError(f"a field of {length} bytes leaves its batch")
    return data[position : position + length], position + length


def _encoded(number: int) -> bytes:
    number = (number << 1) ^ (number >> 63)
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _sized(data: bytes | None) -> bytes:
    return _encoded(-1) if data is None else _encoded(len(data)) + data
