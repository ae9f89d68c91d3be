"""What every message between clients and nodes has in common: typed structs, written as msgpack arrays. No sockets.

A message is a list of frames: `[header, payload, …]`. The header is msgpack of one struct, written as an array whose
first element is the struct's tag (its Kafka API name). Payload frames are record batches, untouched. Every request
carries a correlation id that the answer repeats.

    frame 0   msgpack ["Produce", correlation_id, topic_id, partition, acks, timeout_ms]
    frame 1   one record batch (magic 2), as the producer encoded it
"""

from __future__ import annotations

import msgspec


class _Message(msgspec.Struct, array_like=True, tag=True, kw_only=True, gc=False):
    """Base: tagged arrays, so that a header is small and its type is checked while decoding."""


class _Request(_Message, tag=True):
    correlation_id: int


class _Response(_Message, tag=True):
    correlation_id: int
    error_code: int = 0
    error_text: str = ""
