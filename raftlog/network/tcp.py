"""TCP sockets as streams and doors want them: listening, and noticing an end that has vanished."""

from __future__ import annotations

import socket

from raftlog.errors import ConfigError
from raftlog.network.addresses import resolve

_BACKLOG = 512
_UNACKNOWLEDGED_MS = 3_000  # of a machine that vanished; heartbeats are sent all the time, so it is noticed by this
_ALIVE_S, _ALIVE_TRIES = 5, 3  # likewise by who only receives


def listen(host: str, ports: range | None) -> socket.socket:
    """At the first free one of `ports`; None: at any free port. Raises ConfigError."""
    family, address = resolve(host)
    for port in ports or (0,):
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)  # [::] is IPv4 too, as with ZeroMQ
            listener.bind((address, port))
            listener.listen(_BACKLOG)
        except OSError as error:
            listener.close()
            if ports is None or not ports:
                raise ConfigError(f"cannot listen on {host}: {error.strerror or error}") from None
            continue
        listener.setblocking(False)
        return listener
    assert ports is not None
    if len(ports) == 1:
        raise ConfigError(f"port {ports[0]} on {host} is in use")
    raise ConfigError(f"every port from {ports[0]} to {ports[-1]} on {host} is in use")


def notice_silence(made: socket.socket) -> None:
    """Of a machine that has vanished, or that cannot be reached any more."""
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNACKNOWLEDGED_MS)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _ALIVE_S)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _ALIVE_S)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _ALIVE_TRIES)
