"""Reader: what both faces of a consumer hold. The client's thread fetches ahead; records are decoded when asked for.

What needs the group's attention is told apart from taking records (`attend`, `take`), since the one calls the user's
functions and waits, and the other does neither.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

from raftlog.client.consumer.fair_queue import FairQueue
from raftlog.client.consumer.offset_lookup import OffsetLookup
from raftlog.client.consumer.options import ConsumerOptions
from raftlog.client.core.callbacks import run_all
from raftlog.client.core.engine import Engine, Part
from raftlog.client.fetcher.fetcher import Fetcher
from raftlog.client.fetcher.partition_state import ConsumerRecord, PartitionState
from raftlog.client.group.group import GroupClient
from raftlog.client.group.member import GroupMember
from raftlog.client.group.session import GroupSession, OnPartitions
from raftlog.clock import monotonic_s
from raftlog.errors import DeserializationError
from raftlog.types import TopicPartition

Polled = dict[TopicPartition, list[ConsumerRecord]]


class Reader:
    """The records of a consumer's partitions, and the client that fetches them. `group` is None without a group_id.

    `on_data` is told, in the client's thread, that `take` may succeed. Whoever uses it calls `start`, and then
    `connect`, once.
    """

    def __init__(self, options: ConsumerOptions, on_data: Callable[[], None]) -> None:
        """Raises OSError when the process may not open enough descriptors."""
        self._options = options
        self.timeout_s = options.request_timeout_s
        self.consumer_timeout_s = options.consumer_timeout_s
        topics = frozenset(options.topics)
        engine = self.engine = Engine(options.bootstrap, options.client_id, topics, options.credentials, options.who)
        self.lookup = OffsetLookup(engine, self.timeout_s)
        self.fetcher = Fetcher(
            engine.exchange,
            engine.cache,
            engine.refresher,
            reset_policy=options.auto_offset_reset,
            min_bytes=options.fetch_min_bytes,
            max_wait_ms=options.fetch_max_wait_ms,
            partition_bytes=options.max_partition_fetch_bytes,
            buffer_bytes=options.fetch_max_bytes,
            request_timeout_s=self.timeout_s,
            on_data=on_data,
        )
        self._parts: list[Part] = [self.fetcher]
        self.group = None if options.group_id is None else self._join(options, options.group_id)
        self._queue = FairQueue(engine, self.fetcher, self.group)
        self._deserializes = options.key_deserializer is not None or options.value_deserializer is not None
        # Chosen once, so that a record pays for deserializers only where there are some.
        self.next_record = self._next_deserialized if self._deserializes else self._queue.next_record
        # Held by who attends to the group, so that `close` in another thread calls no callback beside one that runs.
        self.attending = threading.RLock()

    def _join(self, options: ConsumerOptions, group_id: str) -> GroupSession:
        membership = GroupMember(
            group_id,
            options.assignors,
            session_timeout_s=options.session_timeout_s,
            heartbeat_interval_s=options.heartbeat_interval_s,
            max_poll_interval_s=options.max_poll_interval_s,
            group_instance_id=options.group_instance_id,
            client_id=options.client_id,
        )
        engine, fetcher = self.engine, self.fetcher
        group = GroupClient(
            engine.calls, engine.cache, engine.refresher, fetcher, membership, request_timeout_s=self.timeout_s
        )
        interval_s = options.auto_commit_interval_s
        if interval_s is not None:
            fetcher.on_begun_at_end = group.offsets.commit_begun_at_end
        self._parts.append(group)
        return GroupSession(engine, fetcher, group, auto_commit_interval_s=interval_s, timeout_s=self.timeout_s)

    def start(self) -> None:
        self.engine.start(*self._parts)
        if self._options.topics:
            self.subscribe(self._options.topics)

    def connect(self) -> None:
        """Waits for the cluster. Whatever ends it early ends the consumer. Raises NoBrokersAvailableError."""
        try:
            self.engine.wait_for_cluster(self._options.bootstrap_timeout_s)
        except BaseException:
            self.close(autocommit=True)
            raise

    def in_group(self) -> GroupSession:
        """Raises ValueError without a group."""
        if self.group is None:
            raise ValueError("a consumer without group_id is in no group and has no committed offsets")
        return self.group

    def subscribe(
        self,
        names: tuple[str, ...],
        pattern: str | None = None,
        on_assigned: OnPartitions | None = None,
        on_revoked: OnPartitions | None = None,
        on_lost: OnPartitions | None = None,
    ) -> None:
        """As Consumer.subscribe."""
        if self.group is not None:
            if bool(names) == (pattern is not None):
                raise ValueError("subscribe to topics, or to a pattern")
            with self.attending:
                self.group.subscribe(names, pattern, on_assigned, on_revoked, on_lost)
            return
        if pattern is not None or on_assigned is not None or on_revoked is not None or on_lost is not None:
            raise ValueError("a pattern and callbacks need a group_id")
        with self.fetcher.lock:
            self.fetcher.assign([])
            self.fetcher.subscribe(names)
        self.engine.wake()

    # --- records -----------------------------------------------------------------------------
    def attend(self) -> None:
        """What comes before records are handed out: callbacks, automatic commits, rebalances."""
        if self.group is not None:
            with self.attending:
                self.group.attend()

    def needs_attention(self) -> bool:
        now_s = monotonic_s()
        with self.fetcher.lock:
            group = self.group
            return group is not None and (group.wants_attention(now_s) or now_s >= group.commit_due_s)

    def take(self, deadline_s: float = 0.0, max_records: int | None = None) -> Polled:
        """Records, as soon as there are some; it returns early, with nothing, when `attend` is needed first."""
        most = self._options.max_poll_records if max_records is None else max_records
        taken: list[tuple[PartitionState, int, list[ConsumerRecord]]] = []
        with self.fetcher.lock:
            while most > 0:
                state = self._queue.next_state(None if taken else deadline_s)
                if state is None:
                    break
                records = state.take(most)
                most -= len(records)
                taken.append((state, state.version, records))
        self._queue.wake_if_room()
        polled: Polled = {}
        for state, version, records in taken:
            if self._deserializes:
                records = self._deserialized(state, version, records)
            if records:
                polled.setdefault(state.place, []).extend(records)
        return polled

    def next_state(self, deadline_s: float) -> PartitionState | None:
        """Whose records come next: `next_record` hands them out. None: as `take`, which returns nothing then."""
        with self.fetcher.lock:
            return self._queue.next_state(deadline_s)

    def used_up(self) -> None:
        """What `next_state` found has no more records, or something else comes first."""
        self._queue.wake_if_room()

    # --- what the user makes of a record; without the lock, since it may take its time -------
    def _next_deserialized(self, state: PartitionState) -> ConsumerRecord | None:
        record = self._queue.next_record(state)
        return record if record is not None and self._deserialize(state, record) else None

    def _deserialized(self, state: PartitionState, version: int, records: list[ConsumerRecord]) -> list[ConsumerRecord]:
        """Those in front of the first that cannot be deserialized; none when it came before them, in the same poll."""
        for count, record in enumerate(records):
            if state.version != version or not self._deserialize(state, record):
                return records[:count]
        return records

    def _deserialize(self, state: PartitionState, record: ConsumerRecord) -> bool:
        """False: the next poll raises why, and reading goes on at this record, or where the user seeks to."""
        make_key, make_value = self._options.key_deserializer, self._options.value_deserializer
        try:
            if make_key is not None:
                record.key = make_key(record.key)
            if make_value is not None:
                record.value = make_value(record.value)
        except Exception as error:  # noqa: BLE001 - the user's
            refused = DeserializationError(state.place.topic, state.place.partition, record.offset, error)
            with self.fetcher.lock:
                self.fetcher.refuse(state, record.offset, refused)
            return False
        return True

    def close(self, *, autocommit: bool) -> None:
        """As Consumer.close."""
        closes = self._queue.close()
        with self.attending:
            if self.group is None:
                self.engine.stop()
            elif closes:
                run_all(partial(self.group.close, commit=autocommit), self.engine.stop, self.group.tell)
            else:
                run_all(self.engine.stop, self.group.tell)
