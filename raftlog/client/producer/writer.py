"""Writer: what both faces of a producer hold. Batching, sending and retrying happen in the client's thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import time_ns
from typing import Any

from raftlog.client import arguments
from raftlog.client.core.engine import Engine
from raftlog.client.core.topic_wait import wait_for_confirmed, wait_for_topic
from raftlog.client.producer.accumulator import Accumulator, Lane, record_size_bytes
from raftlog.client.producer.batch import PendingBatch, RecordFuture
from raftlog.client.producer.options import ProducerOptions
from raftlog.client.producer.partitioners import Partitioner, partitioner_named
from raftlog.client.producer.sender import Sender
from raftlog.client.producer.sequences import ProducerIds
from raftlog.clock import NEVER_S, SystemClock, monotonic_s
from raftlog.config import check_topic_name
from raftlog.errors import ClosedError, MessageTooLargeError, UnknownTopicOrPartitionError
from raftlog.limits import CLOSE_GRACE_S, CLOSE_LINGER_S, RECORD_BYTES_MAX, TOPIC_CONFIRM_S
from raftlog.record.batch import Headers, single_batch_bytes


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


class Writer:
    """What a Producer and an AsyncProducer hold: topics, batches, and the client that sends them.

    Whoever uses it calls `start`, and then `connect`, once.
    """

    def __init__(self, options: ProducerOptions) -> None:
        """Raises OSError when the process may not open enough descriptors."""
        self._options = options
        self.serializes = options.key_serializer is not None or options.value_serializer is not None
        self._targets: dict[str, _Target] = {}
        self.max_block_s = options.max_block_s
        self._closed = False
        engine = self.engine = Engine(
            options.bootstrap, options.client_id, frozenset(), options.credentials, options.who
        )
        self._cache = engine.cache
        self.accumulator = Accumulator(
            clock=SystemClock(),
            wake=engine.wake,
            batch_bytes=options.batch_bytes,
            buffer_bytes=options.buffer_bytes,
            linger_s=options.linger_s,
            compression=options.compression,
            thread=engine,
        )
        self._lock = self.accumulator.lock
        self._sender = Sender(
            engine.exchange,
            engine.cache,
            engine.refresher,
            self.accumulator,
            acks=options.acks,
            ids=ProducerIds(engine.calls) if options.idempotent else None,
            max_in_flight=options.max_in_flight,
            retries=options.retries,
            request_timeout_s=options.request_timeout_s,
            delivery_timeout_s=options.delivery_timeout_s,
        )

    def start(self) -> None:
        self.engine.start(self._sender)

    def connect(self) -> None:
        """Waits for the cluster. Whatever ends it early ends the producer. Raises NoBrokersAvailableError."""
        try:
            self.engine.wait_for_cluster(self._options.bootstrap_timeout_s)
        except BaseException:
            self.close(timeout=0)
            raise

    def serialized(self, key: Any, value: Any) -> tuple[bytes | None, bytes | None]:
        """Raises what the serializers raise."""
        make_key, make_value = self._options.key_serializer, self._options.value_serializer
        return (key if make_key is None else make_key(key), value if make_value is None else make_value(value))

    def send(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        headers: Headers | None,
        partition: int | None,
        timestamp_ms: int | None,
        max_block_ms: float | None,
    ) -> RecordFuture:
        """As Producer.send, of what is serialized already."""
        target = self._targets.get(topic)
        if target is None or target.version != self._cache.version:
            target = self._target(topic, self._block_s(max_block_ms))
        if timestamp_ms is None:
            timestamp_ms = time_ns() // 1_000_000
        else:
            timestamp_ms = arguments.number("timestamp_ms", timestamp_ms, -(2**63), 2**63 - 1)
        if headers is None:
            headers = []
        try:
            if partition is not None:
                if not 0 <= partition < len(target.lanes):
                    target = self._target_with(topic, partition, self._block_s(max_block_ms))
                lane = target.lanes[partition]
            elif key is None and target.stuck is not None:
                lane = target.stuck
            else:
                lane = target.choose(key)
            # What Accumulator.append and PendingBatch.append do first; here because it is all that most records need.
            # (`acquire` and `release` would be faster than `with`, but a Ctrl-C between `acquire` and `try` would
            # leave the lock taken.)
            with self._lock:
                batch = lane.open
                if batch is not None:
                    index = batch.count
                    try:
                        taken = batch.append_at(index, timestamp_ms, key, value, headers)
                    except KeyboardInterrupt:
                        batch.take_no_more()
                        raise
                    if taken is not None:
                        batch.count = index + 1
                        return RecordFuture(batch, index, timestamp_ms)
            if partition is None:
                target.partitioner.batch_begun()
                # Only what sticks chooses anew: round-robin has had its turn, and a user's function its call.
                if key is None and target.partitioner.sticks:
                    lane = target.choose(None)
            block_s = self._block_s(max_block_ms)
            return self._send_in_new_batch(target, lane, timestamp_ms, key, value, headers, block_s)
        except (TypeError, ValueError):
            # Looked at only now: to check each record would cost as much as to send it.
            arguments.record(key, value, headers, partition)
            raise

    def _send_in_new_batch(
        self,
        target: _Target,
        lane: Lane,
        timestamp_ms: int,
        key: bytes | None,
        value: bytes | None,
        headers: Headers,
        max_block_s: float,
    ) -> RecordFuture:
        # A server would refuse it too, but only after the bytes went there.
        limit = target.max_record_bytes if self._options.compression == "none" else RECORD_BYTES_MAX
        # The exact size costs more than its upper bound, which is enough for most.
        if record_size_bytes(key, value, headers) > limit:
            size = single_batch_bytes(timestamp_ms, key, value, headers)
            if size > limit:
                text = f"a record of {size} bytes, its headers included; {lane.topic} takes {limit}: send less in it"
                if limit < RECORD_BYTES_MAX:
                    text += ", or raise the topic's max_record_bytes"
                refused = PendingBatch(lane.topic, lane.partition, None, 0.0, 0, 0)
                refused.fail(MessageTooLargeError(text))
                return RecordFuture(refused, 0, timestamp_ms)
        return self.accumulator.append(
            lane,
            timestamp_ms,
            key,
            value,
            headers,
            max_batch_bytes=target.max_record_bytes,
            max_block_s=max_block_s,
        )

    def _block_s(self, max_block_ms: float | None) -> float:
        return self.max_block_s if max_block_ms is None else max_block_ms / 1000

    def _target(self, name: str, max_block_s: float) -> _Target:
        """The topic as the metadata has it now; waits for it when it is new."""
        if self._closed:
            raise ClosedError("the producer is closed")
        version = self._cache.version
        topic = self._cache.topics.get(name)
        if topic is None:
            check_topic_name(arguments.text(name))
            topic = wait_for_topic(self.engine, name, max_block_s)
        old = self._targets.get(name)
        partitioner = partitioner_named(self._options.partitioner) if old is None else old.partitioner
        if old is not None and old.partitions == topic.partitions:
            lanes = old.lanes
        else:
            lanes = [self.accumulator.lane(name, number) for number in topic.partitions]
        target = _Target(version, topic.partitions, lanes, partitioner, topic.max_record_bytes)
        self._targets[name] = target
        return target

    def _target_with(self, name: str, partition: int, max_block_s: float) -> _Target:
        """Partitions may have been added since metadata was last asked for."""
        refresher = self.engine.refresher

        def found() -> bool:
            topic = self._cache.topics.get(name)
            if topic is not None and partition in topic.partitions:
                return True
            refresher.want()
            self.engine.wake()
            return False

        asked_s = monotonic_s()
        if partition >= 0 and not self.engine.wait_for(found, min(max_block_s, TOPIC_CONFIRM_S)):
            wait_for_confirmed(self.engine, found, asked_s, max_block_s)
        target = self._target(name, max_block_s)
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
            self._target(topic, self.max_block_s)
        else:
            self._target_with(topic, arguments.partition(partition), self.max_block_s)

    def partitions(self, topic: str) -> list[int]:
        """Raises as `send` does."""
        return self._target(topic, self.max_block_s).partitions

    def flush(self, timeout: float | None = None) -> None:
        """As Producer.flush."""
        deadline_s = None if timeout is None else monotonic_s() + timeout
        with self.flushing() as batches:
            for waited, batch in enumerate(batches):
                left_s = None if deadline_s is None else max(0.0, deadline_s - monotonic_s())
                if not batch.wait(left_s):
                    raise TimeoutError(f"{len(batches) - waited} batches have no outcome after {timeout} s")

    @contextmanager
    def flushing(self) -> Iterator[list[PendingBatch]]:
        """Nothing lingers meanwhile. Gives what has no outcome yet."""
        batches = self.accumulator.begin_flush()
        try:
            yield batches
        finally:
            self.accumulator.end_flush()

    @contextmanager
    def tells_of_room(self, tell: Callable[[], None]) -> Iterator[None]:
        """Meanwhile nothing lingers, and `tell` is called from other threads when the buffer may have room."""
        self.accumulator.add_listener(tell)
        try:
            yield
        finally:
            self.accumulator.remove_listener(tell)

    def close(self, timeout: float | None = None) -> None:
        """As Producer.close."""
        until_s = NEVER_S if timeout is None else monotonic_s() + timeout
        self._closed = True
        self.accumulator.close()
        try:
            self.flush(timeout)
            self._wait_until_received(min(CLOSE_LINGER_S, until_s - monotonic_s()))
        except (TimeoutError, ClosedError):
            pass  # their futures say so
        finally:
            left_s = None if timeout is None else max(0.0, until_s - monotonic_s()) + CLOSE_GRACE_S
            if not self.engine.stop(left_s):
                error = ClosedError("the producer was closed while a callback kept its thread")
                error.outcome_unknown = True
                for batch in self.accumulator.incomplete():
                    batch.abandon(error)

    def _wait_until_received(self, timeout_s: float) -> None:
        """What nobody acknowledges."""
        received = self._sender.all_received
        self._sender.end()
        self.engine.wake()
        if self.engine.is_current():
            self.engine.work_until(received.is_set, timeout_s)
        else:
            received.wait(max(0.0, timeout_s))
