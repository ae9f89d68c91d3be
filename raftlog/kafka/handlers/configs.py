"""DescribeConfigs, AlterConfigs, IncrementalAlterConfigs: of topics; those of a broker are read only."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from raftlog.config import change_topic_config, check_in_sync, check_topic_name, is_topic_setting
from raftlog.errors import (
    ErrorCode,
    InvalidConfigError,
    InvalidRequestError,
    RaftlogError,
    UnknownTopicOrPartitionError,
)
from raftlog.kafka import broker_settings, topic_settings, wire
from raftlog.kafka.calls import Call, Fields
from raftlog.kafka.cluster import Cluster
from raftlog.kafka.handlers.mutations import Attempt, change_each, error_fields, patience_ms, settle
from raftlog.kafka.topic_settings import Kind, Value
from raftlog.protocol import apis
from raftlog.protocol.cluster import TopicMetadata
from raftlog.protocol.topics import IncrementalAlterConfigsRequest
from raftlog.types import TopicConfig

_TOPIC, _BROKER = 2, 4


# Of kafka-reassign-partitions with --throttle, which takes them away again with --verify.
_THROTTLES = ("leader.replication.throttled.", "follower.replication.throttled.")
_FED = (
    "new replicas are fed at a bounded rate, so that producers keep most of the disk and the network: leave --throttle "
    "out; `raftlog cluster moves --throttle` changes the rate, also while they move"
)


class _Operation(enum.IntEnum):
    SET = 0
    DELETE = 1
    APPEND = 2
    SUBTRACT = 3


class Change(NamedTuple):
    """What becomes of the settings of one topic."""

    config: dict[str, str]
    reset: list[str]


# --- DescribeConfigs -------------------------------------------------------------------------------
async def describe_configs(call: Call) -> Fields:
    return {"results": [_described(call, resource) for resource in call.request.resources]}


def _described(call: Call, resource: Any) -> dict[str, Any]:
    kind, name = resource.resource_type, resource.resource_name
    fields = {"resource_type": kind, "resource_name": name}
    try:
        found = _values(call, kind, name)
    except RaftlogError as error:
        return {**fields, **error_fields(error.code, str(error)), "configs": []}
    keys = resource.configuration_keys
    return {**fields, "configs": [_entry(call, each) for each in found if not keys or each.name in keys]}


def _values(call: Call, kind: int, name: str) -> list[Value]:
    """Raises RaftlogError."""
    if kind == _TOPIC:
        return topic_settings.values(_topic(call, name).config)
    if kind != _BROKER:
        raise InvalidRequestError(f"resources of type {kind} have no settings here: 2 is a topic, 4 a broker")
    if not name:
        return []  # what has been set for all brokers: nothing
    if name != str(call.settings.node_id):
        raise InvalidRequestError(f"this is broker {call.settings.node_id}, which does not know what {name} has")
    return broker_settings.values(call.cluster, call.settings)


def _entry(call: Call, value: Value) -> dict[str, Any]:
    request = call.request
    synonyms = value.synonyms if request.include_synonyms else ()
    return {
        "name": value.name,
        "value": value.value,
        "read_only": value.read_only,
        "config_source": int(value.source),
        "synonyms": [{"name": name, "value": text, "source": int(source)} for name, text, source in synonyms],
        "config_type": int(value.kind),
        "documentation": value.text if wire.field(request, "include_documentation", False) else None,
    }


def _topic(call: Call, name: str) -> TopicMetadata:
    """Raises InvalidTopicError, UnknownTopicOrPartitionError."""
    check_topic_name(name, internal=True)
    topic = call.cluster.topics.get(name)
    if topic is None:
        raise UnknownTopicOrPartitionError(f"there is no topic {name}")
    return topic


# --- AlterConfigs, IncrementalAlterConfigs ---------------------------------------------------------
async def alter_configs(call: Call) -> Fields:
    """The old way: what is not named goes back to its default."""

    def change(_topic: TopicMetadata, configs: Any) -> Change:
        null = next((each.name for each in configs if each.value is None), None)
        if null is not None:
            raise InvalidRequestError(f"topic config {null} is given without a value")
        wanted = topic_settings.without_fixed((each.name, each.value) for each in configs)
        return Change(wanted, [name for name in topic_settings.own_names() if name not in wanted])

    return await _alter(call, change)


async def incremental_alter_configs(call: Call) -> Fields:
    return await _alter(call, _increment)


async def _alter(call: Call, change: Any) -> Fields:
    resources = call.request.resources
    counts = Counter((each.resource_type, each.resource_name) for each in resources)
    answers: dict[tuple[int, str], dict[str, Any]] = {}
    wanted: dict[str, Change] = {}
    for resource in resources:
        key = (resource.resource_type, resource.resource_name)
        try:
            changed = _judge(call, resource, counts[key], change)
            answers[key] = error_fields(ErrorCode.NONE, "")
            if changed.config or changed.reset:
                wanted[resource.resource_name] = changed
        except RaftlogError as error:
            answers[key] = error_fields(error.code, str(error))
    answers |= await _carry_out(call, wanted)
    return {
        "responses": [{"resource_type": kind, "resource_name": name, **answers[(kind, name)]} for kind, name in counts]
    }


def _judge(call: Call, resource: Any, count: int, change: Any) -> Change:
    """What has to be asked of the controller. Raises RaftlogError for what it would refuse, as far as is known here."""
    name = resource.resource_name
    if count > 1:
        raise InvalidRequestError(f"{name!r} is named twice")
    if resource.resource_type == _BROKER:
        return _of_broker(resource.configs)
    if resource.resource_type != _TOPIC:
        raise InvalidRequestError(f"resources of type {resource.resource_type} have no settings here: 2 is a topic")
    topic = _topic(call, name)
    changed: Change = change(topic, resource.configs)
    check_in_sync(_changed_config(topic, changed), len(topic.partitions[0].replicas))
    return changed


def _of_broker(configs: Any) -> Change:
    """Nothing can be set, so what is deleted is at its default already. Raises InvalidRequestError."""
    for each in configs:
        if wire.field(each, "config_operation", _Operation.SET) != _Operation.DELETE:
            at_start = "a broker's settings are given at its start, see `raftlog node start --help`"
            raise InvalidRequestError(_FED if each.name.startswith(_THROTTLES) else at_start)
    return Change({}, [])


def _changed_config(topic: TopicMetadata, change: Change) -> TopicConfig:
    """Raises InvalidConfigError."""
    return change_topic_config(msgspec.convert(topic.config, TopicConfig), change.config, change.reset)


def _is_so(cluster: Cluster, name: str, change: Change) -> bool:
    """The change would change nothing any more."""
    topic = cluster.topics.get(name)
    return topic is None or msgspec.structs.asdict(_changed_config(topic, change)) == topic.config


def _increment(topic: TopicMetadata, configs: Any) -> Change:
    """Raises RaftlogError."""
    config: dict[str, str] = {}
    reset: list[str] = []
    for each in configs:
        if each.name in config or each.name in reset:
            raise InvalidRequestError(f"topic config {each.name} is named twice")
        if each.config_operation == _Operation.DELETE:
            if is_topic_setting(each.name):  # others are not set: MirrorMaker names all that Kafka has
                reset.append(each.name)
        elif each.value is None:
            raise InvalidRequestError(f"topic config {each.name} is given without a value")
        elif each.name.startswith(_THROTTLES):
            raise InvalidConfigError(_FED)
        elif each.config_operation == _Operation.SET:
            if not topic_settings.is_fixed(each.name, each.value):
                config[each.name] = each.value
        else:
            config[each.name] = _with_words(topic, each)
    return Change(config, reset)


def _with_words(topic: TopicMetadata, each: Any) -> str:
    """The value of a list with some of its words added, or taken away."""
    setting = topic_settings.BY_NAME.get(each.name)
    if setting is None or setting.kind is not Kind.LIST:
        raise InvalidConfigError(f"topic config {each.name} is no list: it can only be set or deleted")
    if each.config_operation not in (_Operation.APPEND, _Operation.SUBTRACT):
        raise InvalidRequestError(f"there is no operation {each.config_operation} on a setting")
    now = next(value.value for value in topic_settings.values(topic.config) if value.name == each.name)
    words, named = _words(now), _words(each.value)
    if each.config_operation == _Operation.APPEND:
        return ",".join(dict.fromkeys([*words, *named]))
    return ",".join(word for word in words if word not in named)


def _words(text: str) -> Iterable[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


async def _carry_out(call: Call, wanted: dict[str, Change]) -> dict[tuple[int, str], dict[str, Any]]:
    names = list(wanted)

    def build(place: int, attempt: Attempt) -> IncrementalAlterConfigsRequest:
        config, reset = wanted[names[place]]
        return IncrementalAlterConfigsRequest(
            attempt.mutation_id,
            attempt.end_offset,
            name=names[place],
            topic_id=attempt.topic_ids[0],
            config=config,
            reset=reset,
            validate_only=call.request.validate_only,
        )

    deadline_s = call.now_s + patience_ms(0) / 1000
    results = await change_each(call, names, apis.INCREMENTAL_ALTER_CONFIGS, build, deadline_s)
    if not call.request.validate_only:
        made = {result.name: wanted[result.name] for result in results if not result.error_code}
        await settle(call, deadline_s, made, lambda cluster: all(_is_so(cluster, *each) for each in made.items()))
    return {(_TOPIC, result.name): error_fields(result.error_code, result.error_text) for result in results}
