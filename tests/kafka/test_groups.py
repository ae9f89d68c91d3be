"""The classic group protocol and its tools in every version that the door serves, with a real coordinator behind it."""

from __future__ import annotations

from typing import Any

import pytest

from raftlog.errors import ErrorCode
from raftlog.kafka.calls import Leader, Target
from raftlog.protocol import apis as native
from raftlog.protocol.apis import Api
from raftlog.types import OFFSETS_TOPIC
from tests.kafka.door import cluster, topic, versions
from tests.kafka.groups import CLIENTS, JAVA, KAFKA_GO, OFFSETS_ID, ORDERS, GroupDoor, KafkaMember, form

RANGE = {"name": "range", "metadata": b"orders"}
STICKY = {"name": "cooperative-sticky", "metadata": b"orders"}


@pytest.fixture
def door() -> GroupDoor:
    return GroupDoor()


def _with(name: str, version: int) -> dict[str, int]:
    return {**JAVA, name: version}


# --- JoinGroup ---------------------------------------------------------------------------------
@pytest.mark.parametrize("version", versions("JoinGroup"))
def test_a_new_member_joins_in_one_round_or_in_two(door: GroupDoor, version: int) -> None:
    member = KafkaMember(door, _with("JoinGroup", version))
    first = member.join_once()
    if version < 4:
        assert first is None, "it waits already, with an id that it is told with its generation"
        door.pass_time(0.2)
        (body,) = [body for _, body in door.asked]
        assert body.one_round and body.rebalance_timeout_ms == (10_000 if version == 0 else 30_000)
        assert member.joined()["member_id"].startswith("test-")
    else:
        assert first is not None
        assert (first["error_code"], first["generation_id"]) == (ErrorCode.MEMBER_ID_REQUIRED, -1)
        assert first["member_id"].startswith("test-") and first["members"] == []
        assert first["protocol_name"] == (None if version >= 7 else "")
        member.id = first["member_id"]
        member.join()
        door.pass_time(0.2)
    answer = member.joined()
    assert answer["leader"] == answer["member_id"] and answer["protocol_name"] == "range"
    assert answer.get("protocol_type", "consumer") == "consumer" and not answer.get("skip_assignment", False)
    assert [each["metadata"] for each in answer["members"]] == [b"orders"]
    member.sync({member.id: b"all"})
    assert member.synced()["assignment"] == b"all"
    described = door.call("DescribeGroups", 4, groups=["readers"])["groups"][0]["members"][0]
    assert (described["client_id"], described["client_host"]) == ("test", "/127.0.0.1")


@pytest.mark.parametrize("version", versions("JoinGroup"))
def test_a_join_that_is_refused_names_the_member(door: GroupDoor, version: int) -> None:
    member = KafkaMember(door, _with("JoinGroup", version))
    refused = {
        ErrorCode.UNKNOWN_MEMBER_ID: {"member_id": "nobody"},
        ErrorCode.INVALID_SESSION_TIMEOUT: {"session_timeout": 1},
        ErrorCode.INVALID_GROUP_ID: {"group_id": ""},
        ErrorCode.INCONSISTENT_GROUP_PROTOCOL: {"protocols": []},
    }
    for code, fields in refused.items():
        answer = member.call("JoinGroup", **{**member.wishes, **fields})
        assert (answer["error_code"], answer["member_id"]) == (code, fields.get("member_id", ""))
        assert (answer["generation_id"], answer["leader"], answer["members"]) == (-1, "", [])


def test_members_agree_on_an_assignor_that_all_of_them_speak(door: GroupDoor) -> None:
    both = KafkaMember(door, JAVA, protocols=[STICKY, RANGE])
    form(both)
    assert both.joined()["protocol_name"] == "cooperative-sticky"
    other = KafkaMember(door, KAFKA_GO, protocols=[RANGE])
    other.join()
    both.join()
    assert both.joined()["protocol_name"] == other.joined()["protocol_name"] == "range"
    stranger = KafkaMember(door, JAVA, protocols=[STICKY])
    stranger.join()
    assert stranger.joined()["error_code"] == ErrorCode.INCONSISTENT_GROUP_PROTOCOL
    connect = KafkaMember(door, JAVA, protocol_type="connect")
    connect.join()
    assert connect.joined()["error_code"] == ErrorCode.INCONSISTENT_GROUP_PROTOCOL


def test_a_member_that_joins_again_is_told_its_generation_and_a_leader_begins_another(door: GroupDoor) -> None:
    leader, follower = KafkaMember(door, JAVA), KafkaMember(door, KAFKA_GO)
    form(leader, follower)
    follower.join()
    assert (follower.joined()["generation_id"], follower.joined()["members"]) == (1, [])
    leader.join()
    assert leader.waits and follower.heartbeat() == ErrorCode.REBALANCE_IN_PROGRESS
    follower.join()
    assert leader.joined()["generation_id"] == follower.joined()["generation_id"] == 2


def test_a_member_that_does_not_join_in_time_is_given_up(door: GroupDoor) -> None:
    leader, slow = KafkaMember(door, JAVA), KafkaMember(door, KAFKA_GO, rebalance_timeout=5_000)
    form(leader, slow)
    leader.wishes["rebalance_timeout"] = 5_000
    leader.join()
    for _ in range(4):
        door.pass_time(1.5)
        if leader.waits:
            assert slow.heartbeat() == ErrorCode.REBALANCE_IN_PROGRESS
    leader.joined()
    assert leader.members == [leader.id]
    assert slow.heartbeat() == ErrorCode.UNKNOWN_MEMBER_ID


def test_a_client_with_a_long_name_joins_all_the_same(door: GroupDoor) -> None:
    door.client_id = "é" * 300
    member = KafkaMember(door, JAVA)
    form(member)
    (described,) = door.call("DescribeGroups", 6, groups=["readers"])["groups"][0]["members"]
    assert described["client_id"] == "é" * 128


# --- static members ----------------------------------------------------------------------------
@pytest.mark.parametrize("version", versions("JoinGroup")[5:])
def test_a_static_leader_that_comes_back_need_not_assign(door: GroupDoor, version: int) -> None:
    old, other = (KafkaMember(door, JAVA, group_instance_id=name) for name in "ab")
    form(old, other)
    again = KafkaMember(door, _with("JoinGroup", version), group_instance_id="a")
    again.join()
    told = again.joined()
    assert told["error_code"] == 0 and told["generation_id"] == 1 and told["member_id"] != old.id
    if version >= 9:
        assert again.leads and told["skip_assignment"] and again.members == [again.id, other.id]
    else:
        assert not again.leads and again.members == [], "it would assign in vain: it asks for its share as others do"
    again.sync()
    assert again.synced()["assignment"] == old.id.encode()
    assert other.heartbeat() == again.heartbeat() == ErrorCode.NONE
    old.join()
    assert old.joined()["error_code"] == old.heartbeat() == ErrorCode.FENCED_INSTANCE_ID
    assert old.commit(5) == [ErrorCode.FENCED_INSTANCE_ID]
    old.sync()
    assert old.synced()["error_code"] == ErrorCode.FENCED_INSTANCE_ID
    assert old.leave()["members"][0]["error_code"] == ErrorCode.FENCED_INSTANCE_ID
    assert again.commit(5) == [0]


# --- SyncGroup, Heartbeat, LeaveGroup ----------------------------------------------------------
@pytest.mark.parametrize("version", versions("SyncGroup"))
def test_a_share_is_told_with_the_protocol_that_it_is_of(door: GroupDoor, version: int) -> None:
    member = KafkaMember(door, _with("SyncGroup", version))
    form(member)
    assert member.synced().get("protocol_type", "consumer") == "consumer"
    assert member.synced().get("protocol_name", "range") == "range"
    member.generation = 7
    member.sync()
    assert (member.synced()["error_code"], member.synced()["assignment"]) == (ErrorCode.ILLEGAL_GENERATION, b"")
    answer = member.call("SyncGroup", generation_id=1, protocol_type="connect", protocol_name="range")
    assert answer["error_code"] == (ErrorCode.INCONSISTENT_GROUP_PROTOCOL if version >= 5 else 0)


@pytest.mark.parametrize("version", versions("Heartbeat"))
def test_a_heartbeat_says_what_the_member_has_to_do(door: GroupDoor, version: int) -> None:
    member = KafkaMember(door, _with("Heartbeat", version))
    assert member.call("Heartbeat", generation_id=1, member_id="nobody")["error_code"] == ErrorCode.UNKNOWN_MEMBER_ID
    form(member)
    assert member.heartbeat() == 0
    KafkaMember(door, KAFKA_GO).join()
    assert member.heartbeat() == ErrorCode.REBALANCE_IN_PROGRESS


@pytest.mark.parametrize("version", versions("LeaveGroup"))
def test_members_leave_alone_or_several_at_once(door: GroupDoor, version: int) -> None:
    one, two = KafkaMember(door, _with("LeaveGroup", version)), KafkaMember(door, JAVA, group_instance_id="two")
    form(one, two)
    if version < 3:
        assert one.leave()["error_code"] == 0
        assert one.leave()["error_code"] == ErrorCode.UNKNOWN_MEMBER_ID
        return
    leaving = [
        {"member_id": one.id, "group_instance_id": None},
        {"member_id": "", "group_instance_id": "two"},
        {"member_id": "nobody", "group_instance_id": None},
    ]
    answer = one.call("LeaveGroup", members=leaving)
    assert answer["error_code"] == 0
    assert [(each["member_id"], each["group_instance_id"], each["error_code"]) for each in answer["members"]] == [
        (one.id, None, 0),
        ("", "two", 0),
        ("nobody", None, ErrorCode.UNKNOWN_MEMBER_ID),
    ]
    assert one.heartbeat() == two.heartbeat() == ErrorCode.UNKNOWN_MEMBER_ID


def test_a_member_that_has_an_id_and_did_not_come_yet_may_leave(door: GroupDoor) -> None:
    member = KafkaMember(door, JAVA)
    member.id = member.call("JoinGroup", **member.wishes)["member_id"]
    assert member.heartbeat() == ErrorCode.UNKNOWN_MEMBER_ID
    assert member.leave()["members"][0]["error_code"] == 0
    member.join()
    assert member.joined()["error_code"] == ErrorCode.UNKNOWN_MEMBER_ID


# --- what members are told of a coordinator that cannot answer ---------------------------------
BUSY, LOADING, GONE = (
    ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
    ErrorCode.NOT_COORDINATOR,
)


@pytest.mark.parametrize(
    ("name", "row", "loading"),
    [
        ("JoinGroup", native.JOIN_GROUP, LOADING),
        ("SyncGroup", native.SYNC_GROUP, ErrorCode.REBALANCE_IN_PROGRESS),
        ("Heartbeat", native.HEARTBEAT, ErrorCode.NONE),
        ("LeaveGroup", native.LEAVE_GROUP, LOADING),
    ],
)
def test_members_are_told_to_ask_again_in_words_that_they_know(
    door: GroupDoor, name: str, row: Api[Any, Any], loading: ErrorCode
) -> None:
    for versions_of_client in CLIENTS.values():
        member = KafkaMember(door, versions_of_client)
        for code, told in {
            ErrorCode.REQUEST_TIMED_OUT: BUSY,
            ErrorCode.THROTTLING_QUOTA_EXCEEDED: BUSY,
            ErrorCode.INCONSISTENT_TOPIC_ID: GONE,
            GONE: GONE,
            LOADING: loading,
        }.items():
            door.workers[row] = lambda *_, code=code: row.refusal(code)
            leaving = [{"member_id": "m", "group_instance_id": None}]
            assert member.call(name, members=leaving, **member.wishes)["error_code"] == told


@pytest.mark.parametrize("name", ["JoinGroup", "SyncGroup", "Heartbeat", "LeaveGroup"])
def test_nobody_coordinates_before_there_is_a_group(door: GroupDoor, name: str) -> None:
    door.cluster = cluster(ORDERS)
    for versions_of_client in CLIENTS.values():
        member = KafkaMember(door, versions_of_client)
        assert member.call(name, members=[], **member.wishes)["error_code"] == GONE


# --- tools -------------------------------------------------------------------------------------
@pytest.mark.parametrize("version", versions("DescribeGroups"))
def test_groups_are_described(door: GroupDoor, version: int) -> None:
    member = KafkaMember(door, JAVA, group_instance_id="one")
    form(member)
    group, unknown = door.call("DescribeGroups", version, groups=["readers", "none"])["groups"]
    assert (group["error_code"], group["group_id"], group["group_state"]) == (0, "readers", "Stable")
    assert (group["protocol_type"], group["protocol_data"]) == ("consumer", "range")
    (described,) = group["members"]
    assert (described["member_id"], described["client_host"]) == (member.id, "/127.0.0.1")
    assert described.get("group_instance_id", "one") == "one"
    assert (described["member_metadata"], described["member_assignment"]) == (b"orders", member.id.encode())
    assert (unknown["group_id"], unknown["group_state"], unknown["members"]) == ("none", "Dead", [])
    assert unknown["error_code"] == (ErrorCode.GROUP_ID_NOT_FOUND if version >= 6 else 0)
    assert group.get("authorized_operations", -(2**31)) == -(2**31)
    if version >= 3:
        asked = door.call("DescribeGroups", version, groups=["readers"], include_authorized_operations=True)
        assert asked["groups"][0]["authorized_operations"] == 0b1101_0100_1000
    # While they share out anew, what they had says nothing.
    KafkaMember(door, KAFKA_GO).join()
    (group,) = door.call("DescribeGroups", version, groups=["readers"])["groups"]
    assert (group["group_state"], group["protocol_data"]) == ("PreparingRebalance", "")
    assert [(each["member_metadata"], each["member_assignment"]) for each in group["members"]] == [(b"", b"")] * 2


@pytest.mark.parametrize("version", versions("DescribeGroups"))
def test_a_group_whose_coordinator_is_elsewhere_is_not_described(door: GroupDoor, version: int) -> None:
    door.workers[native.DESCRIBE_GROUP] = lambda *_: native.DESCRIBE_GROUP.refusal(GONE)
    (group,) = door.call("DescribeGroups", version, groups=["readers"])["groups"]
    assert (group["error_code"], group["group_id"], group["group_state"]) == (GONE, "readers", "")


@pytest.mark.parametrize("version", versions("ListGroups"))
def test_a_node_lists_the_groups_that_it_coordinates(door: GroupDoor, version: int) -> None:
    form(KafkaMember(door, JAVA))
    KafkaMember(door, JAVA, group_id="tools").commit(5)

    def listed(**filters: Any) -> list[str]:
        answer = door.call("ListGroups", version, **filters)
        assert answer["error_code"] == 0
        return [each["group_id"] for each in answer["groups"]]

    assert listed() == ["readers", "tools"]
    readers, tools = door.call("ListGroups", version)["groups"]
    assert (readers["protocol_type"], tools["protocol_type"]) == ("consumer", "")
    assert readers.get("group_state", "Stable") == "Stable" and tools.get("group_state", "Empty") == "Empty"
    assert readers.get("group_type", "classic") == "classic"
    if version >= 4:
        assert listed(states_filter=["stable", "Dead"]) == ["readers"]
        assert listed(states_filter=["Dead"]) == []
    if version >= 5:
        assert listed(types_filter=["Consumer"]) == []
        assert listed(types_filter=["consumer", "Classic"]) == ["readers", "tools"]


def test_groups_of_other_nodes_are_listed_there(door: GroupDoor) -> None:
    door.cluster = cluster(ORDERS, topic(OFFSETS_TOPIC, 9, (2, 1, -1, 1)))
    asked: list[Target] = []

    def answer(target: Target, _body: Any) -> Any:
        asked.append(target)
        moved = target == Leader(OFFSETS_ID, 3)
        return native.LIST_GROUPS.refusal(GONE) if moved else native.LIST_GROUPS.response()

    door.workers[native.LIST_GROUPS] = answer
    assert door.call("ListGroups", 5)["error_code"] == 0
    assert asked == [Leader(OFFSETS_ID, 1), Leader(OFFSETS_ID, 3)]
    door.workers[native.LIST_GROUPS] = lambda *_: native.LIST_GROUPS.refusal(ErrorCode.REQUEST_TIMED_OUT)
    assert door.call("ListGroups", 5)["error_code"] == LOADING
    door.cluster = cluster(ORDERS)
    assert door.call("ListGroups", 5)["groups"] == []


@pytest.mark.parametrize("version", versions("DeleteGroups")[:-1])  # kio knows no version 3
def test_groups_are_deleted_when_nobody_is_in_them(door: GroupDoor, version: int) -> None:
    member = KafkaMember(door, JAVA)
    form(member)
    member.commit(5)
    KafkaMember(door, JAVA, group_id="tools").commit(5)
    results = door.call("DeleteGroups", version, groups_names=["readers", "tools", "none"])["results"]
    assert [(each["group_id"], each["error_code"]) for each in results] == [
        ("readers", ErrorCode.NON_EMPTY_GROUP),
        ("tools", 0),
        ("none", ErrorCode.GROUP_ID_NOT_FOUND),
    ]
    member.leave()
    (result,) = door.call("DeleteGroups", version, groups_names=["readers"])["results"]
    assert result["error_code"] == 0 and member.committed() == [-1, -1]
