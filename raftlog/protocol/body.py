"""What the bodies of all requests and answers have in common: typed structs, written as msgpack arrays. No sockets.

A body says what is asked or answered, and no more: which API it belongs to, who waits for the answer and which
partition is meant stand in the envelope in front of it (protocol/envelope.py). Fields are known by their place in the
array: a new one goes to the end and has a default.
"""

from __future__ import annotations

import msgspec


class Body(msgspec.Struct, array_like=True, gc=False):
    """The body of a request."""


class ResponseBody(Body):
    """The body of an answer. Every field has a default, so that an error alone is an answer to whatever was asked."""

    error_code: int = 0
    error_text: str = ""
