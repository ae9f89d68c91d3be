"""The first client that a command opens to the cluster of --bootstrap, and a quick word where nobody is there.

A client waits some seconds for a node that answers slowly. Where every address refuses the connection, does not
resolve, or is another door of a node, no answer can come, and a person need not wait that long.

    raftlog's own door   greets whoever connects, since ZeroMQ does
    Kafka's, HTTP        wait to be asked; one question of Kafka's protocol tells which it is
    all of them, secure  wait for TLS, and are not told apart
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import time
from typing import TYPE_CHECKING, NamedTuple

from raftlog.errors import NoBrokersAvailableError, UnknownTopicOrPartitionError

from .explain import unknown_topic
from .failure import UnusableError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raftlog import Admin
    from raftlog.protocol.cluster import TopicMetadata
    from raftlog.types import Endpoint

_REFUSED_S = 1.0  # a node that is just being started listens after that
_TRY_S = 0.1
_GREETING_S = 0.5  # a busy node may be slow; one that is not there at all is not waited for much longer
_CORRELATION_ID = b"rlog"
_API_VERSIONS = b"\x00\x00\x00\x0a" + b"\x00\x12\x00\x00" + _CORRELATION_ID + b"\xff\xff"  # version 0, of no client id


def open_admin(bootstrap: str, timeout_s: float | None = None) -> Admin:
    """`timeout_s`: how long each question may take, the first one included. Raises NoBrokersAvailableError."""
    from raftlog import Admin

    reach(bootstrap)
    if timeout_s is None:
        return Admin(bootstrap_servers=bootstrap)
    timeout_ms = timeout_s * 1000
    return Admin(bootstrap_servers=bootstrap, bootstrap_timeout_ms=timeout_ms, request_timeout_ms=timeout_ms)


def describe_topics(admin: Admin, names: Sequence[str]) -> list[TopicMetadata]:
    """Raises what helps where one of them does not exist."""
    try:
        return admin.describe_topics(names)
    except UnknownTopicOrPartitionError as error:
        there = {topic.name for topic in error.results}
        missing = next(name for name in names if name not in there)
        raise unknown_topic(missing, admin.list_topics()) from None


class _Reason(NamedTuple):
    """Why no node answers at an address. `passes`: it may be one that is being started. `other`: it is another door."""

    text: str
    passes: bool = False
    other: bool = False


def reach(bootstrap: str) -> None:
    """Raises NoBrokersAvailableError once every address has refused connections for a second, or has no meaning.

    UnusableError: what is there is for others. Returns as soon as one takes a connection of a client, or as soon as it
    is open whether one would.
    """
    from raftlog.client.core.engine import parse_bootstrap

    endpoints = parse_bootstrap(bootstrap)
    deadline_s = time.monotonic() + _REFUSED_S
    while True:
        reasons = []
        for endpoint in endpoints:
            reason = _why_not(endpoint)
            if reason is None:
                return
            reasons.append(reason)
        if time.monotonic() >= deadline_s or not any(reason.passes for reason in reasons):
            text = "; ".join(reason.text for reason in reasons)
            if any(reason.other for reason in reasons):
                raise UnusableError(
                    f"{text}; --bootstrap is for a node's own address, its --listen: port 7070 + its id"
                )
            raise NoBrokersAvailableError(text)
        time.sleep(_TRY_S)


def _why_not(endpoint: Endpoint) -> _Reason | None:
    """None where somebody may answer, or where that is not known in time."""
    try:
        found = socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)
    except OSError as error:
        return _Reason(f"{endpoint.host} is no address and no name that is known here: {error.strerror}")
    reason = None
    for family, kind, protocol, _, address in found:
        with socket.socket(family, kind, protocol) as probe:
            probe.setblocking(False)
            code = probe.connect_ex(address)
            if code == errno.EINPROGRESS:
                if not select.select([], [probe], [], _TRY_S)[1]:
                    return None
                code = probe.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code == 0:
                return _other_door(probe, endpoint)
            reason = _Reason(f"{endpoint}: {os.strerror(code).lower()}", passes=code == errno.ECONNREFUSED)
    return reason


def _other_door(probe: socket.socket, endpoint: Endpoint) -> _Reason | None:
    """None: it greets, as ZeroMQ does, or says nothing that is known."""
    from raftlog.client.arguments import SECURITY_VARIABLE

    if os.environ.get(SECURITY_VARIABLE) or select.select([probe], [], [], _GREETING_S)[0]:
        return None
    with contextlib.suppress(OSError):
        probe.sendall(_API_VERSIONS)
        if select.select([probe], [], [], _GREETING_S)[0]:
            answer = probe.recv(8)
            if answer.startswith(b"HTTP/"):
                return _Reason(f"{endpoint} is an HTTP address, for browsers and monitoring", other=True)
            if answer[4:] == _CORRELATION_ID:
                return _Reason(f"{endpoint} is an address for Kafka's clients", other=True)
    return None
