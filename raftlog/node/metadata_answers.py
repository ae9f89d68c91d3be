"""Metadata and DescribeReplicas, from the image and the gossip. Pure: any supervisor gives the same answer.

A supervisor that is cut off from the others answers too, from what it heard last, and says that nobody confirms it:
clients have to find their leaders also while the metadata has no majority.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from raftlog.controller.image import Image, TopicInfo
from raftlog.errors import ErrorCode
from raftlog.node.gossip import Gossip
from raftlog.protocol.cluster import (
    DescribeReplicasRequest,
    DescribeReplicasResponse,
    MetadataRequest,
    MetadataResponse,
    NodeMetadata,
    PartitionMetadata,
    TopicMetadata,
)
from raftlog.types import METADATA_TOPIC, METADATA_TOPIC_ID, Doubt, Plan, ReplicaSpec, ReplicaStatus, Role


def metadata_response(
    request: MetadataRequest, *, node_id: int, image: Image, gossip: Gossip, now_s: float, flush: str
) -> MetadataResponse:
    """`node_id`: who answers."""
    controller = gossip.leader_of((METADATA_TOPIC_ID, 0), image.voters, now_s)
    names = sorted(image.topics) if request.topics is None else list(dict.fromkeys(request.topics))
    nodes = []
    for known_id, info in sorted(image.nodes.items()):
        state = gossip.state_of(known_id)
        nodes.append(
            NodeMetadata(
                node_id=known_id,
                endpoint=state.endpoint if state else info.endpoint,
                alive=gossip.is_live(known_id, now_s),
                voter=known_id in image.voters,
                kafka=state.kafka if state else None,
            )
        )
    return MetadataResponse(
        cluster_id=image.cluster_id,
        controller_id=controller.node_id if controller else -1,
        controller=controller.worker.endpoint if controller else None,
        nodes=nodes,
        topics=[_topic(name, image.topics.get(name), gossip, now_s) for name in names],
        flush=flush,
        controller_epoch=controller.worker.status.leader_epoch if controller else -1,
        node_id=node_id,
        image_offset=image.end_offset,
        confirmed=gossip.confirms(image.end_offset, image.voters, now_s),
    )


def _topic(name: str, topic: TopicInfo | None, gossip: Gossip, now_s: float) -> TopicMetadata:
    if topic is None:
        return TopicMetadata(
            name=name,
            topic_id=b"",
            error_code=ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
            partitions=[],
            config={},
        )
    partitions = []
    for partition, replicas in enumerate(topic.replicas):
        leader = gossip.leader_of((topic.topic_id, partition), topic.named_of(partition).ids, now_s)
        partitions.append(
            PartitionMetadata(
                partition=partition,
                leader_id=leader.node_id if leader else -1,
                leader_epoch=leader.worker.status.leader_epoch if leader else -1,
                endpoint=leader.worker.endpoint if leader else None,
                replicas=list(replicas),
                in_sync=list(leader.worker.status.in_sync) if leader else [],
                witnesses=list(topic.witnesses_of(partition)),
                adding=_adding(topic.plan_of(partition), replicas),
            )
        )
    return TopicMetadata(
        name=name,
        topic_id=topic.topic_id,
        error_code=ErrorCode.NONE,
        partitions=partitions,
        config=msgspec.structs.asdict(topic.config),
    )


def _adding(plan: Plan | None, replicas: Sequence[int]) -> list[int]:
    wanted = plan.wish.replicas if plan is not None and not plan.called_off else ()
    return [node_id for node_id in wanted if node_id not in replicas]


def describe_replicas_response(
    request: DescribeReplicasRequest, *, node_id: int, image: Image, gossip: Gossip, now_s: float
) -> DescribeReplicasResponse:
    """One status per replica or witness that is assigned or planned; where there is no fresh one, `error` says why."""
    names = None if request.topics is None else frozenset(request.topics)
    metadata = ReplicaSpec(topic=METADATA_TOPIC, topic_id=METADATA_TOPIC_ID, partition=0, replicas=image.voters)
    wanted = [(metadata, metadata.half)] + [
        (topic.spec(partition), topic.named_of(partition))
        for _, topic in sorted(image.topics.items())
        for partition in range(len(topic.replicas))
    ]
    statuses = [
        as_member(
            _status(spec, node_id, Role.WITNESS if node_id in named.witnesses else Role.FOLLOWER, gossip, now_s), image
        )
        for spec, named in wanted
        if names is None or spec.topic in names
        for node_id in named.ids
    ]
    return DescribeReplicasResponse(
        replicas=statuses,
        cluster_id=image.cluster_id,
        node_id=node_id,
        image_offset=image.end_offset,
        confirmed=gossip.confirms(image.end_offset, image.voters, now_s),
        weak_spots=_weak_spots(gossip, now_s),
    )


def _weak_spots(gossip: Gossip, now_s: float) -> dict[int, list[int]]:
    states = (gossip.state_of(node_id) for node_id in gossip.live(now_s))
    return {state.node_id: state.weak_spots for state in states if state is not None and state.weak_spots}


def as_member(status: ReplicaStatus, image: Image) -> ReplicaStatus:
    """What a replica says of itself; one that is still to come began with nothing, and nothing is wrong with that."""
    topic = image.topics.get(status.topic)
    if status.doubt != Doubt.LOST_DISK or topic is None or topic.topic_id != status.topic_id:
        return status
    if status.node_id in topic.voters_of(status.partition):
        return status
    return msgspec.structs.replace(status, doubt=Doubt.NONE, doubt_reason="")


def _status(spec: ReplicaSpec, node_id: int, role: Role, gossip: Gossip, now_s: float) -> ReplicaStatus:
    """`role`: while nobody knows better."""
    worker = gossip.worker_of(node_id, (spec.topic_id, spec.partition))
    if gossip.is_live(node_id, now_s):
        if worker is not None:
            return worker.status
        error = f"node {node_id} has not started it yet"
    else:
        silent_s = gossip.silent_s(node_id, now_s)
        state = gossip.state_of(node_id)
        if state is not None and state.leaving:
            error = f"node {node_id} was stopped"
        elif silent_s is not None:
            error = f"node {node_id} has been silent for {silent_s:.0f} s"
        else:
            error = f"node {node_id} has not been heard from"
    if worker is None:
        return ReplicaStatus(
            topic=spec.topic, topic_id=spec.topic_id, partition=spec.partition, node_id=node_id, role=role, error=error
        )
    # The last figures of a silent node still help to judge what it holds; its role does not.
    return msgspec.structs.replace(worker.status, role=role, in_sync=(), error=error, worker_pid=0)
