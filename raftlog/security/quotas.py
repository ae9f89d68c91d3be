"""How many bytes who may send and take in a second: quotas, as Kafka has them (KIP-13, KIP-546). Pure.

A quota is about an entity: a user, a client id, both together, or the default of either. Of all that fit a client the
most special one counts, in Kafka's order:

    user and client id, user and any client id, user, any user and client id, any user and any client id, any user,
    client id, any client id
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from raftlog.errors import InvalidRequestError
from raftlog.limits import GROUP_NAME_MAX_BYTES

USER, CLIENT_ID, IP = "user", "client-id", "ip"
PRODUCER_BYTE_RATE, CONSUMER_BYTE_RATE = "producer_byte_rate", "consumer_byte_rate"
KEYS = (PRODUCER_BYTE_RATE, CONSUMER_BYTE_RATE)
_NOT_LIMITED = {
    "request_percentage": "the time of requests is not limited: a partition has a process of its own",
    "controller_mutation_rate": "changes of topics are not limited: the controller decides one at a time",
    "connection_creation_rate": "new connections are not limited by their rate: "
    "`raftlog node start --kafka-connections-per-address` limits their number",
}

Entity = tuple[tuple[str, str | None], ...]
"""(type, name) by type, at most one of each; the name None is the default of the type."""


class Quota(msgspec.Struct, frozen=True, array_like=True):
    """A quota: how much an entity may send or fetch. `value`: bytes a second."""

    entity: Entity
    key: str
    value: float


class EntityFilter(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """Entities of which every named type fits; `strict`: and which have no other type.

    `names`: by type; None: the default. `any_name`: types that have whatever name.
    """

    names: dict[str, str | None] = {}
    any_name: tuple[str, ...] = ()
    strict: bool = False

    def matches(self, entity: Entity) -> bool:
        found = dict(entity)
        if self.strict and len(found) != len(self.names) + len(self.any_name):
            return False
        return all(kind in found for kind in self.any_name) and all(
            kind in found and found[kind] == name for kind, name in self.names.items()
        )


def entity_of(*, user: str | None = "", client_id: str | None = "") -> Entity:
    """`user`, `client_id`: None is the default, "" none at all."""
    parts = ((CLIENT_ID, client_id), (USER, user))
    return tuple((kind, name) for kind, name in parts if name != "")


def text_of(entity: Entity) -> str:
    return ", ".join(f"{kind} {'(default)' if name is None else name}" for kind, name in reversed(entity))


def check_entity(parts: Sequence[tuple[str, str | None]]) -> Entity:
    """In its one order. Raises InvalidRequestError."""
    kinds = [kind for kind, _ in parts]
    if not parts:
        raise InvalidRequestError("a quota is about a user, a client id or both")
    if len(set(kinds)) < len(kinds):
        raise InvalidRequestError(f"a quota names each type once, not {', '.join(kinds)}")
    for kind, name in parts:
        if kind == IP:
            raise InvalidRequestError(_NOT_LIMITED["connection_creation_rate"])
        if kind not in (USER, CLIENT_ID):
            raise InvalidRequestError(f"a quota is about a user, a client id or both, not about {kind!r:.40}")
        if name is not None and not 0 < len(name.encode()) <= GROUP_NAME_MAX_BYTES:
            raise InvalidRequestError(f"a {kind} has 1 to {GROUP_NAME_MAX_BYTES} bytes")
    return tuple(sorted(parts, key=lambda part: part[0]))


def check_key(key: str) -> None:
    """Raises InvalidRequestError."""
    if key not in KEYS:
        raise InvalidRequestError(_NOT_LIMITED.get(key, f"a quota is {' or '.join(KEYS)}, not {key!r:.60}"))


def check_value(key: str, value: float) -> None:
    """Raises InvalidRequestError."""
    if not (1 <= value < 2**63 and value == int(value)):  # NaN fails every comparison
        raise InvalidRequestError(f"{key} is a whole number of bytes a second above 0, not {value:g}")


_ANY_USER: Entity = ((USER, None),)
_ANY_CLIENT: Entity = ((CLIENT_ID, None),)


class QuotaTable:
    """Which quota counts for a client. A value."""

    def __init__(self, quotas: Iterable[Quota]) -> None:
        self._values: Mapping[tuple[str, Entity], float] = {(each.key, each.entity): each.value for each in quotas}

    def __bool__(self) -> bool:
        return bool(self._values)

    def find(self, key: str, user: str, client_id: str) -> tuple[float, Entity] | None:
        """(bytes a second, whose they are), or None. All clients with the same owner share them."""
        values = self._values
        named_user, named_client = ((USER, user),), ((CLIENT_ID, client_id),)
        for at_user in (named_user, _ANY_USER, ()):
            for at_client in (named_client, _ANY_CLIENT, ()):
                value = values.get((key, at_client + at_user))
                if value is not None:
                    return value, (named_client if at_client else ()) + (named_user if at_user else ())
        return None


NO_QUOTAS = QuotaTable(())
