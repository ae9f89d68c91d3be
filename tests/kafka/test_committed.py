"""OffsetCommit, OffsetFetch and OffsetDelete in every version, with a real coordinator behind the door."""

from __future__ import annotations

from typing import Any

import pytest

from raftlog.errors import ErrorCode
from raftlog.kafka.codes import KafkaCode
from raftlog.protocol import apis as native
from raftlog.protocol.consumer_protocol import Subscription, encode_subscription
from raftlog.types import OFFSETS_TOPIC
from tests.kafka.door import cluster, topic, topic_id, versions
from tests.kafka.groups import JAVA, ORDERS, ORDERS_ID, GroupDoor, KafkaMember, form

GONE, LOADING = ErrorCode.NOT_COORDINATOR, ErrorCode.COORDINATOR_LOAD_IN_PROGRESS


@pytest.fixture
def door() -> GroupDoor:
    return GroupDoor()


def _topic(name: str, number: int, *partitions: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "topic_id": topic_id(number), "partitions": list(partitions)}


def _offset(partition: int, offset: int, **fields: Any) -> dict[str, Any]:
    return {"partition_index": partition, "committed_offset": offset, **fields}


def _commit(door: GroupDoor, version: int, *topics: dict[str, Any], **fields: Any) -> list[int]:
    answer = door.call("OffsetCommit", version, group_id="tools", topics=topics, **fields)
    assert [each.get("name", each.get("topic_id")) for each in answer["topics"]] == [
        each["topic_id"] if version >= 10 else each["name"] for each in topics
    ]
    return [each["error_code"] for told in answer["topics"] for each in told["partitions"]]


def _fetch(door: GroupDoor, version: int, topics: Any, group_id: str = "tools", **fields: Any) -> dict[str, Any]:
    groups = [{"group_id": group_id, "topics": topics}]
    answer = door.call("OffsetFetch", version, group_id=group_id, topics=topics, groups=groups, **fields)
    found: dict[str, Any] = answer.get("groups", [answer])[0]
    return found


def _asked(name: str, number: int, *partitions: int) -> dict[str, Any]:
    return {"name": name, "topic_id": topic_id(number), "partition_indexes": list(partitions)}


# --- OffsetCommit ------------------------------------------------------------------------------
@pytest.mark.parametrize("version", versions("OffsetCommit"))
def test_each_partition_is_committed_or_has_its_own_error(door: GroupDoor, version: int) -> None:
    codes = _commit(
        door,
        version,
        _topic("orders", 1, _offset(0, 5, committed_metadata="m" * 4097), _offset(1, 6), _offset(2, 7)),
        _topic("none", 4, _offset(0, 8)),
        retention_time=1000,
    )
    unknown = KafkaCode.UNKNOWN_TOPIC_ID if version >= 10 else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert codes == [KafkaCode.OFFSET_METADATA_TOO_LARGE, 0, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, unknown]
    assert KafkaMember(door, JAVA, group_id="tools").committed() == [-1, 6]


@pytest.mark.parametrize("version", versions("OffsetCommit"))
def test_who_is_in_no_group_commits_while_the_group_has_no_members(door: GroupDoor, version: int) -> None:
    first = _topic("orders", 1, _offset(0, 5, committed_metadata="host 1", committed_leader_epoch=4))
    # The generation alone says so: some clients name a member that they were.
    assert _commit(door, version, first, generation_id_or_member_epoch=-1, member_id="somebody") == [0]
    (told,) = _fetch(door, 9, [_asked("orders", 1, 0)])["topics"][0]["partitions"]
    assert (told["committed_offset"], told["metadata"]) == (5, "host 1")
    assert told["committed_leader_epoch"] == (4 if version >= 6 else -1)
    form(KafkaMember(door, JAVA, group_id="tools"))
    assert _commit(door, version, first, generation_id_or_member_epoch=-1) == [ErrorCode.UNKNOWN_MEMBER_ID]
    assert _commit(door, version, first, generation_id_or_member_epoch=1) == [ErrorCode.UNKNOWN_MEMBER_ID]


def test_a_negative_offset_takes_back_what_was_committed(door: GroupDoor) -> None:
    member = KafkaMember(door, JAVA)
    form(member)
    assert member.commit(5, 6) == [0, 0]
    assert member.commit(-1, 7) == [0, 0]
    assert member.committed() == [-1, 7]
    assert member.commit(8) == member.commit(-2) == [0]
    door.driver.fail_over()
    assert member.committed() == [-1, 7]


def test_a_commit_that_was_not_stored_is_no_success(door: GroupDoor) -> None:
    for code, told in {
        ErrorCode.REQUEST_TIMED_OUT: ErrorCode.COORDINATOR_NOT_AVAILABLE,
        ErrorCode.MESSAGE_TOO_LARGE: KafkaCode.INVALID_COMMIT_OFFSET_SIZE,
        ErrorCode.REBALANCE_IN_PROGRESS: ErrorCode.REBALANCE_IN_PROGRESS,
        LOADING: LOADING,
    }.items():
        door.workers[native.OFFSET_COMMIT] = lambda *_, code=code: native.OFFSET_COMMIT.refusal(code)
        for version in versions("OffsetCommit"):
            assert _commit(door, version, _topic("orders", 1, _offset(0, 5), _offset(1, 6))) == [told, told]


# --- OffsetFetch -------------------------------------------------------------------------------
@pytest.mark.parametrize("version", versions("OffsetFetch"))
def test_partitions_without_a_commit_have_none(door: GroupDoor, version: int) -> None:
    _commit(door, 9, _topic("orders", 1, _offset(1, 6, committed_leader_epoch=4, committed_metadata="host 1")))
    group = _fetch(door, version, [_asked("orders", 1, 0, 1), _asked("none", 4, 0)], require_stable=True)
    orders, none = group["topics"]
    keys = ("partition_index", "committed_offset", "metadata", "error_code")
    assert [tuple(each[key] for key in keys) for each in orders["partitions"]] == [(0, -1, "", 0), (1, 6, "host 1", 0)]
    assert [each.get("committed_leader_epoch") for each in orders["partitions"]] == (
        [-1, 4] if version >= 5 else [None, None]
    )
    (told,) = none["partitions"]
    assert (told["committed_offset"], told["error_code"]) == (-1, KafkaCode.UNKNOWN_TOPIC_ID if version >= 10 else 0)
    assert group.get("error_code", 0) == 0


@pytest.mark.parametrize("version", versions("OffsetFetch")[1:])
def test_without_topics_all_that_is_committed_is_told(door: GroupDoor, version: int) -> None:
    assert _fetch(door, version, None)["topics"] == []
    door.cluster = cluster(ORDERS, topic("more", 2), topic(OFFSETS_TOPIC, 9, (1,)))
    _commit(door, 9, _topic("orders", 1, _offset(0, 5), _offset(1, 6)), _topic("more", 2, _offset(0, 7)))
    found = _fetch(door, version, None)["topics"]
    name = "topic_id" if version >= 10 else "name"
    assert {
        each[name]: [(told["partition_index"], told["committed_offset"]) for told in each["partitions"]]
        for each in found
    } == {
        (ORDERS_ID if version >= 10 else "orders"): [(0, 5), (1, 6)],
        (topic_id(2) if version >= 10 else "more"): [(0, 7)],
    }


@pytest.mark.parametrize("version", versions("OffsetFetch")[7:])
def test_several_groups_are_asked_for_at_once(door: GroupDoor, version: int) -> None:
    for number, name in enumerate("abc"):
        KafkaMember(door, JAVA, group_id=name).commit(number)
    groups = [
        {"group_id": "b", "topics": [_asked("orders", 1, 0)]},
        {"group_id": "none", "topics": [_asked("orders", 1, 0)]},
        {"group_id": "c", "topics": None, "member_id": None, "member_epoch": -1},
    ]
    told = door.call("OffsetFetch", version, groups=groups)["groups"]
    assert [
        (each["group_id"], each["error_code"], each["topics"][0]["partitions"][0]["committed_offset"]) for each in told
    ] == [("b", 0, 1), ("none", 0, -1), ("c", 0, 2)]


@pytest.mark.parametrize("version", versions("OffsetFetch"))
def test_a_coordinator_that_cannot_tell_is_no_group_without_commits(door: GroupDoor, version: int) -> None:
    for code, told in {ErrorCode.REQUEST_TIMED_OUT: GONE, GONE: GONE, LOADING: LOADING}.items():
        door.workers[native.OFFSET_FETCH] = lambda *_, code=code: native.OFFSET_FETCH.refusal(code)
        group = _fetch(door, version, [_asked("orders", 1, 0)])
        if version == 1:
            assert group["topics"][0]["partitions"][0]["error_code"] == told
        else:
            assert (group["error_code"], group["topics"]) == (told, [])


@pytest.mark.parametrize("version", versions("OffsetFetch"))
def test_what_was_committed_for_a_topic_that_was_deleted_counts_for_nothing(door: GroupDoor, version: int) -> None:
    _commit(door, 9, _topic("orders", 1, _offset(0, 5)))
    anew = topic("orders", 3)
    door.cluster = cluster(anew, topic(OFFSETS_TOPIC, 9, (1,)))
    door.newest = [anew]
    (told,) = _fetch(door, version, [_asked("orders", 3, 0)])["topics"][0]["partitions"]
    assert (told["committed_offset"], told["error_code"]) == (-1, 0)
    if version > 1:
        assert _fetch(door, version, None)["topics"] == []


@pytest.mark.parametrize("version", versions("OffsetFetch"))
def test_a_door_that_heard_of_a_new_topic_late_does_not_forget_its_commits(door: GroupDoor, version: int) -> None:
    before = door.cluster
    anew = topic("orders", 3)
    door.cluster = cluster(anew, topic(OFFSETS_TOPIC, 9, (1,)))
    _commit(door, 9, _topic("orders", 3, _offset(0, 5)))
    door.cluster, door.newest = before, [anew]
    wanted = [_asked("orders", 3, 0)]
    (told,) = _fetch(door, version, wanted)["topics"][0]["partitions"]
    if version >= 10:
        assert told["error_code"] == KafkaCode.UNKNOWN_TOPIC_ID
    else:
        assert (told["committed_offset"], told["error_code"]) == (5, 0)
    # Where its node does not know either, nobody is told that nothing is committed.
    door.newest, door.confirmed = [], False
    group = _fetch(door, version, wanted if version < 10 else None)
    code = group["topics"][0]["partitions"][0]["error_code"] if version == 1 else group["error_code"]
    assert code == LOADING


# --- OffsetDelete ------------------------------------------------------------------------------
def test_offsets_are_deleted_but_for_topics_that_members_read(door: GroupDoor) -> None:
    door.cluster = cluster(ORDERS, topic("more", 2), topic(OFFSETS_TOPIC, 9, (1,)))
    _commit(door, 9, _topic("orders", 1, _offset(0, 5), _offset(1, 6)), _topic("more", 2, _offset(0, 7)))
    reader = {"name": "range", "metadata": encode_subscription(Subscription(("orders",)))}
    form(KafkaMember(door, JAVA, group_id="tools", protocols=[reader]))

    def delete(group_id: str, *topics: dict[str, Any]) -> dict[str, Any]:
        return door.call("OffsetDelete", 0, group_id=group_id, topics=topics)

    answer = delete("tools", _topic("orders", 1, {"partition_index": 1}), _topic("more", 2, {"partition_index": 0}))
    assert answer["error_code"] == 0
    assert [(each["name"], each["partitions"][0]["error_code"]) for each in answer["topics"]] == [
        ("orders", ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC),
        ("more", 0),
    ]
    assert [each["name"] for each in _fetch(door, 9, None)["topics"]] == ["orders"]
    assert delete("none", _topic("orders", 1, {"partition_index": 1}))["error_code"] == ErrorCode.GROUP_ID_NOT_FOUND
