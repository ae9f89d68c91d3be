"""Fetch: what is there is read at once; what is not there is waited for without asking anybody again and again.

    resolve -> read every partition that may have something -> enough? answer
                                                            -> else wait: one WATCH for each partition, shared by all
                                                               fetches of this door, until one moves or time is over

While a worker has not answered a WATCH, nothing lies beyond the high watermark that it was asked with: a fetch from
there asks nobody. So a consumer of a hundred idle partitions costs two requests a second and no question.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from raftlog import limits
from raftlog.errors import ErrorCode
from raftlog.kafka import wire
from raftlog.kafka.calls import Leader
from raftlog.kafka.codes import KafkaCode
from raftlog.kafka.connection import Out
from raftlog.kafka.fetch_answers import TOPIC_IDS_FROM, FetchedPartition, write_fetched
from raftlog.kafka.handlers.fetch_sessions import (
    FINAL_EPOCH,
    FULL_EPOCH,
    NO_SESSION,
    FetchSession,
    FetchSessions,
    Wanted,
)
from raftlog.kafka.handlers.read_ahead import ReadAhead
from raftlog.protocol import apis
from raftlog.protocol.records import LocateRequest, LocateResponse, WatchRequest, WatchResponse
from raftlog.security.acls import Operation, ResourceType
from raftlog.security.audit import DENIED, NO_RULE
from raftlog.security.quotas import CONSUMER_BYTE_RATE
from raftlog.types import Buffer

if TYPE_CHECKING:
    from raftlog.kafka.broker import Broker, Incoming
    from raftlog.kafka.connection import Connection

_SESSIONS_FROM = 7
_ASK_S = 10.0  # a worker that hangs is left for whoever leads then
_WATCH_S = 600.0  # a WATCH has no end of its own; the link that breaks ends it
Key = tuple[str | bytes, int]


class Read(NamedTuple):
    """What is known of one partition, and the records read of it."""

    error_code: int
    high_watermark: int = -1
    log_start_offset: int = -1
    leader_id: int = -1
    leader_epoch: int = -1
    records: Out = b""


class Watch:
    """Where one partition ends, until its worker says that it has moved. `open`: the worker has not answered."""

    __slots__ = ("bounds", "open", "waiting")

    def __init__(self) -> None:
        self.bounds = Read(0)
        self.open = False
        self.waiting: dict[_FetchCall, None] = {}


class Fetches:
    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._sessions = FetchSessions()
        self._watches: dict[Leader, Watch] = {}
        self.ahead = ReadAhead()

    def forget(self, connection: Connection) -> None:
        """It is gone; what waits for it ends at its own time."""
        self._sessions.forget(connection)
        self.ahead.forget(connection)

    def serve(self, incoming: Incoming, request: Any) -> None:
        session: FetchSession | None = None
        wanted = list(_wanted(request, by_id=incoming.version >= TOPIC_IDS_FROM))
        if incoming.version >= _SESSIONS_FROM:
            found = self._session(incoming, request, wanted)
            if isinstance(found, KafkaCode | ErrorCode):
                self._broker.answer(incoming, {"error_code": int(found), "session_id": NO_SESSION, "responses": []})
                return
            session = found
            if session is not None and request.session_epoch > FULL_EPOCH:
                wanted = list(session.wanted.values())
        _FetchCall(self, self._broker, incoming, request, wanted, session).begin()

    def _session(
        self, incoming: Incoming, request: Any, wanted: list[Wanted]
    ) -> FetchSession | KafkaCode | ErrorCode | None:
        owner, session_id, epoch = incoming.connection, request.session_id, request.session_epoch
        if epoch in (FULL_EPOCH, FINAL_EPOCH):
            if session_id != NO_SESSION:
                self._sessions.close(owner, session_id)
            return self._sessions.open(owner, wanted) if epoch == FULL_EPOCH else None
        found = self._sessions.find(owner, session_id, epoch)
        if isinstance(found, FetchSession):
            if len(found.wanted) + len(wanted) > 2 * limits.FETCH_SESSION_PARTITIONS_MAX:
                return ErrorCode.INVALID_REQUEST
            found.change(wanted, _forgotten(request, by_id=incoming.version >= TOPIC_IDS_FROM))
        return found

    # --- watches -----------------------------------------------------------------------------------
    def idle(self, target: Leader, offset: int, leader_epoch: int) -> Read | None:
        """What is known of a partition that has nothing at `offset`; None: ask."""
        watch = self._watches.get(target)
        if watch is None or not watch.open:
            return None
        bounds = watch.bounds
        return bounds if bounds.high_watermark == offset and leader_epoch in (-1, bounds.leader_epoch) else None

    def watch(self, target: Leader, bounds: Read, call: _FetchCall) -> bool:
        """`call` is told, once, when the partition is not any more as `bounds` says. False: it is not already."""
        watch = self._watches.get(target)
        if watch is None:
            watch = self._watches[target] = Watch()
        if watch.open:
            if watch.bounds.high_watermark != bounds.high_watermark:
                return False
            watch.waiting[call] = None
            return True
        watch.waiting[call] = None
        watch.open = True
        watch.bounds = bounds._replace(records=b"")
        body = WatchRequest(offset=bounds.high_watermark, leader_epoch=bounds.leader_epoch)

        def told(_answer: WatchResponse, _payload: Buffer | None) -> None:
            watch.open = False
            waiting, watch.waiting = watch.waiting, {}
            for each in waiting:
                each.on_moved(target)
            if not watch.open:
                self._watches.pop(target, None)

        self._broker.backend.ask(target, apis.WATCH, body, None, _WATCH_S, told)
        return True

    def unwatch(self, target: Leader, call: _FetchCall) -> None:
        watch = self._watches.get(target)
        if watch is not None:
            watch.waiting.pop(call, None)


class _FetchCall:
    """One fetch until its answer."""

    def __init__(
        self,
        fetches: Fetches,
        broker: Broker,
        incoming: Incoming,
        request: Any,
        wanted: list[Wanted],
        session: FetchSession | None,
    ) -> None:
        self._fetches = fetches
        self._broker = broker
        self._incoming = incoming
        self._session = session
        wait_ms = min(max(request.max_wait, 0), limits.FETCH_WAIT_MAX_MS)
        self._deadline_s = broker.backend.now_s() + wait_ms / 1000
        self._max_bytes = min(max(request.max_bytes, 1), limits.FETCH_BYTES_MAX)
        if broker.throttles:
            burst_bytes = broker.throttles.burst_bytes(incoming.connection.session, CONSUMER_BYTE_RATE)
            self._max_bytes = min(self._max_bytes, burst_bytes or self._max_bytes)
        self._min_bytes = min(request.min_bytes, self._max_bytes)
        self._left_bytes = self._max_bytes
        turn = incoming.connection.rotation = (incoming.connection.rotation + 1) % max(len(wanted), 1)
        self._queue = deque(wanted[turn:] + wanted[:turn])
        self._order = wanted
        self._reads: dict[Key, Read] = {}
        self._again: set[Key] = set()
        self._asked = 0
        self._read_bytes = 0
        self._failed = False
        self._waits = False
        self._watched: dict[Leader, Wanted] = {}
        self._done = False

    def begin(self) -> None:
        self._go_on()

    def _go_on(self) -> None:
        """Asks as many as there is room for, and answers or waits once nobody is asked any more."""
        self._asked += 1  # answers that come at once do not end it while others are still to be asked
        while self._queue and self._left_bytes > 0:
            self._ask(self._queue.popleft())
        self._asked -= 1
        if not self._asked:
            self._settle()

    def _ask(self, wanted: Wanted) -> None:
        target = self._target(wanted)
        if target is None:
            return
        idle = self._fetches.idle(target, wanted.offset, wanted.leader_epoch)
        if idle is not None:
            self._note(wanted, idle)
            return
        room = min(max(wanted.max_bytes, 1), self._left_bytes)
        if self._read_ahead(target, wanted, room):
            return
        self._left_bytes -= room
        self._asked += 1
        backend, connection, ahead = self._broker.backend, self._incoming.connection, self._fetches.ahead
        more = ahead.wanted(connection, target, wanted.offset)
        body = LocateRequest(wanted.offset, room, wanted.leader_epoch, more)

        def told(answer: LocateResponse, _payload: Buffer | None) -> None:
            if self._done:
                return
            self._left_bytes += room
            records: Out | None = b""
            if answer.length:
                records = backend.piece(target, answer)
            if records is None and self._may_ask_again(wanted):
                self._queue.append(wanted)
            else:
                self._note(wanted, _as_read(answer, records or b"", wanted.leader_epoch))
                if records:
                    ahead.note(connection, target, answer, room, backend.now_s())
            self._asked -= 1
            if not self._asked:
                self._go_on()

        backend.ask(target, apis.LOCATE, body, None, _ASK_S, told)

    def _read_ahead(self, target: Leader, wanted: Wanted, room: int) -> bool:
        """Where its worker has said already what stands there."""
        backend, connection = self._broker.backend, self._incoming.connection
        epoch = wanted.leader_epoch
        found = self._fetches.ahead.take(connection, target, wanted.offset, room, epoch, backend.now_s())
        records = None if found is None else backend.piece(target, found.place)
        if found is None or records is None:
            return False
        self._note(wanted, _as_read(found.answer, records, epoch))
        return True

    def _may_ask_again(self, wanted: Wanted) -> bool:
        """Once for each partition."""
        key = (wanted.topic, wanted.partition)
        first = key not in self._again
        self._again.add(key)
        return first

    def _target(self, wanted: Wanted) -> Leader | None:
        cluster = self._broker.cluster
        unknown: int = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        if isinstance(wanted.topic, bytes):
            topic, unknown = cluster.topic_of_id(wanted.topic), KafkaCode.UNKNOWN_TOPIC_ID
        else:
            topic = cluster.topics.get(wanted.topic)
        name = topic.name if topic is not None else wanted.topic
        if self._broker.policy.authorizes and isinstance(name, str) and not self._may_read(name):
            self._note(wanted, Read(ErrorCode.TOPIC_AUTHORIZATION_FAILED))
            session = self._incoming.connection.session
            self._broker.note(session, "Fetch", DENIED, Operation.READ, ResourceType.TOPIC, [name], NO_RULE)
            return None
        if topic is not None and 0 <= wanted.partition < len(topic.partitions):
            return Leader(topic.topic_id, wanted.partition)
        self._note(wanted, Read(unknown if topic is None else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION))
        return None

    def _may_read(self, name: str) -> bool:
        session = self._incoming.connection.session
        policy = self._broker.policy
        return policy.allows(session.principal, session.host, Operation.READ, ResourceType.TOPIC, name)

    def _note(self, wanted: Wanted, read: Read) -> None:
        key = (wanted.topic, wanted.partition)
        before = self._reads.get(key)
        if before is not None:
            self._count(-len(before.records))
        self._reads[key] = read
        self._count(len(read.records))
        self._failed = self._failed or read.error_code != 0

    def _count(self, read_bytes: int) -> None:
        self._read_bytes += read_bytes
        self._left_bytes -= read_bytes

    def _settle(self) -> None:
        """Everybody has answered."""
        if self._done:
            return
        enough = self._read_bytes >= self._min_bytes or self._failed or self._left_bytes <= 0
        if enough or self._deadline_s <= self._broker.backend.now_s():
            self._answer()
            return
        if not self._waits:
            self._waits = True
            self._broker.at(self._deadline_s, self._time_is_over)
        for wanted in self._order:
            read = self._reads.get((wanted.topic, wanted.partition))
            target = self._target(wanted)
            if read is None or read.high_watermark < 0 or target is None or target in self._watched:
                continue
            if self._fetches.watch(target, read, self):
                self._watched[target] = wanted
            else:
                self._queue.append(wanted)
        if self._queue:
            self._go_on()

    def on_moved(self, target: Leader) -> None:
        """A partition that is waited for: it is read again, from where it was."""
        wanted = self._watched.pop(target, None)
        if self._done or wanted is None:
            return
        self._queue.append(wanted)
        if not self._asked:
            self._go_on()

    def _time_is_over(self) -> None:
        """What is asked for right now comes in a moment: it would be read in vain otherwise."""
        if not self._done and not self._asked:
            self._answer()

    def _answer(self) -> None:
        self._done = True
        for target in self._watched:
            self._fetches.unwatch(target, self)
        session = self._session
        topics: dict[str | bytes, list[FetchedPartition]] = {}
        incremental = session is not None and session.told
        for key, read in self._reads.items():
            new = session is None or session.has_news(key, read.high_watermark, read.log_start_offset)
            if new or read.error_code or read.records or not incremental:
                topics.setdefault(key[0], []).append(_fetched(key[1], read))
        session_id = session.session_id if session else NO_SESSION
        incoming = self._incoming
        if self._broker.throttles and self._read_bytes:
            self._broker.charge(incoming.connection, CONSUMER_BYTE_RATE, self._read_bytes)
        throttle_ms = self._broker.throttle_ms(incoming.connection)
        pieces = write_fetched(incoming.version, incoming.correlation_id, session_id, topics, throttle_ms)
        self._broker.send(incoming, pieces)


def _wanted(request: Any, *, by_id: bool) -> Iterable[Wanted]:
    for topic in request.topics:
        name = topic.topic_id if by_id else topic.topic
        for each in topic.partitions:
            epoch = wire.field(each, "current_leader_epoch", -1)
            yield Wanted(name, each.partition, each.fetch_offset, each.partition_max_bytes, epoch)


def _forgotten(request: Any, *, by_id: bool) -> Iterable[Key]:
    for topic in request.forgotten_topics_data:
        name = topic.topic_id if by_id else topic.topic
        for partition in topic.partitions:
            yield name, partition


def _as_read(answer: LocateResponse, records: Out, leader_epoch: int) -> Read:
    code: int = answer.error_code
    if code == ErrorCode.NONE and 0 <= leader_epoch < answer.leader_epoch:
        code, records = KafkaCode.FENCED_LEADER_EPOCH, b""
    elif code == ErrorCode.REQUEST_TIMED_OUT:
        code = ErrorCode.NOT_LEADER_OR_FOLLOWER
    elif code == ErrorCode.THROTTLING_QUOTA_EXCEEDED:
        code = ErrorCode.NONE  # no Kafka client knows it here; it asks again in a moment
    return Read(
        int(code), answer.high_watermark, answer.log_start_offset, answer.leader_id, answer.leader_epoch, records
    )


def _fetched(index: int, read: Read) -> FetchedPartition:
    leader = (read.leader_id, read.leader_epoch) if read.error_code else (-1, -1)
    return FetchedPartition(index, read.error_code, read.high_watermark, read.log_start_offset, read.records, *leader)
