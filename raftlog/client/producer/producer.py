"""Producer: records in, futures out. Batching, sending and retrying happen in the client's thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from time import time_ns
from types import TracebackType

from raftlog.client import arguments
from raftlog.client.core.engine import DEFAULT_BOOTSTRAP, Engine
from raftlog.client.core.fork_check import Client
from raftlog.client.core.topic_wait import wait_for_confirmed, wait_for_topic
from raftlog.client.producer.accumulator import Accumulator, Lane, record_size_bytes
from raftlog.client.producer.batch import PendingBatch, RecordFuture
from raftlog.client.producer.partitioners import Partitioner, PartitionFunction, partitioner_named
from raftlog.client.producer.sender import Sender
from raftlog.client.producer.sequences import ProducerIds
from raftlog.clock import SystemClock, monotonic_s
from raftlog.config import check_topic_name
from raftlog.errors import (
    ClosedError,
    ForkedClientError,
    MessageTooLargeError,
    UnknownTopicOrPartitionError,
)
from raftlog.limits import CLOSE_GRACE_S, CLOSE_LINGER_S, PRODUCER_BATCHES_MAX, RECORD_BYTES_MAX, TOPIC_CONFIRM_S
from raftlog.record.batch import Headers, single_batch_bytes
from raftlog.record.compression import COMPRESSIONS

_ACKS = {"all": -1, -1: -1, 0: 0, 1: 1}
# How long leaving a `with` block by an exception waits for what was sent before.
_AFTER_ERROR_S = 5.0


class _Target:
    """A topic as `send` needs it. Valid as long as the metadata is of `version`.

    `stuck` is where records without a key go until a batch is begun, if the partitioner sticks.
    """

    __slots__ = ("lanes", "max_record_bytes", "partitioner", "partitions", "stuck", "version")

    def __init__(
        self, version: int, partitions: list[int], lanes: list[Lane], partitioner: Partitioner, max_record_bytes: int
    ) -> None:
        self.version = version
        self.partitions = partitions
        self.lanes = lanes
        self.partitioner = partitioner
        self.max_record_bytes = max_record_bytes
        self.stuck: Lane | None = None

    def choose(self, key: bytes | None) -> Lane:
        lane = self.lanes[self.partitioner.choose(key, self.partitions)]
        if key is None and self.partitioner.sticks:
            self.stuck = lane
        return lane


class Producer(Client):
    """Thread-safe, and of one process (forking.py).

    Close it, or use it as a context manager; otherwise what is buffered is lost at exit.

    acks                 "all": committed and on every in-sync replica; 1: durable on the leader; 0: not answered,
                         so that futures have offset -1 and say nothing
    linger_ms            how long a batch waits for more records; full batches never wait
    batch_bytes          of one batch before compression; a larger record goes alone
    buffer_bytes         of all records not acknowledged yet; `send` blocks when it is full
    max_block_ms         how long `send` blocks, for that or for the metadata of its topic
    compression          none, gzip, snappy, lz4, zstd
    partitioner          sticky, round-robin, murmur2 (the default: sticky without a key), crc32, or a function
                         (key, partitions) -> partition
    retries              of one batch, within delivery_timeout_ms; None: as many as fit
    delivery_timeout_ms  after which a record fails, however often it was tried; one that was sent may have been
                         written all the same, which the error's `outcome_unknown` tells
    request_timeout_ms   how long one attempt waits for its answer
    max_in_flight        batches of one partition on their way at the same time; with idempotence at most 5
    enable_idempotence   each record is written once and in the order of `send`, however often it is sent; needs
                         acks="all". None: on with acks="all"

    Records of one partition keep the order of `send`, also when they are sent again. With idempotence a record is in
    the log at most once, whatever becomes of it; one that was written, but so long ago that its offset is forgotten,
    has offset -1. The first record waits for a producer id of the controller.

    Without idempotence a batch whose outcome is unknown is sent again and may then be in the log twice, and, as in
    Kafka, a batch that is refused for a moment (throttled, too few replicas in sync, disk full) while one behind it in
    flight is accepted comes after that one: max_in_flight=1 excludes it.
    """

    def __init__(
        self,
        bootstrap_servers: str | Sequence[str] = DEFAULT_BOOTSTRAP,
        *,
        acks: str | int = "all",
        linger_ms: float = 5,
        batch_bytes: int = 64 * 1024,
        buffer_bytes: int = 32 * 1024 * 1024,
        max_block_ms: float = 60_000,
        compression: str | None = None,
        partitioner: str | PartitionFunction = "murmur2",
        retries: int | None = None,
        delivery_timeout_ms: float = 120_000,
        request_timeout_ms: float = 30_000,
        max_in_flight: int = 5,
        enable_idempotence: bool | None = None,
        bootstrap_timeout_ms: float = 10_000,
        client_id: str = "raftlog-producer",
    ) -> None:
        """Raises NoBrokersAvailableError when no node answers within `bootstrap_timeout_ms`; ValueError."""
        if acks not in _ACKS:
            raise ValueError(f"acks is 0, 1 or 'all', not {acks!r}")
        compression = compression or "none"
        if compression not in COMPRESSIONS:
            raise ValueError(f"unknown compression {compression!r}; known are {', '.join(COMPRESSIONS)}")
        if batch_bytes < 1 or buffer_bytes < 1 or max_in_flight < 1:
            raise ValueError("batch_bytes, buffer_bytes and max_in_flight are at least 1")
        idempotent = _ACKS[acks] == -1 if enable_idempotence is None else enable_idempotence
        if idempotent and _ACKS[acks] != -1:
            raise ValueError(f"idempotence needs acks='all', not {acks!r}")
        if idempotent and max_in_flight > PRODUCER_BATCHES_MAX:
            raise ValueError(f"max_in_flight is at most {PRODUCER_BATCHES_MAX} with idempotence, not {max_in_flight}")
        partitioner_named(partitioner)  # a wrong name is an error now, not at the first send
        self._partitioner = partitioner
        self._compression = compression
        self.max_block_s = max_block_ms / 1000
        self._targets: dict[str, _Target] = {}
        self._closed = False
        engine = self._engine = Engine(bootstrap_servers, client_id, frozenset())
        self._cache = engine.cache
        self._accumulator = Accumulator(
            clock=SystemClock(),
            wake=engine.wake,
            batch_bytes=min(batch_bytes, RECORD_BYTES_MAX),
            buffer_bytes=buffer_bytes,
            linger_s=linger_ms / 1000,
            compression=compression,
            thread=engine,
        )
        self._lock = self._accumulator.lock
        self._sender = Sender(
            engine.exchange,
            engine.cache,
            engine.refresher,
            self._accumulator,
            acks=_ACKS[acks],
            ids=ProducerIds(engine.calls) if idempotent else None,
            max_in_flight=max_in_flight,
            retries=retries,
            request_timeout_s=request_timeout_ms / 1000,
            delivery_timeout_s=delivery_timeout_ms / 1000,
        )
        super().__init__()
        engine.start(self._sender)
        self.wait_for_cluster(bootstrap_timeout_ms / 1000)

    def wait_for_cluster(self, timeout_s: float) -> None:
        """What making one ends with; whatever ends it early ends the producer."""
        try:
            self._engine.wait_for_cluster(timeout_s)
        except BaseException:
            self.close(timeout=0)
            raise

    def abandon_in_child(self, error: ForkedClientError) -> None:
        self._accumulator.abandon_in_child(error)

    def send(
        self,
        topic: str,
        value: bytes | None = None,
        key: bytes | None = None,
        headers: Headers | None = None,
        partition: int | None = None,
        timestamp_ms: int | None = None,
        *,
        max_block_ms: float | None = None,
    ) -> RecordFuture:
        """Puts the record into a batch; the future tells its partition, offset and timestamp.

        Raises UnknownTopicOrPartitionError, BufferExhaustedError or NoBrokersAvailableError after at most
        `max_block_ms` (here: of this one record), ClosedError, and TypeError for keys and values that are not bytes.
        All that comes later, and a record that is too large, fails the future.
        """
        target = self._targets.get(topic)
        if target is None or target.version != self._cache.version:
            target = self._target(topic, max_block_ms)
        if timestamp_ms is None:
            timestamp_ms = time_ns() // 1_000_000
        else:
            timestamp_ms = arguments.number("timestamp_ms", timestamp_ms, -(2**63), 2**63 - 1)
        if partition is not None:
            if not 0 <= partition < len(target.lanes):
                target = self._target_with(topic, partition, max_block_ms)
            lane = target.lanes[partition]
        elif key is None and target.stuck is not None:
            lane = target.stuck
        else:
            lane = target.choose(key)
        if headers is None:
            headers = []
        # What Accumulator.append does first; here because it is all that most records need. (`acquire` and `release`
        # would be faster than `with`, but a Ctrl-C between `acquire` and `try` would leave the lock taken.)
        with self._lock:
            batch = lane.open
            if batch is not None:
                future = batch.append(timestamp_ms, key, value, headers)
                if future is not None:
                    return future
        if partition is None:
            target.partitioner.batch_begun()
            # Only what sticks chooses anew: round-robin has had its turn, and a user's function its call.
            if key is None and target.partitioner.sticks:
                lane = target.choose(None)
        return self._send_in_new_batch(target, lane, timestamp_ms, key, value, headers, max_block_ms)

    def _send_in_new_batch(
        self,
        target: _Target,
        lane: Lane,
        timestamp_ms: int,
        key: bytes | None,
        value: bytes | None,
        headers: Headers,
        max_block_ms: float | None,
    ) -> RecordFuture:
        # A server would refuse it too, but only after the bytes went there.
        limit = target.max_record_bytes if self._compression == "none" else RECORD_BYTES_MAX
        # The exact size costs more than its upper bound, which is enough for most.
        if record_size_bytes(key, value, headers) > limit:
            size = single_batch_bytes(timestamp_ms, key, value, headers)
            if size > limit:
                before = "max_record_bytes of" if self._compression == "none" else "the limit before compression of"
                text = f"a record of {size} bytes, its headers included; {before} {lane.topic} is {limit}"
                refused = PendingBatch(lane.topic, lane.partition, None, 0.0, 0, 0)
                refused.fail(MessageTooLargeError(text))
                return RecordFuture(refused, 0, timestamp_ms)
        return self._accumulator.append(
            lane,
            timestamp_ms,
            key,
            value,
            headers,
            max_batch_bytes=target.max_record_bytes,
            max_block_s=self._block_s(max_block_ms),
        )

    def _block_s(self, max_block_ms: float | None) -> float:
        return self.max_block_s if max_block_ms is None else max_block_ms / 1000

    def _target(self, name: str, max_block_ms: float | None = None) -> _Target:
        """The topic as the metadata has it now; waits for it when it is new."""
        if self._closed:
            raise ClosedError("the producer is closed")
        version = self._cache.version
        topic = self._cache.topics.get(name)
        if topic is None:
            check_topic_name(name)
            topic = wait_for_topic(self._engine, name, self._block_s(max_block_ms))
        old = self._targets.get(name)
        partitioner = partitioner_named(self._partitioner) if old is None else old.partitioner
        if old is not None and old.partitions == topic.partitions:
            lanes = old.lanes
        else:
            lanes = [self._accumulator.lane(name, number) for number in topic.partitions]
        target = _Target(version, topic.partitions, lanes, partitioner, topic.max_record_bytes)
        self._targets[name] = target
        return target

    def _target_with(self, name: str, partition: int, max_block_ms: float | None) -> _Target:
        """Partitions may have been added since metadata was last asked for."""
        refresher = self._engine.refresher

        def found() -> bool:
            topic = self._cache.topics.get(name)
            if topic is not None and partition in topic.partitions:
                return True
            refresher.want()
            self._engine.wake()
            return False

        asked_s = monotonic_s()
        if partition >= 0 and not self._engine.wait_for(found, min(self._block_s(max_block_ms), TOPIC_CONFIRM_S)):
            wait_for_confirmed(self._engine, found, asked_s, self._block_s(max_block_ms))
        target = self._target(name, max_block_ms)
        if not 0 <= partition < len(target.lanes):
            raise UnknownTopicOrPartitionError(f"{name} has {len(target.lanes)} partitions, none is {partition}")
        return target

    def knows(self, topic: str, partition: int | None = None) -> bool:
        """Whether `send` to it need not wait for metadata."""
        known = self._cache.topics.get(topic)
        return known is not None and (partition is None or partition in known.partitions)

    def find(self, topic: str, partition: int | None = None) -> None:
        """Waits for what `send` to it needs of the metadata. Raises as `send` does."""
        if partition is None:
            self._target(topic)
        else:
            self._target_with(topic, partition, None)

    def partitions_for(self, topic: str) -> set[int]:
        """The partitions of the topic. Raises as `send` does."""
        return set(self._target(topic).partitions)

    def flush(self, timeout: float | None = None) -> None:
        """Sends all at once and waits until every record so far has its outcome, whichever it is.

        Ends within delivery_timeout_ms. Raises TimeoutError after `timeout` seconds.
        """
        deadline_s = None if timeout is None else monotonic_s() + timeout
        with self.flushing() as batches:
            for waited, batch in enumerate(batches):
                left_s = None if deadline_s is None else max(0.0, deadline_s - monotonic_s())
                if not batch.wait(left_s):
                    raise TimeoutError(f"{len(batches) - waited} batches have no outcome after {timeout} s")

    @contextmanager
    def flushing(self) -> Iterator[list[PendingBatch]]:
        """Nothing lingers meanwhile. Gives what has no outcome yet."""
        batches = self._accumulator.begin_flush()
        try:
            yield batches
        finally:
            self._accumulator.end_flush()

    @contextmanager
    def tells_of_room(self, tell: Callable[[], None]) -> Iterator[None]:
        """Meanwhile nothing lingers, and `tell` is called from other threads when the buffer may have room."""
        self._accumulator.add_listener(tell)
        try:
            yield
        finally:
            self._accumulator.remove_listener(tell)

    def close(self, timeout: float | None = None) -> None:
        """Takes no more records, waits for those it has (at most `timeout` seconds), and ends.

        What has no outcome by then fails with ClosedError. Safe to call twice, and from a callback. With acks=0 it
        waits until the leaders have received what was sent, at most CLOSE_LINGER_S.
        """
        until_s = float("inf") if timeout is None else monotonic_s() + timeout
        self._closed = True
        self._accumulator.close()
        try:
            self.flush(timeout)
            self._wait_until_received(min(CLOSE_LINGER_S, until_s - monotonic_s()))
        except (TimeoutError, ClosedError):
            pass  # their futures say so
        finally:
            left_s = None if timeout is None else max(0.0, until_s - monotonic_s()) + CLOSE_GRACE_S
            if not self._engine.stop(left_s):
                error = ClosedError("the producer was closed while a callback kept its thread")
                error.outcome_unknown = True
                for batch in self._accumulator.incomplete():
                    batch.abandon(error)

    def _wait_until_received(self, timeout_s: float) -> None:
        """What nobody acknowledges."""
        received = self._sender.all_received
        self._sender.end()
        self._engine.wake()
        if self._engine.is_current():
            self._engine.work_until(received.is_set, timeout_s)
        else:
            received.wait(max(0.0, timeout_s))

    def __enter__(self) -> Producer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.close(None if error is None else _AFTER_ERROR_S)
        except ForkedClientError:
            if error is None:
                raise  # else what ends a child, such as SystemExit, goes on
