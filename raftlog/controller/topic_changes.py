"""What the controller makes of a change to a topic that is there: the one record that says it, or an error. Pure."""

from __future__ import annotations

from collections.abc import Collection

from raftlog.config import change_topic_config, check_in_sync
from raftlog.controller.image import Image, TopicInfo
from raftlog.controller.placement import check_assignment, check_replication_factor, place, place_witnesses
from raftlog.controller.records import PartitionsRecord, TopicConfigRecord
from raftlog.errors import (
    InvalidPartitionsError,
    InvalidReplicaAssignmentError,
    InvalidRequestError,
    InvalidTopicError,
    UnknownTopicOrPartitionError,
)
from raftlog.limits import PARTITIONS_PER_TOPIC_MAX
from raftlog.protocol.topics import CreatePartitionsRequest, IncrementalAlterConfigsRequest
from raftlog.types import INTERNAL_TOPICS

AlteringRequest = IncrementalAlterConfigsRequest | CreatePartitionsRequest


def change_topic(
    image: Image, request: AlteringRequest, live: Collection[int]
) -> TopicConfigRecord | PartitionsRecord | None:
    """None: it is so already. Raises the RaftlogError that refuses it."""
    if request.name in INTERNAL_TOPICS:
        raise InvalidTopicError(f"{request.name} belongs to raftlog itself")
    topic = named_topic(image, request.name, request.topic_id)
    if isinstance(request, CreatePartitionsRequest):
        return _more_partitions(image, topic, request, live)
    if not request.config and not request.reset:
        raise InvalidRequestError("no setting is named")
    config = change_topic_config(topic.config, request.config, request.reset)
    if config == topic.config:
        return None
    check_in_sync(config, len(topic.replicas[0]))
    return TopicConfigRecord(name=topic.name, topic_id=topic.topic_id, config=config)


def named_topic(image: Image, name: str, topic_id: bytes) -> TopicInfo:
    """The topic that a client means. Raises UnknownTopicOrPartitionError, also where another has its name now."""
    topic = image.topics.get(name)
    if topic is None:
        raise UnknownTopicOrPartitionError(f"topic {name} does not exist")
    if topic.topic_id != topic_id:
        raise UnknownTopicOrPartitionError(f"topic {name} was made anew since it was looked up; nothing was changed")
    return topic


def _more_partitions(
    image: Image, topic: TopicInfo, request: CreatePartitionsRequest, live: Collection[int]
) -> PartitionsRecord:
    wanted, there = request.partitions, len(topic.replicas)
    if wanted <= there:
        raise InvalidPartitionsError(
            f"topic {topic.name} has {there} partition{'s' * (there > 1)}; there can only be more, not {wanted}"
        )
    if wanted > PARTITIONS_PER_TOPIC_MAX:
        raise InvalidPartitionsError(f"a topic has at most {PARTITIONS_PER_TOPIC_MAX} partitions, not {wanted}")
    factor = len(topic.replicas[0])
    new = wanted - there
    if request.replicas:
        if len(request.replicas) != new:
            raise InvalidReplicaAssignmentError(f"replicas are named for {len(request.replicas)} partitions, {new} new")
        replicas = check_assignment(image, live, request.replicas, factor)
    else:
        check_replication_factor(image, live, factor)
        replicas = place(image, live=live, partitions=new, replication_factor=factor, beside=topic.replicas)
    return PartitionsRecord(
        name=topic.name,
        topic_id=topic.topic_id,
        replicas=replicas,
        witnesses=place_witnesses(image, live=live, replicas=replicas, beside=topic.witnesses),
    )
