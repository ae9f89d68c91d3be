"""The core of Kafka's door: from a client's bytes to questions to the workers, and back. No sockets.

    bytes -> Connection -> header -> row of the table -> handler -> answer in its slot -> bytes

The loop around it (raftlog/node/kafka_door.py) has the sockets; the simulator has none.
"""

from __future__ import annotations

import heapq
import itertools
import logging
from collections.abc import Callable, Iterable
from typing import Any

from raftlog import limits
from raftlog.clock import NEVER_S
from raftlog.errors import ErrorCode
from raftlog.histogram import Histogram
from raftlog.kafka import apis, wire
from raftlog.kafka.apis import KafkaApi
from raftlog.kafka.calls import Backend, Call, DoorSettings, Fields, Leader, run
from raftlog.kafka.cluster import NOTHING, Cluster
from raftlog.kafka.connection import Connection, Out, Slot, StrangerError
from raftlog.kafka.handlers.fetch import Fetches
from raftlog.kafka.handlers.produce import Produces
from raftlog.kafka.logins import Logins, Tokens
from raftlog.kafka.named import is_refused, named_in
from raftlog.protocol.audit import event_of
from raftlog.protocol.session import Session
from raftlog.protocol.throttles import Throttles, held_ms
from raftlog.security.acls import Operation, ResourceType
from raftlog.security.audit import ACTS, ASKED, DENIED, NO_RULE, Event
from raftlog.security.policy import OPEN, Policy
from raftlog.security.quotas import PRODUCER_BYTE_RATE

log = logging.getLogger(__name__)


class Incoming:
    """One request that is being answered."""

    __slots__ = ("api", "begun_s", "connection", "correlation_id", "slot", "version")

    def __init__(
        self, connection: Connection, api: KafkaApi, version: int, correlation_id: int, slot: Slot, begun_s: float
    ) -> None:
        self.begun_s = begun_s
        self.connection = connection
        self.api = api
        self.version = version
        self.correlation_id = correlation_id
        self.slot = slot


class Broker:
    """The core of Kafka's door: it takes the requests of all connections, and has them answered.

    `touched`: connections that have something to send, or to end, since they were taken out of it last.
    """

    def __init__(self, backend: Backend, settings: DoorSettings) -> None:
        self.backend = backend
        self.settings = settings
        self.cluster: Cluster = NOTHING
        self.policy = OPEN
        self.audit: Callable[[Event], None] | None = None
        self.tokens: Tokens | None = None
        self.touched: dict[Connection, None] = {}
        self.requests: dict[str, int] = {}  # answered or being answered, by the API's name
        self.errors: dict[int, int] = {}  # answered, by code; those of single partitions are their workers' to count
        self.seconds: dict[str, Histogram] = {}  # from request to answer, by the API's name
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._changes: list[Callable[[bool], None]] = []
        self.throttles = Throttles()
        self.logins = Logins(self)
        self._produces = Produces(self)
        self._fetches = Fetches(self)

    def served(self) -> str:
        """What was asked for here, and how often."""
        return ", ".join(f"{name} {count}" for name, count in sorted(self.requests.items()))

    # --- the cluster and the clock -----------------------------------------------------------------
    def learn(self, cluster: Cluster) -> None:
        cluster.follow(self.cluster, self.backend.now_s())
        self.cluster = cluster
        waiting, self._changes = self._changes, []
        for tell in waiting:
            tell(True)

    def secure(self, policy: Policy, connections: Iterable[Connection]) -> None:
        """Other users and rules count from now on. Of the `connections` those end whose user is another one now."""
        self.policy = policy
        self.throttles.learn(policy.security.quotas)
        for connection in connections:
            session = connection.session
            if session.epoch >= 0 and policy.has_ended(session.principal, session.epoch):
                self.close(connection, "its user was changed or deleted")
            else:
                self.begin(connection)

    def begin(self, connection: Connection) -> None:
        """Who has not logged in has no need of large requests."""
        waits = self.policy.demands_login and not connection.session.mechanism
        connection.request_bytes_max = limits.LOGIN_BYTES_MAX if waits else limits.KAFKA_REQUEST_BYTES_MAX

    def at(self, due_s: float, tell: Callable[[], None]) -> None:
        heapq.heappush(self._timers, (due_s, next(self._numbers), tell))

    def on_change(self, deadline_s: float, tell: Callable[[bool], None]) -> None:
        told = False

        def once(changed: bool) -> None:
            nonlocal told
            if not told:
                told = True
                tell(changed)

        self._changes.append(once)
        self.at(deadline_s, lambda: once(False))

    @property
    def due_s(self) -> float:
        return self._timers[0][0] if self._timers else NEVER_S

    def tick(self) -> None:
        now_s = self.backend.now_s()
        timers = self._timers
        while timers and timers[0][0] <= now_s:
            heapq.heappop(timers)[2]()

    # --- requests ----------------------------------------------------------------------------------
    def receive(self, connection: Connection, data: bytes, until_s: float = NEVER_S) -> None:
        """Nothing of what a client sends raises: it is answered, or `connection.closing` says why it has to end.

        From `until_s` on what is left waits for `go_on`: the others have their turn.
        """
        if connection.waits_for_login and connection.session.mechanism:
            self.begin(connection)  # its certificate has said who it is
        connection.unserved = connection.receive(data)
        self.go_on(connection, until_s)

    def go_on(self, connection: Connection, until_s: float) -> None:
        """With what was left; one request at least."""
        try:
            for frame in connection.unserved or ():
                self._serve(connection, frame)
                if connection.closing:
                    break
                if self.backend.now_s() >= until_s:
                    return
        except (StrangerError, wire.UnreadableRequestError) as error:
            self.close(connection, str(error))
        connection.unserved = None

    def close(self, connection: Connection, why: str) -> None:
        connection.closing = connection.closing or why
        self.touched[connection] = None

    def _serve(self, connection: Connection, frame: memoryview) -> None:
        header, at = wire.read_header(frame)
        api = apis.BY_KEY.get(header.api_key)
        version = header.version
        if api is None:
            raise wire.UnreadableRequestError(f"API {header.api_key}, which is not served here")
        if api is not apis.PRODUCE and len(frame) > limits.KAFKA_QUESTION_BYTES_MAX:
            raise wire.UnreadableRequestError(
                f"{api.name} of {len(frame)} bytes; without records one has {limits.KAFKA_QUESTION_BYTES_MAX} at most"
            )
        session = connection.session
        if (self.policy.demands_login or session.epoch >= 0) and self._is_refused(connection, api):
            return
        session.requests += 1
        if header.client_id and not session.client_id:
            session.client_id = header.client_id
        self.requests[api.name] = self.requests.get(api.name, 0) + 1
        incoming = Incoming(connection, api, version, header.correlation_id, connection.reserve(), self.backend.now_s())
        if not api.first <= version <= api.last:
            if api is not apis.API_VERSIONS:
                raise wire.UnreadableRequestError(f"{api.name} version {version}, which is not served here")
            # KIP-511: a client that knows a newer version asks again with one of those that version 0 names.
            incoming.version = 0
            self.answer(incoming, {"error_code": int(ErrorCode.UNSUPPORTED_VERSION), **apis.listed_versions()})
        elif api is apis.PRODUCE:
            if self.throttles:
                self.charge(connection, PRODUCER_BYTE_RATE, len(frame))
            self._produces.serve(incoming, frame, at)
        elif api is apis.FETCH:
            self._fetches.serve(incoming, wire.read_request(api.key, version, frame, at))
        elif api is apis.SASL_HANDSHAKE:
            self.logins.handshake(incoming, wire.read_request(api.key, version, frame, at).mechanism)
        elif api is apis.SASL_AUTHENTICATE:
            self.logins.authenticate(incoming, wire.read_request(api.key, version, frame, at).auth_bytes)
        else:
            self._run(incoming, wire.read_request(api.key, version, frame, at))

    # --- quotas ------------------------------------------------------------------------------------
    def charge(self, connection: Connection, key: str, size_bytes: int) -> None:
        """Who is above its quota is not read for a while (KIP-219): its next requests wait where they are."""
        session = connection.session
        if self.throttles.charge(session, key, size_bytes, self.backend.now_s()) and not connection.held:
            connection.held = True
            self.touched[connection] = None  # from now on, not from its answer on
            self.at(session.held_until_s, lambda: self._let_go(connection))

    def _let_go(self, connection: Connection) -> None:
        due_s = connection.session.held_until_s
        if due_s > self.backend.now_s():
            self.at(due_s, lambda: self._let_go(connection))
        else:
            connection.held = False
            self.touched[connection] = None

    def throttle_ms(self, connection: Connection) -> int:
        """What an answer says of it."""
        return held_ms(connection.session, self.backend.now_s()) if connection.held else 0

    def _is_refused(self, connection: Connection, api: KafkaApi) -> bool:
        """Where a login is asked for: whether that keeps this request out. One that failed is answered in a moment."""
        if connection.login is not None and connection.login.failed:
            return True
        why = self.logins.why_not(connection.session, self.backend.now_s())
        if not why or (api in apis.BEFORE_LOGIN and not self.logins.is_gone(connection.session)):
            return False
        self.close(connection, f"{api.name}, though {why}")
        return True

    def _run(self, incoming: Incoming, request: Any) -> None:
        api = incoming.api
        assert api.handler is not None, "the others are served before"
        call = Call(self, incoming.connection.session, incoming.version, request)
        answer = api.guard(call, api.handler) if self.policy.authorizes else api.handler(call)

        if self.audit is not None and api.operation in ACTS:
            self.note(call.session, api.name, ASKED, api.operation, None, named_in(request))

        def failed(error: Exception) -> None:
            log.error("%s ended with a mistake of this door", incoming.api.name, exc_info=error)
            self.close(incoming.connection, f"an error within the door: {error!r}")

        def done(fields: Fields | None) -> None:
            if call.denied and self.audit is not None and is_refused(fields):
                for operation, kind, name in call.denied:
                    self.note(call.session, api.name, DENIED, operation, kind, [name], NO_RULE)
            self.answer(incoming, fields)

        run(answer, self, done, failed)

    def note(
        self,
        session: Session,
        request: str,
        outcome: str,
        operation: Operation = Operation.NONE,
        kind: ResourceType | None = None,
        names: Iterable[str] = (),
        why: str = "",
    ) -> None:
        """In the audit log, where there is one."""
        if self.audit is not None:
            self.audit(event_of(session, request, outcome, operation, kind, names, why))

    def forget(self, connection: Connection) -> None:
        """It is gone."""
        connection.forget()
        self._fetches.forget(connection)

    def lost(self, target: Leader) -> None:
        """The link to the worker that leads there is gone."""
        self._fetches.ahead.lost(target)

    # --- answers -----------------------------------------------------------------------------------
    def answer(self, incoming: Incoming, fields: Fields | None) -> None:
        """None: this request has no answer."""
        if fields is None:
            incoming.connection.withdraw(incoming.slot)
            self._count_answered(incoming)
            self.touched[incoming.connection] = None
            return
        code = fields.get("error_code")
        if code:
            self.errors[code] = self.errors.get(code, 0) + 1
        answer = wire.write_answer(incoming.api.key, incoming.version, incoming.correlation_id, fields)
        self.send(incoming, [answer])

    def send(self, incoming: Incoming, buffers: list[Out]) -> None:
        self._count_answered(incoming)
        incoming.slot.buffers = buffers
        self.touched[incoming.connection] = None

    def _count_answered(self, incoming: Incoming) -> None:
        seconds = self.seconds.get(incoming.api.name)
        if seconds is None:
            seconds = self.seconds[incoming.api.name] = Histogram()
        seconds.observe(self.backend.now_s() - incoming.begun_s)
