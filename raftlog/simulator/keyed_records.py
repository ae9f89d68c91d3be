"""Records of a compacted topic: which key a value has, and what may be missing of them.

Every value of a run names itself (client, number of the request, number of the record), and its key follows from that
name, so whoever finds a value, or misses one, knows its key. A few keys are deleted now and then: a tombstone has no
value, so a header names it.
"""

from __future__ import annotations

import random
import re
import zlib
from typing import Any, NamedTuple

from raftlog.record.batch import Headers, Record
from raftlog.types import CleanupPolicy

_KEYS = 20
_DELETED_KEYS = 5  # those below it have tombstones; of the others a value always stays
_SELDOM = 12  # keys instead of each of those
_NAME = re.compile(rb"[^:]*:\d+:\d+:")
VALUE_BYTES = 64  # of each record that are kept to compare


class Keyed(NamedTuple):
    key: bytes | None
    value: bytes | None
    headers: Headers


class Held(NamedTuple):
    """What stands at an offset; `name` is the beginning of its value, or that of a tombstone."""

    name: bytes
    tombstone: bool


def _digest(name: bytes) -> int:
    found = _NAME.match(name)
    assert found is not None, name
    return zlib.crc32(found[0])


def key_of(name: bytes) -> bytes:
    """The key of a value that begins with its name. One that may be deleted is written seldom, so that it stays so."""
    number, rest = _digest(name) % _KEYS, _digest(name) // _KEYS
    return b"key-%d-%d" % (number, rest % _SELDOM if number < _DELETED_KEYS else 0)


def may_be_deleted(name: bytes) -> bool:
    return _digest(name) % _KEYS < _DELETED_KEYS


def keyed(value: bytes) -> Keyed:
    """The record that carries `value`, or the deletion of its key."""
    if may_be_deleted(value) and zlib.crc32(value[:VALUE_BYTES][::-1]) % 3 == 0:
        return Keyed(key_of(value), None, [("name", value[:VALUE_BYTES])])
    return Keyed(key_of(value), value, [])


def settings_of(seed: int) -> dict[str, Any]:
    """What a compacted topic is configured with, whatever else changes."""
    rng = random.Random(seed ^ 0xC1EA)
    both = CleanupPolicy.COMPACT | CleanupPolicy.DELETE
    policy = rng.choice((CleanupPolicy.COMPACT, CleanupPolicy.COMPACT, both))
    return {"cleanup_policy": policy, "delete_retention_ms": rng.choice((0, 1000, 5000))}


def held(record: Record) -> Held:
    if record.value is None and record.headers:
        return Held(record.headers[0][1] or b"", True)
    return Held((record.value or b"")[:VALUE_BYTES], False)


def last_values(content: dict[int, Held]) -> dict[bytes, bytes]:
    """By key, what a reader from the beginning ends with; nothing for a key that is deleted."""
    last: dict[bytes, bytes] = {}
    for _, (name, tombstone) in sorted(content.items()):
        last[key_of(name)] = b"" if tombstone else name
    return {key: name for key, name in last.items() if name}


def newest_offsets(content: dict[int, Held]) -> dict[bytes, int]:
    return {key_of(name): offset for offset, (name, _) in sorted(content.items())}


def may_be_gone(name: bytes, offset: int, newest: dict[bytes, int]) -> bool:
    """A newer record of its key stands, or its key was deleted and nothing is left of it."""
    known = newest.get(key_of(name))
    return may_be_deleted(name) if known is None else known > offset
