"""Who asks at the HTTP address: a user and his password (HTTP Basic, RFC 7617), or the certificate of a client.

A password is searched for as slowly as at the other doors: it is proved in a thread of its own, a failure is answered
late, those of one address one after the other, and only so many wait. One that was right is remembered as a keyed
digest, until its user changes: a browser and a scraper send it with each request.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import os
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import NamedTuple

from raftlog.clock import monotonic_s
from raftlog.limits import FAILED_LOGIN_S, FAILED_LOGINS_WAITING_MAX, HTTP_LOGINS_REMEMBERED_MAX
from raftlog.protocol.session import ANONYMOUS, CERTIFICATE
from raftlog.security.acls import CLUSTER_NAME, Operation, ResourceType, title
from raftlog.security.audit import DENIED, NO_RULE, Event
from raftlog.security.credentials import Credentials
from raftlog.security.identity import USER_PREFIX, Certificate
from raftlog.security.passwords import proves
from raftlog.security.policy import NEVER_ENDS, Access, Policy, Security, principal_of

BASIC = "BASIC"
_FAILED = "user and password do not belong together"
_LOG_IN = "say who you are: user and password (HTTP Basic), or a client's certificate"
_NO_USERS = "this cluster has no users: show a client's certificate, or make users with `raftlog user create`"
_TOO_EARLY = "this node does not know its cluster's users yet: try again in a moment"
_TOO_MANY = "too many logins of this address are under way, or have failed: try again in a moment"


class Asker(NamedTuple):
    """Who asks. `epoch`: of the user, when the password was proved; NEVER_ENDS: a certificate has said it."""

    principal: str
    host: str
    mechanism: str
    epoch: int = NEVER_ENDS


class NotLoggedInError(Exception):
    """Nobody is known. `status` is what HTTP says of it."""

    def __init__(self, text: str, status: HTTPStatus = HTTPStatus.UNAUTHORIZED) -> None:
        super().__init__(text)
        self.status = status


class _Attempts:
    """Of one address: how many are under way, and when the last failure is answered."""

    __slots__ = ("due_s", "waiting")

    def __init__(self) -> None:
        self.due_s = 0.0
        self.waiting = 0


class HttpLogins:
    """Who asks at the HTTP address.

    `secure` is told of users and rules. `audit` hears of what was refused.
    """

    def __init__(self, access: Access, credentials: Credentials, audit: Callable[[Event], None]) -> None:
        self._access = access
        self.credentials = credentials
        self._audit = audit
        self._policy: Policy | None = None  # until the node knows who its users are, nobody is let in
        self._key = os.urandom(32)
        self._proved: OrderedDict[bytes, tuple[str, int]] = OrderedDict()  # user and epoch, by a digest
        self._attempts: dict[str, _Attempts] = {}
        self._thread = ThreadPoolExecutor(1, "login")

    def secure(self, security: Security) -> None:
        self._policy = Policy(security, self._access)

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    # --- who asks ----------------------------------------------------------------------------------
    async def who(self, headers: Mapping[str, str], certificate: Certificate, host: str) -> Asker:
        """Raises NotLoggedInError."""
        if self._policy is None:
            raise NotLoggedInError(_TOO_EARLY, HTTPStatus.SERVICE_UNAVAILABLE)
        given = headers.get("Authorization", "")
        if given:
            return await self._by_password(self._policy, given, host, headers.get("User-Agent", ""))
        principal = self.credentials.principal_of(certificate) if certificate else ""
        if principal.startswith(USER_PREFIX):
            return Asker(principal, host, CERTIFICATE)
        raise NotLoggedInError(_LOG_IN if self._policy.security.users else _NO_USERS)

    async def _by_password(self, policy: Policy, given: str, host: str, client: str) -> Asker:
        digest = hmac.digest(self._key, given.encode("utf-8", "surrogateescape"), "sha256")
        user, epoch = self._proved.get(digest, ("", NEVER_ENDS))
        if user and policy.epoch_of(user) == epoch:
            self._proved.move_to_end(digest)
            return Asker(principal_of(user), host, BASIC, epoch)
        self._proved.pop(digest, None)
        attempts = self._attempts.setdefault(host, _Attempts())
        if attempts.waiting >= FAILED_LOGINS_WAITING_MAX:
            raise NotLoggedInError(_TOO_MANY, HTTPStatus.TOO_MANY_REQUESTS)
        attempts.waiting += 1
        try:
            user, epoch = await self._prove(policy, given)
            if epoch == NEVER_ENDS:
                self._note(host, client, user)
                attempts.due_s = max(attempts.due_s, monotonic_s()) + FAILED_LOGIN_S
                await asyncio.sleep(attempts.due_s - monotonic_s())
                raise NotLoggedInError(_FAILED)
        finally:
            attempts.waiting -= 1
            if not attempts.waiting:
                self._attempts.pop(host, None)
        self._proved[digest] = user, epoch
        if len(self._proved) > HTTP_LOGINS_REMEMBERED_MAX:
            self._proved.popitem(last=False)
        return Asker(principal_of(user), host, BASIC, epoch)

    async def _prove(self, policy: Policy, given: str) -> tuple[str, int]:
        """The user, "" where none is named, and the epoch; NEVER_ENDS: it was not proved."""
        user, password = _parse_basic(given)
        # Also for a user who does not exist: it takes as long.
        credential = policy.any_credential(user)
        right = await asyncio.get_running_loop().run_in_executor(self._thread, proves, credential, password)
        return user, policy.epoch_of(user) if right else NEVER_ENDS

    def _note(self, host: str, client: str, user: str) -> None:
        self._audit(
            Event(
                outcome=DENIED,
                principal=ANONYMOUS,
                host=host,
                request="Login",
                mechanism=BASIC,
                client=client[:100],
                names=[user] if user else [],
                why=_FAILED,
            )
        )

    # --- what it may do ----------------------------------------------------------------------------
    def may_describe_cluster(self, asker: Asker) -> bool:
        return self._policy is not None and self._policy.allows(
            asker.principal, asker.host, Operation.DESCRIBE, ResourceType.CLUSTER, CLUSTER_NAME
        )

    def note_refused(self, asker: Asker | None, host: str, request: str, why: str = "") -> None:
        """`why` "": it may not Describe the cluster."""
        self._audit(
            Event(
                outcome=DENIED,
                principal=asker.principal if asker else ANONYMOUS,
                host=host,
                request=request,
                mechanism=asker.mechanism if asker else "",
                operation="" if why else title(Operation.DESCRIBE),
                resource="" if why else title(ResourceType.CLUSTER),
                why=why or NO_RULE,
            )
        )


def _parse_basic(given: str) -> tuple[str, str]:
    """User and password, both "" of what is nothing of the kind."""
    scheme, _, encoded = given.partition(" ")
    try:
        text = base64.b64decode(encoded.strip(), validate=True).decode() if scheme.lower() == "basic" else ""
    except (binascii.Error, ValueError):
        text = ""
    user, _, password = text.partition(":")
    return user, password
