"""The idempotent sender: numbers that stay, epochs that begin anew, and nothing sent again that may be doubled."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftlog.client.producer.batch import PendingBatch, RecordFuture
from raftlog.client.producer.producer import Producer
from raftlog.client.producer.sequences import SequenceNumbers
from raftlog.errors import (
    ClusterAuthorizationFailedError,
    DeliveryTimeoutError,
    DuplicateSequenceNumberError,
    ErrorCode,
    OutOfOrderSequenceNumberError,
    RaftlogError,
    UnknownProducerIdError,
)
from raftlog.protocol.records import InitProducerIdRequest
from raftlog.record.batch import BatchBuilder, check_batch, decode
from raftlog.storage.producers import KnownBatch, Producers, judge
from raftlog.types import Endpoint
from tests.client.fake_wire import WORKER_A, WORKER_B, Sent
from tests.client.producing import Producing, values_of

GAP = ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
THROTTLED = ErrorCode.THROTTLING_QUOTA_EXCEEDED


def numbers_of(sent: list[Sent]) -> list[tuple[int, int, int]]:
    headers = [check_batch(one.payload) for one in sent]
    return [(header.producer_id, header.producer_epoch, header.base_sequence) for header in headers]


def begun(*values: bytes, **options: object) -> tuple[Producing, list[RecordFuture], list[Sent]]:
    """A producer with an id, and these values in flight."""
    producing = Producing(idempotent=True, **{"max_in_flight": 5, **options})
    futures = [producing.send(value) for value in values]
    assert producing.produced() == []
    producing.identify()
    return producing, futures, producing.produced()


def test_nothing_leaves_before_there_is_a_producer_id() -> None:
    producing = Producing(idempotent=True)
    producing.send(b"a")
    assert producing.produced() == []
    (asked,) = producing.wire.take(InitProducerIdRequest)
    producing.answer_error(asked, ErrorCode.NOT_CONTROLLER)
    assert producing.produced(1.0) == []
    producing.identify(9)
    assert numbers_of(producing.produced()) == [(9, 0, 0)]


def test_without_an_id_a_record_fails_in_time_and_says_that_it_was_not_written() -> None:
    producing = Producing(idempotent=True)
    future = producing.send(b"a")
    producing.produced()
    (asked,) = producing.wire.take(InitProducerIdRequest)
    producing.answer_error(asked, ErrorCode.INVALID_REQUEST)
    producing.produced()
    producing.produced(121.0)
    error = future.exception(0)
    assert isinstance(error, DeliveryTimeoutError) and not error.outcome_unknown
    assert "last error: no" in str(error)


def test_who_may_not_write_is_told_at_once_and_may_try_again() -> None:
    producing = Producing(idempotent=True)
    futures = [producing.send(b"a"), producing.send(b"b")]
    producing.produced()
    (asked,) = producing.wire.take(InitProducerIdRequest)
    producing.answer_error(asked, ErrorCode.CLUSTER_AUTHORIZATION_FAILED)
    assert producing.produced() == []
    for future in futures:
        error = future.exception(0)
        assert isinstance(error, ClusterAuthorizationFailedError) and not error.outcome_unknown
    later = producing.send(b"c")
    assert producing.produced(2.0) == []
    producing.identify(9)
    assert numbers_of(producing.produced()) == [(9, 0, 0)]
    assert not later.done()


def test_several_are_in_flight_at_once_each_with_its_sequence() -> None:
    _, _, sent = begun(*(b"%d" % n for n in range(7)))
    assert numbers_of(sent) == [(7, 0, n) for n in range(5)]


def test_a_retry_is_the_same_bytes() -> None:
    producing, _, sent = begun(b"a", b"b", b"c")
    producing.answer_produce(sent[0], 0, 0)
    producing.lose(WORKER_A)
    producing.know(WORKER_B, 2)
    again = producing.produced(0.2)
    assert [one.payload for one in again] == [one.payload for one in sent[1:]]
    assert {one.endpoint for one in again} == {WORKER_B}


def test_partitions_are_numbered_apart() -> None:
    producing, _, _ = begun(b"a")
    producing.know(partitions=2)
    producing.send(b"b", partition=1)
    assert numbers_of(producing.produced()) == [(7, 0, 0)]


def test_what_was_written_so_long_ago_that_its_offset_is_forgotten_succeeds() -> None:
    producing, (future,), (sent,) = begun(b"a")
    producing.answer_produce(sent, ErrorCode.REQUEST_TIMED_OUT)
    producing.know()
    (again,) = producing.produced(0.1)
    producing.answer_produce(again, ErrorCode.DUPLICATE_SEQUENCE_NUMBER)
    assert future.result(0).offset == -1


def test_a_first_attempt_cannot_have_been_written_before() -> None:
    producing, (future,), (sent,) = begun(b"a")
    producing.answer_produce(sent, ErrorCode.DUPLICATE_SEQUENCE_NUMBER)
    assert isinstance(future.exception(0), DuplicateSequenceNumberError)


def test_a_gap_behind_a_batch_that_is_sent_again_is_no_error() -> None:
    producing, futures, sent = begun(b"a", b"b", b"c")
    producing.answer_produce(sent[0], THROTTLED)
    producing.answer_produce(sent[1], GAP)
    producing.answer_produce(sent[2], GAP)
    again = producing.produced(0.1)
    assert [one.payload for one in again] == [one.payload for one in sent]
    assert not any(future.done() for future in futures)


def test_after_a_batch_was_given_up_what_was_certainly_not_written_gets_a_new_epoch_in_order() -> None:
    producing, futures, sent = begun(b"a", b"b", b"c")
    producing.answer_produce(sent[1], THROTTLED)
    producing.answer_produce(sent[2], THROTTLED)
    producing.answer_produce(sent[0], ErrorCode.MESSAGE_TOO_LARGE)
    producing.send(b"d")
    again = producing.produced(0.1)
    assert values_of(again) == [b"b", b"c", b"d"]
    assert numbers_of(again) == [(7, 1, 0), (7, 1, 1), (7, 1, 2)]
    assert [future.done() for future in futures] == [True, False, False]


def test_what_may_have_been_written_keeps_its_numbers_until_its_fate_is_known() -> None:
    """a is given up, b may have been written behind it; c, which was not, waits for b and is numbered anew."""
    producing, futures, sent = begun(b"a", b"b", b"c")
    producing.answer_produce(sent[2], THROTTLED)
    producing.answer_produce(sent[1], ErrorCode.REQUEST_TIMED_OUT)
    producing.answer_produce(sent[0], ErrorCode.MESSAGE_TOO_LARGE)
    producing.know()
    (again,) = producing.produced(0.1)
    assert again.payload == sent[1].payload
    producing.answer_produce(again, GAP)
    error = futures[1].exception(0)
    assert isinstance(error, OutOfOrderSequenceNumberError) and error.outcome_unknown
    last = producing.produced(1.0)
    assert values_of(last) == [b"c"] and numbers_of(last) == [(7, 1, 0)]


def test_a_batch_whose_time_is_over_is_not_followed_by_its_numbers() -> None:
    producing, futures, _ = begun(b"a", b"b", delivery_timeout_s=10.0, max_in_flight=2)
    producing.step(9.0)
    producing.send(b"c")
    producing.step(2.0)
    producing.know()
    (sent,) = producing.produced(0.2)
    for future in futures:
        error = future.exception(0)
        assert isinstance(error, DeliveryTimeoutError) and error.outcome_unknown
    assert values_of([sent]) == [b"c"] and numbers_of([sent]) == [(7, 1, 0)]


@pytest.mark.parametrize("code", [GAP, ErrorCode.UNKNOWN_PRODUCER_ID, ErrorCode.INVALID_PRODUCER_EPOCH])
def test_a_partition_that_forgot_the_producer_gets_a_new_epoch_of_what_it_never_had(code: ErrorCode) -> None:
    producing, _, (sent,) = begun(b"a")
    producing.answer_produce(sent, 0, 0)
    (lost,) = producing.in_flight(b"b")
    producing.answer_produce(lost, code)
    again = producing.produced(0.1)
    assert values_of(again) == [b"b"] and numbers_of(again) == [(7, 1, 0)]


def test_a_partition_that_forgot_the_producer_is_not_sent_again_what_it_may_have() -> None:
    producing, (first,), (sent,) = begun(b"a")
    producing.answer_produce(sent, ErrorCode.REQUEST_TIMED_OUT)
    producing.know()
    (again,) = producing.produced(0.1)
    producing.answer_produce(again, ErrorCode.UNKNOWN_PRODUCER_ID)
    error = first.exception(0)
    assert isinstance(error, UnknownProducerIdError) and error.outcome_unknown
    producing.send(b"b")
    sent = producing.produced(0.1)  # type: ignore[assignment]
    assert numbers_of(sent) == [(7, 1, 0)]  # type: ignore[arg-type]


def test_epochs_that_are_used_up_need_another_id() -> None:
    producing, _, (sent,) = begun(b"a")
    (flow,) = producing.sender._flows.values()
    flow.numbering.epoch = 2**15 - 1
    flow.numbering.burnt = True
    producing.answer_produce(sent, 0, 0)
    producing.send(b"b")
    assert producing.produced() == []
    producing.identify(8)
    assert numbers_of(producing.produced()) == [(8, 0, 0)]


def test_sequences_go_on_at_zero_behind_the_last_one() -> None:
    numbering = SequenceNumbers()
    numbering.begin(3)
    numbering._next_sequence = 2**31 - 2
    for expected in (2**31 - 2, 1):
        builder = BatchBuilder()
        batch = PendingBatch("t", 0, builder, 0.0, 0, 0)
        for _ in range(3):
            batch.append(0, None, b"", [])
        numbering.number(batch)
        assert check_batch(batch.encode()).base_sequence == expected


@pytest.mark.parametrize(
    "options",
    [{"acks": 1, "enable_idempotence": True}, {"acks": 0, "enable_idempotence": True}, {"max_in_flight": 6}],
)
def test_what_idempotence_cannot_hold_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="idempotence"):
        Producer("127.0.0.1:1", **options)  # type: ignore[arg-type]


# --- against a model -------------------------------------------------------------------------
WORKERS = [Endpoint("worker", port) for port in (11, 12, 13)]


class Model:
    """Leaders that judge as raftlog's do. What a broken connection carried may still arrive, at any later time."""

    def __init__(self, seed: int, in_flight: int) -> None:
        self.rng = random.Random(seed)
        delivery_s = self.rng.choice((0.3, 1.0, 120.0))
        self.producing = Producing(idempotent=True, max_in_flight=in_flight, delivery_timeout_s=delivery_s)
        self.producing.wire.connected |= set(WORKERS)
        self.leader = WORKERS[0]
        self.epoch = 1
        self.log: list[tuple[bytes, bytes]] = []  # (the batch, its value), all committed
        self.producers = Producers()
        self.arrived: dict[Endpoint, list[Sent]] = {worker: [] for worker in WORKERS}
        self.stray: list[Sent] = []  # of broken connections
        self.futures: list[RecordFuture] = []

    def act(self) -> None:
        rng = self.rng
        match rng.choices(range(8), (30, 30, 40, 4, 3, 3, 12, 4))[0]:
            case 0:
                self.futures.append(self.producing.send(b"%d" % len(self.futures)))
            case 1:
                self.step(rng.choice((0.0, 0.001, 0.03, 0.2)))
            case 2:
                self.serve(rng.choice((rng.choice(WORKERS), self.leader)))
            case 3:
                self.serve(self.leader, code=rng.choice((THROTTLED, ErrorCode.KAFKA_STORAGE_ERROR)))
            case 4:
                self.lose(rng.choice((rng.choice(WORKERS), self.leader)))
            case 5:
                self.elect(rng.choice(WORKERS))
            case 6:
                self.producing.know(self.leader, self.epoch)
            case 7 if self.stray:
                self.append(self.stray.pop(rng.randrange(len(self.stray))))

    def step(self, seconds: float) -> None:
        for sent in self.producing.produced(seconds):
            self.arrived[sent.endpoint].append(sent)
        for asked in self.producing.wire.take(InitProducerIdRequest):
            self.producing.answer_producer_id(asked, 7)

    def append(self, sent: Sent) -> tuple[int, int]:
        """(error code, base offset) of the leader's verdict."""
        header = check_batch(sent.payload)
        verdict = judge(self.producers.get(7), header)
        if isinstance(verdict, KnownBatch):
            return 0, verdict.base_offset
        if verdict is ErrorCode.NONE:
            (record,) = decode(sent.payload)
            self.producers.note(header, len(self.log), len(self.log), 0)
            self.log.append((sent.payload, record.value or b""))
            return 0, len(self.log) - 1
        return verdict, -1

    def serve(self, worker: Endpoint, *, code: int = 0) -> None:
        if not self.arrived[worker]:
            return
        sent = self.arrived[worker].pop(0)
        offset = -1
        if worker != self.leader:
            code = ErrorCode.NOT_LEADER_OR_FOLLOWER
        elif not code:
            code, offset = self.append(sent)
        if self.rng.random() < 0.02:
            code, offset = ErrorCode.REQUEST_TIMED_OUT, -1
        self.producing.answer_produce(sent, code, offset, epoch=self.epoch)

    def lose(self, worker: Endpoint) -> None:
        self.stray += self.arrived[worker]
        self.arrived[worker].clear()
        self.producing.lose(worker)

    def elect(self, worker: Endpoint) -> None:
        """What the old leader has not answered is in the new one's log up to some point."""
        kept = self.rng.randrange(4)
        for place, sent in enumerate(self.arrived[self.leader]):
            if place < kept:
                self.append(sent)
            self.producing.answer_produce(sent, ErrorCode.REQUEST_TIMED_OUT)
        self.arrived[self.leader].clear()
        self.leader = worker
        self.epoch += 1

    def settle(self) -> None:
        for _ in range(2000):
            if all(future.done() for future in self.futures):
                return
            self.step(0.05)
            for worker in WORKERS:
                while self.arrived[worker]:
                    self.serve(worker)
            self.producing.know(self.leader, self.epoch)


@settings(max_examples=400, deadline=None)
@given(seed=st.integers(0, 2**32), in_flight=st.integers(1, 5))
def test_every_record_is_written_at_most_once_and_in_order_whatever_happens(seed: int, in_flight: int) -> None:
    model = Model(seed, in_flight)
    for _ in range(300):
        model.act()
    model.settle()
    while model.stray:
        model.append(model.stray.pop())
    written = [int(value) for _, value in model.log]
    assert written == sorted(set(written)), "a record is doubled or out of order"
    for number, future in enumerate(model.futures):
        assert future.done()
        error = future.exception(0)
        if error is None:
            assert future.result(0).offset in (written.index(number), -1)
        elif number in written:
            assert isinstance(error, RaftlogError) and error.outcome_unknown, "written, and said not to be"
    assert model.producing.accumulator.incomplete() == []
