"""Where a client that reads one batch after the other reads next: its worker is asked once for several of its fetches.

    the worker has told where   BEFORE   a fetch is answered from there, over a link that has stood since then

The bounds of the log that go with such an answer are as old as the question, KAFKA_AHEAD_S at most: as if the client
had fetched ahead by itself, as consumers do.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from raftlog import limits
from raftlog.kafka.calls import Leader
from raftlog.protocol.records import LocateResponse, Place

if TYPE_CHECKING:
    from raftlog.kafka.connection import Connection


class _Ahead:
    """Of one partition as one client reads it: what follows `offset`, located for fetches of `room` bytes."""

    __slots__ = ("answer", "offset", "places", "room", "until_s")

    def __init__(self, answer: LocateResponse, room: int, until_s: float) -> None:
        self.answer = answer
        self.offset = answer.next_offset
        self.places = deque(answer.following)
        self.room = room
        self.until_s = until_s


class Located(NamedTuple):
    """Where the records lie that a client is expected to fetch next.

    `answer`: with which it was told, for its bounds.
    """

    answer: LocateResponse
    place: Place


class ReadAhead:
    def __init__(self) -> None:
        self._known: dict[tuple[Connection, Leader], _Ahead] = {}

    def take(
        self, connection: Connection, target: Leader, offset: int, room: int, leader_epoch: int, now_s: float
    ) -> Located | None:
        """What was told of this place, once; None: ask."""
        known = self._known.get((connection, target))
        if known is None or known.offset != offset or known.room != room or now_s >= known.until_s:
            return None
        if not known.places or leader_epoch not in (-1, known.answer.leader_epoch):
            return None
        place = known.places.popleft()
        known.offset = place.next_offset
        return Located(known.answer, place)

    def wanted(self, connection: Connection, target: Leader, offset: int) -> int:
        """How many places to ask for beside the one at `offset`: none before it reads on where it has read."""
        known = self._known.get((connection, target))
        return limits.LOCATED_AHEAD_MAX if known is not None and known.offset == offset else 0

    def note(self, connection: Connection, target: Leader, answer: LocateResponse, room: int, now_s: float) -> None:
        """It is given what `answer` says, and may come for what follows. Nothing is kept of who has read all."""
        self._known.pop((connection, target), None)
        if 0 <= answer.next_offset < answer.high_watermark:
            self._known[connection, target] = _Ahead(answer, room, now_s + limits.KAFKA_AHEAD_S)
            if len(self._known) > limits.KAFKA_AHEADS_MAX:
                del self._known[next(iter(self._known))]

    def forget(self, connection: Connection) -> None:
        """It is gone."""
        self._known = {key: known for key, known in self._known.items() if key[0] is not connection}

    def lost(self, target: Leader) -> None:
        """The link to the worker is gone: what it told may not be true any more."""
        self._known = {key: known for key, known in self._known.items() if key[1] != target}
