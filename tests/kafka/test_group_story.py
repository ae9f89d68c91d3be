"""The story of a group, as each client tells it: two consumers that share, a third that comes, one that dies."""

from __future__ import annotations

import pytest

from raftlog.errors import ErrorCode
from tests.kafka.groups import CLIENTS, GroupDoor, KafkaMember, form


@pytest.mark.parametrize("versions", CLIENTS.values(), ids=CLIENTS)
def test_a_group_from_its_first_member_to_its_last(versions: dict[str, int]) -> None:
    door = GroupDoor()
    first, second, third = (KafkaMember(door, versions) for _ in range(3))
    _two_consumers_start(door, first, second)
    _they_share_and_read(first, second)
    _a_third_one_comes(first, second, third)
    _who_speaks_of_the_generation_before_has_no_say(first)
    _the_process_of_the_leader_dies(door, first, second, third)

    # The coordinator's node dies. The next one knows the group, and nobody has to join again.
    door.driver.fail_over()
    assert second.heartbeat() == third.heartbeat() == ErrorCode.NONE
    assert second.commit(13, 21) == [0, 0]

    # They leave. What they have committed stays for those who come.
    assert third.leave()["error_code"] == second.leave()["error_code"] == 0
    late = KafkaMember(door, versions)
    assert late.committed() == [13, 21]
    form(late)
    assert late.committed() == [13, 21]


def _two_consumers_start(door: GroupDoor, first: KafkaMember, second: KafkaMember) -> None:
    """The first to come leads: it alone is told of the others, and shares out for all."""
    first.join()
    second.join()
    assert first.waits and second.waits, "others may be about to start as well"
    door.pass_time(0.2)
    told = first.joined()
    assert (told["leader"], told["generation_id"], told["protocol_name"]) == (first.id, 1, "range")
    assert [(each["member_id"], each["metadata"]) for each in told["members"]] == [
        (first.id, b"orders"),
        (second.joined()["member_id"], b"orders"),
    ]
    assert second.joined()["members"] == [] and not second.leads


def _they_share_and_read(first: KafkaMember, second: KafkaMember) -> None:
    # The follower asks for its share and waits until the leader has assigned it.
    second.sync()
    assert second.heartbeat() == ErrorCode.NONE
    assert second.commit(1) == [ErrorCode.REBALANCE_IN_PROGRESS], "it does not know yet whether it reads this"
    first.sync({first.id: b"partition 0", second.id: b"partition 1"})
    assert first.synced()["assignment"] == b"partition 0"
    assert second.synced()["assignment"] == b"partition 1"

    # They read, commit and say that they live.
    assert first.committed() == [-1, -1]
    assert first.commit(10) == [0]
    assert second.commit(11, 20) == [0, 0]
    assert first.committed() == [11, 20]
    assert first.heartbeat() == second.heartbeat() == ErrorCode.NONE


def _a_third_one_comes(first: KafkaMember, second: KafkaMember, third: KafkaMember) -> None:
    """The others hear of it with their next heartbeat, commit, and join again."""
    third.join()
    assert third.waits
    assert first.heartbeat() == second.heartbeat() == ErrorCode.REBALANCE_IN_PROGRESS
    assert first.commit(12) == [0], "its share is its own until it joins again"
    second.sync()
    assert second.synced()["error_code"] == ErrorCode.REBALANCE_IN_PROGRESS
    first.join()
    second.join()
    assert [member.joined()["generation_id"] for member in (first, second, third)] == [2, 2, 2]
    assert first.leads
    for member in (second, third):
        member.sync()
    first.sync({first.id: b"0", second.id: b"1", third.id: b"2"})
    assert [member.synced()["assignment"] for member in (first, second, third)] == [b"0", b"1", b"2"]


def _who_speaks_of_the_generation_before_has_no_say(first: KafkaMember) -> None:
    assert first.commit(99, generation_id_or_member_epoch=1) == [ErrorCode.ILLEGAL_GENERATION]
    assert first.call("Heartbeat", generation_id=1)["error_code"] == ErrorCode.ILLEGAL_GENERATION
    assert first.committed() == [12, 20]


def _the_process_of_the_leader_dies(
    door: GroupDoor, first: KafkaMember, second: KafkaMember, third: KafkaMember
) -> None:
    """It says nothing for a session. Then the second one leads."""
    for _ in range(3):
        door.pass_time(4)
        second.heartbeat()
        third.heartbeat()
    second.join()
    third.join()
    assert second.joined()["leader"] == third.joined()["leader"] == second.id
    third.sync()
    second.sync({second.id: b"all", third.id: b""})
    assert second.synced()["assignment"] == b"all"
    assert third.synced()["assignment"] == b""
    assert first.heartbeat() == ErrorCode.UNKNOWN_MEMBER_ID
    assert first.commit(98) == [ErrorCode.UNKNOWN_MEMBER_ID]


def test_clients_of_all_kinds_are_in_one_group() -> None:
    door = GroupDoor()
    members = [KafkaMember(door, versions) for versions in CLIENTS.values()]
    form(*members)
    assert {member.generation for member in members} == {1}
    for offset, member in enumerate(members):
        assert member.commit(offset) == [0]
        assert all(other.committed() == [offset, -1] for other in members)
    members[0].leave()
    assert [member.heartbeat() for member in members[1:]] == [ErrorCode.REBALANCE_IN_PROGRESS] * 4
    form(*members[1:])
