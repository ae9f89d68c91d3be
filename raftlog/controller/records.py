"""What the metadata log says, one typed struct per fact. Bytes in, bytes out.

Each record is the value of one Kafka record in a batch of `__cluster_metadata-0`. It is msgpack of an
array whose first element names the type and whose second is the version of that type:

    ["Topic", 1, name, topic_id, replicas, config, witnesses]

All records of one mutation travel in one batch, hence in one Raft entry: they are committed together
or not at all. A type or version that is not known here stops the replay with CorruptLogError: to
skip it would give this node another image than the others have.
"""

from __future__ import annotations

import msgspec

from raftlog.errors import CorruptLogError
from raftlog.types import Endpoint, TopicConfig

RECORD_VERSION = 1


class _Record(msgspec.Struct, array_like=True, tag=True, frozen=True):
    version: int = RECORD_VERSION


class ClusterRecord(_Record, tag="Cluster", frozen=True, kw_only=True):
    """The first record of every log: minted once, by the first leader. `voters` never change."""

    cluster_id: str
    voters: tuple[int, ...]


class NodeRecord(_Record, tag="Node", frozen=True, kw_only=True):
    """A node with this data directory, reachable there. Repeated when one of them changes."""

    node_id: int
    directory_id: str
    endpoint: Endpoint


class TopicRecord(_Record, tag="Topic", frozen=True, kw_only=True):
    """A new topic. `replicas[p]` are the nodes of partition p, the preferred leader first.

    `witnesses[p]` are its voters without records. Empty: no partition has any, as before there were witnesses.
    """

    name: str
    topic_id: bytes
    replicas: tuple[tuple[int, ...], ...]
    config: TopicConfig
    witnesses: tuple[tuple[int, ...], ...] = ()


class TopicConfigRecord(_Record, tag="TopicConfig", frozen=True, kw_only=True):
    """All settings of a topic, from here on."""

    name: str
    topic_id: bytes
    config: TopicConfig


class PartitionsRecord(_Record, tag="Partitions", frozen=True, kw_only=True):
    """More partitions of a topic, numbered on from those that it has. As in TopicRecord."""

    name: str
    topic_id: bytes
    replicas: tuple[tuple[int, ...], ...]
    witnesses: tuple[tuple[int, ...], ...] = ()


class TopicDeletedRecord(_Record, tag="TopicDeleted", frozen=True, kw_only=True):
    name: str
    topic_id: bytes


class MutationRecord(_Record, tag="Mutation", frozen=True, kw_only=True):
    """The request with this id has been carried out: by the records in front of this one, in the same batch.

    `codes`: the error codes of its topics, in its order; empty: all NONE.
    """

    mutation_id: bytes
    codes: tuple[int, ...] = ()


class ProducerIdsRecord(_Record, tag="ProducerIds", frozen=True, kw_only=True):
    """All producer ids below `next_producer_id` are given away, to the controller that wrote this."""

    next_producer_id: int


class SnapshotRecord(_Record, tag="Snapshot", frozen=True, kw_only=True):
    """The image of everything in front of this record, as image.encode_image gives it: the log may begin here."""

    image: bytes


MetadataRecord = (
    ClusterRecord
    | NodeRecord
    | TopicRecord
    | TopicConfigRecord
    | PartitionsRecord
    | TopicDeletedRecord
    | MutationRecord
    | ProducerIdsRecord
    | SnapshotRecord
)

_decoder: msgspec.msgpack.Decoder[MetadataRecord] = msgspec.msgpack.Decoder(MetadataRecord)

encode_record = msgspec.msgpack.Encoder().encode


def decode_record(value: bytes) -> MetadataRecord:
    """Raises CorruptLogError for what this version of raftlog cannot read."""
    try:
        record = _decoder.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CorruptLogError(f"a metadata record that this raftlog cannot read: {error}") from None
    if record.version > RECORD_VERSION:
        raise CorruptLogError(
            f"a metadata record of version {record.version}; this raftlog reads up to {RECORD_VERSION}"
        )
    return record
