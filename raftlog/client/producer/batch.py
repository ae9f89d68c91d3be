"""A batch on its way and the futures of its records, which share it.

A producer makes a future per record, so a future is three slots: the batch knows the outcome, and the
RecordMetadata is computed when somebody asks. A batch is completed exactly once, by the client's
thread; any thread may wait.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, Protocol

import msgspec

from raftlog.errors import ClosedError, RaftlogError
from raftlog.record.batch import BatchBuilder, Headers, numbered

LOGGER = logging.getLogger(__name__)


class RecordMetadata(NamedTuple):
    """Where a record went. offset is -1 with acks=0, which is answered by nobody."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int


# Taken for a few instructions only, and only where someone waits or listens; one for all batches.
_lock = threading.Lock()


def _takes_nothing(
    _index: int, _timestamp_ms: int, _key: bytes | None, _value: bytes | None, _headers: Headers
) -> None:
    return None


class ClientThread(Protocol):
    """The thread that completes batches, as those see it who wait for one."""

    def is_current(self) -> bool: ...

    def work_until(self, done: Callable[[], bool], timeout_s: float | None) -> bool:
        """In that thread: does the client's work until `done()`; False after `timeout_s`. Raises ClosedError."""
        ...

    def call_later(self, callback: Callable[[], object]) -> None:
        """In that thread, once no core of the client is in the middle of something."""
        ...


class PendingBatch:
    """Records of one partition that will be sent, and acknowledged or refused, together.

    `append_at` is its builder's, kept at hand because it runs once per record.

    `maybe_written`: an attempt ended without an answer, so it may be in the log although it is not
    acknowledged. `sequence` counts the batches of the partition, in the order of `send`. What partitions know it by
    are the numbers of `number`, -1 while it has none. `thread` completes it; None: nobody's, for tests and refusals.
    """

    __slots__ = (
        "_callbacks",
        "_event",
        "append_at",
        "base_offset",
        "builder",
        "count",
        "created_s",
        "data",
        "done",
        "error",
        "maybe_written",
        "partition",
        "producer_epoch",
        "producer_id",
        "reserved_bytes",
        "retries",
        "sequence",
        "thread",
        "topic",
    )

    def __init__(
        self,
        topic: str,
        partition: int,
        builder: BatchBuilder | None,
        created_s: float,
        reserved_bytes: int,
        sequence: int,
    ) -> None:
        self.topic = topic
        self.partition = partition
        self.builder = builder
        self.append_at = _takes_nothing if builder is None else builder.append_at
        self.count = 0
        self.created_s = created_s
        self.reserved_bytes = reserved_bytes
        self.sequence = sequence
        self.data = b""
        self.retries = 0
        self.maybe_written = False
        self.producer_id = self.producer_epoch = -1
        self.done = False
        self.base_offset = -1
        self.error: RaftlogError | None = None
        self.thread: ClientThread | None = None
        self._event: threading.Event | None = None
        self._callbacks: list[Callable[[], object]] | None = None

    def append(
        self, timestamp_ms: int, key: bytes | None, value: bytes | None, headers: Headers
    ) -> RecordFuture | None:
        """None when the batch is full. The accumulator's lock is held."""
        index = self.count
        try:
            taken = self.append_at(index, timestamp_ms, key, value, headers)
        except KeyboardInterrupt:
            self.take_no_more()
            raise
        if taken is None:
            return None
        self.count = index + 1
        return RecordFuture(self, index, timestamp_ms)

    def take_no_more(self) -> None:
        """After a Ctrl-C: what was being appended may be in it, and an index must not come twice."""
        self.append_at = _takes_nothing

    def encode(self) -> bytes:
        """The batch as bytes, built at the first call."""
        if self.builder is not None:
            self.builder.count = self.count
            self.data = self.builder.build()
            self._drop_builder()
        return self.data

    def number(self, producer_id: int, producer_epoch: int, base_sequence: int) -> None:
        """From now on it is sent as this; only BEFORE the first attempt that may have written it."""
        assert not self.maybe_written
        self.producer_id, self.producer_epoch = producer_id, producer_epoch
        if self.builder is not None:
            self.builder.number(producer_id, producer_epoch, base_sequence)
        else:
            self.data = numbered(self.data, producer_id, producer_epoch, base_sequence)

    def _drop_builder(self) -> None:
        self.builder = None
        self.append_at = _takes_nothing

    def complete(self, base_offset: int) -> None:
        self._finish(base_offset, None)

    def fail(self, error: RaftlogError) -> None:
        self._finish(-1, error)

    def abandon(self, error: ClosedError) -> None:
        """From any thread, of a client that has ended: when it has no outcome yet, this is it."""
        run = [] if self.done else self._settle(-1, error)
        for callback in run:
            _run(callback)

    def abandon_in_child(self, error: ClosedError) -> None:
        """In a forked child, where no lock may be taken and callbacks are the parent's."""
        if not self.done:
            self.error = error
            self.done = True

    def _finish(self, base_offset: int, error: RaftlogError | None) -> None:
        callbacks = self._settle(base_offset, error)
        later = None if self.thread is None else self.thread.call_later
        for callback in callbacks:
            if later is None:
                _run(callback)
            else:
                later(partial(_run, callback))

    def _settle(self, base_offset: int, error: RaftlogError | None) -> list[Callable[[], object]]:
        with _lock:
            if self.done:
                assert isinstance(self.error, ClosedError), "a batch has one outcome"
                return []  # abandoned while the client's thread hung
            self.base_offset = base_offset
            self.error = error
            self.done = True
            event, callbacks = self._event, self._callbacks
            self._event = self._callbacks = None
        self.data = b""
        self._drop_builder()
        if event is not None:
            event.set()
        return callbacks or []

    def wait(self, timeout_s: float | None) -> bool:
        """False when it is not done after `timeout_s` (None: however long it takes)."""
        if self.done:
            return True
        if self.thread is not None and self.thread.is_current():
            return self.thread.work_until(lambda: self.done, timeout_s)
        with _lock:
            if self.done:
                return True
            if self._event is None:
                self._event = threading.Event()
            event = self._event
        return event.wait(timeout_s)

    def on_done(self, callback: Callable[[], object]) -> None:
        """Runs it in the client's thread once there is an outcome; at once, here, when there is one."""
        with _lock:
            if not self.done:
                if self._callbacks is None:
                    self._callbacks = []
                self._callbacks.append(callback)
                return
        _run(callback)


def _run(callback: Callable[[], object]) -> None:
    try:
        callback()
    except Exception:
        # A callback of the user's must not end the thread that completes all other records.
        LOGGER.exception("a callback of a record's future raised")


class RecordFuture(msgspec.Struct, gc=False, eq=False):
    """The outcome of one `send`: a RecordMetadata or an error. Methods as in concurrent.futures.

    An error's `outcome_unknown` says whether the record may be in the log all the same. (A msgspec Struct is made in
    a quarter of the time that a class of our own takes, and a producer makes one per record.)
    """

    batch: PendingBatch
    index: int
    timestamp_ms: int

    def done(self) -> bool:
        return self.batch.done

    def result(self, timeout: float | None = None) -> RecordMetadata:
        """Waits. Raises the error of the send, or TimeoutError after `timeout` seconds."""
        error = self.exception(timeout)
        if error is not None:
            # One error serves all records of the batch: without this its traceback would grow.
            raise error.with_traceback(None)
        batch = self.batch
        offset = batch.base_offset + self.index if batch.base_offset >= 0 else -1
        return RecordMetadata(batch.topic, batch.partition, offset, self.timestamp_ms)

    get = result  # kafka-python's name

    def exception(self, timeout: float | None = None) -> RaftlogError | None:
        """Waits; None when the record was acknowledged. Raises TimeoutError after `timeout` seconds."""
        if not self.batch.wait(timeout):
            raise TimeoutError(f"no outcome within {timeout} s; the record may still be written")
        return self.batch.error

    def add_done_callback(self, callback: Callable[[RecordFuture], object]) -> None:
        """Runs in the client's thread, so it must be quick.

        What waits in it, as `send`, `flush`, `result` and `close` may, does the client's work meanwhile, but other
        callbacks come after it.
        """
        self.batch.on_done(partial(callback, self))
