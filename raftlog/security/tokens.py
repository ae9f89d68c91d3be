"""Tokens are checked with the public keys of whoever issues them (RFC 7515, 7517, 7519; KIP-768). Home of joserfc.

Nothing that a token says of itself chooses how it is checked: signatures of public keys only, by keys of the issuer's
set only. One without a signature ("none"), or with a key of its own, is refused.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from typing import Any

from joserfc import jwk, jwt
from joserfc.errors import BadSignatureError, ClaimError, ExpiredTokenError, JoseError, SecurityWarning

from raftlog.errors import ConfigError, InvalidRequestError
from raftlog.security.oauth import Token, TokenError, TokenRules, UnknownKeyError
from raftlog.security.passwords import check_user

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519")
_KEY_TYPES = {"R": "RSA", "P": "RSA", "E": "EC"}  # by the algorithm's first letter; Edwards' curves are OKP
_RSA_BITS_MIN = 2048
_CLOCKS_DIFFER_S = 30  # as Kafka's sasl.oauthbearer.clock.skew.seconds; not for the end, which the session has too
_TOKEN_BYTES_MAX = 32 * 1024
_END_OF_TIME_S = 1e11

Keys = Sequence[Any]
"""Public keys, as joserfc has them."""


def read_keys(data: bytes, where: str) -> Keys:
    """Those that can check a signature; others are passed over, as RFC 7517 wants it. Raises ConfigError for none."""
    try:
        listed = json.loads(data)["keys"]
        found = [key for key in map(_read_key, listed) if key is not None]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise ConfigError(f'{where} is no key set: {{"keys": […]}} is expected (RFC 7517)') from None
    if not found:
        raise ConfigError(f"{where} has no public key that could check a token: RSA of 2048 bits, EC or Ed25519")
    return found


def _read_key(listed: Any) -> Any:
    """None: it checks no signature."""
    if not isinstance(listed, dict) or listed.get("kty") not in ("RSA", "EC", "OKP") or listed.get("use") == "enc":
        return None
    try:
        key = jwk.import_key(listed)
        public: Any = key.public_key
    except (JoseError, ValueError, TypeError):
        return None
    return None if listed["kty"] == "RSA" and public.key_size < _RSA_BITS_MIN else key


def check_token(text: str, keys: Keys, rules: TokenRules, now_s: int) -> Token:
    """`now_s`: since the epoch. Raises TokenError, UnknownKeyError where no key is known that has signed it."""
    if len(text) > _TOKEN_BYTES_MAX:
        raise TokenError("the token is too long")
    registry = jwt.JWTClaimsRegistry(
        now=now_s,
        leeway=_CLOCKS_DIFFER_S,
        iss={"essential": True, "value": rules.issuer},
        aud={"essential": True, "values": list(rules.audiences)},
        exp={"essential": True},
    )
    try:
        with warnings.catch_warnings(action="ignore", category=SecurityWarning):
            claims = jwt.decode(text, lambda token: _key_of(token.headers(), keys), algorithms=list(ALGORITHMS)).claims
        registry.validate(claims)
    except BadSignatureError:
        raise TokenError("the token was not signed by the issuer") from None
    except ExpiredTokenError:
        raise TokenError("the token has expired") from None
    except ClaimError as error:
        raise TokenError(f"the token's claim {error.claim} is not the one that is asked for") from None
    except (JoseError, ValueError, TypeError, RecursionError) as error:
        raise TokenError(f"the token cannot be read: {error}"[:200]) from None
    ends_s = claims["exp"]
    if not now_s < ends_s < _END_OF_TIME_S:
        raise TokenError("the token has expired, or never does")
    return Token(_user_of(claims, rules.principal_claim), int(ends_s * 1000))


def _key_of(header: dict[str, Any], keys: Keys) -> Any:
    """Raises UnknownKeyError."""
    algorithm = str(header.get("alg", ""))
    kind = _KEY_TYPES.get(algorithm[:1], "OKP") if not algorithm.startswith("Ed") else "OKP"
    fitting = [key for key in keys if key.key_type == kind and key.get("alg", algorithm) == algorithm]
    kid = header.get("kid")
    if kid is not None:
        fitting = [key for key in fitting if key.kid == kid]
    if not fitting:
        raise UnknownKeyError("no key of the issuer is known that has signed the token")
    if len(fitting) > 1:
        raise TokenError("the token does not say which of the issuer's keys has signed it")
    return fitting[0]


def _user_of(claims: dict[str, Any], claim: str) -> str:
    """Raises TokenError."""
    user = claims.get(claim)
    if not isinstance(user, str):
        raise TokenError(f"the token's claim {claim} names no user")
    try:
        check_user(user)
    except InvalidRequestError as error:
        raise TokenError(f"the token's claim {claim}: {error}") from None
    return user
