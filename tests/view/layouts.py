"""Clusters out of a seed, as metadata answers and gossip tell them."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from raftlog.controller.placement import witness_count
from raftlog.protocol.cluster import NodeMetadata, PartitionMetadata, TopicMetadata
from raftlog.types import Endpoint, Half, ReplicaStatus, TopicPartition
from raftlog.view.layout import Layout, Move


class Told(NamedTuple):
    """What a cluster says of itself."""

    nodes: list[NodeMetadata]
    topics: list[TopicMetadata]
    statuses: list[ReplicaStatus]

    def layout(self, without: Collection[int] = (), plans: Mapping[TopicPartition, Half] = {}) -> Layout:
        return Layout(self.nodes, self.topics, self.statuses, plans, without)

    def after(self, moves: Iterable[Move]) -> Told:
        """The same cluster once these are done."""
        by_place = {each.place: each for each in moves}
        topics = []
        for topic in self.topics:
            partitions = []
            for each in topic.partitions:
                move = by_place.get(TopicPartition(topic.name, each.partition))
                replicas, witnesses = (move.replicas, move.witnesses) if move else (each.replicas, each.witnesses)
                partitions.append(partition(each.partition, replicas, witnesses))
            topics.append(topic_of(topic.name, topic.topic_id, partitions))
        sizes = {(status.topic_id, status.partition): status.size_bytes for status in self.statuses}
        statuses = [
            status(topic, each, sizes.get((topic.topic_id, each.partition), 0))
            for topic in topics
            for each in topic.partitions
        ]
        return Told(self.nodes, topics, statuses)


def nodes(count: int, away: Collection[int] = ()) -> list[NodeMetadata]:
    return [
        NodeMetadata(node_id=each, endpoint=Endpoint("h", 7070 + each), alive=each not in away, voter=each <= 3)
        for each in range(1, count + 1)
    ]


def partition(number: int, replicas: Sequence[int], witnesses: Sequence[int] = ()) -> PartitionMetadata:
    return PartitionMetadata(
        partition=number,
        leader_id=replicas[0],
        leader_epoch=3,
        endpoint=None,
        replicas=list(replicas),
        in_sync=list(replicas),
        witnesses=list(witnesses),
    )


def topic_of(name: str, topic_id: bytes, partitions: list[PartitionMetadata]) -> TopicMetadata:
    return TopicMetadata(
        name=name,
        topic_id=topic_id,
        error_code=0,  # type: ignore[arg-type] # as it travels
        partitions=partitions,
        config={},
    )


def told(seed: int, *, size_max: int = 10**10, voting: bool = True) -> Told:
    """3 to 8 nodes, of which one may have joined lately; partitions anywhere, some with witnesses where `voting`."""
    rng = random.Random(seed)
    count = rng.randint(3, 8)
    old = list(range(1, count + 1 - rng.randint(0, 1 if count > 3 else 0)))
    topics, statuses = [], []
    for number in range(rng.randint(1, 6)):
        factor = rng.randint(1, min(3, len(old)))
        votes = rng.choice((0, witness_count(factor, len(old)))) if voting else 0
        partitions = []
        for index in range(rng.randint(1, 12)):
            members = rng.sample(old, factor + votes)
            partitions.append(partition(index, members[:factor], members[factor:]))
        topic = topic_of(f"t{number}", number.to_bytes(16, "big"), partitions)
        topics.append(topic)
        statuses += [status(topic, each, rng.randint(0, size_max)) for each in partitions]
    return Told(nodes(count), topics, statuses)


def status(topic: TopicMetadata, partition: PartitionMetadata, size_bytes: int) -> ReplicaStatus:
    return ReplicaStatus(
        topic=topic.name,
        topic_id=topic.topic_id,
        partition=partition.partition,
        node_id=partition.leader_id,
        size_bytes=size_bytes,
    )
