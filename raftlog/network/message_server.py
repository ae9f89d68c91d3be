"""What a Server is, over sockets of its own: many clients and nodes, each known by an identity.

    accept -> under TLS a handshake, and whom the certificate names; else the greeting of ZMTP -> whole messages

Without credentials all connections are plain: links of ZeroMQ, which notice no difference. It wakes no other thread, so
workers have it; with them it is under TLS, or takes both. Nothing of a connection counts BEFORE its handshake is done,
in HANDSHAKE_S at most. Those that are not done hold some kilobytes each, and make room only for each other.
"""

from __future__ import annotations

import errno
import itertools
import resource
import select
import socket
from collections import Counter, deque
from collections.abc import Callable, Sequence

from raftlog.clock import NEVER_S, monotonic_s
from raftlog.limits import (
    CLIENT_SILENT_S,
    CLIENT_WAITING_BYTES_MAX,
    CLIENTS_WAITING_BYTES_MAX,
    CONNECTIONS_MAX,
    CONNECTIONS_PER_ADDRESS_MAX,
    FRAME_BYTES_MAX,
    HANDSHAKE_S,
    LOGIN_S,
    STRANGERS_MAX,
    UNFINISHED_BYTES_MAX,
)
from raftlog.network.connections import SPARE_DESCRIPTORS
from raftlog.network.context import Frames
from raftlog.network.message_stream import MessageStream
from raftlog.network.readiness import Readiness
from raftlog.network.refusals import (
    ADDRESS,
    ANSWERS,
    CONNECTIONS,
    DESCRIPTORS,
    HANDSHAKES,
    IDENTITY,
    LOGIN,
    NO_LOGIN,
    UNFINISHED,
    Refusals,
)
from raftlog.network.secure import SecureSocket
from raftlog.network.tcp import listen, notice_silence
from raftlog.network.zmtp import ROUTER, Zmtp
from raftlog.security.credentials import Credentials
from raftlog.security.identity import Certificate
from raftlog.types import Buffer

TICK_S = 1.0
_ACCEPTED_PER_TURN = 64
_LARGE_BYTES = 1024 * 1024  # an answer that is refused rather than kept when too much waits
_UNFINISHED_ONE_BYTES_MAX = 2 * FRAME_BYTES_MAX  # a message is a header and a payload
_NO_DESCRIPTOR = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class MessageClient:
    """One connection. `principal`: whom its certificate names; "": it has shown none. `secure`: its TLS, if any."""

    __slots__ = ("begun_s", "identity", "place", "principal", "secure", "seen_bytes", "stream", "taken_s")

    def __init__(
        self, identity: bytes, place: tuple[str, int], secure: SecureSocket | None, stream: MessageStream, now_s: float
    ) -> None:
        self.identity = identity
        self.place = place
        self.principal = ""
        self.secure = secure
        self.stream = stream
        self.begun_s = now_s
        self.seen_bytes = 0  # sent, at the last tick
        self.taken_s = now_s  # when its other end last took something, or nothing waited

    @property
    def is_encrypted(self) -> bool:
        return self.secure is not None and not self.secure.plain


class MessageConnections:
    """Of one server. `refusals`: those that held too much, or were nobody."""

    def __init__(self) -> None:
        self.clients: dict[bytes, MessageClient] = {}
        self.on_gone: Callable[[bytes], None] = lambda identity: None  # told of each that ended
        self.refusals = Refusals()
        self.is_known: Callable[[bytes], bool] | None = None

    def demand_login(self, is_known: Callable[[bytes], bool] | None) -> None:
        """From now on each plain connection has LOGIN_S until `is_known` of it; None: nobody has to log in."""
        if (is_known is None) != (self.is_known is None):
            now_s = monotonic_s()
            for client in self.clients.values():
                client.begun_s = now_s
        self.is_known = is_known

    def is_stranger(self, client: MessageClient, now_s: float) -> bool:
        """It has had time to log in, and has not."""
        is_late = not client.is_encrypted and now_s - client.begun_s > LOGIN_S
        return is_late and self.is_known is not None and not self.is_known(client.identity)


class MessageServer:
    """Bound to `host` and the first free one of `ports` (None: any free port). Raises ConfigError as Server does.

    `socket` is the descriptor that becomes readable when something has come. Call `tick` when `due_s` has come.
    """

    def __init__(self, host: str, ports: range | int | None, credentials: Credentials | None = None) -> None:
        self.host = host
        self.dropped = 0
        self.connections = MessageConnections()
        self._credentials = credentials
        self._listener = listen(host, range(ports, ports + 1) if isinstance(ports, int) else ports)
        self.port: int = self._listener.getsockname()[1]
        self._readiness = Readiness()
        self._readiness.add(self._listener.fileno())
        self.socket = self._readiness.fileno()
        self._strangers: dict[int, MessageClient] = {}  # by descriptor, in the order in which they came
        self._known: dict[int, MessageClient] = {}
        self._by_host: Counter[str] = Counter()  # how many of both
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._connections_max = max(1, min(CONNECTIONS_MAX, limit - SPARE_DESCRIPTORS))
        self._behind: dict[MessageClient, None] = {}  # those for which something waits
        self._arrived: deque[Frames] = deque()
        self._numbers = itertools.count(1)
        self.due_s = NEVER_S  # as long as there is no connection

    # --- in ----------------------------------------------------------------------------------------
    def receive(self) -> Frames | None:
        """`[identity, header]` or `[identity, header, payload]`; None when nothing waits."""
        arrived = self._arrived
        if not arrived:
            self._gather()
            if not arrived:
                return None
        frames = arrived.popleft()
        self._readiness.more(bool(arrived))
        return frames

    def _gather(self) -> None:
        for descriptor, events in self._readiness.ready():
            if descriptor == self._listener.fileno():
                self._accept()
                continue
            client = self._known.get(descriptor) or self._strangers.get(descriptor)
            if client is None:
                continue
            if client.secure is None or client.secure.established or self._shake(client, client.secure):
                self._read(client, events)

    def _read(self, client: MessageClient, events: int) -> None:
        stream, identity = client.stream, client.identity
        if events & select.EPOLLOUT:
            self._flush(client)
        messages = stream.receive()
        if client.secure is None and identity not in self.connections.clients and stream.is_ready:
            self._admit(client)
        for header, payload in messages:
            self._arrived.append([identity, header] if payload is None else [identity, header, payload])
        if stream.closed:
            self._end(client)
        elif stream.rest_bytes > _UNFINISHED_ONE_BYTES_MAX:
            self._refuse(client, UNFINISHED, "too many bytes of messages that are half there")

    def _accept(self) -> None:
        for _ in range(_ACCEPTED_PER_TURN):
            try:
                connected, address = self._listener.accept()
            except OSError as error:
                if error.errno in _NO_DESCRIPTOR and self._strangers:
                    self._refuse(
                        next(iter(self._strangers.values())), DESCRIPTORS, "this process has no descriptor left"
                    )
                return
            host = address[0]
            if self._by_host[host] >= CONNECTIONS_PER_ADDRESS_MAX:
                connected.close()
                self._count(ADDRESS, host, f"it has {CONNECTIONS_PER_ADDRESS_MAX} connections")
                continue
            if len(self._strangers) >= STRANGERS_MAX:
                self._refuse(next(iter(self._strangers.values())), HANDSHAKES, "too many handshakes are under way")
            if len(self._known) >= self._connections_max:
                connected.close()
                self._count(CONNECTIONS, host, f"there are {self._connections_max} connections")
                continue
            connected.setblocking(False)
            notice_silence(connected)
            self._readiness.add(connected.fileno())
            identity = next(self._numbers).to_bytes(8, "big")
            secure, stream = self._stages(connected)
            self._strangers[connected.fileno()] = MessageClient(identity, address[:2], secure, stream, monotonic_s())
            self.due_s = min(self.due_s, monotonic_s() + TICK_S)
            self._by_host[host] += 1

    def _stages(self, connected: socket.socket) -> tuple[SecureSocket | None, MessageStream]:
        """Of a connection: its TLS, if any, and what makes messages of bytes."""
        credentials = self._credentials
        if credentials is None:
            return None, MessageStream(connected, self._readiness.watch, Zmtp(ROUTER))

        def why_nobody(certificate: Certificate) -> str:
            if not certificate or credentials.principal_of(certificate):
                return ""
            return "its certificate names nobody who is known here"

        secure = SecureSocket(
            connected, credentials.for_clients(), why_nobody, server_side=True, plain_too=credentials.permissive
        )
        return secure, MessageStream(secure, self._readiness.watch)

    def _shake(self, client: MessageClient, secure: SecureSocket) -> bool:
        try:
            if not secure.shake():
                return False
        except BlockingIOError:
            return False
        except ConnectionError:
            self._end(client)  # it has only looked whether somebody is here
            return False
        except OSError as error:
            self._refuse(client, IDENTITY, str(error))
            return False
        if secure.plain:
            client.stream = MessageStream(secure, self._readiness.watch, Zmtp(ROUTER))
        if secure.certificate and self._credentials is not None:
            client.principal = self._credentials.principal_of(secure.certificate)
        self._admit(client)
        return True

    def _admit(self, client: MessageClient) -> None:
        descriptor = client.stream.fileno()
        del self._strangers[descriptor]
        self._known[descriptor] = client
        self.connections.clients[client.identity] = client

    # --- out ---------------------------------------------------------------------------------------
    def send(self, identity: bytes, frames: Sequence[Buffer]) -> bool:
        """False when the peer is gone or does not take its answers, or too much waits; the frames are dropped then."""
        client = self.connections.clients.get(identity)
        if client is None:
            return False
        stream = client.stream
        size = sum(map(len, frames))
        if stream.out_bytes + size > CLIENT_WAITING_BYTES_MAX and not self._makes_room(client, size):
            return False
        if size > _LARGE_BYTES and self._waiting_bytes() + size > CLIENTS_WAITING_BYTES_MAX:
            return False
        header, *payload = frames
        if not stream.put(bytes(header), payload[0] if payload else None):
            return False
        self._flush(client)
        return not stream.closed

    def _makes_room(self, client: MessageClient, size: int) -> bool:
        """A large answer is refused; who does not even take small ones ends."""
        if size <= _LARGE_BYTES and client.stream.out_bytes > CLIENT_WAITING_BYTES_MAX + _LARGE_BYTES:
            self._refuse(client, ANSWERS, "it does not take its answers")
        return size <= _LARGE_BYTES and not client.stream.closed

    def _waiting_bytes(self) -> int:
        return sum(client.stream.out_bytes for client in self._behind)

    def _flush(self, client: MessageClient) -> None:
        stream = client.stream
        stream.flush()
        if stream.closed:
            self._end(client)
        elif stream.out_bytes:
            self._behind[client] = None
        else:
            self._behind.pop(client, None)

    # --- once in a while -----------------------------------------------------------------------------
    def tick(self) -> None:
        """Ends connections that hold too much memory, or have held it for too long."""
        now_s = monotonic_s()
        if now_s < self.due_s:
            return
        late_s = now_s - self.due_s  # this process did not run: nobody's fault
        self.due_s = now_s + TICK_S if self._strangers or self._known else NEVER_S
        for client in list(self._strangers.values()):
            client.begun_s += late_s
            if now_s - client.begun_s > HANDSHAKE_S:
                self._refuse(client, HANDSHAKES, f"its handshake was not done after {HANDSHAKE_S:.0f} s")
        unfinished = []
        for client in list(self._known.values()):
            stream = client.stream
            client.begun_s += late_s
            client.taken_s += late_s
            if self.connections.is_stranger(client, now_s):
                self._refuse(client, LOGIN, NO_LOGIN)
                continue
            if stream.sent_bytes != client.seen_bytes or not stream.out_bytes:
                client.seen_bytes, client.taken_s = stream.sent_bytes, now_s
            elif now_s - client.taken_s > CLIENT_SILENT_S:
                self._refuse(client, ANSWERS, "it does not take its answers")
                continue
            if stream.rest_bytes:
                unfinished.append((stream.rest_bytes, client.identity, client))
        total = sum(size for size, _, _ in unfinished)
        for size, _, client in sorted(unfinished, reverse=True):
            if total <= UNFINISHED_BYTES_MAX:
                return
            self._refuse(client, UNFINISHED, "too many bytes of messages that are half there")
            total -= size

    # --- ends ----------------------------------------------------------------------------------------
    def _refuse(self, client: MessageClient, reason: str, why: str) -> None:
        self._count(reason, client.place[0], why)
        self._end(client)

    def _count(self, reason: str, host: str, why: str) -> None:
        self.connections.refusals.add(reason, host, why)

    def _end(self, client: MessageClient) -> None:
        descriptor = client.stream.fileno()
        if descriptor < 0:
            return
        self._readiness.drop(descriptor)
        self._strangers.pop(descriptor, None)
        self._known.pop(descriptor, None)
        self._behind.pop(client, None)
        self._by_host[client.place[0]] -= 1
        if not self._by_host[client.place[0]]:
            del self._by_host[client.place[0]]
        client.stream.close()
        if self.connections.clients.pop(client.identity, None) is not None:
            self.connections.on_gone(client.identity)

    def close(self) -> None:
        """Unregister it from its poller BEFORE. What was not sent yet is dropped."""
        for client in [*self._strangers.values(), *self._known.values()]:
            self._end(client)
        self._readiness.close()
        self._listener.close()
