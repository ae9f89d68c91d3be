"""Requests and answers as bytes. Requests of every version are read into structures, answers are written from mappings.

    request   int16 API key, int16 version, int32 correlation id, nullable string client id, [tagged fields,] body
    answer    int32 length, int32 correlation id, [tagged fields,] body

The tagged fields of the headers are there in flexible versions (KIP-482); the answer of ApiVersions never has them,
since a client reads it before it knows what this end speaks (KIP-511). In the structures durations are milliseconds,
ids are 16 bytes, and records are views of the frame.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any, NamedTuple

from raftlog.kafka.answer_writer import answer_writer
from raftlog.kafka.request_reader import UnreadableRequestError, read_whole, request_reader, skip_tagged_fields
from raftlog.kafka.schema import request_schema
from raftlog.types import Buffer

_HEAD = struct.Struct(">hhih")
_ANSWER = struct.Struct(">ii")
_API_VERSIONS = 18
_MALFORMED = (struct.error, IndexError, UnicodeDecodeError)


class RequestHeader(NamedTuple):
    api_key: int
    version: int
    correlation_id: int
    client_id: str | None


def read_header(frame: Buffer) -> tuple[RequestHeader, int]:
    """Of any request, and where its body begins. Raises UnreadableRequestError."""
    try:
        key, version, correlation_id, size = _HEAD.unpack_from(frame)
        at = _HEAD.size + max(size, 0)
        if at > len(frame):
            raise UnreadableRequestError("a request that ends within its header")
        client_id = str(frame[_HEAD.size : at], "utf-8") if size >= 0 else None
        schema = request_schema(key, version)
        if schema is not None and schema.flexible:
            at = skip_tagged_fields(frame, at) if frame[at] else at + 1
    except _MALFORMED:
        raise UnreadableRequestError("a request whose header does not decode") from None
    return RequestHeader(key, version, correlation_id, client_id), at


def read_request(api_key: int, version: int, frame: Buffer, at: int) -> Any:
    """The body that begins at `at`. Raises UnreadableRequestError."""
    read = request_reader(api_key, version)
    if read is None:
        raise UnreadableRequestError(f"API {api_key} version {version}, which Kafka does not have")
    try:
        # Bytes behind the body are left alone, as Kafka does: librdkafka 2.16.0 sends three in Metadata 9 and above,
        # where it asks for all topics and writes their count as before the flexible versions.
        request, _ = read_whole(read, frame, at)
    except _MALFORMED:
        raise UnreadableRequestError(f"API {api_key} version {version}, whose body does not decode") from None
    except UnreadableRequestError as error:
        raise UnreadableRequestError(f"API {api_key} version {version}, whose body does not decode: {error}") from None
    return request


def write_answer(api_key: int, version: int, correlation_id: int, fields: Mapping[str, Any]) -> bytes:
    """One whole answer with its length."""
    write, flexible = answer_writer(api_key, version)
    out = bytearray(_ANSWER.size)
    if flexible and api_key != _API_VERSIONS:
        out.append(0)
    write(out, fields)
    _ANSWER.pack_into(out, 0, len(out) - 4, correlation_id)
    return bytes(out)


def field(entity: Any, name: str, default: Any) -> Any:
    """Of a request, some versions of which do not have it."""
    return getattr(entity, name, default)


__all__ = ["RequestHeader", "UnreadableRequestError", "field", "read_header", "read_request", "write_answer"]
