"""Consumer: records of assigned partitions, in offset order within each. One thread uses it at a time.

The client's thread fetches ahead; `poll` and iteration decode what is asked for. With a group_id the partitions are
shared among the members of the group (group/session.py); without one a consumer reads all of its topics.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from types import TracebackType

from raftlog.client import arguments
from raftlog.client.consumer.fair_queue import FairQueue
from raftlog.client.consumer.offset_lookup import OffsetAndTimestamp, OffsetLookup
from raftlog.client.core.callbacks import run_all
from raftlog.client.core.engine import DEFAULT_BOOTSTRAP, Engine, Part
from raftlog.client.core.fork_check import Client
from raftlog.client.core.topic_wait import wait_for_partitions
from raftlog.client.fetcher.fetcher import Fetcher
from raftlog.client.fetcher.partition_state import EARLIEST, LATEST, ConsumerRecord, PartitionState
from raftlog.client.group.offsets import OffsetAndMetadata
from raftlog.client.group.options import GroupOptions
from raftlog.client.group.session import ConsumerGroupMetadata, GroupSession, OnCommit, OnPartitions
from raftlog.clock import monotonic_s
from raftlog.errors import ForkedClientError, RequestTimedOutError
from raftlog.limits import FETCH_BYTES_MAX, FETCH_WAIT_MAX_MS
from raftlog.types import TopicPartition


class Consumer(Client):
    """Of one process (forking.py). Reads `topics`; without any, `assign` or `subscribe` before polling.

    auto_offset_reset          where to start, and where to go when the position is out of range: "earliest",
                               "latest", or "none", which raises OffsetOutOfRangeError. With "latest", partitions that
                               were not there when it subscribed start at their first record
    fetch_min_bytes            a fetch is answered when so much is there,
    fetch_max_wait_ms          or after this
    max_partition_fetch_bytes  of one fetch
    fetch_max_bytes            fetched and not handed out yet, all partitions together; more only by batches that
                               are themselves larger than their partition's share
    max_poll_records           what `poll` returns at most
    consumer_timeout_ms        iteration ends when no record came for so long; None: never

    In a group (docs/consumers.md):

    group_id                   whose partitions are shared, and whose committed offsets are where reading begins
    group_instance_id          a static member: one that comes back under it before its session ends has its share back
    enable_auto_commit         what was handed out is committed by later polls, every auto_commit_interval_ms,
                               before partitions are given up, and by `close`
    session_timeout_ms         who was not heard of for so long is replaced
    heartbeat_interval_ms      how often it says that it lives, and hears of a rebalance
    max_poll_interval_ms       who does not poll for so long leaves the group
    partition_assignment_strategy   of "cooperative-sticky", "range", "round-robin"; the group takes one that all offer

    `poll` and iteration raise UnknownTopicOrPartitionError for a topic that does not exist (not in a group: it may
    come), CorruptMessageError for bytes that fail their checksum again and again, OffsetOutOfRangeError as above, and
    what ends a membership: FencedInstanceIdError, InconsistentGroupProtocolError, InvalidGroupIdError. All else is
    retried inside. After an error the consumer can be used on.
    """

    def __init__(
        self,
        *topics: str,
        bootstrap_servers: str | Sequence[str] = DEFAULT_BOOTSTRAP,
        group_id: str | None = None,
        group_instance_id: str | None = None,
        enable_auto_commit: bool = True,
        auto_commit_interval_ms: float = 5_000,
        session_timeout_ms: float = 45_000,
        heartbeat_interval_ms: float = 1_000,
        max_poll_interval_ms: float = 300_000,
        partition_assignment_strategy: Sequence[str] = ("cooperative-sticky",),
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
        """Raises NoBrokersAvailableError when no node answers within `bootstrap_timeout_ms`; TypeError, ValueError."""
        _check_reset(auto_offset_reset)
        fetch_min_bytes = arguments.number("fetch_min_bytes", fetch_min_bytes, 1)
        fetch_max_wait_ms = arguments.number("fetch_max_wait_ms", fetch_max_wait_ms)
        max_partition_fetch_bytes = arguments.number("max_partition_fetch_bytes", max_partition_fetch_bytes, 1)
        fetch_max_bytes = arguments.number("fetch_max_bytes", fetch_max_bytes, 1)
        self._max_poll_records = arguments.number("max_poll_records", max_poll_records, 1)
        self._timeout_s = arguments.seconds("request_timeout_ms", request_timeout_ms)
        bootstrap_timeout_s = arguments.seconds("bootstrap_timeout_ms", bootstrap_timeout_ms)
        options = None
        if group_id is not None:
            options = GroupOptions(
                group_id=group_id,
                group_instance_id=group_instance_id,
                enable_auto_commit=enable_auto_commit,
                auto_commit_interval_ms=auto_commit_interval_ms,
                session_timeout_ms=session_timeout_ms,
                heartbeat_interval_ms=heartbeat_interval_ms,
                max_poll_interval_ms=max_poll_interval_ms,
                partition_assignment_strategy=partition_assignment_strategy,
                client_id=client_id,
                request_timeout_s=self._timeout_s,
            ).checked()
        self._consumer_timeout_s = float("inf") if consumer_timeout_ms is None else consumer_timeout_ms / 1000
        self._iterator: Iterator[ConsumerRecord] | None = None
        self.on_data: Callable[[], None] | None = None  # told, in the client's thread, that a poll may succeed
        self._engine = Engine(bootstrap_servers, client_id, frozenset(map(arguments.text, topics)))
        self._queries = OffsetLookup(self._engine, self._timeout_s)
        self._fetcher = Fetcher(
            self._engine.exchange,
            self._engine.cache,
            self._engine.refresher,
            reset_policy=auto_offset_reset,
            min_bytes=min(fetch_min_bytes, FETCH_BYTES_MAX),
            max_wait_ms=min(fetch_max_wait_ms, FETCH_WAIT_MAX_MS),
            partition_bytes=min(max_partition_fetch_bytes, FETCH_BYTES_MAX),
            buffer_bytes=fetch_max_bytes,
            request_timeout_s=self._timeout_s,
            on_data=self._data_came,
        )
        self._group: GroupSession | None = None
        # Held by who attends to the group, so that `close` in another thread calls no callback beside one that runs.
        self._attending = threading.RLock()
        super().__init__()
        self._begin(options, topics, bootstrap_timeout_s)

    def _begin(self, options: GroupOptions | None, topics: tuple[str, ...], bootstrap_timeout_s: float) -> None:
        parts: list[Part] = [self._fetcher]
        if options is not None:
            part, self._group = options.open(self._engine, self._fetcher)
            parts.append(part)
        self._engine.start(*parts)
        self._turns = FairQueue(self._engine, self._fetcher, self._group)
        if topics:
            self.subscribe(topics)
        self.wait_for_cluster(bootstrap_timeout_s)

    def wait_for_cluster(self, timeout_s: float) -> None:
        """What making one ends with; whatever ends it early ends the consumer."""
        try:
            self._engine.wait_for_cluster(timeout_s)
        except BaseException:
            self.close()
            raise

    def _data_came(self) -> None:
        if self.on_data is not None:
            self.on_data()

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
        if self._group is not None:
            if bool(names) == (pattern is not None):
                raise ValueError("subscribe to topics, or to a pattern")
            with self._attending:
                self._group.subscribe(names, pattern, on_assigned, on_revoked, on_lost)
            return
        if pattern is not None or on_assigned is not None or on_revoked is not None or on_lost is not None:
            raise ValueError("a pattern and callbacks need a group_id")
        with self._fetcher.lock:
            self._fetcher.assign([])
            self._fetcher.subscribe(names)
        self._engine.wake()

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
            with self._attending:
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
        return wait_for_partitions(self._engine, topic, self._timeout_s)

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
                    lambda: state.position is not None or state.error is not None or self._engine.ends, self._timeout_s
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
        return self._queries.beginning_offsets(partitions)

    def end_offsets(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """One past the last offset of each that can be read. Raises as `beginning_offsets`.

        Everything acknowledged before the call is counted: each leader first makes sure that it leads.
        """
        return self._queries.end_offsets(partitions)

    def offsets_for_times(
        self, timestamps_ms: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, OffsetAndTimestamp | None]:
        """The first record at or after the time, None when there is none. Raises as `beginning_offsets`."""
        return self._queries.offsets_for_times(timestamps_ms)

    # --- offsets of the group ----------------------------------------------------------------
    def commit(self, offsets: Mapping[TopicPartition, int | OffsetAndMetadata] | None = None) -> None:
        """The positions of all that is assigned, or these: the offsets of the next records to read.

        Returns once they are committed. Raises CommitFailedError when the partitions are not this member's any more,
        FencedInstanceIdError, RequestTimedOutError; ValueError without a group.
        """
        self._in_group().begin_commit(offsets)()

    def begin_commit(
        self, offsets: Mapping[TopicPartition, int | OffsetAndMetadata] | None = None
    ) -> Callable[[], None]:
        """As `commit`, of the positions as they are now; what it returns waits for it."""
        return self._in_group().begin_commit(offsets)

    def commit_async(
        self,
        offsets: Mapping[TopicPartition, int | OffsetAndMetadata] | None = None,
        callback: OnCommit | None = None,
    ) -> None:
        """As `commit`, without waiting; `callback(offsets, error or None)` runs inside a later `poll` or `close`."""
        self._in_group().commit_async(offsets, callback)

    def committed(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, OffsetAndMetadata | None]:
        """What the group has committed for each; None: nothing yet. Raises as `commit`."""
        return self._in_group().committed(partitions)

    def group_metadata(self) -> ConsumerGroupMetadata:
        """As whom this consumer speaks in its group. Raises ValueError without one."""
        return self._in_group().metadata()

    def _in_group(self) -> GroupSession:
        if self._group is None:
            raise ValueError("a consumer without group_id is in no group and has no committed offsets")
        return self._group

    # --- records -----------------------------------------------------------------------------
    def poll(self, timeout_ms: float = 0, max_records: int | None = None) -> dict[TopicPartition, list[ConsumerRecord]]:
        """Up to `max_records` records, by partition; {} when none came within `timeout_ms`.

        Partitions take turns, so that a busy one does not keep the others from being read. In a group the first call
        joins it, and each call does what a rebalance asks for.
        """
        deadline_s = monotonic_s() + timeout_ms / 1000
        while True:
            self.attend()
            polled = self.take(deadline_s, max_records)
            if polled or monotonic_s() >= deadline_s:
                return polled

    def attend(self) -> None:
        """What `poll` begins with: callbacks, automatic commits, rebalances."""
        if self._group is not None:
            with self._attending:
                self._group.attend()

    def needs_attention(self) -> bool:
        now_s = monotonic_s()
        with self._fetcher.lock:
            group = self._group
            return group is not None and (group.wants_attention(now_s) or now_s >= group.commit_due_s)

    def take(
        self, deadline_s: float = 0.0, max_records: int | None = None
    ) -> dict[TopicPartition, list[ConsumerRecord]]:
        """What `poll` ends with: it returns early, with nothing, when `attend` is needed first."""
        most = self._max_poll_records if max_records is None else max_records
        polled: dict[TopicPartition, list[ConsumerRecord]] = {}
        with self._fetcher.lock:
            while most > 0:
                state = self._turns.next_state(None if polled else deadline_s)
                if state is None:
                    break
                taken = state.take(most)
                most -= len(taken)
                polled.setdefault(state.place, []).extend(taken)
        self._turns.wake_if_room()
        return polled

    def __iter__(self) -> Iterator[ConsumerRecord]:
        """Ends after consumer_timeout_ms without a record. Leaving it, or polling in between, loses nothing."""
        deadline_s = monotonic_s() + self._consumer_timeout_s
        while True:
            self.attend()
            with self._fetcher.lock:
                state = self._turns.next_state(deadline_s)
            if state is not None:
                while (record := self._turns.next_record(state)) is not None:
                    yield record
                self._turns.wake_if_room()
                deadline_s = monotonic_s() + self._consumer_timeout_s
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
        closes = self._turns.close()
        with self._attending:
            if self._group is None:
                self._engine.stop()
            elif closes:
                run_all(partial(self._group.close, commit=autocommit), self._engine.stop, self._group.tell)
            else:
                run_all(self._engine.stop, self._group.tell)

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


def _check_reset(policy: str) -> None:
    if policy not in (EARLIEST, LATEST, "none"):
        raise ValueError(f"auto_offset_reset is earliest, latest or none, not {policy!r}")
