"""The first client that a command opens to the cluster of --bootstrap, and a quick word where nobody is there.

A client waits some seconds for a node that answers slowly. Where every address refuses the connection, or does not
resolve, no answer can come, and a person need not wait that long.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import time
from typing import TYPE_CHECKING

from raftlog.errors import NoBrokersAvailableError, UnknownTopicOrPartitionError

from .explain import unknown_topic

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raftlog import Admin
    from raftlog.protocol.cluster import TopicMetadata
    from raftlog.types import Endpoint

_REFUSED_S = 1.0  # a node that is just being started listens after that
_TRY_S = 0.1


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


def reach(bootstrap: str) -> None:
    """Raises NoBrokersAvailableError once every address has refused connections for a second, or has no meaning.

    Returns as soon as one takes a connection, or as soon as it is open whether one would.
    """
    from raftlog.client.core.engine import parse_bootstrap

    endpoints = parse_bootstrap(bootstrap)
    deadline_s = time.monotonic() + _REFUSED_S
    while True:
        reasons = [_why_not(endpoint) for endpoint in endpoints]
        if not all(reasons):
            return
        if time.monotonic() >= deadline_s or not any("refused" in reason for reason in reasons):
            raise NoBrokersAvailableError("; ".join(map(str, reasons)))
        time.sleep(_TRY_S)


def _why_not(endpoint: Endpoint) -> str:
    """Why nothing answers there; empty where something does, or where that is not known in time."""
    try:
        found = socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)
    except OSError as error:
        return f"{endpoint.host} is no address and no name that is known here: {error.strerror}"
    reason = ""
    for family, kind, protocol, _, address in found:
        with socket.socket(family, kind, protocol) as probe:
            probe.setblocking(False)
            code = probe.connect_ex(address)
            if code == errno.EINPROGRESS:
                if not select.select([], [probe], [], _TRY_S)[1]:
                    return ""
                code = probe.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code == 0:
                return ""
            reason = f"{endpoint}: {os.strerror(code).lower()}"
    return reason
