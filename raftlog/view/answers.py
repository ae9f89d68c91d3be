"""What an Admin finds out, put into the one shape in which it is shown. The command line and /api/ print the same."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from raftlog.errors import RaftlogError, UnknownTopicOrPartitionError
from raftlog.protocol.cluster import MetadataResponse, PartitionMetadata, TopicMetadata
from raftlog.types import (
    EARLIEST_TIMESTAMP,
    LATEST_TIMESTAMP,
    METADATA_TOPIC,
    METADATA_TOPIC_ID,
    ReplicaStatus,
    TopicPartition,
)
from raftlog.view.diagnosis import Diagnosis, diagnose
from raftlog.view.groups import GroupView, view_group
from raftlog.view.partitions import (
    NodeView,
    TopicView,
    cut_off,
    replica_problems,
    view_nodes,
    view_topic,
)
from raftlog.view.weak_spots import name_weak_spots

if TYPE_CHECKING:
    from raftlog.client.admin.admin import Admin


class PartitionState(msgspec.Struct, frozen=True, kw_only=True):
    """One partition with what its replicas say. `leader_id` -1: there is none."""

    topic: str
    topic_id: bytes
    partition: int
    leader_id: int
    in_sync: list[int]
    statuses: list[ReplicaStatus]


class ClusterStatus(msgspec.Struct, frozen=True, kw_only=True):
    cluster_id: str
    controller: int | None
    flush: str
    confirmed: bool
    healthy: bool
    nodes: list[NodeView]
    topics: int
    partitions: int
    problems: list[str]
    weak_spots: list[str]


class ListedTopic(msgspec.Struct, frozen=True, kw_only=True):
    topic: str
    partitions: int
    replication_factor: int


class TopicList(msgspec.Struct, frozen=True, kw_only=True):
    confirmed: bool
    topics: list[ListedTopic]


class DescribedTopics(msgspec.Struct, frozen=True, kw_only=True):
    confirmed: bool
    topics: list[TopicView]


class ListedGroup(msgspec.Struct, frozen=True, kw_only=True):
    group: str
    state: str
    members: int


class GroupList(msgspec.Struct, frozen=True, kw_only=True):
    groups: list[ListedGroup]


class DescribedGroups(msgspec.Struct, frozen=True, kw_only=True):
    groups: list[GroupView]


class Examination(msgspec.Struct, frozen=True, kw_only=True):
    healthy: bool
    confirmed: bool
    partitions: int
    problems: list[Diagnosis]
    weak_spots: list[Diagnosis]


# --- the cluster -------------------------------------------------------------------------------
def cluster_status(admin: Admin) -> ClusterStatus:
    found = admin.describe_cluster()
    topics = admin.describe_topics()
    replicas = admin.describe_replicas()
    nodes = view_nodes(found.nodes, topics, replicas)
    problems = [cut_off(found)] if cut_off(found) else []
    problems += [f"node {node.node} does not answer" for node in nodes if not node.alive]
    if found.controller_id < 0:
        problems.append("no controller: topics cannot be created or deleted now")
    described = {topic.name for topic in topics}
    for topic in topics:
        for partition in view_topic(topic, replicas).partitions:
            problems += [f"{topic.name}-{partition.partition}: {text}" for text in partition.problems]
    for replica in replicas:
        if replica.topic not in described:
            problems += [f"{replica.topic}-{replica.partition}: {text}" for text in replica_problems(replica)]
    return ClusterStatus(
        cluster_id=found.cluster_id,
        controller=found.controller_id if found.controller_id >= 0 else None,
        flush=found.flush,
        confirmed=found.confirmed,
        healthy=not problems,
        nodes=nodes,
        topics=len(topics),
        partitions=sum(len(topic.partitions) for topic in topics),
        problems=problems,
        weak_spots=[f"{each.place}: {each.what}" for each in name_weak_spots(admin.describe_weak_spots())],
    )


def partition_states(admin: Admin, cluster: MetadataResponse) -> list[PartitionState]:
    """Of all, the metadata first."""
    statuses = admin.describe_replicas()
    by_partition = defaultdict(list)  # 2,000 partitions with 6,000 statuses are not compared each with each
    for status in statuses:
        by_partition[status.topic_id, status.partition].append(status)
    own = by_partition[METADATA_TOPIC_ID, 0]
    states = [
        PartitionState(
            topic=METADATA_TOPIC,
            topic_id=METADATA_TOPIC_ID,
            partition=0,
            leader_id=cluster.controller_id,
            in_sync=next((list(each.in_sync) for each in own if each.node_id == cluster.controller_id), []),
            statuses=own,
        )
    ]
    for topic in admin.describe_topics():
        for each in topic.partitions:
            states.append(
                PartitionState(
                    topic=topic.name,
                    topic_id=topic.topic_id,
                    partition=each.partition,
                    leader_id=each.leader_id,
                    in_sync=list(each.in_sync),
                    statuses=_of_members(each, by_partition[topic.topic_id, each.partition]),
                )
            )
    return states


def _of_members(partition: PartitionMetadata, statuses: Sequence[ReplicaStatus]) -> list[ReplicaStatus]:
    """Whoever is still to come copies, and nothing is wrong with it."""
    return [each for each in statuses if each.node_id in partition.replicas + partition.witnesses]


def examine(admin: Admin, cluster: MetadataResponse) -> Examination:
    """What is wrong with the cluster that answered `cluster`, what it means, and what to do."""
    states = partition_states(admin, cluster)
    problems = []
    if not cluster.confirmed:
        problems.append(
            Diagnosis(
                place=f"node {cluster.node_id}",
                what="it hears no majority of the voters",
                meaning="it may be cut off from the others: what it says, and what follows here, may be old",
                advice="ask other nodes (--bootstrap); if they answer the same, start the voters that are silent",
            )
        )
    problems += [
        Diagnosis(
            place=f"node {node.node_id}",
            what="it does not answer",
            meaning="its replicas count as missing",
            advice=f"start it; if its machine is gone, start one with id {node.node_id} on an empty directory",
        )
        for node in cluster.nodes
        if not node.alive
    ]
    for state in states:
        problems += diagnose(f"{state.topic}-{state.partition}", state.leader_id, state.in_sync, state.statuses)
    return Examination(
        healthy=not problems,
        confirmed=cluster.confirmed,
        partitions=len(states),
        problems=problems,
        weak_spots=name_weak_spots(admin.describe_weak_spots()),
    )


# --- topics ------------------------------------------------------------------------------------
def topic_list(admin: Admin, cluster: MetadataResponse, *, internal: bool = False) -> TopicList:
    listed = [
        ListedTopic(
            topic=found.name,
            partitions=len(found.partitions),
            replication_factor=max((len(each.replicas) for each in found.partitions), default=0),
        )
        for found in sorted(admin.describe_topics(internal=internal), key=lambda found: found.name)
    ]
    return TopicList(confirmed=cluster.confirmed, topics=listed)


def described_topics(
    admin: Admin, cluster: MetadataResponse, topics: Sequence[TopicMetadata], hasty: Admin
) -> DescribedTopics:
    """`hasty`: asks the leaders for offsets, and gives up soon."""
    replicas = admin.describe_replicas([found.name for found in topics])
    offsets = _current_offsets(hasty, topics)
    views = [view_topic(found, replicas, offsets) for found in sorted(topics, key=lambda found: found.name)]
    return DescribedTopics(confirmed=cluster.confirmed, topics=views)


def _current_offsets(hasty: Admin, topics: Sequence[TopicMetadata]) -> dict[TopicPartition, tuple[int, int]]:
    """Log start and high watermark as the leaders say them now: fresher than what nodes tell each other.

    Of every partition that has a leader; of none when one of these does not answer in time.
    """
    led = [
        TopicPartition(topic.name, each.partition)
        for topic in topics
        for each in topic.partitions
        if each.leader_id >= 0
    ]
    try:
        ends = hasty.list_offsets(dict.fromkeys(led, LATEST_TIMESTAMP))
        starts = hasty.list_offsets(dict.fromkeys(led, EARLIEST_TIMESTAMP))
    except RaftlogError:
        return {}
    return {place: (starts[place], ends[place]) for place in led}


# --- groups ------------------------------------------------------------------------------------
def group_list(admin: Admin) -> GroupList:
    listed = [ListedGroup(group=each.group_id, state=each.state, members=each.members) for each in admin.list_groups()]
    return GroupList(groups=listed)


def described_group(admin: Admin, name: str) -> GroupView:
    """Raises GroupIdNotFoundError."""
    described = admin.describe_group(name)
    committed = admin.group_offsets(name)
    places = {*committed, *(place for member in described.members for place in member.partitions)}
    try:
        topics = admin.describe_topics(sorted({place.topic for place in places})) if places else []
    except UnknownTopicOrPartitionError as error:
        topics = error.results  # the others; what was deleted has no lag
    led = {TopicPartition(topic.name, each.partition) for topic in topics for each in topic.partitions if each.endpoint}
    asked = sorted(places & led)
    # The start BEFORE the end: retention that comes in between makes the lag too high, never too low.
    starts = admin.list_offsets(dict.fromkeys(asked, EARLIEST_TIMESTAMP))
    ends = admin.list_offsets(dict.fromkeys(asked, LATEST_TIMESTAMP))
    return view_group(described, committed, starts, ends)
