"""The classic protocol, rule by rule."""

from __future__ import annotations

import msgspec
import pytest

from raftlog import limits
from raftlog.coordinator.records import decode_group
from raftlog.errors import ErrorCode
from raftlog.protocol import groups as g
from tests.coordinator.driver import Client, Driver, describe, form


@pytest.fixture
def driver() -> Driver:
    return Driver()


def test_a_new_member_is_told_its_id_first_and_is_no_member_before_it_comes_back_with_it(driver: Driver) -> None:
    options = {"session_timeout_ms": 10_000, "rebalance_timeout_ms": 10_000, "protocol_type": "consumer"}
    answer = driver.ask(
        g.JoinGroupRequest, group_id="readers", member_id="", protocols=[("range", b"")], client_id="c", **options
    )
    assert answer.error_code == ErrorCode.MEMBER_ID_REQUIRED
    assert answer.member_id.startswith("c-")
    assert describe(driver).members == []
    driver.advance(10.1)
    assert describe(driver).state == "Dead"
    member = Client(driver)
    member.id = answer.member_id
    member.join()
    assert member.joined is not None and member.joined.error_code == ErrorCode.UNKNOWN_MEMBER_ID


def test_a_client_from_before_ids_came_first_is_a_member_at_once(driver: Driver) -> None:
    member = Client(driver, one_round=True, client_host="/10.0.0.1")
    form(driver, member)
    assert member.joining == 1 and member.id.startswith("test-")
    driver.fail_over()
    assert describe(driver).members[0].client_host == "/10.0.0.1"


def test_a_member_of_an_older_log_has_no_host() -> None:
    old = ["m", None, "c", 10_000, 30_000, [("range", b"")], b"all of it"]
    group = decode_group(msgspec.msgpack.encode([1, 7, "consumer", "range", "m", [old], 1000]))
    assert (group.members[0].assignment, group.members[0].client_host) == (b"all of it", "")


def test_a_rebalance_goes_through_all_states(driver: Driver) -> None:
    member = Client(driver)
    assert describe(driver).state == "Dead"
    member.join()
    assert describe(driver).state == "PreparingRebalance"
    driver.advance(limits.GROUP_INITIAL_DELAY_S)
    assert describe(driver).state == "CompletingRebalance"
    assert member.joined is not None and member.joined.leader == member.id and member.generation == 1
    sent = member.sync({member.id: b"all of it"})
    assert sent not in driver.answers, "an assignment is told once it is committed"
    driver.commit()
    assert driver.answers[sent].assignment == b"all of it"
    assert describe(driver).state == "Stable"
    assert member.leave() == [0]
    driver.commit()
    assert describe(driver).state == "Dead"


def test_the_first_member_leads_and_only_the_leader_sees_the_members(driver: Driver) -> None:
    first, second = Client(driver, protocols=[("range", b"1")]), Client(driver, protocols=[("range", b"2")])
    form(driver, first, second)
    assert first.joined is not None and second.joined is not None
    assert first.joined.leader == second.joined.leader == first.id
    assert [(m.member_id, m.metadata) for m in first.joined.members] == [(first.id, b"1"), (second.id, b"2")]
    assert second.joined.members == []


def test_the_protocol_is_the_one_that_most_prefer_among_those_that_all_speak(driver: Driver) -> None:
    only, both, other = (
        Client(driver, protocols=[(name, b"") for name in names.split()])
        for names in ("sticky range robin", "robin range", "range robin")
    )
    form(driver, only, both, other)
    assert other.joined is not None and other.joined.protocol_name == "range"
    stranger = Client(driver, protocols=[("sticky", b"")])
    stranger.join()
    assert stranger.joined is not None and stranger.joined.error_code == ErrorCode.INCONSISTENT_GROUP_PROTOCOL
    foreign = Client(driver, protocol_type="connect")
    foreign.join()
    assert foreign.joined is not None and foreign.joined.error_code == ErrorCode.INCONSISTENT_GROUP_PROTOCOL


def test_a_member_that_joins_makes_the_others_join_again(driver: Driver) -> None:
    first, second, third = (Client(driver) for _ in range(3))
    form(driver, first, second)
    third.join()
    assert first.heartbeat() is ErrorCode.REBALANCE_IN_PROGRESS
    assert second.heartbeat() is ErrorCode.REBALANCE_IN_PROGRESS
    assert third.joined is None
    form(driver, first, second)
    assert third.joined is not None and third.generation == 2
    assert describe(driver).state == "Stable"


def test_a_leader_that_joins_again_wants_a_rebalance_and_a_follower_that_did_not_change_none(driver: Driver) -> None:
    leader, follower = Client(driver), Client(driver)
    form(driver, leader, follower)
    follower.join()
    assert follower.joined is not None and follower.generation == 1
    assert describe(driver).state == "Stable"
    leader.join()
    assert leader.joined is None
    assert describe(driver).state == "PreparingRebalance"
    follower.join()
    assert leader.joined is not None and leader.generation == 2


def test_a_follower_whose_subscription_changed_leads_to_a_rebalance(driver: Driver) -> None:
    leader, follower = Client(driver), Client(driver)
    form(driver, leader, follower)
    follower.options["protocols"] = [("range", b"orders and payments")]
    follower.join()
    assert follower.joined is None
    assert leader.heartbeat() is ErrorCode.REBALANCE_IN_PROGRESS


def test_a_member_that_is_silent_for_its_session_is_given_up(driver: Driver) -> None:
    alive, dead = Client(driver), Client(driver)
    form(driver, alive, dead)
    for _ in range(3):
        driver.advance(3)
        assert alive.heartbeat() is ErrorCode.NONE
    driver.advance(1.1)
    assert alive.heartbeat() is ErrorCode.REBALANCE_IN_PROGRESS
    form(driver, alive)
    assert alive.generation == 2
    assert dead.heartbeat() is ErrorCode.UNKNOWN_MEMBER_ID


def test_a_rebalance_waits_for_no_member_longer_than_the_rebalance_time_out(driver: Driver) -> None:
    first, second, late = (Client(driver) for _ in range(3))
    form(driver, first, late)
    second.join()
    first.join()
    for _ in range(7):
        driver.advance(4)
        assert late.heartbeat() is ErrorCode.REBALANCE_IN_PROGRESS
    driver.advance(1)
    assert first.joined is None
    driver.advance(1.1)
    assert first.joined is not None and second.joined is not None
    assert {member.member_id for member in first.joined.members} == {first.id, second.id}
    assert late.heartbeat() is ErrorCode.UNKNOWN_MEMBER_ID


def begin(driver: Driver, leader: Client, follower: Client) -> int:
    """Both are in a generation without an assignment; the follower's SyncGroup that waits for it."""
    leader.join()
    follower.join()
    driver.advance(0.2)
    assert leader.joined is not None and follower.joined is not None
    return follower.sync()


def test_a_member_that_never_asks_for_its_assignment_is_given_up(driver: Driver) -> None:
    leader, follower = Client(driver), Client(driver)
    waits = begin(driver, leader, follower)
    for _ in range(7):
        driver.advance(4.1)
        assert leader.heartbeat() is ErrorCode.NONE
    driver.advance(3)
    assert driver.answers[waits].error_code == ErrorCode.REBALANCE_IN_PROGRESS
    assert leader.heartbeat() is ErrorCode.UNKNOWN_MEMBER_ID
    form(driver, follower)
    assert describe(driver).state == "Stable"


def test_a_try_that_is_repeated_ends_the_one_before(driver: Driver) -> None:
    leader, follower = Client(driver), Client(driver)
    form(driver, leader, follower)
    leader.join()
    first_try = leader.joining
    leader.join()
    assert driver.answers[first_try].error_code == ErrorCode.REBALANCE_IN_PROGRESS
    follower.join()
    assert leader.joined is not None and leader.generation == 2
    assert follower.joined is not None
    first_try, second_try = follower.sync(), follower.sync()
    assert driver.answers[first_try].error_code == ErrorCode.REBALANCE_IN_PROGRESS
    leader.sync({follower.id: b"everything"})
    driver.commit()
    assert driver.answers[second_try].assignment == b"everything"


def test_a_member_of_an_older_generation_is_refused(driver: Driver) -> None:
    stays, member = Client(driver), Client(driver)
    form(driver, stays, member)
    old = Client(driver)
    old.id, old.generation = member.id, member.generation
    member.options["protocols"] = [("range", b"more")]
    form(driver, stays, member)
    assert old.heartbeat() is ErrorCode.ILLEGAL_GENERATION
    assert driver.answers[old.sync()].error_code == ErrorCode.ILLEGAL_GENERATION
    assert driver.answers[old.commit(7)].error_code == ErrorCode.ILLEGAL_GENERATION
    stranger = Client(driver)
    stranger.id, stranger.generation = "nobody", 2
    assert stranger.heartbeat() is ErrorCode.UNKNOWN_MEMBER_ID
    assert stranger.leave() == [ErrorCode.UNKNOWN_MEMBER_ID]


def test_bounds_of_ids_and_time_outs(driver: Driver) -> None:
    for wrong, code in (
        (Client(driver, group_id=""), ErrorCode.INVALID_GROUP_ID),
        (Client(driver, group_id="x" * 1_001), ErrorCode.INVALID_GROUP_ID),
        (Client(driver, client_id="x" * 257), ErrorCode.INVALID_REQUEST),
        (Client(driver, group_instance_id="ü" * 129), ErrorCode.INVALID_REQUEST),
        (Client(driver, session_timeout_ms=limits.SESSION_TIMEOUT_MIN_MS - 1), ErrorCode.INVALID_SESSION_TIMEOUT),
        (Client(driver, session_timeout_ms=limits.SESSION_TIMEOUT_MAX_MS + 1), ErrorCode.INVALID_SESSION_TIMEOUT),
        (Client(driver, protocols=[]), ErrorCode.INCONSISTENT_GROUP_PROTOCOL),
        (Client(driver, protocol_type=""), ErrorCode.INCONSISTENT_GROUP_PROTOCOL),
        (Client(driver, protocols=[("range", bytes(limits.GROUP_BYTES_MAX))]), ErrorCode.GROUP_MAX_SIZE_REACHED),
    ):
        wrong.join()
        assert wrong.joined is not None and wrong.joined.error_code == code
    assert driver.ask(g.ListGroupsRequest).groups == []


def test_a_group_has_at_most_so_many_members(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "GROUP_MEMBERS_MAX", 2)
    form(driver, Client(driver), Client(driver))
    third = Client(driver)
    third.join()
    assert third.joined is not None and third.joined.error_code == ErrorCode.GROUP_MAX_SIZE_REACHED


def test_an_assignment_that_the_log_refuses_is_made_again(driver: Driver) -> None:
    leader, follower = Client(driver), Client(driver)
    leader.join()
    follower.join()
    driver.advance(0.2)
    assert leader.joined is not None and follower.joined is not None
    syncs = [follower.sync(), leader.sync({})]
    driver.refuse(ErrorCode.KAFKA_STORAGE_ERROR)
    assert [driver.answers[sent].error_code for sent in syncs] == [ErrorCode.COORDINATOR_NOT_AVAILABLE] * 2
    assert leader.heartbeat() is ErrorCode.REBALANCE_IN_PROGRESS
    form(driver, leader, follower)
    assert leader.generation == 2


def test_a_member_that_joins_while_the_assignment_is_being_written_waits_for_the_next_one(driver: Driver) -> None:
    leader, second = Client(driver), Client(driver)
    leader.join()
    driver.advance(0.2)
    assert leader.joined is not None
    sent = leader.sync({leader.id: b"all"})
    second.join()
    assert driver.answers[sent].error_code == ErrorCode.REBALANCE_IN_PROGRESS
    driver.commit()
    assert describe(driver).state == "PreparingRebalance"
    leader.join()
    assert leader.joined is not None and second.joined is not None
    assert leader.generation == second.generation == 2


def test_a_member_that_waited_longer_than_its_session_is_not_given_up_for_it(driver: Driver) -> None:
    leader, follower, third = (Client(driver, session_timeout_ms=6_000) for _ in range(3))
    waits = begin(driver, leader, follower)
    for _ in range(2):
        driver.advance(5)
        assert leader.heartbeat() is ErrorCode.NONE
    third.join()
    assert driver.answers[waits].error_code == ErrorCode.REBALANCE_IN_PROGRESS
    driver.advance(5)
    assert follower.heartbeat() is ErrorCode.REBALANCE_IN_PROGRESS


def test_an_assignment_that_takes_the_log_longer_than_the_rebalance_is_waited_for(driver: Driver) -> None:
    leader = Client(driver, rebalance_timeout_ms=1_000)
    leader.join()
    driver.advance(0.2)
    assert leader.joined is not None
    sent = leader.sync({leader.id: b"all"})
    driver.advance(60)
    driver.commit()
    assert driver.answers[sent].assignment == b"all"
    assert leader.heartbeat() is ErrorCode.NONE
