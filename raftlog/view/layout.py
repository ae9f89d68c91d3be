"""Who holds which partition, and how much each node holds: what moves are decided on. Pure.

layout = Layout(cluster.nodes, topics, statuses)    as it is
layout.assign(place, replicas)                      as it shall be; witnesses follow
layout.moves()                                      what has to be done
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from raftlog.controller.placement import survives, witness_count
from raftlog.protocol.cluster import NodeMetadata, PartitionMetadata, TopicMetadata
from raftlog.types import INTERNAL_TOPICS, METADATA_TOPIC, Half, ReplicaStatus, TopicPartition


class Move(msgspec.Struct, frozen=True, kw_only=True):
    """Other nodes for one partition. `copied_bytes`: what its new replicas have to copy, all together."""

    topic: str
    partition: int
    replicas: list[int]
    witnesses: list[int]
    old_replicas: list[int]
    old_witnesses: list[int]
    copied_bytes: int

    @property
    def place(self) -> TopicPartition:
        return TopicPartition(self.topic, self.partition)

    @property
    def survives_less(self) -> bool:
        """Fewer nodes may fail afterwards than before, all of them being in sync."""
        before = survives(len(self.old_replicas), len(self.old_witnesses))
        return survives(len(self.replicas), len(self.witnesses)) < before


class Held(NamedTuple):
    """A partition as it is. `leader_id` -1: there is none."""

    half: Half
    leader_id: int
    in_sync: tuple[int, ...]
    size_bytes: int


class Layout:
    """All partitions and their nodes; begins as they are, and is changed to what shall be.

    `candidates`: the living nodes, which may be given something. Counts are of those that any partition names.
    """

    def __init__(
        self,
        nodes: Iterable[NodeMetadata],
        topics: Iterable[TopicMetadata],
        statuses: Iterable[ReplicaStatus],
        plans: Mapping[TopicPartition, Half] = {},
        without: Collection[int] = (),
    ) -> None:
        """`plans`: what is on its way counts as done. `without`: nodes that shall hold nothing in the end."""
        known = list(nodes)
        self.nodes = sorted(node.node_id for node in known)
        self.without = frozenset(without)
        self.candidates = sorted(node.node_id for node in known if node.alive and node.node_id not in self.without)
        self.plans = plans
        self.held: dict[TopicPartition, Held] = {}
        self.halves: dict[TopicPartition, Half] = {}
        self.replicas: Counter[int] = Counter()
        self.witnesses: Counter[int] = Counter()
        self.leads: Counter[int] = Counter()  # as the preferred leader
        self.size_bytes: Counter[int] = Counter()
        self.of_topic: Counter[tuple[str, int]] = Counter()  # replicas of (topic, node)
        said = _by_partition(statuses)
        for topic in topics:
            if topic.name == METADATA_TOPIC:
                continue
            for each in topic.partitions:
                place = TopicPartition(topic.name, each.partition)
                self.held[place] = _held(each, said[topic.topic_id, each.partition])
                self.halves[place] = self.planned(place)
                self._count(place, 1)

    def planned(self, place: TopicPartition) -> Half:
        """What it has, or is about to have."""
        return self.plans.get(place, self.held[place].half)

    def of_node(self, node_id: int) -> list[TopicPartition]:
        """The partitions that name it, the largest first."""
        found = [place for place, half in self.halves.items() if node_id in half.ids]
        return sorted(found, key=lambda place: (-self.held[place].size_bytes, place))

    def assign(self, place: TopicPartition, replicas: Sequence[int], witnesses: Sequence[int] | None = None) -> None:
        """`witnesses` None: those that the partition has, as far as they still can be, and as many as it gets."""
        self._count(place, -1)
        if witnesses is None:
            witnesses = self._witnesses(place, replicas)
        self.halves[place] = Half(tuple(replicas), tuple(witnesses))
        self._count(place, 1)

    def least_loaded(self, place: TopicPartition, replicas: Collection[int]) -> int | None:
        """The best node for one more replica beside these; None: there is none."""
        free = [node_id for node_id in self.candidates if node_id not in replicas]
        return min(free, key=lambda node_id: self._load(place, node_id), default=None)

    def stays_its_kind(self, place: TopicPartition, node_id: int, *, replica: bool) -> bool:
        """The node is not the other kind of its voters, and is not to be: it would have to leave first, in a step."""
        halves = (self.held[place].half, self.planned(place))
        return all(node_id not in (half.witnesses if replica else half.replicas) for half in halves)

    def moves(self) -> list[Move]:
        """In the order of topics and partitions."""
        changed = [place for place in sorted(self.halves) if self.halves[place] != self.planned(place)]
        return [self._move(place, self.halves[place]) for place in changed]

    def under_way(self) -> list[Move]:
        """What plans do already."""
        return [self._move(place, self.planned(place)) for place in sorted(self.plans) if place in self.held]

    def lacks_witnesses(self, place: TopicPartition) -> bool:
        """More nodes could vote for it: they came after it was made."""
        half = self.halves[place]
        return len(half.witnesses) < self._witness_count(place, half.replicas)

    def _load(self, place: TopicPartition, node_id: int) -> tuple[bool, int, int, int, int]:
        return (
            not self.stays_its_kind(place, node_id, replica=True),
            self.replicas[node_id],
            self.of_topic[place.topic, node_id],
            self.size_bytes[node_id],
            node_id,
        )

    def _witness_count(self, place: TopicPartition, replicas: Sequence[int]) -> int:
        if place.topic in INTERNAL_TOPICS:
            return 0
        kept = {node_id for node_id in self.halves[place].ids if node_id not in self.without}
        return witness_count(len(replicas), len(kept | set(replicas) | set(self.candidates)))

    def _witnesses(self, place: TopicPartition, replicas: Sequence[int]) -> list[int]:
        old = self.halves[place].witnesses
        kept = [node_id for node_id in old if node_id not in replicas and node_id not in self.without]
        free = [node_id for node_id in self.candidates if node_id not in replicas and node_id not in kept]
        free.sort(key=lambda node_id: self._vote_load(place, node_id))
        return (kept + free)[: self._witness_count(place, replicas)]

    def _vote_load(self, place: TopicPartition, node_id: int) -> tuple[bool, int, int, int]:
        other_kind = not self.stays_its_kind(place, node_id, replica=False)
        return other_kind, self.witnesses[node_id], self.replicas[node_id], node_id

    def _move(self, place: TopicPartition, new: Half) -> Move:
        old = self.held[place].half
        return Move(
            topic=place.topic,
            partition=place.partition,
            replicas=list(new.replicas),
            witnesses=list(new.witnesses),
            old_replicas=list(old.replicas),
            old_witnesses=list(old.witnesses),
            copied_bytes=len(set(new.replicas) - set(old.replicas)) * self.held[place].size_bytes,
        )

    def _count(self, place: TopicPartition, times: int) -> None:
        half, size_bytes = self.halves[place], self.held[place].size_bytes
        self.leads[half.replicas[0]] += times
        for node_id in half.replicas:
            self.replicas[node_id] += times
            self.of_topic[place.topic, node_id] += times
            self.size_bytes[node_id] += times * size_bytes
        for node_id in half.witnesses:
            self.witnesses[node_id] += times


def _by_partition(statuses: Iterable[ReplicaStatus]) -> dict[tuple[bytes, int], list[ReplicaStatus]]:
    found = defaultdict(list)
    for status in statuses:
        found[status.topic_id, status.partition].append(status)
    return found


def _held(partition: PartitionMetadata, statuses: Sequence[ReplicaStatus]) -> Held:
    leading = [status for status in statuses if status.node_id == partition.leader_id]
    return Held(
        half=Half(tuple(partition.replicas), tuple(partition.witnesses)),
        leader_id=partition.leader_id,
        in_sync=tuple(partition.in_sync),
        size_bytes=max((status.size_bytes for status in leading or statuses), default=0),
    )
