"""The records that clients write and read: odd ones, since plain ones prove little."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterable
from typing import Any

Sample = dict[str, Any]

PARTITIONS = 3
_TEXT = b"a line that compresses well, " * 40
# (key, value, headers): every combination of null, empty and binary that the format has.
_CONTENTS: tuple[tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]]], ...] = (
    (b"text", _TEXT, []),
    (None, bytes(range(256)) * 4, [("trace", b"1")]),
    (b"", b"", [("null", None)]),
    (b"removed", None, [("empty", b"")]),
    (bytes(range(256)), _TEXT, [("twice", b"1"), ("twice", b"2")]),
    (None, _TEXT, [("größe", "größer".encode()), ("bytes", bytes(range(256)))]),
    ("ключ".encode(), "значение".encode() * 100, [("trace", b"2"), ("null", None), ("last", b"3")]),
    (b"key", b"\n" * 300, []),
    (b"key", b"\x00", [("null", None), ("null", None)]),
    (b"key", _TEXT * 3, [("trace", b"")]),
    (b"large", _TEXT * 50, [("trace", b"4")]),
    (None, b"last of all " * 90, []),
)
# Milliseconds, by the place within the partition. Not in order, so that the first at a time is not the next older one.
_MILLISECONDS = (0, 3_000, 1_000, 2_000)
TIME_ASKED = 1_500  # the first that is not older is at offset 1, which is also the newest
AT_TIME_ASKED = 1
# What a client cannot write, by the name that its program gives it.
WITHOUT_TIMES = "timestamps"
WITHOUT_NULL_HEADERS = "null-headers"
WITHOUT_BINARY = "binary"
WITHOUT_PARTITIONS = "partitions"  # it cannot say where a record goes, so that its topics have one
# Its headers come as `name=value,name=value`.
HEADERS_AS_TEXT = "headers-as-text"
# It hands out what is empty as it hands out null.
EMPTY_AS_NULL = "empty"


def samples(*, partitions: int = PARTITIONS, lacks: Iterable[str] = ()) -> list[Sample]:
    """In the order in which they are written; `offset` counts within the partition."""
    start_ms = int(time.time()) * 1000 - 3_600_000
    missing = set(lacks)
    counts = [0] * partitions
    found = []
    for place, (key, value, headers) in enumerate(_CONTENTS):
        partition = place % partitions
        offset = counts[partition]
        counts[partition] += 1
        if WITHOUT_NULL_HEADERS in missing:
            headers = [(name, content or b"") for name, content in headers]
        if WITHOUT_BINARY in missing:
            key, value = _as_text(key), _as_text(value)
            headers = [(_as_name(name), _as_text(content)) for name, content in headers]
        found.append(
            {
                "partition": partition,
                "offset": offset,
                "key": packed(key),
                "value": packed(value),
                "headers": [(name, packed(content)) for name, content in headers],
                "timestamp": start_ms + _MILLISECONDS[offset % len(_MILLISECONDS)],
            }
        )
    return found


def packed(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode()


def differences(expected: Iterable[Sample], found: Iterable[Sample], *, lacks: Iterable[str] = ()) -> str | None:
    """The first difference in words, None where there is none. Compared partition by partition, in the order read."""
    missing = set(lacks)
    if EMPTY_AS_NULL in missing:
        expected = [_empty_as_null(each) for each in expected]
    if HEADERS_AS_TEXT in missing:
        expected, found = map(_with_headers_as_text, (expected, found))
    left, right = _by_partition(expected), _by_partition(found)
    ignored = {"timestamp"} if WITHOUT_TIMES in missing else set()
    for partition in sorted(left.keys() | right.keys()):
        wanted, had = left.get(partition, []), right.get(partition, [])
        for one, other in zip(wanted, had, strict=False):
            for field in ("offset", "key", "value", "headers", "timestamp"):
                if field not in ignored and _plain(one[field]) != _plain(other[field]):
                    where = f"partition {partition}, offset {one['offset']}: {field}"
                    return f"{where} is {str(other[field])[:60]}, not {str(one[field])[:60]}"
        if len(wanted) != len(had):
            return f"partition {partition}: {len(had)} records, not {len(wanted)}"
    return None


def _plain(value: Any) -> Any:
    return [tuple(pair) for pair in value] if isinstance(value, list) else value


def _by_partition(records: Iterable[Sample]) -> dict[int, list[Sample]]:
    found: dict[int, list[Sample]] = {}
    for each in records:
        found.setdefault(each["partition"], []).append(each)
    return found


def _empty_as_null(each: Sample) -> Sample:
    headers = [[name, text or None] for name, text in each["headers"]]
    return each | {"key": each["key"] or None, "value": each["value"] or None, "headers": headers}


def _with_headers_as_text(records: Iterable[Sample]) -> list[Sample]:
    return [each | {"headers": _headers_as_text(each["headers"])} for each in records]


def _headers_as_text(headers: list[tuple[str, str | None]]) -> list[tuple[str, str | None]]:
    """As kcat prints them: a value ends with its first zero. What has no name is such a text already."""
    if not headers or not headers[0][0]:
        return headers
    values = [b"NULL" if text is None else base64.b64decode(text).partition(b"\0")[0] for _, text in headers]
    pairs = [name.encode() + b"=" + value for (name, _), value in zip(headers, values, strict=True)]
    return [("", packed(b",".join(pairs)))]


def _as_text(data: bytes | None) -> bytes | None:
    return data and bytes(0x61 + byte % 26 for byte in data)


def _as_name(name: str) -> str:
    return name if name.isascii() else "size"
