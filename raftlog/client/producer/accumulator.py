"""Where records wait to be sent: open and sealed batches of each partition, bounded in bytes.

The one place that the user's threads and the client's thread share; `lock` guards all of it. A batch
goes open -> sealed -> taken by the sender, in the order of `send`, and comes back to the front when
it has to be sent again.

The bound counts what is open, sealed and in flight. A batch reserves a full batch's bytes when it is
begun and gives back what it did not need when it is encoded, so that nothing is counted per record.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable

from raftlog.client.producer.batch import ClientThread, PendingBatch, RecordFuture
from raftlog.clock import NEVER_S, Clock
from raftlog.errors import BufferExhaustedError, ClosedError, ForkedClientError
from raftlog.record.batch import HEADER_BYTES, BatchBuilder, Headers

# Lengths, deltas and attributes of one record are never larger than this.
_RECORD_OVERHEAD_BYTES = 40


def record_size_bytes(key: bytes | None, value: bytes | None, headers: Headers) -> int:
    """An upper bound of what the record takes in a batch of its own, headers included, before compression."""
    size = HEADER_BYTES + _RECORD_OVERHEAD_BYTES + len(key or b"") + len(value or b"")
    for name, content in headers:
        size += 4 * len(name) + len(content or b"") + 10
    return size


class Lane:
    """The batches of one partition that are not in flight."""

    __slots__ = ("begun", "open", "partition", "sealed", "topic")

    def __init__(self, topic: str, partition: int) -> None:
        self.topic = topic
        self.partition = partition
        self.open: PendingBatch | None = None
        self.sealed: deque[PendingBatch] = deque()
        self.begun = 0


class Accumulator:
    """The batches of one producer that have no outcome yet, and the room that is left for more."""

    def __init__(
        self,
        *,
        clock: Clock,
        wake: Callable[[], None],
        batch_bytes: int,
        buffer_bytes: int,
        linger_s: float,
        compression: str,
        thread: ClientThread | None = None,
    ) -> None:
        """`thread` completes the batches; None: whoever calls, in tests and in the simulator."""
        self._thread = thread
        self._clock = clock
        self._wake = wake
        self._batch_bytes = min(batch_bytes, buffer_bytes)
        self._buffer_bytes = buffer_bytes
        self._linger_s = linger_s
        self._compression = compression
        self.lock = threading.Lock()
        self._room = threading.Condition(self.lock)
        self._free_bytes = buffer_bytes
        self._blocked = 0
        self._needed_bytes = 0  # the least that one of them waits for
        self._listeners: set[Callable[[], None]] = set()  # of those who wait for room in an event loop
        self._flushing = 0
        self._closed = False
        self._lanes: dict[tuple[str, int], Lane] = {}
        self._filled: dict[Lane, None] = {}  # in the order in which they got something
        self._incomplete: dict[PendingBatch, None] = {}

    # --- the user's threads ------------------------------------------------------------------
    def lane(self, topic: str, partition: int) -> Lane:
        with self.lock:
            return self._lanes.setdefault((topic, partition), Lane(topic, partition))

    def append(
        self,
        lane: Lane,
        timestamp_ms: int,
        key: bytes | None,
        value: bytes | None,
        headers: Headers,
        *,
        max_batch_bytes: int,
        max_block_s: float,
    ) -> RecordFuture:
        """Into the open batch if there is room, else into a new one.

        Raises BufferExhaustedError after `max_block_s`, ClosedError.
        """
        size = record_size_bytes(key, value, headers)
        limit = min(self._batch_bytes, max_batch_bytes)
        # A record larger than the buffer may go alone: the batch's own limits decide.
        reserved = min(max(limit, size), self._buffer_bytes)
        give_up_s = self._clock.monotonic_s() + max_block_s
        # The lock itself, here and in `send`: entering a Condition runs Python code, in which a Ctrl-C may strike
        # when the lock is taken already, and would leave it so.
        with self.lock:
            while True:
                if self._closed:
                    raise ClosedError("the producer is closed")
                future = self._append_or_seal(lane, timestamp_ms, key, value, headers)
                if future is not None:
                    return future
                if self._free_bytes >= reserved:
                    break
                self._wait_for_room(reserved, give_up_s, max_block_s)
            builder = BatchBuilder(self._compression, limit)
            batch = PendingBatch(lane.topic, lane.partition, builder, self._clock.monotonic_s(), reserved, lane.begun)
            batch.thread = self._thread
            future = batch.append(timestamp_ms, key, value, headers)
            assert future is not None, "an empty batch takes any record"
            lane.begun += 1
            lane.open = batch
            self._free_bytes -= reserved
            self._incomplete[batch] = None
            self._filled[lane] = None
        self._wake()
        return future

    def _append_or_seal(
        self, lane: Lane, timestamp_ms: int, key: bytes | None, value: bytes | None, headers: Headers
    ) -> RecordFuture | None:
        batch = lane.open
        if batch is None:
            return None
        future = batch.append(timestamp_ms, key, value, headers)
        if future is not None:
            return future
        lane.sealed.append(batch)
        lane.open = None
        return None

    def _wait_for_room(self, reserved: int, give_up_s: float, max_block_s: float) -> None:
        remaining_s = give_up_s - self._clock.monotonic_s()
        if remaining_s <= 0:
            waited = f" and nothing was acknowledged for {max_block_s:g} s" if max_block_s > 0 else ""
            raise BufferExhaustedError(f"the buffer ({self._buffer_bytes} bytes) is full{waited}")
        # Whoever waits here makes every open batch ready, so the sender must look.
        self._needed_bytes = reserved if self._blocked == 0 else min(reserved, self._needed_bytes)
        self._blocked += 1
        self._wake()
        try:
            if self._thread is not None and self._thread.is_current():
                self._work_until_room(self._thread, reserved, remaining_s)
            else:
                self._room.wait(remaining_s)
        finally:
            self._blocked -= 1

    def _work_until_room(self, thread: ClientThread, reserved: int, timeout_s: float) -> None:
        """In a callback, whose thread is the one that makes room. The lock is given up meanwhile."""
        self.lock.release()
        try:
            thread.work_until(lambda: self._free_bytes >= reserved or self._closed, timeout_s)
        finally:
            self.lock.acquire()

    def add_listener(self, tell: Callable[[], None]) -> None:
        """Until `remove_listener` it counts as one who waits for room."""
        with self.lock:
            self._listeners.add(tell)
            self._blocked += 1
            self._needed_bytes = 0
        self._wake()

    def remove_listener(self, tell: Callable[[], None]) -> None:
        with self.lock:
            self._listeners.remove(tell)
            self._blocked -= 1

    def begin_flush(self) -> list[PendingBatch]:
        """Makes every open batch ready until `end_flush`; returns what is not completed yet."""
        with self.lock:
            self._flushing += 1
            incomplete = list(self._incomplete)
        self._wake()
        return incomplete

    def end_flush(self) -> None:
        with self.lock:
            self._flushing -= 1

    def close(self) -> None:
        """No record is taken any more; those that wait for room get ClosedError."""
        with self.lock:
            self._closed = True
            for lane in self._filled:
                if lane.open is not None:
                    lane.sealed.append(lane.open)
                    lane.open = None
            self._tell_of_room()

    # --- the client's thread -----------------------------------------------------------------
    def filled(self) -> list[Lane]:
        """The lanes that hold batches."""
        with self.lock:
            return list(self._filled)

    def ready_at_s(self, lane: Lane) -> float:
        """From when on `take` gives a batch; infinity when the lane is empty."""
        batch = lane.open
        if lane.sealed:
            return 0.0
        if batch is None:
            return NEVER_S
        if self._flushing or self._blocked or self._closed:
            return 0.0
        return batch.created_s + self._linger_s

    def take(
        self, lane: Lane, now_s: float, number: Callable[[PendingBatch], None] | None = None
    ) -> PendingBatch | None:
        """The next batch of the lane, numbered if it has to be, and encoded, if one is ready."""
        with self.lock:
            if self.ready_at_s(lane) > now_s:
                return None
            if lane.sealed:
                batch = lane.sealed.popleft()
            else:
                assert lane.open is not None
                batch, lane.open = lane.open, None
            if lane.open is None and not lane.sealed:
                self._filled.pop(lane, None)
        if number is not None:
            number(batch)
        if batch.builder is not None:
            unused = batch.reserved_bytes - len(batch.encode())
            if unused > 0:
                batch.reserved_bytes -= unused
                self._give_back(unused)
        return batch

    def put_back(self, lane: Lane, batches: Iterable[PendingBatch]) -> None:
        """In front of all that the lane holds, in the order of `send`."""
        with self.lock:
            lane.sealed.extendleft(sorted(batches, key=lambda batch: batch.sequence, reverse=True))
            if lane.sealed:
                self._filled[lane] = None

    def has_maybe_written(self, lane: Lane) -> bool:
        """Whether a batch of unknown outcome waits to be sent again."""
        with self.lock:
            return any(batch.maybe_written for batch in lane.sealed)

    def forget_attempts(self, lane: Lane) -> None:
        """What waits was sent to a topic that is gone: nothing of it is written in the one that has its name now."""
        with self.lock:
            for batch in lane.sealed:
                batch.maybe_written = False

    def take_created_before(self, lane: Lane, created_s: float) -> list[PendingBatch]:
        """Removes what has waited since before `created_s`, for the sender to fail."""
        taken = []
        with self.lock:
            while lane.sealed and lane.sealed[0].created_s <= created_s:
                taken.append(lane.sealed.popleft())
            if not lane.sealed and lane.open is not None and lane.open.created_s <= created_s:
                taken.append(lane.open)
                lane.open = None
            if lane.open is None and not lane.sealed:
                self._filled.pop(lane, None)
        return taken

    def completed(self, batch: PendingBatch) -> None:
        """Its bytes are free. Call it once per batch, BEFORE the batch is completed or failed."""
        with self.lock:
            self._incomplete.pop(batch, None)
        self._give_back(batch.reserved_bytes)

    def incomplete(self) -> list[PendingBatch]:
        with self.lock:
            return list(self._incomplete)

    def abandon_in_child(self, error: ForkedClientError) -> None:
        """In a forked child: nobody completes these there. No lock is taken, which nobody might give back."""
        for batch in self._incomplete:
            batch.abandon_in_child(error)

    def _give_back(self, size: int) -> None:
        with self.lock:
            self._free_bytes += size
            if self._blocked and self._free_bytes >= self._needed_bytes:
                self._tell_of_room()

    def _tell_of_room(self) -> None:
        self._room.notify_all()
        for tell in self._listeners:
            tell()
