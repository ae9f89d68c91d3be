"""Writers of answers, made from their schemas: one mapping of fields serves every version of an answer.

What a version does not have is left out; what is not given is the schema's default, else nothing: 0, "", [] or null.
"""

from __future__ import annotations

import dataclasses
import functools
import struct
from collections.abc import Callable, Mapping
from typing import Any

from raftlog.kafka.schema import Entity, Field, answer_schema

Write = Callable[[bytearray, Any], None]
"""write(out, value) appends it."""

_ZEROS = bytes(16)
_SHORT, _INT = struct.Struct(">h"), struct.Struct(">i")


def write_unsigned_varint(out: bytearray, value: int) -> None:
    while value > 0x7F:
        out.append(0x80 | (value & 0x7F))
        value >>= 7
    out.append(value)


def write_length(out: bytearray, length: int, flexible: bool) -> None:
    """Of bytes or of an array, neither of them null."""
    if flexible:
        write_unsigned_varint(out, length + 1)
    else:
        out += _INT.pack(length)


def write_topic(out: bytearray, topic: str | bytes, flexible: bool) -> None:
    """A name, or an id."""
    if isinstance(topic, bytes):
        out += topic
        return
    name = topic.encode()
    if flexible:
        write_unsigned_varint(out, len(name) + 1)
    else:
        out += _SHORT.pack(len(name))
    out += name


@functools.cache
def answer_writer(api_key: int, version: int) -> tuple[Write, bool]:
    """Of the body, and whether the version is a flexible one."""
    schema = answer_schema(api_key, version)
    assert schema is not None, "the table lists versions that there are"
    return _entity_writer(schema), schema.flexible


def _entity_writer(schema: Entity) -> Write:
    plain = [
        (field.name, _field_writer(field, schema.flexible), _default(field))
        for field in schema.fields
        if field.tag is None
    ]
    tagged = [
        (field.tag, field.name, _field_writer(field, schema.flexible), _default(field))
        for field in sorted(schema.fields, key=lambda each: each.tag or 0)
        if field.tag is not None
    ]
    flexible = schema.flexible

    def write_entity(out: bytearray, values: Mapping[str, Any]) -> None:
        for name, write, default in plain:
            write(out, values.get(name, default))
        if flexible:
            given = [each for each in tagged if each[1] in values and values[each[1]] != each[3]]
            write_unsigned_varint(out, len(given))
            for tag, name, write, _ in given:
                field = bytearray()
                write(field, values[name])
                write_unsigned_varint(out, tag)
                write_unsigned_varint(out, len(field))
                out += field

    return write_entity


def _default(field: Field) -> Any:
    """As a handler would give it: what equals it is left out where it is tagged."""
    if field.default == () and field.is_array:
        return []
    if field.default == {} and field.entity is not None:
        return {each.name: _default(each) for each in field.entity.fields}
    if field.default is not dataclasses.MISSING:
        return field.default
    if field.nullable:
        return None
    if field.is_array:
        return ()
    if field.entity is not None:
        return {}
    return {"string": "", "bytes": b"", "records": b"", "uuid": b""}.get(field.kind, 0)


def _field_writer(field: Field, flexible: bool) -> Write:
    if field.entity is not None:
        write = _entity_writer(field.entity)
        if field.nullable and not field.is_array:
            return _optional_writer(write)
    elif field.kind in _SIZED:
        write = _sized_writer(_SIZED[field.kind], flexible, text=field.kind == "string")
    elif field.kind == "uuid":
        write = _write_uuid
    else:
        write = _fixed(_FIXED[field.kind], absent=-1 if field.kind == "datetime_i64" else 0)
    return _array_writer(write, flexible) if field.is_array else write


def _optional_writer(write: Write) -> Write:
    """A structure that may be null: a byte says whether it is there."""

    def write_optional(out: bytearray, value: Any) -> None:
        out.append(0xFF if value is None else 1)
        if value is not None:
            write(out, value)

    return write_optional


_FIXED = {
    "bool": ">?",
    "int8": ">b",
    "int16": ">h",
    "int32": ">i",
    "int64": ">q",
    "uint16": ">H",
    "float64": ">d",
    "error_code": ">h",
    "timedelta_i32": ">i",  # milliseconds
    "timedelta_i64": ">q",
    "datetime_i64": ">q",
}
_SIZED = {"string": ">h", "bytes": ">i", "records": ">i"}


def _fixed(form: str, absent: int) -> Write:
    pack = struct.Struct(form).pack

    def write_number(out: bytearray, value: Any) -> None:
        out += pack(absent if value is None else value)

    return write_number


def _write_uuid(out: bytearray, value: bytes | None) -> None:
    out += value or _ZEROS


def _size_writer(form: str, flexible: bool) -> Write:
    """Of a length or a count; None: null."""
    if not flexible:
        pack = struct.Struct(form).pack
        return lambda out, size: out.extend(pack(-1 if size is None else size))
    return lambda out, size: write_unsigned_varint(out, 0 if size is None else size + 1)


def _sized_writer(form: str, flexible: bool, *, text: bool) -> Write:
    write_size = _size_writer(form, flexible)

    def write_sized(out: bytearray, value: Any) -> None:
        if value is None:
            write_size(out, None)
            return
        data = value.encode() if text else value
        write_size(out, len(data))
        out += data

    return write_sized


def _array_writer(write_item: Write, flexible: bool) -> Write:
    write_count = _size_writer(">i", flexible)

    def write_array(out: bytearray, value: Any) -> None:
        if value is None:
            write_count(out, None)
            return
        write_count(out, len(value))
        for item in value:
            write_item(out, item)

    return write_array
