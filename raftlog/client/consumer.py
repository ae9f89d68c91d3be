"""Consumer: records of assigned partitions, in offset order within each. One thread uses it at a time.

The client's thread fetches ahead; `poll` and iteration decode what is asked for. There are no groups
yet: a consumer reads every partition of its topics, or those that were assigned.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import Any, NamedTuple, TypeVar

from raftlog.client.bounds import list_offsets_call
from raftlog.client.engine import DEFAULT_BOOTSTRAP, Engine
from raftlog.client.fetched import EARLIEST, LATEST, ConsumerRecord, PartitionState
from raftlog.client.fetcher import Fetcher
from raftlog.errors import (
    ClosedError,
    CorruptMessageError,
    NoBrokersAvailableError,
    RaftlogError,
    RequestTimedOutError,
)
from raftlog.limits import FETCH_BYTES_MAX, FETCH_WAIT_MAX_MS
from raftlog.protocol.messages import ListOffsetsResponse
from raftlog.types import EARLIEST_TIMESTAMP, LATEST_TIMESTAMP, TopicPartition

T = TypeVar("T")


class OffsetAndTimestamp(NamedTuple):
    offset: int
    timestamp_ms: int


class Consumer:
    """Reads `topics`; without any, `assign` or `subscribe` before polling.

    auto_offset_reset          where to start, and where to go when the position is out of range: "earliest",
                               "latest", or "none", which raises OffsetOutOfRangeError
    fetch_min_bytes            a fetch is answered when so much is there,
    fetch_max_wait_ms          or after this
    max_partition_fetch_bytes  of one fetch
    fetch_max_bytes            fetched and not handed out yet, all partitions together; more only by batches that
                               are themselves larger than their partition's share
    max_poll_records           what `poll` returns at most
    consumer_timeout_ms        iteration ends when no record came for so long; None: never

    `poll` and iteration raise UnknownTopicOrPartitionError for a topic that does not exist, CorruptMessageError for
    bytes that fail their checksum again and again, OffsetOutOfRangeError as above. All else is retried inside. After
    an error the consumer can be used on.
    """

    def __init__(
        self,
        *topics: str,
        bootstrap_servers: str | Sequence[str] = DEFAULT_BOOTSTRAP,
        auto_offset_reset: str = LATEST,
        fetch_min_bytes: int = 1,
        fetch_max_wait_ms: int = 500,
        max_partition_fetch_bytes: int = 1024 * 1024,
        fetch_max_bytes: int = 32 * 1024 * 1024,
        max_poll_records: int = 500,
        consumer_timeout_ms: float | None = None,
        request_timeout_ms: float = 30_000,
        bootstrap_timeout_ms: float = 10_000,
        client_id: str = "raftlog-consumer",
    ) -> None:
        """Raises NoBrokersAvailableError when no node answers within `bootstrap_timeout_ms`; ValueError."""
        if auto_offset_reset not in (EARLIEST, LATEST, "none"):
            raise ValueError(f"auto_offset_reset is earliest, latest or none, not {auto_offset_reset!r}")
        if min(fetch_min_bytes, max_partition_fetch_bytes, fetch_max_bytes, max_poll_records) < 1:
            raise ValueError("fetch sizes and max_poll_records are at least 1")
        self._max_poll_records = max_poll_records
        self._consumer_timeout_s = None if consumer_timeout_ms is None else consumer_timeout_ms / 1000
        self._timeout_s = request_timeout_ms / 1000
        self._iterator: Iterator[ConsumerRecord] | None = None
        self._turn = 0
        self._made_room = False
        self._closed = False
        self.on_data: Callable[[], None] | None = None  # told, in the client's thread, that a poll may succeed
        self._engine = Engine(bootstrap_servers, client_id, frozenset(topics))
        self._fetcher = Fetcher(
            self._engine.exchange,
            self._engine.cache,
            self._engine.refresher,
            reset_policy=auto_offset_reset,
            min_bytes=fetch_min_bytes,
            max_wait_ms=min(fetch_max_wait_ms, FETCH_WAIT_MAX_MS),
            partition_bytes=min(max_partition_fetch_bytes, FETCH_BYTES_MAX),
            buffer_bytes=fetch_max_bytes,
            request_timeout_s=self._timeout_s,
            on_data=self._data_came,
        )
        if topics:
            self._fetcher.subscribe(topics)
        self._engine.start(self._fetcher)
        try:
            self._engine.wait_for_cluster(bootstrap_timeout_ms / 1000)
        except NoBrokersAvailableError:
            self.close()
            raise

    def _data_came(self) -> None:
        if self.on_data is not None:
            self.on_data()

    # --- what is read ------------------------------------------------------------------------
    def subscribe(self, topics: Iterable[str]) -> None:
        """All partitions of these topics instead of what was assigned. Raises ValueError for a string."""
        if isinstance(topics, str):
            raise ValueError("topics is a list of names")
        with self._fetcher.lock:
            self._fetcher.assign([])
            self._fetcher.subscribe(tuple(topics))
        self._engine.wake()

    def subscription(self) -> set[str]:
        return set(self._fetcher.subscribed)

    def assign(self, partitions: Iterable[TopicPartition]) -> None:
        """These partitions and no others; those that stay keep their position."""
        with self._fetcher.lock:
            self._fetcher.subscribed = ()
            self._fetcher.assign([TopicPartition(*place) for place in partitions])
        self._engine.wake()

    def assignment(self) -> set[TopicPartition]:
        """Empty until the metadata of the topics is known."""
        return set(self._fetcher.states)

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        """None when there is no such topic. Raises NoBrokersAvailableError."""
        self._engine.refresher.want_topic(topic)
        self._engine.wake()
        cache = self._engine.cache
        if not self._engine.wait_for(lambda: topic in cache.topics or topic in cache.unknown_since_s, self._timeout_s):
            raise NoBrokersAvailableError(f"nothing was heard of topic {topic} within {self._timeout_s:g} s")
        known = cache.topics.get(topic)
        return None if known is None else set(known.partitions)

    # --- positions ---------------------------------------------------------------------------
    def seek(self, partition: TopicPartition, offset: int) -> None:
        """The next record polled is the one at `offset`, or as auto_offset_reset says when there is none."""
        if offset < 0:
            raise ValueError(f"an offset is not negative: {offset}")
        self._move([partition], offset, None)

    def seek_to_beginning(self, *partitions: TopicPartition) -> None:
        """These, or all that are assigned."""
        self._move(partitions, None, EARLIEST)

    def seek_to_end(self, *partitions: TopicPartition) -> None:
        """These, or all that are assigned."""
        self._move(partitions, None, LATEST)

    def _move(self, partitions: Sequence[TopicPartition], offset: int | None, reset: str | None) -> None:
        with self._fetcher.lock:
            for partition in partitions or list(self._fetcher.states):
                self._state(partition).move(offset, reset)
        self._engine.wake()

    def _state(self, partition: TopicPartition) -> PartitionState:
        state = self._fetcher.states.get(TopicPartition(*partition))
        if state is None:
            raise ValueError(f"{TopicPartition(*partition)} is not assigned")
        return state

    def position(self, partition: TopicPartition) -> int:
        """The offset of the next record that will be handed out. Waits for a reset that is under way.

        Raises the partition's error if it has one, and RequestTimedOutError after request_timeout_ms.
        """
        with self._fetcher.lock:
            state = self._state(partition)
            if state.position is None:
                self._fetcher.changed.wait_for(
                    lambda: state.position is not None or state.error is not None or self._closed, self._timeout_s
                )
            if state.position is not None:
                return state.position
            if state.error is not None:
                raise state.error
            unknown = self._fetcher.unknown_topic(time.monotonic())
            raise unknown or RequestTimedOutError(f"the position of {partition} is not known yet")

    def pause(self, *partitions: TopicPartition) -> None:
        """`poll` returns nothing of these until `resume`; what was fetched is kept."""
        self._pause(partitions, True)

    def resume(self, *partitions: TopicPartition) -> None:
        self._pause(partitions, False)

    def _pause(self, partitions: Sequence[TopicPartition], paused: bool) -> None:
        with self._fetcher.lock:
            for partition in partitions:
                self._state(partition).paused = paused
        self._engine.wake()

    def highwater(self, partition: TopicPartition) -> int | None:
        """The end of the partition as of its last fetch; None before that."""
        mark = self._state(partition).high_watermark
        return None if mark < 0 else mark

    def beginning_offsets(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """The first offset of each that can be read. Raises UnknownTopicOrPartitionError, RequestTimedOutError."""
        found = self._list_offsets(dict.fromkeys(partitions, EARLIEST_TIMESTAMP))
        return {place: answer.offset for place, answer in found.items()}

    def end_offsets(
        self, partitions: Iterable[TopicPartition], *, linearizable: bool = False
    ) -> dict[TopicPartition, int]:
        """One past the last offset of each that can be read. Raises as `beginning_offsets`.

        A leader that was deposed a moment ago and does not know it may answer too low. With `linearizable` each leader
        asks its followers first, so that everything acknowledged before the call is counted.
        """
        found = self._list_offsets(dict.fromkeys(partitions, LATEST_TIMESTAMP), linearizable=linearizable)
        return {place: answer.offset for place, answer in found.items()}

    def offsets_for_times(
        self, timestamps_ms: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, OffsetAndTimestamp | None]:
        """The first record at or after the time, None when there is none. Raises as `beginning_offsets`."""
        if any(timestamp_ms < 0 for timestamp_ms in timestamps_ms.values()):
            raise ValueError("a timestamp is not negative")
        found = self._list_offsets(timestamps_ms)
        return {
            place: None if answer.offset < 0 else OffsetAndTimestamp(answer.offset, answer.timestamp_ms)
            for place, answer in found.items()
        }

    def _list_offsets(
        self, timestamps_ms: Mapping[TopicPartition, int], *, linearizable: bool = False
    ) -> dict[TopicPartition, ListOffsetsResponse]:
        deadline_s = time.monotonic() + self._timeout_s
        calls: dict[TopicPartition, Future[Any]] = {}
        for place, timestamp_ms in timestamps_ms.items():
            call = list_offsets_call(
                TopicPartition(*place), timestamp_ms, deadline_s=deadline_s, linearizable=linearizable
            )
            self._engine.submit(call)
            calls[place] = call.future
        return {place: _result(future) for place, future in calls.items()}

    # --- records -----------------------------------------------------------------------------
    def poll(self, timeout_ms: float = 0, max_records: int | None = None) -> dict[TopicPartition, list[ConsumerRecord]]:
        """Up to `max_records` records, by partition; {} when none came within `timeout_ms`.

        Partitions take turns, so that a busy one does not keep the others from being read.
        """
        most = self._max_poll_records if max_records is None else max_records
        deadline_s = time.monotonic() + timeout_ms / 1000
        polled: dict[TopicPartition, list[ConsumerRecord]] = {}
        with self._fetcher.lock:
            while most > 0:
                state = self._next_state(None if polled else deadline_s)
                if state is None:
                    break
                taken = state.take(most)
                most -= len(taken)
                polled.setdefault(state.place, []).extend(taken)
        self._wake_if_room()
        return polled

    def _wake_if_room(self) -> None:
        if self._made_room:
            self._made_room = False
            self._engine.wake()

    def _next_state(self, deadline_s: float | None) -> PartitionState | None:
        """The next partition in turn that has decoded records. None: nothing there, or nothing came in time.

        Raises what went wrong with a partition, but not without a deadline: then records have been taken already, and
        would be lost by it. The lock is held, and given up while waiting.
        """
        while True:
            if self._closed:
                raise ClosedError("the consumer is closed")
            states = list(self._fetcher.states.values())
            if deadline_s is not None:
                self._raise_errors(states)
            for step in range(len(states)):
                state = states[(self._turn + step) % len(states)]
                if not state.paused and self._has_decoded(state):
                    self._turn = (self._turn + step + 1) % len(states)
                    return state
            if deadline_s is None:
                return None
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                return None
            self._wake_if_room()
            self._fetcher.changed.wait(min(left_s, 1.0))

    def _has_decoded(self, state: PartitionState) -> bool:
        if state.index < len(state.records):
            return True
        if not state.payloads:
            return False
        held_bytes = state.buffered_bytes
        try:
            found = state.decode_next()
        except CorruptMessageError as error:
            self._fetcher.corrupt(state, error)
            return False
        self._made_room = self._made_room or state.buffered_bytes < held_bytes
        state.corrupt_fetches = 0
        return found

    def _raise_errors(self, states: list[PartitionState]) -> None:
        for state in states:
            if state.error is not None and not state.has_records():
                error, state.error = state.error, None
                raise error.with_traceback(None)
        unknown = self._fetcher.unknown_topic(time.monotonic())
        if unknown is not None:
            raise unknown

    def __iter__(self) -> Iterator[ConsumerRecord]:
        """Ends after consumer_timeout_ms without a record. Leaving it, or polling in between, loses nothing."""
        lock = self._fetcher.lock
        timeout_s = float("inf") if self._consumer_timeout_s is None else self._consumer_timeout_s
        while True:
            with lock:
                state = self._next_state(time.monotonic() + timeout_s)
            if state is None:
                return
            while True:
                with lock:
                    index = state.index
                    records = state.records
                    if index >= len(records) or state.paused or not state.assigned:
                        break
                    record = records[index]
                    state.index = index = index + 1
                    state.position = record.offset + 1 if index < len(records) else state.after_records
                yield record
            self._wake_if_room()

    def __next__(self) -> ConsumerRecord:
        if self._iterator is None:
            self._iterator = iter(self)
        try:
            return next(self._iterator)
        except (StopIteration, RaftlogError):
            self._iterator = None  # a generator that raised is used up, the consumer is not
            raise

    def close(self) -> None:
        """Safe to call twice; a `poll` in another thread ends with ClosedError."""
        with self._fetcher.lock:
            self._closed = True
            self._fetcher.changed.notify_all()
        self._engine.stop()

    def __enter__(self) -> Consumer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _result(future: Future[T]) -> T:
    try:
        return future.result()
    except RaftlogError as error:
        raise error.with_traceback(None) from None
