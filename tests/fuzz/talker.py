"""A client that says anything: whole requests over a Link, and single bytes over plain TCP."""

from __future__ import annotations

import contextlib
import itertools
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from typing import Any

from raftlog.errors import UnsupportedVersionError
from raftlog.limits import PROTOCOL_VERSION
from raftlog.network import Context, Link, Poller
from raftlog.protocol import apis
from raftlog.protocol.body import Body
from raftlog.protocol.cluster import HandshakeRequest, HandshakeResponse
from raftlog.protocol.envelope import NO_TOPIC, decode_response, encode_request
from raftlog.types import Endpoint
from tests.patience import WAIT_S

# A greeting of ZMTP 3.0 with the NULL mechanism.
GREETING = b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\x00NULL" + bytes(16) + b"\0" + bytes(31)


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
        deadline = time.monotonic() + WAIT_S
        while not self._link.send(frames):
            assert time.monotonic() < deadline, f"{self.endpoint} takes no frames"
            time.sleep(0.005)

    def ask(self, body: Body, payload: Sequence[bytes] = (), *, topic_id: bytes = NO_TOPIC, partition: int = -1) -> Any:
        """The body of the answer. What else arrives is passed over."""
        number = next(self._numbers)
        header = encode_request(apis.BY_REQUEST[type(body)], number, body, topic_id, partition)
        self.say([header, *payload])
        return self.hear(number)

    def hear(self, number: int) -> Any:
        """-1: the next answer to what could not be read."""
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            self._poller.poll(0.1)
            while (frames := self._link.receive()) is not None:
                try:
                    api, answered, response = decode_response(frames[0])
                except UnsupportedVersionError:
                    continue  # as version 1 is refused
                if api is apis.PRODUCE:
                    for result in response:
                        if result.correlation_id == number:
                            return result
                elif answered == number:
                    return response
        raise AssertionError(f"{self.endpoint} did not answer within {WAIT_S} s")

    def shake_hands(self) -> HandshakeResponse:
        response = self.ask(HandshakeRequest(min_version=PROTOCOL_VERSION, max_version=PROTOCOL_VERSION))
        assert isinstance(response, HandshakeResponse) and not response.error_code
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
