"""What is sent next, and what becomes of it: order, retries, outcomes."""

from __future__ import annotations

import pytest

from raftlog.errors import (
    ClosedError,
    DeliveryTimeoutError,
    ErrorCode,
    MessageTooLargeError,
    NotEnoughReplicasError,
    RequestTimedOutError,
    UnknownTopicOrPartitionError,
)
from raftlog.limits import CLOSE_LINGER_S, CONNECT_PATIENCE_S, LEADER_MOVED_S, TOPIC_UNKNOWN_S
from raftlog.protocol import apis
from raftlog.protocol.cluster import HandshakeResponse, MetadataRequest
from raftlog.protocol.envelope import encode_response
from raftlog.protocol.records import ProduceRequest, ProduceResult
from tests.client.fake_wire import WORKER_A, WORKER_B, metadata
from tests.client.producing import Producing, values_of


def test_a_new_leader_gets_one_batch_alone_and_then_as_many_as_may_be_in_flight() -> None:
    producing = Producing()
    futures = [producing.send(b"%d" % n) for n in range(6)]
    (first,) = producing.produced()
    assert producing.produced() == []
    producing.answer_produce(first, 0, 40)
    more = producing.produced()
    assert values_of(more) == [b"1", b"2", b"3"]
    producing.answer_produce(more[0], 0, 41)
    assert values_of(producing.produced()) == [b"4"]
    assert futures[0].result().offset == 40
    assert futures[1].result().offset == 41


def test_batches_behind_a_failed_one_wait_for_their_outcome_and_go_again_in_order() -> None:
    producing = Producing()
    producing.prove()
    one, two, three = producing.in_flight(b"1", b"2", b"3")
    producing.send(b"4")
    producing.answer_produce(one, ErrorCode.NOT_LEADER_OR_FOLLOWER)
    producing.know(WORKER_B, 2)
    assert producing.produced(0.05) == []  # 2 and 3 may still be accepted
    producing.answer_produce(three, ErrorCode.NOT_LEADER_OR_FOLLOWER)
    producing.answer_produce(two, ErrorCode.NOT_LEADER_OR_FOLLOWER)
    order = []
    for offset in range(4):
        (sent,) = producing.produced(0.05)[:1]
        assert sent.endpoint == WORKER_B
        order += values_of([sent])
        if offset == 0:
            producing.answer_produce(sent, 0, 10)
        else:
            break
    assert order == [b"1", b"2"]


def test_one_that_was_accepted_among_failed_ones_is_not_sent_again() -> None:
    producing = Producing()
    producing.prove()
    one, two, three = producing.in_flight(b"1", b"2", b"3")
    producing.answer_produce(one, 0, 1)
    producing.answer_produce(two, ErrorCode.REQUEST_TIMED_OUT)
    producing.answer_produce(three, ErrorCode.NOT_LEADER_OR_FOLLOWER)
    producing.know(WORKER_B, 2)
    (again,) = producing.produced(0.05)
    assert values_of([again]) == [b"2"]
    producing.answer_produce(again, 0, 2)
    assert values_of(producing.produced()) == [b"3"]


def test_a_lost_connection_sends_everything_again_in_order_to_the_next_leader() -> None:
    producing = Producing()
    producing.prove()
    producing.in_flight(b"1", b"2", b"3")
    producing.lose(WORKER_A)
    assert producing.produced(0.05) == []
    assert producing.wire.take(MetadataRequest) == []  # the refresher asks; it is stepped by the engine
    producing.know(WORKER_B, 2)
    values = []
    for offset in range(3):
        sent = producing.produced(0.05)
        values += values_of(sent)
        for one in sent:
            producing.answer_produce(one, 0, 5 + offset)
    assert values == [b"1", b"2", b"3"]


def test_partitions_do_not_wait_for_each_other() -> None:
    producing = Producing()
    producing.know(partitions=2)
    producing.send(b"stuck", 0)
    producing.send(b"free", 1)
    stuck, free = producing.produced()
    producing.answer_produce(stuck, ErrorCode.NOT_LEADER_OR_FOLLOWER)
    producing.answer_produce(free, 0, 0)
    producing.send(b"free again", 1)
    assert values_of(producing.produced()) == [b"free again"]


def test_no_leader_asks_for_metadata_and_waits() -> None:
    producing = Producing()
    producing.know(None, 1)
    cache_leader = producing.cache.leader("t", 0)
    assert cache_leader is not None
    producing.cache.refused("t", 0, cache_leader, -1, producing.now_s)
    producing.send(b"1")
    assert producing.produced() == []
    producing.refresher.step(producing.now_s)
    assert len(producing.wire.take(MetadataRequest)) == 1
    producing.know(WORKER_B, 2)
    assert values_of(producing.produced()) == [b"1"]


def test_a_leader_that_cannot_be_connected_may_have_moved() -> None:
    producing = Producing()
    producing.wire.connected.discard(WORKER_A)
    producing.send(b"1")
    producing.produced()
    producing.refresher.step(producing.now_s)
    producing.wire.take(MetadataRequest)
    producing.produced(CONNECT_PATIENCE_S + 0.01)
    producing.know(WORKER_B, 1)  # the same epoch: a worker that came back on another port
    assert values_of(producing.produced()) == [b"1"]


def test_a_silent_leader_is_given_up_once_another_is_known() -> None:
    producing = Producing()
    producing.prove()
    producing.in_flight(b"1", b"2")
    producing.step(1.5)
    producing.know(WORKER_B, 2)
    assert producing.produced(0.01) == []  # answers may be on their way
    producing.step(0.1)
    producing.step(LEADER_MOVED_S + 0.1)
    sent = producing.produced(0.05)
    assert [(one.endpoint, values_of([one])) for one in sent] == [(WORKER_B, [b"1"])]


def test_a_late_answer_of_the_old_leader_changes_nothing() -> None:
    producing = Producing()
    future = producing.send(b"1")
    (first,) = producing.produced()
    producing.lose(WORKER_A)
    producing.know(WORKER_B, 2)
    (second,) = producing.produced(0.05)
    producing.answer_produce(first, 0, 99)
    assert not future.done()
    producing.answer_produce(second, 0, 7)
    assert future.result().offset == 7


def test_refusals_back_off_and_are_tried_again() -> None:
    producing = Producing()
    future = producing.send(b"1")
    attempts = 0
    while producing.now_s < 1005:
        for sent in producing.produced(0.01):
            attempts += 1
            producing.answer_produce(sent, ErrorCode.NOT_ENOUGH_REPLICAS)
    assert 8 <= attempts <= 16
    assert not future.done()


def test_a_batch_that_is_refused_for_good_fails_and_the_next_ones_go_on() -> None:
    producing = Producing()
    producing.prove()
    bad, good = producing.send(b"bad"), producing.send(b"good")
    first, second = producing.produced()
    producing.answer_produce(first, ErrorCode.MESSAGE_TOO_LARGE)
    producing.answer_produce(second, 0, 3)
    error = bad.exception()
    assert isinstance(error, MessageTooLargeError)
    assert not error.outcome_unknown
    assert good.result().offset == 3


@pytest.mark.parametrize("answered", [True, False])
def test_delivery_time_out_says_whether_it_may_have_been_written(answered: bool) -> None:
    producing = Producing(delivery_timeout_s=2.0)
    future = producing.send(b"1")
    (sent,) = producing.produced()
    if answered:
        producing.answer_produce(sent, ErrorCode.NOT_LEADER_OR_FOLLOWER)
    for _ in range(30):
        producing.step(0.1)
    error = future.exception(timeout=0)
    assert isinstance(error, DeliveryTimeoutError)
    assert error.outcome_unknown is not answered
    assert ("it was not written" in str(error)) is answered


def test_records_of_a_dead_cluster_fail_in_time_and_free_the_buffer() -> None:
    producing = Producing(delivery_timeout_s=2.0)
    producing.wire.connected.clear()
    futures = [producing.send(b"%d" % n) for n in range(10)]
    for _ in range(30):
        producing.step(0.1)
    assert all(future.exception(timeout=0) for future in futures)
    assert producing.accumulator.incomplete() == []


def test_retries_can_be_bounded() -> None:
    producing = Producing(retries=1)
    future = producing.send(b"1")
    for _ in range(2):
        (sent,) = producing.produced(0.1)
        producing.answer_produce(sent, ErrorCode.NOT_ENOUGH_REPLICAS)
    error = future.exception(timeout=0)
    assert isinstance(error, NotEnoughReplicasError)
    assert not error.outcome_unknown


def test_a_retry_after_an_unknown_outcome_keeps_the_outcome_unknown() -> None:
    producing = Producing(retries=1)
    future = producing.send(b"1")
    (sent,) = producing.produced()
    producing.answer_produce(sent, ErrorCode.REQUEST_TIMED_OUT)
    producing.know(WORKER_A, 2)
    (sent,) = producing.produced(0.1)
    producing.answer_produce(sent, ErrorCode.NOT_LEADER_OR_FOLLOWER)
    error = future.exception(timeout=0)
    assert error is not None
    assert error.outcome_unknown


def test_a_request_without_an_answer_runs_out_of_time() -> None:
    producing = Producing(request_timeout_s=3.0, retries=0)
    future = producing.send(b"1")
    producing.produced()
    producing.step(3.1)
    error = future.exception(timeout=0)
    assert isinstance(error, RequestTimedOutError)
    assert error.outcome_unknown


def test_without_acks_a_record_is_done_when_it_is_sent() -> None:
    producing = Producing(acks=0)
    futures = [producing.send(b"%d" % n) for n in range(10)]
    sent = producing.produced()
    assert len(sent) == 10
    assert [future.result(0).offset for future in futures] == [-1] * 10
    producing.answer_produce(sent[0], ErrorCode.NOT_LEADER_OR_FOLLOWER)  # nobody waits for it


def test_at_its_end_the_leaders_are_asked_whether_they_received_what_nobody_acknowledges() -> None:
    producing = Producing(acks=0)
    producing.send(b"1")
    producing.produced()
    producing.cache.update(metadata(WORKER_B, 2, partitions=2), producing.now_s)
    producing.send(b"2", partition=1)
    producing.produced()
    producing.wire.full.add(WORKER_B)
    producing.wire.greeted.clear()
    producing.sender.end()
    producing.step()
    assert producing.wire.greeted == [WORKER_A]
    for number in range(producing.exchange._last_id + 1):
        received = encode_response(apis.HANDSHAKE, number, HandshakeResponse(version=2))
        producing.exchange.answered(WORKER_A, [received])
    producing.step()
    assert not producing.sender.all_received.is_set(), "the other's connection takes nothing now"
    producing.wire.full.clear()
    producing.step(0.01)
    producing.step(0.01)
    assert producing.wire.greeted == [WORKER_A, WORKER_B]
    assert not producing.sender.all_received.is_set()
    producing.lose(WORKER_B)
    producing.step()
    assert producing.sender.all_received.is_set()


def test_whether_all_was_received_is_not_waited_for_without_an_end() -> None:
    for end in ("nothing was sent", "its connection is gone", "no answer in time", "closed"):
        producing = Producing(acks=0)
        if end != "nothing was sent":
            producing.send(b"1")
            producing.produced()
        if end == "its connection is gone":
            producing.wire.connected.clear()
        producing.sender.end()
        producing.step()
        if end == "no answer in time":
            producing.step(CLOSE_LINGER_S)
            producing.step()
        if end == "closed":
            assert not producing.sender.all_received.is_set()
            producing.sender.abort()
        assert producing.sender.all_received.is_set(), end


def test_a_topic_that_was_made_anew_gets_what_was_not_acknowledged() -> None:
    producing = Producing()
    producing.send(b"1")
    (sent,) = producing.produced()
    producing.answer_produce(sent, ErrorCode.INCONSISTENT_TOPIC_ID)
    producing.know(WORKER_B, 1, topic_id=b"another topic id")
    (sent,) = producing.produced(0.1)
    assert isinstance(sent.request, ProduceRequest)
    assert sent.topic_id == b"another topic id"


def test_records_of_a_topic_that_is_gone_fail_after_a_while() -> None:
    producing = Producing()
    producing.cache.topics.clear()
    future = producing.send(b"1")
    producing.know_nothing()
    producing.step(TOPIC_UNKNOWN_S - 0.5)
    assert not future.done()
    producing.step(1.0)
    assert isinstance(future.exception(timeout=0), UnknownTopicOrPartitionError)


def test_a_connection_that_takes_nothing_now_is_tried_again_with_the_same_batch() -> None:
    producing = Producing()
    producing.wire.full.add(WORKER_A)
    producing.send(b"1")
    producing.send(b"2")
    assert producing.produced() == []
    producing.wire.full.clear()
    assert values_of(producing.produced(0.1)) == [b"1"]


def test_abort_fails_everything_and_says_what_may_have_been_written() -> None:
    producing = Producing()
    sent, waiting = producing.send(b"1"), producing.send(b"2")
    assert len(producing.produced()) == 1
    producing.sender.abort()
    for future, unknown in ((sent, True), (waiting, False)):
        error = future.exception(timeout=0)
        assert isinstance(error, ClosedError)
        assert error.outcome_unknown is unknown
    with pytest.raises(ClosedError):
        producing.send(b"3")


# --- quotas --------------------------------------------------------------------------------------
@pytest.mark.parametrize("acks", [-1, 0])
def test_a_producer_that_is_told_to_wait_waits_and_goes_on(acks: int) -> None:
    producing = Producing(acks=acks)
    producing.send(b"one")
    (sent,) = producing.produced()
    number = sent.number if acks else 0  # who asks for no answers is told without one
    producing.answer(sent, [ProduceResult(correlation_id=number, base_offset=0, throttle_ms=2000)])
    producing.send(b"two")
    assert producing.produced(seconds=0.5) == []  # counted from when it is heard
    assert producing.produced(seconds=1.9) == []
    assert len(producing.produced(seconds=0.2)) == 1


def test_a_new_worker_knows_of_no_wait() -> None:
    producing = Producing()
    producing.send(b"one")
    (sent,) = producing.produced()
    producing.answer(sent, [ProduceResult(correlation_id=sent.number, base_offset=0, throttle_ms=20_000)])
    producing.step()
    producing.lose(WORKER_A)
    producing.send(b"two")
    assert len(producing.produced()) == 1
