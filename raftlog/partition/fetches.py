"""Fetch requests that wait for records (long poll). No I/O; the replica reads and answers."""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple

from raftlog.protocol.messages import FetchRequest


class WaitingFetch(NamedTuple):
    client: Hashable
    request: FetchRequest
    deadline_s: float


class WaitingFetches:
    """Bounded by the caller. A turn asks for those that may be answered now."""

    def __init__(self) -> None:
        self._waiting: list[WaitingFetch] = []
        self._first_deadline_s = float("inf")

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def next_deadline_s(self) -> float:
        return self._first_deadline_s

    def add(self, fetch: WaitingFetch) -> None:
        self._waiting.append(fetch)
        self._first_deadline_s = min(self._first_deadline_s, fetch.deadline_s)

    def take_ready(self, end_offset: int, now_s: float) -> list[WaitingFetch]:
        """Those with records below `end_offset`, or out of time."""
        ready = [w for w in self._waiting if w.request.offset < end_offset or w.deadline_s <= now_s]
        if ready:
            self._waiting = [w for w in self._waiting if not (w.request.offset < end_offset or w.deadline_s <= now_s)]
            self._first_deadline_s = min((w.deadline_s for w in self._waiting), default=float("inf"))
        return ready

    def take_all(self) -> list[WaitingFetch]:
        waiting, self._waiting = self._waiting, []
        self._first_deadline_s = float("inf")
        return waiting
