"""Which partitions were there when a consumer began with their topic. The others came later.

With auto_offset_reset="latest" a partition that was there begins at its end. One that came later begins at its first
record: every record of it is newer than the subscription, however late the consumer notices it.

What the metadata knew when the consumer subscribed counts, or its first answer about the topic after that. An answer of
a node that has not heard yet of a new partition makes records be read that could have been left out, never the other
way round. Where the group has begun with the topic before (`learn`), that counts instead.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from raftlog.client.core.metadata import MetadataCache
from raftlog.client.core.metadata_refresh import Refresher
from raftlog.types import TopicPartition


class Begun(NamedTuple):
    """How many partitions the topic of this id had; one made anew under its name had none."""

    topic_id: bytes
    partitions: int


_NOT_THERE = Begun(b"", 0)


class Beginnings:
    """What a consumer's topics had when it began with them. A caller holds the fetcher's lock."""

    def __init__(self, cache: MetadataCache, refresher: Refresher) -> None:
        self._cache = cache
        self._refresher = refresher
        self._begun: dict[str, Begun] = {}
        self._awaited: set[str] = set()  # chosen, and no answer has said yet whether they exist
        self._all_awaited = False
        self._all = False

    def choose(self, names: Collection[str]) -> None:
        """These topics are read, and no others; what is known of those that were read before stays."""
        self._all = self._all_awaited = False
        self._begun = {name: self._begun[name] for name in names if name in self._begun}
        self._awaited = set(names) - self._begun.keys()
        self.look()

    def choose_all(self) -> None:
        """Every topic may be read: those that come later as well."""
        self._awaited = set()
        self._all_awaited = True
        self.look()

    def look(self) -> None:
        """After each answer of the metadata."""
        for name in list(self._awaited):
            topic = self._cache.topics.get(name)
            if topic is not None:
                self._begin(name, Begun(topic.topic_id, len(topic.partitions)))
            elif name in self._cache.unknown_since_s:
                self._begin(name, _NOT_THERE)
        if self._all_awaited and self._refresher.all_answered:
            self._all_awaited, self._all = False, True
            for topic in self._cache.topics.values():
                self._begun.setdefault(topic.name, Begun(topic.topic_id, len(topic.partitions)))

    def _begin(self, name: str, begun: Begun) -> None:
        self._begun[name] = begun
        self._awaited.discard(name)

    def learn(self, name: str, topic_id: bytes, partitions: int) -> None:
        """The group began with the topic when it had so many partitions."""
        self._begin(name, Begun(topic_id, partitions))

    def awaits(self, name: str) -> bool:
        return self._all_awaited or name in self._awaited

    def came_later(self, place: TopicPartition, topic_id: bytes) -> bool:
        """False for a topic that was not chosen."""
        partitions = self.partitions(place.topic, topic_id)
        return 0 <= partitions <= place.partition

    def partitions(self, name: str, topic_id: bytes) -> int:
        """How many the topic had. -1: not known."""
        if self.awaits(name):
            return -1
        begun = self._begun.get(name)
        if begun is None:
            return 0 if self._all else -1
        return begun.partitions if begun.topic_id == topic_id else 0
