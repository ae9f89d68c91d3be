"""Logins at Kafka's door: SaslHandshake, SaslAuthenticate, and what a session may ask before and after. No sockets.

    ApiVersions -> SaslHandshake: a mechanism -> SaslAuthenticate, once or twice -> the session is the user's

A failure is answered late, and its connection ends then. Failures of one address wait for each other: who guesses gets
few answers, and nothing is held for them but the connection.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from raftlog import limits
from raftlog.clock import NEVER_S
from raftlog.errors import ErrorCode
from raftlog.kafka.calls import Fields
from raftlog.kafka.connection import Login
from raftlog.protocol.session import Session
from raftlog.security.audit import DENIED
from raftlog.security.oauth import OAUTHBEARER, Token, TokenError, read_message
from raftlog.security.passwords import ServerLogin, proves
from raftlog.security.policy import NEVER_ENDS, Policy, principal_of
from raftlog.security.scram import BY_TEXT, LoginError

if TYPE_CHECKING:
    from raftlog.kafka.broker import Broker, Incoming

PLAIN = "PLAIN"
_BAD_PLAIN = "Authentication failed: Invalid username or password"
_BAD_TOKEN = "Authentication failed: {}"
_BAD_SCRAM = "Authentication failed during authentication due to invalid credentials with SASL mechanism {}"


class _Failures:
    """Of one address: how many of its answers wait, and when the last of them leaves."""

    __slots__ = ("due_s", "waiting")

    def __init__(self) -> None:
        self.due_s = 0.0
        self.waiting = 0


class Tokens(Protocol):
    """Who checks tokens. Real keys, or a test's."""

    def check(self, text: str) -> Token:
        """Raises TokenError."""
        ...

    def may_know_soon(self, error: TokenError) -> bool:
        """Whether the token that was refused with `error` is worth another look in a moment."""
        ...


class Logins:
    """Since the process began, `failed` logins failed, and superusers logged in with PLAIN `superusers_plain` times."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._failures: dict[str, _Failures] = {}
        self.failed = 0
        self.superusers_plain = 0

    # --- what a session may ask --------------------------------------------------------------------
    def why_not(self, session: Session, now_s: float) -> str:
        """Why nothing but a login is taken from it now; "" where everything is."""
        policy = self._broker.policy
        if self.is_gone(session):
            return "its user was changed or deleted"
        if session.expires_s <= now_s:
            return "its session has expired, and it has not logged in again"
        if policy.demands_login and not session.mechanism:
            return "it has not logged in"
        return ""

    def is_gone(self, session: Session) -> bool:
        return session.epoch >= 0 and self._broker.policy.has_ended(session.principal, session.epoch)

    # --- SaslHandshake -----------------------------------------------------------------------------
    def handshake(self, incoming: Incoming, mechanism: str) -> None:
        connection, session = incoming.connection, incoming.connection.session
        if connection.login is None:
            connection.login = Login()
        known = self._mechanisms(session)
        fields: Fields = {"mechanisms": known}
        if incoming.version == 0:  # messages without Kafka's framing would follow
            self._broker.answer(incoming, {**fields, "error_code": int(ErrorCode.UNSUPPORTED_VERSION)})
            self._broker.close(connection, "it wanted to log in with SaslHandshake version 0, which is not taken here")
        elif not self._broker.policy.security.users and OAUTHBEARER not in known:
            self._broker.answer(incoming, {**fields, "error_code": int(ErrorCode.ILLEGAL_SASL_STATE)})
        elif mechanism not in known:
            self._broker.answer(incoming, {**fields, "error_code": int(ErrorCode.UNSUPPORTED_SASL_MECHANISM)})
            self._broker.close(connection, f"it wanted to log in with {mechanism[:40]!r}, which is not taken here")
        else:
            connection.login.mechanism = mechanism
            connection.login.scram = None
            self._broker.answer(incoming, fields)

    def _mechanisms(self, session: Session) -> list[str]:
        """A password, or a token, travels as it is over connections that nobody else can read only."""
        if not session.encrypted:
            return list(BY_TEXT)
        return [*BY_TEXT, PLAIN, *([OAUTHBEARER] if self._broker.tokens else [])]

    # --- SaslAuthenticate --------------------------------------------------------------------------
    def authenticate(self, incoming: Incoming, message: bytes) -> None:
        login = incoming.connection.login
        if login is None or not login.mechanism:
            text = "a SaslHandshake comes first"
            self._broker.answer(incoming, {"error_code": int(ErrorCode.ILLEGAL_SASL_STATE), "error_message": text})
        elif login.mechanism == PLAIN:
            self._plain(incoming, message)
        elif login.mechanism == OAUTHBEARER:
            self._bearer(incoming, message)
        else:
            self._scram(incoming, message)

    def _plain(self, incoming: Incoming, message: bytes) -> None:
        try:
            wanted, user, password = message.decode().split("\0")
        except ValueError:
            self._fail(incoming, "", _BAD_PLAIN)
            return
        # Also for a user who does not exist: it takes as long.
        right = proves(self._broker.policy.any_credential(user), password)
        if right and wanted in ("", user):
            self._finish(incoming, user, b"")
        else:
            self._fail(incoming, user, _BAD_PLAIN)

    def _scram(self, incoming: Incoming, message: bytes) -> None:
        login = incoming.connection.login
        assert login is not None, "a SaslHandshake came first"
        mechanism = BY_TEXT[login.mechanism]
        if login.scram is None:
            policy: Policy = self._broker.policy
            login.scram = ServerLogin(mechanism, lambda user: policy.credential(user, mechanism))
        try:
            answer = login.scram.step(message)
        except LoginError:
            self._fail(incoming, login.scram.user, _BAD_SCRAM.format(mechanism.text))
            return
        if login.scram.done:
            self._finish(incoming, login.scram.user, answer)
        else:
            self._broker.answer(incoming, {"auth_bytes": answer})

    def _bearer(self, incoming: Incoming, message: bytes, *, again: bool = True) -> None:
        """A token of a key that is not known is looked at once more where the issuer's keys are being fetched."""
        tokens = self._broker.tokens
        assert tokens is not None, "the mechanism was offered"
        try:
            text, wanted = read_message(message)
            token = tokens.check(text)
        except TokenError as error:
            if again and tokens.may_know_soon(error):
                self._look_again(incoming, message)
            else:
                self._fail(incoming, "", _BAD_TOKEN.format(error))
            return
        if wanted not in ("", token.user):
            self._fail(incoming, token.user, _BAD_TOKEN.format("it names somebody else than the client"))
        else:
            self._finish(incoming, token.user, b"", token)

    def _look_again(self, incoming: Incoming, message: bytes) -> None:
        """Until then no other message is one of this login."""
        login = incoming.connection.login
        assert login is not None, "a SaslHandshake came first"
        login.mechanism = ""

        def look() -> None:
            login.mechanism = OAUTHBEARER
            self._bearer(incoming, message, again=False)

        self._broker.at(self._broker.backend.now_s() + limits.KEYS_FETCHED_S, look)

    def _finish(self, incoming: Incoming, user: str, answer: bytes, token: Token | None = None) -> None:
        broker, connection = self._broker, incoming.connection
        session, login = connection.session, connection.login
        assert login is not None, "a SaslHandshake came first"
        principal, epoch = principal_of(user), broker.policy.epoch_of(user) if token is None else NEVER_ENDS
        if epoch < 0 and token is None:  # deleted since its first message
            self._fail(incoming, user, _BAD_PLAIN)
            return
        if (session.epoch >= 0 or session.mechanism == OAUTHBEARER) and session.principal != principal:
            was, wanted = (each.replace(":", ".", 1) for each in (session.principal, principal))
            self._fail(incoming, user, f"Cannot change principals during re-authentication from {was}: {wanted}")
            return
        session.principal, session.mechanism, session.epoch = principal, login.mechanism, epoch
        if login.mechanism == PLAIN and principal in broker.policy.access.superusers:
            self.superusers_plain += 1
        lifetime_ms = broker.settings.max_reauth_ms
        if token is not None:
            left_ms = token.ends_ms - broker.backend.now_ms()
            lifetime_ms = max(1, min(left_ms, lifetime_ms or left_ms))
        session.expires_s = broker.backend.now_s() + lifetime_ms / 1000 if lifetime_ms else NEVER_S
        login.mechanism, login.scram = "", None
        connection.request_bytes_max = limits.KAFKA_REQUEST_BYTES_MAX
        broker.answer(incoming, {"auth_bytes": answer, "session_lifetime": lifetime_ms})

    # --- failures ----------------------------------------------------------------------------------
    def _fail(self, incoming: Incoming, user: str, text: str) -> None:
        """Late, and then it ends."""
        broker, connection = self._broker, incoming.connection
        session = connection.session
        self.failed += 1
        broker.note(session, "SaslAuthenticate", DENIED, names=[user] if user else [], why=text)
        assert connection.login is not None, "a SaslHandshake came first"
        connection.login.failed = True
        failures = self._failures.setdefault(session.host, _Failures())
        if failures.waiting >= limits.FAILED_LOGINS_WAITING_MAX:
            broker.close(connection, "too many logins of its address have failed")
            return
        now_s = broker.backend.now_s()
        failures.due_s = max(failures.due_s, now_s) + limits.FAILED_LOGIN_S
        failures.waiting += 1
        broker.at(failures.due_s, self._refuser(incoming, text, failures))

    def _refuser(self, incoming: Incoming, text: str, failures: _Failures) -> Callable[[], None]:
        session = incoming.connection.session

        def refuse() -> None:
            failures.waiting -= 1
            if not failures.waiting and self._failures.get(session.host) is failures:
                del self._failures[session.host]
            code = int(ErrorCode.SASL_AUTHENTICATION_FAILED)
            self._broker.answer(incoming, {"error_code": code, "error_message": text})
            self._broker.close(incoming.connection, "its login failed")

        return refuse
