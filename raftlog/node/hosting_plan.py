"""Which replicas a node should start and stop hosting, given an image. Pure.

An image may be older than what the node already knows from a later one, so absence proves a deletion
only in an image that reaches beyond the topic's creation. One that is older than what was done here by another is not
followed at all: it may make a node the founder of a partition that has moved away since.

    the partition's creation names the node    a replica begins with the voters of then: it founds the group
    a plan does, or an assignment since        it begins with nobody and in doubt, until the leader has told it more
    nobody does any more                       it goes, if its own log knows of no newer configuration with it

Where the log of a replica knows more than the image, who leads may be following a plan that is newer than it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from raftlog.controller.image import Image, TopicInfo
from raftlog.node.gossip import ReplicaKey
from raftlog.node.meta import HostedReplica, Meta
from raftlog.types import METADATA_TOPIC, METADATA_TOPIC_ID, Doubt, ReplicaSpec, TopicConfig

METADATA_KEY: ReplicaKey = (METADATA_TOPIC_ID, 0)
# The metadata log is the cluster's memory: retention never deletes from it, only its own snapshots do. Small segments,
# so that they do.
_METADATA_CONFIG = TopicConfig(retention_ms=-1, retention_bytes=-1, segment_bytes=4 * 1024 * 1024)


class HostingChange(NamedTuple):
    """Replicas to be listed and started, and others to be stopped. `waits`: one more, which may not go yet."""

    add: list[HostedReplica]
    remove: list[HostedReplica]
    waits: bool = False


class Word(NamedTuple):
    """What a replica that runs has said of the newest configuration of its log: (term, index), and who it names."""

    newest: tuple[int, int]
    names_it: bool


NO_CONFIGURATION = Word((0, 0), False)


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


def plan_hosting(meta: Meta, image: Image, words: Mapping[ReplicaKey, Word], *, current: bool) -> HostingChange:
    """Replicas whose name is still taken by one to be removed come with a later plan, once it is gone.

    `words`: of the replicas that run. `current`: the image holds all that the metadata had committed when this process
    began; one that ends lower than another did before is the truth then, after records of the metadata were lost.
    """
    if image.end_offset < meta.followed_offset and not current:
        return HostingChange([], [])
    users = [hosted for hosted in meta.replicas if hosted.spec.topic != METADATA_TOPIC]
    removed = [hosted for hosted in users if _is_deleted(hosted, image)]
    unnamed = [hosted for hosted in users if _is_unnamed(hosted, image, meta.node_id)]
    if current:
        removed += [hosted for hosted in unnamed if _may_go(hosted, image, words.get(key_of(hosted)))]
    waits = any(hosted not in removed for hosted in unnamed)
    known = image.nodes.get(meta.node_id)
    if known is None or known.directory_id != meta.directory_id:
        # Not registered with this directory yet: what is new here cannot be told from what was lost.
        return HostingChange([], removed, waits)
    taken = {hosted.spec.name for hosted in meta.replicas}
    added = []
    for topic, partition in image.hosted_by(meta.node_id):
        spec, moves = topic.spec(partition), topic.moves.get(partition)
        if spec.name in taken:
            continue
        created_offset = named_offset(topic, partition)
        founds = moves is None and created_offset >= known.registered_offset
        added.append(
            HostedReplica(
                spec=spec,
                created_offset=created_offset,
                doubt=Doubt.NONE if founds else Doubt.LOST_DISK,
                config_offset=topic.config_offset,
                witness=meta.node_id in topic.named_of(partition).witnesses and meta.node_id not in spec.witnesses,
            )
        )
    return HostingChange(added, removed, waits)


def named_offset(topic: TopicInfo, partition: int) -> int:
    """Where the metadata log says last who has the partition, or shall have it."""
    moves = topic.moves.get(partition)
    return topic.created_offset_of(partition) if moves is None else moves.since_offset


def with_naming(hosted: HostedReplica, image: Image, node_id: int) -> HostedReplica:
    """Listed with where the image names the node for it: an image that ends before that takes it away no more."""
    topic = image.topics.get(hosted.spec.topic)
    if topic is None or topic.topic_id != hosted.spec.topic_id or _is_unnamed(hosted, image, node_id):
        return hosted
    if hosted.spec.partition not in topic.moves:
        return hosted
    offset = named_offset(topic, hosted.spec.partition)
    return hosted if offset <= hosted.created_offset else msgspec.structs.replace(hosted, created_offset=offset)


def with_settings(hosted: HostedReplica, image: Image) -> HostedReplica:
    """With its topic's settings of the image, unless those it has are newer."""
    topic = image.topics.get(hosted.spec.topic)
    if topic is None or topic.topic_id != hosted.spec.topic_id or topic.config_offset <= hosted.config_offset:
        return hosted
    spec = msgspec.structs.replace(hosted.spec, config=topic.config)
    return msgspec.structs.replace(hosted, spec=spec, config_offset=topic.config_offset)


def _is_unnamed(hosted: HostedReplica, image: Image, node_id: int) -> bool:
    """Neither the assignment names the node for it, as what it is here, nor a plan."""
    spec = hosted.spec
    topic = image.topics.get(spec.topic)
    if topic is None or topic.topic_id != spec.topic_id or spec.partition not in topic.moves:
        return False
    named = topic.named_of(spec.partition)
    return node_id not in (named.witnesses if hosted.is_witness(node_id) else named.replicas)


def _may_go(hosted: HostedReplica, image: Image, word: Word | None) -> bool:
    """The assignment, written AFTER its configuration was committed, is without the node, and nothing newer is not."""
    moves = image.topics[hosted.spec.topic].moves[hosted.spec.partition]
    if word is None or image.end_offset <= hosted.created_offset:
        return False
    return word.newest <= moves.configuration or not word.names_it


def _is_deleted(hosted: HostedReplica, image: Image) -> bool:
    topic = image.topics.get(hosted.spec.topic)
    there = topic is not None and topic.topic_id == hosted.spec.topic_id
    return not there and image.end_offset > hosted.created_offset
