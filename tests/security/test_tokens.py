"""Tokens of an issuer: which are taken, and why each of the others is not."""

from __future__ import annotations

import base64
import hmac
import json
import time
from typing import Any

import pytest
from joserfc import jwk
from msgspec.structs import replace

from raftlog.errors import ConfigError
from raftlog.security.oauth import Token, TokenError, UnknownKeyError, read_message
from raftlog.security.tokens import check_token, read_keys
from tests.security.tokens import RULES, Issuer, unsigned

NOW_S = int(time.time())
ISSUER = Issuer(NOW_S)
STRANGER = jwk.ECKey.generate_key("P-256", {"kid": "ec"})


def check(token: str, rules: Any = RULES) -> Token:
    return check_token(token, ISSUER.keys, rules, NOW_S)


@pytest.mark.parametrize(
    ("header", "key"),
    [
        ({"alg": "RS256", "kid": "rsa"}, ISSUER.rsa),
        ({"alg": "PS512", "kid": "rsa"}, ISSUER.rsa),
        ({"alg": "ES256", "kid": "ec"}, ISSUER.ec),
        ({"alg": "EdDSA", "kid": "ed"}, ISSUER.ed),
        ({"alg": "RS256", "kid": None}, ISSUER.rsa),
        ({"typ": "at+jwt"}, ISSUER.ec),
    ],
)
def test_a_token_of_the_issuer_names_its_user(header: dict[str, Any], key: Any) -> None:
    token = check(ISSUER.token(header, key=key, exp=NOW_S + 60.5))
    assert token == Token("alice", (NOW_S + 60) * 1000 + 500)


def test_another_claim_may_name_the_user_and_one_of_several_audiences_is_enough() -> None:
    token = ISSUER.token(azp="service-7", aud=["x", "other"])
    assert check(token, replace(RULES, principal_claim="azp")).user == "service-7"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"exp": NOW_S - 1}, "has expired"),
        ({"exp": NOW_S}, "has expired"),
        ({"exp": None}, "claim exp"),
        ({"exp": "soon"}, "claim exp"),
        ({"exp": float("inf")}, "claim exp"),
        ({"exp": 1e12}, "never does"),
        ({"nbf": NOW_S + 60}, "claim nbf"),
        ({"iat": NOW_S + 60}, "claim iat"),
        ({"iss": "https://else.example.org"}, "claim iss"),
        ({"iss": None}, "claim iss"),
        ({"aud": "billing"}, "claim aud"),
        ({"aud": ["billing"]}, "claim aud"),
        ({"aud": []}, "claim aud"),
        ({"aud": None}, "claim aud"),
        ({"sub": None}, "claim sub names no user"),
        ({"sub": ["alice"]}, "claim sub"),
        ({"sub": ""}, "cannot be a user's name"),
        ({"sub": "a\nb"}, "cannot be a user's name"),
    ],
)
def test_a_claim_that_is_not_right_is_refused(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(TokenError, match=why):
        check(ISSUER.token(**changes))


def test_clocks_may_differ_a_little() -> None:
    assert check(ISSUER.token(nbf=NOW_S + 20, iat=NOW_S + 20)).user == "alice"


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "", None])
def test_a_token_without_a_signature_is_refused(algorithm: str | None) -> None:
    with pytest.raises(TokenError):
        check(unsigned({"alg": algorithm}))


def test_a_public_key_is_no_secret_to_sign_with() -> None:
    """The classic confusion: HMAC with what everybody knows, the public key as text."""
    text = unsigned({"alg": "HS256", "kid": "rsa"}).rstrip(".")
    made = hmac.digest(ISSUER.rsa.as_pem(private=False), text.encode(), "sha256")
    with pytest.raises(TokenError, match="cannot be read"):
        check(f"{text}.{base64.urlsafe_b64encode(made).rstrip(b'=').decode()}")


@pytest.mark.parametrize(
    "header", [{}, {"jwk": STRANGER.as_dict(private=False)}, {"jku": "https://else.example.org/keys"}]
)
def test_a_key_that_the_token_brings_along_counts_for_nothing(header: dict[str, Any]) -> None:
    with pytest.raises(TokenError, match="not signed by the issuer"):
        check(ISSUER.token(header, key=STRANGER))


def test_a_key_that_is_not_known_is_told_from_a_wrong_one() -> None:
    with pytest.raises(UnknownKeyError):
        check(ISSUER.token({"kid": "new"}))
    with pytest.raises(UnknownKeyError):
        check_token(ISSUER.token(), (), RULES, NOW_S)


def test_an_extension_that_has_to_be_understood_is_not() -> None:
    with pytest.raises(TokenError):
        check(unsigned({"alg": "ES256", "kid": "ec", "crit": ["b64"], "b64": False}, "AAAA"))


@pytest.mark.parametrize("change", [lambda t: t[:-4] + "AAAA", lambda t: t.replace(".", ".x", 1), lambda t: t + "x"])
def test_a_changed_token_is_refused(change: Any) -> None:
    with pytest.raises(TokenError):
        check(change(ISSUER.token()))


@pytest.mark.parametrize("text", ["", "a", "a.b", "a.b.c.d.e", "....", "ü.b.c", "e30.e30.e30", "x" * 40_000])
def test_what_is_no_token_is_refused(text: str) -> None:
    with pytest.raises(TokenError):
        check(text)


def test_a_payload_that_is_no_object_is_refused() -> None:
    from joserfc import jws

    for payload in (b"[1]", b"\xff", b"7", b'{"exp":1e999}'):
        with pytest.raises(TokenError):
            check(jws.serialize_compact({"alg": "ES256", "kid": "ec"}, payload, ISSUER.ec, algorithms=["ES256"]))


# --- key sets --------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b'{"keys":1}', b'{"keys":[]}', b'{"keys":[1,{}]}', b"\xff", b'{"keys":[{"kty":"RSA"}]}']
)
def test_what_is_no_key_set_is_refused(data: bytes) -> None:
    with pytest.raises(ConfigError, match=r"keys\.json"):
        read_keys(data, "keys.json")


def test_keys_that_cannot_check_a_signature_are_passed_over() -> None:
    weak = jwk.RSAKey.generate_key(1024, {"kid": "weak"}).as_dict(private=False)
    secret = jwk.OctKey.generate_key(256, {"kid": "secret"}).as_dict()
    others = [weak, secret, {**ISSUER.listed[0], "use": "enc"}, {"kty": "new"}, {"kty": "EC", "crv": "P-256"}]
    found = read_keys(json.dumps({"keys": [*others, ISSUER.listed[1]]}).encode(), "keys.json")
    assert [key.kid for key in found] == ["ec"]


def test_a_key_for_one_algorithm_is_taken_for_no_other() -> None:
    listed = [{**ISSUER.listed[0], "alg": "PS256"}]
    keys = read_keys(json.dumps({"keys": listed}).encode(), "keys.json")
    with pytest.raises(UnknownKeyError):
        check_token(ISSUER.token({"alg": "RS256", "kid": "rsa"}, key=ISSUER.rsa), keys, RULES, NOW_S)
    assert check_token(ISSUER.token({"alg": "PS256", "kid": "rsa"}, key=ISSUER.rsa), keys, RULES, NOW_S)


# --- what a client sends -----------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (b"n,,\x01auth=Bearer a.b.c\x01\x01", ("a.b.c", "")),
        (b"n,a=alice,\x01auth=bearer a.b-_c\x01traceId=7\x01\x01", ("a.b-_c", "alice")),
        (b"n,a=a=2Cb=3D,\x01host=x\x01auth=Bearer  a.b.\x01\x01", ("a.b.", "a,b=")),
    ],
)
def test_the_message_of_a_client_is_read(message: bytes, expected: tuple[str, str]) -> None:
    assert read_message(message) == expected


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\x01",
        b"n,,\x01\x01",
        b"y,,\x01auth=Bearer a\x01\x01",
        b"n,,\x01auth=Basic a\x01\x01",
        b"n,,\x01auth=Bearer \x01\x01",
        b"n,,\x01auth=Bearer a\x01",
        b"n,,\x01auth=Bearer a\x01auth=Bearer b\x01\x01",
        b"n,,\x01auth=Bearer \xff\x01\x01",
        b"\0alice\0secret",
    ],
)
def test_what_is_no_such_message_is_refused(message: bytes) -> None:
    with pytest.raises(TokenError):
        read_message(message)
