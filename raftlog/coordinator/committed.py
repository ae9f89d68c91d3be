"""What the committed records add up to: the newest value of each key. Kept by every replica, leader or not.

A log is folded in again at each start, millions of records long, so values are decoded when somebody asks for them and
keys when they are new.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, KeysView

from raftlog.coordinator.records import (
    RECORD_VERSION,
    GroupValue,
    OffsetKey,
    OffsetValue,
    decode_group,
    decode_key,
    decode_offset,
    encode,
)
from raftlog.errors import CorruptLogError


class Committed:
    def __init__(self) -> None:
        self._values: dict[bytes, bytes] = {}
        self._groups: dict[str, bytes] = {}  # group id to the key of its members
        self._offsets: dict[str, dict[bytes, OffsetKey]] = {}  # group id to the keys of its offsets

    def clear(self) -> None:
        """The log begins anew: a follower was given another one."""
        self._values.clear()
        self._groups.clear()
        self._offsets.clear()

    def apply(self, key: bytes, value: bytes | None) -> None:
        """Raises CorruptLogError for a record of a later version."""
        if value is None:
            self._forget(key)
            return
        if len(value) < 2 or value[1] > RECORD_VERSION:  # decoded later or never: an array with a small number first
            raise CorruptLogError(f"a record of the consumer groups of a version that is not known here: {value!r}")
        if key not in self._values:
            known = decode_key(key)
            if isinstance(known, OffsetKey):
                self._offsets.setdefault(known.group_id, {})[key] = known
            else:
                self._groups[known.group_id] = key
        self._values[key] = value

    def _forget(self, key: bytes) -> None:
        if self._values.pop(key, None) is None:
            return
        known = decode_key(key)
        if isinstance(known, OffsetKey):
            keys = self._offsets[known.group_id]
            del keys[key]
            if not keys:
                del self._offsets[known.group_id]
        else:
            del self._groups[known.group_id]

    @property
    def facts(self) -> int:
        """How many keys have a value."""
        return len(self._values)

    def has_group(self, group_id: str) -> bool:
        return group_id in self._groups

    def groups(self) -> Iterator[tuple[str, GroupValue]]:
        for group_id, key in self._groups.items():
            yield group_id, decode_group(self._values[key])

    def groups_with_offsets(self) -> KeysView[str]:
        return self._offsets.keys()

    def version(self, group_id: str) -> bytes:
        """Another one after any change of what is committed of the group; b"" where nothing is."""
        keys = sorted(self._offsets.get(group_id, ()))
        if group_id in self._groups:
            keys.append(self._groups[group_id])
        facts = [(key, self._values[key]) for key in keys]
        return hashlib.blake2b(encode(facts), digest_size=16).digest() if facts else b""

    def offset_keys(self, group_id: str) -> dict[bytes, OffsetKey]:
        """Of all that the group has committed."""
        return self._offsets.get(group_id, {})

    def offset(self, key: bytes) -> OffsetValue | None:
        value = self._values.get(key)
        return None if value is None else decode_offset(value)
