"""What a cluster has decided of its users and rules, and what follows from it for whoever asks. Pure.

As long as there is no user and no rule everybody may do everything. With the first of them nobody may do anything that
is not allowed, and with the first user everybody has to log in.
"""

from __future__ import annotations

import msgspec

from raftlog.security.acls import OPERATIONS, USER, Acl, Operation, ResourceType
from raftlog.security.authorizer import Authorizer
from raftlog.security.identity import NODE_PREFIX
from raftlog.security.oauth import TokenRules
from raftlog.security.quotas import Quota
from raftlog.security.scram import Credential, Mechanism, fake_credential

NODE_USER = "raftlog-node"
"""As whom a node logs in at another one where no certificate says who it is. No user may have this name."""
NEVER_ENDS = -1


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator has said of users and rules at a node's start.

    `superusers`: principals that may do everything. `enforced` False: no user and no rule counts. `certified`: nodes
    and clients have certificates, so that nobody comes in without one or a login. `audit_log`: the file that refusals
    and administrative acts are written to; "": none. `tokens`: whose tokens are taken at Kafka's door.
    """

    superusers: tuple[str, ...] = ()
    enforced: bool = True
    certified: bool = False
    audit_log: str = ""
    tokens: TokenRules | None = None


class User(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """A user's credentials.

    `credentials`: one for each mechanism. `epoch`: the end offset of their last change in the metadata log.
    """

    credentials: tuple[Credential, ...]
    epoch: int


class Security(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """The part of the metadata image about users, rules and quotas. `offset`: it has changed there last; 0: never.

    `secret`: only nodes know it.
    """

    offset: int = 0
    users: dict[str, User] = {}
    acls: tuple[Acl, ...] = ()
    secret: bytes = b""
    quotas: tuple[Quota, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Of what says who may do what."""
        return not self.users and not self.acls


def principal_of(user: str) -> str:
    return f"{USER}:{user}"


class Policy:
    """A value: other users and rules make another one.

    `authorizes`: not everybody may do everything. `demands_login`: who has not proved who it is may only do that.
    """

    def __init__(self, security: Security, access: Access) -> None:
        self.security = security
        self.access = access
        self.authorizes = access.enforced and not security.is_empty
        self.demands_login = access.certified or (access.enforced and bool(security.users))
        self._authorizer = Authorizer(security.acls, access.superusers)
        self._node_credential: Credential | None = None

    def allows(self, principal: str, host: str, operation: Operation, kind: ResourceType, name: str) -> bool:
        if not self.authorizes or principal.startswith(NODE_PREFIX):
            return True
        return self._authorizer.allows(principal, host, operation, kind, name)

    def allowed(self, principal: str, host: str, kind: ResourceType, name: str) -> int:
        """All that it may do with one resource, as a bit field."""
        return sum(1 << each for each in OPERATIONS[kind] if self.allows(principal, host, each, kind, name))

    def allows_any(self, principal: str, host: str, operation: Operation, kind: ResourceType) -> bool:
        if not self.authorizes or principal.startswith(NODE_PREFIX):
            return True
        return self._authorizer.allows_any(principal, host, operation, kind)

    # --- logins ------------------------------------------------------------------------------------
    def credential(self, user: str, mechanism: Mechanism) -> Credential:
        """A fake one where there is none, so that an answer tells nobody who exists."""
        for each in self._credentials(user):
            if each.mechanism == mechanism:
                return each
        return fake_credential(mechanism, user, self.security.secret)

    def any_credential(self, user: str) -> Credential:
        """For a password that comes as it is. A fake one likewise."""
        found = self._credentials(user)
        return found[0] if found else fake_credential(Mechanism.SCRAM_SHA_256, user, self.security.secret)

    def _credentials(self, user: str) -> tuple[Credential, ...]:
        known = self.security.users.get(user)
        return known.credentials if known else ()

    def credential_of_nodes(self, mechanism: Mechanism) -> Credential:
        """Of NODE_USER."""
        if self._node_credential is None or self._node_credential.mechanism != mechanism:
            from raftlog.security.passwords import make_credential  # of nodes only: every client reads images

            self._node_credential = make_credential(mechanism, self.node_password)
        return self._node_credential

    @property
    def node_password(self) -> str:
        return self.security.secret.hex()

    def epoch_of(self, user: str) -> int:
        """Changes with each change of the user; NEVER_ENDS: no such user."""
        known = self.security.users.get(user)
        return known.epoch if known else NEVER_ENDS

    def has_ended(self, principal: str, epoch: int) -> bool:
        """Whether a session of this user, who has logged in at this epoch, may not go on."""
        return epoch != NEVER_ENDS and self.epoch_of(principal.removeprefix(f"{USER}:")) != epoch


OPEN = Policy(Security(), Access())
"""No users, no rules."""
