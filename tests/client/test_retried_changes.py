"""Changes whose first answer is lost, while others go on: the second attempt undoes nothing of theirs."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest

from raftlog import Admin, Consumer, Producer
from raftlog.client.admin import admin as admin_module
from raftlog.client.admin import requester
from raftlog.client.core.exchange import Exchange
from raftlog.errors import (
    RaftlogError,
    RequestTimedOutError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
)
from raftlog.node.local import LocalCluster
from raftlog.protocol import groups as g
from raftlog.protocol.envelope import decode_response
from raftlog.protocol.records import HIGH_WATERMARK, DeleteRecordsResponse
from raftlog.protocol.topics import NewTopic, TopicsResponse
from raftlog.types import EARLIEST_TIMESTAMP, Endpoint, TopicPartition
from tests.patience import WAIT_S


class Lossy:
    """Clients named `lossy` lose the first answer of one kind; `lost` is set then, and they ask again after it."""

    def __init__(self, kind: type) -> None:
        self.lost = threading.Event()
        self.go_on = threading.Event()
        self._kind = kind
        self._answered = Exchange.answered

    def answered(self, exchange: Exchange, endpoint: Endpoint, frames: list[bytes]) -> None:
        first = exchange._client_id == "lossy" and not self.lost.is_set()
        if first and isinstance(decode_response(frames[0])[2], self._kind):
            self.lost.set()
            assert self.go_on.wait(WAIT_S)
        else:
            self._answered(exchange, endpoint, frames)


Losing = Callable[[type, Callable[[Admin], Any]], AbstractContextManager[list[Any]]]


@pytest.fixture
def losing(cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch) -> Losing:
    """`with losing(kind, change) as outcome:` within it the first answer of that kind is lost to the change.

    Behind it the change has been asked for again, and `outcome` holds the one thing that it returned or raised.
    """
    for module in (requester, admin_module):
        monkeypatch.setattr(module, "ADMIN_ATTEMPT_S", 0.5)

    @contextmanager
    def losing(kind: type, change: Callable[[Admin], Any]) -> Iterator[list[Any]]:
        lossy = Lossy(kind)
        monkeypatch.setattr(Exchange, "answered", lambda self, endpoint, frames: lossy.answered(self, endpoint, frames))
        outcome: list[Any] = []

        def run() -> None:
            with Admin(cluster.bootstrap, client_id="lossy") as admin:
                try:
                    outcome.append(change(admin))
                except RaftlogError as error:
                    outcome.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            assert lossy.lost.wait(WAIT_S)
            yield outcome
        finally:
            lossy.go_on.set()
            thread.join(WAIT_S)
        assert outcome

    return losing


@pytest.fixture
def admin(cluster: LocalCluster) -> Iterator[Admin]:
    with Admin(cluster.bootstrap) as admin:
        yield admin


@pytest.fixture
def name() -> str:
    return f"retried-{uuid.uuid4().hex[:8]}"


def make(admin: Admin, name: str) -> bytes:
    (result,) = admin.create_topics([NewTopic(name=name, replication_factor=1)])
    return result.topic_id


@pytest.fixture
def topic(admin: Admin, name: str) -> bytes:
    """One of that name is there; its id."""
    return make(admin, name)


@pytest.fixture
def place(topic: bytes, name: str) -> TopicPartition:
    """The one partition of that topic."""
    return TopicPartition(name, 0)


def test_a_deletion_asked_for_again_leaves_what_was_made_since(
    admin: Admin, name: str, topic: bytes, losing: Losing
) -> None:
    with losing(TopicsResponse, lambda lossy: lossy.delete_topics([name])) as outcome:
        new = make(admin, name)
    assert [result.topic_id for result in outcome[0]] == [topic]
    (found,) = admin.describe_topics([name])
    assert found.topic_id == new


def test_a_creation_asked_for_again_is_known_as_one_s_own(admin: Admin, name: str, losing: Losing) -> None:
    wanted = [NewTopic(name=name, partitions=2, replication_factor=1)]
    with losing(TopicsResponse, lambda lossy: lossy.create_topics(wanted)) as outcome:
        pass
    (result,) = outcome[0]
    (found,) = admin.describe_topics([name])
    assert (result.topic_id, result.partitions) == (found.topic_id, 2)
    with pytest.raises(TopicAlreadyExistsError):
        admin.create_topics(wanted)


def test_a_creation_asked_for_again_brings_back_no_topic_that_was_deleted_since(
    admin: Admin, name: str, losing: Losing
) -> None:
    wanted = [NewTopic(name=name, replication_factor=1)]
    with losing(TopicsResponse, lambda lossy: lossy.create_topics(wanted)) as outcome:
        admin.delete_topics([name])
    assert "has been deleted since" in str(outcome[0])
    with pytest.raises(UnknownTopicOrPartitionError):
        admin.describe_topics([name])


def test_settings_asked_for_again_leave_what_was_set_since(
    admin: Admin, name: str, topic: bytes, losing: Losing
) -> None:
    with losing(TopicsResponse, lambda lossy: lossy.alter_topic(name, {"retention_ms": "100000"})) as outcome:
        admin.alter_topic(name, {"retention_ms": "200000"})
    assert outcome == [None]
    (found,) = admin.describe_topics([name])
    assert found.config["retention_ms"] == 200_000


def test_partitions_asked_for_again_are_made_once(admin: Admin, name: str, topic: bytes, losing: Losing) -> None:
    with losing(TopicsResponse, lambda lossy: lossy.create_partitions(name, 2)) as outcome:
        admin.create_partitions(name, 3)
    assert outcome[0].partitions == 3


def test_records_are_deleted_again_in_no_topic_made_since(
    cluster: LocalCluster, admin: Admin, name: str, place: TopicPartition, losing: Losing
) -> None:
    def fill() -> None:
        with Producer(cluster.bootstrap) as producer:
            sent = [producer.send(name, b"%d" % number) for number in range(5)]
            assert [each.result(WAIT_S).offset for each in sent] == [0, 1, 2, 3, 4]

    fill()
    with losing(DeleteRecordsResponse, lambda lossy: lossy.delete_records({place: HIGH_WATERMARK})) as outcome:
        admin.delete_topics([name])
        make(admin, name)
        fill()
    assert isinstance(outcome[0], UnknownTopicOrPartitionError)
    assert "made anew" in str(outcome[0])
    assert "it may have been done all the same" in str(outcome[0])
    assert outcome[0].results == {place: outcome[0]}
    assert admin.list_offsets({place: EARLIEST_TIMESTAMP}) == {place: 0}


def test_a_group_s_deletion_asked_for_again_leaves_the_one_made_since(
    admin: Admin, name: str, place: TopicPartition, losing: Losing
) -> None:
    admin.set_group_offsets(name, {place: 3})
    with losing(g.DeleteGroupResponse, lambda lossy: lossy.delete_group(name)) as outcome:
        admin.set_group_offsets(name, {place: 5})
    assert isinstance(outcome[0], RequestTimedOutError)
    assert "was used by others since" in str(outcome[0])
    assert admin.group_offsets(name) == {place: 5}


def test_a_group_s_deletion_asked_for_again_is_done(
    admin: Admin, name: str, place: TopicPartition, losing: Losing
) -> None:
    admin.set_group_offsets(name, {place: 3})
    with losing(g.DeleteGroupResponse, lambda lossy: lossy.delete_group(name)) as outcome:
        pass
    assert outcome == [None]
    assert admin.group_offsets(name) == {}


def test_offsets_set_again_take_back_nothing_that_was_committed_since(
    cluster: LocalCluster, admin: Admin, name: str, place: TopicPartition, losing: Losing
) -> None:
    with losing(g.OffsetCommitResponse, lambda lossy: lossy.set_group_offsets(name, {place: 0})) as outcome:
        with Producer(cluster.bootstrap) as producer:
            producer.send(name, b"one").result(WAIT_S)
        with Consumer(name, bootstrap_servers=cluster.bootstrap, group_id=name) as consumer:
            records = next(iter(consumer.poll(timeout_ms=WAIT_S * 1000).values()))
            assert len(records) == 1
            consumer.commit()
    assert isinstance(outcome[0], RequestTimedOutError)
    assert "was used by others since" in str(outcome[0])
    assert admin.group_offsets(name) == {place: 1}


def test_offsets_set_again_are_known_as_one_s_own(
    admin: Admin, name: str, place: TopicPartition, losing: Losing
) -> None:
    with losing(g.OffsetCommitResponse, lambda lossy: lossy.set_group_offsets(name, {place: 7})) as outcome:
        pass
    assert outcome == [None]
    assert admin.group_offsets(name) == {place: 7}


def test_a_change_without_an_answer_says_that_it_may_have_been_made(
    admin: Admin, cluster: LocalCluster, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered = Exchange.answered

    def lose_all(exchange: Exchange, endpoint: Endpoint, frames: list[bytes]) -> None:
        if not isinstance(decode_response(frames[0])[2], TopicsResponse) or exchange._client_id != "lossy":
            answered(exchange, endpoint, frames)

    monkeypatch.setattr(Exchange, "answered", lose_all)
    with (
        Admin(cluster.bootstrap, client_id="lossy", request_timeout_ms=1500) as lossy,
        pytest.raises(RaftlogError, match="create topics: it may have been done all the same") as caught,
    ):
        lossy.create_topics([NewTopic(name=name, replication_factor=1)])
    assert caught.value.outcome_unknown
    assert name in admin.list_topics()
