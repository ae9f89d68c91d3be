"""Futures: one outcome per batch, seen by all of its records and by whoever waits."""

from __future__ import annotations

import threading
import time

import pytest

from raftlog.client.producer.batch import PendingBatch, RecordFuture, RecordMetadata
from raftlog.errors import DeliveryTimeoutError
from raftlog.record.batch import BatchBuilder
from tests.patience import WAIT_S


def batch() -> PendingBatch:
    return PendingBatch("t", 3, BatchBuilder(), 0.0, 100, 0)


def test_every_record_of_a_batch_has_its_own_offset() -> None:
    pending = batch()
    futures = [RecordFuture(pending, index, 1000 + index) for index in range(3)]
    assert not futures[0].done()
    pending.complete(50)
    assert [future.result() for future in futures] == [
        RecordMetadata("t", 3, 50, 1000),
        RecordMetadata("t", 3, 51, 1001),
        RecordMetadata("t", 3, 52, 1002),
    ]
    assert futures[1].get(timeout=1) == RecordMetadata("t", 3, 51, 1001)
    assert futures[0].exception() is None


def test_without_acks_there_is_no_offset() -> None:
    pending = batch()
    pending.complete(-1)
    assert RecordFuture(pending, 7, 5).result().offset == -1


def test_a_failed_batch_fails_every_record_with_the_same_error() -> None:
    pending = batch()
    error = DeliveryTimeoutError("late")
    pending.fail(error)
    for index in range(3):
        assert RecordFuture(pending, index, 0).exception() is error
        with pytest.raises(DeliveryTimeoutError):
            RecordFuture(pending, index, 0).result()


def test_waiting_is_bounded_by_its_timeout() -> None:
    future = RecordFuture(batch(), 0, 0)
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        future.result(timeout=0.02)
    assert 0.015 < time.monotonic() - started < 2


def test_threads_that_wait_are_woken() -> None:
    pending = batch()
    offsets: list[int] = []
    threads = [
        threading.Thread(
            target=lambda index=index: offsets.append(RecordFuture(pending, index, 0).result(WAIT_S).offset)
        )
        for index in range(5)
    ]
    for thread in threads:
        thread.start()
    time.sleep(0.02)
    pending.complete(10)
    for thread in threads:
        thread.join(WAIT_S)
    assert sorted(offsets) == [10, 11, 12, 13, 14]


def test_callbacks_run_once_before_or_after_and_one_that_raises_harms_nobody() -> None:
    pending = batch()
    future = RecordFuture(pending, 2, 0)
    seen: list[object] = []

    def broken(_future: RecordFuture) -> None:
        raise RuntimeError("the user's own bug")

    future.add_done_callback(broken)
    future.add_done_callback(lambda done: seen.append(("early", done.result().offset)))
    pending.complete(5)
    future.add_done_callback(lambda done: seen.append(("late", done.result().offset)))
    assert seen == [("early", 7), ("late", 7)]
