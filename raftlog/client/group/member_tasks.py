"""What a membership wants: of the coordinator an Ask, of the user's thread a Task."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from raftlog.protocol.apis import Api
from raftlog.protocol.body import Body
from raftlog.types import TopicPartition


class Identity(NamedTuple):
    """As whom a member speaks. `tenure` grows with every loss: what was owned before it is not owned after it."""

    member_id: str
    generation: int
    tenure: int


class Ask:
    """A request for the coordinator, as whoever made it was then. `sent_s` is when it was last sent."""

    def __init__(
        self,
        identity: Identity,
        api: Api[Any, Any],
        body: Body,
        clock: Callable[[], float],
        *,
        attempt_s: float,
        within_s: float,
    ) -> None:
        self.api = api
        self._body = body
        self._clock = clock
        self.identity = identity
        self.attempt_s = attempt_s
        self.sent_s = clock()
        self.deadline_s = self.sent_s + within_s

    def body(self, _topic_id: bytes) -> Body:
        """For the next attempt to send it."""
        self.sent_s = self._clock()
        return self._body


class Lost(NamedTuple):
    """Somebody else may read these already."""

    partitions: frozenset[TopicPartition]


class Revoke(NamedTuple):
    """These are to be given up; they are owned until then."""

    partitions: frozenset[TopicPartition]


class Take(NamedTuple):
    """An assignment to be taken: `revoked` first."""

    revoked: frozenset[TopicPartition]
    added: frozenset[TopicPartition]


Task = Lost | Revoke | Take
