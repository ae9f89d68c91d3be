"""Logins with a token of somebody else's (KIP-255, RFC 7628): whose are taken, and what a client sends. Data.

    n,a=AUTHORIZATION ID,\\x01auth=Bearer TOKEN\\x01NAME=VALUE\\x01\\x01

Tokens are checked in tokens.py, which knows the library.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import msgspec

OAUTHBEARER = "OAUTHBEARER"
_MESSAGE = re.compile(rb"n,(?:a=([^,\0\x01]*))?,\x01((?:[A-Za-z]+=[^\0\x01]*\x01)+)\x01")
_BEARER = re.compile(rb"Bearer +([A-Za-z0-9._~+/-]+=*)", re.IGNORECASE)


class TokenRules(msgspec.Struct, frozen=True, kw_only=True):
    """Whose tokens are taken. `jwks`: a file, or a URL, with the issuer's public keys (RFC 7517).

    `audiences`: a token has to be for one of them. `principal_claim`: the claim that names the user.
    """

    jwks: str
    issuer: str
    audiences: tuple[str, ...]
    principal_claim: str = "sub"


class Token(NamedTuple):
    """One that was proved. `ends_ms`: since the epoch."""

    user: str
    ends_ms: int


class TokenError(Exception):
    """It is not taken. The text says why: who holds it may know."""


class UnknownKeyError(TokenError):
    """Newer keys of the issuer may have the one that signed it."""


def read_message(message: bytes) -> tuple[str, str]:
    """(token, as whom the client wants to act; "": as whom the token names). Raises TokenError."""
    found = _MESSAGE.fullmatch(message)
    if found is None:
        raise TokenError("this is no message of OAUTHBEARER")
    values = [part.partition(b"=") for part in found[2].split(b"\x01") if part]
    tokens = [_BEARER.fullmatch(value) for name, _, value in values if name == b"auth"]
    if len(tokens) != 1 or tokens[0] is None:
        raise TokenError("its message has no bearer token")
    wanted = (found[1] or b"").decode("utf-8", "replace").replace("=2C", ",").replace("=3D", "=")
    return tokens[0][1].decode("ascii"), wanted
