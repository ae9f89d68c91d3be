"""Messages between the workers of one partition: plain TCP, written and read by the worker's own thread.

Raft's messages do not go through ZeroMQ, although produce and fetch do. Each message through ZeroMQ wakes the sender's
I/O thread, the receiver's I/O thread and the receiver; here it wakes the receiver. Measured with three nodes on two
cores, one after the other in one run (docs/results/comparison.md): one record at a time 0.94 ms instead of 1.18 (flush
os), batches of 50 x 200 B 14 % more records a second, for three quarters of the CPU.

One direction, from the StreamLink of one to the StreamServer of the other:

    GREETING with the addressee's boot id, then any number of  LENGTHS(header bytes, payload bytes), header, payload

Nothing is promised: what was sent when a connection broke is lost, and what a full queue refuses is dropped. Whoever
sends knows whom it means and says so in the header, since a port may belong to another worker by now.

A connection that has not named this worker's boot id is a stranger's. It holds no memory beyond its greeting, it has
STREAM_GREETING_S for that, and strangers make room only for each other. What peers' unfinished messages may take is
bounded for all of them, the largest take memory as their bytes come, and one that does not go on ends its connection.

With credentials both ends show a certificate, in TLS 1.3 below the greeting: a server takes nodes of its cluster, a
link the node that it means only, BEFORE a byte of the other is read. Permissive ones take plain connections as well,
and make one where the other end has ended a handshake: whoever reads greetings only does that.
"""

from __future__ import annotations

import errno
import itertools
import mmap
import random
import socket
import struct
from collections import deque
from select import POLLIN, POLLOUT

from raftlog.clock import NEVER_S, monotonic_s
from raftlog.limits import (
    FRAME_BYTES_MAX,
    HEADER_BYTES_MAX,
    RECONNECT_BACKOFF_MAX_S,
    RECONNECT_BACKOFF_MIN_S,
    STREAM_CONNECTIONS_MAX,
    STREAM_GREETING_S,
    STREAM_MESSAGE_S,
    STREAM_QUEUE_BYTES_MAX,
    STREAM_SILENT_S,
    STREAM_STRANGERS_MAX,
    STREAM_UNFINISHED_BYTES_MAX,
)
from raftlog.network.addresses import Address, family_of
from raftlog.network.context import KEPT_FROM_BYTES
from raftlog.network.poller import Poller
from raftlog.network.secure import SecureSocket, accept_node, connect_node, speaks_no_tls
from raftlog.network.tcp import listen, notice_silence
from raftlog.security.credentials import Credentials
from raftlog.types import Buffer, Endpoint

GREETING = struct.Struct(">8sQ")
GREETING_MAGIC = b"RLSTRM2\n"
LENGTHS = struct.Struct(">II")
Message = tuple[bytes, Buffer | None]
"""header, payload: memory of its own, a writable memoryview from KEPT_FROM_BYTES on."""

_RECEIVE_BYTES = 256 * 1024  # at once: small messages come many together, a large one is copied no further than this
_BUFFER_BYTES = HEADER_BYTES_MAX + 2 * KEPT_FROM_BYTES + _RECEIVE_BYTES  # any header with any small payload
_TURN_BYTES = 2 * 1024 * 1024  # of one connection, before the others are looked at
_BUFFERS_PER_SEND = 64
# A larger payload is mapped, so that it takes memory only as its bytes come. That costs page faults: 5 MB took three
# times as long. From this size on the allocator maps as well (raftlog/network/memory.py).
_MAPPED_FROM_BYTES = 32 * 1024 * 1024
_LARGE_BYTES = 1024 * 1024  # a payload for which room is made: 64 connections may hold a smaller one each
_ACCEPTED_PER_TURN = 64
_LOOK_S = 1.0  # how exactly the times of strangers and of unfinished messages are kept
_NO_DESCRIPTOR = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_CONNECT_S = 1.0  # a lost SYN is sent again after a second by the kernel, and after ever longer times


class StreamServer:
    """Listens on `host`, at the first free one of `ports` (None: any). Its connections register with `poller`.

    Call `tick` when `due_s` has come. Raises ConfigError when no port is free or the host is not an address of this
    machine.
    """

    def __init__(
        self,
        poller: Poller,
        host: str,
        boot_id: int,
        ports: range | None = None,
        credentials: Credentials | None = None,
    ) -> None:
        """`refused` counts those that were no nodes of this cluster, `why` says it of the last one."""
        self.due_s = NEVER_S  # monotonic
        self.poller = poller
        self.refused = 0
        self.why = ""
        self._credentials = credentials
        self.greeting = GREETING.pack(GREETING_MAGIC, boot_id)
        # Both in the order in which they came.
        self._strangers: dict[StreamConnection, None] = {}
        self._peers: dict[StreamConnection, None] = {}
        self._listener = listen(host, ports)
        self.port: int = self._listener.getsockname()[1]
        poller.watch(self._listener.fileno(), self, POLLIN)

    def on_ready(self) -> list[Message]:
        """Takes those who want to connect, and what they have sent already."""
        found: list[Message] = []
        for _ in range(_ACCEPTED_PER_TURN):
            try:
                connected, address = self._listener.accept()
            except OSError as error:
                if error.errno in _NO_DESCRIPTOR:
                    self._pause()
                break  # nobody else, or one that went away again
            if len(self._strangers) >= STREAM_STRANGERS_MAX:
                next(iter(self._strangers)).close()
            connected.setblocking(False)
            notice_silence(connected)
            secure = None if self._credentials is None else accept_node(connected, self._credentials)
            connection = StreamConnection(self, secure or connected, address[0])
            self._strangers[connection] = None
            found += connection.on_ready()  # a peer's greeting is there at once: it is a stranger no longer
            self.look_soon()
        return found

    def refuse(self, address: str, why: str) -> None:
        self.refused += 1
        self.why = f"{address}: {why}"

    def _pause(self) -> None:
        """No descriptor is left. The listener would be ready all the time; it is looked at again by `tick`."""
        if self._strangers:
            next(iter(self._strangers)).close()
        else:
            self.poller.watch(self._listener.fileno(), self, 0)
            self.look_soon()

    def look_soon(self) -> None:
        """Something was begun that has to end."""
        if self.due_s == NEVER_S:
            self.due_s = monotonic_s() + _LOOK_S

    def tick(self) -> None:
        """Ends connections of strangers that do not greet, and of messages that do not go on."""
        now_s = monotonic_s()
        if now_s < self.due_s:
            return
        late_s = now_s - self.due_s  # this process did not run: nobody's fault
        self.due_s = NEVER_S
        self.poller.watch(self._listener.fileno(), self, POLLIN)
        for connection in [*self._strangers, *self._peers]:
            if connection.is_overdue(now_s, late_s):
                connection.close()
            elif not connection.is_at_rest:
                self.due_s = now_s + _LOOK_S

    def admit(self, connection: StreamConnection) -> None:
        """It has named the boot id."""
        del self._strangers[connection]
        if len(self._peers) >= STREAM_CONNECTIONS_MAX:
            next(iter(self._peers)).close()
        self._peers[connection] = None

    def make_room(self, connection: StreamConnection, size: int) -> None:
        """For a large payload. The unfinished ones of longest standing end when all together are too much."""
        unfinished = {each: each.payload_bytes for each in self._peers if each is not connection}
        total = sum(unfinished.values()) + size
        for each, bytes_there in unfinished.items():
            if total <= STREAM_UNFINISHED_BYTES_MAX:
                return
            if bytes_there:
                each.close()
                total -= bytes_there

    def forget(self, connection: StreamConnection) -> bool:
        """False: it was closed before."""
        known = connection in self._strangers or connection in self._peers
        self._strangers.pop(connection, None)
        self._peers.pop(connection, None)
        return known

    def close(self) -> None:
        for connection in [*self._strangers, *self._peers]:
            connection.close()
        self.poller.unregister(self._listener.fileno())
        self._listener.close()


class StreamConnection:
    """What one StreamLink sends. Closes itself when that is over, or when it is not what one sends."""

    def __init__(self, server: StreamServer, connected: socket.socket | SecureSocket, address: str) -> None:
        self._server = server
        self._socket = connected
        self._secure = connected if isinstance(connected, SecureSocket) else None
        self._address = address
        self._greeted = False
        self._view = memoryview(mmap.mmap(-1, _BUFFER_BYTES))  # an idle one holds a page of it
        self._held = 0  # bytes at the beginning of the buffer that are not a whole message yet
        self._header = b""  # of a payload that is received into memory of its own,
        self._payload = memoryview(b"")  # which is this,
        self._rest = memoryview(b"")  # and this is missing of it
        self._messages = self._bytes = 0  # that have come
        self._seen_messages, self._seen_bytes = -1, 0  # when it was looked at last
        self._message_s = self._byte_s = monotonic_s()  # when the unfinished message began, and last went on
        server.poller.watch(connected.fileno(), self, POLLIN)

    @property
    def payload_bytes(self) -> int:
        """Of the unfinished large payload."""
        return len(self._payload)

    @property
    def is_at_rest(self) -> bool:
        """It has greeted, and no message is half there."""
        return self._greeted and not self._rest and not self._held

    def is_overdue(self, now_s: float, late_s: float) -> bool:
        """`late_s` is how long this process did not look."""
        if not self._greeted:
            self._message_s += late_s
            return now_s - self._message_s > STREAM_GREETING_S
        if self.is_at_rest:
            self._seen_messages = -1
            return False
        if self._messages != self._seen_messages:
            self._seen_messages = self._messages
            self._message_s = now_s
        if self._bytes != self._seen_bytes:
            self._seen_bytes = self._bytes
            self._byte_s = now_s
        self._message_s, self._byte_s = min(self._message_s + late_s, now_s), min(self._byte_s + late_s, now_s)
        return now_s - self._byte_s > STREAM_SILENT_S or now_s - self._message_s > STREAM_MESSAGE_S

    def on_ready(self) -> list[Message]:
        """What has come, in its order; about _TURN_BYTES of it."""
        found: list[Message] = []
        taken = 0
        while taken < _TURN_BYTES or (self._secure is not None and self._secure.holds):
            into = self._rest or self._view[self._held : self._held + _RECEIVE_BYTES]
            if not self._greeted:
                into = self._view[self._held : GREETING.size]
            try:
                if self._secure is not None and taken >= _TURN_BYTES:
                    size = self._secure.take_held(into)  # no poll tells of what is decrypted already
                else:
                    size = self._socket.recv_into(into)
            except BlockingIOError:
                break
            except OSError as error:
                size = 0
                if self._secure is not None and not self._secure.established and not isinstance(error, ConnectionError):
                    self._server.refuse(self._address, str(error))
            if size == 0 or not self._take(size, found):
                self.close()
                break
            taken += size
            if size < len(into):
                break  # that was all: asking again would only say so
        self._bytes += taken
        self._messages += len(found)
        if self._rest or self._held:
            self._server.look_soon()
        return found

    def _take(self, size: int, found: list[Message]) -> bool:
        """Puts what is whole now into `found`. False: no link of ours sent this."""
        if self._rest:
            self._rest = self._rest[size:]
            self._finish_payload(found)
            return True
        view, at, end = self._view, 0, self._held + size
        if not self._greeted:
            return self._greet(end)
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
            if not self._make_payload(payload_bytes):
                return False
            at = min(end, following)
            came = at - body
            self._payload[:came] = view[body:at]
            self._rest = self._payload[came:]
            self._finish_payload(found)
        self._held = end - at
        if at and self._held:
            view[: self._held] = bytes(view[at:end])
        return True

    def _greet(self, end: int) -> bool:
        self._held = end
        if not self._server.greeting.startswith(bytes(self._view[:end])):
            return False
        if end == GREETING.size:
            self._greeted = True
            self._held = 0
            self._server.admit(self)
        return True

    def _make_payload(self, size: int) -> bool:
        if size > _LARGE_BYTES:
            self._server.make_room(self, size)
        try:
            self._payload = memoryview(mmap.mmap(-1, size) if size >= _MAPPED_FROM_BYTES else bytearray(size))
        except (OSError, MemoryError):
            return False  # the machine gives no more; Raft sends again what was lost
        return True

    def _finish_payload(self, found: list[Message]) -> None:
        if not self._rest:
            found.append((self._header, self._payload))
            self._payload = memoryview(b"")  # its memory is the receiver's alone

    def close(self) -> None:
        if self._server.forget(self):
            self._server.poller.unregister(self._socket.fileno())
            self._socket.close()
            self._payload = self._rest = memoryview(b"")


class StreamLink:
    """To the StreamServer of one boot of a worker. Connects, and again when the connection breaks.

    Call `tick` when `due_s` has come.
    """

    def __init__(
        self,
        poller: Poller,
        endpoint: Endpoint,
        boot_id: int,
        node_id: int = 0,
        credentials: Credentials | None = None,
    ) -> None:
        """`node_id` matters with credentials: whose certificate is to be shown. `why`: why the last one was not."""
        self.endpoint = endpoint
        self.boot_id = boot_id
        self.why = ""
        self._node_id = node_id
        self._credentials = credentials
        self._secure: SecureSocket | None = None
        self._plain = False  # the next connection
        self.connected = False
        self.due_s = 0.0  # monotonic
        self._poller = poller
        self._socket: socket.socket | None = None
        self._address = Address(endpoint.host)
        self._queue: deque[memoryview] = deque()
        self._queued_bytes = 0
        self._backoff_s = RECONNECT_BACKOFF_MIN_S
        self._connected_s = 0.0
        self.tick()

    def tick(self) -> None:
        """Connects, or gives up on an attempt that takes too long."""
        now_s = monotonic_s()
        if self.connected or now_s < self.due_s:
            return
        if self._socket is not None:
            self._break()
            return
        address = self._address.look()
        if address is None:
            self.due_s = now_s + RECONNECT_BACKOFF_MIN_S
            return
        self._socket = made = socket.socket(family_of(address), socket.SOCK_STREAM)
        made.setblocking(False)
        notice_silence(made)
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
            if not self._is_made(made):
                return []
            self.connected = True
            self.due_s = NEVER_S
            self._connected_s = monotonic_s()
            self._poller.watch(made.fileno(), self, POLLIN)
            self._queue.append(memoryview(GREETING.pack(GREETING_MAGIC, self.boot_id)))
            self._queued_bytes = GREETING.size
        elif self._is_over(made):
            self._break()
            return []
        self._send_queue()
        return []

    def _is_made(self, made: socket.socket) -> bool:
        """There is a connection, and with credentials the other end is who it has to be."""
        credentials = self._credentials
        if self._secure is None:
            if made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                self._break()
                return False
            if credentials is None or self._plain:
                self._plain = False
                self.why = ""
                return True
            self._secure = connect_node(made, credentials, self._node_id)
            self.due_s = monotonic_s() + STREAM_GREETING_S
            self._poller.watch(made.fileno(), self, POLLIN)
        try:
            return self._secure.shake()
        except BlockingIOError:
            return False
        except OSError as error:
            self.why = str(error)
            self._plain = credentials is not None and credentials.permissive and speaks_no_tls(error)
            self._break()
            return False

    def _is_over(self, made: socket.socket) -> bool:
        """Nothing ever comes this way, so whatever can be read says that the other end has closed it."""
        try:
            (self._secure or made).recv(1)
        except BlockingIOError:
            return False
        except OSError:
            pass
        return True

    def _send_queue(self) -> None:
        queue, made = self._queue, self._socket
        assert made is not None
        through = self._secure or made
        while queue:
            try:
                sent = through.sendmsg(list(itertools.islice(queue, _BUFFERS_PER_SEND)))
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
        now_s = monotonic_s()
        if self.connected and now_s - self._connected_s > RECONNECT_BACKOFF_MAX_S:
            self._backoff_s = RECONNECT_BACKOFF_MIN_S  # not if it was closed at once: another boot has the port
        self.close()
        self.due_s = now_s + self._backoff_s * random.uniform(0.5, 1.0)
        self._backoff_s = min(self._backoff_s * 2, RECONNECT_BACKOFF_MAX_S)

    def close(self) -> None:
        self.connected = False
        self._queue.clear()
        self._queued_bytes = 0
        if self._socket is not None:
            self._poller.unregister(self._socket.fileno())
            (self._secure or self._socket).close()
            self._socket = self._secure = None
