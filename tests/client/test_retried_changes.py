"""Changes whose first answer is lost, while others go on: the second attempt undoes nothing of theirs."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from raftlog import Admin, Consumer, Producer
from raftlog.client.admin import admin as admin_module
from raftlog.client.admin import requester
from raftlog.client.core.exchange import Exchange
from raftlog.errors import RequestTimedOutError, UnknownTopicOrPartitionError
from raftlog.node.local import LocalCluster
from raftlog.protocol import groups as g
from raftlog.protocol.envelope import decode_response
from raftlog.protocol.records import HIGH_WATERMARK, DeleteRecordsResponse
from raftlog.protocol.topics import NewTopic, TopicsResponse
from raftlog.types import EARLIEST_TIMESTAMP, Endpoint, TopicPartition

WAIT_S = 30.0


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

    @contextmanager
    def asking(self, cluster: LocalCluster, change: Callable[[Admin], Any]) -> Iterator[list[Any]]:
        """Within it the answer is lost; the result is there behind it."""
        results: list[Any] = []

        def run() -> None:
            with Admin(cluster.bootstrap, client_id="lossy") as admin:
                results.append(change(admin))

        thread = threading.Thread(target=run)
        thread.start()
        try:
            assert self.lost.wait(WAIT_S)
            yield results
        finally:
            self.go_on.set()
            thread.join(WAIT_S)
        assert results


@pytest.fixture
def lose(monkeypatch: pytest.MonkeyPatch) -> Callable[[type], Lossy]:
    for module in (requester, admin_module):
        monkeypatch.setattr(module, "ADMIN_ATTEMPT_S", 0.5)

    def lose(kind: type) -> Lossy:
        lossy = Lossy(kind)
        monkeypatch.setattr(Exchange, "answered", lambda self, endpoint, frames: lossy.answered(self, endpoint, frames))
        return lossy

    return lose


@pytest.fixture
def admin(cluster: LocalCluster) -> Iterator[Admin]:
    with Admin(cluster.bootstrap) as admin:
        yield admin


def make(admin: Admin, name: str) -> bytes:
    (result,) = admin.create_topics([NewTopic(name=name, replication_factor=1)])
    assert result.error_code == 0, result
    return result.topic_id


def new_name() -> str:
    return f"retried-{uuid.uuid4().hex[:8]}"


def test_a_deletion_asked_for_again_leaves_what_was_made_since(
    cluster: LocalCluster, admin: Admin, lose: Callable[[type], Lossy]
) -> None:
    name = new_name()
    old = make(admin, name)
    with lose(TopicsResponse).asking(cluster, lambda lossy: lossy.delete_topics([name])) as results:
        new = make(admin, name)
    assert [(result.error_code, result.topic_id) for result in results[0]] == [(0, old)]
    (found,) = admin.describe_topics([name])
    assert found.topic_id == new


def test_a_creation_asked_for_again_is_known_as_one_s_own(
    cluster: LocalCluster, admin: Admin, lose: Callable[[type], Lossy]
) -> None:
    name = new_name()
    wanted = [NewTopic(name=name, partitions=2, replication_factor=1)]
    with lose(TopicsResponse).asking(cluster, lambda lossy: lossy.create_topics(wanted)) as results:
        pass
    (result,) = results[0]
    (found,) = admin.describe_topics([name])
    assert (result.error_code, result.topic_id, result.partitions) == (0, found.topic_id, 2)
    (other,) = admin.create_topics(wanted)
    assert other.error_code != 0


def test_a_creation_asked_for_again_brings_back_no_topic_that_was_deleted_since(
    cluster: LocalCluster, admin: Admin, lose: Callable[[type], Lossy]
) -> None:
    name = new_name()
    wanted = [NewTopic(name=name, replication_factor=1)]
    with lose(TopicsResponse).asking(cluster, lambda lossy: lossy.create_topics(wanted)) as results:
        assert admin.delete_topics([name])[0].error_code == 0
    (result,) = results[0]
    assert "has been deleted since" in result.error_text
    assert admin.describe_topics([name])[0].error_code != 0


def test_settings_asked_for_again_leave_what_was_set_since(
    cluster: LocalCluster, admin: Admin, lose: Callable[[type], Lossy]
) -> None:
    name = new_name()
    make(admin, name)

    def change(lossy: Admin) -> bool:
        lossy.alter_topic(name, {"retention_ms": "100000"})
        return True

    with lose(TopicsResponse).asking(cluster, change):
        admin.alter_topic(name, {"retention_ms": "200000"})
    (found,) = admin.describe_topics([name])
    assert found.config["retention_ms"] == 200_000


def test_partitions_asked_for_again_are_made_once(
    cluster: LocalCluster, admin: Admin, lose: Callable[[type], Lossy]
) -> None:
    name = new_name()
    make(admin, name)
    with lose(TopicsResponse).asking(cluster, lambda lossy: lossy.create_partitions(name, 2)) as results:
        admin.create_partitions(name, 3)
    assert (results[0].error_code, results[0].partitions) == (0, 3)


def test_records_are_deleted_again_in_no_topic_made_since(
    cluster: LocalCluster, admin: Admin, lose: Callable[[type], Lossy]
) -> None:
    name = new_name()
    make(admin, name)
    place = TopicPartition(name, 0)

    def fill() -> None:
        with Producer(cluster.bootstrap) as producer:
            sent = [producer.send(name, b"%d" % number) for number in range(5)]
            assert [each.result(WAIT_S).offset for each in sent] == [0, 1, 2, 3, 4]

    def change(lossy: Admin) -> str:
        with pytest.raises(UnknownTopicOrPartitionError, match="made anew"):
            lossy.delete_records({place: HIGH_WATERMARK})
        return "refused"

    fill()
    with lose(DeleteRecordsResponse).asking(cluster, change):
        admin.delete_topics([name])
        make(admin, name)
        fill()
    assert admin.list_offsets({place: EARLIEST_TIMESTAMP}) == {place: 0}


def test_a_group_s_deletion_asked_for_again_leaves_the_one_made_since(
    cluster: LocalCluster, admin: Admin, lose: Callable[[type], Lossy]
) -> None:
    name = new_name()
    make(admin, name)
    place = TopicPartition(name, 0)
    admin.set_group_offsets(name, {place: 3})

    def change(lossy: Admin) -> str:
        with pytest.raises(RequestTimedOutError, match="was used by others since"):
            lossy.delete_group(name)
        return "unknown"

    with lose(g.DeleteGroupResponse).asking(cluster, change):
        admin.set_group_offsets(name, {place: 5})
    assert admin.group_offsets(name) == {place: 5}


def test_a_group_s_deletion_asked_for_again_is_done(
    cluster: LocalCluster, admin: Admin, lose: Callable[[type], Lossy]
) -> None:
    name = new_name()
    make(admin, name)
    admin.set_group_offsets(name, {TopicPartition(name, 0): 3})
    with lose(g.DeleteGroupResponse).asking(cluster, lambda lossy: lossy.delete_group(name)) as results:
        pass
    assert results == [None]
    assert admin.group_offsets(name) == {}


def test_offsets_set_again_take_back_nothing_that_was_committed_since(
    cluster: LocalCluster, admin: Admin, lose: Callable[[type], Lossy]
) -> None:
    name = new_name()
    make(admin, name)
    place = TopicPartition(name, 0)

    def change(lossy: Admin) -> str:
        with pytest.raises(RequestTimedOutError, match="was used by others since"):
            lossy.set_group_offsets(name, {place: 0})
        return "unknown"

    with lose(g.OffsetCommitResponse).asking(cluster, change):
        with Producer(cluster.bootstrap) as producer:
            producer.send(name, b"one").result(WAIT_S)
        with Consumer(name, bootstrap_servers=cluster.bootstrap, group_id=name) as consumer:
            records = next(iter(consumer.poll(timeout_ms=WAIT_S * 1000).values()))
            assert len(records) == 1
            consumer.commit()
    assert admin.group_offsets(name) == {place: 1}


def test_offsets_set_again_are_known_as_one_s_own(
    cluster: LocalCluster, admin: Admin, lose: Callable[[type], Lossy]
) -> None:
    name = new_name()
    make(admin, name)
    place = TopicPartition(name, 0)
    with lose(g.OffsetCommitResponse).asking(
        cluster, lambda lossy: lossy.set_group_offsets(name, {place: 7})
    ) as results:
        pass
    assert results == [None]
    assert admin.group_offsets(name) == {place: 7}
