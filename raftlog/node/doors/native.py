"""raftlog's own protocol in front of a worker and of a supervisor: ZeroMQ, envelopes and msgpack.

A ROUTER shows no beginning and no end of a connection. A session begins with the first message of one, and ends when
network/connections.py finds the connection gone: at an answer that cannot be sent, or within seconds by looking at
those that say nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

from raftlog.clock import monotonic_s
from raftlog.errors import ErrorCode, RaftlogError, UnsupportedVersionError
from raftlog.limits import (
    HEADER_BYTES_MAX,
    LOGIN_BYTES_MAX,
    PROTOCOL_VERSION,
    REQUESTS_IN_FLIGHT_MAX,
    UNACKNOWLEDGED_BYTES_MAX,
)
from raftlog.network import MessageServer, Server
from raftlog.network.message_server import MessageClient
from raftlog.node.quota_memory import shared_throttles
from raftlog.protocol import apis
from raftlog.protocol.body import ResponseBody
from raftlog.protocol.cluster import HandshakeRequest, HandshakeResponse
from raftlog.protocol.envelope import (
    VERSION_1_FROM,
    VERSION_1_REFUSALS,
    LongBodyError,
    Request,
    UnreadableBodyError,
    encode_response,
    encode_unread,
    read_request,
)
from raftlog.protocol.records import FetchResponse, ProduceResult
from raftlog.protocol.session import Session
from raftlog.protocol.throttles import held_ms
from raftlog.security.quotas import CONSUMER_BYTE_RATE
from raftlog.types import Buffer, Endpoint

log = logging.getLogger(__name__)

_LOG_S = 10.0


class NativeDoor:
    """The door of one ROUTER. `refused` counts what was answered with an error or dropped because it made no sense."""

    def __init__(self, server: Server | MessageServer, node_id: int, cluster_id: Callable[[], str]) -> None:
        """`cluster_id` says which cluster this is; "" before it is formed."""
        self._server = server
        self._node_id = node_id
        self._cluster_id = cluster_id
        self._logged = self._ended = 0
        self._log_due_s = self._version_due_s = 0.0
        self.refused = 0
        self._stranger_bytes_max = HEADER_BYTES_MAX  # of a request, without its payload, of who has not logged in
        self._full: Session | None = None  # it has too many produces with acks=0 under way
        self.errors: dict[int, int] = {}  # answered, by code
        self.sessions: dict[bytes, Session] = {}
        self.throttles = shared_throttles()
        self.failed_logins = 0  # counted by whoever judges them
        server.connections.on_gone = self._end

    @property
    def refused_connections(self) -> dict[str, int]:
        """By reason."""
        return self._server.connections.refusals.by_reason

    def demand_login(self, *, demanded: bool) -> None:
        self._stranger_bytes_max = LOGIN_BYTES_MAX if demanded else HEADER_BYTES_MAX
        self._server.connections.demand_login(self._is_known if demanded else None)

    def _is_known(self, identity: bytes) -> bool:
        session = self.sessions.get(identity)
        return session is not None and (bool(session.mechanism) or session.of_node)

    # --- sessions ----------------------------------------------------------------------------------
    def _begin(self, identity: bytes) -> Session:
        connection = self._server.connections.clients.get(identity)
        if connection is None:
            return Session(identity, door=self)  # gone already: nobody would end it
        session = self.sessions[identity] = Session(identity, str(Endpoint(*connection.place)), self)
        if isinstance(connection, MessageClient) and connection.is_encrypted:
            session.secure(connection.principal)
        return session

    def _end(self, identity: bytes) -> None:
        self.sessions.pop(identity, None)

    # --- requests ----------------------------------------------------------------------------------
    @property
    def is_full(self) -> bool:
        """Nothing is taken until produces with acks=0 of one connection have come further: TCP holds back what follows.

        That is everybody's, since a ROUTER cannot leave one connection unread; the others have the next turn.
        """
        if self._full is not None and not _is_full(self._full):
            self._full = None
        return self._full is not None

    def requests(self, most: int) -> Iterator[Request[Any]]:
        receive, sessions, read = self._server.receive, self.sessions, read_request
        if self.is_full:
            return
        for _ in range(most):
            frames = receive()
            if frames is None:
                return
            identity, header, *payload = frames
            session = sessions.get(identity) or self._begin(identity)
            try:
                most_bytes = HEADER_BYTES_MAX if session.mechanism else self._stranger_bytes_max
                request = read(session, header, payload, most_bytes)
            except (LongBodyError, UnreadableBodyError) as error:
                self._count_refused(session)
                self.answer(error.request, error.request.api.refusal(error.code, str(error)))
            except RaftlogError as error:
                self._refuse_unread(session, header, error)
            else:
                session.requests += 1
                api = request.api
                if api is apis.PRODUCE and not request.body.acks:
                    yield request
                    if _is_full(session):
                        self._full = session
                        return
                    continue
                if api is apis.FETCH or api is apis.PRODUCE:
                    session.waiting += 1
                    if session.waiting > REQUESTS_IN_FLIGHT_MAX:
                        text = f"{REQUESTS_IN_FLIGHT_MAX} requests of this connection wait for their answers"
                        self.answer(request, api.refusal(ErrorCode.THROTTLING_QUOTA_EXCEEDED, text))
                        continue
                yield request

    def _count_refused(self, session: Session) -> None:
        session.refused += 1
        self.refused += 1

    def _refuse_unread(self, session: Session, header: Buffer, error: RaftlogError) -> None:
        self._count_refused(session)
        if isinstance(error, UnsupportedVersionError):
            now_s = monotonic_s()
            if now_s >= self._version_due_s:
                self._version_due_s = now_s + _LOG_S
                log.warning("refused %s, which speaks %s", session.address or "a client that is gone", error)
            if header[0] >= VERSION_1_FROM:
                for refusal in VERSION_1_REFUSALS:
                    self._send(session, [refusal])
                return
        self._send(session, [encode_unread(str(error), error.code)])

    def greet(self, request: Request[HandshakeRequest]) -> None:
        session, body = request.session, request.body
        if not body.min_version <= PROTOCOL_VERSION <= body.max_version:
            self._count_refused(session)
            text = f"this node speaks version {PROTOCOL_VERSION} of the protocol: use the same release on both ends"
            self.answer(request, request.api.refusal(ErrorCode.UNSUPPORTED_VERSION, text))
            return
        session.client_id, session.version = body.client_id, PROTOCOL_VERSION
        response = HandshakeResponse(version=PROTOCOL_VERSION, node_id=self._node_id, cluster_id=self._cluster_id())
        self.answer(request, response)

    # --- answers -----------------------------------------------------------------------------------
    def answer(self, request: Request[Any], response: ResponseBody, payload: Buffer | None = None) -> None:
        code = response.error_code
        if code:
            self.errors[code] = self.errors.get(code, 0) + 1
        if isinstance(response, ProduceResult):
            response.correlation_id = request.correlation_id
            self.answer_produces(request.session, [response])
            return
        if request.api is apis.FETCH:
            request.session.waiting = max(0, request.session.waiting - 1)
        if payload is not None and self.throttles and isinstance(response, FetchResponse):
            self._charge(request.session, response, len(payload))
        header = encode_response(request.api, request.correlation_id, response)
        if self._send(request.session, [header] if payload is None else [header, payload]) or payload is None:
            return
        # Gone, or too many bytes wait for all clients together: a client that is there asks again in a moment.
        text = "too many bytes wait for the clients of this partition"
        refusal = request.api.refusal(ErrorCode.THROTTLING_QUOTA_EXCEEDED, text)
        self._send(request.session, [encode_response(request.api, request.correlation_id, refusal)])

    def _charge(self, session: Session, response: FetchResponse, size_bytes: int) -> None:
        now_s = monotonic_s()
        self.throttles.charge(session, CONSUMER_BYTE_RATE, size_bytes, now_s)
        response.throttle_ms = held_ms(session, now_s)

    def answer_produces(self, session: Session, results: list[ProduceResult]) -> None:
        # Also of what was not counted: acks=0, which is told where it is refused, and what could not be read.
        session.waiting = max(0, session.waiting - len(results))
        if session.held_until_s:
            throttle_ms = held_ms(session, monotonic_s())
            for result in results:
                result.throttle_ms = throttle_ms
        self._send(session, [encode_response(apis.PRODUCE, 0, results)])

    def _send(self, session: Session, frames: list[Buffer]) -> bool:
        assert isinstance(session.connection, bytes), "a session of this door"
        return self._server.send(session.connection, frames)

    # --- log lines ---------------------------------------------------------------------------------
    def log_refused(self, now_s: float) -> None:
        """What a hostile client can make this process write to its log is bounded."""
        refusals = self._server.connections.refusals
        ended = refusals.ended
        if ended != self._ended and now_s >= self._log_due_s:
            log.warning("ended %d connections: the last one, %s", ended - self._ended, refusals.last)
            self._ended = ended
            self._log_due_s = now_s + _LOG_S
        refused = self.refused + self._server.dropped
        if refused != self._logged and now_s >= self._log_due_s:
            log.warning("refused %d messages that made no sense", refused - self._logged)
            self._logged = refused
            self._log_due_s = now_s + _LOG_S


def _is_full(session: Session) -> bool:
    return session.unacknowledged >= REQUESTS_IN_FLIGHT_MAX or session.unacknowledged_bytes >= UNACKNOWLEDGED_BYTES_MAX
