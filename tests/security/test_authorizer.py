"""Kafka's rules, a sentence each. The answers are those that Apache Kafka 4.4.0 with its StandardAuthorizer gave."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from raftlog.security.acls import CLUSTER_NAME, Acl, AclFilter, Operation, Pattern, Permission, ResourceType
from raftlog.security.authorizer import Authorizer
from raftlog.security.policy import OPEN, Access, Policy, Security

ALICE, BOB, HOST = "User:alice", "User:bob", "10.0.0.7"
TOPIC, GROUP, CLUSTER = ResourceType.TOPIC, ResourceType.GROUP, ResourceType.CLUSTER
READ, WRITE, DESCRIBE, ALL = Operation.READ, Operation.WRITE, Operation.DESCRIBE, Operation.ALL


def rule(
    operation: Operation,
    name: str = "orders",
    pattern: Pattern = Pattern.LITERAL,
    *,
    deny: bool = False,
    principal: str = ALICE,
    host: str = "*",
    kind: ResourceType = TOPIC,
) -> Acl:
    permission = Permission.DENY if deny else Permission.ALLOW
    return Acl(
        resource_type=kind,
        name=name,
        pattern=pattern,
        principal=principal,
        host=host,
        operation=operation,
        permission=permission,
    )


def may(operation: Operation, *rules: Acl, name: str = "orders", principal: str = ALICE, host: str = HOST) -> bool:
    return Authorizer(rules).allows(principal, host, operation, TOPIC, name)


def test_what_no_rule_allows_is_denied() -> None:
    assert not may(READ)
    assert not may(READ, rule(READ), principal=BOB)
    assert not may(WRITE, rule(READ))


def test_deny_wins_over_everything_whatever_pattern_it_stands_in() -> None:
    allowed = rule(READ), rule(ALL, "*"), rule(READ, "or", Pattern.PREFIXED), rule(READ, principal="User:*")
    assert may(READ, *allowed)
    for denial in (
        rule(READ, deny=True),
        rule(READ, "ord", Pattern.PREFIXED, deny=True),
        rule(READ, "*", deny=True),
        rule(READ, deny=True, principal="User:*"),
    ):
        assert not may(READ, *allowed, denial)


def test_neither_order_nor_length_of_rules_matters() -> None:
    rules = rule(READ, "orders", deny=True), rule(READ, "*"), rule(ALL, "o", Pattern.PREFIXED)
    assert {may(READ, *order) for order in itertools.permutations(rules)} == {False}


def test_superusers_skip_all_rules() -> None:
    authorizer = Authorizer([rule(ALL, "*", deny=True)], [ALICE])
    assert authorizer.allows(ALICE, HOST, READ, TOPIC, "orders")
    assert authorizer.allows(ALICE, HOST, Operation.ALTER, CLUSTER, CLUSTER_NAME)
    assert authorizer.allows_any(ALICE, HOST, WRITE, TOPIC)


def test_read_write_delete_and_alter_imply_describe() -> None:
    for operation in (READ, WRITE, Operation.DELETE, Operation.ALTER):
        assert may(DESCRIBE, rule(operation))


def test_alter_configs_implies_describe_configs_and_nothing_else() -> None:
    assert may(Operation.DESCRIBE_CONFIGS, rule(Operation.ALTER_CONFIGS))
    assert not may(DESCRIBE, rule(Operation.ALTER_CONFIGS))


def test_create_implies_nothing() -> None:
    assert [each for each in Operation if may(each, rule(Operation.CREATE))] == [Operation.CREATE]


def test_implication_is_for_allow_only() -> None:
    assert may(DESCRIBE, rule(READ), rule(READ, deny=True))
    assert not may(READ, rule(READ), rule(READ, deny=True))


def test_deny_describe_hides_a_topic_that_one_may_read_or_do_all_with() -> None:
    for allowed in (READ, ALL):
        assert not may(DESCRIBE, rule(allowed), rule(DESCRIBE, deny=True))
        assert may(READ, rule(allowed), rule(DESCRIBE, deny=True))


def test_deny_all_hides_it_too() -> None:
    assert not may(DESCRIBE, rule(READ), rule(ALL, deny=True))


def test_a_star_is_the_wildcard_only_as_a_literal_name() -> None:
    assert may(READ, rule(READ, "*"), name="anything")
    assert not may(READ, rule(READ, "*", Pattern.PREFIXED), name="anything")
    assert may(READ, rule(READ, "*", Pattern.PREFIXED), name="*thing")


def test_a_prefix_is_of_the_name() -> None:
    assert may(READ, rule(READ, "ord", Pattern.PREFIXED))
    assert may(READ, rule(READ, "orders", Pattern.PREFIXED))
    assert not may(READ, rule(READ, "orders-", Pattern.PREFIXED))
    assert not may(READ, rule(READ, "rders", Pattern.PREFIXED))


def test_the_type_of_a_principal_is_compared() -> None:
    assert not may(READ, rule(READ, principal="Group:alice"))


def test_a_host_is_an_address_or_all() -> None:
    assert may(READ, rule(READ, host=HOST))
    assert not may(READ, rule(READ, host="10.0.0.8"))
    assert not may(READ, rule(READ, host="localhost"), host="127.0.0.1")


def test_types_of_resources_are_apart() -> None:
    assert not may(READ, rule(READ, "*", kind=GROUP))


def test_one_rule_for_bob_on_everything_closes_it_to_alice_who_has_none() -> None:
    assert not may(READ, rule(READ, "*", principal=BOB))


def test_write_on_any_topic_is_enough_for_what_names_none() -> None:
    def any_topic(*rules: Acl) -> bool:
        return Authorizer(rules).allows_any(ALICE, HOST, WRITE, TOPIC)

    assert any_topic(rule(WRITE)) and any_topic(rule(ALL, "x", Pattern.PREFIXED)) and any_topic(rule(WRITE, "*"))
    assert not any_topic() and not any_topic(rule(READ, "*")) and not any_topic(rule(WRITE, principal=BOB))
    assert not any_topic(rule(WRITE), rule(WRITE, deny=True))
    assert not any_topic(rule(WRITE, "*"), rule(WRITE, "*", deny=True))
    assert not any_topic(rule(WRITE), rule(ALL, "ord", Pattern.PREFIXED, deny=True))
    assert not any_topic(rule(WRITE, "orders", Pattern.PREFIXED), rule(WRITE, "ord", Pattern.PREFIXED, deny=True))
    assert any_topic(rule(WRITE, "ord", Pattern.PREFIXED), rule(WRITE, "orders", Pattern.PREFIXED, deny=True))
    assert any_topic(rule(WRITE, "*"), rule(WRITE, "orders", deny=True))
    assert any_topic(rule(WRITE, "*"), rule(WRITE, "*", Pattern.PREFIXED, deny=True))


def test_what_may_be_done_is_a_bit_for_each_operation() -> None:
    policy = Policy(Security(acls=(rule(READ), rule(Operation.ALTER_CONFIGS))), Access())
    found = policy.allowed(ALICE, HOST, TOPIC, "orders")
    assert found == 1 << READ | 1 << DESCRIBE | 1 << Operation.ALTER_CONFIGS | 1 << Operation.DESCRIBE_CONFIGS
    assert policy.allowed(ALICE, HOST, CLUSTER, CLUSTER_NAME) == 0
    assert OPEN.allowed(ALICE, HOST, TOPIC, "orders") == sum(1 << bit for bit in (3, 4, 5, 6, 7, 8, 10, 11))


# --- filters ---------------------------------------------------------------------------------------
def found(name: str | None, pattern: Pattern, operation: Operation = Operation.ANY) -> set[tuple[str, int]]:
    rules = [
        rule(READ, "orders"),
        rule(READ, "ord", Pattern.PREFIXED),
        rule(READ, "*"),
        rule(READ, "orders", Pattern.PREFIXED),
        rule(READ, "others"),
    ]
    wanted = AclFilter(resource_type=TOPIC, name=name, pattern=pattern, operation=operation)
    return {(each.name, each.pattern) for each in rules if wanted.matches(each)}


def test_match_finds_all_that_applies_to_a_name_and_any_only_that_very_name() -> None:
    literal, prefixed = Pattern.LITERAL, Pattern.PREFIXED
    own = {("orders", literal), ("orders", prefixed)}
    assert found("orders", Pattern.MATCH) == own | {("ord", prefixed), ("*", literal)}
    assert found("orders", Pattern.ANY) == own
    assert found("orders", literal) == {("orders", literal)}
    assert found("orders", prefixed) == {("orders", prefixed)}
    assert len(found(None, Pattern.ANY)) == 5


def test_implied_operations_are_not_found() -> None:
    assert found("orders", Pattern.MATCH, DESCRIBE) == set()


def test_a_filter_names_principal_host_and_permission_exactly() -> None:
    acl = rule(READ, host=HOST)
    assert AclFilter(principal=ALICE, host=HOST, permission=Permission.ALLOW).matches(acl)
    for other in (AclFilter(principal=BOB), AclFilter(host="*"), AclFilter(permission=Permission.DENY)):
        assert not other.matches(acl)
    assert not AclFilter(resource_type=GROUP).matches(acl)


# --- as a whole ------------------------------------------------------------------------------------
RULES = st.lists(
    st.builds(
        rule,
        st.sampled_from([READ, WRITE, DESCRIBE, ALL]),
        st.sampled_from(["a", "ab", "*", "b"]),
        st.sampled_from([Pattern.LITERAL, Pattern.PREFIXED]),
        deny=st.booleans(),
        principal=st.sampled_from([ALICE, BOB, "User:*"]),
        host=st.sampled_from([HOST, "*", "10.0.0.8"]),
    ),
    max_size=6,
)


@given(RULES, st.sampled_from([READ, WRITE, DESCRIBE]), st.sampled_from(["a", "ab", "abc", "b", "*x"]))
def test_its_answer_is_that_of_a_plain_look_at_every_rule(rules: list[Acl], operation: Operation, name: str) -> None:
    def about(acl: Acl) -> bool:
        named = name.startswith(acl.name) if acl.pattern == Pattern.PREFIXED else acl.name in (name, "*")
        return named and acl.principal in (ALICE, "User:*") and acl.host in (HOST, "*")

    mine = [acl for acl in rules if about(acl)]
    denied = any(acl.permission == Permission.DENY and acl.operation in (operation, ALL) for acl in mine)
    enough = {operation, ALL} | ({READ, WRITE} if operation is DESCRIBE else set())
    allowed = any(acl.permission == Permission.ALLOW and acl.operation in enough for acl in mine)
    authorizer = Authorizer(rules)
    for _ in range(2):  # the second answer is a remembered one
        assert authorizer.allows(ALICE, HOST, operation, TOPIC, name) == (allowed and not denied)
