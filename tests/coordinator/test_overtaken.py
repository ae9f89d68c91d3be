"""Requests that come again, or late: what others have committed since stays."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from raftlog.errors import ErrorCode
from raftlog.protocol import groups as g
from tests.coordinator.driver import TOPIC_ID, Client, Driver, fetched, form


@pytest.fixture
def driver() -> Driver:
    return Driver()


def commit(driver: Driver, offset: int, **fields: Any) -> int:
    """From outside of the group; the correlation id."""
    offsets = [g.CommittedOffset(topic="orders", topic_id=TOPIC_ID, partition=0, offset=offset)]
    return driver.send(g.OffsetCommitRequest, group_id="readers", offsets=offsets, **fields)


def code_of(driver: Driver, sent: int) -> ErrorCode:
    driver.commit()
    return ErrorCode(driver.answers[sent].error_code)


@pytest.mark.parametrize("fail_over", [False, True])
def test_a_deletion_that_comes_again_leaves_the_group_made_anew(driver: Driver, fail_over: bool) -> None:
    commit(driver, 4)
    driver.commit()
    version = driver.version()
    assert driver.ask(g.DeleteGroupRequest, group_id="readers", version=version).error_code == 0
    again = driver.ask(g.DeleteGroupRequest, group_id="readers", version=version)
    assert again.error_code == ErrorCode.GROUP_ID_NOT_FOUND
    driver.advance(1.0)
    commit(driver, 4)
    driver.commit()
    if fail_over:
        driver.fail_over()
    refused = driver.ask(g.DeleteGroupRequest, group_id="readers", version=version)
    assert refused.error_code == ErrorCode.INVALID_UPDATE_VERSION
    assert fetched(driver) == {("orders", 0): 4}


def test_offsets_set_again_take_back_nothing_that_a_member_has_committed_since(driver: Driver) -> None:
    commit(driver, 4)
    driver.commit()
    version = driver.version()
    assert code_of(driver, commit(driver, 2, version=version)) == ErrorCode.NONE
    member = Client(driver)
    form(driver, member)
    member.commit(9)
    member.leave()
    driver.commit()
    assert code_of(driver, commit(driver, 2, version=version)) == ErrorCode.INVALID_UPDATE_VERSION
    assert fetched(driver) == {("orders", 0): 9}
    assert code_of(driver, commit(driver, 2, version=driver.version())) == ErrorCode.NONE
    assert fetched(driver) == {("orders", 0): 2}


def test_a_group_that_is_not_there_has_a_version_too(driver: Driver) -> None:
    assert driver.version() == b""
    assert code_of(driver, commit(driver, 2, version=b"")) == ErrorCode.NONE
    assert code_of(driver, commit(driver, 1, version=b"")) == ErrorCode.INVALID_UPDATE_VERSION
    assert fetched(driver) == {("orders", 0): 2}


def test_a_change_waits_for_what_is_on_its_way_to_the_log(driver: Driver) -> None:
    commit(driver, 4)
    driver.commit()
    version = driver.version()
    commit(driver, 5)
    deletion = driver.send(g.DeleteGroupRequest, group_id="readers", version=version)
    setting = commit(driver, 1, version=version)
    for sent in (deletion, setting):
        assert driver.answers[sent].error_code == ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
    driver.commit()
    assert fetched(driver) == {("orders", 0): 5}


@pytest.mark.parametrize("applied", [False, True])
def test_a_commit_that_comes_late_does_not_take_back_a_later_one(driver: Driver, applied: bool) -> None:
    """A frame of a connection that broke is read after what the consumer has sent over the next one."""
    own = {"committer_id": 77}
    first = commit(driver, 4, **own, sequence=1)
    again = commit(driver, 4, **own, sequence=1)
    later = commit(driver, 9, **own, sequence=2)
    if applied:
        driver.commit()
        driver.fail_over()  # the order is in the log
    late = commit(driver, 4, **own, sequence=1)
    if applied:
        assert [driver.answers[sent].error_code for sent in (first, again, later)] == [0, 0, 0]
    assert code_of(driver, late) == ErrorCode.INVALID_UPDATE_VERSION
    assert fetched(driver) == {("orders", 0): 9}


def test_another_consumer_s_commits_have_an_order_of_their_own(driver: Driver) -> None:
    commit(driver, 9, committer_id=77, sequence=5)
    driver.commit()
    assert code_of(driver, commit(driver, 4, committer_id=78, sequence=1)) == ErrorCode.NONE
    assert code_of(driver, commit(driver, 3)) == ErrorCode.NONE
    assert fetched(driver) == {("orders", 0): 3}


def test_an_offset_of_before_commits_were_numbered_is_read_and_replaced(driver: Driver) -> None:
    commit(driver, 4)
    driver.commit()
    ((key, value),) = driver.log
    assert value is not None
    driver.log = [(key, msgspec.msgpack.encode(msgspec.msgpack.decode(value)[:-2]))]
    driver.fail_over()
    assert fetched(driver) == {("orders", 0): 4}
    assert code_of(driver, commit(driver, 5, committer_id=77, sequence=1)) == ErrorCode.NONE
    assert fetched(driver) == {("orders", 0): 5}
