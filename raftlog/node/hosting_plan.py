"""Which replicas a node should start and stop hosting, given an image. Pure.

An image may be older than what the node already knows from a later one, so absence proves a deletion
only in an image that reaches beyond the topic's creation.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from raftlog.controller.image import Image
from raftlog.node.gossip import ReplicaKey
from raftlog.node.meta import HostedReplica, Meta
from raftlog.types import METADATA_TOPIC, METADATA_TOPIC_ID, Doubt, ReplicaSpec, TopicConfig

METADATA_KEY: ReplicaKey = (METADATA_TOPIC_ID, 0)
# The metadata log is the cluster's memory: retention never deletes from it, only its own snapshots do. Small segments,
# so that they do.
_METADATA_CONFIG = TopicConfig(retention_ms=-1, retention_bytes=-1, segment_bytes=4 * 1024 * 1024)


class Plan(NamedTuple):
    add: list[HostedReplica]
    remove: list[HostedReplica]


def key_of(hosted: HostedReplica) -> ReplicaKey:
    return hosted.spec.topic_id, hosted.spec.partition


def metadata_replica(voters: tuple[int, ...], *, lost_disk: bool) -> HostedReplica:
    spec = ReplicaSpec(
        topic=METADATA_TOPIC,
        topic_id=METADATA_TOPIC_ID,
        partition=0,
        replicas=voters,
        config=_METADATA_CONFIG,
    )
    return HostedReplica(spec=spec, created_offset=-1, doubt=Doubt.LOST_DISK if lost_disk else Doubt.NONE)


def plan_hosting(meta: Meta, image: Image) -> Plan:
    """Replicas whose name is still taken by one to be removed come with a later plan, once it is gone."""
    removed = [hosted for hosted in meta.replicas if hosted.spec.topic != METADATA_TOPIC and _is_deleted(hosted, image)]
    known = image.nodes.get(meta.node_id)
    if known is None or known.directory_id != meta.directory_id:
        # Not registered with this directory yet: what is new here cannot be told from what was lost.
        return Plan([], removed)
    taken = {hosted.spec.name for hosted in meta.replicas}
    added = []
    for topic, partition in image.hosted_by(meta.node_id):
        spec = topic.spec(partition)
        if spec.name not in taken and meta.node_id in spec.voters:
            created_offset = topic.created_offset_of(partition)
            doubt = Doubt.LOST_DISK if created_offset < known.registered_offset else Doubt.NONE
            added.append(
                HostedReplica(spec=spec, created_offset=created_offset, doubt=doubt, config_offset=topic.config_offset)
            )
    return Plan(added, removed)


def with_settings(hosted: HostedReplica, image: Image) -> HostedReplica:
    """With its topic's settings of the image, unless those it has are newer."""
    topic = image.topics.get(hosted.spec.topic)
    if topic is None or topic.topic_id != hosted.spec.topic_id or topic.config_offset <= hosted.config_offset:
        return hosted
    spec = msgspec.structs.replace(hosted.spec, config=topic.config)
    return msgspec.structs.replace(hosted, spec=spec, config_offset=topic.config_offset)


def _is_deleted(hosted: HostedReplica, image: Image) -> bool:
    topic = image.topics.get(hosted.spec.topic)
    there = topic is not None and topic.topic_id == hosted.spec.topic_id
    return not there and image.end_offset > hosted.created_offset
