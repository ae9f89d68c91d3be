"""What a Link is, under TLS: one connection to one endpoint, of which the other end is a node of the cluster.

    name -> TCP -> TLS handshake -> whole messages

With credentials that are permissive it asks for TLS first, each time; of an end that speaks none it becomes a plain
link to it.

`watch` goes on with whatever of it can go on; call it when `socket` is readable, and when `due_s` has come.
"""

from __future__ import annotations

import select
import socket
from collections import deque
from collections.abc import Sequence

from raftlog.clock import NEVER_S, monotonic_s
from raftlog.limits import HANDSHAKE_S, RECONNECT_BACKOFF_MAX_S, RECONNECT_BACKOFF_MIN_S
from raftlog.network.addresses import Address, family_of
from raftlog.network.context import Frames
from raftlog.network.message_stream import MessageStream
from raftlog.network.readiness import Readiness
from raftlog.network.secure import SecureSocket, speaks_no_tls
from raftlog.network.tcp import notice_silence
from raftlog.network.zmtp import DEALER, Zmtp
from raftlog.security.credentials import Credentials
from raftlog.security.identity import Certificate
from raftlog.types import Buffer, Endpoint

CONNECT_S = 3.0
_LOOK_S = 0.02  # a name is looked up by a thread, which tells nobody


class SecureLink:
    """A link under TLS.

    `connected`, `losses` and `over` mean what they mean of a Link that is watched.

    once      it is not made again: `over` says that it broke or was never made, and `why` the reason
    node_id   the node that is meant; None: any node of the cluster, at this host
    """

    monitor = None

    def __init__(
        self, endpoint: Endpoint, credentials: Credentials, *, once: bool = False, node_id: int | None = None
    ) -> None:
        """Raises OSError without descriptors."""
        self.endpoint = endpoint
        self.connected = False
        self.over = False
        self.losses = 0
        self.why = ""
        self.due_s = NEVER_S
        self._credentials = credentials
        self._once = once
        self._node_id = node_id
        self._address = Address(endpoint.host)
        self._made: socket.socket | None = None
        self._secure: SecureSocket | None = None
        self._stream: MessageStream | None = None
        self._plain = False  # the connection that is made now
        self._arrived: deque[Frames] = deque()
        self._backoff_s = RECONNECT_BACKOFF_MIN_S
        self._give_up_s = monotonic_s() + CONNECT_S
        self._readiness = Readiness()
        self.socket = self._readiness.fileno()
        self._connect()

    # --- the connection ------------------------------------------------------------------------------
    def _connect(self) -> None:
        now_s = monotonic_s()
        address = self._address.look()
        if address is None:
            if now_s >= self._give_up_s:
                self._break(f"{self.endpoint.host} is no address and no name that is known here")
            else:
                self.due_s = now_s + _LOOK_S
            return
        try:
            self._made = made = socket.socket(family_of(address), socket.SOCK_STREAM)
        except OSError:
            self._readiness.close()
            raise
        made.setblocking(False)
        notice_silence(made)
        self._readiness.add(made.fileno(), select.EPOLLOUT)
        self.due_s = self._give_up_s
        try:
            made.connect((address, self.endpoint.port))
        except BlockingIOError:
            pass
        except OSError as error:
            self._break(error.strerror)

    def _check(self, certificate: Certificate) -> str:
        return self._credentials.why_no_node(certificate, self._node_id)

    def _go_on(self) -> None:
        """Towards a connection. Raises OSError, BlockingIOError while there is nothing to do."""
        made = self._made
        assert made is not None
        if self._secure is None:
            code = made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                raise OSError(code, "no connection")
            if not _is_connected(made):
                raise BlockingIOError
            self._readiness.watch(made.fileno(), select.EPOLLIN)
            self.due_s = monotonic_s() + HANDSHAKE_S
            if self._plain:
                self._stream = MessageStream(made, self._readiness.watch, Zmtp(DEALER))
                return
            context = self._credentials.connecting()
            host = self.endpoint.host if context.check_hostname else None
            self._secure = SecureSocket(made, context, self._check, host=host)
        if self._secure.shake():
            self._stream = MessageStream(self._secure, self._readiness.watch)

    def watch(self) -> None:
        """Brings all up to date, and takes in what has come. Call it BEFORE the last `receive` of a round."""
        if self.over:
            return
        if self._made is None:
            if monotonic_s() >= self.due_s:
                self._connect()
            return
        if self._stream is None:
            try:
                self._go_on()
            except BlockingIOError:
                pass
            except OSError as error:
                if self._credentials.permissive and self._secure is not None and speaks_no_tls(error):
                    self._drop()
                    self._plain = True
                    self._connect()
                    return
                self._break(error.strerror or str(error))
        if self._stream is not None:
            self._exchange(self._stream)
        if not self.connected and self._made is not None and monotonic_s() >= self.due_s:
            self._break("it did not answer in time")

    def _exchange(self, stream: MessageStream) -> None:
        stream.flush()
        for header, payload in stream.receive():
            self._arrived.append([header] if payload is None else [header, payload])
        self._readiness.more(bool(self._arrived))
        if stream.closed:
            self._break("the connection broke")
        elif not self.connected and stream.is_ready:
            self.connected = True
            self.due_s = NEVER_S
            self._backoff_s = RECONNECT_BACKOFF_MIN_S

    def _break(self, why: str | None) -> None:
        self.why = why or "no connection"
        self.losses += self.connected
        self._plain = False
        self._drop()
        if self._once:
            self.over = True
            self.due_s = NEVER_S
            self._readiness.more(True)  # somebody has to look at it
            return
        now_s = monotonic_s()
        self.due_s = now_s + self._backoff_s
        self._give_up_s = self.due_s + CONNECT_S
        self._backoff_s = min(self._backoff_s * 2, RECONNECT_BACKOFF_MAX_S)

    def _drop(self) -> None:
        self.connected = False
        made, self._made = self._made, None
        if made is not None:
            self._readiness.drop(made.fileno())
            (self._secure or made).close()
        self._secure = self._stream = None

    # --- messages --------------------------------------------------------------------------------------
    def send(self, frames: Sequence[Buffer]) -> bool:
        """False: not connected or the queue is full; the frames are dropped."""
        stream = self._stream
        if stream is None or not self.connected:
            return False
        header, *payload = frames
        if not stream.put(bytes(header), payload[0] if payload else None):
            return False
        stream.flush()
        return not stream.closed

    def receive(self) -> Frames | None:
        """The frames of one message, or None when nothing waits."""
        if not self._arrived:
            return None
        frames = self._arrived.popleft()
        self._readiness.more(bool(self._arrived) or self.over)
        return frames

    def close(self, linger_s: float = 0) -> None:
        """Unregister it from its poller BEFORE. What is not sent within `linger_s` is dropped."""
        if self._made is not None and self._stream is not None and self._stream.out_bytes and linger_s:
            self._send_rest(self._made, self._stream, linger_s)
        self._drop()
        self._readiness.close()

    def _send_rest(self, made: socket.socket, stream: MessageStream, linger_s: float) -> None:
        deadline_s = monotonic_s() + linger_s
        while stream.out_bytes and not stream.closed:
            left_s = deadline_s - monotonic_s()
            if left_s <= 0 or not select.select([], [made], [], left_s)[1]:
                return
            stream.flush()


def _is_connected(made: socket.socket) -> bool:
    try:
        made.getpeername()
    except OSError:
        return False
    return True
