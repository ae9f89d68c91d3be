"""How long the stages of a produce take, for each turn of a leader that appends: what a slow write waits for.

queue       from taking the first request of the turn to its append
append      to the page cache, all requests of the turn in one write
sync        the turn's fdatasync
replicate   from the append until every in-sync replica holds it, durably, and a majority
answer      handing the answers to the connections
"""

from __future__ import annotations

from collections import deque

from raftlog.histogram import Histogram

STAGES = ("queue", "append", "sync", "replicate", "answer")


class Stages:
    """Told at which times the steps were."""

    def __init__(self) -> None:
        self.queue = Histogram()
        self.append = Histogram()
        self.sync = Histogram()
        self.replicate = Histogram()
        self.answer = Histogram()
        self._taken_s = 0.0  # when the oldest request came that is not appended yet; 0: there is none
        self._appended: deque[tuple[int, float]] = deque()  # last index and time, of what is not acknowledged yet

    def took(self, now_s: float) -> None:
        if not self._taken_s:
            self._taken_s = now_s

    def begin_append(self, now_s: float) -> None:
        if self._taken_s:
            self.queue.observe(now_s - self._taken_s)
            self._taken_s = 0.0

    def appended(self, began_s: float, ended_s: float, last_index: int) -> None:
        self.append.observe(ended_s - began_s)
        self._appended.append((last_index, ended_s))

    def awaits(self, acked_index: int) -> bool:
        """Something that was appended is acknowledged with this index, and not counted yet."""
        return bool(self._appended) and self._appended[0][0] <= acked_index

    def acknowledged(self, acked_index: int, now_s: float) -> None:
        appended = self._appended
        while appended and appended[0][0] <= acked_index:
            self.replicate.observe(now_s - appended.popleft()[1])

    def end(self) -> None:
        """Leadership is over: what becomes of the rest is another's."""
        self._appended.clear()
        self._taken_s = 0.0
