"""What one question and its answer between two processes take on this machine: the floor of a single produce.

A produce with acks=all is two of them, one within the other: from the client to the leader, and from the leader to its
followers; and a sync on each.
"""

from __future__ import annotations

import socket
import statistics
import time
from collections.abc import Callable

from raftlog.errors import RaftlogError, RequestTimedOutError
from raftlog.network import Context, Link, Poller, Server
from raftlog.types import Endpoint

from .beside import beside
from .servers import HOST

_QUESTION = [b"h" * 60, b"p" * 270]  # as long as the frames of a record of 200 bytes
_WAIT_S = 5.0


def tcp_p50_us(times: int) -> float:
    """Plain blocking sockets, no Nagle."""
    question = b"".join(_QUESTION)
    with (
        socket.create_server((HOST, 0)) as door,
        beside(_answer_tcp, door.getsockname()[1]),
        door.accept()[0] as connection,
    ):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def ask() -> None:
            connection.sendall(question)
            left = len(question)
            while left:
                got = len(connection.recv(left))
                if not got:
                    raise RaftlogError("the process that answers has ended")
                left -= got

        return _p50_us(ask, times)


def link_p50_us(times: int) -> float:
    """raftlog's own sockets over ZeroMQ, with nothing behind them."""
    context = Context()
    try:
        server = Server(context, HOST)
        poller = Poller()
        poller.register(server)
        with beside(_answer_link, server.port):
            identity = _received(poller, server)[0]

            def ask() -> None:
                server.send(identity, _QUESTION)
                _received(poller, server)

            return _p50_us(ask, times)
    finally:
        context.close()


def _p50_us(ask: Callable[[], None], times: int) -> float:
    ask()
    took_s = []
    for _ in range(times):
        start_s = time.perf_counter()
        ask()
        took_s.append(time.perf_counter() - start_s)
    return 1e6 * statistics.median(took_s)


def _received(poller: Poller, end: Server) -> list[bytes]:
    deadline_s = time.monotonic() + _WAIT_S
    while time.monotonic() < deadline_s:
        frames = end.receive()
        if frames is not None:
            return frames
        poller.poll(_WAIT_S)
    raise RequestTimedOutError(f"no answer within {_WAIT_S:g} s")


def _answer_tcp(port: int) -> None:
    with socket.create_connection((HOST, port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while data := connection.recv(65536):
            connection.sendall(data)


def _answer_link(port: int) -> None:
    context = Context()
    link = Link(context, Endpoint(HOST, port))
    poller = Poller()
    poller.register(link)
    while not link.send(_QUESTION):
        time.sleep(0.01)
    while True:
        frames = link.receive()
        if frames is None:
            poller.poll(_WAIT_S)
        else:
            link.send(frames)
