"""Fetch sessions (KIP-227): a client names its partitions once, and then only what has changed. Pure.

A session belongs to the connection that made it, and ends with it; Kafka's lasts longer, which no client needs, since
one whose session is unknown begins another.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import NamedTuple

from raftlog import limits
from raftlog.kafka.codes import KafkaCode

FULL_EPOCH = 0
FINAL_EPOCH = -1
NO_SESSION = 0


class Wanted(NamedTuple):
    """A partition as a client asks for it. `topic`: its name, or its id from version 13 on."""

    topic: str | bytes
    partition: int
    offset: int
    max_bytes: int
    leader_epoch: int


class FetchSession:
    """A fetch session: what a client wants, and what it knows already (KIP-227).

    `told`: what the client knows of each partition, (high watermark, log start offset).
    """

    def __init__(self, session_id: int) -> None:
        self.session_id = session_id
        self.epoch = 1
        self.wanted: dict[tuple[str | bytes, int], Wanted] = {}
        self.told: dict[tuple[str | bytes, int], tuple[int, int]] = {}

    def change(self, wanted: Iterable[Wanted], forgotten: Iterable[tuple[str | bytes, int]]) -> None:
        for key in forgotten:
            self.wanted.pop(key, None)
            self.told.pop(key, None)
        for each in wanted:
            key = (each.topic, each.partition)
            # What was asked for anew comes at the end: partitions take turns.
            self.wanted.pop(key, None)
            self.wanted[key] = each

    def has_news(self, key: tuple[str | bytes, int], high_watermark: int, log_start_offset: int) -> bool:
        """Notes what the client is told now, and says whether that is new to it."""
        news = (high_watermark, log_start_offset)
        if self.told.get(key) == news:
            return False
        self.told[key] = news
        return True


class FetchSessions:
    """Those of one door process, bounded in number and in partitions."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._sessions: dict[object, dict[int, FetchSession]] = {}
        self.count = 0

    def open(self, owner: object, wanted: list[Wanted]) -> FetchSession | None:
        """None: there are too many, and the client goes on with whole requests."""
        full = self.count >= limits.FETCH_SESSIONS_MAX
        if full or len(wanted) > limits.FETCH_SESSION_PARTITIONS_MAX:
            return None
        session = FetchSession(next(self._numbers) % (2**31 - 1) + 1)
        session.change(wanted, ())
        self._sessions.setdefault(owner, {})[session.session_id] = session
        self.count += 1
        return session

    def find(self, owner: object, session_id: int, epoch: int) -> FetchSession | KafkaCode:
        """The session of an incremental request, whose epoch is counted on."""
        session = self._sessions.get(owner, {}).get(session_id)
        if session is None:
            return KafkaCode.FETCH_SESSION_ID_NOT_FOUND
        if epoch != session.epoch:
            return KafkaCode.INVALID_FETCH_SESSION_EPOCH
        session.epoch = session.epoch + 1 if session.epoch < 2**31 - 1 else 1
        return session

    def close(self, owner: object, session_id: int) -> None:
        sessions = self._sessions.get(owner)
        if sessions and sessions.pop(session_id, None):
            self.count -= 1
            if not sessions:
                del self._sessions[owner]

    def forget(self, owner: object) -> None:
        """The connection is gone."""
        self.count -= len(self._sessions.pop(owner, {}))
