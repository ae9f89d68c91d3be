"""A client that says anything: whole requests over a Link, and single bytes over plain TCP."""

from __future__ import annotations

import contextlib
import itertools
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

import msgspec

from raftlog.network import Context, Link, Poller
from raftlog.protocol import codec
from raftlog.protocol.cluster import HandshakeRequest, HandshakeResponse
from raftlog.protocol.records import ProduceResponse
from raftlog.types import Endpoint

ANSWER_WAIT_S = 20.0
# A greeting of ZMTP 3.0 with the NULL mechanism.
GREETING = b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\x00NULL" + bytes(16) + b"\0" + bytes(31)


Answer = TypeVar("Answer")


def ready(kind: bytes) -> bytes:
    """The READY command of a socket of this kind."""
    command = b"\x05READY\x0bSocket-Type" + struct.pack(">I", len(kind)) + kind + b"\x08Identity\0\0\0\0"
    return b"\x04" + bytes([len(command)]) + command


READY = ready(b"DEALER")


def read_whole(raw: socket.socket, size: int) -> bytes:
    """Exactly so many bytes."""
    came = b""
    while len(came) < size:
        came += raw.recv(size - len(came))
    return came


def greet(raw: socket.socket) -> None:
    """Both greetings; ZeroMQ takes a handshake that goes on before it has answered for none."""
    raw.sendall(GREETING)
    read_whole(raw, len(GREETING))


class Talker:
    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._context = Context()
        self._link = Link(self._context, endpoint)
        self._poller = Poller()
        self._poller.register(self._link)
        self._numbers = itertools.count(1_000_000)

    def close(self) -> None:
        self._link.close()
        self._context.close()

    def say(self, frames: Sequence[bytes]) -> None:
        deadline = time.monotonic() + ANSWER_WAIT_S
        while not self._link.send(frames):
            assert time.monotonic() < deadline, f"{self.endpoint} takes no frames"
            time.sleep(0.005)

    def ask(self, request: msgspec.Struct, payload: Sequence[bytes] = ()) -> msgspec.Struct:
        """The answer to a request; its correlation id is set here. What else arrives is passed over."""
        number = next(self._numbers)
        self.say([codec.encode(msgspec.structs.replace(request, correlation_id=number)), *payload])
        return self.hear(number)

    def hear(self, number: int) -> msgspec.Struct:
        deadline = time.monotonic() + ANSWER_WAIT_S
        while time.monotonic() < deadline:
            self._poller.poll(0.1)
            while (frames := self._link.receive()) is not None:
                response = codec.decode_response(frames[0])
                if isinstance(response, ProduceResponse):
                    for result in response.results:
                        if result.correlation_id == number:
                            return result
                elif response.correlation_id == number:
                    return response
        raise AssertionError(f"{self.endpoint} did not answer within {ANSWER_WAIT_S} s")

    def wait_for(self, kind: type[Answer]) -> Answer:
        """The next one of a kind that has no correlation id."""
        deadline = time.monotonic() + ANSWER_WAIT_S
        while time.monotonic() < deadline:
            self._poller.poll(0.1)
            while (frames := self._link.receive()) is not None:
                response = codec.decode_response(frames[0])
                if isinstance(response, kind):
                    return response
        raise AssertionError(f"{self.endpoint} sent no {kind.__name__} within {ANSWER_WAIT_S} s")

    def shake_hands(self) -> HandshakeResponse:
        response = self.ask(HandshakeRequest(correlation_id=0, min_version=1, max_version=1))
        assert isinstance(response, HandshakeResponse)
        return response


@contextlib.contextmanager
def raw(endpoint: Endpoint) -> Iterator[socket.socket]:
    with socket.create_connection(endpoint, timeout=10) as connection:
        yield connection


def closed_by_other_side(connection: socket.socket, within_s: float = 20.0) -> bool:
    """Reads until the end. False if the connection is still open after `within_s`."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        connection.settimeout(max(0.01, deadline - time.monotonic()))
        try:
            if not connection.recv(65536):
                return True
        except TimeoutError:
            return False
        except ConnectionError:
            return True
    return False
