"""What one question and its answer between two processes take on this machine: the floor of a single produce.

A produce with acks=all is two of them, one within the other: from the client to the leader, and from the leader to its
followers; and a sync on each.
"""

from __future__ import annotations

import multiprocessing
import socket
import statistics
import time
from collections.abc import Callable

from raftlog.network import Context, Link, Poller, Server
from raftlog.types import Endpoint

from .servers import HOST

_QUESTION = [b"h" * 60, b"p" * 270]  # as long as the frames of a record of 200 bytes
_WAIT_S = 5.0


def tcp_p50_us(times: int) -> float:
    """Plain blocking sockets, no Nagle."""
    with socket.create_server((HOST, 0)) as door:
        process = _started(_answer_tcp, door.getsockname()[1])
        try:
            connection = door.accept()[0]
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with connection:
                question = b"".join(_QUESTION)

                def ask() -> None:
                    connection.sendall(question)
                    left = len(question)
                    while left:
                        left -= len(connection.recv(left))

                return _p50_us(ask, times)
        finally:
            process.kill()
            process.join()


def link_p50_us(times: int) -> float:
    """raftlog's own sockets over ZeroMQ, with nothing behind them."""
    context = Context()
    try:
        server = Server(context, HOST)
        process = _started(_answer_link, server.port)
        poller = Poller()
        poller.register(server)
        try:
            hello = _received(poller, server)

            def ask() -> None:
                server.send(hello[0], _QUESTION)
                _received(poller, server)

            return _p50_us(ask, times)
        finally:
            process.kill()
            process.join()
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


def _received(poller: Poller, end: Server | Link) -> list[bytes]:
    deadline_s = time.monotonic() + _WAIT_S
    while time.monotonic() < deadline_s:
        frames = end.receive()
        if frames is not None:
            return frames
        poller.poll(_WAIT_S)
    raise TimeoutError(f"no answer within {_WAIT_S:g} s")


def _started(work: Callable[[int], None], port: int) -> multiprocessing.process.BaseProcess:
    process = multiprocessing.get_context("spawn").Process(target=work, args=(port,), daemon=True)
    process.start()
    return process


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
