"""What a door knows of the cluster: nodes, topics, leaders, as the supervisor of its node told it last."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from raftlog.limits import KAFKA_CREATE_S
from raftlog.protocol.cluster import MetadataResponse, PartitionMetadata, TopicMetadata
from raftlog.types import INTERNAL_TOPICS, METADATA_TOPIC, Endpoint


class Broker(NamedTuple):
    """A node as Kafka's clients reach it."""

    node_id: int
    endpoint: Endpoint


class Cluster:
    """A value: the next news make another one."""

    def __init__(self, told: MetadataResponse) -> None:
        self.cluster_id = told.cluster_id
        self.controller_id = told.controller_id
        self.nodes = {node.node_id: node for node in told.nodes}
        self.brokers = [
            Broker(node.node_id, node.kafka) for node in told.nodes if node.alive and node.kafka is not None
        ]
        self.topics = {
            topic.name: topic for topic in told.topics if topic.name != METADATA_TOPIC and not topic.error_code
        }
        self.names = {topic.topic_id: topic.name for topic in self.topics.values()}
        self.unled: dict[tuple[str, int], float] = {}  # partitions that never had a leader, and until when one is due

    def follow(self, before: Cluster, now_s: float) -> None:
        """These are the news after `before`: what was made since may have no leader for a moment."""
        unled = dict(before.unled)
        if before is not NOTHING:
            due_s = now_s + KAFKA_CREATE_S
            for topic in self.topics.values():
                known = before.topic_of_id(topic.topic_id)
                made = topic.partitions[len(known.partitions) if known else 0 :]
                unled |= {(topic.name, each.partition): due_s for each in made}
        for place, due_s in unled.items():
            partition = self.partition(*place)
            if partition is not None and partition.leader_id < 0 and due_s > now_s:
                self.unled[place] = due_s

    def topic_of_id(self, topic_id: bytes) -> TopicMetadata | None:
        name = self.names.get(topic_id)
        return None if name is None else self.topics[name]

    def partition(self, topic: str, partition: int) -> PartitionMetadata | None:
        found = self.topics.get(topic)
        return found.partitions[partition] if found and 0 <= partition < len(found.partitions) else None

    def living(self, node_ids: Iterable[int]) -> list[int]:
        return [node_id for node_id in node_ids if (node := self.nodes.get(node_id)) and node.alive]

    @staticmethod
    def is_internal(topic: str) -> bool:
        return topic in INTERNAL_TOPICS


NOTHING = Cluster(MetadataResponse())
"""Before anything was told."""
