"""Batches wait in order, within bounds."""

from __future__ import annotations

import signal
import sys
import threading
import time
from typing import Any

import pytest

from raftlog.client.producer.accumulator import Accumulator, Lane, record_size_bytes
from raftlog.client.producer.batch import RecordFuture
from raftlog.clock import ManualClock, SystemClock
from raftlog.errors import BufferExhaustedError, ClosedError
from raftlog.record.batch import BatchBuilder, check_batch, decode
from tests.patience import WAIT_S


class Woken:
    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


def accumulator(**changes: Any) -> Accumulator:
    options: dict[str, Any] = {
        "clock": ManualClock(),
        "wake": Woken(),
        "batch_bytes": 1000,
        "buffer_bytes": 10_000,
        "linger_s": 0.0,
        "compression": "none",
    }
    return Accumulator(**(options | changes))


def send(into: Accumulator, lane: Lane, value: bytes, block_s: float = 0.0) -> RecordFuture:
    return into.append(lane, 1, None, value, [], max_batch_bytes=1 << 20, max_block_s=block_s)


def taken(from_: Accumulator, lane: Lane, now_s: float = 1e9) -> list[list[bytes | None]]:
    found = []
    while (batch := from_.take(lane, now_s)) is not None:
        found.append([record.value for record in decode(batch.encode())])
    return found


def test_records_share_a_batch_until_it_is_full_and_keep_their_order() -> None:
    into = accumulator()
    lane = into.lane("t", 0)
    values = [b"%03d" % n + b"x" * 197 for n in range(10)]
    futures = [send(into, lane, value) for value in values]
    assert futures[0].batch is futures[3].batch
    assert futures[0].batch is not futures[4].batch
    batches = taken(into, lane)
    assert [len(batch) for batch in batches] == [4, 4, 2]
    assert [value for batch in batches for value in batch] == values
    assert into.filled() == []


def test_a_record_larger_than_a_batch_goes_alone() -> None:
    into = accumulator()
    lane = into.lane("t", 0)
    for value in (b"a", b"b" * 5000, b"c"):
        send(into, lane, value)
    assert taken(into, lane) == [[b"a"], [b"b" * 5000], [b"c"]]


def test_a_record_larger_than_the_buffer_goes_alone_too() -> None:
    into = accumulator()
    lane = into.lane("t", 0)
    send(into, lane, b"b" * 20_000)
    assert taken(into, lane) == [[b"b" * 20_000]]


def test_an_open_batch_is_ready_after_linger_a_full_one_at_once() -> None:
    into = accumulator(linger_s=5.0)
    lane = into.lane("t", 0)
    now_s = 1000.0
    send(into, lane, b"x")
    assert into.take(lane, now_s) is None
    assert into.ready_at_s(lane) == now_s + 5
    for _ in range(5):
        send(into, lane, b"y" * 300)
    assert into.take(lane, now_s) is not None
    assert into.take(lane, now_s) is not None or into.ready_at_s(lane) == now_s + 5
    assert len(taken(into, lane, now_s + 5)) == 1


def test_a_flush_makes_open_batches_ready_until_it_ends() -> None:
    into = accumulator(linger_s=5.0)
    lane = into.lane("t", 0)
    send(into, lane, b"x")
    batches = into.begin_flush()
    assert len(batches) == 1
    assert into.ready_at_s(lane) == 0.0
    into.end_flush()
    assert into.ready_at_s(lane) == 1005.0


def test_a_full_buffer_blocks_for_max_block_and_no_longer() -> None:
    into = accumulator(clock=SystemClock(), buffer_bytes=2000)
    lane = into.lane("t", 0)
    send(into, lane, b"x" * 800)
    send(into, lane, b"x" * 800)
    started = time.monotonic()
    with pytest.raises(BufferExhaustedError, match="2000 bytes"):
        send(into, lane, b"x" * 800, block_s=0.05)
    assert 0.04 < time.monotonic() - started < 2


def test_a_blocked_send_goes_on_when_a_batch_completes() -> None:
    into = accumulator(clock=SystemClock(), buffer_bytes=2000, linger_s=60.0)
    lane = into.lane("t", 0)
    send(into, lane, b"x" * 800)
    send(into, lane, b"x" * 800)
    done = threading.Event()

    def blocked() -> None:
        send(into, lane, b"y" * 800, block_s=10.0)
        done.set()

    thread = threading.Thread(target=blocked)
    thread.start()
    assert not done.wait(0.05)
    # Whoever is blocked makes open batches ready, or nothing would ever complete.
    while (batch := into.take(lane, time.monotonic())) is None:
        time.sleep(0.001)
    into.completed(batch)
    batch.complete(0)
    assert done.wait(5)
    thread.join(WAIT_S)


def test_what_a_batch_did_not_need_is_given_back_when_it_is_encoded() -> None:
    into = accumulator(buffer_bytes=1500)
    lane = into.lane("t", 0)
    send(into, lane, b"x")
    assert into.take(lane, 1e9) is not None
    send(into, lane, b"y")  # 1000 bytes more would not fit beside a whole batch


def test_batches_put_back_stand_in_front_in_the_order_of_send() -> None:
    into = accumulator()
    lane = into.lane("t", 0)
    for n in range(6):
        send(into, lane, b"%d" % n + b"x" * 800)
    first = [into.take(lane, 1e9) for _ in range(4)]
    into.put_back(lane, [batch for batch in (first[2], first[0], first[3]) if batch])
    assert [values[0][:1] for values in taken(into, lane) if values[0]] == [b"0", b"2", b"3", b"4", b"5"]


def test_closed_takes_nothing_more_and_lets_the_blocked_go() -> None:
    into = accumulator(clock=SystemClock(), buffer_bytes=1000)
    lane = into.lane("t", 0)
    send(into, lane, b"x")
    failed: list[Exception] = []

    def blocked() -> None:
        try:
            send(into, lane, b"x" * 950, block_s=10.0)
        except ClosedError as error:
            failed.append(error)

    thread = threading.Thread(target=blocked)
    thread.start()
    time.sleep(0.02)
    into.close()
    thread.join(WAIT_S)
    assert len(failed) == 1
    with pytest.raises(ClosedError):
        send(into, lane, b"late")
    assert taken(into, lane) == [[b"x"]]  # what was taken before is still sent


def test_the_size_of_a_record_is_never_underestimated() -> None:
    for key, value, headers in [
        (None, None, []),
        (b"k" * 300, b"v" * 70_000, [("é" * 40, b"h" * 9000), ("n", None)]),
        (b"", b"", [("", b"")]),
    ]:
        builder = BatchBuilder()
        builder.append(2**40, key, value, headers)
        assert len(builder.build()) <= record_size_bytes(key, value, headers)


@pytest.mark.parametrize(
    ("value", "key", "timestamp_ms", "headers"),
    [("text", None, 1, []), (b"v", 7, 1, []), (b"v", None, "now", []), (b"v", None, 2**70, []), (b"v", None, 1, [1])],
)
def test_a_record_that_cannot_be_encoded_harms_no_other(value: Any, key: Any, timestamp_ms: Any, headers: Any) -> None:
    into = accumulator()
    lane = into.lane("t", 0)
    for before in (None, b"before"):
        if before is not None:
            send(into, lane, before)
        with pytest.raises((TypeError, ValueError, OverflowError, AttributeError)):
            into.append(lane, timestamp_ms, key, value, headers, max_batch_bytes=1 << 20, max_block_s=0.0)
    future = send(into, lane, b"after")
    assert future.index == 1
    assert taken(into, lane) == [[b"before", b"after"]]


@pytest.mark.skipif(
    (3, 14) <= sys.version_info < (3, 15),
    reason="a Ctrl-C in `with lock` may leave any lock of a Python 3.14 held (python/cpython issue 148874)",
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_in_the_middle_of_a_send_leaves_whole_batches() -> None:
    """Ctrl-C may strike after any call: whatever it hits, the lock is free and no index comes twice."""
    into = accumulator(clock=SystemClock(), buffer_bytes=10**9)
    lane = into.lane("t", 0)
    armed = [False]
    interrupted = 0

    def interrupt(*_: object) -> None:
        if armed[0]:
            armed[0] = False
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGVTALRM, interrupt)
    signal.setitimer(signal.ITIMER_VIRTUAL, 0.001, 0.0007)
    deadline_s = time.monotonic() + WAIT_S
    while interrupted < 200 and time.monotonic() < deadline_s:
        try:
            armed[0] = True
            for _ in range(5000):
                send(into, lane, b"x" * 20)
            armed[0] = False  # a fast machine is through before the timer ticks
        except KeyboardInterrupt:
            interrupted += 1
    signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    signal.signal(signal.SIGVTALRM, before)
    assert interrupted > 20
    assert into.lock.acquire(timeout=1)
    into.lock.release()
    while (batch := into.take(lane, 1e18)) is not None:
        # One that was interrupted may be in the batch although its caller never got a future.
        assert check_batch(batch.encode()).record_count - batch.count in (0, 1)
