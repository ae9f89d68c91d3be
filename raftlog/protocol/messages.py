"""What clients and nodes say to each other, as typed structs. No sockets.

A message is a list of frames: `[header, payload, …]`. The header is msgpack of one struct below,
written as an array whose first element is the struct's tag (its Kafka API name). Payload frames
are record batches, untouched. Every request carries a correlation id that the answer repeats.

    frame 0   msgpack ["Produce", correlation_id, topic_id, partition, acks, timeout_ms]
    frame 1   one record batch (magic 2), as the producer encoded it

Every request names topic id + partition where one is meant; a worker refuses what is not its own.
"""

from __future__ import annotations

import msgspec

from raftlog.types import Endpoint, ReplicaStatus


class _Message(msgspec.Struct, array_like=True, tag=True, kw_only=True, gc=False):
    """Base: tagged arrays, so that a header is small and its type is checked while decoding."""


class _Request(_Message, tag=True):
    correlation_id: int


class _Response(_Message, tag=True):
    correlation_id: int
    error_code: int = 0
    error_text: str = ""


# --- any socket ----------------------------------------------------------------------------
class HandshakeRequest(_Request, tag="Handshake"):
    """First message of a link. The answer names the version both will speak."""

    min_version: int
    max_version: int
    client_id: str = ""


class HandshakeResponse(_Response, tag="HandshakeR"):
    version: int = 0
    node_id: int = -1
    cluster_id: str = ""


class ErrorResponse(_Response, tag="ErrorR"):
    """The answer to what could not be decoded or is not known here. correlation_id is -1 if unreadable."""


# --- supervisor (any node) -----------------------------------------------------------------
class MetadataRequest(_Request, tag="Metadata"):
    """topics None asks for all."""

    topics: list[str] | None = None


class PartitionMetadata(msgspec.Struct, array_like=True, kw_only=True):
    """leader_id -1 and endpoint None while no leader is known."""

    partition: int
    leader_id: int
    leader_epoch: int
    endpoint: Endpoint | None
    replicas: list[int]
    in_sync: list[int]
    witnesses: list[int] = []  # voters without records


class TopicMetadata(msgspec.Struct, array_like=True, kw_only=True):
    """error_code is UNKNOWN_TOPIC_OR_PARTITION (then all else is empty) or 0."""

    name: str
    topic_id: bytes
    error_code: int
    partitions: list[PartitionMetadata]
    config: dict[str, int]


class NodeMetadata(msgspec.Struct, array_like=True, kw_only=True):
    """alive: heard from within NODE_SILENT_S by the node that answers."""

    node_id: int
    endpoint: Endpoint
    alive: bool
    voter: bool


class MetadataResponse(_Response, tag="MetadataR"):
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


class DescribeReplicasRequest(_Request, tag="DescribeReplicas"):
    """What every replica last said of itself; topics None asks for all, internal ones included."""

    topics: list[str] | None = None


class DescribeReplicasResponse(_Response, tag="DescribeReplicasR"):
    """`node_id`, `image_offset`, `confirmed`: as in MetadataResponse."""

    replicas: list[ReplicaStatus] = []
    cluster_id: str = ""
    node_id: int = -1
    image_offset: int = 0
    confirmed: bool = False


class RecoverPartitionRequest(_Request, tag="RecoverPartition"):
    """To the node whose replica shall be the truth of a partition that lost a majority's records."""

    topic_id: bytes
    partition: int


class RecoverPartitionResponse(_Response, tag="RecoverPartitionR"):
    """The replica was told. Whether it is elected shows in the metadata."""


# --- controller (the worker that leads __cluster_metadata-0) --------------------------------
class NewTopic(msgspec.Struct, array_like=True, kw_only=True):
    """partitions and replication_factor -1 ask for the defaults: 1, and 3 or what the nodes allow."""

    name: str
    partitions: int = -1
    replication_factor: int = -1
    config: dict[str, str] = {}


MUTATION_ID_BYTES = 16


class _MutationRequest(_Request, tag=True):
    """A change of topics, which is carried out once, however often it is asked for.

    `mutation_id`: random bytes of the client, the same at each attempt. `since_offset`: where the metadata ended
    before the first attempt, as TopicIdsResponse said.
    """

    mutation_id: bytes
    since_offset: int


class TopicIdsRequest(_Request, tag="TopicIds"):
    """Which topics have these names now: asked once before a change, so that each attempt means the same topics."""

    names: list[str]


class TopicIdsResponse(_Response, tag="TopicIdsR"):
    """`topic_ids`: one of each name, b"" where there is no such topic. `end_offset`: where the metadata ends."""

    end_offset: int = 0
    topic_ids: list[bytes] = []


class CreateTopicsRequest(_MutationRequest, tag="CreateTopics"):
    topics: list[NewTopic]
    timeout_ms: int = 30_000


class DeleteTopicsRequest(_MutationRequest, tag="DeleteTopics"):
    """`topics`: (name, topic id), so that one made anew under the name is not meant (KIP-516)."""

    topics: list[tuple[str, bytes]]
    timeout_ms: int = 30_000


class InitProducerIdRequest(_Request, tag="InitProducerId"):
    """A producer id that nobody had before, for an idempotent producer. Its epochs are its own to count."""


class InitProducerIdResponse(_Response, tag="InitProducerIdR"):
    producer_id: int = -1
    producer_epoch: int = -1


class TopicResult(msgspec.Struct, array_like=True, kw_only=True):
    """`warning`: why a partition survives fewer failures than asked for; "" where it does not."""

    name: str
    error_code: int
    error_text: str
    topic_id: bytes = b""
    partitions: int = 0
    replication_factor: int = 0
    witnesses: int = 0  # of each partition
    warning: str = ""


class TopicsResponse(_Response, tag="TopicsR"):
    """One result per topic asked for; each stands or falls alone."""

    results: list[TopicResult] = []


# --- worker that leads the partition ---------------------------------------------------------
class ProduceRequest(_Request, tag="Produce"):
    """One record batch in payload frame 1. acks: 0, 1, or -1 for all."""

    topic_id: bytes
    partition: int
    acks: int
    timeout_ms: int


class ProduceResult(msgspec.Struct, array_like=True, gc=False):
    """Positional for speed. The leader hint is set with NOT_LEADER_OR_FOLLOWER."""

    correlation_id: int
    error_code: int
    base_offset: int  # -1 on error
    leader_id: int = -1
    leader_epoch: int = -1
    error_text: str = ""


class ProduceResponse(_Message, tag="ProduceR"):
    """All answers for one client of one turn of the worker, grouped in one frame."""

    results: list[ProduceResult]


class FetchRequest(_Request, tag="Fetch"):
    """Long poll: answered when min_bytes are there or after max_wait_ms.

    The payload holds whole batches from the one that contains `offset`, at least one even if it is
    larger than max_bytes, all below the high watermark. The first batch may begin below `offset`.
    `verify`: the last answer did not match its checksum; the leader reads again and checks what it sends.
    `leader_epoch`: the newest one of which the client has read or been answered, -1: none. A leader of an older one
    answers UNKNOWN_LEADER_EPOCH (KIP-320).
    """

    topic_id: bytes
    partition: int
    offset: int
    max_bytes: int
    min_bytes: int = 1
    max_wait_ms: int = 500
    verify: bool = False
    leader_epoch: int = -1


class FetchResponse(_Response, tag="FetchR"):
    """`high_watermark` is what this leader knows of, which may have been deposed: no bound of the log."""

    high_watermark: int = -1
    log_start_offset: int = -1
    leader_id: int = -1
    leader_epoch: int = -1


class ListOffsetsRequest(_Request, tag="ListOffsets"):
    """timestamp_ms: LATEST_TIMESTAMP, EARLIEST_TIMESTAMP, or a time: first record at or after it.

    The leader first makes sure, by a round of heartbeats, that it still leads, so that the answer covers everything
    acknowledged before the request. `leader_epoch` as in Fetch.
    """

    topic_id: bytes
    partition: int
    timestamp_ms: int
    leader_epoch: int = -1


class ListOffsetsResponse(_Response, tag="ListOffsetsR"):
    """offset -1: no record at or after the time."""

    offset: int = -1
    timestamp_ms: int = -1
    leader_id: int = -1
    leader_epoch: int = -1
