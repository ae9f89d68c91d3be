"""Static membership (KIP-345): a process that comes back with its instance id goes on where it was."""

from __future__ import annotations

import pytest

from raftlog.errors import ErrorCode
from raftlog.protocol import groups as g
from raftlog.protocol.consumer_protocol import Subscription, encode_subscription
from raftlog.types import TopicPartition
from tests.coordinator.driver import Client, Driver, describe, form


@pytest.fixture
def driver() -> Driver:
    return Driver()


def _static(driver: Driver, name: str, **options: object) -> Client:
    return Client(driver, group_instance_id=name, **options)


def test_a_static_member_needs_no_second_request_to_join(driver: Driver) -> None:
    member = _static(driver, "a")
    form(driver, member)
    assert describe(driver).members[0].group_instance_id == "a"
    assert member.joining == 1


def test_a_static_member_that_restarts_keeps_its_share_without_a_rebalance(driver: Driver) -> None:
    leader, follower = _static(driver, "a"), _static(driver, "b")
    form(driver, leader, follower)
    again = _static(driver, "b")
    again.join()
    assert again.joined is None, "its new id is committed before it hears it"
    driver.commit()
    assert again.joined is not None and again.generation == 1 and again.id != follower.id
    assert describe(driver).state == "Stable"
    assert driver.answers[again.sync()].assignment == follower.id.encode()
    assert leader.heartbeat() is ErrorCode.NONE
    assert follower.heartbeat() is ErrorCode.FENCED_INSTANCE_ID
    assert driver.answers[follower.sync()].error_code == ErrorCode.FENCED_INSTANCE_ID
    assert driver.answers[follower.commit(3)].error_code == ErrorCode.FENCED_INSTANCE_ID
    follower.join()
    assert follower.joined is not None and follower.joined.error_code == ErrorCode.FENCED_INSTANCE_ID
    assert follower.leave() == [ErrorCode.FENCED_INSTANCE_ID]


def test_a_static_leader_that_restarts_leads_under_its_new_id(driver: Driver) -> None:
    leader, follower = _static(driver, "a"), _static(driver, "b")
    form(driver, leader, follower)
    again = _static(driver, "a")
    again.join()
    driver.commit()
    assert again.joined is not None and again.joined.leader == again.id and again.joined.skip_assignment
    assert [member.member_id for member in again.joined.members] == [again.id, follower.id]
    # What it assigns now changes nothing: everybody has his share.
    assert driver.answers[again.sync({again.id: b"other"})].assignment == leader.id.encode()
    assert not driver.proposed


def test_the_process_that_was_replaced_stays_fenced_after_a_failover(driver: Driver) -> None:
    member, again = _static(driver, "a"), _static(driver, "a")
    form(driver, member)
    again.join()
    driver.commit()
    assert again.joined is not None
    driver.fail_over()
    assert member.heartbeat() is ErrorCode.FENCED_INSTANCE_ID
    assert again.heartbeat() is ErrorCode.NONE


def test_a_static_member_that_restarts_with_another_subscription_leads_to_a_rebalance(driver: Driver) -> None:
    orders = encode_subscription(Subscription(("orders",), (TopicPartition("orders", 0),), 1))
    leader, follower = (_static(driver, name, protocols=[("range", orders)]) for name in "ab")
    form(driver, leader, follower)
    again = _static(driver, "b", protocols=[("range", encode_subscription(Subscription(("orders", "more"))))])
    again.join()
    assert leader.heartbeat() is ErrorCode.REBALANCE_IN_PROGRESS
    leader.join()
    assert again.joined is not None and again.generation == 2


def test_a_static_member_that_restarts_owns_nothing_and_disturbs_nobody(driver: Driver) -> None:
    owner = encode_subscription(Subscription(("orders",), (TopicPartition("orders", 0),), 1))
    leader, follower = (_static(driver, name, protocols=[("range", owner)]) for name in "ab")
    form(driver, leader, follower)
    again = _static(driver, "b", protocols=[("range", encode_subscription(Subscription(("orders",))))])
    again.join()
    driver.commit()
    assert again.joined is not None and again.generation == 1
    assert driver.answers[again.sync()].assignment == follower.id.encode()
    assert leader.heartbeat() is ErrorCode.NONE


def test_a_static_member_that_restarts_with_another_assignor_leads_to_a_rebalance(driver: Driver) -> None:
    both = [("range", b"orders"), ("roundrobin", b"orders")]
    leader, follower = (_static(driver, name, protocols=both) for name in "ab")
    form(driver, leader, follower)
    again = _static(driver, "b", protocols=both[1:])
    again.join()
    assert leader.heartbeat() is ErrorCode.REBALANCE_IN_PROGRESS
    leader.join()
    assert again.joined is not None and again.joined.protocol_name == "roundrobin"


def test_a_static_member_that_restarts_twice_at_once_is_the_last_one(driver: Driver) -> None:
    form(driver, _static(driver, "a"))
    second, third = _static(driver, "a"), _static(driver, "a")
    second.join()
    third.join()
    assert second.joined is not None and second.joined.error_code == ErrorCode.FENCED_INSTANCE_ID
    driver.commit()
    assert third.joined is not None and not third.joined.error_code


def test_a_replacement_that_the_log_refuses_is_told_so_and_may_come_again(driver: Driver) -> None:
    form(driver, _static(driver, "a"))
    again = _static(driver, "a")
    again.join()
    driver.refuse(ErrorCode.KAFKA_STORAGE_ERROR)
    assert again.joined is not None and again.joined.error_code == ErrorCode.COORDINATOR_NOT_AVAILABLE
    again.join()
    driver.commit()
    assert again.joined is not None and not again.joined.error_code


def test_a_rebalance_that_begins_while_a_replacement_is_written_takes_it_in(driver: Driver) -> None:
    leader, follower, third = _static(driver, "a"), _static(driver, "b"), Client(driver)
    form(driver, leader, follower)
    again = _static(driver, "b")
    again.join()
    third.join()
    leader.join()
    assert again.joined is not None and again.generation == 2
    driver.commit()
    assert third.joined is not None and third.generation == 2


def test_a_static_member_that_is_late_for_a_rebalance_stays_until_its_session_ends(driver: Driver) -> None:
    leader = Client(driver, session_timeout_ms=5_000, rebalance_timeout_ms=5_000)
    late = _static(driver, "b", session_timeout_ms=60_000, rebalance_timeout_ms=5_000)
    form(driver, leader, late)
    leader.join()
    driver.advance(5.1)
    assert leader.joined is not None and leader.generation == 2
    assert late.id in [member.member_id for member in leader.joined.members]
    assert late.heartbeat() is ErrorCode.ILLEGAL_GENERATION


def test_an_instance_id_that_nobody_has_is_unknown(driver: Driver) -> None:
    form(driver, _static(driver, "a"))
    stranger = _static(driver, "z")
    stranger.id, stranger.generation = "made up", 1
    assert stranger.heartbeat() is ErrorCode.UNKNOWN_MEMBER_ID
    stranger.join()
    assert stranger.joined is not None and stranger.joined.error_code == ErrorCode.UNKNOWN_MEMBER_ID


def test_tools_remove_a_static_member_by_its_instance_id_alone(driver: Driver) -> None:
    leader, follower = _static(driver, "a"), _static(driver, "b")
    form(driver, leader, follower)
    members = [g.LeavingMember(group_instance_id="b"), g.LeavingMember(group_instance_id="c")]
    answer = driver.ask(g.LeaveGroupRequest, group_id="readers", members=members)
    assert answer.member_error_codes == [0, ErrorCode.UNKNOWN_MEMBER_ID]
    assert leader.heartbeat() is ErrorCode.REBALANCE_IN_PROGRESS
    assert follower.heartbeat() is ErrorCode.UNKNOWN_MEMBER_ID


def test_a_static_leader_that_is_late_for_a_rebalance_leads_no_more(driver: Driver) -> None:
    late = _static(driver, "a", session_timeout_ms=60_000, rebalance_timeout_ms=5_000)
    member = Client(driver, session_timeout_ms=60_000, rebalance_timeout_ms=5_000)
    form(driver, late, member)
    member.options["protocols"] = [("range", b"more")]
    member.join()
    driver.advance(5.1)
    assert member.joined is not None and member.joined.leader == member.id
    assert [other.member_id for other in member.joined.members] == [late.id, member.id]
