"""The door of a worker for the other doors of its node: the same envelopes as clients send, over local streams.

Answers of a turn leave together, with `flush`.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from select import POLLIN
from typing import Any

from raftlog.errors import RaftlogError
from raftlog.limits import LOCAL_STREAMS_MAX
from raftlog.network import LocalServer, MessageStream, Poller
from raftlog.protocol import apis
from raftlog.protocol.body import ResponseBody
from raftlog.protocol.envelope import Request, UnreadableBodyError, encode_response, read_request
from raftlog.protocol.records import ProduceResult
from raftlog.protocol.session import Session
from raftlog.types import Buffer

log = logging.getLogger(__name__)


class InnerDoor:
    """Its poller gives the door's `server`, or one of its streams, when something has come: see `receive`."""

    def __init__(self, boot_id: int, poller: Poller) -> None:
        self.server = LocalServer(boot_id)
        self._poller = poller
        self.errors: dict[int, int] = {}  # answered, by code
        self._sessions: dict[MessageStream, Session] = {}
        self._arrived: deque[Request[Any]] = deque()
        self._behind = False  # the last turn had no room for all of them: what else has come stays in its sockets
        self._to_flush: dict[MessageStream, None] = {}
        poller.watch(self.server.fileno(), self.server, POLLIN)

    @property
    def has_arrived(self) -> bool:
        """Requests that a turn had no room for."""
        return bool(self._arrived)

    # --- in ----------------------------------------------------------------------------------------
    def accept(self) -> None:
        connected = self.server.accept()
        if connected is None:
            return
        if len(self._sessions) >= LOCAL_STREAMS_MAX:
            connected.close()
            return
        stream = MessageStream(connected, lambda descriptor, events: self._poller.watch(descriptor, stream, events))
        self._sessions[stream] = Session(stream, "this node", self)
        self._poller.watch(stream.fileno(), stream, POLLIN)

    def receive(self, stream: MessageStream) -> None:
        """Reads what has come; `requests` gives it."""
        session = self._sessions.get(stream)
        if session is None:
            return
        stream.flush()
        if self._behind and not stream.closed:
            return
        for header, payload in stream.receive():
            try:
                request = read_request(session, header, [] if payload is None else [payload])
            except UnreadableBodyError as error:
                refusal = error.request.api.refusal(error.code, str(error))
                self.answer(error.request, refusal)
            except RaftlogError as error:
                log.error("a door of this node sent what is no request: %s", error)
                stream.closed = True
                break
            else:
                session.requests += 1
                self._arrived.append(request)
        if stream.closed:
            self._end(stream)

    def requests(self, most: int) -> Iterator[Request[Any]]:
        arrived = self._arrived
        for _ in range(min(most, len(arrived))):
            yield arrived.popleft()

    def greet(self, request: Request[Any]) -> None:
        """A door that has found the socket is one of this node: there is nothing to say."""
        self.answer(request, request.api.response())

    # --- out ---------------------------------------------------------------------------------------
    def answer(self, request: Request[Any], response: ResponseBody, payload: Buffer | None = None) -> None:
        code = response.error_code
        if code:
            self.errors[code] = self.errors.get(code, 0) + 1
        if isinstance(response, ProduceResult):
            response.correlation_id = request.correlation_id
            self.answer_produces(request.session, [response])
        else:
            self._put(request.session, encode_response(request.api, request.correlation_id, response), payload)

    def answer_produces(self, session: Session, results: list[ProduceResult]) -> None:
        self._put(session, encode_response(apis.PRODUCE, 0, results), None)

    def _put(self, session: Session, header: bytes, payload: Buffer | None) -> None:
        stream = session.connection
        assert isinstance(stream, MessageStream), "a session of this door"
        if stream in self._sessions:
            if not stream.put(header, payload):
                stream.closed = True  # it takes nothing: what it asked is lost to it, and it connects again
            self._to_flush[stream] = None

    def flush(self) -> None:
        """Once, at the end of a turn."""
        self._behind = self.has_arrived
        while self._to_flush:
            stream, _ = self._to_flush.popitem()
            stream.flush()
            if stream.closed:
                self._end(stream)

    def _end(self, stream: MessageStream) -> None:
        if self._sessions.pop(stream, None) is not None:
            self._poller.unregister(stream.fileno())
            stream.close()
