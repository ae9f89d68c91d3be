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
from raftlog.limits import EXPIRY_SCAN_S, LOGIN_ANSWER_S, PROTOCOL_VERSION
from raftlog.protocol import apis
from raftlog.protocol.apis import Api
from raftlog.protocol.body import Body, ResponseBody
from raftlog.protocol.cluster import HandshakeRequest
from raftlog.protocol.envelope import NO_TOPIC, decode_response, encode_request
from raftlog.protocol.security import ON_BEHALF, AuthenticateRequest, AuthenticateResponse, Behalf, encode_behalf
from raftlog.security.scram import LoginError, Mechanism
from raftlog.types import Endpoint

LOGGER = logging.getLogger(__name__)

Q = TypeVar("Q", bound=Body)
A = TypeVar("A", bound=ResponseBody)
Who = Callable[[], tuple[str, str] | Behalf | None] | None
"""User and password, as they are now; a Behalf of a node that asks for somebody else; None: nothing is proved."""
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
    __slots__ = ("api", "deadline_s", "done", "overdue_s", "place")

    def __init__(
        self, api: Api[Any, Any], done: Done[Any], deadline_s: float, overdue_s: float, place: tuple[bytes, int]
    ) -> None:
        self.api = api
        self.place = place
        self.done = done
        self.deadline_s = deadline_s
        self.overdue_s = overdue_s


class _Login:
    """As a user at one endpoint. `message`: the next one to be sent."""

    def __init__(self, user: str, password: str) -> None:
        from raftlog.security.passwords import ClientLogin  # 45 ms, which only who logs in pays

        self.mechanism = Mechanism.SCRAM_SHA_256.text
        self._client = ClientLogin(Mechanism.SCRAM_SHA_256, user, password)
        self._proved = False
        self.message = self._client.first()
        self.done = False
        self.failed = ""

    def step(self, answer: AuthenticateResponse) -> bool:
        """Takes an answer; True: it was the last one. Raises LoginError where the other end is not who it should be."""
        if self._proved:
            self._client.finish(answer.data)
            self.done = True
        else:
            self.message = self._client.second(answer.data)
            self._proved = True
        return self.done


class _BehalfLogin:
    """Likewise of a node that asks for somebody else: one message."""

    def __init__(self, behalf: Behalf) -> None:
        self.mechanism = ON_BEHALF
        self.message = encode_behalf(behalf)
        self.done = False
        self.failed = ""

    def step(self, _answer: AuthenticateResponse) -> bool:
        self.done = True
        return self.done


class Exchange:
    """The requests of one client that wait for an answer; it numbers them.

    `trouble` says which node speaks another version of the protocol; empty: none does.
    """

    def __init__(self, wire: Wire, client_id: str, who: Who = None) -> None:
        self._wire = wire
        self._who = who
        self._logins: dict[Endpoint, _Login | _BehalfLogin] = {}  # only where somebody has to be named
        self._client_id = client_id
        self._last_id = 0
        self._asked: dict[Endpoint, dict[int, _Asked]] = {}
        self._greeted: set[Endpoint] = set()
        self._scan_s = NEVER_S
        self._now_s = 0.0
        self._denied = ""
        self.held_until_s: dict[Endpoint, float] = {}  # a quota is used up: no records go there, or are asked for
        self._throttled_ms: dict[Endpoint, int] = {}  # how long, from the next round on
        self.trouble = ""

    def connect(self, endpoint: Endpoint) -> bool:
        """Whether it can be asked now: it is connected, and knows who asks where that has to be proved."""
        return self._wire.connect(endpoint) and (self._who is None or self._may_ask(endpoint))

    @property
    def refused(self) -> str:
        """Why a node does not take this client for anybody that it knows; "" while that is not so."""
        return self._denied or next((login.failed for login in self._logins.values() if login.failed), "")

    def _may_ask(self, endpoint: Endpoint) -> bool:
        """Whether it was greeted, which happens now if it was not, and knows who asks."""
        if endpoint not in self._greeted and not self._greet(endpoint):
            return False
        login = self._logins.get(endpoint)
        return login is None or login.done

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

        `done` None: no answer is expected. After `overdue_s` `expire` says who is silent. Raises
        InvalidRequestError for what no bytes say: a number too large for any field, half a surrogate pair.
        """
        if not self._may_ask(endpoint):
            return 0
        return self._send(endpoint, api, body, done, deadline_s, overdue_s, topic_id, partition, payload)

    def _send(
        self,
        endpoint: Endpoint,
        api: Api[Q, A],
        body: Q,
        done: Done[A] | None,
        deadline_s: float,
        overdue_s: float = NEVER_S,
        topic_id: bytes = NO_TOPIC,
        partition: int = -1,
        payload: bytes | None = None,
    ) -> int:
        self._last_id += 1
        number = self._last_id
        header = encode_request(api, number, body, topic_id, partition)
        if not self._wire.send(endpoint, [header] if payload is None else [header, payload]):
            return 0
        if done is not None:
            asked = self._asked.get(endpoint)
            if asked is None:
                asked = self._asked[endpoint] = {}
            asked[number] = _Asked(api, done, deadline_s, overdue_s, (topic_id, partition))
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
        named = self._who() if self._who is not None else None
        if named is not None:
            self._log_in(endpoint, _BehalfLogin(named) if isinstance(named, Behalf) else _Login(*named))
        return True

    def _log_in(self, endpoint: Endpoint, login: _Login | _BehalfLogin) -> None:
        """Its two requests; until they are answered nothing else is asked there. A failure shows in `trouble`."""
        self._logins[endpoint] = login

        def told(answer: AuthenticateResponse | None, _payload: bytes) -> None:
            if self._logins.get(endpoint) is not login:
                return
            if answer is None:  # the link will break, or has broken
                del self._logins[endpoint]
                self._greeted.discard(endpoint)
            elif answer.error_code:
                self.trouble = f"{endpoint} says: {answer.error_text}"
                retriable = answer.error_code == ErrorCode.THROTTLING_QUOTA_EXCEEDED
                login.failed = "" if retriable else self.trouble
                if not login.failed:
                    self._greeted.discard(endpoint)
            else:
                self._go_on(endpoint, login, answer, told)

        self._ask_to_log_in(endpoint, login, told)

    def _go_on(
        self,
        endpoint: Endpoint,
        login: _Login | _BehalfLogin,
        answer: AuthenticateResponse,
        told: Done[AuthenticateResponse],
    ) -> None:
        try:
            done = login.step(answer)
        except LoginError as error:
            login.failed = self.trouble = f"{endpoint} does not know the password itself: {error}"
            return
        if not done:
            self._ask_to_log_in(endpoint, login, told)

    def _ask_to_log_in(
        self, endpoint: Endpoint, login: _Login | _BehalfLogin, told: Done[AuthenticateResponse]
    ) -> None:
        body = AuthenticateRequest(login.mechanism, login.message)
        deadline_s = self._now_s + LOGIN_ANSWER_S
        if not self._send(endpoint, apis.AUTHENTICATE, body, told, deadline_s):
            self._greeted.discard(endpoint)

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
                if result.throttle_ms:
                    self._throttled_ms[endpoint] = result.throttle_ms
                waiting = asked.pop(result.correlation_id, None)
                if waiting is not None:
                    waiting.done(result, b"")
        elif api is None or (api is apis.HANDSHAKE and answer.error_code == ErrorCode.UNSUPPORTED_VERSION):
            if answer.error_code == ErrorCode.UNSUPPORTED_VERSION:
                self._refuse_all(endpoint, f"{endpoint} says: {answer.error_text}")
        elif number in asked and asked[number].api is api:
            if answer.error_code == ErrorCode.SASL_AUTHENTICATION_FAILED and api is not apis.AUTHENTICATE:
                self._denied = f"{endpoint} says: {answer.error_text}"
            if api is apis.FETCH and answer.throttle_ms:
                self._throttled_ms[endpoint] = answer.throttle_ms
            asked.pop(number).done(answer, frames[1] if len(frames) > 1 else b"")

    def _refuse_all(self, endpoint: Endpoint, text: str) -> None:
        """Another version of the protocol is spoken there: nothing that is asked gets another answer."""
        self.trouble = text
        for waiting in self._asked.pop(endpoint, {}).values():
            waiting.done(waiting.api.refusal(ErrorCode.UNSUPPORTED_VERSION, text), b"")

    def lost(self, endpoint: Endpoint) -> None:
        """The connection broke: whatever was asked over it has an unknown outcome."""
        self._logins.pop(endpoint, None)
        self._greeted.discard(endpoint)
        self.held_until_s.pop(endpoint, None)  # it may have another process next; who is asked there says so anew
        for waiting in self._asked.pop(endpoint, {}).values():
            waiting.done(None, b"")

    def abandon(self, endpoint: Endpoint, correlation_id: int) -> None:
        """Nobody waits for this request any more. Its `done` is called with None."""
        waiting = self._asked.get(endpoint, {}).pop(correlation_id, None)
        if waiting is not None:
            waiting.done(None, b"")

    def expire(self, now_s: float) -> set[tuple[bytes, int]]:
        """Ends what has run out of time. Returns whose answers are overdue, (topic id, partition).

        Their leaders may be gone.
        """
        self._now_s = now_s
        while self._throttled_ms:
            endpoint, throttle_ms = self._throttled_ms.popitem()
            self.held_until_s[endpoint] = now_s + throttle_ms / 1000
        if now_s < self._scan_s:
            return set()
        overdue = set[tuple[bytes, int]]()
        next_s = NEVER_S
        for endpoint, asked in list(self._asked.items()):
            expired = [number for number, waiting in asked.items() if waiting.deadline_s <= now_s]
            for number in expired:
                self.abandon(endpoint, number)
            for waiting in asked.values():
                if waiting.overdue_s <= now_s:
                    overdue.add(waiting.place)
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
