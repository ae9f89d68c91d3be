"""Decides what to fetch next, for each assigned partition. No sockets; nothing is decoded here.

One request per partition is under way at a time; the next goes out as soon as its answer came, as long as
the partition's share of `buffer_bytes` has room. So every partition is served at its own pace, and what
is held is bounded: shares, plus one answer each that a single large batch makes larger than asked.

Only a leader moves a position, one of no older epoch than the partition was read in (`MetadataCache.read_epoch`). What
a leader of an older one says is dropped, records and refusals alike: it was deposed, and its successor is asked. Where
a majority turns out to know nothing of that epoch, the position counts as out of range (LogTruncationError).

`lock` is shared with the user's thread. Answers to what was asked before a seek are dropped.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial

from raftlog.client.core.exchange import Exchange
from raftlog.client.core.metadata import Leader, MetadataCache, Topic
from raftlog.client.core.metadata_refresh import Refresher
from raftlog.client.fetcher.beginnings import Beginnings
from raftlog.client.fetcher.partition_state import EARLIEST, LATEST, PartitionState, Payload
from raftlog.clock import NEVER_S
from raftlog.errors import (
    CorruptMessageError,
    ErrorCode,
    InconsistentClusterIdError,
    LogTruncationError,
    OffsetOutOfRangeError,
    RaftlogError,
    UnknownTopicOrPartitionError,
    UnreadableRecordsError,
    error_for,
)
from raftlog.limits import (
    CONNECT_PATIENCE_S,
    CORRUPT_FETCHES_MAX,
    EXPIRY_SCAN_S,
    LEADER_MOVED_S,
    LEADER_SILENT_S,
    RETRY_BACKOFF_MAX_S,
    RETRY_BACKOFF_MIN_S,
    SUBSCRIBED_METADATA_MAX_AGE_S,
    TOPIC_UNKNOWN_S,
)
from raftlog.protocol import apis
from raftlog.protocol.records import FetchRequest, FetchResponse, ListOffsetsRequest, ListOffsetsResponse
from raftlog.types import EARLIEST_TIMESTAMP, LATEST_TIMESTAMP, TopicPartition

_TIMESTAMPS = {EARLIEST: EARLIEST_TIMESTAMP, LATEST: LATEST_TIMESTAMP}

LOGGER = logging.getLogger(__name__)


class Fetcher:
    """The part of a consumer that asks for records ahead of the user: the states of its partitions.

    `reset_policy`: EARLIEST, LATEST, or "none", which makes a position that is out of range an error.
    """

    def __init__(
        self,
        exchange: Exchange,
        cache: MetadataCache,
        refresher: Refresher,
        *,
        reset_policy: str,
        min_bytes: int,
        max_wait_ms: int,
        partition_bytes: int,
        buffer_bytes: int,
        request_timeout_s: float,
        on_data: Callable[[], None],
    ) -> None:
        self._exchange = exchange
        self._cache = cache
        self._refresher = refresher
        self._reset_policy = reset_policy
        self._min_bytes = min_bytes
        self._max_wait_ms = max_wait_ms
        self._partition_bytes = partition_bytes
        self._buffer_bytes = buffer_bytes
        self._request_timeout_s = request_timeout_s
        self._on_data = on_data
        self.beginnings = Beginnings(cache, refresher)
        # Told of a partition that begins at its end, with that offset.
        self.on_begun_at_end: Callable[[TopicPartition, int, int], None] = lambda place, offset, epoch: None
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self.states: dict[TopicPartition, PartitionState] = {}
        self.subscribed: tuple[str, ...] = ()
        self.begins_committed = False  # where partitions begin is said by somebody else, who may call `begin`
        self.assigned_by_group = False  # by a leader whose metadata may be newer; topics that go, go by a rebalance
        self._seen_version = -1
        self._scan_s = 0.0
        self._now_s = 0.0

    # --- the user's thread, which holds the lock ------------------------------------------------
    def assign(self, places: list[TopicPartition]) -> None:
        """Keeps the positions of those that stay."""
        if not self.assigned_by_group:
            self.beginnings.choose({*self.subscribed, *(place.topic for place in places)})
        before = self.states
        self.states = {place: before.get(place) or self._begin(place) for place in dict.fromkeys(places)}
        for place, state in before.items():
            state.assigned = place in self.states
        for place in self.states:
            self._refresher.want_topic(place.topic)

    def _begin(self, place: TopicPartition) -> PartitionState:
        state = PartitionState(place)
        state.assigned_s = self._now_s
        topic = self._cache.topics.get(place.topic)
        if topic is not None:
            state.topic_id = topic.topic_id
        if not self.begins_committed:
            self.begin(state)
        return state

    @property
    def begins_latest(self) -> bool:
        return self._reset_policy == LATEST

    def begin(self, state: PartitionState) -> None:
        """Where the reset policy says; with LATEST a partition that came later begins at its first record."""
        if self._reset_policy == "none":
            state.error = OffsetOutOfRangeError(
                f"{state.place} has no position and auto_offset_reset is none: seek first"
            )
        else:
            state.move(None, self._reset_policy)
            state.begins = True

    def begin_at(self, state: PartitionState, topic_id: bytes, offset: int, epoch: int) -> None:
        """At a committed offset, which was read in `epoch`: a leader of an older one knows too little."""
        self._cache.note_read(topic_id, state.place.partition, epoch)
        state.topic_id = topic_id
        state.move(offset, epoch=epoch)

    def subscribe(self, topics: tuple[str, ...]) -> None:
        """All partitions of the topics, those that come later included."""
        self.subscribed = topics
        self.beginnings.choose(())  # what was subscribed to before begins anew
        self.beginnings.choose(topics)
        self._refresher.max_age_s = SUBSCRIBED_METADATA_MAX_AGE_S
        for topic in topics:
            self._refresher.want_topic(topic)
        self._seen_version = -1
        self._assign_subscribed()

    def _assign_subscribed(self) -> None:
        known = [self._cache.topics[name] for name in self.subscribed if name in self._cache.topics]
        wanted = [TopicPartition(topic.name, number) for topic in known for number in topic.partitions]
        gone = [place for place in self.states if place.topic not in self._cache.topics]
        places = wanted + [place for place in gone if place.topic in self.subscribed]
        if set(places) != set(self.states):
            self.assign(places)

    def unknown_topic(self, now_s: float) -> UnknownTopicOrPartitionError | InconsistentClusterIdError | None:
        """Why records of some partition will not come: its topic, or the whole cluster, does not exist any more."""
        foreign = self._cache.foreign_error(now_s)
        if foreign is not None or self.assigned_by_group:
            return foreign
        since_s = self._cache.unknown_since_s
        for name in (*self.subscribed, *(place.topic for place in self.states)):
            if now_s - since_s.get(name, now_s) >= TOPIC_UNKNOWN_S:
                return UnknownTopicOrPartitionError(f"there is no topic {name}")
        return None

    # --- the client's thread ------------------------------------------------------------------
    def step(self, now_s: float) -> float:
        """Asks what can be asked; returns when to be called again at the latest."""
        with self.lock:
            self._now_s = now_s
            if self._seen_version != self._cache.version:
                self._seen_version = self._cache.version
                self._look_at_topics()
            scan = now_s >= self._scan_s
            if scan:
                self._scan_s = now_s + EXPIRY_SCAN_S
            next_s = NEVER_S
            for state in self.states.values():
                if scan and state.asked is not None:
                    self._give_up_on_silent_leader(state, state.asked, now_s)
                if state.moved_s is not None:
                    next_s = min(next_s, self._scan_s)
                if state.asked is None and not state.paused and state.error is None:
                    next_s = min(next_s, self._ask(state, now_s))
            return next_s

    def _look_at_topics(self) -> None:
        self.beginnings.look()  # BEFORE anything is assigned that this answer names
        if self.subscribed:
            self._assign_subscribed()
        for state in self.states.values():
            topic = self._cache.topics.get(state.place.topic)
            if topic is not None and topic.topic_id != state.topic_id:
                self._topic_appeared(state, topic)
        if any(name in self._cache.unknown_since_s for name in self.subscribed):
            self._refresher.want()
        self.changed.notify_all()

    def _topic_appeared(self, state: PartitionState, topic: Topic) -> None:
        """Every record of a topic made anew under an old name is newer than what was read before."""
        made_anew = state.topic_id is not None and not state.unplaced
        state.high_watermark = -1
        state.topic_id = topic.topic_id
        if made_anew and self._reset_policy == "none":
            self.fail(state, OffsetOutOfRangeError(f"{state.place.topic} was deleted and made anew: seek first"))
        elif made_anew:
            state.move(None, EARLIEST)

    def _share_bytes(self) -> int:
        return self._buffer_bytes // max(1, len(self.states))

    def _ask(self, state: PartitionState, now_s: float) -> float:
        """When to try again, if nothing happens before."""
        if now_s < state.retry_s:
            return state.retry_s
        most = max(1, min(self._partition_bytes, self._share_bytes()))
        if state.fetch_offset is None and state.reset is None:
            return NEVER_S
        if state.buffered_bytes and state.buffered_bytes + most > self._share_bytes():
            return NEVER_S
        topic, partition = state.place
        known = self._cache.topics.get(topic)
        if known is not None and partition >= len(known.leaders) and not self.assigned_by_group:
            if self._refresher.answered_s < state.assigned_s:
                self._refresher.want()  # partitions may have been added since metadata was asked for
                return now_s + CONNECT_PATIENCE_S
            self.fail(state, UnknownTopicOrPartitionError(f"{topic} has no partition {partition}"))
            return NEVER_S
        leader = self._cache.leader(topic, partition)
        if leader is None:
            self._refresher.want_topic(topic)
            self._refresher.want()
            return now_s + CONNECT_PATIENCE_S
        if not self._exchange.connect(leader.endpoint):
            if state.connecting_s is None:
                state.connecting_s = now_s
            elif now_s - state.connecting_s >= CONNECT_PATIENCE_S:
                self._refresher.want([(leader.topic_id, partition)])
            return now_s + CONNECT_PATIENCE_S
        state.connecting_s = None
        held_s = self._exchange.held_until_s.get(leader.endpoint, 0.0)
        if held_s > now_s:
            return held_s
        if state.begins and state.reset == LATEST:
            if self.beginnings.awaits(topic):
                self._refresher.want()
                return now_s + CONNECT_PATIENCE_S
            if self.beginnings.came_later(state.place, leader.topic_id):
                state.reset = EARLIEST
        epoch = self._cache.read_epoch(leader.topic_id, partition)
        if state.read_epoch > epoch and state.fetch_offset is not None:
            self._truncated(state, epoch)
            if state.fetch_offset is not None:
                return state.retry_s if state.error is None else NEVER_S
        if not self._send(state, leader, most, now_s):
            state.retry_s = now_s + RETRY_BACKOFF_MIN_S
            return state.retry_s
        return NEVER_S

    def _send(self, state: PartitionState, leader: Leader, most: int, now_s: float) -> bool:
        topic_id, partition = leader.topic_id, state.place.partition
        doubted = self._cache.doubted_epoch(topic_id, partition)
        epoch = self._cache.read_epoch(topic_id, partition) if doubted < 0 else -1
        done = partial(self._answered, state, state.version, leader, state.fetch_offset, doubted)
        if state.fetch_offset is None or doubted >= 0:
            number = self._exchange.ask(
                leader.endpoint,
                apis.LIST_OFFSETS,
                ListOffsetsRequest(timestamp_ms=_TIMESTAMPS[state.reset or LATEST], leader_epoch=epoch),
                done,
                deadline_s=now_s + self._request_timeout_s,
                overdue_s=now_s + LEADER_SILENT_S,
                topic_id=topic_id,
                partition=partition,
            )
        else:
            wait_s = self._max_wait_ms / 1000
            fetch = FetchRequest(
                offset=state.fetch_offset,
                max_bytes=most,
                min_bytes=self._min_bytes,
                max_wait_ms=self._max_wait_ms,
                verify=state.corrupt_fetches > 0,
                leader_epoch=epoch,
            )
            number = self._exchange.ask(
                leader.endpoint,
                apis.FETCH,
                fetch,
                done,
                deadline_s=now_s + wait_s + self._request_timeout_s,
                overdue_s=now_s + wait_s + LEADER_SILENT_S,
                topic_id=topic_id,
                partition=partition,
            )
        if number:
            state.asked = (leader, number)
        return bool(number)

    # --- answers -----------------------------------------------------------------------------
    def _answered(
        self,
        state: PartitionState,
        version: int,
        leader: Leader,
        offset: int | None,
        doubted: int,
        answer: FetchResponse | ListOffsetsResponse | None,
        payload: bytes,
    ) -> None:
        with self.lock:
            if state.version != version:
                return
            state.asked = None
            state.moved_s = None
            if isinstance(answer, ListOffsetsResponse) and answer.error_code == ErrorCode.NONE:
                self._cache.judge_doubted(leader.topic_id, state.place.partition, doubted, answer.leader_epoch)
            if answer is None:
                # The leader fell silent or its connection broke. Nothing is lost by asking again.
                self._retry(state, leader, -1, stale=True)
            elif not self._is_of_leader(state, leader, answer):
                self._retry(state, leader, -1, stale=True)
            elif answer.error_code:
                self._refused(state, leader, error_for(answer.error_code, answer.error_text), answer.leader_epoch)
            elif isinstance(answer, ListOffsetsResponse) and offset is not None:
                self._succeeded(state)  # asked because of the doubt alone
            elif isinstance(answer, ListOffsetsResponse):
                if state.begins and state.reset == LATEST:
                    self.on_begun_at_end(state.place, answer.offset, answer.leader_epoch)
                state.begins = False
                state.found(answer.offset, answer.leader_epoch)
                self._succeeded(state)
                self.changed.notify_all()
            elif offset is not None:
                self._fetched(state, answer, offset, payload)

    def _is_of_leader(self, state: PartitionState, leader: Leader, answer: FetchResponse | ListOffsetsResponse) -> bool:
        """Whether an answer that says something of the log is of no older epoch than that was read in."""
        if answer.error_code not in (ErrorCode.NONE, ErrorCode.OFFSET_OUT_OF_RANGE):
            return True
        return self._cache.note_read(leader.topic_id, state.place.partition, answer.leader_epoch)

    def _fetched(self, state: PartitionState, answer: FetchResponse, offset: int, payload: bytes) -> None:
        state.read_epoch = max(state.read_epoch, answer.leader_epoch)
        # A hint: a leader of the same epoch that was deposed since says what it was.
        state.high_watermark = max(state.high_watermark, answer.high_watermark)
        if not payload:
            self._succeeded(state)
            return
        try:
            state.add(Payload(payload, offset))
        except CorruptMessageError as error:
            self.corrupt(state, error)
            return
        self._succeeded(state)
        self.changed.notify_all()
        self._on_data()

    def _succeeded(self, state: PartitionState) -> None:
        state.backoff_s = RETRY_BACKOFF_MIN_S

    def _refused(self, state: PartitionState, leader: Leader, error: RaftlogError, hint: int) -> None:
        if error.code == ErrorCode.OFFSET_OUT_OF_RANGE:
            self._out_of_range(state, OffsetOutOfRangeError(f"{state.place}: offset {state.fetch_offset}: {error}"))
        elif error.retriable:
            self._retry(state, leader, hint, stale=error.invalid_metadata)
        else:
            self.fail(state, error)

    def _out_of_range(self, state: PartitionState, error: OffsetOutOfRangeError) -> None:
        if self._reset_policy == "none" or state.fetch_offset is None:
            self.fail(state, error)
        elif state.has_records():
            # What was fetched before is handed out first; the reset would throw it away.
            state.retry_s = self._now_s + RETRY_BACKOFF_MAX_S
        else:
            state.move(None, self._reset_policy)

    def _truncated(self, state: PartitionState, epoch: int) -> None:
        text = (
            f"{state.place}: offset {state.fetch_offset} was read in leader epoch {state.read_epoch}, which is lost: a "
            f"majority follows epoch {epoch}, and what was read may be gone from the log"
        )
        if self._reset_policy != "none" and not state.has_records():
            LOGGER.warning("%s; it goes on at the %s offset", text, self._reset_policy)
        self._out_of_range(state, LogTruncationError(f"{text}: seek to where to go on"))

    def _retry(self, state: PartitionState, leader: Leader, hint: int, *, stale: bool) -> None:
        state.retry_s = self._now_s + state.backoff_s
        state.backoff_s = min(state.backoff_s * 2, RETRY_BACKOFF_MAX_S)
        if stale:
            self._cache.refused(*state.place, leader, hint, self._now_s)
            self._refresher.want()

    def fail(self, state: PartitionState, error: RaftlogError) -> None:
        """The user is told by the next poll; nothing is asked for the partition before that."""
        state.error = error
        self.changed.notify_all()
        self._on_data()

    def corrupt(self, state: PartitionState, error: CorruptMessageError) -> None:
        """Bytes that do not decode: fetched again, checked by their leader, until it is clear that they stay so."""
        state.corrupt_fetches += 1
        again = state.corrupt_fetches
        position = state.position
        state.move(position, epoch=state.position_epoch)
        state.retry_s = self._now_s + RETRY_BACKOFF_MIN_S
        if again >= CORRUPT_FETCHES_MAX:
            state.corrupt_fetches = 0
            self.fail(state, CorruptMessageError(f"{state.place} at offset {position}: {error}"))

    def unreadable(self, state: PartitionState, error: UnreadableRecordsError) -> None:
        """What was fetched is what was written, so it is not fetched again before the user was told."""
        state.move(state.position, epoch=state.position_epoch)
        offset = error.offset if state.position is None else max(error.offset, state.position)
        reason = f"{error.reason} ({state.place}; to go on behind them, seek to {error.next_offset})"
        self.fail(state, UnreadableRecordsError(reason, offset, error.next_offset))

    def refuse(self, state: PartitionState, offset: int, error: RaftlogError) -> None:
        """The user could make nothing of the record there: it comes first again, unless the user seeks behind it."""
        if state.assigned:
            state.move(offset, epoch=state.position_epoch)
            self.fail(state, error)

    def _give_up_on_silent_leader(self, state: PartitionState, asked: tuple[Leader, int], now_s: float) -> None:
        leader = self._cache.leader(*state.place)
        if leader is None or leader == asked[0]:
            state.moved_s = None
        elif state.moved_s is None:
            state.moved_s = now_s
        elif now_s - state.moved_s >= LEADER_MOVED_S:
            self._exchange.abandon(asked[0].endpoint, asked[1])

    def tell(self) -> None:
        """Whoever waits for records, or for anything else that this lock guards, looks again."""
        with self.lock:
            self.changed.notify_all()
        self._on_data()

    def abort(self) -> None:
        self.tell()
