"""What a client knows of the cluster: topics, their leaders, the nodes. Data in, data out.

Nodes answer from soft state, so two nodes may disagree for a moment. The higher leader epoch wins; an
older one counts as old news until LEADER_EPOCH_MEMORY_S after the newer was heard of. A topic with
another id is another topic, which knows nothing of the old one's epochs.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from raftlog.errors import ErrorCode
from raftlog.limits import LEADER_EPOCH_MEMORY_S
from raftlog.protocol.messages import MetadataResponse, NodeMetadata, PartitionMetadata, TopicMetadata
from raftlog.types import Endpoint, TopicConfig


class Leader(NamedTuple):
    """Who takes the requests of one partition, as far as is known."""

    topic_id: bytes
    node_id: int
    epoch: int
    endpoint: Endpoint


class Topic:
    """One topic. `leaders` has an entry per partition, None while none is known."""

    __slots__ = ("leaders", "max_record_bytes", "name", "partitions", "topic_id")

    def __init__(self, name: str, topic_id: bytes, partitions: int, max_record_bytes: int) -> None:
        self.name = name
        self.topic_id = topic_id
        self.leaders: list[Leader | None] = [None] * partitions
        self.partitions = list(range(partitions))
        self.max_record_bytes = max_record_bytes


class MetadataCache:
    """`version` grows with every answer. `unknown_since_s` holds topics that the last answer did not know."""

    def __init__(self) -> None:
        self.version = 0
        self.cluster_id = ""
        self.nodes: list[NodeMetadata] = []
        self.controller: Endpoint | None = None
        self.topics: dict[str, Topic] = {}
        self.unknown_since_s: dict[str, float] = {}
        self._epochs: dict[tuple[bytes, int], tuple[int, float]] = {}  # the highest one and when it was heard

    def update(self, response: MetadataResponse, now_s: float, expected: Collection[str] = ()) -> None:
        """`expected`: topics that do not exist if the answer does not name them."""
        self.version += 1
        self.cluster_id = response.cluster_id
        self.nodes = response.nodes
        self.controller = response.controller
        for found in response.topics:
            if found.error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION:
                self._gone(found.name, now_s)
            elif found.error_code == ErrorCode.NONE:
                self._update_topic(found, now_s)

        for name in set(expected) - {found.name for found in response.topics}:
            self._gone(name, now_s)

    def _gone(self, name: str, now_s: float) -> None:
        self.topics.pop(name, None)
        self.unknown_since_s.setdefault(name, now_s)

    def _update_topic(self, found: TopicMetadata, now_s: float) -> None:
        self.unknown_since_s.pop(found.name, None)
        known = self.topics.get(found.name)
        limit = found.config.get("max_record_bytes", TopicConfig().max_record_bytes)
        same = known is not None and known.topic_id == found.topic_id
        # A topic's partitions only become more: a node that knows of fewer has not heard of all yet.
        count = max(len(found.partitions), len(known.leaders) if known is not None and same else 0)
        topic = Topic(found.name, found.topic_id, count, limit)
        for number in range(len(found.partitions), count):
            topic.leaders[number] = self.leader(found.name, number)
        for partition in found.partitions:
            if not 0 <= partition.partition < len(topic.leaders):
                continue
            leader = self._newest(found.topic_id, partition, now_s)
            if leader is None and same:
                leader = self.leader(found.name, partition.partition)
            topic.leaders[partition.partition] = leader
        self.topics[found.name] = topic

    def _newest(self, topic_id: bytes, found: PartitionMetadata, now_s: float) -> Leader | None:
        if found.endpoint is None or found.leader_id < 0:
            return None
        place = (topic_id, found.partition)
        epoch, heard_s = self._epochs.get(place, (-1, now_s))
        if found.leader_epoch < epoch and now_s - heard_s < LEADER_EPOCH_MEMORY_S:
            return None
        if found.leader_epoch != epoch:
            self._epochs[place] = (found.leader_epoch, now_s)
        return Leader(topic_id, found.leader_id, found.leader_epoch, Endpoint(*found.endpoint))

    def leader(self, topic: str, partition: int) -> Leader | None:
        known = self.topics.get(topic)
        if known is None or partition >= len(known.leaders):
            return None
        return known.leaders[partition]

    def refused(self, topic: str, partition: int, leader: Leader, newer_epoch: int, now_s: float) -> None:
        """`leader` said that it is not, or went away: it is not asked again before it is named again.

        `newer_epoch` is the hint of its answer (-1: none): until then older ones are old news.
        """
        place = (leader.topic_id, partition)
        if newer_epoch > self._epochs.get(place, (-1, 0.0))[0]:
            self._epochs[place] = (newer_epoch, now_s)
        known = self.topics.get(topic)
        if known is not None and partition < len(known.leaders) and known.leaders[partition] == leader:
            known.leaders[partition] = None
