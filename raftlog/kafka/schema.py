"""Kafka's messages as data: which fields a request or an answer has in a version. The one home of kio.

kio is generated from Kafka's own schemas and says what is in each version. Its compiled readers are not used: they
reserve memory for as many elements as a request announces, and refuse fields of newer clients (measured with 0.6.5).
"""

from __future__ import annotations

import dataclasses
import functools
import typing
from datetime import timedelta
from typing import Any, NamedTuple

from kio.index import KioIndexError, load_request_schema, load_response_schema


class Field(NamedTuple):
    """A field of a message of Kafka's protocol.

    `kind`: the primitive, or "" where `entity` says what is in it. `tag` None: always there (KIP-482).
    """

    name: str
    kind: str
    entity: Entity | None
    is_array: bool
    nullable: bool
    tag: int | None
    default: Any


class Entity(NamedTuple):
    """A message, or a structure within one."""

    name: str
    fields: tuple[Field, ...]
    flexible: bool


@functools.cache
def request_schema(api_key: int, version: int) -> Entity | None:
    """None: there is no such version."""
    return _schema(api_key, version, load_request_schema, _LATER_REQUESTS)


@functools.cache
def answer_schema(api_key: int, version: int) -> Entity | None:
    return _schema(api_key, version, load_response_schema, _LATER_ANSWERS)


def formats_known() -> int:
    """Of how many requests and answers the format was looked up since the process began. What was, stays in memory."""
    return request_schema.cache_info().currsize + answer_schema.cache_info().currsize


def _schema(api_key: int, version: int, load: Any, later: dict[tuple[int, int], Any]) -> Entity | None:
    change = later.get((api_key, version))
    if change is not None:
        before = _schema(api_key, version - 1, load, later)
        assert before is not None, "a version that kio lacks follows one that it has"
        changed: Entity = change(before)
        return changed
    try:
        return _entity(load(api_key, version))
    except KioIndexError:
        return None


@functools.cache
def _entity(described: Any) -> Entity:
    hints = typing.get_type_hints(described)
    fields = tuple(_field(each, hints[each.name]) for each in dataclasses.fields(described))
    return Entity(described.__name__, fields, described.__flexible__)


def _field(described: dataclasses.Field[Any], hint: Any) -> Field:
    kind = described.metadata.get("kafka_type", "")
    options = [each for each in typing.get_args(hint) if each is not type(None)]
    # A UUID may always be null for kio: that is how it shows the one of zeros.
    nullable = type(None) in typing.get_args(hint)
    if nullable and len(options) == 1:
        hint = options[0]
    is_array = typing.get_origin(hint) is tuple
    if is_array:
        hint = typing.get_args(hint)[0]
    entity = None if kind else _entity(hint)
    default = _default(described.default)
    if kind == "uuid" and default is None:
        default = bytes(16)
    return Field(described.name, kind, entity, is_array, nullable, described.metadata.get("tag"), default)


def _default(value: Any) -> Any:
    """As requests and answers of this package have values; MISSING where the schema gives none."""
    if value is dataclasses.MISSING or value is None or isinstance(value, str | bytes | bool):
        return value
    if isinstance(value, timedelta):
        return value // timedelta(milliseconds=1)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, tuple):
        return ()
    return {}  # a structure of defaults


def _string(name: str) -> Field:
    return Field(name, "string", None, is_array=False, nullable=True, tag=None, default=None)


def _cluster_and_node(before: Entity) -> Entity:
    """ApiVersions 5: whom the client believes to speak with (KIP-1242)."""
    node_id = Field("node_id", "int32", None, is_array=False, nullable=False, tag=None, default=-1)
    return before._replace(fields=(*before.fields, _string("cluster_id"), node_id))


def _message_of_each_group(before: Entity) -> Entity:
    """DeleteGroups 3: each result says why."""
    results = [
        each._replace(entity=each.entity._replace(fields=(*each.entity.fields, _string("error_message"))))
        if each.name == "results" and each.entity is not None
        else each
        for each in before.fields
    ]
    return before._replace(fields=tuple(results))


_API_VERSIONS, _DELETE_GROUPS = 18, 42
# Versions that kio 0.6.5 lacks, and that clients of today send. Source: kafka-clients 4.4.0.
_LATER_REQUESTS = {(_API_VERSIONS, 5): _cluster_and_node, (_DELETE_GROUPS, 3): lambda before: before}
_LATER_ANSWERS = {(_API_VERSIONS, 5): lambda before: before, (_DELETE_GROUPS, 3): _message_of_each_group}
