"""Questions of a door to whoever leads something on whatever node, and to supervisors.

They are rare, and whoever answers may have moved: so they are asked as a client asks, by a client's engine with its
thread. Answers wait here for the door's own thread, which `descriptor` wakes.
"""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import Future
from functools import partial
from typing import Any

from raftlog.client.core.call import CONTROLLER, Call
from raftlog.client.core.engine import Engine
from raftlog.clock import monotonic_s
from raftlog.errors import ErrorCode, LocalError, RaftlogError
from raftlog.kafka.calls import AnyLeader, Controller, Node, Told
from raftlog.limits import ADMIN_ATTEMPT_S
from raftlog.protocol.apis import Api
from raftlog.protocol.body import Body
from raftlog.security.credentials import Credentials
from raftlog.security.policy import NODE_USER
from raftlog.types import Endpoint, TopicPartition


class ControllerLink:
    """The engine starts with the first question: most doors are never asked one."""

    def __init__(self, node: Endpoint, credentials: Credentials | None = None) -> None:
        """`node`: the own one's first address. `credentials`: of this node."""
        self._node = node
        self._credentials = credentials
        self._engine: Engine | None = None
        self._password = ""
        self._answers: deque[tuple[Told, Any]] = deque()
        self.descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def ask(
        self, target: AnyLeader | Controller | Node, api: Api[Any, Any], body: Body, timeout_s: float, told: Told
    ) -> None:
        """`told` is called from `receive`: with the answer, or with a refusal that says why there is none."""
        if self._engine is None:
            self._engine = Engine([self._node], "kafka-door", frozenset(), self._credentials, self._who)
            self._engine.start()
        place: TopicPartition | Endpoint | str = CONTROLLER
        topic_id = b""
        if isinstance(target, AnyLeader):
            place, topic_id = TopicPartition(target.topic, target.partition), target.topic_id
        elif isinstance(target, Node):
            place = target.endpoint or self._node
        call: Call[Any, Any] = Call(
            api.name,
            place,
            api,
            body,
            deadline_s=monotonic_s() + timeout_s,
            attempt_s=ADMIN_ATTEMPT_S,
            reads_refusals=True,
            topic_id=topic_id,
        )
        call.future.add_done_callback(partial(self._answered, api, told))
        self._engine.submit(call)

    def secure(self, password: str) -> None:
        """What only nodes know, "" while there is nothing to know. Connections of before do not count any more."""
        if password != self._password:
            self._password = password
            if self._engine is not None:
                self._engine.stop()
                self._engine = None

    def _who(self) -> tuple[str, str] | None:
        return (NODE_USER, self._password) if self._password else None

    def _answered(self, api: Api[Any, Any], told: Told, future: Future[Any]) -> None:
        """In the engine's thread."""
        error = future.exception()
        if error is None:
            answer = future.result()
        elif isinstance(error, RaftlogError):
            # What the engine says by itself has no code that a client knows, and it says that nobody answered in time.
            code = ErrorCode.REQUEST_TIMED_OUT if isinstance(error, LocalError) else error.code
            answer = api.refusal(code, str(error))
        else:
            raise error
        self._answers.append((told, answer))
        os.eventfd_write(self.descriptor, 1)

    def receive(self) -> None:
        """Hands out the answers that have come."""
        os.eventfd_read(self.descriptor)
        while self._answers:
            told, answer = self._answers.popleft()
            told(answer, None)

    def close(self) -> None:
        if self._engine is not None:
            self._engine.stop()
        os.close(self.descriptor)
