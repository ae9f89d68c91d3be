"""Calls end within their time, with the right error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from raftlog.client.core.call import Call, Calls
from raftlog.errors import (
    BrokerStorageError,
    ClosedError,
    ErrorCode,
    InvalidRequestError,
    InvalidTopicError,
    NoBrokersAvailableError,
    RequestTimedOutError,
    UnknownTopicOrPartitionError,
)
from raftlog.limits import TOPIC_UNKNOWN_S
from raftlog.protocol import apis
from raftlog.protocol.cluster import MetadataRequest
from raftlog.protocol.records import ListOffsetsRequest, ListOffsetsResponse
from raftlog.types import TopicPartition
from tests.client.fake_wire import NODE, WORKER_A, WORKER_B, FakeCluster

PLACE = TopicPartition("t", 0)


class Calling(FakeCluster):
    def __init__(self) -> None:
        super().__init__()
        self.calls = Calls(self.exchange, self.cache, self.refresher)
        self.maybe_done: list[bool] = []

    def call(
        self, place: TopicPartition | str | None = PLACE, seconds: float = 5.0, timestamp_ms: int = -1
    ) -> Call[Any, Any]:
        def read(answer: ListOffsetsResponse, maybe_done: bool) -> int:
            self.maybe_done.append(maybe_done)
            return answer.offset

        body = ListOffsetsRequest(timestamp_ms=timestamp_ms)
        deadline_s = self.now_s + seconds
        call = Call("offsets", place, apis.LIST_OFFSETS, body, read, deadline_s=deadline_s, attempt_s=1.0)
        self.calls.add(call)
        self.calls.step(self.now_s)
        return call

    def run(self, seconds: float, each: Callable[[], Any] = lambda: None) -> None:
        end_s = self.now_s + seconds
        while self.now_s < end_s:
            self.now_s += 0.01
            self.exchange.expire(self.now_s)
            each()
            self.calls.step(self.now_s)


def test_the_leader_is_asked_and_its_answer_is_the_result() -> None:
    calling = Calling()
    calling.know()
    call = calling.call()
    (sent,) = calling.wire.take()
    assert sent.endpoint == WORKER_A
    calling.answer_offsets(sent, 9)
    assert call.future.result(0) == 9
    assert calling.maybe_done == [False]


def test_a_number_that_no_field_takes_is_an_error_and_ends_no_thread() -> None:
    calling = Calling()
    calling.know()
    with pytest.raises(InvalidRequestError, match="cannot be encoded"):
        calling.call(timestamp_ms=10**30).future.result(0)
    assert calling.wire.take() == []
    call = calling.call()
    calling.answer_offsets(calling.wire.take()[0], 9)
    assert call.future.result(0) == 9


def test_it_follows_the_leader() -> None:
    calling = Calling()
    calling.know()
    call = calling.call()
    (sent,) = calling.wire.take()
    calling.answer_error(sent, ErrorCode.NOT_LEADER_OR_FOLLOWER)
    calling.know(WORKER_B, 2)
    calling.run(0.1)
    (sent,) = calling.wire.take()
    assert sent.endpoint == WORKER_B
    calling.answer_offsets(sent, 9)
    assert call.future.result(0) == 9


def test_a_lost_attempt_is_made_again_and_the_reader_is_told() -> None:
    calling = Calling()
    calling.know()
    call = calling.call()
    calling.wire.take()
    calling.lose(WORKER_A)
    calling.know()
    calling.run(0.2)
    (sent,) = calling.wire.take(ListOffsetsRequest)
    calling.answer_offsets(sent, 9)
    assert call.future.result(0) == 9
    assert calling.maybe_done == [True]


def test_a_silent_node_is_passed_over() -> None:
    calling = Calling()
    calling.know()
    call = calling.call(None)
    (first,) = calling.wire.take()
    assert first.endpoint == NODE
    calling.run(1.5)
    (second,) = calling.wire.take()
    calling.answer_offsets(first, 1)  # too late, and ignored
    calling.answer_offsets(second, 2)
    assert call.future.result(0) == 2


def test_a_full_disk_is_waited_for_as_long_as_the_call_says() -> None:
    calling = Calling()
    calling.know()
    patient, hasty = calling.call(seconds=30.0), calling.call(seconds=30.0)
    hasty.full_disk_s = 3.0

    def refuse() -> None:
        for sent in calling.wire.take(ListOffsetsRequest):
            calling.answer_error(sent, ErrorCode.KAFKA_STORAGE_ERROR)
        calling.know()

    refuse()
    calling.run(2.5, refuse)
    assert not hasty.future.done()
    calling.run(3.0, refuse)  # the last try may wait for its turn
    assert isinstance(hasty.future.exception(0), BrokerStorageError)
    assert not patient.future.done()


def test_what_is_refused_for_good_is_an_error_at_once() -> None:
    calling = Calling()
    calling.know()
    call = calling.call()
    calling.answer_error(calling.wire.take()[0], ErrorCode.INVALID_TOPIC_EXCEPTION)
    assert isinstance(call.future.exception(0), InvalidTopicError)


def test_nobody_there_ends_in_time_with_no_brokers_available() -> None:
    calling = Calling()
    calling.wire.connected.clear()
    call = calling.call(None)
    calling.run(5.1)
    assert isinstance(call.future.exception(0), NoBrokersAvailableError)


def test_no_controller_ends_in_time() -> None:
    calling = Calling()
    calling.know()
    calling.cache.controller = None
    calling.refresher.answered_s = calling.now_s
    call = calling.call("controller")
    calling.run(5.1)
    error = call.future.exception(0)
    assert isinstance(error, RequestTimedOutError)
    assert not error.outcome_unknown


def test_an_unknown_topic_ends_before_its_time() -> None:
    calling = Calling()
    calling.know_nothing()
    call = calling.call(seconds=60.0)
    calling.run(TOPIC_UNKNOWN_S + 0.2)
    assert isinstance(call.future.exception(0), UnknownTopicOrPartitionError)


def test_that_a_topic_was_unknown_before_the_call_says_nothing() -> None:
    calling = Calling()
    calling.know_nothing()
    calling.now_s += 60.0
    call = calling.call(seconds=60.0)
    calling.run(TOPIC_UNKNOWN_S + 0.2)
    assert not call.future.done()
    calling.know()
    calling.run(1.0)
    calling.answer_offsets(calling.wire.take(ListOffsetsRequest)[0], 9)
    assert call.future.result(0) == 9


def test_a_partition_that_is_not_there_is_an_error_once_nobody_has_it_now() -> None:
    """It may have been added since metadata was asked for last."""
    calling = Calling()
    calling.know()
    calling.refresher.answered_s = calling.now_s - 1
    call = calling.call(TopicPartition("t", 5))
    assert not call.future.done()
    calling.refresher.answered_s = calling.now_s
    calling.run(0.1)
    assert isinstance(call.future.exception(0), UnknownTopicOrPartitionError)


def test_a_topic_that_was_never_asked_for_is_asked_for() -> None:
    calling = Calling()
    calling.call(TopicPartition("other", 0))
    calling.refresher.step(calling.now_s)
    (sent,) = calling.wire.take(MetadataRequest)
    assert isinstance(sent.request, MetadataRequest)
    assert sent.request.topics == ["other", "t"]


@pytest.mark.parametrize("before", [True, False])
def test_closing_ends_what_waits_and_what_comes_later(before: bool) -> None:
    calling = Calling()
    if before:
        call = calling.call()
        calling.calls.abort()
    else:
        calling.calls.abort()
        call = calling.call()
    assert isinstance(call.future.exception(0), ClosedError)
