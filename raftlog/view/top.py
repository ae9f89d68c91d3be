"""What goes on right now: who writes how much where, and who is behind. Two looks at the cluster make rates. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from raftlog.protocol.cluster import MetadataResponse, TopicMetadata
from raftlog.protocol.report import ThrottledClient
from raftlog.types import ReplicaStatus, TopicPartition
from raftlog.view.groups import GroupView
from raftlog.view.partitions import NodeView, PartitionView, TopicView, view_nodes, view_topic


class Look(NamedTuple):
    """What was found at one time of a monotonic clock."""

    at_s: float
    cluster: MetadataResponse
    topics: Sequence[TopicMetadata]
    replicas: Sequence[ReplicaStatus]
    groups: Sequence[GroupView] = ()
    throttled: Mapping[int, Sequence[ThrottledClient]] = {}  # by node


class BusyPartition(msgspec.Struct, frozen=True, kw_only=True):
    """How busy a partition is. `records_per_s`, `bytes_per_s`: written since the look before; None: there was none."""

    partition: str
    leader: int | None
    in_sync: int
    replicas: int
    records_per_s: float | None
    bytes_per_s: float | None
    high_watermark: int
    size_bytes: int
    problems: list[str]


class BehindGroup(msgspec.Struct, frozen=True, kw_only=True):
    """How far a group is behind. `read_per_s`: committed since the look before. `lag`: of all of its partitions."""

    group: str
    state: str
    members: int
    lag: int
    read_per_s: float | None


class HeldClient(msgspec.Struct, frozen=True, kw_only=True):
    """At all nodes together, since these began: how often quotas held it back, and how long in all.

    `held_per_s`: for so many seconds of each since the look before; None: there was none. More than 1: at several
    nodes or doors.
    """

    door: str
    user: str
    client: str
    times: int
    seconds: float
    held_per_s: float | None


class Top(msgspec.Struct, frozen=True, kw_only=True):
    """The busiest and the furthest behind come first, and what has a problem before all."""

    cluster_id: str
    controller: int | None
    confirmed: bool
    nodes: list[NodeView]
    partitions: list[BusyPartition]
    groups: list[BehindGroup]
    throttled: list[HeldClient]


def top(before: Look | None, now: Look) -> Top:
    seconds = now.at_s - before.at_s if before else 0.0
    was = _partitions(before) if before else {}
    partitions = []
    for place, (view, part) in _partitions(now).items():
        known = was.get(place)
        same = known is not None and known[0].topic_id == view.topic_id
        moved = known[1] if known is not None and same and seconds > 0 else None
        partitions.append(
            BusyPartition(
                partition=str(place),
                leader=part.leader,
                in_sync=len(part.isr),
                replicas=len(part.replicas),
                records_per_s=None if moved is None else _rate(moved.high_watermark, part.high_watermark, seconds),
                bytes_per_s=None if moved is None else _rate(moved.size_bytes, part.size_bytes, seconds),
                high_watermark=part.high_watermark,
                size_bytes=part.size_bytes,
                problems=part.problems,
            )
        )
    partitions.sort(key=lambda each: (not each.problems, -(each.records_per_s or 0.0)))  # else in their order
    found = now.cluster
    return Top(
        cluster_id=found.cluster_id,
        controller=found.controller_id if found.controller_id >= 0 else None,
        confirmed=found.confirmed,
        nodes=view_nodes(found.nodes, now.topics, now.replicas),
        partitions=partitions,
        groups=_groups(before, now, seconds),
        throttled=_throttled(before, now, seconds),
    )


def _partitions(look: Look) -> dict[TopicPartition, tuple[TopicView, PartitionView]]:
    views = [view_topic(topic, look.replicas) for topic in sorted(look.topics, key=lambda topic: topic.name)]
    return {TopicPartition(view.topic, part.partition): (view, part) for view in views for part in view.partitions}


def _groups(before: Look | None, now: Look, seconds: float) -> list[BehindGroup]:
    was = {view.group: _committed(view) for view in (before.groups if before else ())}
    groups = []
    for view in now.groups:
        read = None
        if view.group in was and seconds > 0:
            known = was[view.group]
            read = (
                sum(max(0, offset - known.get(place, offset)) for place, offset in _committed(view).items()) / seconds
            )
        groups.append(
            BehindGroup(group=view.group, state=view.state, members=len(view.members), lag=view.lag, read_per_s=read)
        )
    return sorted(groups, key=lambda each: -each.lag)


def _throttled(before: Look | None, now: Look, seconds: float) -> list[HeldClient]:
    """Who is held back now comes first."""
    was = {(node_id, _name(each)): each.seconds for node_id, each in _each_throttled(before)} if before else {}
    totals: dict[tuple[str, str, str], HeldClient] = {}
    for node_id, each in _each_throttled(now):
        name = _name(each)
        rate = _rate(was.get((node_id, name), 0.0), each.seconds, seconds) if before and seconds > 0 else None
        known = totals.get(name)
        totals[name] = HeldClient(
            door=each.door,
            user=each.user,
            client=each.client,
            times=each.times + (known.times if known else 0),
            seconds=each.seconds + (known.seconds if known else 0.0),
            held_per_s=None if rate is None else rate + (known.held_per_s or 0.0 if known else 0.0),
        )
    return sorted(totals.values(), key=lambda each: (-(each.held_per_s or 0.0), -each.seconds))


def _each_throttled(look: Look) -> Iterator[tuple[int, ThrottledClient]]:
    return ((node_id, each) for node_id, clients in look.throttled.items() for each in clients)


def _name(client: ThrottledClient) -> tuple[str, str, str]:
    return client.door, client.user, client.client


def _committed(view: GroupView) -> Mapping[TopicPartition, int]:
    return {
        TopicPartition(each.topic, each.partition): each.committed_offset
        for each in view.partitions
        if each.committed_offset is not None
    }


def _rate(before: float, now: float, seconds: float) -> float:
    """Of what grows: retention makes a log shorter."""
    return max(0, now - before) / seconds
