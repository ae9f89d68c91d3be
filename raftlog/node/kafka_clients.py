"""The TCP connections of Kafka's clients: what they send, what waits for them, and when each has to end."""

from __future__ import annotations

import itertools
import select
import socket
from collections import deque
from collections.abc import Callable

from raftlog import limits
from raftlog.kafka.connection import Connection
from raftlog.network.secure import SecureSocket
from raftlog.node.segment_files import FilePiece
from raftlog.protocol.session import Session
from raftlog.security.credentials import Credentials
from raftlog.security.identity import Certificate
from raftlog.types import Endpoint

_RECEIVE_BYTES = 256 * 1024
_BUFFERS_PER_SEND = 64
_LOAD_BYTES = 256 * 1024  # of a file, into memory, to be encrypted


class KafkaClient:
    """One connection. It is read while its answers leave, and while not too many of them wait.

    With credentials it is under TLS, and whom its certificate names is known BEFORE a byte is parsed. `trouble`: why it
    came to nothing.
    """

    __slots__ = (
        *("_credentials", "_events", "_out", "_piece_bytes", "_secure", "_socket", "_watch"),
        *("active_s", "begun_s", "came_s", "connection", "descriptor", "out_bytes", "trouble"),
    )

    def __init__(
        self,
        connected: socket.socket,
        address: Endpoint,
        now_s: float,
        watch: Callable[[int, int], None],
        credentials: Credentials | None = None,
    ) -> None:
        """`watch(descriptor, events)` changes what the loop waits for. `credentials`: of this node."""
        connected.setblocking(False)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.trouble = ""
        self._credentials = credentials
        self._secure: SecureSocket | None = None
        if credentials is not None:
            self._secure = SecureSocket(
                connected,
                credentials.for_logins(),
                self._why_nobody,
                server_side=True,
                plain_too=credentials.permissive,
            )
        self._socket: socket.socket | SecureSocket = self._secure or connected
        self._watch = watch
        self._events = select.EPOLLIN
        self._out: deque[memoryview | FilePiece] = deque()
        self._piece_bytes = 0  # of files, which take no memory here
        self.out_bytes = 0
        self.descriptor = connected.fileno()
        self.connection = Connection(Session(self, str(address)))
        self.came_s = now_s
        self.active_s = now_s  # something came, or left
        self.begun_s = now_s  # the request that is half there began to come

    @property
    def held_bytes(self) -> int:
        return self.out_bytes + self.connection.unfinished_bytes

    @property
    def is_stranger(self) -> bool:
        """It has not said yet who it is."""
        return self._secure is not None and not self._secure.established

    @property
    def is_at_rest(self) -> bool:
        """It has said nothing that is not answered, and has taken every answer."""
        return not (self.is_stranger or self._out or self.connection.unfinished_bytes or self.connection.waiting)

    def read(self) -> bytes | None:
        """What has come; b"": the client is gone; None: nothing."""
        try:
            if self._secure is not None and not self._secure.established and not self._shake(self._secure):
                return None
            return self._socket.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return None
        except ConnectionError:
            return b""
        except OSError as error:
            self.trouble = str(error)
            return b""

    def _shake(self, secure: SecureSocket) -> bool:
        if not secure.shake():
            return False
        if secure.plain:
            return True
        assert self._credentials is not None, "it is under TLS"
        shown = secure.certificate
        self.connection.session.secure(self._credentials.principal_of(shown) if shown else "")
        return True

    def _why_nobody(self, shown: Certificate) -> str:
        assert self._credentials is not None, "it is under TLS"
        known = not shown or self._credentials.principal_of(shown)
        return "" if known else "its certificate names nobody who is known here"

    def write(self, now_s: float) -> bool:
        """Sends what may leave. False: the client is gone."""
        out = self._out
        for each in self.connection.take():
            if isinstance(each, FilePiece):
                self._piece_bytes += len(each)
                out.append(each)
            elif len(each):
                assert isinstance(each, bytes | bytearray | memoryview)
                self.out_bytes += len(each)
                out.append(memoryview(each))
        try:
            while out:
                if self._secure is not None:
                    self._load()
                first = out[0]
                if isinstance(first, FilePiece):
                    self._piece_bytes -= first.send(self.descriptor)
                    if not len(first):
                        out.popleft()
                else:
                    self._send_buffers()
                self.active_s = now_s
        except BlockingIOError:
            pass
        except OSError:
            return False
        self._want()
        return True

    def _load(self) -> None:
        """What is encrypted has to be read: together with what stands in front of it, since each record costs."""
        out = self._out
        head, first = b"", out[0]
        if not isinstance(first, FilePiece):
            if len(out) == 1 or len(first) >= _LOAD_BYTES or not isinstance(out[1], FilePiece):
                return
            head = bytes(first)
            out.popleft()
        piece = out[0]
        assert isinstance(piece, FilePiece)
        data = piece.read(_LOAD_BYTES)
        self._piece_bytes -= len(data)
        self.out_bytes += len(data)
        if not len(piece):
            out.popleft()
        out.appendleft(memoryview(head + data))

    def _send_buffers(self) -> None:
        out = self._out
        found: list[memoryview] = []
        flags = 0
        for each in itertools.islice(out, _BUFFERS_PER_SEND):
            if isinstance(each, FilePiece):
                flags = socket.MSG_MORE  # what comes behind them may share their packet
                break
            found.append(each)
        sent = self._socket.sendmsg(found, (), flags)
        self.out_bytes -= sent
        for each in found:
            if sent < len(each):
                out[0] = each[sent:]
                return
            sent -= len(each)
            out.popleft()

    def _want(self) -> None:
        events = select.EPOLLOUT if self._out else 0
        waiting_bytes = self.out_bytes + self._piece_bytes
        has_room = waiting_bytes < limits.KAFKA_WAITING_BYTES
        connection = self.connection
        if has_room and connection.waiting < limits.KAFKA_REQUESTS_IN_FLIGHT and not connection.held:
            events |= select.EPOLLIN
        if events != self._events:
            self._events = events
            self._watch(self.descriptor, events)

    def why_over(self, now_s: float) -> str:
        """Why it has to end now; "" while it need not."""
        if self.is_stranger:
            late = now_s - self.begun_s > limits.HANDSHAKE_S
            return f"its handshake was not done after {limits.HANDSHAKE_S:.0f} s" if late else ""
        if self.connection.waits_for_login and now_s - self.came_s > limits.LOGIN_S:
            return f"it has not logged in for {limits.LOGIN_S:.0f} s"
        silent_s = now_s - self.active_s
        if self.connection.held:
            self.begun_s = now_s  # what is half there may not come
        if self._out and silent_s > limits.CLIENT_SILENT_S:
            return f"it took none of its answers for {silent_s:.0f} s"
        if self.connection.unfinished_bytes and now_s - self.begun_s > limits.KAFKA_REQUEST_S:
            return f"a request was not whole after {limits.KAFKA_REQUEST_S:.0f} s"
        if not self.connection.waiting and silent_s > limits.KAFKA_IDLE_S:
            return f"it was idle for {silent_s:.0f} s"
        return ""

    def close(self) -> None:
        """What it was to be sent takes no memory any more: who knows it and whom it knows is for the collector."""
        self._out.clear()
        self._socket.close()
