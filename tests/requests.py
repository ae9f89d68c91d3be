"""Requests as a door gives them to a handler, for the tests of handlers."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import cache
from typing import Any

from raftlog.protocol import apis
from raftlog.protocol.body import Body
from raftlog.protocol.envelope import NO_TOPIC, Request, read_request
from raftlog.protocol.session import Session


@cache
def session_of(client: Hashable) -> Session:
    return Session(client)


def read(header: bytes, *payload: bytes) -> Request[Any]:
    """As a door reads it."""
    return read_request(session_of("client"), header, [*payload])


def request_of(
    body: Body,
    correlation_id: int = 1,
    *,
    client: Hashable = "client",
    topic_id: bytes = NO_TOPIC,
    partition: int = -1,
    payload: Sequence[Any] = (),
) -> Request[Any]:
    api = apis.BY_REQUEST[type(body)]
    return Request(session_of(client), api, correlation_id, topic_id, partition, body, [*payload])
