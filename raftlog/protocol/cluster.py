"""What is said of the cluster as a whole: versions, nodes, leaders, replicas. Asked of any node."""

from __future__ import annotations

import msgspec

from raftlog.errors import ErrorCode
from raftlog.protocol.body import Body, ResponseBody
from raftlog.protocol.report import ThrottledClient
from raftlog.protocol.topics import MutationBody
from raftlog.types import Endpoint, ReplicaStatus


class HandshakeRequest(Body):
    """First message of a link. The answer names the version both will speak."""

    min_version: int
    max_version: int
    client_id: str = ""


class HandshakeResponse(ResponseBody):
    version: int = 0
    node_id: int = -1
    cluster_id: str = ""


class MetadataRequest(Body):
    """Nodes, topics, and who leads each partition at which address; `topics` None asks for all.

    `silent`: (topic id, partition) of those whose leader does not answer. If such a group sleeps, the node that is
    asked wakes its replica: nobody but the client would know that the leader hangs.
    """

    topics: list[str] | None = None
    silent: list[tuple[bytes, int]] = []


class PartitionMetadata(msgspec.Struct, array_like=True, kw_only=True):
    """leader_id -1 and endpoint None while no leader is known. `adding`: replicas that it shall have besides."""

    partition: int
    leader_id: int
    leader_epoch: int
    endpoint: Endpoint | None
    replicas: list[int]
    in_sync: list[int]
    witnesses: list[int] = []  # voters without records
    adding: list[int] = []


class TopicMetadata(msgspec.Struct, array_like=True, kw_only=True):
    """error_code is UNKNOWN_TOPIC_OR_PARTITION (then all else is empty) or 0."""

    name: str
    topic_id: bytes
    error_code: ErrorCode
    partitions: list[PartitionMetadata]
    config: dict[str, int]


class NodeMetadata(msgspec.Struct, array_like=True, kw_only=True):
    """alive: heard from within NODE_SILENT_S by the node that answers. kafka: where its door for Kafka's clients is."""

    node_id: int
    endpoint: Endpoint
    alive: bool
    voter: bool
    kafka: Endpoint | None = None


class MetadataResponse(ResponseBody):
    """Made from one metadata image and from gossip.

    `image_offset`: the end offset of that image; topics of an answer with a higher one are newer.
    `confirmed`: node `node_id`, which answers, hears a majority of the metadata's voters, and no node that it hears
    has a newer image. Otherwise it may be cut off from the others, and what it does not know of may exist.
    """

    cluster_id: str = ""
    controller_id: int = -1
    controller: Endpoint | None = None  # the worker that takes CreateTopics, DeleteTopics, InitProducerId
    nodes: list[NodeMetadata] = []
    topics: list[TopicMetadata] = []
    flush: str = ""
    controller_epoch: int = -1
    node_id: int = -1
    image_offset: int = 0
    confirmed: bool = False


class DescribeReplicasRequest(Body):
    """What every replica last said of itself; topics None asks for all, internal ones included."""

    topics: list[str] | None = None


class DescribeReplicasResponse(ResponseBody):
    """All replicas, as the node that was asked knows them.

    `node_id`, `image_offset`, `confirmed`: as in MetadataResponse.

    `weak_spots`: of each node that is heard, the numbers of Weakness; for who may describe the cluster.
    """

    replicas: list[ReplicaStatus] = []
    cluster_id: str = ""
    node_id: int = -1
    image_offset: int = 0
    confirmed: bool = False
    weak_spots: dict[int, list[int]] = {}


class DescribeThrottledRequest(Body):
    """Whom quotas have held back at this node."""


class DescribeThrottledResponse(ResponseBody):
    """Those that waited longest first."""

    throttled: list[ThrottledClient] = []


class RecoverPartitionRequest(Body):
    """To the node whose replica shall be the truth of a partition that lost a majority's records."""

    topic_id: bytes
    partition: int


class RecoverPartitionResponse(ResponseBody):
    """The replica was told. Whether it is elected shows in the metadata."""


class RemoveNodeRequest(MutationBody):
    """A node that holds no replica and is no voter of the metadata shall be of the cluster no more."""

    node_id: int


class RemoveNodeResponse(ResponseBody):
    """BROKER_ID_NOT_REGISTERED: there is no such node. INVALID_REQUEST: it votes, or holds something."""
