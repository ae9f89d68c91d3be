"""What the members of a group tell each other through the coordinator: Kafka's ConsumerProtocol, byte for byte.

Subscription, version 2 (KIP-429, KIP-792), big-endian:

    int16   version
    int32   number of topics, then each: int16 length, UTF-8
    int32   length of the user data, -1: none; then its bytes
    int32   number of topics with owned partitions, then each: name as above, int32 count, int32 per partition
    int32   generation in which they were assigned, -1: none

Assignment, version 0 and above:

    int16   version
    int32   number of topics, then each: name, int32 count, int32 per partition
    int32   length of the user data, -1: none; then its bytes

What a later version adds stands behind what is read here, and is passed over. A version 0 subscription owns nothing.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import NamedTuple

from raftlog.errors import InvalidRequestError
from raftlog.types import TopicPartition

PROTOCOL_TYPE = "consumer"
_INT16 = struct.Struct(">h")
_INT32 = struct.Struct(">i")


class Subscription(NamedTuple):
    """What a member says when it joins.

    `owned`: what it still reads; of a generation that others have left behind it counts for nothing.
    """

    topics: tuple[str, ...]
    owned: tuple[TopicPartition, ...] = ()
    generation: int = -1


def encode_subscription(subscription: Subscription) -> bytes:
    parts = [_INT16.pack(2), _INT32.pack(len(subscription.topics))]
    parts += [_string(topic) for topic in subscription.topics]
    parts += [_INT32.pack(-1), _partitions(subscription.owned), _INT32.pack(subscription.generation)]
    return b"".join(parts)


def decode_subscription(data: bytes) -> Subscription:
    """Raises InvalidRequestError."""
    reader = _Reader(data)
    version = reader.int16()
    topics = tuple(reader.string() for _ in range(reader.count()))
    reader.skip_bytes()
    owned = tuple(reader.partitions()) if version >= 1 else ()
    return Subscription(topics, owned, reader.int32() if version >= 2 else -1)


def encode_assignment(partitions: Iterable[TopicPartition]) -> bytes:
    return _INT16.pack(1) + _partitions(partitions) + _INT32.pack(-1)


def decode_assignment(data: bytes) -> list[TopicPartition]:
    """No bytes at all: nothing, as the coordinator answers whom the leader left out. Raises InvalidRequestError."""
    if not data:
        return []
    reader = _Reader(data)
    reader.int16()
    return reader.partitions()


def _string(text: str) -> bytes:
    encoded = text.encode()
    return _INT16.pack(len(encoded)) + encoded


def _partitions(partitions: Iterable[TopicPartition]) -> bytes:
    by_topic: dict[str, list[int]] = {}
    for topic, number in partitions:
        by_topic.setdefault(topic, []).append(number)
    parts = [_INT32.pack(len(by_topic))]
    for topic, numbers in by_topic.items():
        parts += [_string(topic), struct.pack(f">i{len(numbers)}i", len(numbers), *numbers)]
    return b"".join(parts)


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def _take(self, length: int) -> bytes:
        end = self._position + length
        if length < 0 or end > len(self._data):
            raise InvalidRequestError("a subscription or assignment ends early")
        taken = self._data[self._position : end]
        self._position = end
        return taken

    def int16(self) -> int:
        number: int = _INT16.unpack(self._take(2))[0]
        return number

    def int32(self) -> int:
        number: int = _INT32.unpack(self._take(4))[0]
        return number

    def count(self) -> int:
        count = self.int32()
        if not 0 <= count <= len(self._data):
            raise InvalidRequestError(f"a subscription or assignment of {len(self._data)} bytes lists {count} things")
        return count

    def string(self) -> str:
        try:
            return self._take(self.int16()).decode()
        except UnicodeDecodeError as error:
            raise InvalidRequestError("a topic name is not UTF-8") from error

    def skip_bytes(self) -> None:
        length = self.int32()
        self._take(max(0, length))

    def partitions(self) -> list[TopicPartition]:
        found = []
        for _ in range(self.count()):
            topic = self.string()
            found += [TopicPartition(topic, self.int32()) for _ in range(self.count())]
        return found
