"""What of a request its sender may have, decided BEFORE its handler: one guard for each API of Kafka's door.

A guard hands on what is allowed and answers the rest itself, so that a handler never sees it: whether a topic exists
that somebody may not see is told to nobody. Every row of the table has one (tests/kafka/test_guards.py), and none is
asked while there is no user and no rule.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any

from raftlog.errors import ErrorCode
from raftlog.kafka import wire
from raftlog.kafka.calls import Call, Fields, Handler
from raftlog.kafka.codes import KafkaCode
from raftlog.kafka.handlers.mutations import error_fields
from raftlog.security.acls import CLUSTER_NAME
from raftlog.security.acls import Operation as Op
from raftlog.security.acls import ResourceType as Kind

Guard = Callable[[Call, Handler], Coroutine[Any, Any, Fields | None]]
Refuse = Callable[[Any], Mapping[str, Any]]

_TOPIC = ErrorCode.TOPIC_AUTHORIZATION_FAILED
_GROUP = ErrorCode.GROUP_AUTHORIZATION_FAILED
_CLUSTER = ErrorCode.CLUSTER_AUTHORIZATION_FAILED
_TRANSACTION = KafkaCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED
_SAYS_SO_FROM = 3  # of DescribeLogDirs; before, there is no place for an error
_TRANSACTIONS = 1  # a key of FindCoordinator
_TOPIC_CONFIG, _GROUP_CONFIG = 2, 32  # kinds of resources that have settings; others are the cluster's


async def open_to_all(call: Call, handler: Handler) -> Fields | None:
    """Of what has to be answered before anybody has logged in, and of what names nothing."""
    return await handler(call)


# --- the whole request -----------------------------------------------------------------------------
def cluster(operation: Op, refused: Callable[[Call], Fields] | None = None) -> Guard:
    async def guard(call: Call, handler: Handler) -> Fields | None:
        if call.may_cluster(operation):
            return await handler(call)
        return _cluster_refused(call) if refused is None else refused(call)

    return guard


def _cluster_refused_fields() -> Fields:
    return error_fields(_CLUSTER, "not allowed to do this with the cluster")


def _cluster_refused(_call: Call) -> Fields:
    return _cluster_refused_fields()


def each_refused(request: str, answer: str, refuse: Refuse) -> Callable[[Call], Fields]:
    """Where an answer has no place for an error but in what it names."""
    return lambda call: {answer: [refuse(each) for each in getattr(call.request, request)]}


def no_log_dirs(call: Call) -> Fields:
    return {"error_code": int(_CLUSTER) if call.version >= _SAYS_SO_FROM else 0, "results": []}


def not_elected(call: Call) -> Fields:
    """Version 0 has the error in each partition only."""
    named = call.request.topic_partitions or []
    return {
        "error_code": int(_CLUSTER),
        "replica_election_results": [
            {
                "topic": topic.topic,
                "partition_result": [
                    {"partition_id": partition, **error_fields(_CLUSTER, "")} for partition in topic.partitions
                ],
            }
            for topic in named
        ],
    }


def no_acls(_call: Call) -> Fields:
    return {**_cluster_refused(_call), "resources": []}


def nothing_moved(_call: Call) -> Fields:
    return {**_cluster_refused(_call), "responses": [], "topics": []}


def no_quotas(_call: Call) -> Fields:
    return {**_cluster_refused(_call), "entries": None}


no_acls_made = each_refused("creations", "results", lambda _: _cluster_refused_fields())
no_acls_deleted = each_refused(
    "filters", "filter_results", lambda _: {**_cluster_refused_fields(), "matching_acls": []}
)


def no_quotas_altered(call: Call) -> Fields:
    entities = [
        [{"entity_type": each.entity_type, "entity_name": each.entity_name} for each in entry.entity]
        for entry in call.request.entries
    ]
    return {"entries": [{**_cluster_refused_fields(), "entity": entity} for entity in entities]}


def no_users_altered(call: Call) -> Fields:
    request = call.request
    names = dict.fromkeys(each.name for each in (*request.deletions, *request.upsertions))
    return {"results": [{"user": name, **_cluster_refused_fields()} for name in names]}


def group(operation: Op) -> Guard:
    """Of requests that are about one group."""

    async def guard(call: Call, handler: Handler) -> Fields | None:
        if call.may(operation, Kind.GROUP, call.request.group_id):
            return await handler(call)
        return {"error_code": int(_GROUP)}

    return guard


# --- what a request names --------------------------------------------------------------------------
def _name(call: Call, named: Any) -> str | None:
    """Of a topic; None: an id that no topic has, which the handler answers."""
    if isinstance(named, str):
        return named
    name = wire.field(named, "name", None) or wire.field(named, "topic", None)
    if name:
        return str(name)
    known = call.cluster.topic_of_id(wire.field(named, "topic_id", b""))
    return None if known is None else known.name


def split(call: Call, operation: Op, named: Iterable[Any]) -> tuple[list[Any], list[Any]]:
    """(allowed, refused)."""
    allowed: list[Any] = []
    refused: list[Any] = []
    for each in named:
        name = _name(call, each)
        fine = name is None or call.may(operation, Kind.TOPIC, name)
        (allowed if fine else refused).append(each)
    return allowed, refused


def topics(operation: Op, answer: str, refuse: Refuse, request: str = "topics") -> Guard:
    """Of requests with a list of topics: each that is refused gets its own error."""

    async def guard(call: Call, handler: Handler) -> Fields | None:
        allowed, refused = split(call, operation, getattr(call.request, request))
        if not refused:
            return await handler(call)
        setattr(call.request, request, allowed)
        fields = await handler(call)
        assert fields is not None, "it names topics, so it has an answer"
        return {**fields, answer: [*fields.get(answer, ()), *map(refuse, refused)]}

    return guard


def _as_named(topic: Any) -> dict[str, Any]:
    return {key: getattr(topic, key) for key in ("name", "topic", "topic_id") if hasattr(topic, key)}


def in_partitions(code: int, partitions: str, index: str, **others: Any) -> Refuse:
    """The error in each partition that was named."""

    def refuse(topic: Any) -> dict[str, Any]:
        return {
            **_as_named(topic),
            "partitions": [
                {index: each if isinstance(each, int) else getattr(each, index), "error_code": int(code), **others}
                for each in getattr(topic, partitions)
            ],
        }

    return refuse


def in_topic(topic: Any) -> dict[str, Any]:
    """The error of the topic itself."""
    return {**_as_named(topic), **error_fields(_TOPIC, "not allowed to do this with the topic")}


TOPIC_IN_PARTITIONS = in_partitions(_TOPIC, "partitions", "partition_index")
TOPIC_IN_EPOCHS = in_partitions(_TOPIC, "partitions", "partition")
TOPIC_IN_RECORDS = in_partitions(_TOPIC, "partitions", "partition_index", low_watermark=-1)
TOPIC_IN_PRODUCERS = in_partitions(_TOPIC, "partition_indexes", "partition_index", active_producers=[])


# --- Metadata, DescribeTopicPartitions -------------------------------------------------------------
async def metadata(call: Call, handler: Handler) -> Fields | None:
    """All topics: those that it may see. A topic that would be made needs CREATE besides."""
    request = call.request
    if request.topics is None or (call.version == 0 and not request.topics):
        fields = await handler(call)
        assert fields is not None
        return {**fields, "topics": [each for each in fields["topics"] if _sees(call, each["name"])]}
    allowed, hidden = split(call, Op.DESCRIBE, request.topics)
    if wire.field(request, "allow_auto_topic_creation", True):
        allowed, more = _without_new(call, allowed)
        hidden += more
    if not hidden:
        return await handler(call)
    request.topics = allowed
    if allowed:
        fields = await handler(call)
    else:  # an empty list may mean all of them
        fields = await handler(_of_none(call))
        fields = {**(fields or {}), "topics": []}
    assert fields is not None
    return {**fields, "topics": [*fields["topics"], *(_hidden(call, each) for each in hidden)]}


def _of_none(call: Call) -> Call:
    call.request.topics = None
    return call


def _without_new(call: Call, named: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """Topics that are not there, and that it may not make, are refused as Kafka does."""
    may_all = call.may_cluster(Op.CREATE)
    fine: list[Any] = []
    refused: list[Any] = []
    for each in named:
        is_new = bool(each.name) and each.name not in call.cluster.topics and call.settings.auto_create_topics
        ok = not is_new or may_all or call.may(Op.CREATE, Kind.TOPIC, each.name)
        (fine if ok else refused).append(each)
    return fine, refused


def _sees(call: Call, name: str) -> bool:
    return call.sees(Op.DESCRIBE, Kind.TOPIC, name)


def _hidden(call: Call, asked: Any) -> dict[str, Any]:
    by_name = bool(asked.name)
    return {
        "error_code": int(_TOPIC),
        "name": asked.name if by_name or call.version >= 12 else "",
        "topic_id": bytes(16) if by_name else asked.topic_id,
        "is_internal": by_name and call.cluster.is_internal(asked.name),
    }


async def topic_partitions(call: Call, handler: Handler) -> Fields | None:
    request = call.request
    if request.topics:
        allowed, hidden = split(call, Op.DESCRIBE, request.topics)
        request.topics = allowed
        fields = await handler(call) if allowed else {"topics": []}
    else:
        hidden = []
        fields = await handler(call)
    assert fields is not None
    told = [each for each in fields["topics"] if _sees(call, each["name"])]
    refused = [{"error_code": int(_TOPIC), "name": each.name} for each in hidden]
    return {**fields, "topics": [*told, *refused]}


# --- groups ----------------------------------------------------------------------------------------
async def describe_groups(call: Call, handler: Handler) -> Fields | None:
    return await _each_group(call, handler, Op.DESCRIBE, "groups", "groups")


async def delete_groups(call: Call, handler: Handler) -> Fields | None:
    return await _each_group(call, handler, Op.DELETE, "groups_names", "results")


async def _each_group(call: Call, handler: Handler, operation: Op, request: str, answer: str) -> Fields | None:
    named = getattr(call.request, request)
    allowed = [each for each in named if call.may(operation, Kind.GROUP, each)]
    setattr(call.request, request, allowed)
    fields = await handler(call)
    assert fields is not None
    refused = [{"group_id": each, "error_code": int(_GROUP)} for each in named if each not in allowed]
    return {**fields, answer: [*fields.get(answer, ()), *refused]}


async def list_groups(call: Call, handler: Handler) -> Fields | None:
    """Whoever may describe the cluster is told of all; others of those that they may see, without an error."""
    fields = await handler(call)
    if fields is None or call.sees(Op.DESCRIBE, Kind.CLUSTER, CLUSTER_NAME):
        return fields
    seen = [each for each in fields.get("groups", ()) if call.sees(Op.DESCRIBE, Kind.GROUP, each["group_id"])]
    return {**fields, "groups": seen}


async def find_coordinator(call: Call, handler: Handler) -> Fields | None:
    request = call.request
    keys = wire.field(request, "coordinator_keys", None)
    transactions = wire.field(request, "key_type", 0) == _TRANSACTIONS
    kind, code = (Kind.TRANSACTIONAL_ID, int(_TRANSACTION)) if transactions else (Kind.GROUP, int(_GROUP))
    nobody = {"node_id": -1, "host": "", "port": -1, "error_code": code}
    if keys is None:
        return await handler(call) if call.may(Op.DESCRIBE, kind, request.key) else nobody
    request.coordinator_keys = [key for key in keys if call.may(Op.DESCRIBE, kind, key)]
    fields = await handler(call)
    assert fields is not None
    refused = [{"key": key, **nobody} for key in keys if key not in request.coordinator_keys]
    return {**fields, "coordinators": [*fields["coordinators"], *refused]}


# --- committed offsets -----------------------------------------------------------------------------
async def offset_commit(call: Call, handler: Handler) -> Fields | None:
    if not call.may(Op.READ, Kind.GROUP, call.request.group_id):
        refuse = in_partitions(_GROUP, "partitions", "partition_index")
        return {"topics": [refuse(topic) for topic in call.request.topics]}
    return await topics(Op.READ, "topics", TOPIC_IN_PARTITIONS)(call, handler)


async def offset_delete(call: Call, handler: Handler) -> Fields | None:
    if not call.may(Op.DELETE, Kind.GROUP, call.request.group_id):
        return {"error_code": int(_GROUP)}
    return await topics(Op.READ, "topics", TOPIC_IN_PARTITIONS)(call, handler)


async def offset_fetch(call: Call, handler: Handler) -> Fields | None:
    """All that a group has committed: of the topics that the sender may see."""
    request = call.request
    several = wire.field(request, "groups", None)
    asked = [request] if several is None else several
    refused_groups = [each for each in asked if not call.may(Op.DESCRIBE, Kind.GROUP, each.group_id)]
    hidden: dict[str, list[Any]] = {}
    for each in asked:
        if each.topics is not None:
            each.topics, hidden[each.group_id] = split(call, Op.DESCRIBE, each.topics)
    if several is None:
        if refused_groups:
            return {"error_code": int(_GROUP), "topics": _no_offsets(_GROUP, [*(request.topics or ())])}
        fields = await handler(call)
        return None if fields is None else _seen_offsets(call, fields, hidden.get(request.group_id, []))
    request.groups = [each for each in several if each not in refused_groups]
    fields = await handler(call)
    assert fields is not None
    told = [_seen_offsets(call, each, hidden.get(each["group_id"], [])) for each in fields["groups"]]
    return {"groups": [*told, *({"group_id": each.group_id, "error_code": int(_GROUP)} for each in refused_groups)]}


def _seen_offsets(call: Call, fields: Fields, hidden: Sequence[Any]) -> dict[str, Any]:
    seen = [each for each in fields.get("topics", ()) if _sees(call, _topic_named(call, each))]
    return {**fields, "topics": [*seen, *_no_offsets(_TOPIC, hidden)]}


def _topic_named(call: Call, fields: Mapping[str, Any]) -> str:
    known = None if fields.get("name") else call.cluster.topic_of_id(fields.get("topic_id", b""))
    return known.name if known else fields.get("name", "")


def _no_offsets(code: int, named: Sequence[Any]) -> list[dict[str, Any]]:
    return [
        {
            **_as_named(topic),
            "partitions": [
                {
                    "partition_index": partition,
                    "committed_offset": -1,
                    "committed_leader_epoch": -1,
                    "metadata": "",
                    "error_code": int(code),
                }
                for partition in topic.partition_indexes
            ],
        }
        for topic in named
    ]


# --- topics ----------------------------------------------------------------------------------------
async def create_topics(call: Call, handler: Handler) -> Fields | None:
    """Who may not read settings is not told those of the new topic."""
    request = call.request
    refused: list[Any] = []
    if not call.may_cluster(Op.CREATE):
        allowed = [each for each in request.topics if call.may(Op.CREATE, Kind.TOPIC, each.name)]
        refused = [each for each in request.topics if each not in allowed]
        request.topics = allowed
    fields = await handler(call)
    assert fields is not None
    told = [_made(call, each) for each in fields["topics"]]
    none = {"num_partitions": -1, "replication_factor": -1, "configs": None}
    gone = [{**_as_named(each), **error_fields(_TOPIC, "not allowed to make this topic"), **none} for each in refused]
    return {**fields, "topics": [*told, *gone]}


def _made(call: Call, fields: Mapping[str, Any]) -> Mapping[str, Any]:
    if fields["error_code"] or call.sees(Op.DESCRIBE_CONFIGS, Kind.TOPIC, fields["name"]):
        return fields
    hidden = {"num_partitions": -1, "replication_factor": -1, "configs": None, "topic_config_error_code": int(_TOPIC)}
    return {**fields, **hidden}


async def delete_topics(call: Call, handler: Handler) -> Fields | None:
    """One that is not there is 'unknown' to whoever may describe it."""
    request = call.request
    key = "topic_names" if hasattr(request, "topic_names") else "topics"
    named = getattr(request, key)
    allowed: list[Any] = []
    refused: list[dict[str, Any]] = []
    for each in named:
        name = _name(call, each)
        if name is None or call.may(Op.DELETE, Kind.TOPIC, name):
            allowed.append(each)
            continue
        seen = _sees(call, name)
        code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION if seen and name not in call.cluster.topics else _TOPIC
        by_id = not isinstance(each, str) and not each.name
        fields = {"name": None if by_id and not seen else name, **error_fields(code, "not allowed to delete it")}
        refused.append({**fields, "topic_id": each.topic_id} if by_id else fields)
    setattr(request, key, allowed)
    answer = await handler(call)
    assert answer is not None
    return {**answer, "responses": [*answer["responses"], *refused]}


# --- settings --------------------------------------------------------------------------------------
def configs(operation: Op, answer: str) -> Guard:
    async def guard(call: Call, handler: Handler) -> Fields | None:
        resources = call.request.resources
        codes = [_config_code(call, operation, each) for each in resources]
        call.request.resources = [each for each, code in zip(resources, codes, strict=True) if not code]
        fields = await handler(call)
        assert fields is not None
        refused = [
            {
                "resource_type": each.resource_type,
                "resource_name": each.resource_name,
                "configs": [],
                **error_fields(code, "not allowed to do this with its settings"),
            }
            for each, code in zip(resources, codes, strict=True)
            if code
        ]
        return {**fields, answer: [*fields[answer], *refused]}

    return guard


def _config_code(call: Call, operation: Op, resource: Any) -> int:
    name = resource.resource_name
    if resource.resource_type == _TOPIC_CONFIG:
        return 0 if call.may(operation, Kind.TOPIC, name) else int(_TOPIC)
    if resource.resource_type == _GROUP_CONFIG:
        return 0 if call.may(operation, Kind.GROUP, name) else int(_GROUP)
    return 0 if call.may_cluster(operation) else int(_CLUSTER)


# --- producers -------------------------------------------------------------------------------------
async def init_producer_id(call: Call, handler: Handler) -> Fields | None:
    """WRITE on any topic is enough, as whoever may write may do so once."""
    transactional_id = call.request.transactional_id
    none = {"producer_id": -1, "producer_epoch": -1}
    if transactional_id is not None:
        if not call.may(Op.WRITE, Kind.TRANSACTIONAL_ID, transactional_id):
            return {"error_code": int(_TRANSACTION), **none}
    elif not call.may_cluster(Op.IDEMPOTENT_WRITE) and not call.may_any(Op.WRITE, Kind.TOPIC):
        return {"error_code": int(_CLUSTER), **none}
    return await handler(call)
