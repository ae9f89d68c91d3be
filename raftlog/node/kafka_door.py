"""The loop of Kafka's door: clients in front, this node's workers behind, the core of raftlog/kafka between them.

    poll -> clients' bytes, workers' answers, news of the cluster -> core -> one send for each worker and each client

It holds no truth: when it ends, connections break and nothing else.
"""

from __future__ import annotations

import errno
import gc
import logging
import os
import select
import socket
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from raftlog import limits
from raftlog.clock import monotonic_s
from raftlog.errors import ErrorCode
from raftlog.kafka.broker import Broker
from raftlog.kafka.calls import DoorSettings, Leader, Target, Told, nobody
from raftlog.kafka.cluster import Cluster
from raftlog.kafka.connection import Connection
from raftlog.kafka.schema import formats_known
from raftlog.network import MessageStream, connect_local
from raftlog.node.audit import AuditLog
from raftlog.node.controller_link import ControllerLink
from raftlog.node.figures import KAFKA, SUPERUSER_PLAIN_LOGINS, add_clients, add_errors, add_throttles, add_timing
from raftlog.node.kafka_clients import KafkaClient
from raftlog.node.quota_memory import shared_throttles
from raftlog.node.segment_files import FilePiece, SegmentFiles, Tally
from raftlog.protocol import apis
from raftlog.protocol.apis import Api
from raftlog.protocol.body import Body
from raftlog.protocol.cluster import MetadataResponse
from raftlog.protocol.envelope import decode_response, encode_request
from raftlog.protocol.records import LocateResponse, NoteSentRequest, Place
from raftlog.protocol.report import Figures
from raftlog.security.credentials import Credentials
from raftlog.security.policy import Access, Policy, Security
from raftlog.types import Buffer, Endpoint

if TYPE_CHECKING:
    from raftlog.node.jwks import Tokens  # with a library, which doors without tokens do without

log = logging.getLogger(__name__)

_ACCEPTS_PER_ROUND = 16
_TURN_S = 0.005  # of one client; what is left of its requests waits until the others have had theirs
_SWEEP_S = 1.0
_IDLE_SWEEP_S = 20.0
_LOG_S = 10.0
_NOTE_S = 10.0  # a worker that hangs for longer may miss what was sent of its partition
_GONE = select.EPOLLHUP | select.EPOLLERR


class _Asked:
    __slots__ = ("api", "deadline_s", "link", "told")

    def __init__(self, api: Api[Any, Any], link: MessageStream, deadline_s: float, told: Told) -> None:
        self.api = api
        self.link = link
        self.deadline_s = deadline_s
        self.told = told


REASONS = ("connections", "address", "handshakes", "descriptors")
"""Why connections are not taken, as the metric says it."""


class Room(NamedTuple):
    """How many connections one process may have, and of these from one address."""

    connections_max: int
    per_address: int


class KafkaDoor:
    """Kafka's door: connections of clients on one side, streams to the workers on the other.

    `learn` and `run` are for the process that it lives in.
    """

    def __init__(
        self,
        listener: socket.socket,
        settings: DoorSettings,
        node: Endpoint,
        room: Room,
        access: Access,
        credentials: Credentials | None = None,
        tokens: Tokens | None = None,
        tell: Callable[[Figures], None] = lambda figures: None,
    ) -> None:
        """`node`: where the own supervisor is asked. `credentials`: of this node; None: all is in the open. `tokens`
        None: nobody logs in with one.

        `tell` is given what was counted, once a second while it moves.
        """
        self._tell = tell
        self._told: tuple[int, int, int] = (0, 0, 0)
        listener.setblocking(False)
        self._listener = listener
        self._data = settings.data_directory
        self._room = room
        self._by_address: Counter[str] = Counter()
        self._refused = dict.fromkeys(REASONS, 0)  # connections that were not taken
        self._credentials = credentials
        self._strangers: dict[KafkaClient, None] = {}  # whose handshakes are not done, in the order in which they came
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._broker = Broker(self, settings)
        self._broker.tokens = tokens
        self._broker.throttles = shared_throttles()
        self._access = access
        audit = AuditLog(access.audit_log, settings.node_id, "kafka")
        self._broker.audit = audit.write if audit.is_on else None
        self._accepts = False
        self._clients: dict[Connection, KafkaClient] = {}
        self._links: dict[Leader, MessageStream] = {}
        self._boots: dict[Leader, int] = {}
        self._to_flush: dict[MessageStream, None] = {}
        self._asked: dict[int, _Asked] = {}
        self._last_id = 0
        self._controller = ControllerLink(node, credentials)
        self._files = SegmentFiles()
        self._tallies: dict[Leader, Tally] = {}
        self._tokens = tokens
        self._unserved: dict[KafkaClient, None] = {}  # whose turn has ended before its requests did
        self._busy: dict[KafkaClient, None] = {}  # those that may hold something, or wait for something
        self._formats = 0
        self._sweep_s = self._idle_sweep_s = self._log_due_s = 0.0
        self.closed = 0  # connections that had to end, of which the log has said `_logged`
        self._logged = 0
        self._closed_why = ""
        self._stopping = False
        self._news = -1
        self.watch(self._controller.descriptor, lambda _: self._controller.receive())

    # --- the loop ----------------------------------------------------------------------------------
    def watch(self, descriptor: int, handler: Callable[[int], None]) -> None:
        self._handlers[descriptor] = handler
        self._epoll.register(descriptor, select.EPOLLIN)

    def watch_news(self, descriptor: int, handler: Callable[[int], None]) -> None:
        """Before what else has come: whoever was sent here by another node knows of what is told here."""
        self._news = descriptor
        self.watch(descriptor, handler)

    def ignore(self, descriptor: int) -> None:
        """BEFORE it is closed: its number may soon be another's."""
        if self._handlers.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    def served(self) -> str:
        return self._broker.served()

    def figures(self) -> Figures:
        """What was counted since this process began, and who is connected."""
        broker, figures = self._broker, Figures()
        for name, count in broker.requests.items():
            figures.count(count, "requests", KAFKA, name)
        add_errors(figures, KAFKA, broker.errors)
        figures.count(self.closed, "refused_messages", KAFKA)
        figures.count(broker.logins.failed, "failed_logins", KAFKA)
        for reason, count in self._refused.items():
            figures.count(count, "refused_connections", KAFKA, reason)
        add_throttles(figures, KAFKA, broker.throttles)
        figures.count(broker.logins.superusers_plain, SUPERUSER_PLAIN_LOGINS)
        add_clients(figures, KAFKA, (connection.session for connection in self._clients))
        for name, seconds in broker.seconds.items():
            add_timing(figures, seconds, "kafka_request_seconds", name)
        return figures

    def stop(self) -> None:
        self._stopping = True

    def run(self) -> None:
        while not self._stopping:
            self.step()
        self._controller.close()
        if self._tokens is not None:
            self._tokens.close()

    def step(self) -> None:
        now_s = monotonic_s()
        due_s = min(self._broker.due_s, self._sweep_s)
        timeout_s = 0.0 if self._unserved else max(0.0, due_s - now_s)
        ready = dict(self._epoll.poll(timeout_s))
        news = ready.pop(self._news, 0)
        if news:
            self._handlers[self._news](news)
        if self._unserved:
            self._go_on(ready)
        for descriptor, events in ready.items():
            handler = self._handlers.get(descriptor)
            if handler is not None:
                handler(events)
        formats = formats_known()
        if formats != self._formats:
            self._formats = formats
            gc.freeze()  # they stay: looking at all of them again and again takes the collector up to 0.1 s
        self._broker.tick()
        now_s = monotonic_s()
        if now_s >= self._sweep_s:
            self._sweep(now_s)
            self._tell_figures()
        self._flush(now_s)

    def _go_on(self, ready: dict[int, int]) -> None:
        """With those whose turn has ended before all that they sent was served. Nothing more is read of them meanwhile,
        not even that they are gone.
        """
        waiting, self._unserved = self._unserved, {}
        for client in waiting:
            ready.pop(client.descriptor, None)
            self._broker.go_on(client.connection, monotonic_s() + _TURN_S)
            if client.connection.unserved is not None:
                self._unserved[client] = None

    def _tell_figures(self) -> None:
        moved = sum(self._broker.requests.values()), len(self._clients), self.closed
        if moved != self._told:
            self._told = moved
            self._tell(self.figures())

    def _flush(self, now_s: float) -> None:
        touched = self._broker.touched
        while self._to_flush or touched:
            links, self._to_flush = self._to_flush, {}
            for link in links:
                link.flush()
                if link.closed:
                    self._lose(link)
            connections, self._broker.touched = touched, {}
            for connection in connections:
                client = self._clients.get(connection)
                if client is None:
                    continue
                if not client.write(now_s):
                    self._end(client)
                elif connection.closing:
                    self._refuse(client)
            touched = self._broker.touched

    def _sweep(self, now_s: float) -> None:
        """What is slow, idle or too much ends; what was asked in vain is given up."""
        self._sweep_s = now_s + _SWEEP_S
        self._files.close_idle(now_s)
        self._tell_sent()
        for number, asked in list(self._asked.items()):
            if asked.deadline_s <= now_s:
                del self._asked[number]
                asked.told(asked.api.refusal(ErrorCode.REQUEST_TIMED_OUT, "the worker did not answer in time"), None)
        self._sweep_clients(now_s)
        if self.closed != self._logged and now_s >= self._log_due_s:
            log.warning("ended %d connections, the last one of %s", self.closed - self._logged, self._closed_why)
            self._logged = self.closed
            self._log_due_s = now_s + _LOG_S

    def _sweep_clients(self, now_s: float) -> None:
        """Those at rest hold nothing, and are looked at rarely: thousands of them cost nothing."""
        looked_at: Iterable[KafkaClient] = self._busy
        if now_s >= self._idle_sweep_s:
            self._idle_sweep_s = now_s + _IDLE_SWEEP_S
            looked_at = self._clients.values()
        held_bytes = 0
        for client in list(looked_at):
            held_bytes += client.held_bytes
            why = client.why_over(now_s)
            if why:
                self._broker.close(client.connection, why)
            elif client.is_at_rest:
                self._busy.pop(client, None)
        if held_bytes > limits.KAFKA_HELD_BYTES_MAX:
            largest = max(self._busy, key=lambda each: each.held_bytes)
            self._broker.close(largest.connection, "this door holds too many bytes, and most of them for it")

    # --- clients -----------------------------------------------------------------------------------
    def _accept(self, _events: int) -> None:
        for _ in range(_ACCEPTS_PER_ROUND):
            try:
                connected, address = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    self._count_refused("descriptors", "somebody new: this process has no descriptor left")
                    self._end_most_idle()
                    return
                continue  # it was gone before it was taken
            if self._has_room(address[0]):
                self._begin(connected, Endpoint(*address[:2]))
            else:
                connected.close()

    def _has_room(self, host: str) -> bool:
        most, per_address = self._room
        if len(self._clients) >= most:
            self._count_refused("connections", f"{host}: there are {most} connections, see --kafka-connections")
            return False
        if self._by_address[host] >= per_address:
            text = f"{host}: it has {per_address} connections, see --kafka-connections-per-address"
            self._count_refused("address", text)
            return False
        return True

    def _end_most_idle(self) -> None:
        if self._clients:
            self._end(min(self._clients.values(), key=lambda each: each.active_s))

    def _begin(self, connected: socket.socket, address: Endpoint) -> None:
        client = KafkaClient(connected, address, monotonic_s(), self._epoll.modify, self._credentials)
        if client.is_stranger:
            self._make_room()
            self._strangers[client] = self._busy[client] = None
        self._clients[client.connection] = client
        self._by_address[client.connection.session.host] += 1
        self._broker.begin(client.connection)
        self.watch(client.descriptor, lambda events: self._serve(client, events))

    def _make_room(self) -> None:
        """Among strangers: who has said who he is goes on."""
        if len(self._strangers) >= limits.STRANGERS_MAX:
            oldest = next(iter(self._strangers))
            text = f"{oldest.connection.session.address}: too many handshakes are under way"
            self._count_refused("handshakes", text)
            self._end(oldest)

    def _serve(self, client: KafkaClient, events: int) -> None:
        connection = client.connection
        self._busy[client] = None
        if events & select.EPOLLIN:
            data = client.read()
            if client in self._strangers and not client.is_stranger:
                del self._strangers[client]
                self._broker.begin(connection)
            if data == b"":
                if client.trouble:
                    self._count_closed(f"{connection.session.address}: {client.trouble}")
                self._end(client)
                return
            if data is not None:
                now_s = monotonic_s()
                client.active_s = now_s
                if not connection.unfinished_bytes:
                    client.begun_s = now_s
                self._broker.receive(connection, data, now_s + _TURN_S)
                if connection.unserved is not None:
                    self._unserved[client] = None
        elif events & _GONE:
            self._end(client)
            return
        if events & select.EPOLLOUT:
            self._broker.touched[connection] = None

    def _refuse(self, client: KafkaClient) -> None:
        connection = client.connection
        session = connection.session
        self._count_closed(f"{session.address} ({session.client_id or 'no name'}): {connection.closing}")
        session.refused += 1
        self._end(client)

    def _count_refused(self, reason: str, why: str) -> None:
        """`reason`: one of REASONS."""
        self._refused[reason] += 1
        self._count_closed(why)

    def _count_closed(self, why: str) -> None:
        self.closed += 1
        self._closed_why = why

    def _end(self, client: KafkaClient) -> None:
        if self._clients.pop(client.connection, None) is None:
            return
        host = client.connection.session.host
        self._by_address[host] -= 1
        if not self._by_address[host]:
            del self._by_address[host]
        self._busy.pop(client, None)
        self._strangers.pop(client, None)
        self.ignore(client.descriptor)
        client.close()
        self._broker.forget(client.connection)

    # --- workers -----------------------------------------------------------------------------------
    def learn(self, told: MetadataResponse, workers: Iterable[tuple[bytes, int, int]]) -> None:
        """What the supervisor says: the cluster, and (topic id, partition, boot id) of each worker of this node."""
        boots = {Leader(topic_id, partition): boot_id for topic_id, partition, boot_id in workers}
        for leader, boot_id in list(self._boots.items()):
            if boots.get(leader) != boot_id:
                del self._boots[leader]
                link = self._links.pop(leader, None)
                if link is not None:
                    self._broker.lost(leader)
                    self._lose(link)
        self._boots = boots
        self._broker.learn(Cluster(told))

    def secure(self, security: Security) -> None:
        """Who may come in. Nobody is served BEFORE it is known: they wait in front."""
        self._broker.secure(Policy(security, self._access), list(self._clients))
        self._controller.secure(security.secret.hex())
        if not self._accepts:
            self._accepts = True
            self.watch(self._listener.fileno(), self._accept)

    def ask(
        self, target: Target, api: Api[Any, Any], body: Body, payload: Buffer | None, timeout_s: float, told: Told
    ) -> None:
        if not isinstance(target, Leader):
            self._controller.ask(target, api, body, timeout_s, told)
            return
        link = self._links.get(target) or self._connect(target)
        if link is None:
            told(nobody(api), None)
            return
        self._last_id = number = self._last_id + 1
        header = encode_request(api, number, body, target.topic_id, target.partition)
        if not link.put(header, payload):
            text = "too much waits for the worker of this partition"
            told(api.refusal(ErrorCode.THROTTLING_QUOTA_EXCEEDED, text), None)
            return
        self._asked[number] = _Asked(api, link, monotonic_s() + timeout_s, told)
        self._to_flush[link] = None

    def _connect(self, target: Leader) -> MessageStream | None:
        boot_id = self._boots.get(target)
        if boot_id is None:
            return None
        link = connect_local(boot_id, self._epoll.modify)
        if link is None:
            return None
        self._links[target] = link
        self.watch(link.fileno(), lambda events: self._hear(link, events))
        return link

    def _hear(self, link: MessageStream, events: int) -> None:
        asked = self._asked
        for header, payload in link.receive():
            api, number, answer = decode_response(header)
            if api is apis.PRODUCE:
                for result in answer:
                    waiting = asked.pop(result.correlation_id, None)
                    if waiting is not None:
                        waiting.told(result, None)
                continue
            waiting = asked.pop(number, None)
            if waiting is not None:
                waiting.told(answer, payload)
        if link.closed:
            self._lose(link)
        elif events & select.EPOLLOUT:
            self._to_flush[link] = None

    def _lose(self, link: MessageStream) -> None:
        """Its worker is gone. Whether it did what it was asked is not known."""
        self.ignore(link.fileno())
        for target, known in list(self._links.items()):
            if known is link:
                del self._links[target]
                self._broker.lost(target)
        link.close()
        lost = [(number, asked) for number, asked in self._asked.items() if asked.link is link]
        for number, asked in lost:
            del self._asked[number]
            asked.told(nobody(asked.api), None)

    def piece(self, target: Leader, place: LocateResponse | Place) -> FilePiece | None:
        tally = self._tallies.get(target)
        if tally is None:
            tally = self._tallies[target] = Tally()
        return self._files.piece(place, tally, monotonic_s())

    def _tell_sent(self) -> None:
        """Each worker, what went to clients of its partition. One that is away is told when it is back."""
        for target, tally in list(self._tallies.items()):
            if tally.sent_bytes and target in self._boots:
                body = NoteSentRequest(tally.sent_bytes)
                tally.sent_bytes = 0
                self.ask(target, apis.NOTE_SENT, body, None, _NOTE_S, lambda _answer, _payload: None)
            elif self._broker.cluster.topic_of_id(target.topic_id) is None:
                del self._tallies[target]

    def now_s(self) -> float:
        return monotonic_s()

    def mint_id(self) -> bytes:
        return uuid.uuid4().bytes

    def volume_bytes(self) -> tuple[int, int]:
        try:
            volume = os.statvfs(self._data)
        except OSError:
            return -1, -1
        return volume.f_frsize * volume.f_blocks, volume.f_frsize * volume.f_bavail

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000
