"""What readers and trimmers have in common: one request at a time, to whoever is believed to lead."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Generic, TypeVar

from raftlog.partition.replica import ClientRequest
from raftlog.simulator.events import Events
from raftlog.types import ReplicaSpec

TIMEOUT_S = 2.0

Asked = TypeVar("Asked", bound=ClientRequest)
SendRequest = Callable[[int, str, ClientRequest, list[bytes]], None]


class Asker(Generic[Asked]):
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
        self._asked: Asked | None = None
        events.after(rng.random(), self._next)

    def _choose(self) -> Asked:
        """The next request, with `_next_id`."""
        raise NotImplementedError

    def _next(self) -> None:
        if self.stopped:
            return
        self._next_id += 1
        self._asked = self._choose()
        self._send(self._leader, self.name, self._asked, [])
        correlation_id = self._next_id
        self._events.after(TIMEOUT_S, lambda: self._give_up(correlation_id))

    def _give_up(self, correlation_id: int) -> None:
        if self._asked is not None and self._asked.correlation_id == correlation_id:
            self._leader = self._rng.choice(self._spec.voters)
            self._next()

    def _take(self, correlation_id: int) -> Asked | None:
        """What was answered; None: nothing that is waited for."""
        asked = self._asked
        if asked is None or correlation_id != asked.correlation_id:
            return None
        self._asked = None
        return asked

    def _turn_to(self, leader_id: int) -> None:
        self._leader = leader_id if leader_id > 0 else self._rng.choice(self._spec.voters)
