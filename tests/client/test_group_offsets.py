"""Commits in order, as the member that read; and where partitions begin."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import pytest

from raftlog.client.core.call import Calls
from raftlog.client.fetcher.fetcher import Fetcher
from raftlog.client.group.coordinator_finder import CoordinatorFinder
from raftlog.client.group.member_tasks import Identity
from raftlog.client.group.offsets import GroupOffsets, OffsetAndMetadata
from raftlog.errors import CommitFailedError, ErrorCode, InvalidGroupIdError, RequestTimedOutError
from raftlog.limits import GROUP_RETRY_S
from raftlog.protocol import groups as g
from raftlog.protocol.cluster import MetadataResponse, TopicMetadata
from raftlog.protocol.records import FetchRequest, ListOffsetsRequest
from raftlog.types import EARLIEST_TIMESTAMP, LATEST_TIMESTAMP, OFFSETS_TOPIC, Endpoint, TopicPartition
from tests.client.fake_wire import NODE, TOPIC_ID, WORKER_A, WORKER_B, FakeCluster, Sent, metadata

T0, T1 = TopicPartition("t", 0), TopicPartition("t", 1)


class Committing(FakeCluster):
    def __init__(self, reset_policy: str = "earliest") -> None:
        super().__init__(NODE, WORKER_A, WORKER_B)
        self.identity = Identity("me", 1, 0)
        self.calls = Calls(self.exchange, self.cache, self.refresher)
        self.fetcher = Fetcher(
            self.exchange,
            self.cache,
            self.refresher,
            reset_policy=reset_policy,
            min_bytes=1,
            max_wait_ms=500,
            partition_bytes=1000,
            buffer_bytes=3000,
            request_timeout_s=30.0,
            on_data=lambda: None,
        )
        self.fetcher.begins_committed = True
        self.coordinator = CoordinatorFinder(self.calls, "group", lambda: None)
        self.offsets = GroupOffsets(
            "group",
            self.coordinator,
            self.cache,
            self.refresher,
            self.fetcher,
            lambda: self.identity,
            lambda: None,
            group_instance_id=None,
            request_timeout_s=30.0,
        )
        self.know(partitions=2)
        self.know_coordinator(WORKER_B, 1)
        self.step()

    def know_coordinator(self, endpoint: Endpoint, epoch: int) -> None:
        (partition,) = metadata(endpoint, epoch).topics[0].partitions
        offsets = TopicMetadata(name=OFFSETS_TOPIC, topic_id=b"o" * 16, error_code=0, partitions=[partition], config={})
        response = MetadataResponse(controller=NODE, topics=[offsets], confirmed=True)
        self.cache.update(response, self.now_s)

    def step(self, seconds: float = 0.0) -> None:
        self.now_s += seconds
        for _ in range(2):
            with self.fetcher.lock:
                self.offsets.step(self.now_s)
                self.coordinator.step(self.now_s)
            self.calls.step(self.now_s)

    def run(self, seconds: float) -> None:
        """Round by round, as the client's thread."""
        end_s = self.now_s + seconds
        while self.now_s < end_s:
            self.exchange.expire(self.now_s)
            self.step(0.05)

    def find_coordinator(self) -> None:
        self.step()
        (sent,) = self.wire.take(g.FindCoordinatorRequest)
        self.told(sent, g.FindCoordinatorResponse, topic_id=b"o" * 16, partitions=1)
        self.step()

    def told(self, sent: Sent, kind: Any, **fields: Any) -> None:
        self.answer(sent, kind(**fields))
        self.step()

    def commit(self, offset: int, within_s: float = 30.0, place: TopicPartition = T0) -> Future[None]:
        future = self.offsets.commit({place: OffsetAndMetadata(offset)}, self.now_s + within_s)
        self.step()
        return future

    def find_coordinator_by(self, found: OffsetAndMetadata) -> None:
        self.offsets.commit({T0: found}, self.now_s + 30.0)
        self.find_coordinator()

    def sent_commit(self) -> tuple[Sent, Any]:
        (sent,) = self.wire.take(g.OffsetCommitRequest)
        return sent, sent.request


def test_a_commit_that_is_sent_again_takes_back_nothing_that_went_with_it() -> None:
    """A later one ran out of time first, and may have been committed."""
    cluster = Committing()
    cluster.commit(163)
    patient = cluster.commit(187)
    hasty = cluster.commit(203, within_s=5.0)
    cluster.find_coordinator()
    cluster.told(cluster.sent_commit()[0], g.OffsetCommitResponse)
    _, request = cluster.sent_commit()
    assert [entry.offset for entry in request.offsets] == [203]
    cluster.run(5.1)
    cluster.know_coordinator(WORKER_A, 2)
    cluster.run(1.0)
    assert isinstance(hasty.exception(0), RequestTimedOutError) and not patient.done()
    sent, request = cluster.sent_commit()
    assert [entry.offset for entry in request.offsets] == [203]
    cluster.told(sent, g.OffsetCommitResponse)
    assert patient.result(0) is None


def test_a_commit_of_a_membership_that_ended_speaks_for_no_generation_of_the_next_one() -> None:
    """The coordinator died before it had committed generation 2, and its successor counts that number again."""
    cluster = Committing()
    cluster.identity = Identity("me", 2, 0)
    lost = cluster.commit(546)
    cluster.find_coordinator()
    cluster.sent_commit()
    cluster.identity = Identity("me", 2, 1)
    cluster.run(5.1)
    cluster.know_coordinator(WORKER_A, 2)
    cluster.run(1.0)
    sent, request = cluster.sent_commit()
    assert (request.member_id, request.generation_id) == ("me", -1)
    cluster.told(sent, g.OffsetCommitResponse, error_code=ErrorCode.ILLEGAL_GENERATION)
    assert isinstance(lost.exception(0), CommitFailedError)


def test_commits_wait_for_the_coordinator_and_go_one_after_the_other() -> None:
    cluster = Committing()
    first = cluster.commit(5)
    assert not cluster.wire.take(g.OffsetCommitRequest)
    cluster.find_coordinator()
    second = cluster.commit(7)
    sent, request = cluster.sent_commit()
    assert sent.endpoint == WORKER_B
    assert [(entry.offset, entry.topic_id) for entry in request.offsets] == [(5, TOPIC_ID)]
    cluster.told(sent, g.OffsetCommitResponse)
    assert first.done() and not second.done()
    sent, request = cluster.sent_commit()
    assert request.offsets[0].offset == 7
    cluster.told(sent, g.OffsetCommitResponse)
    assert second.result(0) is None
    assert cluster.offsets.committed == {(TOPIC_ID, 0): 7}


def test_commits_that_wait_go_together_and_the_last_of_a_partition_counts() -> None:
    cluster = Committing()
    cluster.commit(1)
    cluster.find_coordinator()
    under_way, _ = cluster.sent_commit()
    futures = [cluster.commit(5), cluster.commit(9, place=T1), cluster.commit(7), cluster.commit(6)]
    cluster.told(under_way, g.OffsetCommitResponse)
    sent, request = cluster.sent_commit()
    assert {entry.partition: entry.offset for entry in request.offsets} == {0: 6, 1: 9}
    assert not any(future.done() for future in futures)
    cluster.told(sent, g.OffsetCommitResponse)
    assert [future.result(0) for future in futures] == [None] * 4
    assert cluster.offsets.committed == {(TOPIC_ID, 0): 6, (TOPIC_ID, 1): 9}
    assert not cluster.wire.take(g.OffsetCommitRequest)


def test_commits_that_went_together_are_refused_together_and_tried_again_in_order() -> None:
    cluster = Committing()
    futures = [cluster.commit(5), cluster.commit(9, place=T1)]
    cluster.find_coordinator()
    sent, _ = cluster.sent_commit()
    cluster.told(sent, g.OffsetCommitResponse, error_code=ErrorCode.REBALANCE_IN_PROGRESS)
    futures.append(cluster.commit(7))
    cluster.step(GROUP_RETRY_S)
    sent, request = cluster.sent_commit()
    assert {entry.partition: entry.offset for entry in request.offsets} == {0: 7, 1: 9}
    cluster.told(sent, g.OffsetCommitResponse, error_code=ErrorCode.INVALID_GROUP_ID)
    assert all(isinstance(future.exception(0), InvalidGroupIdError) for future in futures)


def test_a_commit_under_way_with_others_ends_in_its_own_time_and_they_go_on() -> None:
    cluster = Committing()
    short, long = cluster.commit(5, 5.0), cluster.commit(9, 30.0, T1)
    cluster.find_coordinator()
    cluster.sent_commit()
    cluster.run(5.1)
    with pytest.raises(RequestTimedOutError):
        short.result(0)
    assert not long.done()
    cluster.know_coordinator(WORKER_B, 1)
    cluster.step(1.0)
    sent, request = cluster.sent_commit()
    assert {entry.partition: entry.offset for entry in request.offsets} == {1: 9}
    cluster.told(sent, g.OffsetCommitResponse)
    assert long.result(0) is None


def test_commits_of_two_tenures_do_not_go_together() -> None:
    cluster = Committing()
    before = cluster.commit(5)
    cluster.identity = Identity("me again", 3, 1)
    after = cluster.commit(2)
    cluster.find_coordinator()
    sent, request = cluster.sent_commit()
    assert (request.member_id, request.offsets[0].offset) == ("me", 5)
    cluster.told(sent, g.OffsetCommitResponse, error_code=ErrorCode.UNKNOWN_MEMBER_ID)
    sent, request = cluster.sent_commit()
    assert (request.member_id, request.offsets[0].offset) == ("me again", 2)
    cluster.told(sent, g.OffsetCommitResponse)
    assert isinstance(before.exception(0), CommitFailedError) and after.result(0) is None


def test_a_commit_during_a_rebalance_is_tried_again_as_the_member_of_the_new_generation() -> None:
    cluster = Committing()
    future = cluster.commit(5)
    cluster.find_coordinator()
    sent, request = cluster.sent_commit()
    assert request.generation_id == 1
    cluster.told(sent, g.OffsetCommitResponse, error_code=ErrorCode.REBALANCE_IN_PROGRESS)
    cluster.identity = Identity("me", 2, 0)
    cluster.step(GROUP_RETRY_S)
    sent, request = cluster.sent_commit()
    assert request.generation_id == 2
    cluster.told(sent, g.OffsetCommitResponse)
    assert future.result(0) is None


def test_what_was_read_before_a_loss_is_never_committed_by_the_member_that_comes_back() -> None:
    cluster = Committing()
    future = cluster.commit(5)
    cluster.identity = Identity("somebody new", 3, 1)
    cluster.find_coordinator()
    sent, request = cluster.sent_commit()
    assert (request.member_id, request.generation_id) == ("me", 1)
    cluster.told(sent, g.OffsetCommitResponse, error_code=ErrorCode.UNKNOWN_MEMBER_ID)
    with pytest.raises(CommitFailedError):
        future.result(0)
    assert cluster.offsets.committed == {}


def test_what_was_given_up_since_is_not_committed_in_a_generation_of_its_next_owner() -> None:
    cluster = Committing()
    future = cluster.commit(5)
    cluster.find_coordinator()
    sent, _ = cluster.sent_commit()
    cluster.told(sent, g.OffsetCommitResponse, error_code=ErrorCode.REBALANCE_IN_PROGRESS)
    cluster.offsets.gave_up(frozenset({T0}))
    cluster.identity = Identity("me", 2, 0)
    cluster.step(GROUP_RETRY_S)
    sent, request = cluster.sent_commit()
    assert request.generation_id == 1
    cluster.told(sent, g.OffsetCommitResponse, error_code=ErrorCode.ILLEGAL_GENERATION)
    assert isinstance(future.exception(0), CommitFailedError)


def test_what_is_given_up_while_it_is_committed_does_not_fail_what_is_kept() -> None:
    cluster = Committing()
    given_up, kept = cluster.commit(5), cluster.commit(9, place=T1)
    cluster.find_coordinator()
    sent, _ = cluster.sent_commit()
    cluster.told(sent, g.OffsetCommitResponse, error_code=ErrorCode.NOT_COORDINATOR)
    cluster.offsets.gave_up(frozenset({T0}))
    cluster.identity = Identity("me", 2, 0)
    cluster.know_coordinator(WORKER_A, 2)
    cluster.step(1.0)
    sent, request = cluster.sent_commit()
    assert request.generation_id == 1
    cluster.told(sent, g.OffsetCommitResponse, error_code=ErrorCode.ILLEGAL_GENERATION)
    assert isinstance(given_up.exception(0), CommitFailedError) and not kept.done()
    sent, request = cluster.sent_commit()
    assert (request.generation_id, [entry.partition for entry in request.offsets]) == (2, [1])
    cluster.told(sent, g.OffsetCommitResponse)
    assert kept.result(0) is None
    assert cluster.offsets.committed == {(TOPIC_ID, 1): 9}


def test_a_commit_that_waits_behind_another_ends_in_its_own_time() -> None:
    cluster = Committing()
    first, second = cluster.commit(5, 30.0), cluster.commit(7, 5.0)
    cluster.step(5.0)
    with pytest.raises(RequestTimedOutError):
        second.result(0)
    assert not first.done()


def test_a_partition_begins_where_the_group_committed_or_as_the_reset_policy_says() -> None:
    cluster = Committing()
    with cluster.fetcher.lock:
        cluster.fetcher.assign([T0, T1])
    cluster.find_coordinator()
    (sent,) = cluster.wire.take(g.OffsetFetchRequest)
    found = [g.CommittedOffset(topic="t", topic_id=TOPIC_ID, partition=0, offset=42)]
    cluster.told(sent, g.OffsetFetchResponse, offsets=found)
    assert cluster.fetcher.states[T0].position == 42
    assert cluster.fetcher.states[T1].reset == "earliest"
    assert not cluster.wire.take(g.OffsetFetchRequest)


def test_the_offset_of_a_topic_that_was_made_anew_since_counts_for_nothing() -> None:
    cluster = Committing()
    cluster.fetcher.assign([T0])
    cluster.find_coordinator()
    (sent,) = cluster.wire.take(g.OffsetFetchRequest)
    found = [g.CommittedOffset(topic="t", topic_id=b"of an older one.", partition=0, offset=42)]
    cluster.told(sent, g.OffsetFetchResponse, offsets=found)
    assert cluster.fetcher.states[T0].unplaced, "it may be of a newer one, of which was not heard yet"
    cluster.refresher.answered_s = cluster.now_s
    cluster.step()
    assert cluster.fetcher.states[T0].reset == "earliest"


def test_an_offset_of_a_topic_made_anew_that_was_not_heard_of_yet_is_where_the_member_begins() -> None:
    """From the first record on it would commit less than the group has."""
    cluster = Committing()
    cluster.fetcher.assign([T0])
    cluster.find_coordinator()
    (sent,) = cluster.wire.take(g.OffsetFetchRequest)
    found = [g.CommittedOffset(topic="t", topic_id=b"of a newer topic", partition=0, offset=42)]
    cluster.told(sent, g.OffsetFetchResponse, offsets=found)
    cluster.step(1.0)
    assert cluster.fetcher.states[T0].unplaced
    cluster.know(topic_id=b"of a newer topic")
    cluster.refresher.answered_s = cluster.now_s
    cluster.step()
    cluster.fetcher.step(cluster.now_s)
    assert cluster.fetcher.states[T0].position == 42


def test_a_topic_made_anew_while_its_offset_is_asked_for_begins_where_the_group_committed() -> None:
    cluster = Committing()
    cluster.fetcher.assign([T0])
    cluster.find_coordinator()
    (sent,) = cluster.wire.take(g.OffsetFetchRequest)
    cluster.know(topic_id=b"of a newer topic")
    found = [g.CommittedOffset(topic="t", topic_id=b"of a newer topic", partition=0, offset=42)]
    cluster.told(sent, g.OffsetFetchResponse, offsets=found)
    cluster.fetcher.step(cluster.now_s)
    assert cluster.fetcher.states[T0].position == 42


def test_a_seek_while_the_committed_offset_is_asked_for_wins() -> None:
    cluster = Committing()
    cluster.fetcher.assign([T0])
    cluster.find_coordinator()
    (sent,) = cluster.wire.take(g.OffsetFetchRequest)
    cluster.fetcher.states[T0].move(7)
    found = [g.CommittedOffset(topic="t", topic_id=TOPIC_ID, partition=0, offset=42)]
    cluster.told(sent, g.OffsetFetchResponse, offsets=found)
    assert cluster.fetcher.states[T0].position == 7


def test_a_group_that_may_not_be_asked_is_an_error_of_the_partition() -> None:
    cluster = Committing()
    cluster.fetcher.assign([T0])
    cluster.find_coordinator()
    (sent,) = cluster.wire.take(g.OffsetFetchRequest)
    cluster.told(sent, g.OffsetFetchResponse, error_code=ErrorCode.INVALID_GROUP_ID)
    assert isinstance(cluster.fetcher.states[T0].error, InvalidGroupIdError)


def test_a_coordinator_that_moved_is_followed() -> None:
    cluster = Committing()
    future = cluster.commit(5)
    cluster.find_coordinator()
    sent, _ = cluster.sent_commit()
    cluster.told(sent, g.OffsetCommitResponse, error_code=ErrorCode.NOT_COORDINATOR)
    assert cluster.cache.leader(OFFSETS_TOPIC, 0) is None
    cluster.know_coordinator(WORKER_A, 2)
    cluster.step(1.0)
    sent, _ = cluster.sent_commit()
    assert sent.endpoint == WORKER_A
    cluster.told(sent, g.OffsetCommitResponse)
    assert future.result(0) is None


def begin_latest(found: list[g.CommittedOffset], *, partitions: int = 2) -> tuple[Committing, list[Sent]]:
    """T0 and T1 are assigned by the group, whose member subscribed when there were `partitions`."""
    cluster = Committing("latest")
    cluster.know_nothing()
    cluster.know(partitions=partitions)
    cluster.fetcher.assigned_by_group = True
    with cluster.fetcher.lock:
        cluster.fetcher.beginnings.choose(["t"])
        cluster.know(partitions=2)
        cluster.fetcher.assign([T0, T1])
    cluster.find_coordinator()
    (sent,) = cluster.wire.take(g.OffsetFetchRequest)
    cluster.told(sent, g.OffsetFetchResponse, offsets=found)
    cluster.fetcher.step(cluster.now_s)
    return cluster, cluster.wire.take(ListOffsetsRequest)


def committed(partition: int, begun_partitions: int, topic_id: bytes = TOPIC_ID) -> g.CommittedOffset:
    return g.CommittedOffset(
        topic="t", topic_id=topic_id, partition=partition, offset=42, begun_partitions=begun_partitions
    )


def timestamps(asked: list[Sent]) -> list[int]:
    return [each.request.timestamp_ms for each in asked if isinstance(each.request, ListOffsetsRequest)]


def test_with_latest_a_partition_that_came_after_the_group_began_is_read_from_its_first_record() -> None:
    """Also by a member that subscribed when the partition was there already."""
    cluster, asked = begin_latest([committed(0, begun_partitions=1)])
    assert timestamps(asked) == [EARLIEST_TIMESTAMP]
    cluster.commit(5, place=T1)
    _, request = cluster.sent_commit()
    assert [each.begun_partitions for each in request.offsets] == [1], "who comes next has to know it as well"


def test_with_latest_a_partition_that_the_group_began_with_is_read_from_its_end() -> None:
    assert timestamps(begin_latest([committed(0, begun_partitions=2)])[1]) == [LATEST_TIMESTAMP]
    assert timestamps(begin_latest([committed(0, begun_partitions=-1)])[1]) == [LATEST_TIMESTAMP], "of an older version"
    anew = [committed(0, begun_partitions=1, topic_id=b"of an older one.")]
    assert timestamps(begin_latest(anew)[1]) == [LATEST_TIMESTAMP] * 2


def test_with_latest_a_partition_that_came_after_the_subscription_is_read_from_its_first_record() -> None:
    assert sorted(timestamps(begin_latest([], partitions=1)[1])) == [EARLIEST_TIMESTAMP, LATEST_TIMESTAMP]


def test_members_that_began_at_once_and_saw_different_numbers_leave_nothing_out() -> None:
    cluster = Committing("latest")
    cluster.know(partitions=3)
    with cluster.fetcher.lock:
        cluster.fetcher.assign([T1])
    cluster.find_coordinator()
    (sent,) = cluster.wire.take(g.OffsetFetchRequest)
    assert sent.request.partitions == [("t", 1), ("t", 0), ("t", 2)]  # type: ignore[union-attr]
    cluster.told(sent, g.OffsetFetchResponse, offsets=[committed(2, 3), committed(0, 1)])
    cluster.fetcher.step(cluster.now_s)
    assert timestamps(cluster.wire.take(ListOffsetsRequest)) == [EARLIEST_TIMESTAMP]


def test_where_a_member_begins_at_the_end_is_committed_at_once() -> None:
    """BEFORE any record is handed out: who comes after a crash goes on there, not at a later end."""
    cluster, _ = begin_latest([])
    cluster.fetcher.on_begun_at_end = cluster.offsets.commit_begun_at_end
    cluster.fetcher.states[T0].position = 17  # handed out meanwhile, and not processed yet
    with cluster.fetcher.lock:
        cluster.fetcher.on_begun_at_end(T0, 12, 3)
    cluster.step()
    _, request = cluster.sent_commit()
    assert [(each.partition, each.offset, each.leader_epoch) for each in request.offsets] == [(0, 12, 3)]


def test_who_begins_at_a_committed_offset_asks_no_leader_of_an_older_epoch_than_that_was_read_in() -> None:
    cluster = Committing("latest")
    cluster.fetcher.assign([T0])
    cluster.find_coordinator()
    (sent,) = cluster.wire.take(g.OffsetFetchRequest)
    entry = g.CommittedOffset(topic="t", topic_id=TOPIC_ID, partition=0, offset=7, leader_epoch=4)
    cluster.told(sent, g.OffsetFetchResponse, offsets=[entry])
    cluster.fetcher.step(cluster.now_s)
    assert cluster.wire.take(FetchRequest) == [], "the leader of epoch 1 was deposed"
    cluster.know(WORKER_A, 4, partitions=2)
    cluster.fetcher.step(cluster.now_s + 1)
    (sent,) = cluster.wire.take(FetchRequest)
    assert isinstance(sent.request, FetchRequest)
    assert (sent.request.offset, sent.request.leader_epoch) == (7, 4)
    assert cluster.fetcher.states[T0].position_epoch == 4


def test_a_commit_carries_the_epoch() -> None:
    cluster = Committing()
    cluster.find_coordinator_by(OffsetAndMetadata(5, "m", 3))
    _, request = cluster.sent_commit()
    assert [(each.offset, each.metadata, each.leader_epoch) for each in request.offsets] == [(5, "m", 3)]
