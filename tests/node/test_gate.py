"""Every API of raftlog's own door, asked by nobody, by a user without a rule, and by who may."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from raftlog.errors import ErrorCode
from raftlog.node.gate import BEFORE_LOGIN, RULES, Gate
from raftlog.protocol import apis
from raftlog.protocol.apis import Api, Served
from raftlog.protocol.cluster import MetadataResponse, TopicMetadata
from raftlog.protocol.envelope import NO_TOPIC
from raftlog.protocol.groups import ListedGroup, ListGroupsResponse, OffsetFetchResponse
from raftlog.protocol.session import Session
from raftlog.protocol.topics import TopicIdsResponse
from raftlog.security.acls import CLUSTER_NAME, Acl, Operation, ResourceType
from raftlog.security.policy import Access, Policy, Security
from raftlog.types import METADATA_TOPIC
from tests.node.gate_requests import COMMITTED, USERS, Heard, request_of, session_of

OF_NODES = (apis.NODE_STATE, apis.IMAGE, apis.REGISTER_NODE, apis.REPORT_CONFIGURATIONS)
# What is answered less to who may see less, and refused to nobody who has logged in.
SCREENED = (apis.METADATA, apis.TOPIC_IDS, apis.DESCRIBE_REPLICAS, apis.LIST_GROUPS)
JUDGED = [api for api in apis.APIS if api not in BEFORE_LOGIN]
EACH = pytest.mark.parametrize("api", JUDGED, ids=lambda api: api.name)
DENIED = {ErrorCode.TOPIC_AUTHORIZATION_FAILED, ErrorCode.GROUP_AUTHORIZATION_FAILED}
DENIED |= {ErrorCode.CLUSTER_AUTHORIZATION_FAILED}


def allow(operation: Operation, kind: ResourceType = ResourceType.TOPIC, name: str = "orders") -> Acl:
    return Acl(resource_type=kind, name=name, principal="User:alice", operation=operation)


def gate(*acls: Acl, topic: str = "orders", certified: bool = True) -> Gate:
    access = Access(superusers=("User:root",), certified=certified)
    return Gate(Policy(Security(offset=9, users=USERS, acls=acls), access), topic)


def refusals(session: Session) -> list[ErrorCode]:
    assert isinstance(session.door, Heard)
    return [ErrorCode(each.error_code) for each in session.door.answers]


def test_every_api_has_a_rule() -> None:
    assert set(RULES) == set(JUDGED)


@EACH
def test_who_has_not_logged_in_is_told_to(api: Api[Any, Any]) -> None:
    session = session_of("")
    assert gate().admit(request_of(api, session)) is None
    assert refusals(session) == [ErrorCode.SASL_AUTHENTICATION_FAILED]


@EACH
def test_who_has_no_rule_is_refused(api: Api[Any, Any]) -> None:
    session = session_of("alice")
    admitted = gate().admit(request_of(api, session))
    if api in SCREENED or api is apis.FIND_COORDINATOR:
        assert admitted is not None and refusals(session) == []
    else:
        assert admitted is None and len(refusals(session)) == 1 and set(refusals(session)) <= DENIED


@EACH
def test_superusers_and_nodes_are_refused_nothing(api: Api[Any, Any]) -> None:
    root, node = session_of("root"), session_of("")
    node.principal = "Node:2"
    for session in (root, node):
        assert gate().admit(request_of(api, session)) is not None
        assert refusals(session) == []


@EACH
def test_a_user_who_was_changed_is_nobody_any_more(api: Api[Any, Any]) -> None:
    session = session_of("root", epoch=4)
    assert gate().admit(request_of(api, session)) is None
    assert refusals(session) == [ErrorCode.SASL_AUTHENTICATION_FAILED]


@pytest.mark.parametrize("api", BEFORE_LOGIN, ids=lambda api: api.name)
def test_a_greeting_and_a_login_are_for_everybody(api: Api[Any, Any]) -> None:
    assert gate().admit(request_of(api, session_of(""))) is not None


@pytest.mark.parametrize("api", OF_NODES, ids=lambda api: api.name)
def test_where_no_node_can_prove_what_it_is_everybody_may_be_one(api: Api[Any, Any]) -> None:
    assert gate(certified=False).admit(request_of(api, session_of(""))) is not None


@pytest.mark.parametrize("api", [api for api in apis.APIS if api.served is Served.LEADER], ids=lambda api: api.name)
def test_what_the_metadata_log_holds_is_not_a_topic_like_others(api: Api[Any, Any]) -> None:
    everything = [allow(Operation.ALL, name="*")]
    assert gate(*everything, topic=METADATA_TOPIC).admit(request_of(api, session_of("alice"))) is None


def test_a_request_for_several_topics_is_refused_where_one_is() -> None:
    session = session_of("alice")
    request = request_of(apis.DELETE_TOPICS, session, topics=[("orders", NO_TOPIC), ("hidden", NO_TOPIC)])
    assert gate(allow(Operation.DELETE)).admit(request) is None
    assert refusals(session) == [ErrorCode.TOPIC_AUTHORIZATION_FAILED]
    assert gate(allow(Operation.DELETE), allow(Operation.DELETE, name="hidden")).admit(request) is not None


# --- what is told less -----------------------------------------------------------------------------
def told(api: Api[Any, Any], response: Any, *acls: Acl, **given: Any) -> Any:
    """What alice hears of this answer."""
    session = session_of("alice")
    admitted = gate(*acls, topic="").admit(request_of(api, session, **given))
    assert admitted is not None and admitted.session.door is not None
    admitted.session.door.answer(admitted, response)
    assert isinstance(session.door, Heard)
    return session.door.answers[0]


def topic_of(name: str) -> TopicMetadata:
    return TopicMetadata(name=name, topic_id=NO_TOPIC, error_code=ErrorCode.NONE, partitions=[], config={})


def test_topics_are_named_as_far_as_one_may_see_them() -> None:
    both = MetadataResponse(topics=[topic_of("orders"), topic_of("hidden")])
    found = told(apis.METADATA, both, allow(Operation.READ), topics=None)
    assert [each.name for each in found.topics] == ["orders"]


def test_a_hidden_topic_that_is_named_is_one_that_is_not_there() -> None:
    both = MetadataResponse(topics=[topic_of("orders"), topic_of("hidden")])
    found = told(apis.METADATA, both, allow(Operation.READ), topics=["orders", "hidden"])
    assert [(each.name, each.error_code) for each in found.topics] == [("orders", 0), ("hidden", 3)]
    assert found.topics[1].topic_id == b""


def test_ids_groups_and_offsets_likewise() -> None:
    ids = TopicIdsResponse(topic_ids=[b"1" * 16, b"2" * 16])
    assert told(apis.TOPIC_IDS, ids, allow(Operation.DESCRIBE)).topic_ids == [b"1" * 16, b""]
    groups = [
        ListedGroup(group_id=name, protocol_type="consumer", state="Stable", members=1)
        for name in ("readers", "others")
    ]
    group = allow(Operation.DESCRIBE, ResourceType.GROUP, "readers")
    found = told(apis.LIST_GROUPS, ListGroupsResponse(groups=list(groups)), group)
    assert [each.group_id for each in found.groups] == ["readers"]
    hidden = msgspec.structs.replace(COMMITTED, topic="hidden")
    offsets = OffsetFetchResponse(offsets=[COMMITTED, hidden])
    assert told(apis.OFFSET_FETCH, offsets, group, allow(Operation.DESCRIBE), partitions=None).offsets == [COMMITTED]


def test_who_may_describe_the_cluster_sees_all_groups() -> None:
    cluster = allow(Operation.DESCRIBE, ResourceType.CLUSTER, CLUSTER_NAME)
    session = session_of("alice")
    request = request_of(apis.LIST_GROUPS, session)
    assert gate(cluster).admit(request) is request


# --- certificates, and no users --------------------------------------------------------------------
@EACH
def test_with_certificates_alone_whoever_has_one_may_do_everything_but_what_nodes_do(api: Api[Any, Any]) -> None:
    alone = Gate(Policy(Security(), Access(certified=True)), "orders")
    nobody, alice = session_of(""), session_of("")
    alice.secure("User:alice")
    assert alone.admit(request_of(api, nobody)) is None
    assert refusals(nobody) == [ErrorCode.SASL_AUTHENTICATION_FAILED]
    assert (alone.admit(request_of(api, alice)) is None) == (api in OF_NODES)
