"""Single requests that are asked again until they succeed, fail for good, or run out of time.

For what is rare: admin requests and the bounds of partitions. Produce and Fetch have cores of their own.
Every call ends within its time, whatever the cluster does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

from raftlog.client.core.exchange import Answer, Exchange, Request
from raftlog.client.core.metadata import MetadataCache
from raftlog.client.core.metadata_refresh import Refresher
from raftlog.errors import (
    ClosedError,
    InvalidRequestError,
    NoBrokersAvailableError,
    RaftlogError,
    RequestTimedOutError,
    UnknownTopicOrPartitionError,
    error_for,
)
from raftlog.limits import RETRY_BACKOFF_MAX_S, RETRY_BACKOFF_MIN_S, TOPIC_UNKNOWN_S
from raftlog.types import Endpoint, TopicPartition

CONTROLLER = "controller"


class Call:
    """One question. `place` says whose leader is asked, or which node; None: any node; CONTROLLER: who leads those.

    `read` turns the answer into the result, or raises; it is told whether an earlier attempt may
    have been carried out. With `reads_refusals` it is given answers with an error too, unless that one is retried.
    `topic_id`: of the topic that is meant; one made anew under its name is never asked. b"": whichever has the name.
    """

    def __init__(
        self,
        what: str,
        place: TopicPartition | Endpoint | str | None,
        request: Callable[[int, bytes], Request],
        read: Callable[[Answer, bytes, bool], Any],
        *,
        deadline_s: float,
        attempt_s: float,
        reads_refusals: bool = False,
        topic_id: bytes = b"",
    ) -> None:
        self.what = what
        self.place = place
        self.request = request  # (correlation id, topic id)
        self.read = read
        self.deadline_s = deadline_s
        self.attempt_s = attempt_s
        self.reads_refusals = reads_refusals
        self.topic_id = topic_id
        self.future: Future[Any] = Future()
        self.began_s = float("inf")  # set when the client's thread takes it up
        self.asking = False
        self.maybe_done = False
        self.retry_s = 0.0
        self.backoff_s = RETRY_BACKOFF_MIN_S
        self.last_error: RaftlogError | None = None


class Calls:
    def __init__(self, exchange: Exchange, cache: MetadataCache, refresher: Refresher) -> None:
        self._exchange = exchange
        self._cache = cache
        self._refresher = refresher
        self._new: deque[Call] = deque()
        self._calls: list[Call] = []
        self._now_s = 0.0
        self._closed = False

    def add(self, call: Call) -> None:
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
            return float("inf")
        next_s = float("inf")
        for call in self._calls:
            if not call.asking and not call.future.done():
                next_s = min(next_s, self._try(call, now_s))
        self._calls = [call for call in self._calls if not call.future.done()]
        return next_s

    def _try(self, call: Call, now_s: float) -> float:
        if now_s >= call.deadline_s:
            self._give_up(call)
            return float("inf")
        if now_s < call.retry_s:
            return min(call.retry_s, call.deadline_s)
        target = self._target(call, now_s)
        foreign = self._cache.foreign_error(now_s)
        if foreign is not None and not call.future.done():
            call.future.set_exception(foreign)
        if call.future.done():
            return float("inf")
        if target is None:
            self._refresher.want()
        elif self._exchange.connect(target[0]):
            request = call.request(self._exchange.next_id(), target[1])
            done = partial(self._answered, call, target[0])
            deadline_s = min(call.deadline_s, now_s + call.attempt_s)
            try:
                call.asking = self._exchange.ask(target[0], request, done, now_s=now_s, deadline_s=deadline_s)
            except InvalidRequestError as error:
                call.future.set_exception(InvalidRequestError(f"{call.what}: {error}"))
                return float("inf")
        if not call.asking:
            # Whoever is asked for may have moved while nobody was looking.
            call.retry_s = now_s + call.backoff_s
            call.backoff_s = min(call.backoff_s * 2, RETRY_BACKOFF_MAX_S)
            if call.backoff_s == RETRY_BACKOFF_MAX_S:
                self._refresher.want()
        return min(call.retry_s, call.deadline_s) if not call.asking else float("inf")

    def _target(self, call: Call, now_s: float) -> tuple[Endpoint, bytes] | None:
        if call.place is None:
            node = self._refresher.connected_node(now_s)
            return None if node is None else (node, b"")
        if isinstance(call.place, Endpoint):
            return call.place, b""
        if not isinstance(call.place, TopicPartition):
            assert call.place == CONTROLLER
            controller = self._cache.controller
            return None if controller is None else (Endpoint(*controller), b"")
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
        return None if leader is None else (leader.endpoint, leader.topic_id)

    def _answered(self, call: Call, endpoint: Endpoint, answer: Answer | None, payload: bytes) -> None:
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
            call.future.set_result(call.read(answer, payload, call.maybe_done))
        except RaftlogError as refusal:
            self._refused(call, refusal)

    def _refused(self, call: Call, error: RaftlogError) -> None:
        call.maybe_done = call.maybe_done or error.outcome_unknown
        call.last_error = error
        if not error.retriable:
            call.future.set_exception(error)
            return
        call.retry_s = self._now_s + call.backoff_s
        call.backoff_s = min(call.backoff_s * 2, RETRY_BACKOFF_MAX_S)
        self._refresher.want()
        if isinstance(call.place, TopicPartition) and (error.invalid_metadata or error.outcome_unknown):
            leader = self._cache.leader(*call.place)
            if leader is not None:
                self._cache.refused(*call.place, leader, -1, self._now_s)

    def _give_up(self, call: Call) -> None:
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
