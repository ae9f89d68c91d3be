"""Raft messages to bytes and back. What does not decode raises InvalidRequestError, never anything else."""

from __future__ import annotations

import msgspec

from raftlog.errors import InvalidRequestError
from raftlog.protocol.raft import RaftMessage

_raft_decoder: msgspec.msgpack.Decoder[RaftMessage] = msgspec.msgpack.Decoder(RaftMessage)

encode = msgspec.msgpack.Encoder().encode


def decode_raft(header: bytes) -> RaftMessage:
    """What a worker received from the worker of another replica."""
    try:
        return _raft_decoder.decode(header)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequestError(f"a header that does not decode: {error}") from None
