"""What stands in front of every body: which API, who waits for the answer, which partition is meant. No sockets.

    request   byte 0         version         of the protocol; both ends speak the same
              bytes 1..3     API key         of the table in protocol/apis.py
              bytes 3..11    correlation id  the asker's; the answer repeats it
              bytes 11..27   topic id        zeros where the API is about no partition
              bytes 27..31   partition       -1 likewise
              bytes 31..     body            msgpack array

    answer    byte 0         version
              bytes 1..3     API key         0xffff: to what could not be read; then the body is a ResponseBody
              bytes 3..11    correlation id  -1 where it could not be read
              bytes 11..     body            msgpack array

Numbers are big-endian. An envelope is read BEFORE the body, so that whatever is wrong with the body is answered to the
one who waits. Version 1 began with a msgpack array, a byte of 0x80 or above: such a frame is known at once.
"""

from __future__ import annotations

import struct
from typing import Any, Generic, TypeVar

import msgspec

from raftlog.errors import InvalidRequestError, SaslAuthenticationFailedError, UnsupportedVersionError
from raftlog.limits import HEADER_BYTES_MAX, PROTOCOL_VERSION
from raftlog.protocol.apis import BY_KEY, OF_NODES, Api
from raftlog.protocol.body import ResponseBody
from raftlog.protocol.session import Session
from raftlog.types import Buffer

B = TypeVar("B")

NO_TOPIC = bytes(16)
UNREAD_KEY = 0xFFFF
VERSION_1_FROM = 0x80  # the first byte of what version 1 says: a msgpack array
_REQUEST = struct.Struct(">BHq16si")
_RESPONSE = struct.Struct(">BHq")
_BODY_AT = _REQUEST.size
_unpack_request = _REQUEST.unpack_from
_RESPONSE_BODY_AT = _RESPONSE.size
_encode = msgspec.msgpack.Encoder().encode
_decode_unread = msgspec.msgpack.Decoder(ResponseBody).decode
_UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
# What version 1 understands: the refusal that ends what a client asks, and the one that ends what a supervisor says.
_VERSION_1 = f"this node speaks version {PROTOCOL_VERSION} of the protocol, you speak version 1: use the same release"
VERSION_1_REFUSALS = (
    _encode(["HandshakeR", -1, 35, _VERSION_1, 0, -1, ""]),
    _encode(["ErrorR", -1, 35, _VERSION_1]),
)


class Request(msgspec.Struct, Generic[B], gc=False, eq=False):
    """One request, as a door gives it to a handler: who asks, what, and about which partition."""

    session: Session
    api: Api[Any, Any]
    correlation_id: int
    topic_id: bytes
    partition: int
    body: B
    payload: list[Buffer] = []


def encode_request(
    api: Api[Any, Any], correlation_id: int, body: object, topic_id: bytes = NO_TOPIC, partition: int = -1
) -> bytes:
    """Raises InvalidRequestError for what no bytes say: a number too large for any field, half a surrogate pair."""
    try:
        return _REQUEST.pack(PROTOCOL_VERSION, api.key, correlation_id, topic_id, partition) + _encode(body)
    except (OverflowError, struct.error):
        raise InvalidRequestError("it cannot be encoded: a number does not fit into its field") from None
    except UnicodeEncodeError as error:
        raise InvalidRequestError(f"it cannot be encoded: {error.object!r} is not UTF-8") from None
    except (TypeError, ValueError) as error:
        raise InvalidRequestError(f"it cannot be encoded: {error}") from None


class UnreadableBodyError(InvalidRequestError):
    """Of a `request`, which says who waits for the answer."""

    def __init__(self, request: Request[None], error: Exception) -> None:
        super().__init__(f"the body of {request.api.name} does not decode: {error}")
        self.request = request


class LongBodyError(SaslAuthenticationFailedError):
    """Of a `request` likewise, whose sender has not logged in."""

    def __init__(self, request: Request[None], bytes_max: int) -> None:
        super().__init__(f"log in first: before that a request has at most {bytes_max} bytes")
        self.request = request


def read_request(
    session: Session, header: Buffer, payload: list[Buffer], header_bytes_max: int = HEADER_BYTES_MAX
) -> Request[Any]:
    """`header_bytes_max`: of whoever is not a node.

    Raises LongBodyError, BEFORE it is decoded, and UnreadableBodyError; InvalidRequestError and UnsupportedVersionError
    for an envelope that is none.
    """
    if not _BODY_AT <= len(header) <= HEADER_BYTES_MAX:
        raise _unreadable(header)
    version, key, correlation_id, topic_id, partition = _unpack_request(header)
    if version != PROTOCOL_VERSION:
        raise _unreadable(header)
    api = BY_KEY.get(key)
    if api is None:
        raise InvalidRequestError(f"there is no API with key {key}")
    if len(header) > header_bytes_max and api not in OF_NODES:
        raise LongBodyError(Request(session, api, correlation_id, topic_id, partition, None), header_bytes_max)
    try:
        body = api.decode_request(header[_BODY_AT:])
    except _UNDECODABLE as error:
        raise UnreadableBodyError(Request(session, api, correlation_id, topic_id, partition, None), error) from None
    return Request(session, api, correlation_id, topic_id, partition, body, payload)


def encode_response(api: Api[Any, Any], correlation_id: int, body: object) -> bytes:
    return _RESPONSE.pack(PROTOCOL_VERSION, api.key, correlation_id) + _encode(body)


def encode_unread(text: str, code: int) -> bytes:
    """The answer to what could not be read."""
    head = _RESPONSE.pack(PROTOCOL_VERSION, UNREAD_KEY, -1)
    return head + _encode(ResponseBody(error_code=code, error_text=text))


def decode_response(header: Buffer) -> tuple[Api[Any, Any] | None, int, Any]:
    """(API, correlation id, body); the API is None for the answer to what could not be read.

    Raises InvalidRequestError, UnsupportedVersionError.
    """
    if len(header) < _RESPONSE_BODY_AT or header[0] != PROTOCOL_VERSION:
        raise _unreadable(header)
    _, key, correlation_id = _RESPONSE.unpack_from(header)
    api = BY_KEY.get(key)
    if api is None and key != UNREAD_KEY:
        raise InvalidRequestError(f"there is no API with key {key}")
    try:
        decode = _decode_unread if api is None else api.decode_response
        return api, correlation_id, decode(header[_RESPONSE_BODY_AT:])
    except _UNDECODABLE as error:
        raise InvalidRequestError(f"an answer that does not decode: {error}") from None


def _unreadable(header: Buffer) -> InvalidRequestError | UnsupportedVersionError:
    if len(header) > HEADER_BYTES_MAX:
        return InvalidRequestError(f"a header has at most {HEADER_BYTES_MAX} bytes, this one {len(header)}")
    if len(header) and header[0] != PROTOCOL_VERSION:
        version = 1 if header[0] >= VERSION_1_FROM else header[0]
        return UnsupportedVersionError(
            f"version {version} of the protocol; this end speaks {PROTOCOL_VERSION}: use the same release on both ends"
        )
    return InvalidRequestError(f"a header of {len(header)} bytes, which is less than an envelope has")
