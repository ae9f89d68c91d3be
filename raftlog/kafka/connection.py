"""One client's connection: bytes in -> requests; answers -> bytes out, in the order of their requests. No sockets.

    request, answer   bytes 0..4   length of what follows, int32, big-endian
                      bytes 4..    header and body

Requests of one connection run at the same time; their answers leave in the order in which the requests came, as
Kafka's clients expect. Memory is taken for what has come, never for what a length announces.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterator
from typing import Protocol

from raftlog import limits
from raftlog.protocol.session import Session
from raftlog.security.passwords import ServerLogin
from raftlog.types import Buffer

_LENGTH = struct.Struct(">i")
_unpack_length = _LENGTH.unpack_from
_TLS_HANDSHAKE = b"\x16\x03"
_HTTP_METHODS = (b"GET ", b"POST", b"PUT ", b"HEAD", b"OPTI", b"DELE", b"PATC", b"CONN", b"PRI ")


class Piece(Protocol):
    """Bytes of a file that somebody holds open: they are sent from there."""

    def __len__(self) -> int: ...


Out = Buffer | Piece


class StrangerError(Exception):
    """What came is no request of Kafka's protocol: the connection has to end. The text says what it is instead."""


class Login:
    """A login by SASL that is under way.

    `mechanism` "": a SaslHandshake has to come. `failed`: nothing is taken any more.
    """

    __slots__ = ("failed", "mechanism", "scram")

    def __init__(self) -> None:
        self.mechanism = ""
        self.scram: ServerLogin | None = None
        self.failed = False


class Slot:
    """The place of one answer. `buffers` None: it is not there yet."""

    __slots__ = ("buffers",)

    def __init__(self) -> None:
        self.buffers: list[Out] | None = None


class Connection:
    """A connection of one of Kafka's clients: bytes in, requests out, answers in their order.

    `closing`: why it has to end, "" while it need not. `login`: one that is under way, or has failed.

    `held`: by a quota; nothing is read of it meanwhile. `unserved`: requests that came, and that nobody has served yet.
    """

    __slots__ = (
        *("_begun", "_rest", "_rest_bytes", "_slots", "closing", "held", "login", "request_bytes_max"),
        *("rotation", "session", "unserved"),
    )

    def __init__(self, session: Session) -> None:
        self.session = session
        self.closing = ""
        self.held = False
        self.login: Login | None = None
        self.request_bytes_max = limits.KAFKA_REQUEST_BYTES_MAX
        self._rest: list[Buffer] = []  # of a request that is not whole yet
        self._rest_bytes = 0
        self._begun = False
        self._slots: deque[Slot] = deque()
        self.unserved: Iterator[memoryview] | None = None
        self.rotation = 0  # which partition of a fetch comes first

    @property
    def waits_for_login(self) -> bool:
        """Nothing but a login is taken of it, for a while."""
        return self.request_bytes_max == limits.LOGIN_BYTES_MAX

    @property
    def unfinished_bytes(self) -> int:
        return self._rest_bytes

    @property
    def waiting(self) -> int:
        """Requests whose answers have not left."""
        return len(self._slots)

    # --- in ----------------------------------------------------------------------------------------
    def receive(self, data: bytes) -> Iterator[memoryview]:
        """The requests that are whole now, without their lengths. Raises StrangerError.

        They are views of `data`, where no part of them came before.
        """
        if self._rest:
            self._rest.append(data)
            self._rest_bytes += len(data)
            if not self._is_whole():
                return
            data = b"".join(self._rest)
            self._rest = []
            self._rest_bytes = 0
        elif not self._begun and len(data) >= 4:
            self._begun = True
            _check_beginning(data)
        view = memoryview(data)
        at, end = 0, len(data)
        while end - at >= 4:
            (length,) = _unpack_length(data, at)
            if not limits.KAFKA_REQUEST_BYTES_MIN <= length <= self.request_bytes_max:
                raise StrangerError(_wrong_length(length, self.request_bytes_max))
            following = at + 4 + length
            if following > end:
                break
            yield view[at + 4 : following]
            at = following
        if at < end:
            self._rest = [view[at:] if at else data]
            self._rest_bytes = end - at

    def _is_whole(self) -> bool:
        """The first request of the rest has come whole. Raises StrangerError for a length that none has."""
        first = self._rest[0]
        if len(first) < 4:
            first = b"".join(self._rest)
            self._rest = [first]
            if len(first) < 4:
                return False
        if not self._begun:
            self._begun = True
            _check_beginning(bytes(first[:4]))
        length: int = _unpack_length(first)[0]
        if not limits.KAFKA_REQUEST_BYTES_MIN <= length <= self.request_bytes_max:
            raise StrangerError(_wrong_length(length, self.request_bytes_max))
        return self._rest_bytes >= length + 4

    def forget(self) -> None:
        """It has ended: what came of it takes no memory any more, whoever still knows it."""
        self._rest = []
        self._rest_bytes = 0
        self._slots.clear()
        self.unserved = None

    # --- out ---------------------------------------------------------------------------------------
    def reserve(self) -> Slot:
        """The place of the answer to the request that came last."""
        slot = Slot()
        self._slots.append(slot)
        return slot

    def withdraw(self, slot: Slot) -> None:
        """This request gets no answer."""
        if slot in self._slots:  # not where the connection has ended meanwhile
            self._slots.remove(slot)

    def take(self) -> list[Out]:
        """What may leave now, in its order."""
        slots = self._slots
        taken: list[Out] = []
        while slots and (buffers := slots[0].buffers) is not None:
            taken += buffers
            slots.popleft()
        return taken


def _check_beginning(data: bytes) -> None:
    if data.startswith(_TLS_HANDSHAKE):
        raise StrangerError("a client that speaks TLS: this port is plain, set security.protocol=PLAINTEXT")
    if data[:4] in _HTTP_METHODS:
        raise StrangerError("a client that speaks HTTP: this port speaks Kafka's protocol")


def _wrong_length(length: int, most: int) -> str:
    return f"a request of {length} bytes; one has {limits.KAFKA_REQUEST_BYTES_MIN} to {most}"
