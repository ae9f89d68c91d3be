"""Messages between the workers of one partition: plain TCP, written and read by the worker's own thread.

Raft's messages do not go through ZeroMQ, although produce and fetch do. Each message through ZeroMQ wakes the sender's
I/O thread, the receiver's I/O thread and the receiver; here it wakes the receiver. Measured with three nodes on two
cores, one after the other in one run (docs/comparison.md): one record at a time 0.94 ms instead of 1.18 (flush os),
batches of 50 x 200 B 14 % more records a second, for three quarters of the CPU.

One direction, from the StreamLink of one to the StreamServer of the other:

    GREETING, then any number of  LENGTHS(header bytes, payload bytes), header, payload

Nothing is promised: what was sent when a connection broke is lost, and what a full queue refuses is dropped. Whoever
sends knows whom it means and says so in the header, since a port may belong to another worker by now.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import mmap
import random
import socket
import struct
import threading
import time
from collections import deque

from raftlog.errors import ConfigError
from raftlog.limits import FRAME_BYTES_MAX, HEADER_BYTES_MAX, STREAM_CONNECTIONS_MAX, STREAM_QUEUE_BYTES_MAX
from raftlog.network.context import KEPT_FROM_BYTES, POLLIN, POLLOUT, Buffer
from raftlog.network.poller import Poller
from raftlog.types import Endpoint

GREETING = b"RLSTRM1\n"
LENGTHS = struct.Struct(">II")
Message = tuple[bytes, Buffer | None]
"""header, payload: memory of its own, a writable memoryview from KEPT_FROM_BYTES on."""

_RECEIVE_BYTES = 256 * 1024  # at once: small messages come many together, a large one is copied no further than this
_BUFFER_BYTES = HEADER_BYTES_MAX + 2 * KEPT_FROM_BYTES + _RECEIVE_BYTES  # any header with any small payload
_TURN_BYTES = 2 * 1024 * 1024  # of one connection, before the others are looked at
_BUFFERS_PER_SEND = 64
# A restarted process is found again within a few of these; doubled at each failure up to the second.
_RECONNECT_MIN_S, _RECONNECT_MAX_S = 0.02, 0.5
_CONNECT_S = 1.0  # a lost SYN is sent again after a second by the kernel, and after ever longer times
_UNACKNOWLEDGED_MS = 3_000  # of a machine that vanished; heartbeats are sent all the time, so it is noticed by this
_ALIVE_S, _ALIVE_TRIES = 5, 3  # likewise by who only receives


class StreamServer:
    """Listens on `host`, at the first free one of `ports` (None: any). Its connections register with `poller`.

    Raises ConfigError when no port is free or the host is not an address of this machine.
    """

    def __init__(self, poller: Poller, host: str, ports: range | None = None) -> None:
        self._poller = poller
        self._connections: dict[StreamConnection, None] = {}  # in the order in which they came
        self._listener = _listen(host, ports)
        self.port: int = self._listener.getsockname()[1]
        poller.watch(self._listener.fileno(), self, POLLIN)

    def on_ready(self) -> list[Message]:
        """Takes who wants to connect; their messages come from the connections themselves."""
        while True:
            try:
                connected, _ = self._listener.accept()
            except OSError:
                return []  # nobody else, or one that went away again; out of descriptors: they wait
            self._make_room()
            self._connections[StreamConnection(self._poller, connected, self._connections)] = None

    def _make_room(self) -> None:
        """Strangers that connect and say nothing do not keep the others out."""
        if len(self._connections) >= STREAM_CONNECTIONS_MAX:
            silent = next((each for each in self._connections if not each.greeted), next(iter(self._connections)))
            silent.close()

    def close(self) -> None:
        for connection in list(self._connections):
            connection.close()
        self._poller.ignore(self._listener.fileno())
        self._listener.close()


def _listen(host: str, ports: range | None) -> socket.socket:
    for port in ports or (0,):
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            listener.listen(STREAM_CONNECTIONS_MAX)
        except OSError as error:
            listener.close()
            if ports is None or not ports:
                raise ConfigError(f"cannot listen on {host}: {error.strerror or error}") from None
            continue
        listener.setblocking(False)
        return listener
    assert ports is not None
    raise ConfigError(f"every port from {ports[0]} to {ports[-1]} on {host} is in use")


class StreamConnection:
    """What one StreamLink sends. Closes itself when that is over, or when it is not what one sends."""

    def __init__(self, poller: Poller, connected: socket.socket, connections: dict[StreamConnection, None]) -> None:
        self.greeted = False
        self._poller = poller
        self._socket = connected
        self._connections = connections
        self._view = memoryview(mmap.mmap(-1, _BUFFER_BYTES))  # an idle one holds a page of it
        self._held = 0  # bytes at the beginning of the buffer that are not a whole message yet
        self._header = b""  # of a payload that is received into memory of its own,
        self._payload = memoryview(b"")  # which is this,
        self._rest = memoryview(b"")  # and this is missing of it
        connected.setblocking(False)
        _notice_silence(connected)
        poller.watch(connected.fileno(), self, POLLIN)

    def on_ready(self) -> list[Message]:
        """What has come, in its order; about _TURN_BYTES of it."""
        found: list[Message] = []
        taken = 0
        while taken < _TURN_BYTES:
            into = self._rest or self._view[self._held : self._held + _RECEIVE_BYTES]
            try:
                size = self._socket.recv_into(into)
            except BlockingIOError:
                break
            except OSError:
                size = 0
            if size == 0 or not self._take(size, found):
                self.close()
                break
            taken += size
            if size < len(into):
                break  # that was all: asking again would only say so
        return found

    def _take(self, size: int, found: list[Message]) -> bool:
        """Puts what is whole now into `found`. False: no link of ours sent this."""
        if self._rest:
            self._rest = self._rest[size:]
            self._finish_payload(found)
            return True
        view, at, end = self._view, 0, self._held + size
        if not self.greeted:
            if end < len(GREETING):
                self._held = end
                return GREETING.startswith(bytes(view[:end]))
            if view[: len(GREETING)] != GREETING:
                return False
            self.greeted = True
            at = len(GREETING)
        while end - at >= LENGTHS.size:
            header_bytes, payload_bytes = LENGTHS.unpack_from(view, at)
            if not 0 < header_bytes <= HEADER_BYTES_MAX or payload_bytes > FRAME_BYTES_MAX:
                return False
            start = at + LENGTHS.size
            body = start + header_bytes
            following = body + payload_bytes
            if payload_bytes < KEPT_FROM_BYTES:
                if following > end:
                    break
                found.append((bytes(view[start:body]), bytes(view[body:following]) if payload_bytes else None))
                at = following
                continue
            if body > end:
                break
            self._header = bytes(view[start:body])
            self._payload = memoryview(bytearray(payload_bytes))
            at = min(end, following)
            came = at - body
            self._payload[:came] = view[body:at]
            self._rest = self._payload[came:]
            self._finish_payload(found)
        self._held = end - at
        if at and self._held:
            view[: self._held] = bytes(view[at:end])
        return True

    def _finish_payload(self, found: list[Message]) -> None:
        if not self._rest:
            found.append((self._header, self._payload))
            self._payload = memoryview(b"")  # its memory is the receiver's alone

    def close(self) -> None:
        if self in self._connections:
            del self._connections[self]
            self._poller.ignore(self._socket.fileno())
            self._socket.close()


class StreamLink:
    """To one StreamServer. Connects, and again when the connection breaks; call `tick` when `due_s` has come."""

    def __init__(self, poller: Poller, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.connected = False
        self.due_s = 0.0  # monotonic
        self._poller = poller
        self._socket: socket.socket | None = None
        self._address = _Address(endpoint.host)
        self._queue: deque[memoryview] = deque()
        self._queued_bytes = 0
        self._backoff_s = _RECONNECT_MIN_S
        self.tick()

    def tick(self) -> None:
        """Connects, or gives up on an attempt that takes too long."""
        now_s = time.monotonic()
        if self.connected or now_s < self.due_s:
            return
        if self._socket is not None:
            self._break()
            return
        address = self._address.look()
        if address is None:
            self.due_s = now_s + _RECONNECT_MIN_S
            return
        self._socket = made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        made.setblocking(False)
        _notice_silence(made)
        self.due_s = now_s + _CONNECT_S
        self._poller.watch(made.fileno(), self, POLLOUT)
        try:
            made.connect((address, self.endpoint.port))
        except BlockingIOError:
            pass
        except OSError:
            self._break()

    def send(self, header: bytes, payload: Buffer | None) -> bool:
        """False: not connected, or too much is waiting; it is dropped then. The payload must not change any more."""
        if not self.connected:
            return False
        lead = LENGTHS.pack(len(header), 0 if payload is None else len(payload)) + header
        parts = [memoryview(lead)] if payload is None else [memoryview(lead), memoryview(payload)]
        size = sum(map(len, parts))
        if self._queued_bytes + size > STREAM_QUEUE_BYTES_MAX:
            return False
        idle = not self._queue
        self._queue.extend(parts)
        self._queued_bytes += size
        if idle:
            self._send_queue()
        return self.connected

    def on_ready(self) -> list[Message]:
        """Goes on with what could not be sent at once. It receives nothing."""
        made = self._socket
        if made is None:
            return []
        if not self.connected:
            if made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                self._break()
                return []
            self.connected = True
            self.due_s = math.inf
            self._backoff_s = _RECONNECT_MIN_S
            self._poller.watch(made.fileno(), self, POLLIN)
            self._queue.append(memoryview(GREETING))
            self._queued_bytes = len(GREETING)
        elif self._is_over(made):
            self._break()
            return []
        self._send_queue()
        return []

    def _is_over(self, made: socket.socket) -> bool:
        """Nothing ever comes this way, so whatever can be read says that the other end has closed it."""
        try:
            made.recv(1)
        except BlockingIOError:
            return False
        except OSError:
            pass
        return True

    def _send_queue(self) -> None:
        queue, made = self._queue, self._socket
        assert made is not None
        while queue:
            try:
                sent = made.sendmsg(list(itertools.islice(queue, _BUFFERS_PER_SEND)))
            except BlockingIOError:
                self._poller.watch(made.fileno(), self, POLLIN | POLLOUT)
                return
            except OSError:
                self._break()
                return
            self._queued_bytes -= sent
            while queue and sent >= len(queue[0]):
                sent -= len(queue.popleft())
            if sent:
                queue[0] = queue[0][sent:]
        self._poller.watch(made.fileno(), self, POLLIN)

    def _break(self) -> None:
        """What waited is dropped: on the next connection a half of a message would be the first."""
        self.close()
        self.due_s = time.monotonic() + self._backoff_s * random.uniform(0.5, 1.0)
        self._backoff_s = min(self._backoff_s * 2, _RECONNECT_MAX_S)

    def close(self) -> None:
        self.connected = False
        self._queue.clear()
        self._queued_bytes = 0
        if self._socket is not None:
            self._poller.ignore(self._socket.fileno())
            self._socket.close()
            self._socket = None


class _Address:
    """Of a host. A name is looked up in a thread, anew for each attempt, since that may take seconds."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._found: str | None = host if _is_ipv4(host) else None
        self._is_name = self._found is None
        self._thread: threading.Thread | None = None

    def look(self) -> str | None:
        """None as long as it is not known: ask again."""
        if not self._is_name:
            return self._found
        if self._thread is None:
            self._found = None
            self._thread = threading.Thread(target=self._look_up, name="look up", daemon=True)
            self._thread.start()
        if self._thread.is_alive():
            return None
        self._thread = None
        return self._found

    def _look_up(self) -> None:
        with contextlib.suppress(OSError, UnicodeError):
            found = socket.getaddrinfo(self._host, None, socket.AF_INET, socket.SOCK_STREAM)
            self._found = str(found[0][4][0])


def _is_ipv4(host: str) -> bool:
    try:
        socket.inet_pton(socket.AF_INET, host)
    except OSError:
        return False
    return True


def _notice_silence(made: socket.socket) -> None:
    """Of a machine that has vanished, or that cannot be reached any more."""
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNACKNOWLEDGED_MS)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _ALIVE_S)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _ALIVE_S)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _ALIVE_TRIES)
