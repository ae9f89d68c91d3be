"""The metadata image: all that the metadata log says, as a pure fold `(image, record) -> image`.

An image is a value. Every node that replayed the log up to the same offset holds an equal one, and
may hand it to others as bytes. Nothing in it is soft state: no leaders, no ports of workers.
"""

from __future__ import annotations

import msgspec

from raftlog.controller.records import (
    AclDeletedRecord,
    AclRecord,
    AssignmentRecord,
    ClientQuotaDeletedRecord,
    ClientQuotaRecord,
    ClusterRecord,
    FeaturesRecord,
    MetadataRecord,
    MutationRecord,
    NodeRecord,
    NodeRemovedRecord,
    PartitionsRecord,
    PlanCalledOffRecord,
    PlanRecord,
    ProducerIdsRecord,
    ScramCredentialDeletedRecord,
    ScramCredentialRecord,
    SecretRecord,
    SnapshotRecord,
    TopicConfigRecord,
    TopicDeletedRecord,
    TopicRecord,
)
from raftlog.errors import CorruptLogError
from raftlog.limits import MUTATIONS_REMEMBERED_MAX
from raftlog.security.policy import Security, User
from raftlog.security.scram import Credential
from raftlog.types import NO_VOTERS, Endpoint, Half, Plan, ReplicaSpec, TopicConfig


class NodeInfo(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """A node of the cluster, as the metadata log knows it.

    `registered_offset`: where in the metadata log this directory id appeared first.

    A partition created after it, on a node whose directory has no trace of it, is new there; one
    created before it was there and is lost. Of a partition whose replicas have moved it says neither.
    """

    node_id: int
    endpoint: Endpoint
    directory_id: str
    registered_offset: int


class Moves(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """Of a partition whose replicas have moved, or were to move, since it was made.

    `term`, `index`: of the configuration that the assignment is from; 0, 0: still that of the partition's creation.
    `since_offset`: of the newest record of it. `earlier`: whom plans in front of the present one have named since the
    assignment. A leader may have begun with one before it heard of the next, so they may count somewhere.
    """

    since_offset: int
    term: int = 0
    index: int = 0
    plan: Plan | None = None
    earlier: Half = NO_VOTERS

    @property
    def configuration(self) -> tuple[int, int]:
        return self.term, self.index


class TopicInfo(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """A topic, as the metadata log knows it.

    `created_offset`, `config_offset`, `added_offsets`: where the metadata log makes the topic, sets its `config`
    last, and adds each of the partitions that came later. `moves`: by partition, of those that have any.
    """

    name: str
    topic_id: bytes
    config: TopicConfig
    replicas: tuple[tuple[int, ...], ...]
    created_offset: int
    witnesses: tuple[tuple[int, ...], ...] = ()  # per partition; empty: none anywhere
    config_offset: int = -1
    added_offsets: tuple[int, ...] = ()
    moves: dict[int, Moves] = {}

    def half_of(self, partition: int) -> Half:
        """The assignment."""
        return Half(self.replicas[partition], self.witnesses_of(partition))

    def plan_of(self, partition: int) -> Plan | None:
        moves = self.moves.get(partition)
        return moves.plan if moves is not None else None

    def named_of(self, partition: int) -> Half:
        """Everyone who may be a voter: of the assignment, and of the plans since. No node is of both kinds."""
        half, moves = self.half_of(partition), self.moves.get(partition)
        if moves is None:
            return half
        return _joined(half, moves.plan.target if moves.plan else NO_VOTERS, moves.earlier)

    def witnesses_of(self, partition: int) -> tuple[int, ...]:
        return self.witnesses[partition] if self.witnesses else ()

    def created_offset_of(self, partition: int) -> int:
        added = partition - (len(self.replicas) - len(self.added_offsets))
        return self.added_offsets[added] if added >= 0 else self.created_offset

    def voters_of(self, partition: int) -> tuple[int, ...]:
        return self.replicas[partition] + self.witnesses_of(partition)

    def spec(self, partition: int) -> ReplicaSpec:
        return ReplicaSpec(
            topic=self.name,
            topic_id=self.topic_id,
            partition=partition,
            replicas=self.replicas[partition],
            witnesses=self.witnesses_of(partition),
            config=self.config,
        )


class Mutation(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """A change of topics that was carried out: where the metadata log says so, and with which error codes.

    `codes`: one of each of its topics, in its order; empty: all NONE.
    """

    mutation_id: bytes
    offset: int
    codes: tuple[int, ...] = ()


class Image(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """The cluster's metadata at one offset of the metadata log.

    `end_offset`: the metadata records in [0, end_offset) are in it. `mutations`: the last ones, oldest first.
    `removed`: the directories of nodes that were removed. `features`: what all nodes read, as FeaturesRecord says.
    """

    end_offset: int = 0
    cluster_id: str = ""
    voters: tuple[int, ...] = ()
    nodes: dict[int, NodeInfo] = {}
    topics: dict[str, TopicInfo] = {}
    next_producer_id: int = 0
    snapshot_offset: int = 0  # of the last SnapshotRecord: nothing in front of it is needed any more
    mutations: tuple[Mutation, ...] = ()
    security: Security = Security()
    removed: tuple[str, ...] = ()
    features: int = 0

    def hosted_by(self, node_id: int) -> list[tuple[TopicInfo, int]]:
        """The (topic, partition) that have a replica or a witness on the node, or may have one."""
        return [
            (topic, partition)
            for topic in self.topics.values()
            for partition in range(len(topic.replicas))
            if node_id in topic.named_of(partition).ids
        ]


def apply(image: Image, offset: int, record: MetadataRecord) -> Image:
    """The image after the record at `offset`. Raises CorruptLogError where the log contradicts itself."""
    assert offset >= image.end_offset, "a record is applied once, in order"
    end_offset = offset + 1
    match record:
        case ClusterRecord():
            if image.cluster_id:
                raise CorruptLogError("the metadata log names the cluster twice")
            return msgspec.structs.replace(
                image,
                end_offset=end_offset,
                cluster_id=record.cluster_id,
                voters=record.voters,
                features=record.features,
            )
        case FeaturesRecord():
            return msgspec.structs.replace(image, end_offset=end_offset, features=record.features)
        case NodeRecord() | NodeRemovedRecord():
            return msgspec.structs.replace(_with_nodes(image, offset, record), end_offset=end_offset)
        case TopicRecord():
            if record.name in image.topics:
                raise CorruptLogError(f"the metadata log creates topic {record.name} twice")
            topic = TopicInfo(
                name=record.name,
                topic_id=record.topic_id,
                config=record.config,
                replicas=record.replicas,
                created_offset=offset,
                witnesses=record.witnesses,
                config_offset=offset,
            )
            return msgspec.structs.replace(image, end_offset=end_offset, topics={**image.topics, record.name: topic})
        case TopicConfigRecord():
            topic = _known(image, record.name, record.topic_id, "changes the settings of")
            topic = msgspec.structs.replace(topic, config=record.config, config_offset=offset)
            return msgspec.structs.replace(image, end_offset=end_offset, topics={**image.topics, record.name: topic})
        case PartitionsRecord():
            topic = _with_partitions(_known(image, record.name, record.topic_id, "adds partitions to"), record, offset)
            return msgspec.structs.replace(image, end_offset=end_offset, topics={**image.topics, record.name: topic})
        case PlanRecord() | PlanCalledOffRecord() | AssignmentRecord():
            topic = _moved(_known(image, record.name, record.topic_id, "moves replicas of"), record, offset)
            return msgspec.structs.replace(image, end_offset=end_offset, topics={**image.topics, record.name: topic})
        case TopicDeletedRecord():
            gone = _known(image, record.name, record.topic_id, "deletes")
            topics = {name: topic for name, topic in image.topics.items() if topic is not gone}
            return msgspec.structs.replace(image, end_offset=end_offset, topics=topics)
        case MutationRecord():
            mutation = Mutation(mutation_id=record.mutation_id, offset=offset, codes=record.codes)
            mutations = (*image.mutations, mutation)[-MUTATIONS_REMEMBERED_MAX:]
            return msgspec.structs.replace(image, end_offset=end_offset, mutations=mutations)
        case ProducerIdsRecord():
            if record.next_producer_id <= image.next_producer_id:
                raise CorruptLogError("the metadata log gives producer ids away twice")
            return msgspec.structs.replace(image, end_offset=end_offset, next_producer_id=record.next_producer_id)
        case SecretRecord():
            security = msgspec.structs.replace(image.security, secret=record.secret)
            return msgspec.structs.replace(image, end_offset=end_offset, security=security)
        case ScramCredentialRecord() | ScramCredentialDeletedRecord() | AclRecord() | AclDeletedRecord():
            security = _secured(image.security, record, end_offset)
            return msgspec.structs.replace(image, end_offset=end_offset, security=security)
        case ClientQuotaRecord() | ClientQuotaDeletedRecord():
            security = _limited(image.security, record, end_offset)
            return msgspec.structs.replace(image, end_offset=end_offset, security=security)
        case SnapshotRecord():
            restored = decode_image(record.image)
            if image.end_offset and restored != image:
                raise CorruptLogError("a snapshot in the metadata log is another image than the records before it make")
            return msgspec.structs.replace(restored, end_offset=end_offset, snapshot_offset=offset)


def _with_nodes(image: Image, offset: int, record: NodeRecord | NodeRemovedRecord) -> Image:
    known = image.nodes.get(record.node_id)
    if isinstance(record, NodeRemovedRecord):
        if known is None:
            raise CorruptLogError(f"the metadata log removes node {record.node_id}, which is not there")
        nodes = {node_id: node for node_id, node in image.nodes.items() if node is not known}
        return msgspec.structs.replace(image, nodes=nodes, removed=(*image.removed, record.directory_id))
    same_directory = known is not None and known.directory_id == record.directory_id
    node = NodeInfo(
        node_id=record.node_id,
        endpoint=record.endpoint,
        directory_id=record.directory_id,
        registered_offset=known.registered_offset if known and same_directory else offset,
    )
    return msgspec.structs.replace(image, nodes={**image.nodes, record.node_id: node})


def _secured(
    security: Security,
    record: ScramCredentialRecord | ScramCredentialDeletedRecord | AclRecord | AclDeletedRecord,
    end_offset: int,
) -> Security:
    users, acls = security.users, security.acls
    match record:
        case ScramCredentialRecord():
            others = _other_credentials(security, record.user, record.credential.mechanism)
            users = {**users, record.user: User(credentials=(*others, record.credential), epoch=end_offset)}
        case ScramCredentialDeletedRecord():
            if record.user not in users:
                raise CorruptLogError(f"the metadata log deletes user {record.user}, who is not there")
            others = _other_credentials(security, record.user, record.mechanism)
            users = {name: user for name, user in users.items() if name != record.user}
            if others:
                users[record.user] = User(credentials=others, epoch=end_offset)
        case AclRecord():
            acls = (*acls, record.acl)
        case AclDeletedRecord():
            acls = tuple(acl for acl in acls if acl != record.acl)
    return msgspec.structs.replace(security, offset=end_offset, users=users, acls=acls)


def _other_credentials(security: Security, user: str, mechanism: int) -> tuple[Credential, ...]:
    known = security.users.get(user)
    return tuple(each for each in known.credentials if each.mechanism != mechanism) if known else ()


def _limited(security: Security, record: ClientQuotaRecord | ClientQuotaDeletedRecord, end_offset: int) -> Security:
    changed = record.quota if isinstance(record, ClientQuotaRecord) else record
    others = tuple(each for each in security.quotas if (each.entity, each.key) != (changed.entity, changed.key))
    quotas = (*others, record.quota) if isinstance(record, ClientQuotaRecord) else others
    return msgspec.structs.replace(security, offset=end_offset, quotas=quotas)


def _known(image: Image, name: str, topic_id: bytes, what: str) -> TopicInfo:
    topic = image.topics.get(name)
    if topic is None or topic.topic_id != topic_id:
        raise CorruptLogError(f"the metadata log {what} topic {name}, which is not there")
    return topic


def _with_partitions(topic: TopicInfo, record: PartitionsRecord, offset: int) -> TopicInfo:
    witnesses: tuple[tuple[int, ...], ...] = ()
    if topic.witnesses or record.witnesses:
        none = ((),)
        witnesses = (topic.witnesses or none * len(topic.replicas)) + (record.witnesses or none * len(record.replicas))
    return msgspec.structs.replace(
        topic,
        replicas=topic.replicas + record.replicas,
        witnesses=witnesses,
        added_offsets=topic.added_offsets + (offset,) * len(record.replicas),
    )


def _moved(topic: TopicInfo, record: PlanRecord | PlanCalledOffRecord | AssignmentRecord, offset: int) -> TopicInfo:
    partition = record.partition
    if not 0 <= partition < len(topic.replicas):
        raise CorruptLogError(f"the metadata log moves {topic.name}-{partition}, which is not there")
    moves = topic.moves.get(partition, Moves(since_offset=offset))
    plan = moves.plan
    match record:
        case PlanRecord():
            earlier = _joined(moves.earlier, plan.target) if plan is not None else moves.earlier
            target = Half(record.replicas, record.witnesses)
            plan = Plan(
                number=offset,
                target=target,
                bytes_per_s=record.bytes_per_s,
                then=record.then,
                witnesses_before=len(topic.witnesses_of(partition)) if record.then else 0,
            )
            moves = msgspec.structs.replace(moves, plan=plan, earlier=earlier)
        case AssignmentRecord():
            half = Half(record.replicas, record.witnesses)
            topic = _assigned(topic, partition, half)
            if plan is not None and (plan.called_off or plan.target == half):
                plan = _next_step(plan, half, offset)
            moves = msgspec.structs.replace(moves, term=record.term, index=record.index, plan=plan, earlier=NO_VOTERS)
        case PlanCalledOffRecord():
            if plan is None or plan.number != record.number:
                raise CorruptLogError(f"the metadata log calls off a plan that {topic.name}-{partition} does not have")
            moves = msgspec.structs.replace(
                moves, plan=msgspec.structs.replace(plan, called_off=True, then=record.then)
            )
    moves = msgspec.structs.replace(moves, since_offset=offset)
    return msgspec.structs.replace(topic, moves={**topic.moves, partition: moves})


def _next_step(plan: Plan, half: Half, offset: int) -> Plan | None:
    """`half` has the partition. What goes back to the witnesses of before holds for the replicas of before only."""
    if not plan.then or plan.then == (half,) or (plan.called_off and plan.then[0].replicas != half.replicas):
        return None
    return msgspec.structs.replace(plan, number=offset, target=plan.then[0], then=plan.then[1:], called_off=False)


def _assigned(topic: TopicInfo, partition: int, half: Half) -> TopicInfo:
    replicas = (*topic.replicas[:partition], half.replicas, *topic.replicas[partition + 1 :])
    witnesses = topic.witnesses
    if witnesses or half.witnesses:
        every = list(witnesses or ((),) * len(replicas))
        every[partition] = half.witnesses
        witnesses = tuple(every)
    return msgspec.structs.replace(topic, replicas=replicas, witnesses=witnesses)


def _joined(*halves: Half) -> Half:
    """All of them, each once."""
    replicas = dict.fromkeys(node_id for half in halves for node_id in half.replicas)
    witnesses = dict.fromkeys(node_id for half in halves for node_id in half.witnesses)
    return Half(tuple(replicas), tuple(witnesses))


_decoder = msgspec.msgpack.Decoder(Image, strict=True)

encode_image = msgspec.msgpack.Encoder().encode


def decode_image(data: bytes) -> Image:
    """Raises CorruptLogError for bytes that are no image of this version."""
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CorruptLogError(f"a metadata image that does not decode: {error}") from None
