"""Messages over a connection, both ways: between processes of one node, and under TLS between machines.

    message   bytes 0..4    header length,  uint32, big-endian
              bytes 4..8    payload length, uint32; 0: no payload
              bytes 8..     header, payload

Where the other end speaks through ZeroMQ instead, a Zmtp has other bytes for the same messages.

Messages are whole or not there. What is put into a stream leaves with the next `flush`, in one system call if it can.
"""

from __future__ import annotations

import itertools
import select
import socket
import struct
from collections import deque
from collections.abc import Callable

from raftlog.limits import FRAME_BYTES_MAX, HEADER_BYTES_MAX, MESSAGES_WAITING_BYTES_MAX
from raftlog.network.context import KEPT_FROM_BYTES
from raftlog.network.secure import SecureSocket
from raftlog.network.zmtp import Zmtp
from raftlog.types import Buffer

Message = tuple[bytes, Buffer | None]
"""header, payload."""

_LENGTHS = struct.Struct(">II")
_RECEIVE_BYTES = 512 * 1024
_TURN_BYTES = 4 * 1024 * 1024  # received of one stream before the others have their turn
_BUFFERS_PER_SEND = 512


class MessageStream:
    """One end of a connection. `closed` once the other end is gone, or says what no message is."""

    def __init__(
        self, connected: socket.socket | SecureSocket, watch: Callable[[int, int], None], zmtp: Zmtp | None = None
    ) -> None:
        """`watch(descriptor, events)` changes which of POLLIN and POLLOUT are waited for. `zmtp`: of its other end."""
        self._socket = connected
        self._zmtp = zmtp
        self._watch = watch
        self._blocked = False
        self._out: deque[Buffer] = deque()
        self.out_bytes = 0  # that wait to be sent
        self.sent_bytes = 0
        self._rest: list[bytes] = []
        self.rest_bytes = 0  # of a message that is not whole yet
        self._needed_bytes = 0  # the rest is no whole message before that many are there
        self.closed = False
        if zmtp is not None:
            self._reply(zmtp)

    @property
    def is_ready(self) -> bool:
        """Messages may be put into it."""
        return self._zmtp is None or self._zmtp.ready

    def fileno(self) -> int:
        return self._socket.fileno()

    # --- out ---------------------------------------------------------------------------------------
    def put(self, header: bytes, payload: Buffer | None = None) -> bool:
        """False: it is closed, or too much waits already. The payload must not change any more."""
        size = len(payload) if payload is not None else 0
        if self.closed or self.out_bytes + size > MESSAGES_WAITING_BYTES_MAX:
            return False
        lead = _LENGTHS.pack(len(header), size) + header if self._zmtp is None else self._zmtp.lead(header, size)
        self._out.append(lead)
        self.out_bytes += len(lead) + size
        if payload is not None and size:
            self._out.append(payload)
        return True

    def flush(self) -> None:
        """Sends what waits; goes on by itself, through `watch`, when the other end is slow."""
        out = self._out
        while out and not self.closed:
            try:
                sent = self._socket.sendmsg(list(itertools.islice(out, _BUFFERS_PER_SEND)))
            except BlockingIOError:
                self._wait_to_send(blocked=True)
                return
            except OSError:
                self.closed = True
                return
            self.out_bytes -= sent
            self.sent_bytes += sent
            while out and sent >= len(out[0]):
                sent -= len(out.popleft())
            if sent:
                out[0] = memoryview(out[0])[sent:]
        self._wait_to_send(blocked=False)

    def _wait_to_send(self, *, blocked: bool) -> None:
        if blocked != self._blocked:
            self._blocked = blocked
            self._watch(self.fileno(), select.POLLIN | (select.POLLOUT if blocked else 0))

    # --- in ----------------------------------------------------------------------------------------
    def receive(self) -> list[Message]:
        """What has come whole, in its order.

        A payload of KEPT_FROM_BYTES or more is a view of what was received; a smaller one, which could keep much else
        in memory, is not.
        """
        found: list[Message] = []
        taken = 0
        while taken < _TURN_BYTES and not self.closed:
            try:
                data = self._socket.recv(_RECEIVE_BYTES)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            if not data:
                self.closed = True
                break
            taken += len(data)
            if self._zmtp is None:
                self._take(data, found)
            else:
                self._take_frames(self._zmtp, data, found)
            if len(data) < _RECEIVE_BYTES:
                break  # mostly that was all, and asking again would only say so
        return found

    def _take(self, data: bytes, found: list[Message]) -> None:
        if self._rest:
            self._rest.append(data)
            self.rest_bytes += len(data)
            if self.rest_bytes < self._needed_bytes:
                return
            data = b"".join(self._rest)
            self._rest.clear()
        at, end = 0, len(data)
        self._needed_bytes = _LENGTHS.size
        while end - at >= _LENGTHS.size:
            header_bytes, payload_bytes = _LENGTHS.unpack_from(data, at)
            if not 0 < header_bytes <= HEADER_BYTES_MAX or payload_bytes > FRAME_BYTES_MAX:
                self.closed = True
                return
            body = at + _LENGTHS.size + header_bytes
            following = body + payload_bytes
            if following > end:
                self._needed_bytes = following - at
                break
            payload: Buffer | None = None
            if payload_bytes >= KEPT_FROM_BYTES:
                payload = memoryview(data)[body:following]
            elif payload_bytes:
                payload = data[body:following]
            found.append((data[at + _LENGTHS.size : body], payload))
            at = following
        if at < end:
            self._rest.append(data[at:] if at else data)
        self.rest_bytes = end - at

    def _take_frames(self, zmtp: Zmtp, data: bytes, found: list[Message]) -> None:
        try:
            zmtp.take(data, found)
        except ValueError:
            self.closed = True
            return
        self.rest_bytes = zmtp.rest_bytes
        self._reply(zmtp)

    def _reply(self, zmtp: Zmtp) -> None:
        """Not to who takes nothing: what waits for it says enough, and it may ask as often as it likes."""
        if zmtp.replies and not self._blocked:
            replies = b"".join(zmtp.replies)
            self._out.append(replies)
            self.out_bytes += len(replies)
            self.flush()
        zmtp.replies.clear()

    def close(self) -> None:
        """Nobody may wait for its descriptor any more."""
        self.closed = True
        self._out.clear()
        self._socket.close()
