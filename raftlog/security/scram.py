"""What a user's password is proved with: SCRAM's credentials (RFC 5802). Data; logins are in passwords.py.

What is stored proves a password and is none: with it one can search for a weak password, and log in with no password.
"""

from __future__ import annotations

import enum
import hashlib
import hmac

import msgspec

from raftlog.errors import InvalidRequestError

ITERATIONS_MIN, ITERATIONS_MAX = 4_096, 16_384  # Kafka's
ITERATIONS = 8_192
FINAL_BEGINS = b"c="  # the second of a client's messages, and never the first
_SALT_BYTES_MIN, _SALT_BYTES_MAX = 12, 255  # scramp refuses shorter ones at each login


class Mechanism(enum.IntEnum):
    """Kafka's numbers of SCRAM's mechanisms."""

    SCRAM_SHA_256 = 1
    SCRAM_SHA_512 = 2

    @property
    def text(self) -> str:
        return self.name.replace("_", "-")

    @property
    def hash_name(self) -> str:
        return "sha256" if self is Mechanism.SCRAM_SHA_256 else "sha512"

    @property
    def key_bytes(self) -> int:
        return 32 if self is Mechanism.SCRAM_SHA_256 else 64


BY_TEXT = {mechanism.text: mechanism for mechanism in Mechanism}


class Credential(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """What the password of a user is proved with, for one mechanism."""

    mechanism: int
    salt: bytes
    stored_key: bytes
    server_key: bytes
    iterations: int


class LoginError(Exception):
    """It was not proved who this is. The text says nothing of why: whoever guesses learns nothing."""


def credential_of(mechanism: Mechanism, salted_password: bytes, salt: bytes, iterations: int) -> Credential:
    """Of what Kafka's tools send: a password that is salted already."""
    name = mechanism.hash_name
    client_key = hmac.digest(salted_password, b"Client Key", name)
    return Credential(
        mechanism=mechanism,
        salt=salt,
        stored_key=hashlib.new(name, client_key).digest(),
        server_key=hmac.digest(salted_password, b"Server Key", name),
        iterations=iterations,
    )


def check_credential(credential: Credential) -> None:
    """Raises InvalidRequestError for one that nobody could log in with."""
    if credential.iterations < ITERATIONS_MIN:
        raise InvalidRequestError(f"Too few iterations: {ITERATIONS_MIN} to {ITERATIONS_MAX}")
    if credential.iterations > ITERATIONS_MAX:
        raise InvalidRequestError(f"Too many iterations: {ITERATIONS_MIN} to {ITERATIONS_MAX}")
    if not _SALT_BYTES_MIN <= len(credential.salt) <= _SALT_BYTES_MAX:
        raise InvalidRequestError(f"a salt has {_SALT_BYTES_MIN} to {_SALT_BYTES_MAX} bytes")
    expected = Mechanism(credential.mechanism).key_bytes
    if len(credential.stored_key) != expected or len(credential.server_key) != expected:
        raise InvalidRequestError(f"a key of this mechanism has {expected} bytes")


def fake_credential(mechanism: Mechanism, user: str, secret: bytes) -> Credential:
    """For a user who does not exist: the same one each time, so that the answers tell nobody that there is none."""
    size = mechanism.key_bytes
    made = [hmac.digest(secret, f"{what} {user}".encode(), "sha512")[:size] for what in ("salt", "stored", "server")]
    return Credential(
        mechanism=mechanism, salt=made[0][:32], stored_key=made[1], server_key=made[2], iterations=ITERATIONS
    )
