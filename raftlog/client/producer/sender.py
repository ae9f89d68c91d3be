"""Decides which batch goes where next, and what an answer means for it. No sockets, no threads.

Order within a partition: after a batch failed, nothing more is sent for the partition until every
other batch in flight has its outcome; then all that failed goes again, in the order of `send`, BEFORE
anything younger.

With idempotence (sequences.py) each batch is written once, however often it is sent, and the partition refuses what
comes out of order. What it does not take any more fails if it may have been written: it is never sent under other
numbers. Without, a leader that has not acknowledged anything yet gets one batch alone: if it refuses, none behind it
can have been accepted by a leader elected a moment later; and a batch whose outcome is unknown is sent again and may
then be in the log twice.
"""

from __future__ import annotations

import threading
from functools import partial

from raftlog.client.core.exchange import Exchange
from raftlog.client.core.metadata import Leader, MetadataCache
from raftlog.client.core.metadata_refresh import Refresher
from raftlog.client.producer.accumulator import Accumulator, Lane
from raftlog.client.producer.batch import PendingBatch
from raftlog.client.producer.sequences import ProducerIds, SequenceNumbers
from raftlog.clock import NEVER_S
from raftlog.errors import (
    ClosedError,
    DeliveryTimeoutError,
    ErrorCode,
    RaftlogError,
    RequestTimedOutError,
    UnknownTopicOrPartitionError,
    error_for,
)
from raftlog.limits import (
    CLOSE_LINGER_S,
    CONNECT_PATIENCE_S,
    EXPIRY_SCAN_S,
    LEADER_MOVED_S,
    LEADER_SILENT_S,
    METADATA_BACKOFF_MIN_S,
    PRODUCE_TIMEOUT_MAX_MS,
    RETRY_BACKOFF_MAX_S,
    RETRY_BACKOFF_MIN_S,
    TOPIC_UNKNOWN_S,
    UNACKNOWLEDGED_METADATA_S,
)
from raftlog.protocol import apis
from raftlog.protocol.cluster import HandshakeResponse
from raftlog.protocol.records import ProduceRequest, ProduceResult
from raftlog.types import Endpoint

# What a partition answers to a batch of an idempotent producer that it does not take with these numbers.
_NOT_TAKEN = frozenset(
    (
        ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER,
        ErrorCode.INVALID_PRODUCER_EPOCH,
        ErrorCode.UNKNOWN_PRODUCER_ID,
    )
)


class Flow:
    """What is in flight for one partition. `returned` waits to be put back once nothing is in flight."""

    __slots__ = (
        "backoff_s",
        "connecting_s",
        "in_flight",
        "last_error",
        "leader",
        "moved_s",
        "numbering",
        "proven",
        "retry_s",
        "returned",
    )

    def __init__(self) -> None:
        self.in_flight: dict[PendingBatch, int] = {}  # correlation ids, in the order of sending
        self.returned: list[PendingBatch] = []
        self.leader: Leader | None = None
        self.proven = False  # this leader has acknowledged something
        self.retry_s = 0.0
        self.backoff_s = RETRY_BACKOFF_MIN_S
        self.connecting_s: float | None = None
        self.moved_s: float | None = None  # since when another leader is known than the one asked
        self.last_error: RaftlogError | None = None
        self.numbering = SequenceNumbers()  # used with idempotence


class Sender:
    """The part of a producer that sends batches, and again what has to be sent again."""

    def __init__(
        self,
        exchange: Exchange,
        cache: MetadataCache,
        refresher: Refresher,
        accumulator: Accumulator,
        *,
        acks: int,
        ids: ProducerIds | None = None,
        max_in_flight: int,
        retries: int | None,
        request_timeout_s: float,
        delivery_timeout_s: float,
    ) -> None:
        """`ids`: with idempotence, whose numbers come from it."""
        self._exchange = exchange
        self._cache = cache
        self._refresher = refresher
        self._accumulator = accumulator
        self._acks = acks
        timeout_ms = min(int(request_timeout_s * 1000), PRODUCE_TIMEOUT_MAX_MS)
        self._request = ProduceRequest(acks=acks, timeout_ms=timeout_ms)  # what all of them ask
        self._ids = ids
        self._max_in_flight = max_in_flight
        self._retries = retries
        self._request_timeout_s = request_timeout_s
        self._delivery_timeout_s = delivery_timeout_s
        self._flows: dict[Lane, Flow] = {}
        self._busy: dict[Lane, Flow] = {}  # those with batches in flight or returned
        self._now_s = 0.0
        self._scan_s = 0.0
        self._unanswered: set[Endpoint] = set()  # with acks=0: to whom batches were sent
        self._asked: set[Endpoint] = set()  # those of them that were asked whether they have received them
        self._ends = False
        self.all_received = threading.Event()  # after `end`; with acknowledgements nobody waits for it
        if acks:
            self.all_received.set()

    def end(self) -> None:
        """Nothing more will be sent: `all_received` is set once all that nobody acknowledges was received, or lost.

        Without acknowledgements a batch has its outcome when ZeroMQ has taken it, and its bytes may still be here.
        From any thread; wake the client AFTER it.
        """
        self._ends = True

    def step(self, now_s: float) -> float:
        """Sends what can be sent; returns when to be called again at the latest."""
        self._now_s = now_s
        if now_s >= self._scan_s:
            self._scan_s = now_s + EXPIRY_SCAN_S
            self._scan(now_s)
        for lane, flow in list(self._busy.items()):
            if flow.returned and not flow.in_flight:
                self._accumulator.put_back(lane, flow.returned)
                flow.returned = []
            if not flow.in_flight and not flow.returned:
                del self._busy[lane]
        next_s = self._scan_s if self._busy else NEVER_S
        for lane in self._accumulator.filled():
            filled = self._flows.get(lane)
            if filled is None:
                filled = self._flows[lane] = Flow()
            next_s = min(next_s, self._pump(lane, filled, now_s), self._scan_s)
        return min(next_s, self._ask_whether_received(now_s)) if self._ends else next_s

    def _ask_whether_received(self, now_s: float) -> float:
        next_s = NEVER_S
        for endpoint in self._unanswered - self._asked:
            done = partial(self._received, endpoint)
            deadline_s = now_s + CLOSE_LINGER_S
            if not self._exchange.connect(endpoint):
                self._unanswered.discard(endpoint)  # the connection broke, and what was not sent is lost
            elif self._exchange.ask_whether_received(endpoint, done, deadline_s=deadline_s):
                self._asked.add(endpoint)
            else:
                next_s = now_s + METADATA_BACKOFF_MIN_S / 4
        if self._unanswered or self.all_received.is_set():
            return next_s
        self.all_received.set()
        return now_s  # a callback that waits for it looks at once

    def _received(self, endpoint: Endpoint, _answer: HandshakeResponse | None, _payload: bytes) -> None:
        self._unanswered.discard(endpoint)
        if not self._unanswered:
            self.all_received.set()

    def _pump(self, lane: Lane, flow: Flow, now_s: float) -> float:
        """Sends of one lane. An answer, a new leader or a connection calls again before the time returned."""
        while not flow.returned:
            ready_s = self._accumulator.ready_at_s(lane)
            if max(ready_s, flow.retry_s) > now_s:
                return max(ready_s, flow.retry_s)
            if len(flow.in_flight) >= (self._max_in_flight if flow.proven or self._ids else 1):
                break
            leader = self._cache.leader(lane.topic, lane.partition)
            if leader is None:
                self._refresher.want_topic(lane.topic)
                self._refresher.want()
                break
            if leader != flow.leader:
                if flow.in_flight:
                    break  # until their outcome is known, or _scan gives them up
                if flow.leader is not None and flow.leader.topic_id != leader.topic_id:
                    self._accumulator.forget_attempts(lane)
                    flow.numbering.burnt = True  # another topic of that name knows nothing of what came before
                flow.leader = leader
                flow.proven = self._acks == 0
                flow.moved_s = flow.connecting_s = None
            if not self._exchange.connect(leader.endpoint):
                return self._not_connected(flow, (leader.topic_id, lane.partition), now_s)
            flow.connecting_s = None
            held_s = self._exchange.held_until_s.get(leader.endpoint, 0.0)
            if held_s > now_s:
                return held_s
            if self._ids is not None and not self._may_number(self._ids, lane, flow, now_s):
                if flow.numbering.producer_id < 0 and self._ids.refusal is not None:
                    self._refuse_all(lane, flow, self._ids.refusal)
                    break
                return now_s + RETRY_BACKOFF_MAX_S
            batch = self._accumulator.take(lane, now_s, flow.numbering.number if self._ids else None)
            if batch is None:
                break
            if not self._send(lane, flow, leader, batch, now_s):
                self._accumulator.put_back(lane, [batch])
                flow.retry_s = now_s + METADATA_BACKOFF_MIN_S / 4
                return flow.retry_s
        return NEVER_S

    def _may_number(self, ids: ProducerIds, lane: Lane, flow: Flow, now_s: float) -> bool:
        """Whether the lane's next batch may be sent with the numbers that it has, or that it would be given."""
        numbering = flow.numbering
        if numbering.burnt and not self._accumulator.has_maybe_written(lane):
            # What may have been written goes first, with the numbers that it had; then nothing of them is left open.
            if flow.in_flight:
                return False
            numbering.begin_next_epoch(ids)
        if numbering.producer_id < 0:
            producer_id = ids.get(now_s)
            if producer_id is None:
                flow.last_error = ids.error
                return False
            numbering.begin(producer_id)
        return True

    def _not_connected(self, flow: Flow, place: tuple[bytes, int], now_s: float) -> float:
        if flow.connecting_s is None:
            flow.connecting_s = now_s
        elif now_s - flow.connecting_s >= CONNECT_PATIENCE_S:
            self._refresher.want([place])
        return now_s + CONNECT_PATIENCE_S

    def _send(self, lane: Lane, flow: Flow, leader: Leader, batch: PendingBatch, now_s: float) -> bool:
        expected = self._acks != 0
        sent = self._exchange.ask(
            leader.endpoint,
            apis.PRODUCE,
            self._request,
            partial(self._answered, lane, flow, leader, batch) if expected else None,
            deadline_s=min(now_s + self._request_timeout_s, batch.created_s + self._delivery_timeout_s),
            overdue_s=now_s + LEADER_SILENT_S,
            topic_id=leader.topic_id,
            partition=lane.partition,
            payload=batch.encode(),
        )
        if not sent:
            return False
        if expected:
            flow.in_flight[batch] = sent
            self._busy[lane] = flow
        else:
            # A leader that is none any more would not say so: look now and then.
            if now_s - self._refresher.answered_s >= UNACKNOWLEDGED_METADATA_S:
                self._refresher.want()
            self._unanswered.add(leader.endpoint)
            self._accumulator.completed(batch)
            batch.complete(-1)
        return True

    # --- outcomes ----------------------------------------------------------------------------
    def _answered(
        self,
        lane: Lane,
        flow: Flow,
        leader: Leader,
        batch: PendingBatch,
        answer: ProduceResult | None,
        _payload: bytes,
    ) -> None:
        del flow.in_flight[batch]
        code = ErrorCode.REQUEST_TIMED_OUT if answer is None else answer.error_code
        # A batch that was written long before was so by an attempt of which nothing was heard.
        written_before = code == ErrorCode.DUPLICATE_SEQUENCE_NUMBER and batch.maybe_written
        if answer is not None and (code == ErrorCode.NONE or written_before):
            flow.proven = True
            flow.backoff_s = RETRY_BACKOFF_MIN_S
            flow.last_error = None
            self._accumulator.completed(batch)
            batch.complete(answer.base_offset)
            return
        if answer is None:
            error: RaftlogError = RequestTimedOutError(f"{leader.endpoint} did not answer")
        else:
            error = error_for(code, answer.error_text)
        hint = -1 if answer is None else answer.leader_epoch
        self._failed(lane, flow, leader, batch, error, hint)

    def _failed(
        self, lane: Lane, flow: Flow, leader: Leader, batch: PendingBatch, error: RaftlogError, hint: int
    ) -> None:
        now_s = self._now_s
        unknown = error.outcome_unknown or error.code == ErrorCode.UNKNOWN_SERVER_ERROR
        batch.maybe_written = batch.maybe_written or unknown
        flow.last_error = error
        if error.invalid_metadata or error.outcome_unknown:
            self._cache.refused(lane.topic, lane.partition, leader, hint, now_s)
            self._refresher.want()
        renumbered = error.code in _NOT_TAKEN and self._is_sent_again(flow, batch)
        retriable = error.retriable and (self._retries is None or batch.retries < self._retries)
        if not retriable and not renumbered:
            error.outcome_unknown = batch.maybe_written
            self._give_up(flow, batch, error)
        elif now_s >= batch.created_s + self._delivery_timeout_s:
            self._give_up(flow, batch, self._too_late(lane, flow, batch))
        else:
            batch.retries += not renumbered
            if not flow.returned:
                # Once for all that fails together; the first retry comes soon: often only the leader moved.
                flow.retry_s = now_s + flow.backoff_s
                flow.backoff_s = min(flow.backoff_s * 2, RETRY_BACKOFF_MAX_S)
            flow.returned.append(batch)
            flow.proven = False

    def _is_sent_again(self, flow: Flow, batch: PendingBatch) -> bool:
        """The partition does not take the batch with its numbers: it was not written by this attempt."""
        unresolved = (*flow.in_flight, *flow.returned)
        if not flow.numbering.burnt and any(other.sequence < batch.sequence for other in unresolved):
            return True  # one before it has to be sent again, and then it follows
        # Its predecessor is acknowledged or given up: with these numbers it will never be taken.
        flow.numbering.burnt = True
        return not batch.maybe_written

    def _too_late(self, lane: Lane, flow: Flow, batch: PendingBatch) -> DeliveryTimeoutError:
        outcome = "it may have been written" if batch.maybe_written else "it was not written"
        why = self._cache.foreign_error(self._now_s) or flow.last_error
        reason = "" if why is None else f"; last error: {why}"
        error = DeliveryTimeoutError(
            f"{lane.topic}-{lane.partition}: not acknowledged within {self._delivery_timeout_s:g} s, {outcome}{reason}"
        )
        error.outcome_unknown = batch.maybe_written
        return error

    def _give_up(self, flow: Flow | None, batch: PendingBatch, error: RaftlogError) -> None:
        if flow is not None:
            flow.numbering.gave_up(batch)
        self._accumulator.completed(batch)
        batch.fail(error)

    # --- time --------------------------------------------------------------------------------
    def _scan(self, now_s: float) -> None:
        """What no answer brings to light: batches that waited too long, leaders that fell silent."""
        for lane, flow in list(self._busy.items()):
            self._give_up_on_silent_leader(lane, flow, now_s)
        for lane in self._accumulator.filled():
            waiting = self._flows.setdefault(lane, Flow())
            for batch in self._accumulator.take_created_before(lane, now_s - self._delivery_timeout_s):
                self._give_up(waiting, batch, self._too_late(lane, waiting, batch))
            unknown_s = now_s - self._cache.unknown_since_s.get(lane.topic, now_s)
            missing = lane.topic in self._cache.topics and self._partition_is_gone(lane)
            if unknown_s >= TOPIC_UNKNOWN_S or missing:
                gone = UnknownTopicOrPartitionError(f"{lane.topic}-{lane.partition} does not exist")
                self._refuse_all(lane, waiting, gone)

    def _refuse_all(self, lane: Lane, flow: Flow, refusal: RaftlogError) -> None:
        for batch in self._accumulator.take_created_before(lane, NEVER_S):
            error = error_for(refusal.code, str(refusal))
            error.outcome_unknown = batch.maybe_written
            self._give_up(flow, batch, error)

    def _partition_is_gone(self, lane: Lane) -> bool:
        return lane.partition >= len(self._cache.topics[lane.topic].leaders)

    def _give_up_on_silent_leader(self, lane: Lane, flow: Flow, now_s: float) -> None:
        leader = self._cache.leader(lane.topic, lane.partition)
        if not flow.in_flight or leader is None or leader == flow.leader:
            flow.moved_s = None
        elif flow.moved_s is None:
            flow.moved_s = now_s  # its last answers may be on their way; to ask again costs nothing with idempotence
        elif self._ids is not None or now_s - flow.moved_s >= LEADER_MOVED_S:
            assert flow.leader is not None, "something was sent to it"
            for correlation_id in list(flow.in_flight.values()):
                self._exchange.abandon(flow.leader.endpoint, correlation_id)

    def abort(self) -> None:
        """Fails everything with ClosedError; nothing is sent any more."""
        self._accumulator.close()
        self.all_received.set()
        for batch in self._accumulator.incomplete():
            sent = any(batch in flow.in_flight for flow in self._busy.values())
            error = ClosedError("the producer was closed before it was acknowledged")
            error.outcome_unknown = batch.maybe_written or sent
            self._give_up(None, batch, error)
        for flow in self._flows.values():
            flow.in_flight.clear()
            flow.returned.clear()
