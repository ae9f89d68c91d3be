"""Rules of who may do what, in Kafka's words and numbers: resources, operations, allowed or denied. Data.

Source of the numbers: org.apache.kafka.common.acl and org.apache.kafka.common.resource, as they stand on the wire.
"""

from __future__ import annotations

import enum
import ipaddress

import msgspec

from raftlog.errors import InvalidRequestError

WILDCARD = "*"
CLUSTER_NAME = "kafka-cluster"
"""The one name of a resource of type CLUSTER."""
USER = "User"
ANYBODY = f"{USER}:{WILDCARD}"
_NAME_CHARS_MAX = 255  # of a resource, a principal, a host: all of them are in the metadata of every node


class ResourceType(enum.IntEnum):
    ANY = 1
    TOPIC = 2
    GROUP = 3
    CLUSTER = 4
    TRANSACTIONAL_ID = 5
    DELEGATION_TOKEN = 6
    USER = 7


class Pattern(enum.IntEnum):
    """How a rule names its resources. ANY and MATCH are for filters only."""

    ANY = 1
    MATCH = 2
    LITERAL = 3
    PREFIXED = 4


class Operation(enum.IntEnum):
    """What a principal may be allowed to. NONE: nothing needs to be allowed; ANY is for filters only."""

    NONE = 0
    ANY = 1
    ALL = 2
    READ = 3
    WRITE = 4
    CREATE = 5
    DELETE = 6
    ALTER = 7
    DESCRIBE = 8
    CLUSTER_ACTION = 9
    DESCRIBE_CONFIGS = 10
    ALTER_CONFIGS = 11
    IDEMPOTENT_WRITE = 12
    CREATE_TOKENS = 13
    DESCRIBE_TOKENS = 14
    TWO_PHASE_COMMIT = 15


class Permission(enum.IntEnum):
    """ANY is for filters only."""

    ANY = 1
    DENY = 2
    ALLOW = 3


_O = Operation
OPERATIONS: dict[ResourceType, tuple[Operation, ...]] = {
    ResourceType.TOPIC: (
        *(_O.READ, _O.WRITE, _O.CREATE, _O.DELETE, _O.ALTER, _O.DESCRIBE),
        *(_O.DESCRIBE_CONFIGS, _O.ALTER_CONFIGS),
    ),
    ResourceType.GROUP: (_O.READ, _O.DELETE, _O.DESCRIBE, _O.DESCRIBE_CONFIGS, _O.ALTER_CONFIGS),
    ResourceType.CLUSTER: (
        *(_O.CREATE, _O.ALTER, _O.DESCRIBE, _O.CLUSTER_ACTION),
        *(_O.DESCRIBE_CONFIGS, _O.ALTER_CONFIGS, _O.IDEMPOTENT_WRITE),
    ),
    ResourceType.TRANSACTIONAL_ID: (_O.WRITE, _O.DESCRIBE, _O.TWO_PHASE_COMMIT),
    ResourceType.DELEGATION_TOKEN: (_O.DESCRIBE,),
    ResourceType.USER: (_O.CREATE_TOKENS, _O.DESCRIBE_TOKENS),
}
"""What can be done with a resource of each type; ALL of it besides."""


def title(value: enum.IntEnum) -> str:
    """As people write it: DESCRIBE_CONFIGS is DescribeConfigs."""
    return "".join(word.capitalize() for word in value.name.split("_"))


class Acl(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """One rule: `principal` at `host` may, or may not, do `operation` with the resources that `name` and `pattern` say.

    `principal` is a type and a name, as `User:alice`; `User:*` is every user. `host` is an address, or `*`. A literal
    name `*` is every resource of the type.
    """

    resource_type: int
    name: str
    pattern: int = Pattern.LITERAL
    principal: str
    host: str = WILDCARD
    operation: int
    permission: int = Permission.ALLOW


class AclFilter(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """Which rules are meant. None, and ANY, leave it open.

    Of patterns, MATCH means every rule that applies to a resource of that name, and ANY those of that very name.
    """

    resource_type: int = ResourceType.ANY
    name: str | None = None
    pattern: int = Pattern.ANY
    principal: str | None = None
    host: str | None = None
    operation: int = Operation.ANY
    permission: int = Permission.ANY

    def matches(self, acl: Acl) -> bool:
        return (
            self.resource_type in (ResourceType.ANY, acl.resource_type)
            and self.principal in (None, acl.principal)
            and self.host in (None, acl.host)
            and self.operation in (Operation.ANY, acl.operation)
            and self.permission in (Permission.ANY, acl.permission)
            and self._names(acl)
        )

    def _names(self, acl: Acl) -> bool:
        if self.pattern not in (Pattern.ANY, Pattern.MATCH, acl.pattern):
            return False
        if self.name is None or self.name == acl.name:
            return True
        return self.pattern == Pattern.MATCH and applies(acl, self.name)


def applies(acl: Acl, name: str) -> bool:
    """Whether the rule is about a resource of this name, its type left aside."""
    if acl.pattern == Pattern.PREFIXED:
        return name.startswith(acl.name)
    return acl.name in (name, WILDCARD)


def check_acl(acl: Acl) -> None:
    """Raises InvalidRequestError for a rule that could not mean anything, which Kafka partly takes in silence."""
    kinds = {kind.value: operations for kind, operations in OPERATIONS.items()}
    if acl.resource_type not in kinds:
        raise InvalidRequestError(f"a rule is about one type of resource, not about type {acl.resource_type}")
    kind = ResourceType(acl.resource_type)
    if acl.operation not in (Operation.ALL, *kinds[kind]):
        known = ", ".join(title(each) for each in kinds[kind])
        raise InvalidRequestError(f"a rule about a {_words(kind)} allows or denies one of {known}, All")
    if acl.pattern not in (Pattern.LITERAL, Pattern.PREFIXED):
        raise InvalidRequestError("a rule names its resources literally or by a prefix")
    if acl.permission not in (Permission.ALLOW, Permission.DENY):
        raise InvalidRequestError("a rule allows or denies")
    for text, what in ((acl.name, "resource"), (acl.principal, "principal"), (acl.host, "host")):
        if not text or len(text) > _NAME_CHARS_MAX:
            raise InvalidRequestError(f"the name of a {what} has 1 to {_NAME_CHARS_MAX} characters")
    if kind is ResourceType.CLUSTER and acl.name not in (CLUSTER_NAME, WILDCARD):
        raise InvalidRequestError(f"the cluster is called {CLUSTER_NAME} in rules, not {acl.name!r}")
    form, separator, name = acl.principal.partition(":")
    if not (form and separator and name):
        raise InvalidRequestError(f"a principal is written TYPE:NAME, as User:alice, not {acl.principal!r}")
    _check_host(acl.host)


def _check_host(host: str) -> None:
    if host == WILDCARD:
        return
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise InvalidRequestError(f"a host is an address or *, not {host!r}: names are not looked up") from None


def _words(value: enum.IntEnum) -> str:
    return value.name.lower().replace("_", " ")
