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
from raftlog.security.acls import Acl
from raftlog.security.quotas import Entity, Quota
from raftlog.security.scram import Credential
from raftlog.types import Endpoint, Half, TopicConfig

RECORD_VERSION = 1


class _Record(msgspec.Struct, array_like=True, tag=True, frozen=True):
    version: int = RECORD_VERSION


class ClusterRecord(_Record, tag="Cluster", frozen=True, kw_only=True):
    """The first record of every log: minted once, by the first leader. `voters` never change."""

    cluster_id: str
    voters: tuple[int, ...]
    features: int = 0  # as in FeaturesRecord


class NodeRecord(_Record, tag="Node", frozen=True, kw_only=True):
    """A node with this data directory, reachable there. Repeated when one of them changes."""

    node_id: int
    directory_id: str
    endpoint: Endpoint


class NodeRemovedRecord(_Record, tag="NodeRemoved", frozen=True, kw_only=True):
    """The node is of the cluster no more. Its directory never comes back; its id may, with another one."""

    node_id: int
    directory_id: str


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


class PlanRecord(_Record, tag="Plan", frozen=True, kw_only=True):
    """These nodes shall have the partition, instead of what an earlier plan of it says. Its number is its offset.

    `then`: the steps behind this one.

    Committed BEFORE any leader may begin with it, so that nobody is a voter whom the metadata does not name.
    """

    name: str
    topic_id: bytes
    partition: int
    replicas: tuple[int, ...]
    witnesses: tuple[int, ...] = ()
    bytes_per_s: int = 0
    then: tuple[Half, ...] = ()


class PlanCalledOffRecord(_Record, tag="PlanCalledOff", frozen=True, kw_only=True):
    """The leader shall go back to the voters that there were, unless the new ones are alone already.

    `then`: a step that follows, for witnesses that an earlier step has taken away.
    """

    name: str
    topic_id: bytes
    partition: int
    number: int
    then: tuple[Half, ...] = ()


class AssignmentRecord(_Record, tag="Assignment", frozen=True, kw_only=True):
    """These nodes have the partition, as its leader has reported of a committed configuration, AFTER that.

    `term`, `index`: of that configuration. Whoever is named no more may remove what it has. A plan that wants these
    nodes, or is called off, ends with it, or its next step begins: a plan with this record's offset as its number.
    """

    name: str
    topic_id: bytes
    partition: int
    replicas: tuple[int, ...]
    witnesses: tuple[int, ...]
    term: int
    index: int


class FeaturesRecord(_Record, tag="Features", frozen=True, kw_only=True):
    """Every node of the cluster reads these (protocol/nodes.py, FEATURES), and no other is let in from here on."""

    features: int


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


class SecretRecord(_Record, tag="Secret", frozen=True, kw_only=True):
    """Random bytes that only nodes know. It comes with the first user or rule."""

    secret: bytes


class ScramCredentialRecord(_Record, tag="ScramCredential", frozen=True, kw_only=True):
    """What a user logs in with, from here on, in place of what there was for the mechanism."""

    user: str
    credential: Credential


class ScramCredentialDeletedRecord(_Record, tag="ScramCredentialDeleted", frozen=True, kw_only=True):
    """The user goes with the last one."""

    user: str
    mechanism: int


class AclRecord(_Record, tag="Acl", frozen=True, kw_only=True):
    """A new rule."""

    acl: Acl


class AclDeletedRecord(_Record, tag="AclDeleted", frozen=True, kw_only=True):
    acl: Acl


class ClientQuotaRecord(_Record, tag="ClientQuota", frozen=True, kw_only=True):
    """A quota from here on, in place of what its entity had for the key."""

    quota: Quota


class ClientQuotaDeletedRecord(_Record, tag="ClientQuotaDeleted", frozen=True, kw_only=True):
    entity: Entity
    key: str


class SnapshotRecord(_Record, tag="Snapshot", frozen=True, kw_only=True):
    """The image of everything in front of this record, as image.encode_image gives it: the log may begin here."""

    image: bytes


MetadataRecord = (
    ClusterRecord
    | NodeRecord
    | NodeRemovedRecord
    | TopicRecord
    | TopicConfigRecord
    | PartitionsRecord
    | PlanRecord
    | PlanCalledOffRecord
    | AssignmentRecord
    | FeaturesRecord
    | TopicDeletedRecord
    | MutationRecord
    | ProducerIdsRecord
    | SecretRecord
    | ScramCredentialRecord
    | ScramCredentialDeletedRecord
    | AclRecord
    | AclDeletedRecord
    | ClientQuotaRecord
    | ClientQuotaDeletedRecord
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
