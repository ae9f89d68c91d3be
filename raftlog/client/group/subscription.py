"""Which topics a member of a group reads, and how many partitions they have. From the metadata, without its flutter.

Nodes answer from soft state, so that one may not have heard yet of what another has told already. A rebalance for
each of these moments would disturb the whole group: partitions never become fewer, and a topic is gone once no node has
known it for a while.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from raftlog.client import arguments
from raftlog.client.core.metadata import MetadataCache
from raftlog.client.core.metadata_refresh import Refresher
from raftlog.client.fetcher.beginnings import Beginnings
from raftlog.limits import TOPIC_UNKNOWN_S
from raftlog.types import INTERNAL_TOPICS


class TopicSubscription:
    """By names, or by a pattern that a whole name has to match; internal topics match none."""

    def __init__(self, cache: MetadataCache, refresher: Refresher, beginnings: Beginnings) -> None:
        self._cache = cache
        self._beginnings = beginnings
        self._refresher = refresher
        self._names: tuple[str, ...] = ()
        self._pattern: re.Pattern[str] | None = None
        self._partitions: dict[str, tuple[bytes, int]] = {}

    def choose(self, names: Iterable[str], pattern: str | None) -> None:
        """Raises ValueError and TypeError for a pattern that is none."""
        try:
            self._pattern = None if pattern is None else re.compile(arguments.text(pattern))
        except re.error as error:
            raise ValueError(f"{pattern!r} is not a pattern: {error}") from error
        self._names = tuple(names)
        if pattern is not None:
            self._refresher.want_all()
            self._beginnings.choose_all()
        else:
            self._beginnings.choose(self._names)
        for name in self._names:
            self._refresher.want_topic(name)

    def topics(self, now_s: float) -> tuple[str, ...] | None:
        """None: not known yet."""
        if self._pattern is None:
            return self._names
        if not self._refresher.all_answered:
            return None
        found = {*self._cache.topics, *self._partitions} - INTERNAL_TOPICS
        return tuple(name for name in sorted(found) if self._pattern.fullmatch(name) and self._count(name, now_s))

    def counts(self, topics: Collection[str], now_s: float) -> dict[str, int] | None:
        """0 for a topic that does not exist. None while one of them is not known."""
        found = {topic: self._count(topic, now_s) for topic in topics}
        known = {topic: count for topic, count in found.items() if count is not None}
        return known if len(known) == len(found) else None

    def _count(self, name: str, now_s: float) -> int | None:
        before = self._partitions.get(name)
        known = self._cache.topics.get(name)
        if known is not None:
            count = len(known.partitions)
            if before is not None and before[0] == known.topic_id:
                count = max(count, before[1])
            self._partitions[name] = (known.topic_id, count)
            return count
        self._refresher.want_topic(name)
        since_s = self._cache.unknown_since_s.get(name)
        if since_s is not None:
            if now_s - since_s >= TOPIC_UNKNOWN_S:
                self._partitions.pop(name, None)
                return 0
            self._refresher.want()
        return None if before is None else before[1]
