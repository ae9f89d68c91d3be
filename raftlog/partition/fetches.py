"""Fetch requests that wait for records (long poll). No I/O; the replica reads and answers."""

from __future__ import annotations

from typing import NamedTuple

from raftlog.clock import NEVER_S
from raftlog.protocol.envelope import Request
from raftlog.protocol.records import FetchRequest, LocateRequest


class WaitingFetch(NamedTuple):
    """A fetch that is not answered yet. The records below `seen_end` were too few for its `min_bytes`.

    `skipped_to`: one that leaves batches without records out has nothing else in front of this offset.
    """

    request: Request[FetchRequest] | Request[LocateRequest]
    fetch: FetchRequest  # what is to be read
    deadline_s: float
    seen_end: int = -1
    skipped_to: int = -1

    def is_ready(self, end_offset: int, now_s: float) -> bool:
        """There are records below `end_offset` that it has not seen, or its time is over."""
        return max(self.fetch.offset, self.seen_end, self.skipped_to) < end_offset or self.deadline_s <= now_s


class WaitingFetches:
    """Bounded by the caller. A turn asks for those that may be answered now."""

    def __init__(self) -> None:
        self._waiting: list[WaitingFetch] = []
        self._first_deadline_s = NEVER_S

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def next_deadline_s(self) -> float:
        return self._first_deadline_s

    def add(self, fetch: WaitingFetch) -> None:
        self._waiting.append(fetch)
        self._first_deadline_s = min(self._first_deadline_s, fetch.deadline_s)

    def take_ready(self, end_offset: int, now_s: float) -> list[WaitingFetch]:
        """Those with records below `end_offset`, or out of time, in the order in which they came."""
        ready = [waiting for waiting in self._waiting if waiting.is_ready(end_offset, now_s)]
        if ready:
            self._waiting = [waiting for waiting in self._waiting if not waiting.is_ready(end_offset, now_s)]
            self._first_deadline_s = min((w.deadline_s for w in self._waiting), default=NEVER_S)
        return ready

    def put_back(self, fetches: list[WaitingFetch]) -> None:
        """Of those that were taken: they come before the others again."""
        self._waiting[:0] = fetches
        self._first_deadline_s = min(self._first_deadline_s, *(w.deadline_s for w in fetches))

    def take_all(self) -> list[WaitingFetch]:
        waiting, self._waiting = self._waiting, []
        self._first_deadline_s = NEVER_S
        return waiting
