"""What readers and trimmers have in common: one request at a time, to whoever is believed to lead."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from raftlog.protocol import apis
from raftlog.protocol.body import Body
from raftlog.protocol.envelope import Request
from raftlog.protocol.session import Session
from raftlog.simulator.events import Events
from raftlog.types import ReplicaSpec

TIMEOUT_S = 2.0

Q = TypeVar("Q", bound=Body)
SendRequest = Callable[[int, Request[Any]], None]


class Asker(Generic[Q]):
    """What is not answered in time is given up, and another node is asked."""

    def __init__(self, name: str, spec: ReplicaSpec, events: Events, rng: random.Random, send: SendRequest) -> None:
        self.name = name
        self.stopped = False
        self._spec = spec
        self._events = events
        self._rng = rng
        self._send = send
        self._leader = rng.choice(spec.voters)
        self._next_id = 0
        self._asked: Request[Q] | None = None
        self._session = Session(name)
        events.after(rng.random(), self._next)

    def _choose(self) -> Request[Q]:
        """The next request."""
        raise NotImplementedError

    def _request(self, body: Q, topic_id: bytes = b"", partition: int = -1) -> Request[Q]:
        """Of the partition, if no other place is said."""
        return Request(
            self._session,
            apis.BY_REQUEST[type(body)],
            self._next_id,
            topic_id or self._spec.topic_id,
            self._spec.partition if partition < 0 else partition,
            body,
        )

    def _next(self) -> None:
        if self.stopped:
            return
        self._next_id += 1
        self._asked = self._choose()
        self._send(self._leader, self._asked)
        correlation_id = self._next_id
        self._events.after(TIMEOUT_S, lambda: self._give_up(correlation_id))

    def _give_up(self, correlation_id: int) -> None:
        if self._asked is not None and self._asked.correlation_id == correlation_id:
            self._leader = self._rng.choice(self._spec.voters)
            self._next()

    def _take(self, request: Request[Any]) -> bool:
        """Whether it is waited for that this is answered."""
        if self._asked is None or request.correlation_id != self._asked.correlation_id:
            return False
        self._asked = None
        return True

    def _turn_to(self, leader_id: int) -> None:
        self._leader = leader_id if leader_id > 0 else self._rng.choice(self._spec.voters)
