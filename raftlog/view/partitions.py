"""What metadata and the replicas' own reports say of a partition, put together. Pure: answers in, views out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from raftlog.config import config_for_people
from raftlog.protocol.cluster import MetadataResponse, NodeMetadata, PartitionMetadata, TopicMetadata
from raftlog.types import Doubt, ReplicaStatus, TopicPartition

_DOUBT_TEXTS = {
    Doubt.CUT_TAIL: "cut a damaged tail",
    Doubt.SHORT: "is shorter than what it acknowledged",
    Doubt.CORRUPT: "found corrupt records",
    Doubt.LOST_DISK: "lost its disk",
    Doubt.LOST_STATE: "lost its state",
}


class PartitionView(msgspec.Struct, frozen=True, kw_only=True):
    """A partition and its replicas.

    `leader` None: there is none. `survives_failures` None: the partition does not work now.

    Offsets and size are the leader's, or the furthest that any replica last reported. `cuts` counts
    the damaged tails that replicas cut when they started, `corruptions` how often they found damage. `asleep`: nothing
    happens there, and its replicas are silent until something does.
    """

    partition: int
    leader: int | None
    leader_epoch: int
    replicas: list[int]
    witnesses: list[int]
    isr: list[int]
    log_start_offset: int
    high_watermark: int
    size_bytes: int
    survives_failures: int | None
    cuts: int
    corruptions: int
    problems: list[str]
    asleep: bool = False


class TopicView(msgspec.Struct, frozen=True, kw_only=True):
    topic: str
    topic_id: str
    replication_factor: int
    witnesses: int
    config: dict[str, int | str]
    partitions: list[PartitionView]


def cut_off(found: MetadataResponse) -> str:
    """Why the whole answer may be old; empty: it is not."""
    if found.confirmed:
        return ""
    return f"node {found.node_id}, which answers, hears no majority of the voters: what it says may be old"


def view_topic(
    topic: TopicMetadata,
    statuses: Iterable[ReplicaStatus],
    offsets: Mapping[TopicPartition, tuple[int, int]] = {},
) -> TopicView:
    """`offsets`: log start and high watermark, where the leader was asked just now; fresher than any status."""
    own = [status for status in statuses if status.topic_id == topic.topic_id]
    views = []
    for found in sorted(topic.partitions, key=lambda partition: partition.partition):
        reported = [status for status in own if status.partition == found.partition]
        views.append(_view(found, reported, offsets.get(TopicPartition(topic.name, found.partition))))
    return TopicView(
        topic=topic.name,
        topic_id=topic.topic_id.hex(),
        replication_factor=max((len(view.replicas) for view in views), default=0),
        witnesses=max((len(view.witnesses) for view in views), default=0),
        config=config_for_people(topic.config),
        partitions=views,
    )


def _view(found: PartitionMetadata, statuses: Sequence[ReplicaStatus], fresh: tuple[int, int] | None) -> PartitionView:
    leading = [status for status in statuses if status.node_id == found.leader_id]
    best = max(leading or statuses, key=lambda status: status.high_watermark, default=None)
    start, high_watermark = fresh or ((best.log_start_offset, best.high_watermark) if best else (0, 0))
    leader = found.leader_id if found.leader_id >= 0 else None
    survives = None
    if leader is not None:
        survives = survives_failures(found.replicas, found.witnesses, found.in_sync, statuses)
    none_text = survives_none_text(survives, len(found.replicas), len(found.witnesses))
    return PartitionView(
        partition=found.partition,
        leader=leader,
        leader_epoch=found.leader_epoch,
        replicas=list(found.replicas),
        witnesses=list(found.witnesses),
        isr=list(found.in_sync) if leader is not None else [],
        log_start_offset=start,
        high_watermark=high_watermark,
        size_bytes=best.size_bytes if best else 0,
        survives_failures=survives,
        cuts=sum(status.cuts for status in statuses),
        corruptions=sum(status.corruptions for status in statuses),
        problems=_problems(found, statuses) + [none_text] * bool(none_text),
        asleep=any(status.asleep for status in leading),
    )


def survives_failures(
    replicas: Sequence[int], witnesses: Sequence[int], in_sync: Sequence[int], statuses: Sequence[ReplicaStatus]
) -> int:
    """A majority of the voters is needed, and one in-sync replica among them.

    A voter that is doubtful or does not run counts for nothing.
    """
    failed = {status.node_id for status in statuses if status.doubt or status.error}
    sound = sum(node_id not in failed for node_id in in_sync)
    voting = sum(node_id not in failed for node_id in witnesses)
    majority = (len(replicas) + len(witnesses)) // 2 + 1
    return max(0, min(sound + voting - majority, sound - 1))


def _problems(found: PartitionMetadata, statuses: Sequence[ReplicaStatus]) -> list[str]:
    by_node = {status.node_id: status for status in statuses}
    problems = [_why_no_leader(found, statuses)] if found.leader_id < 0 else []
    for node_id in found.replicas + found.witnesses:
        status = by_node.get(node_id)
        if status is not None and replica_problems(status):
            problems += replica_problems(status)
        elif found.leader_id >= 0 and node_id not in found.in_sync and node_id not in found.witnesses:
            problems.append(f"node {node_id} is not in sync")
    return problems


def survives_none_text(survives: int | None, replicas: int, witnesses: int) -> str:
    """Of a partition that works and would survive some failure if all of its voters were there; "" for any other."""
    whole = min((replicas + witnesses - 1) // 2, replicas - 1)
    if survives != 0 or not whole:
        return ""
    return f"it survives no failure now, and {whole} when all of its replicas and witnesses are there"


def replica_problems(status: ReplicaStatus) -> list[str]:
    """What a replica says is wrong with itself. A doubtful one that is silent or cannot start is both."""
    problems = []
    if status.error:
        named = status.error.startswith(f"node {status.node_id} ")
        problems.append(status.error if named else f"node {status.node_id}: {status.error}")
    if status.doubt:
        reason = f" ({status.doubt_reason})" if status.doubt_reason else ""
        problems.append(f"node {status.node_id} is doubtful: it {_DOUBT_TEXTS[status.doubt]}{reason}")
    return problems


def _why_no_leader(found: PartitionMetadata, statuses: Sequence[ReplicaStatus]) -> str:
    """A witness that counted more than any running replica holds lets none of them lead."""
    running = [status for status in statuses if not status.error]
    seen = max(
        ((each.last_term, each.last_index) for each in running if each.node_id in found.witnesses), default=(0, 0)
    )
    held = max(
        ((each.last_term, each.last_index) for each in running if each.node_id in found.replicas), default=(0, 0)
    )
    missing = sorted(set(found.replicas) - {each.node_id for each in running})
    if seen <= held or not missing:
        return "no leader"
    nodes = " or ".join(f"node {node_id}" for node_id in missing)
    return f"no leader: the running replicas lack what was in sync last, so it waits for {nodes}"


class NodeView(msgspec.Struct, frozen=True, kw_only=True):
    """A node and what it hosts.

    `leads`, `replicas` and `witnesses` count partitions of users' topics; the last three are of all.
    """

    node: int
    address: str
    alive: bool
    voter: bool
    leads: int
    replicas: int
    witnesses: int
    size_bytes: int
    doubtful: int
    cuts: int
    corruptions: int


def view_nodes(
    nodes: Sequence[NodeMetadata], topics: Sequence[TopicMetadata], statuses: Sequence[ReplicaStatus]
) -> list[NodeView]:
    partitions = [partition for topic in topics for partition in topic.partitions]
    own: dict[int, list[ReplicaStatus]] = {node.node_id: [] for node in nodes}
    for status in statuses:
        own.setdefault(status.node_id, []).append(status)
    return [
        NodeView(
            node=node.node_id,
            address=str(node.endpoint),
            alive=node.alive,
            voter=node.voter,
            leads=sum(partition.leader_id == node.node_id for partition in partitions),
            replicas=sum(node.node_id in partition.replicas for partition in partitions),
            witnesses=sum(node.node_id in partition.witnesses for partition in partitions),
            size_bytes=sum(status.size_bytes for status in own[node.node_id]),
            doubtful=sum(status.doubt != Doubt.NONE for status in own[node.node_id]),
            cuts=sum(status.cuts for status in own[node.node_id]),
            corruptions=sum(status.corruptions for status in own[node.node_id]),
        )
        for node in sorted(nodes, key=lambda node: node.node_id)
    ]
