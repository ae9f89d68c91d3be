"""An issuer of tokens: its keys, and tokens as they should be and as they should not."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

from joserfc import jwk, jws

from raftlog.security.oauth import TokenRules
from raftlog.security.tokens import Keys, read_keys

ISSUER, AUDIENCE = "https://issuer.example.org", "raftlog"
RULES = TokenRules(jwks="keys.json", issuer=ISSUER, audiences=(AUDIENCE, "other"))


def claims(now_s: int = 0, **changes: Any) -> dict[str, Any]:
    """None takes one away."""
    now_s = now_s or int(time.time())
    whole = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "iat": now_s, "exp": now_s + 3600, **changes}
    return {name: value for name, value in whole.items() if value is not None}


class Issuer:
    """`now_s`: when its tokens are issued; 0: when they are."""

    def __init__(self, now_s: int = 0) -> None:
        self._now_s = now_s
        self.rsa = jwk.RSAKey.generate_key(2048, {"kid": "rsa"})
        self.ec = jwk.ECKey.generate_key("P-256", {"kid": "ec"})
        self.ed = jwk.OKPKey.generate_key("Ed25519", {"kid": "ed"})
        self.listed = [key.as_dict(private=False) for key in (self.rsa, self.ec, self.ed)]

    @property
    def jwks(self) -> bytes:
        return json.dumps({"keys": self.listed}).encode()

    @property
    def keys(self) -> Keys:
        return read_keys(self.jwks, "keys.json")

    def token(self, header: dict[str, Any] | None = None, *, key: Any = None, **changes: Any) -> str:
        head = {"alg": "ES256", "kid": "ec", **(header or {})}
        head = {name: value for name, value in head.items() if value is not None}
        algorithm = str(head["alg"])
        return jws.serialize_compact(
            head, json.dumps(claims(self._now_s, **changes)), key or self.ec, algorithms=[algorithm]
        )


def unsigned(header: dict[str, Any], signature: str = "", **changes: Any) -> str:
    parts = (json.dumps(part).encode() for part in (header, claims(**changes)))
    return ".".join([*(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts), signature])
