"""Consumer: records of assigned partitions, in offset order within each. One thread uses it at a time.

The client's thread fetches ahead; `poll` and iteration decode what is asked for (reader.py). With a group_id the
partitions are shared among the members of the group (group/session.py); without one a consumer reads all of its topics.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from types import TracebackType

from raftlog.client import arguments
from raftlog.client.consumer.offset_lookup import OffsetAndTimestamp
from raftlog.client.consumer.options import ConsumerOptions
from raftlog.client.consumer.reader import Reader
from raftlog.client.core.callbacks import run_all
from raftlog.client.core.fork_check import Client
from raftlog.client.core.topic_wait import wait_for_partitions
from raftlog.client.fetcher.partition_state import EARLIEST, LATEST, ConsumerRecord, PartitionState
from raftlog.client.group.offsets import OffsetAndMetadata
from raftlog.client.group.session import ConsumerGroupMetadata, OnCommit, OnPartitions
from raftlog.clock import monotonic_s
from raftlog.errors import ForkedClientError, RequestTimedOutError
from raftlog.types import TopicPartition


class Consumer(Client):
    """Reads topics. Of one process (fork_check.py). Its arguments are those of ConsumerOptions.

    It subscribes to the topics that it is given; without any, `assign` or `subscribe` before polling.

    `poll` and iteration raise UnknownTopicOrPartitionError for a topic that does not exist (not in a group: it may
    come), CorruptMessageError for bytes that fail their checksum again and again, OffsetOutOfRangeError where
    auto_offset_reset is "none", DeserializationError for what a deserializer raised, and what ends a membership:
    FencedInstanceIdError, InconsistentGroupProtocolError, InvalidGroupIdError. All else is retried inside. After an
    error the consumer can be used on.
    """

    @arguments.takes(ConsumerOptions)
    def __init__(self, options: ConsumerOptions) -> None:
        """Raises NoBrokersAvailableError when no node answers within `bootstrap_timeout_ms`; TypeError, ValueError."""
        self._use(Reader(options, on_data=lambda: None))
        self._reader.start()
        self._reader.connect()

    def _use(self, reader: Reader) -> None:
        self._reader = reader
        self._engine, self._fetcher, self._group = reader.engine, reader.fetcher, reader.group
        self._next_record = reader.next_record
        self._iterator: Iterator[ConsumerRecord] | None = None
        super().__init__()

    # --- what is read ------------------------------------------------------------------------
    def subscribe(
        self,
        topics: Iterable[str] = (),
        *,
        pattern: str | None = None,
        on_assigned: OnPartitions | None = None,
        on_revoked: OnPartitions | None = None,
        on_lost: OnPartitions | None = None,
    ) -> None:
        """All partitions of these topics instead of what was assigned; in a group, this member's share of them.

        In a group `pattern` may be given instead: all topics whose name it matches, also those that come later. The
        callbacks get lists of partitions and run inside `poll`, iteration and `close`: `on_revoked` while they are
        still owned and can be committed, `on_lost` (as `on_revoked` where it is None) when others may have them
        already. What one of them raises comes out of that call once all callbacks of the rebalance have run;
        if several raise, the first error does, and the others are logged. Raises ValueError.
        """
        if isinstance(topics, str):
            raise ValueError("topics is a list of names")
        names = tuple(map(arguments.text, topics))
        self._reader.subscribe(names, pattern, on_assigned, on_revoked, on_lost)

    def unsubscribe(self) -> None:
        """Reads nothing any more, and leaves the group."""
        self.assign([])

    def subscription(self) -> set[str]:
        return self._group.subscription() if self._group is not None else set(self._fetcher.subscribed)

    def assign(self, partitions: Iterable[TopicPartition]) -> None:
        """These partitions and no others; those that stay keep their position. Leaves the group."""
        places = [arguments.place(place) for place in partitions]
        if self._group is None:
            self._assign(places)
        else:
            with self._reader.attending:
                run_all(self._group.unsubscribe, partial(self._assign, places), self._group.wake)

    def _assign(self, places: list[TopicPartition]) -> None:
        with self._fetcher.lock:
            self._fetcher.subscribed = ()
            self._fetcher.assign(places)
        self._engine.wake()

    def assignment(self) -> set[TopicPartition]:
        """Empty until the metadata of the topics is known."""
        return set(self._fetcher.states)

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        """None when there is no such topic, which takes seconds to be sure of. Raises NoBrokersAvailableError."""
        return wait_for_partitions(self._engine, topic, self._reader.timeout_s)

    # --- positions ---------------------------------------------------------------------------
    def seek(self, partition: TopicPartition, offset: int) -> None:
        """The next record polled is the one at `offset`, or as auto_offset_reset says when there is none."""
        self._move([partition], arguments.offset(offset), None)

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

        Raises the partition's error if it has one, RequestTimedOutError after request_timeout_ms, and ClosedError.
        """
        with self._fetcher.lock:
            state = self._state(partition)
            if state.position is None:
                self._fetcher.changed.wait_for(
                    lambda: state.position is not None or state.error is not None or self._engine.ends,
                    self._reader.timeout_s,
                )
            if state.position is not None:
                return state.position
            if state.error is not None:
                raise state.error
            self._engine.check_open()
            unknown = self._fetcher.unknown_topic(monotonic_s())
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
        """The end of the partition as far as fetches have told; None before the first. `end_offsets` is sure."""
        mark = self._state(partition).high_watermark
        return None if mark < 0 else mark

    def beginning_offsets(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """The first offset of each that can be read. Raises UnknownTopicOrPartitionError, RequestTimedOutError."""
        return self._reader.lookup.beginning_offsets(partitions)

    def end_offsets(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """One past the last offset of each that can be read. Raises as `beginning_offsets`.

        Everything acknowledged before the call is counted: each leader first makes sure that it leads.
        """
        return self._reader.lookup.end_offsets(partitions)

    def offsets_for_times(
        self, timestamps_ms: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, OffsetAndTimestamp | None]:
        """The first record at or after the time, None when there is none. Raises as `beginning_offsets`."""
        return self._reader.lookup.offsets_for_times(timestamps_ms)

    # --- offsets of the group ----------------------------------------------------------------
    def commit(self, offsets: Mapping[TopicPartition, int | OffsetAndMetadata] | None = None) -> None:
        """The positions of all that is assigned, or these: the offsets of the next records to read.

        Returns once they are committed. Raises CommitFailedError when the partitions are not this member's any more,
        FencedInstanceIdError, RequestTimedOutError; ValueError without a group.
        """
        self._reader.in_group().begin_commit(offsets)()

    def commit_async(
        self,
        offsets: Mapping[TopicPartition, int | OffsetAndMetadata] | None = None,
        callback: OnCommit | None = None,
    ) -> None:
        """As `commit`, without waiting; `callback(offsets, error or None)` runs inside a later `poll` or `close`."""
        self._reader.in_group().commit_async(offsets, callback)

    def committed(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, OffsetAndMetadata | None]:
        """What the group has committed for each; None: nothing yet. Raises as `commit`."""
        return self._reader.in_group().committed(partitions)

    def group_metadata(self) -> ConsumerGroupMetadata:
        """As whom this consumer speaks in its group. Raises ValueError without one."""
        return self._reader.in_group().metadata()

    # --- records -----------------------------------------------------------------------------
    def poll(self, timeout_ms: float = 0, max_records: int | None = None) -> dict[TopicPartition, list[ConsumerRecord]]:
        """Up to `max_records` records, by partition; {} when none came within `timeout_ms`.

        Partitions take turns, so that a busy one does not keep the others from being read. In a group the first call
        joins it, and each call does what a rebalance asks for.
        """
        deadline_s = monotonic_s() + timeout_ms / 1000
        while True:
            self._reader.attend()
            polled = self._reader.take(deadline_s, max_records)
            if polled or monotonic_s() >= deadline_s:
                return polled

    def __iter__(self) -> Iterator[ConsumerRecord]:
        """Ends after consumer_timeout_ms without a record. Leaving it, or polling in between, loses nothing."""
        reader = self._reader
        deadline_s = monotonic_s() + reader.consumer_timeout_s
        while True:
            reader.attend()
            state = reader.next_state(deadline_s)
            if state is not None:
                # Through `self`, which refuses in a forked child.
                while (record := self._next_record(state)) is not None:
                    yield record
                reader.used_up()
                deadline_s = monotonic_s() + reader.consumer_timeout_s
            elif monotonic_s() >= deadline_s:
                return

    def __next__(self) -> ConsumerRecord:
        if self._iterator is None:
            self._iterator = iter(self)
        try:
            return next(self._iterator)
        except BaseException:
            self._iterator = None  # a generator that raised is used up, the consumer is not
            raise

    def close(self, *, autocommit: bool = True) -> None:
        """Commits if that is automatic, and leaves the group. Safe to call twice, and from a callback.

        A `poll` in another thread ends with ClosedError, after the callback that it is in.
        """
        self._reader.close(autocommit=autocommit)

    def __enter__(self) -> Consumer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """What an exception leaves half done is not committed: it is read again."""
        try:
            self.close(autocommit=kind is None)
        except ForkedClientError:
            if kind is None:
                raise  # else what ends a child, such as SystemExit, goes on


def consumer_of(reader: Reader) -> Consumer:
    """A face of a reader that has another one: AsyncConsumer's, for all that does not wait."""
    consumer = Consumer.__new__(Consumer)
    consumer._use(reader)
    return consumer
