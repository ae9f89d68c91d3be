"""Who waits at the end of the log without fetching: one question a session, told when the end or the start moves.

A door that serves long polls over many partitions asks each of them once, and nobody is asked again until something
comes. What is told is a hint, as the high watermark of a fetch is: it denies nothing. No I/O.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from raftlog import limits
from raftlog.clock import NEVER_S
from raftlog.errors import ErrorCode
from raftlog.protocol.envelope import Request
from raftlog.protocol.records import WatchRequest
from raftlog.protocol.session import Session

Answer = Callable[[Request[WatchRequest], ErrorCode], None]


class _Watch(NamedTuple):
    request: Request[WatchRequest]
    log_start_offset: int
    deadline_s: float


class Watches:
    """Of one replica, while it leads; `answer` is called once for each."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._waiting: dict[Session, _Watch] = {}
        self._first_offset = 0  # nobody waits for less, while there is anybody
        self._first_deadline_s = NEVER_S
        self._log_start_offset = 0  # what those that came first have seen of it

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def next_deadline_s(self) -> float:
        return self._first_deadline_s

    def add(self, request: Request[WatchRequest], log_start_offset: int, now_s: float) -> None:
        earlier = self._waiting.pop(request.session, None)
        if earlier is not None:
            self._answer(earlier.request, ErrorCode.NONE)
        if len(self._waiting) >= limits.WAITING_FETCHES_MAX:
            self._answer(request, ErrorCode.THROTTLING_QUOTA_EXCEEDED)
            return
        known = request.body.log_start_offset
        watch = _Watch(request, log_start_offset if known < 0 else known, now_s + limits.WATCH_S)
        self._waiting[request.session] = watch
        self._first_deadline_s = 0.0  # it is looked at in the next turn

    def is_due(self, log_start_offset: int) -> bool:
        """The log starts elsewhere than all have been told."""
        return bool(self._waiting) and log_start_offset != self._log_start_offset

    def tell(self, high_watermark: int, log_start_offset: int, now_s: float) -> None:
        """Those for whom something has changed."""
        moved = high_watermark > self._first_offset or log_start_offset != self._log_start_offset
        if not moved and now_s < self._first_deadline_s:
            return
        self._log_start_offset = log_start_offset
        waiting, self._waiting = self._waiting, {}
        for session, watch in waiting.items():
            changed = watch.request.body.offset < high_watermark or watch.log_start_offset != log_start_offset
            if changed or watch.deadline_s <= now_s:
                self._answer(watch.request, ErrorCode.NONE)
            else:
                self._waiting[session] = watch
        self._first_offset = min((watch.request.body.offset for watch in self._waiting.values()), default=0)
        self._first_deadline_s = min((watch.deadline_s for watch in self._waiting.values()), default=NEVER_S)

    def refuse_all(self, code: ErrorCode) -> None:
        waiting, self._waiting = self._waiting, {}
        self._first_deadline_s = NEVER_S
        for watch in waiting.values():
            self._answer(watch.request, code)
