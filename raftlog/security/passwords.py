"""Passwords, and both halves of a login with one (RFC 5802). Home of scramp.

Whoever may do without a login imports it where one happens: scramp takes 45 ms, half of it for certificates in ASN.1.
"""

from __future__ import annotations

import hmac
from typing import Any

from scramp import ScramClient, ScramException, ScramMechanism
from scramp.utils import saslprep

from raftlog.errors import InvalidRequestError
from raftlog.security.scram import ITERATIONS, Credential, LoginError, Mechanism

_USER_CHARS_MAX = 255


def make_credential(mechanism: Mechanism, password: str, iterations: int = ITERATIONS) -> Credential:
    """Some milliseconds of work. Raises InvalidRequestError."""
    try:
        made = ScramMechanism(mechanism.text).make_auth_info(password, iterations)
    except ScramException as error:
        raise InvalidRequestError(f"this password cannot be used: {error}") from None
    salt, stored_key, server_key, _ = made
    return Credential(
        mechanism=mechanism, salt=salt, stored_key=stored_key, server_key=server_key, iterations=iterations
    )


def proves(credential: Credential, password: str) -> bool:
    """Whether it is the password. Some milliseconds of work."""
    mechanism = Mechanism(credential.mechanism)
    try:
        made = ScramMechanism(mechanism.text).make_auth_info(password, credential.iterations, credential.salt)
    except ScramException:
        return False
    return hmac.compare_digest(made[1], credential.stored_key)


def check_user(name: str) -> None:
    """Raises InvalidRequestError for a name that not every client would send as it is written."""
    try:
        same = bool(name) and saslprep(name) == name
    except (ScramException, UnicodeError):
        same = False
    if not same or not name.isprintable() or len(name) > _USER_CHARS_MAX:
        raise InvalidRequestError(
            f"{name!r} cannot be a user's name: letters, digits and signs, {_USER_CHARS_MAX} at most"
        )


class ServerLogin:
    """The server's half of one login. `user`: who it says it is, once the first message has come.

    `find(user)`: the credential, never None: a fake one for who does not exist.
    """

    def __init__(self, mechanism: Mechanism, find: Any) -> None:
        self.user = ""
        self.done = False
        self._began = False
        self._find = find
        self._server = ScramMechanism(mechanism.text).make_server(self._look_up)

    def _look_up(self, user: str) -> tuple[bytes, bytes, bytes, int]:
        self.user = user
        found: Credential = self._find(user)
        return found.salt, found.stored_key, found.server_key, found.iterations

    def step(self, message: bytes) -> bytes:
        """The answer to the client's message; `done` with the second. Raises LoginError."""
        try:
            text = message.decode()
            if not self._began:
                self._began = True
                self._server.set_client_first(text)
                return str(self._server.get_server_first()).encode()
            self._server.set_client_final(text)
            answer = str(self._server.get_server_final()).encode()
        except (ScramException, ValueError, LookupError) as error:
            raise LoginError(str(error)) from None
        self.done = True
        return answer


class ClientLogin:
    """The client's half."""

    def __init__(self, mechanism: Mechanism, user: str, password: str) -> None:
        self._client = ScramClient([mechanism.text], user, password)

    def first(self) -> bytes:
        return str(self._client.get_client_first()).encode()

    def second(self, answer: bytes) -> bytes:
        """Some milliseconds of work. Raises LoginError."""
        try:
            self._client.set_server_first(answer.decode())
            return str(self._client.get_client_final()).encode()
        except (ScramException, ValueError, LookupError) as error:
            raise LoginError(str(error)) from None

    def finish(self, answer: bytes) -> None:
        """Raises LoginError where the other end does not know the password either."""
        try:
            self._client.set_server_final(answer.decode())
        except (ScramException, ValueError, LookupError) as error:
            raise LoginError(str(error)) from None
