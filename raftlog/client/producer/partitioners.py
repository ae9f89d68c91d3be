"""Which partition a record goes to. Pure; one instance serves one topic of one producer.

sticky       stays with one partition until a batch for it is begun anew, then moves on (KIP-480)
round-robin  one after the other, even to one
murmur2      bit-exact with Kafka's Java client; sticky for records without a key (the default)
crc32        zlib.crc32(key) % partitions; sticky for records without a key
callable     (key, partitions) -> one of `partitions`
"""

from __future__ import annotations

import itertools
import random
import struct
import zlib
from collections.abc import Callable
from functools import lru_cache
from typing import Protocol

PartitionFunction = Callable[[bytes | None, list[int]], int]

_SEED = 0x9747B28C
_M = 0x5BD1E995
_MASK = 0xFFFFFFFF
_KEYS_REMEMBERED = 8192
_KEY_REMEMBERED_BYTES = 64


class Partitioner(Protocol):
    """What chooses a record's partition.

    `sticks`: a record without a key goes where the last one went, as long as no batch is begun.
    """

    sticks: bool

    def choose(self, key: bytes | None, partitions: list[int]) -> int:
        """One of `partitions`, which is never empty and ascends."""
        ...

    def batch_begun(self) -> None:
        """Told when a record without a place in an open batch is about to begin another."""
        ...


def murmur2(data: bytes) -> int:
    """Kafka's hash, 32 bits unsigned. Source: org.apache.kafka.common.utils.Utils.murmur2."""
    length = len(data)
    h = _SEED ^ length
    words = length >> 2
    for k in struct.unpack_from(f"<{words}I", data):
        k = (k * _M) & _MASK
        h = ((h * _M) ^ ((k ^ (k >> 24)) * _M)) & _MASK
    tail = data[words << 2 :]
    if tail:
        h = ((h ^ int.from_bytes(tail, "little")) * _M) & _MASK
    h = ((h ^ (h >> 13)) * _M) & _MASK
    return h ^ (h >> 15)


class Sticky:
    """All records go to one partition until another batch is begun, which draws anew."""

    sticks = True

    def __init__(self, rng: random.Random | None = None) -> None:
        self._rng = rng or random.Random()
        self._current: int | None = None

    def choose(self, key: bytes | None, partitions: list[int]) -> int:
        current = self._current
        if current is None or current not in partitions:
            current = self._current = self._rng.choice(partitions)
        return current

    def batch_begun(self) -> None:
        self._current = None


class RoundRobin:
    """Each record goes to the next partition."""

    sticks = False

    def __init__(self) -> None:
        self._count = itertools.count()  # even to one also when several threads send

    def choose(self, key: bytes | None, partitions: list[int]) -> int:
        return partitions[next(self._count) % len(partitions)]

    def batch_begun(self) -> None:
        pass


class Hashed:
    """By a hash of the key; a record without one goes where the sticky partitioner says."""

    sticks = True

    def __init__(self, hash_of: Callable[[bytes], int], rng: random.Random | None = None) -> None:
        # Keys come again and again, and a hash in Python costs as much as all else that a send does.
        self._hash_of = hash_of
        self._hash_of_short = lru_cache(_KEYS_REMEMBERED)(hash_of)
        self._sticky = Sticky(rng)

    def choose(self, key: bytes | None, partitions: list[int]) -> int:
        if key is None:
            return self._sticky.choose(None, partitions)
        hash_of = self._hash_of_short if len(key) <= _KEY_REMEMBERED_BYTES else self._hash_of
        return partitions[hash_of(key) % len(partitions)]

    def batch_begun(self) -> None:
        self._sticky.batch_begun()


class Custom:
    """A function of the user's. Raises ValueError when it names a partition that is not offered."""

    sticks = False

    def __init__(self, function: PartitionFunction) -> None:
        self._function = function

    def choose(self, key: bytes | None, partitions: list[int]) -> int:
        chosen = self._function(key, partitions)
        if chosen not in partitions:
            raise ValueError(f"the partitioner chose {chosen!r}, which is not one of {partitions}")
        return chosen

    def batch_begun(self) -> None:
        pass


def _positive_murmur2(key: bytes) -> int:
    return murmur2(key) & 0x7FFFFFFF


_NAMED: dict[str, Callable[[], Partitioner]] = {
    "sticky": Sticky,
    "round-robin": RoundRobin,
    "murmur2": lambda: Hashed(_positive_murmur2),
    "crc32": lambda: Hashed(zlib.crc32),
}
PARTITIONERS = tuple(_NAMED)


def partitioner_named(choice: str | PartitionFunction) -> Partitioner:
    """A fresh one. Raises ValueError for a name that is not in PARTITIONERS."""
    if callable(choice):
        return Custom(choice)
    if choice not in _NAMED:
        raise ValueError(f"unknown partitioner {choice!r}; known are {', '.join(PARTITIONERS)}")
    return _NAMED[choice]()
