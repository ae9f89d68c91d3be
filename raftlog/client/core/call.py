"""Single requests that are asked again until they succeed, fail for good, or run out of time.

For what is rare: admin requests and the bounds of partitions. Produce and Fetch have cores of their own.
Every call ends within its time, whatever the cluster does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any, Generic

from raftlog.client.core.exchange import A, Exchange, Q
from raftlog.client.core.metadata import MetadataCache
from raftlog.client.core.metadata_refresh import Refresher
from raftlog.clock import NEVER_S
from raftlog.errors import (
    BrokerStorageError,
    ClosedError,
    InvalidRequestError,
    NoBrokersAvailableError,
    RaftlogError,
    RequestTimedOutError,
    UnknownTopicOrPartitionError,
    error_for,
)
from raftlog.limits import RETRY_BACKOFF_MAX_S, RETRY_BACKOFF_MIN_S, TOPIC_UNKNOWN_S
from raftlog.protocol.apis import Api
from raftlog.protocol.envelope import NO_TOPIC
from raftlog.types import Endpoint, TopicPartition

CONTROLLER = "controller"


class Call(Generic[Q, A]):
    """One question. `place` says whose leader is asked, or which node; None: any node; CONTROLLER: who leads those.

    `body` is what is asked, or makes it for each attempt, of the topic with the id that it is given. `read` turns the
    answer into the result, or raises; it is told whether an earlier attempt may have been carried out. With
    `reads_refusals` it is given answers with an error too, unless that one is retried. `topic_id`: of the topic that is
    meant; one made anew under its name is never asked. b"": whichever has the name. `payload` goes with what is asked;
    `read_payload` is `read` where the answer has one. `full_disk_s`: how long it is asked again where the disk has no
    room, which somebody has to make.
    """

    def __init__(
        self,
        what: str,
        place: TopicPartition | Endpoint | str | None,
        api: Api[Q, A],
        body: Q | Callable[[bytes], Q],
        read: Callable[[A, bool], Any] = lambda answer, maybe_done: answer,
        *,
        deadline_s: float,
        attempt_s: float,
        reads_refusals: bool = False,
        topic_id: bytes = b"",
        payload: bytes | None = None,
        read_payload: Callable[[A, bytes], Any] | None = None,
        full_disk_s: float = NEVER_S,
    ) -> None:
        self.full_disk_s = full_disk_s
        self.full_since_s = NEVER_S
        self.payload = payload
        self.read_payload = read_payload
        self.what = what
        self.place = place
        self.api = api
        self.body = body
        self.read = read
        self.deadline_s = deadline_s
        self.attempt_s = attempt_s
        self.reads_refusals = reads_refusals
        self.topic_id = topic_id
        self.future: Future[Any] = Future()
        self.began_s = NEVER_S  # set when the client's thread takes it up
        self.asking = False
        self.maybe_done = False
        self.retry_s = 0.0
        self.backoff_s = RETRY_BACKOFF_MIN_S
        self.last_error: RaftlogError | None = None

    def body_for(self, topic_id: bytes) -> Q:
        return self.body(topic_id) if callable(self.body) else self.body


class Calls:
    """The calls of one client that are under way: a part of its engine."""

    def __init__(self, exchange: Exchange, cache: MetadataCache, refresher: Refresher) -> None:
        self._exchange = exchange
        self._cache = cache
        self._refresher = refresher
        self._new: deque[Call[Any, Any]] = deque()
        self._calls: list[Call[Any, Any]] = []
        self._now_s = 0.0
        self._closed = False

    def add(self, call: Call[Any, Any]) -> None:
        """From any thread; wake the client's thread AFTER it."""
        self._new.append(call)
        if self._closed:
            self.abort()

    def step(self, now_s: float) -> float:
        self._now_s = now_s
        while self._new:
            call = self._new.popleft()
            call.began_s = now_s
            self._calls.append(call)
        if not self._calls:
            return NEVER_S
        next_s = NEVER_S
        for call in self._calls:
            if not call.asking and not call.future.done():
                next_s = min(next_s, self._try(call, now_s))
        self._calls = [call for call in self._calls if not call.future.done()]
        return next_s

    def _try(self, call: Call[Any, Any], now_s: float) -> float:
        if now_s >= call.deadline_s:
            self._give_up(call)
            return NEVER_S
        if now_s < call.retry_s:
            return min(call.retry_s, call.deadline_s)
        target = self._target(call, now_s)
        foreign = self._cache.foreign_error(now_s)
        if foreign is not None and not call.future.done():
            call.future.set_exception(foreign)
        if call.future.done():
            return NEVER_S
        if target is None:
            self._refresher.want()
        elif self._exchange.connect(target[0]):
            try:
                call.asking = self._ask(call, *target, now_s)
            except InvalidRequestError as error:
                call.future.set_exception(InvalidRequestError(f"{call.what}: {error}"))
                return NEVER_S
        if not call.asking:
            # Whoever is asked for may have moved while nobody was looking.
            call.retry_s = now_s + call.backoff_s
            call.backoff_s = min(call.backoff_s * 2, RETRY_BACKOFF_MAX_S)
            if call.backoff_s == RETRY_BACKOFF_MAX_S:
                self._refresher.want()
        return min(call.retry_s, call.deadline_s) if not call.asking else NEVER_S

    def _ask(self, call: Call[Any, Any], endpoint: Endpoint, topic_id: bytes, partition: int, now_s: float) -> bool:
        number = self._exchange.ask(
            endpoint,
            call.api,
            call.body_for(topic_id),
            partial(self._answered, call, endpoint),
            deadline_s=min(call.deadline_s, now_s + call.attempt_s),
            topic_id=topic_id,
            partition=partition,
            payload=call.payload,
        )
        return bool(number)

    def _target(self, call: Call[Any, Any], now_s: float) -> tuple[Endpoint, bytes, int] | None:
        """Who is asked, and of which topic id and partition."""
        if call.place is None:
            node = self._refresher.connected_node(now_s)
            return None if node is None else (node, NO_TOPIC, -1)
        if isinstance(call.place, Endpoint):
            return call.place, NO_TOPIC, -1
        if not isinstance(call.place, TopicPartition):
            assert call.place == CONTROLLER
            controller = self._cache.controller
            return None if controller is None else (Endpoint(*controller), NO_TOPIC, -1)
        topic, partition = call.place
        self._refresher.want_topic(topic)
        if topic in self._cache.topics and partition >= len(self._cache.topics[topic].partitions):
            if self._refresher.answered_s < call.began_s:
                return None  # partitions may have been added since
            call.future.set_exception(UnknownTopicOrPartitionError(f"{topic} has no partition {partition}"))
        elif now_s - self._refresher.unknown_since_s(topic, call.began_s) >= TOPIC_UNKNOWN_S:
            call.future.set_exception(UnknownTopicOrPartitionError(f"there is no topic {topic}"))
        leader = self._cache.leader(topic, partition)
        if leader is not None and call.topic_id not in (b"", leader.topic_id):
            # Nodes may not have heard yet of a topic made a moment ago; what stays another one was made since.
            if now_s - call.began_s >= TOPIC_UNKNOWN_S:
                text = f"topic {topic} was deleted and made anew since it was looked up"
                call.future.set_exception(UnknownTopicOrPartitionError(text))
            return None
        return None if leader is None else (leader.endpoint, leader.topic_id, partition)

    def _answered(self, call: Call[Any, Any], endpoint: Endpoint, answer: Any, payload: bytes) -> None:
        call.asking = False
        if call.future.done():
            return
        try:
            if answer is None:
                raise RequestTimedOutError(f"{endpoint} did not answer")
            if answer.error_code:
                error = error_for(answer.error_code, answer.error_text)
                if error.retriable or not call.reads_refusals:
                    raise error
            if call.read_payload is not None:
                call.future.set_result(call.read_payload(answer, payload))
            else:
                call.future.set_result(call.read(answer, call.maybe_done))
        except RaftlogError as refusal:
            self._refused(call, refusal)

    def _refused(self, call: Call[Any, Any], error: RaftlogError) -> None:
        call.maybe_done = call.maybe_done or error.outcome_unknown
        call.last_error = error
        call.full_since_s = min(call.full_since_s, self._now_s) if isinstance(error, BrokerStorageError) else NEVER_S
        if not error.retriable or self._now_s - call.full_since_s >= call.full_disk_s:
            call.future.set_exception(error)
            return
        call.retry_s = self._now_s + call.backoff_s
        call.backoff_s = min(call.backoff_s * 2, RETRY_BACKOFF_MAX_S)
        self._refresher.want()
        if isinstance(call.place, TopicPartition) and (error.invalid_metadata or error.outcome_unknown):
            leader = self._cache.leader(*call.place)
            if leader is not None:
                self._cache.refused(*call.place, leader, -1, self._now_s)

    def _give_up(self, call: Call[Any, Any]) -> None:
        error = call.last_error
        if error is None:
            if self._cache.doubt:
                error = NoBrokersAvailableError(f"{call.what}: {self._cache.doubt}, and no other node answers")
                error.outcome_unknown = call.maybe_done
            elif self._cache.version == 0:
                error = NoBrokersAvailableError(f"{call.what}: no node answered in time")
            else:
                error = RequestTimedOutError(f"{call.what}: whoever has to answer was not reachable in time")
                error.outcome_unknown = call.maybe_done
        call.future.set_exception(error)

    def abort(self) -> None:
        """Ends every call with ClosedError, now and from now on."""
        self._closed = True
        while self._new:
            self._calls.append(self._new.popleft())
        for call in self._calls:
            if not call.future.done():
                call.future.set_exception(ClosedError(f"{call.what}: the client was closed"))
        self._calls = []
