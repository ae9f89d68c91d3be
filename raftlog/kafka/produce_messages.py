"""Produce by hand: the request of any version, and the answer where all went well. The schemas say the same, slower.

    request   [nullable string transactional id,] int16 acks, int32 timeout in ms, topics:
                  string name, or 16 bytes of id from version 13 on; partitions: int32 index, records
    answer    topics: name or id; partitions:  int32 index, int16 error code, int64 base offset,
                  int64 append time (-1), int64 log start offset (-1, from 5 on),
                  no record errors and no error text (from 8 on)
              int32 throttle time in ms

From version 9 on lengths and counts are varints of one more, and each structure ends with its tagged fields (KIP-482).
A record on its own is a request and an answer: through the schemas these two took half of the door's time for it.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from raftlog import limits
from raftlog.kafka.answer_writer import write_length, write_topic
from raftlog.kafka.request_reader import UnreadableRequestError, skip_tagged_fields, unsigned_varint
from raftlog.types import Buffer

FIRST_VERSION, TOPIC_IDS_FROM = 3, 13
_START_FROM, _ERRORS_FROM, _FLEXIBLE_FROM = 5, 8, 9
_ID_BYTES = 16
_SHORT, _INT = struct.Struct(">h"), struct.Struct(">i")
_ACKS = struct.Struct(">hi")
_ANSWER = struct.Struct(">ii")
_unpack_int = _INT.unpack_from
Topic = str | bytes
"""A name, or from version 13 on an id."""


class Produce(NamedTuple):
    """A produce request, decoded as far as the door needs it.

    `topics`: (topic, [(partition, records)]); the records are views of the frame, None where there are none.
    """

    acks: int
    timeout_ms: int
    transactional_id: str | None
    topics: list[tuple[Topic, list[tuple[int, memoryview | None]]]]


def read_produce(version: int, frame: memoryview, at: int) -> Produce:
    """The body that begins at `at`. Raises UnreadableRequestError."""
    try:
        request, at = _read_compact(frame, at, version) if version >= _FLEXIBLE_FROM else _read_plain(frame, at)
    except (struct.error, IndexError, UnicodeDecodeError):
        raise UnreadableRequestError(f"Produce version {version}, whose body does not decode") from None
    if at > len(frame):
        raise UnreadableRequestError(f"Produce version {version}, which is cut")
    return request


def _read_compact(frame: memoryview, at: int, version: int) -> tuple[Produce, int]:
    transactional_id, at = _compact_bytes(frame, at)
    acks, timeout_ms = _ACKS.unpack_from(frame, at)
    topics = []
    total = 0
    count, at = unsigned_varint(frame, at + _ACKS.size)
    for _ in range(_checked(count - 1, frame, at)):
        topic: Topic
        if version >= TOPIC_IDS_FROM:
            topic = bytes(frame[at : at + _ID_BYTES])
            at += _ID_BYTES
        else:
            name, at = _compact_bytes(frame, at)
            topic = str(_there(name), "utf-8")
        partitions = []
        count, at = unsigned_varint(frame, at)
        for _ in range(_checked(count - 1, frame, at)):
            (index,) = _unpack_int(frame, at)
            records, at = _compact_bytes(frame, at + 4)
            at = _behind_tags(frame, at)
            partitions.append((index, records))
        at = _behind_tags(frame, at)
        topics.append((topic, partitions))
        total = _checked(total + len(partitions), frame, 0)
    text = None if transactional_id is None else str(transactional_id, "utf-8")
    return Produce(acks, timeout_ms, text, topics), _behind_tags(frame, at)


def _compact_bytes(frame: memoryview, at: int) -> tuple[memoryview | None, int]:
    size, at = unsigned_varint(frame, at)
    if not size:
        return None, at
    end = at + size - 1
    if end > len(frame):
        raise IndexError
    return frame[at:end], end


def _behind_tags(frame: memoryview, at: int) -> int:
    return skip_tagged_fields(frame, at) if frame[at] else at + 1


def _read_plain(frame: memoryview, at: int) -> tuple[Produce, int]:
    transactional_id, at = _sized_bytes(frame, at, _SHORT)
    acks, timeout_ms = _ACKS.unpack_from(frame, at)
    topics: list[tuple[Topic, list[tuple[int, memoryview | None]]]] = []
    total = 0
    count, at = _plain_count(frame, at + _ACKS.size)
    for _ in range(count):
        name, at = _sized_bytes(frame, at, _SHORT)
        partitions = []
        count, at = _plain_count(frame, at)
        for _ in range(count):
            (index,) = _unpack_int(frame, at)
            records, at = _sized_bytes(frame, at + 4, _INT)
            partitions.append((index, records))
        topics.append((str(_there(name), "utf-8"), partitions))
        total = _checked(total + len(partitions), frame, 0)
    text = None if transactional_id is None else str(transactional_id, "utf-8")
    return Produce(acks, timeout_ms, text, topics), at


def _plain_count(frame: memoryview, at: int) -> tuple[int, int]:
    (count,) = _unpack_int(frame, at)
    return _checked(count, frame, at), at + 4


def _sized_bytes(frame: memoryview, at: int, form: struct.Struct) -> tuple[memoryview | None, int]:
    (size,) = form.unpack_from(frame, at)
    at += form.size
    if size < 0:
        if size < -1:
            raise IndexError
        return None, at
    if at + size > len(frame):
        raise IndexError
    return frame[at : at + size], at + size


def _checked(count: int, frame: memoryview, at: int) -> int:
    """Each item takes a byte at least, and there are not too many."""
    if not 0 <= count <= min(len(frame) - at, limits.KAFKA_PARTITIONS_PER_PRODUCE):
        raise IndexError
    return count


def _there(text: memoryview | None) -> memoryview:
    if text is None:
        raise IndexError
    return text


def _ending(version: int) -> bytes:
    """What follows the offsets of a partition that was written."""
    if version >= _FLEXIBLE_FROM:
        return b"\x01\x00\x00"  # no errors, no text, no tagged fields
    return b"\x00\x00\x00\x00\xff\xff" if version >= _ERRORS_FROM else b""


_OFFSETS = struct.Struct(">ihqq")
_OFFSETS_AND_START = struct.Struct(">ihqqq")


def write_written(
    version: int,
    correlation_id: int,
    topics: Sequence[tuple[Topic, Sequence[tuple[int, int, int]]]],
    throttle_ms: int = 0,
) -> Buffer:
    """The whole answer; `topics`: (topic, [(partition, base offset, the leader's time or -1)])."""
    flexible = version >= _FLEXIBLE_FROM
    ending = _ending(version)
    out = bytearray(_ANSWER.size)
    if flexible:
        out.append(0)
    write_length(out, len(topics), flexible)
    for topic, partitions in topics:
        write_topic(out, topic, flexible)
        write_length(out, len(partitions), flexible)
        for index, base_offset, append_ms in partitions:
            if version >= _START_FROM:
                out += _OFFSETS_AND_START.pack(index, 0, base_offset, append_ms, -1)
            else:
                out += _OFFSETS.pack(index, 0, base_offset, append_ms)
            out += ending
        if flexible:
            out.append(0)
    out += _INT.pack(throttle_ms)
    if flexible:
        out.append(0)
    _ANSWER.pack_into(out, 0, len(out) - 4, correlation_id)
    return out


__all__ = ["FIRST_VERSION", "TOPIC_IDS_FROM", "Produce", "Topic", "read_produce", "write_written"]
