"""Requests and their answers: who was asked, until when, and who is told. No sockets: a Wire sends.

Every request ends exactly once: with its answer, or with None when its time is up, its connection broke,
or nobody waits for it any more. None says nothing of the outcome. An answer that comes after that is
known by nobody and ignored.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from raftlog.clock import NEVER_S
from raftlog.errors import ErrorCode, InvalidRequestError, UnsupportedVersionError
from raftlog.limits import EXPIRY_SCAN_S, PROTOCOL_VERSION
from raftlog.protocol import apis
from raftlog.protocol.apis import Api
from raftlog.protocol.body import Body, ResponseBody
from raftlog.protocol.cluster import HandshakeRequest
from raftlog.protocol.envelope import NO_TOPIC, decode_response, encode_request
from raftlog.types import Endpoint

LOGGER = logging.getLogger(__name__)

Q = TypeVar("Q", bound=Body)
A = TypeVar("A", bound=ResponseBody)
Done = Callable[[A | None, bytes], None]
"""done(answer, payload): the payload frame, or b"" when there is none."""


class Wire(Protocol):
    """Connections, as a core sees them. The twin for tests is in tests/client/fake_wire.py."""

    def connect(self, endpoint: Endpoint) -> bool:
        """Whether it is connected; begins to connect when it is not."""
        ...

    def send(self, endpoint: Endpoint, frames: list[bytes]) -> bool:
        """False: not connected, or its buffer is full."""
        ...


class _Asked:
    __slots__ = ("api", "deadline_s", "done", "overdue_s")

    def __init__(self, api: Api[Any, Any], done: Done[Any], deadline_s: float, overdue_s: float) -> None:
        self.api = api
        self.done = done
        self.deadline_s = deadline_s
        self.overdue_s = overdue_s


class Exchange:
    """The requests of one client that wait for an answer; it numbers them.

    `trouble` says which node speaks another version of the protocol; empty: none does.
    """

    def __init__(self, wire: Wire, client_id: str) -> None:
        self._wire = wire
        self._client_id = client_id
        self._last_id = 0
        self._asked: dict[Endpoint, dict[int, _Asked]] = {}
        self._greeted: set[Endpoint] = set()
        self._scan_s = NEVER_S
        self.trouble = ""

    def connect(self, endpoint: Endpoint) -> bool:
        return self._wire.connect(endpoint)

    def ask(
        self,
        endpoint: Endpoint,
        api: Api[Q, A],
        body: Q,
        done: Done[A] | None,
        *,
        deadline_s: float,
        overdue_s: float = NEVER_S,
        topic_id: bytes = NO_TOPIC,
        partition: int = -1,
        payload: bytes | None = None,
    ) -> int:
        """The correlation id; 0, and `done` is never called, when it cannot be sent now.

        `done` None: no answer is expected. After `overdue_s` `expire` says that someone is silent. Raises
        InvalidRequestError for what no bytes say: a number too large for any field, half a surrogate pair.
        """
        if endpoint not in self._greeted and not self._greet(endpoint):
            return 0
        self._last_id += 1
        number = self._last_id
        header = encode_request(api, number, body, topic_id, partition)
        if not self._wire.send(endpoint, [header] if payload is None else [header, payload]):
            return 0
        if done is not None:
            asked = self._asked.get(endpoint)
            if asked is None:
                asked = self._asked[endpoint] = {}
            asked[number] = _Asked(api, done, deadline_s, overdue_s)
            self._scan_s = min(self._scan_s, deadline_s, overdue_s)
        return number

    def ask_whether_received(self, endpoint: Endpoint, done: Done[Any], *, deadline_s: float) -> bool:
        """As `ask`: what was sent before over the same connection has been received once this is answered."""
        return bool(self.ask(endpoint, apis.HANDSHAKE, self._greeting(), done, deadline_s=deadline_s))

    def _greeting(self) -> HandshakeRequest:
        return HandshakeRequest(min_version=PROTOCOL_VERSION, max_version=PROTOCOL_VERSION, client_id=self._client_id)

    def _greet(self, endpoint: Endpoint) -> bool:
        # The answer is not waited for: with one version there is nothing to choose, and a refusal
        # comes before the answers to what follows.
        if not self._wire.send(endpoint, [encode_request(apis.HANDSHAKE, 0, self._greeting())]):
            return False
        self._greeted.add(endpoint)
        return True

    def answered(self, endpoint: Endpoint, frames: list[bytes]) -> None:
        """A message came. What cannot be read is ignored: its request runs into its time-out."""
        asked = self._asked.get(endpoint, {})
        try:
            api, number, answer = decode_response(frames[0])
        except UnsupportedVersionError as error:
            self._refuse_all(endpoint, f"{endpoint} speaks {error}")
            return
        except InvalidRequestError as error:
            LOGGER.warning("%s sent an answer that cannot be read: %s", endpoint, error)
            return
        if api is apis.PRODUCE:
            for result in answer:
                waiting = asked.pop(result.correlation_id, None)
                if waiting is not None:
                    waiting.done(result, b"")
        elif api is None or (api is apis.HANDSHAKE and answer.error_code == ErrorCode.UNSUPPORTED_VERSION):
            if answer.error_code == ErrorCode.UNSUPPORTED_VERSION:
                self._refuse_all(endpoint, f"{endpoint} says: {answer.error_text}")
        elif number in asked and asked[number].api is api:
            asked.pop(number).done(answer, frames[1] if len(frames) > 1 else b"")

    def _refuse_all(self, endpoint: Endpoint, text: str) -> None:
        """Another version of the protocol is spoken there: nothing that is asked gets another answer."""
        self.trouble = text
        for waiting in self._asked.pop(endpoint, {}).values():
            waiting.done(waiting.api.refusal(ErrorCode.UNSUPPORTED_VERSION, text), b"")

    def lost(self, endpoint: Endpoint) -> None:
        """The connection broke: whatever was asked over it has an unknown outcome."""
        self._greeted.discard(endpoint)
        for waiting in self._asked.pop(endpoint, {}).values():
            waiting.done(None, b"")

    def abandon(self, endpoint: Endpoint, correlation_id: int) -> None:
        """Nobody waits for this request any more. Its `done` is called with None."""
        waiting = self._asked.get(endpoint, {}).pop(correlation_id, None)
        if waiting is not None:
            waiting.done(None, b"")

    def expire(self, now_s: float) -> bool:
        """Ends what has run out of time. True when something is overdue: its leader may be gone."""
        if now_s < self._scan_s:
            return False
        overdue = False
        next_s = NEVER_S
        for endpoint, asked in list(self._asked.items()):
            expired = [number for number, waiting in asked.items() if waiting.deadline_s <= now_s]
            for number in expired:
                self.abandon(endpoint, number)
            for waiting in asked.values():
                overdue = overdue or waiting.overdue_s <= now_s
                next_s = min(next_s, waiting.deadline_s, max(waiting.overdue_s, now_s))
            if not asked:
                self._asked.pop(endpoint, None)
        self._scan_s = max(next_s, now_s + EXPIRY_SCAN_S)
        return overdue

    def next_wakeup_s(self) -> float:
        return self._scan_s

    def is_asked(self, endpoint: Endpoint) -> bool:
        """Whether an answer of it is waited for."""
        return bool(self._asked.get(endpoint))
