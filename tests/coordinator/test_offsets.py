"""Committed offsets, and the life and death of groups in the log."""

from __future__ import annotations

import msgspec
import pytest

from raftlog import limits
from raftlog.coordinator.records import GroupKey, OffsetKey, decode_key, decode_offset, encode
from raftlog.errors import CorruptLogError, ErrorCode
from raftlog.protocol import groups as g
from raftlog.protocol.consumer_protocol import Subscription, encode_subscription
from tests.coordinator.driver import TOPIC_ID, Client, Driver, describe, fetched, form


@pytest.fixture
def driver() -> Driver:
    return Driver()


def _outside(driver: Driver, offset: int, group_id: str = "readers", **changes: object) -> int:
    fields = {"topic": "orders", "topic_id": TOPIC_ID, "partition": 0, "offset": offset, **changes}
    return driver.send(g.OffsetCommitRequest, group_id=group_id, offsets=[g.CommittedOffset(**fields)])  # type: ignore[arg-type]


def test_a_commit_is_answered_and_seen_once_it_is_committed_in_the_log(driver: Driver) -> None:
    member = Client(driver)
    form(driver, member)
    sent = member.commit(7)
    assert sent not in driver.answers
    assert driver.answers[driver.send(g.OffsetFetchRequest, group_id="readers")].offsets == []
    driver.commit()
    assert driver.answers[sent].error_code == 0
    assert fetched(driver) == {("orders", 0): 7}


def test_a_fetch_names_what_was_committed_with_its_topic_id_and_leaves_out_the_rest(driver: Driver) -> None:
    _outside(driver, 5, topic_id=b"an older topic's", leader_epoch=3, metadata="host 1")
    driver.commit()
    answer = driver.ask(g.OffsetFetchRequest, group_id="readers", partitions=[("orders", 0), ("orders", 1)])
    (committed,) = answer.offsets
    assert (committed.topic, committed.partition, committed.offset) == ("orders", 0, 5)
    assert (committed.topic_id, committed.leader_epoch, committed.metadata) == (b"an older topic's", 3, "host 1")
    assert driver.ask(g.OffsetFetchRequest, group_id="others").offsets == []


def test_a_commit_of_no_offset_takes_back_what_was_committed(driver: Driver) -> None:
    _outside(driver, 5)
    _outside(driver, g.NO_OFFSET)
    _outside(driver, 6, partition=1)
    driver.commit()
    assert fetched(driver) == {("orders", 1): 6}
    driver.fail_over()
    assert fetched(driver) == {("orders", 1): 6}


def test_how_many_partitions_the_group_began_with_is_kept(driver: Driver) -> None:
    _outside(driver, 5, begun_partitions=3)
    driver.commit()
    (committed,) = driver.ask(g.OffsetFetchRequest, group_id="readers").offsets
    assert committed.begun_partitions == 3


def test_a_committed_offset_of_an_older_version_does_not_say_how_many_partitions_there_were() -> None:
    value = decode_offset(msgspec.msgpack.encode([1, TOPIC_ID, 5, -1, "", 1000]))
    assert (value.offset, value.begun_partitions) == (5, -1)


def test_all_offsets_of_a_commit_are_in_one_batch(driver: Driver) -> None:
    offsets = [g.CommittedOffset(topic="t", topic_id=TOPIC_ID, partition=p, offset=p) for p in range(50)]
    driver.send(g.OffsetCommitRequest, group_id="readers", offsets=offsets)
    assert [len(proposal.records) for proposal in driver.proposed] == [50]


def test_the_same_fact_has_the_same_key(driver: Driver) -> None:
    for offset in (1, 2):
        _outside(driver, offset)
    driver.commit()
    first, second = driver.log
    assert first[0] == second[0] == encode(OffsetKey("readers", "orders", 0))
    assert decode_key(first[0]) == OffsetKey("readers", "orders", 0)
    assert decode_key(encode(GroupKey("readers"))) == GroupKey("readers")


def test_from_outside_one_commits_only_while_the_group_is_empty(driver: Driver) -> None:
    _outside(driver, 5)
    driver.commit()
    member = Client(driver)
    form(driver, member)
    assert driver.answers[_outside(driver, 9)].error_code == ErrorCode.UNKNOWN_MEMBER_ID
    member.leave()
    sent = _outside(driver, 2)
    driver.commit()
    assert driver.answers[sent].error_code == 0
    assert fetched(driver) == {("orders", 0): 2}


def test_a_member_may_commit_during_a_rebalance_and_not_between_join_and_sync(driver: Driver) -> None:
    member, other = Client(driver), Client(driver)
    form(driver, member)
    other.join()
    sent = member.commit(7)
    driver.commit()
    assert driver.answers[sent].error_code == 0
    member.join()
    assert member.joined is not None
    assert driver.answers[member.commit(8)].error_code == ErrorCode.REBALANCE_IN_PROGRESS


def test_a_commit_is_a_sign_of_life(driver: Driver) -> None:
    member = Client(driver)
    form(driver, member)
    for _ in range(3):
        driver.advance(9)
        member.commit(1)
    assert member.heartbeat() is ErrorCode.NONE


@pytest.mark.parametrize(
    "wrong",
    [{"offset": -2}, {"partition": -1}, {"topic": ""}, {"topic": "x" * 300}, {"topic": "a/b"}, {"topic_id": b"short"}]
    + [{"metadata": "x" * 5000}, {"leader_epoch": 2**40}, {"offset": 2**63}, {"begun_partitions": -2}],
)
def test_a_commit_out_of_bounds_is_refused_as_a_whole(driver: Driver, wrong: dict[str, object]) -> None:
    sent = _outside(driver, **{"offset": 1, **wrong})  # type: ignore[arg-type]
    code = ErrorCode.INVALID_TOPIC_EXCEPTION if "topic" in wrong else ErrorCode.INVALID_REQUEST
    assert driver.answers[sent].error_code == code
    assert not driver.proposed


def test_a_group_commits_only_so_many_offsets(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "OFFSETS_PER_GROUP_MAX", 2)
    taken = [_outside(driver, 1, partition=partition) for partition in (0, 1, 2, 1)]
    driver.commit()
    codes = [driver.answers[sent].error_code for sent in (*taken, _outside(driver, 1, partition=3))]
    assert codes == [0, 0, ErrorCode.INVALID_REQUEST, 0, ErrorCode.INVALID_REQUEST]


def test_a_commit_that_the_log_refuses_is_not_seen(driver: Driver) -> None:
    sent = _outside(driver, 5)
    driver.refuse(ErrorCode.NOT_ENOUGH_REPLICAS)
    assert driver.answers[sent].error_code == ErrorCode.COORDINATOR_NOT_AVAILABLE
    assert fetched(driver) == {}
    assert describe(driver).state == "Dead"


def test_partitions_take_only_so_many_offsets_and_so_many_in_flight(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    _outside(driver, 5)
    driver.commit()
    monkeypatch.setattr(limits, "COMMITTED_OFFSETS_MAX", 1)
    refused, same = _outside(driver, 5, partition=1), _outside(driver, 6)
    driver.commit()
    assert driver.answers[refused].error_code == ErrorCode.THROTTLING_QUOTA_EXCEEDED
    assert driver.answers[same].error_code == 0
    monkeypatch.setattr(limits, "GROUP_WRITES_IN_FLIGHT_MAX", 1)
    _outside(driver, 7)
    assert driver.answers[_outside(driver, 8)].error_code == ErrorCode.THROTTLING_QUOTA_EXCEEDED


# --- failover --------------------------------------------------------------------------------
def test_members_go_on_in_their_generation_after_a_failover(driver: Driver) -> None:
    leader, follower = Client(driver), Client(driver)
    form(driver, leader, follower)
    driver.advance(9)
    driver.fail_over()
    driver.advance(9)
    assert leader.heartbeat() is ErrorCode.NONE and follower.heartbeat() is ErrorCode.NONE
    assert driver.answers[follower.sync()].assignment == follower.id.encode()
    follower.join()
    assert follower.joined is not None and follower.generation == 1
    described = describe(driver)
    assert (described.state, described.generation_id, len(described.members)) == ("Stable", 1, 2)


def test_sessions_begin_anew_at_a_failover_behind_what_the_old_leader_may_have_granted(driver: Driver) -> None:
    member = Client(driver)
    form(driver, member)
    driver.fail_over()
    driver.advance(10 + limits.LEADER_FALLBACK_S - 0.1)
    assert describe(driver).state == "Stable"
    driver.advance(0.2)
    assert member.heartbeat() is ErrorCode.UNKNOWN_MEMBER_ID


def test_what_waits_at_a_failover_is_answered(driver: Driver) -> None:
    member, other, waiting = Client(driver), Client(driver), Client(driver, group_id="others")
    form(driver, member)
    commit = member.commit(4)
    other.join()
    waiting.join()
    driver.advance(0.2)
    assert waiting.joined is not None
    sync = waiting.sync({})
    driver.fail_over()
    assert driver.answers[commit].error_code == ErrorCode.REQUEST_TIMED_OUT
    assert driver.answers[sync].error_code == ErrorCode.REQUEST_TIMED_OUT
    assert other.joined is not None and other.joined.error_code == ErrorCode.NOT_COORDINATOR
    assert fetched(driver) == {}


def test_a_commit_of_unknown_outcome_may_be_there(driver: Driver) -> None:
    sent = _outside(driver, 4)
    driver.fail_over(kept=1)
    assert driver.answers[sent].error_code == ErrorCode.REQUEST_TIMED_OUT
    assert fetched(driver) == {("orders", 0): 4}


# --- groups without members ------------------------------------------------------------------
def test_a_group_that_everybody_left_is_empty_after_a_failover_too_and_keeps_its_generation(driver: Driver) -> None:
    member = Client(driver)
    form(driver, member)
    member.commit(4)
    member.leave()
    driver.commit()
    driver.fail_over()
    described = describe(driver)
    assert (described.state, described.generation_id, described.members) == ("Empty", 2, [])
    assert fetched(driver) == {("orders", 0): 4}
    again = Client(driver)
    form(driver, again)
    assert again.generation == 3


def test_a_group_without_members_and_offsets_leaves_nothing(driver: Driver) -> None:
    member = Client(driver)
    form(driver, member)
    member.leave()
    driver.commit()
    assert driver.log[-1] == (encode(GroupKey("readers")), None)
    assert driver.coordinator.committed.facts == 0
    assert driver.ask(g.ListGroupsRequest).groups == []


def test_a_group_is_deleted_with_its_offsets(driver: Driver) -> None:
    member = Client(driver)
    form(driver, member)
    member.commit(4)
    driver.commit()
    assert driver.delete() == ErrorCode.NON_EMPTY_GROUP
    member.leave()
    _outside(driver, 1, partition=1)
    driver.commit()
    assert driver.delete() == ErrorCode.NONE
    assert driver.coordinator.committed.facts == 0
    assert describe(driver).state == "Dead"
    assert driver.delete() == ErrorCode.GROUP_ID_NOT_FOUND


def test_a_group_of_offsets_alone_is_listed_and_deleted(driver: Driver) -> None:
    _outside(driver, 1, "tools")
    form(driver, Client(driver))
    groups = driver.ask(g.ListGroupsRequest).groups
    assert [(listed.group_id, listed.protocol_type, listed.state, listed.members) for listed in groups] == [
        ("readers", "consumer", "Stable", 1),
        ("tools", "", "Empty", 0),
    ]
    assert describe(driver, "tools").state == "Empty"
    assert driver.delete("tools") == ErrorCode.NONE
    assert driver.coordinator.committed.facts == 1


def test_a_member_that_joins_while_its_group_is_deleted_goes_on_with_the_generations(driver: Driver) -> None:
    first, second = Client(driver), Client(driver)
    form(driver, first)
    first.commit(4)
    first.leave()
    driver.commit()
    driver.send(g.DeleteGroupRequest, group_id="readers", version=driver.version())
    form(driver, second)
    assert second.generation == 3
    assert fetched(driver) == {}
    driver.fail_over()
    assert second.heartbeat() is ErrorCode.NONE


def test_a_delete_that_the_log_refuses_leaves_the_group_as_it_was(driver: Driver) -> None:
    _outside(driver, 4)
    driver.commit()
    sent = driver.send(g.DeleteGroupRequest, group_id="readers", version=driver.version())
    driver.refuse(ErrorCode.KAFKA_STORAGE_ERROR)
    assert driver.answers[sent].error_code == ErrorCode.COORDINATOR_NOT_AVAILABLE
    assert fetched(driver) == {("orders", 0): 4}
    assert driver.delete() == ErrorCode.NONE


def test_a_group_is_deleted_without_a_look_at_its_version(driver: Driver) -> None:
    _outside(driver, 4)
    assert driver.ask(g.DeleteGroupRequest, group_id="readers", version=None).error_code == 0
    assert driver.coordinator.committed.facts == 0


# --- what was committed for some partitions ----------------------------------------------------
def _delete(driver: Driver, *places: tuple[str, int]) -> g.OffsetDeleteResponse:
    answer: g.OffsetDeleteResponse = driver.ask(g.OffsetDeleteRequest, group_id="readers", partitions=list(places))
    return answer


def _reader(driver: Driver, topic: str, **options: object) -> Client:
    return Client(driver, protocols=[("range", encode_subscription(Subscription((topic,))))], **options)


def test_offsets_are_deleted_one_by_one_and_those_on_their_way_too(driver: Driver) -> None:
    for partition in range(3):
        _outside(driver, 5, partition=partition)
    assert _delete(driver, ("orders", 0), ("orders", 2), ("orders", 7)).partition_error_codes == [0, 0, 0]
    assert fetched(driver) == {("orders", 1): 5}
    driver.fail_over()
    assert fetched(driver) == {("orders", 1): 5}
    assert _delete(driver, ("orders", 1)).error_code == 0
    assert _delete(driver, ("orders", 1)).error_code == ErrorCode.GROUP_ID_NOT_FOUND


def test_a_look_at_the_group_while_offsets_are_deleted_is_no_version_to_rely_on(driver: Driver) -> None:
    _outside(driver, 4)
    driver.commit()
    version = driver.version()
    driver.send(g.OffsetDeleteRequest, group_id="readers", partitions=[("orders", 0)])
    sent = _outside_of_version(driver, version)
    assert driver.answers[sent].error_code == ErrorCode.COORDINATOR_LOAD_IN_PROGRESS


def _outside_of_version(driver: Driver, version: bytes) -> int:
    committed = g.CommittedOffset(topic="orders", topic_id=TOPIC_ID, partition=1, offset=1)
    return driver.send(g.OffsetCommitRequest, group_id="readers", offsets=[committed], version=version)


def test_offsets_of_a_topic_that_members_read_are_kept(driver: Driver) -> None:
    _outside(driver, 5)
    _outside(driver, 6, topic="old")
    form(driver, _reader(driver, "orders"))
    codes = _delete(driver, ("orders", 0), ("old", 0)).partition_error_codes
    assert codes == [ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC, 0]
    assert fetched(driver) == {("orders", 0): 5}


def test_offsets_are_kept_while_nobody_can_say_what_the_members_read(driver: Driver) -> None:
    _outside(driver, 5)
    _reader(driver, "other").join()
    assert _delete(driver, ("orders", 0)).partition_error_codes == [ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC]
    driver.advance(60)
    form(driver, Client(driver, protocol_type="connect", protocols=[("range", b"")]))
    assert _delete(driver, ("orders", 0)).error_code == ErrorCode.NON_EMPTY_GROUP
    assert fetched(driver) == {("orders", 0): 5}


def test_offsets_expire_a_week_after_the_last_member_went(driver: Driver) -> None:
    week_s = limits.OFFSETS_RETENTION_MS / 1000
    member = Client(driver, session_timeout_ms=1_800_000)
    form(driver, member)
    member.commit(4)
    _outside(driver, 1, "tools")
    driver.commit()
    while driver.now_s < 2 * week_s:
        driver.advance(1_000)
        assert member.heartbeat() is ErrorCode.NONE
        driver.commit()
    assert describe(driver, "tools").state == "Dead"
    assert fetched(driver) == {("orders", 0): 4}, "a group with members keeps its offsets"
    member.leave()
    driver.commit()
    driver.fail_over()
    driver.advance(week_s - 1_000)
    driver.commit()
    assert fetched(driver) == {("orders", 0): 4}
    driver.advance(2_000)
    driver.commit()
    assert fetched(driver) == {}
    assert driver.coordinator.committed.facts == 0


def test_a_record_of_a_later_version_is_not_passed_over(driver: Driver) -> None:
    committed = driver.coordinator.committed
    with pytest.raises(CorruptLogError):
        committed.apply(encode(GroupKey("readers")), encode([2, "what this version cannot know"]))
    with pytest.raises(CorruptLogError):
        committed.apply(encode(["X", "readers"]), encode([1]))
