"""As much of ZeroMQ's protocol as a Link and a Server speak: ZMTP 3 without encryption (rfc.zeromq.org/spec/23).

    greeting   FF, 8 bytes, 7F, version 3.0, "NULL" in 20 bytes, 32 bytes of zero
    frame      flags (1: more frames of this message follow, 2: long, 4: command), length in 1 byte or 8, body
    command    length of its name in 1 byte, name, data

A node that takes plain connections beside those under TLS tells them apart by their first byte, on one port. ZeroMQ
listens on a port alone, and takes no connection that somebody else has accepted. Bytes in, bytes out.
"""

from __future__ import annotations

from raftlog.limits import FRAME_BYTES_MAX
from raftlog.network.context import KEPT_FROM_BYTES
from raftlog.types import Buffer

DEALER, ROUTER = b"DEALER", b"ROUTER"
GREETING = b"\xff" + bytes(7) + b"\x01\x7f" + b"\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
_MORE, _LONG, _COMMAND = 1, 2, 4
_PING_TTL_BYTES = 2
_VERSION_AT = 10
_COMMAND_BYTES_MAX = 512  # and of what comes before there are messages; a ping has 23 at most, and is given back


class Zmtp:
    """One connection. `ready`: both ends have greeted. `replies`: what has to leave beside messages."""

    def __init__(self, kind: bytes) -> None:
        """`kind`: of this end."""
        self.ready = False
        self.replies = [GREETING + _command(b"READY", b"\x0bSocket-Type" + len(kind).to_bytes(4, "big") + kind)]
        self._greeted = False
        self._rest = bytearray()
        self._needed_bytes = 0  # the rest is nothing whole before that many are there
        self._surplus = False  # what comes belongs to a message of which enough has come
        self._header: bytes | None = None  # of a message whose payload has not come yet

    @property
    def rest_bytes(self) -> int:
        return len(self._rest) + len(self._header or b"")

    def lead(self, header: bytes, payload_bytes: int) -> bytes:
        """What is sent in front of the payload."""
        if not payload_bytes:
            return _frame(0, len(header)) + header
        return _frame(_MORE, len(header)) + header + _frame(0, payload_bytes)

    def take(self, data: bytes, found: list[tuple[bytes, Buffer | None]]) -> None:
        """Puts what is whole now into `found`. Raises ValueError for what no end of ours says."""
        if self._rest:
            self._rest += data
            if len(self._rest) < self._needed_bytes:
                return
            data = bytes(self._rest)
            self._rest.clear()
        at = 0
        if not self._greeted:
            if data[0] != GREETING[0] or (len(data) > _VERSION_AT and data[_VERSION_AT] < GREETING[_VERSION_AT]):
                raise ValueError("it does not speak ZMTP 3")
            if len(data) < len(GREETING):
                self._rest += data
                return
            self._greet(data)
            at = len(GREETING)
        self._rest += data[self._split(data, at, found) :]

    def _split(self, data: bytes, at: int, found: list[tuple[bytes, Buffer | None]]) -> int:
        """Takes the whole frames from `at` on; where the first one begins that is not whole."""
        end = len(data)
        header = self._header
        self._needed_bytes = 2
        while end - at >= 2:
            flags = data[at]
            if flags & _LONG:
                body = at + 9
                if body > end:
                    self._needed_bytes = 9
                    break
                size = int.from_bytes(data[at + 1 : body], "big")
            else:
                body = at + 2
                size = data[at + 1]
            if size > FRAME_BYTES_MAX or (size > _COMMAND_BYTES_MAX and (flags & _COMMAND or not self.ready)):
                raise ValueError("a frame is too long")
            following = body + size
            if following > end:
                self._needed_bytes = following - at
                break
            at = following
            if flags & _COMMAND:
                self._heed(data[body:following])
            elif not self.ready:
                raise ValueError("a message before the other end has said what it is")
            elif self._surplus:
                self._surplus = bool(flags & _MORE)
            elif header is not None:
                self._surplus = bool(flags & _MORE)  # of more than two frames: it is answered like one without payload
                payload = data[body:following] if size < KEPT_FROM_BYTES else _own(memoryview(data)[body:following])
                found.append((header, None if self._surplus else payload))
                header = None
            elif flags & _MORE:
                header = data[body:following]
            else:
                found.append((data[body:following], None))
        self._header = header
        return at

    def _greet(self, data: bytes) -> None:
        if data[0] != GREETING[0] or data[10] < GREETING[10] or data[12:32] != GREETING[12:32]:
            raise ValueError("it does not speak ZMTP 3 without encryption")
        self._greeted = True
        self._needed_bytes = 2

    def _heed(self, command: bytes) -> None:
        name, data = command[1 : 1 + command[0]], command[1 + command[0] :]
        if name == b"READY":
            self.ready = True
        elif name == b"PING":
            self.replies.append(_command(b"PONG", data[_PING_TTL_BYTES:]))
        elif name == b"ERROR":
            raise ValueError("the other end has given up")


def _own(view: memoryview) -> memoryview:
    """Writable: a leader stamps a large batch where it stands."""
    return memoryview(bytearray(view))


def _frame(flags: int, size: int) -> bytes:
    return bytes((flags, size)) if size <= 255 else bytes((flags | _LONG,)) + size.to_bytes(8, "big")


def _command(name: bytes, data: bytes) -> bytes:
    body = bytes((len(name),)) + name + data
    return _frame(_COMMAND, len(body)) + body
