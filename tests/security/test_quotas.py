"""Quotas: whose they are, which one counts for a client, and what is none."""

from __future__ import annotations

import pytest

from raftlog.errors import InvalidRequestError
from raftlog.security.quotas import (
    CLIENT_ID,
    PRODUCER_BYTE_RATE,
    USER,
    Entity,
    EntityFilter,
    Quota,
    QuotaTable,
    check_entity,
    check_key,
    check_value,
    entity_of,
)

IN_ORDER = [
    entity_of(user="alice", client_id="shop"),
    entity_of(user="alice", client_id=None),
    entity_of(user="alice"),
    entity_of(user=None, client_id="shop"),
    entity_of(user=None, client_id=None),
    entity_of(user=None),
    entity_of(client_id="shop"),
    entity_of(client_id=None),
]
"""As Kafka looks for them: ClientQuotaManager of 4.4.0."""


def table(*entities: Entity) -> QuotaTable:
    return QuotaTable(Quota(entity, PRODUCER_BYTE_RATE, float(1 + IN_ORDER.index(entity))) for entity in entities)


def test_the_most_special_quota_counts() -> None:
    for first in range(len(IN_ORDER)):
        found = table(*reversed(IN_ORDER[first:])).find(PRODUCER_BYTE_RATE, "alice", "shop")
        assert found is not None and found[0] == first + 1


@pytest.mark.parametrize(
    ("quota", "owner"),
    [
        (entity_of(user="alice"), entity_of(user="alice")),
        (entity_of(user=None), entity_of(user="alice")),
        (entity_of(client_id=None), entity_of(client_id="shop")),
        (entity_of(user=None, client_id=None), entity_of(user="alice", client_id="shop")),
    ],
)
def test_a_default_is_for_each_of_them_and_not_for_all_together(quota: Entity, owner: Entity) -> None:
    found = table(quota).find(PRODUCER_BYTE_RATE, "alice", "shop")
    assert found is not None and found[1] == owner


def test_a_client_without_a_name_is_any_client_and_no_other() -> None:
    assert table(entity_of(client_id="shop")).find(PRODUCER_BYTE_RATE, "alice", "") is None
    found = table(entity_of(client_id=None)).find(PRODUCER_BYTE_RATE, "alice", "")
    assert found is not None and found[1] == ((CLIENT_ID, ""),)
    assert table(entity_of(user="alice")).find(PRODUCER_BYTE_RATE, "bob", "shop") is None


def test_a_filter_finds_what_it_names_and_strictly_nothing_else() -> None:
    def found(**wanted: object) -> list[Entity]:
        return [each for each in IN_ORDER if EntityFilter(**wanted).matches(each)]  # type: ignore[arg-type]

    assert found() == IN_ORDER and found(strict=True) == []
    assert found(names={USER: "alice"}) == IN_ORDER[:3]
    assert found(names={USER: "alice"}, strict=True) == [IN_ORDER[2]]
    assert found(names={USER: None}, any_name=(CLIENT_ID,), strict=True) == IN_ORDER[3:5]
    assert found(any_name=(USER, CLIENT_ID), strict=True) == [*IN_ORDER[:2], *IN_ORDER[3:5]]


def test_an_entity_has_one_order() -> None:
    both = [(USER, "alice"), (CLIENT_ID, "shop")]
    assert check_entity(both) == check_entity(both[::-1]) == IN_ORDER[0]


@pytest.mark.parametrize(
    ("entity", "text"),
    [
        ([], "about a user, a client id or both"),
        ([("user", "a"), ("user", "b")], "each type once"),
        ([("group", "a")], "not about 'group'"),
        ([("user", "")], "1 to"),
        ([("user", "a" * 257)], "1 to"),
        ([("ip", "127.0.0.1")], "--kafka-connections-per-address"),
    ],
)
def test_what_is_no_entity_is_refused(entity: list[tuple[str, str | None]], text: str) -> None:
    with pytest.raises(InvalidRequestError, match=text):
        check_entity(entity)


@pytest.mark.parametrize("value", [0, -1, 0.5, 1.5, 2**63, float("nan"), float("inf")])
def test_what_is_no_rate_is_refused(value: float) -> None:
    with pytest.raises(InvalidRequestError, match="whole number"):
        check_value(PRODUCER_BYTE_RATE, value)


def test_what_is_not_limited_says_why() -> None:
    for key, text in (("request_percentage", "time"), ("controller_mutation_rate", "changes"), ("x", "producer_byte")):
        with pytest.raises(InvalidRequestError, match=text):
            check_key(key)
