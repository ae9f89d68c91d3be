"""Readers of requests, made from their schemas. They take memory for what is there, never for what is announced."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import struct
from collections.abc import Callable, Iterable
from typing import Any

from raftlog import limits
from raftlog.kafka.schema import Entity, Field, request_schema
from raftlog.types import Buffer

Read = Callable[[Buffer, int], tuple[Any, int]]
"""read(frame, at) gives the value and the position behind it."""


class UnreadableRequestError(Exception):
    """What came is no request that is served here; the text says why."""


class _Items:
    """How many the lists of the request that is being read may still have. Reading is never suspended."""

    left = 0


def read_whole(read: Read, frame: Buffer, at: int) -> tuple[Any, int]:
    """A request with all its lists, bounded together. Raises UnreadableRequestError, and what a cut one leads to."""
    _Items.left = limits.KAFKA_ITEMS_MAX
    return read(frame, at)


def unsigned_varint(frame: Buffer, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 35:
        byte = frame[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise UnreadableRequestError("a number of more than five bytes")


def skip_tagged_fields(frame: Buffer, at: int) -> int:
    """The position behind them, whatever they are."""
    count, at = unsigned_varint(frame, at)
    for _ in range(count):
        _, at = unsigned_varint(frame, at)
        size, at = unsigned_varint(frame, at)
        at = _behind(frame, at, size)
    return at


def _behind(frame: Buffer, at: int, size: int) -> int:
    if size > len(frame) - at:
        raise UnreadableRequestError("it ends within a field")
    return at + size


@functools.cache
def request_reader(api_key: int, version: int) -> Read | None:
    """Of the body; None: there is no such version."""
    schema = request_schema(api_key, version)
    return None if schema is None else _entity_reader(schema)


def _entity_reader(schema: Entity) -> Read:
    plain = [field for field in schema.fields if field.tag is None]
    tagged = [field for field in schema.fields if field.tag is not None]
    tags = {field.tag: (place, _field_reader(field, schema.flexible)) for place, field in enumerate(tagged)}
    defaults = [_empty(field.entity) if field.default == {} else field.default for field in tagged]
    names = [field.name for field in (*plain, *tagged)]
    make = dataclasses.make_dataclass(schema.name, names, slots=True)
    steps = _steps(plain, schema.flexible)
    flexible = schema.flexible

    def read_entity(frame: Buffer, at: int) -> tuple[Any, int]:
        values: list[Any] = []
        for fixed_bytes, step in steps:
            if fixed_bytes:
                values += step(frame, at)
                at += fixed_bytes
            else:
                value, at = step(frame, at)
                values.append(value)
        if not flexible:
            return make(*values), at
        count, at = unsigned_varint(frame, at)
        others = defaults[:]
        for _ in range(count):
            tag, at = unsigned_varint(frame, at)
            size, at = unsigned_varint(frame, at)
            following = _behind(frame, at, size)
            known = tags.get(tag)
            if known is not None:  # a newer client may say more than this door knows (KIP-482)
                place, read = known
                others[place], at = read(frame, at)
                if at != following:
                    raise UnreadableRequestError(f"a tagged field that is not {size} bytes long")
            at = following
        return make(*values, *others), at

    return read_entity


def _steps(fields: Iterable[Field], flexible: bool) -> list[tuple[int, Callable[[Buffer, int], Any]]]:
    """How many bytes a step takes, and what gives their values: neighbours of fixed sizes are read at once.

    0: that is for the field's reader to say.
    """
    steps: list[tuple[int, Callable[[Buffer, int], Any]]] = []
    for is_fixed, run in itertools.groupby(fields, lambda field: field.kind in _FORMS and not field.is_array):
        if is_fixed:
            form = struct.Struct(">" + "".join(_FORMS[field.kind] for field in run))
            steps.append((form.size, form.unpack_from))
        else:
            steps += [(0, _field_reader(field, flexible)) for field in run]
    return steps


def _empty(schema: Entity | None) -> Any:
    """A structure of defaults."""
    assert schema is not None, "only a structure has such a default"
    make = dataclasses.make_dataclass(schema.name, [field.name for field in schema.fields], slots=True)
    return make(*[None if field.default is dataclasses.MISSING else field.default for field in schema.fields])


def _field_reader(field: Field, flexible: bool) -> Read:
    if field.entity is not None:
        read = _entity_reader(field.entity)
        if field.nullable and not field.is_array:
            return _optional_reader(read)
    elif field.kind in _SIZED:
        read = _sized_reader(field, flexible)
    else:
        read = _FIXED[field.kind]
    return _array_reader(read, field, flexible) if field.is_array else read


def _optional_reader(read: Read) -> Read:
    """A structure that may be null: a byte says whether it is there."""

    def read_optional(frame: Buffer, at: int) -> tuple[Any, int]:
        there, at = _FIXED["int8"](frame, at)
        return read(frame, at) if there >= 0 else (None, at)

    return read_optional


def _fixed(form: str) -> Read:
    unpack, size = struct.Struct(form).unpack_from, struct.calcsize(form)

    def read_number(frame: Buffer, at: int) -> tuple[Any, int]:
        return unpack(frame, at)[0], at + size

    return read_number


_FORMS = {
    "bool": "?",
    "int8": "b",
    "int16": "h",
    "int32": "i",
    "int64": "q",
    "uint16": "H",
    "float64": "d",
    "error_code": "h",
    "timedelta_i32": "i",  # milliseconds
    "timedelta_i64": "q",
    "datetime_i64": "q",
    "uuid": "16s",
}
_FIXED: dict[str, Read] = {kind: _fixed(">" + form) for kind, form in _FORMS.items()}
_SIZED = {"string": ">h", "bytes": ">i", "records": ">i"}


def _size_reader(form: str, flexible: bool, nullable: bool) -> Read:
    """Of a length or a count; -1: null. The compact form is one more than what is meant."""
    read_size = unsigned_varint if flexible else _fixed(form)
    less = 1 if flexible else 0

    def read(frame: Buffer, at: int) -> tuple[int, int]:
        size, at = read_size(frame, at)
        size -= less
        if size < 0 and (size < -1 or not nullable):
            raise UnreadableRequestError("null, or a negative length, where none may be")
        if size > len(frame) - at:
            raise UnreadableRequestError("it says more than it holds")
        return size, at

    return read


def _sized_reader(field: Field, flexible: bool) -> Read:
    # An array of strings may be null itself; none of its strings may.
    read_size = _size_reader(_SIZED[field.kind], flexible, field.nullable and not field.is_array)
    is_text, is_records = field.kind == "string", field.kind == "records"

    def read(frame: Buffer, at: int) -> tuple[Any, int]:
        size, at = read_size(frame, at)
        if size < 0:
            return None, at
        data = frame[at : at + size]
        if is_records:
            return data, at + size  # a view of the frame: nothing is copied
        return (str(data, "utf-8") if is_text else bytes(data)), at + size

    return read


def _array_reader(read_item: Read, field: Field, flexible: bool) -> Read:
    read_count = _size_reader(">i", flexible, field.nullable)

    def read(frame: Buffer, at: int) -> tuple[Any, int]:
        count, at = read_count(frame, at)  # each item takes a byte at least
        if count < 0:
            return None, at
        _Items.left -= count
        if _Items.left < 0:
            raise UnreadableRequestError(f"more than {limits.KAFKA_ITEMS_MAX} items in its lists")
        items = []
        for _ in range(count):
            item, at = read_item(frame, at)
            items.append(item)
        return items, at

    return read
