"""What a membership wants: of the coordinator an Ask, of the user's thread a Task."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from raftlog.protocol.groups import GroupRequest
from raftlog.types import TopicPartition


class Identity(NamedTuple):
    """As whom a member speaks. `tenure` grows with every loss: what was owned before it is not owned after it."""

    member_id: str
    generation: int
    tenure: int


class Ask:
    """A request for the coordinator, built anew with every attempt to send it."""

    def __init__(
        self,
        identity: Identity,
        request: Callable[..., GroupRequest],
        clock: Callable[[], float],
        *,
        attempt_s: float,
        within_s: float,
    ) -> None:
        self._request = request
        self._clock = clock
        self.identity = identity
        self.attempt_s = attempt_s
        self.sent_s = clock()
        self.deadline_s = self.sent_s + within_s

    def build(self, correlation_id: int, topic_id: bytes, partition: int) -> GroupRequest:
        self.sent_s = self._clock()
        return self._request(correlation_id=correlation_id, topic_id=topic_id, partition=partition)


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
