"""Batches that have to be looked into before they are appended, a bounded piece of them in each turn.

A compressed one must not unpack to more than a consumer takes, and in a compacted topic each record has a key. Batches
of one session stay in the order in which they came: those behind one that is looked into wait for it. No I/O.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from typing import NamedTuple

from raftlog.errors import RaftlogError
from raftlog.limits import DECOMPRESSED_BYTES_MAX, INSPECTED_BYTES_MAX, INSPECTED_BYTES_PER_TURN
from raftlog.partition.duplicates import Taken
from raftlog.partition.pending_produces import Produce
from raftlog.protocol.session import Session
from raftlog.record.batch import BatchHeader
from raftlog.record.compacted import check_keyed
from raftlog.record.unpacking import measure
from raftlog.types import Buffer


class _Waiting(NamedTuple):
    taken: Taken
    work: Generator[int | None, None, None]  # None: not now


class BatchInspection:
    """The batches that are looked into before they are appended, in the order in which they came.

    `take` each batch that came, `step` once a turn; `accept` or `refuse` is called for each, in their order.
    """

    def __init__(self, accept: Callable[[Taken], None], refuse: Callable[[Produce, RaftlogError], None]) -> None:
        self._accept = accept
        self._refuse = refuse
        self._sessions: dict[Session | None, deque[_Waiting]] = {}
        self.count = 0
        self.size_bytes = 0
        self.spent_bytes = 0  # of work, in this turn
        self._unpacked_bytes = 0  # held at most by those that are looked into

    def take(self, taken: Taken, *, keyed: bool) -> None:
        produce, frame, header = taken
        waiting = self._sessions.get(produce.session)
        each = _Waiting(taken, self._look_into(frame, header, keyed))
        if waiting is None:
            if self._go_on(each):
                return
            waiting = self._sessions[produce.session] = deque()
        waiting.append(each)
        self.count += 1
        self.size_bytes += len(frame)

    def step(self) -> None:
        """Begins a turn."""
        self.spent_bytes = 0
        for session in list(self._sessions):
            waiting = self._sessions.pop(session)
            while waiting and self._go_on(waiting[0]):
                self._forget(waiting.popleft())
            if waiting:
                self._sessions[session] = waiting  # behind the others, which come first in the next turn
            if self.spent_bytes >= INSPECTED_BYTES_PER_TURN:
                return

    def end_all(self) -> list[Produce]:
        """Forgets what waits, and says what that is."""
        ended = [each.taken[0] for waiting in self._sessions.values() for each in waiting]
        for waiting in self._sessions.values():
            for each in waiting:
                each.work.close()
        self._sessions.clear()
        self.count = self.size_bytes = 0
        return ended

    def _forget(self, each: _Waiting) -> None:
        self.count -= 1
        self.size_bytes -= len(each.taken[1])

    def _go_on(self, each: _Waiting) -> bool:
        """False: the turn's work is done, the batch is not."""
        try:
            while self.spent_bytes < INSPECTED_BYTES_PER_TURN:
                work_bytes = next(each.work)
                if work_bytes is None:
                    return False
                self.spent_bytes += work_bytes
            return False
        except StopIteration:
            self._accept(each.taken)
        except RaftlogError as error:
            self._refuse(each.taken[0], error)
        return True

    def _look_into(self, frame: Buffer, header: BatchHeader, keyed: bool) -> Generator[int | None, None, None]:
        unpacked_bytes = yield from measure(frame, header, DECOMPRESSED_BYTES_MAX)
        if not keyed:
            return
        while self._unpacked_bytes and self._unpacked_bytes + unpacked_bytes > INSPECTED_BYTES_MAX:
            yield None  # BEFORE anything is unpacked: each of many clients may have begun a large one
        self._unpacked_bytes += unpacked_bytes
        try:
            yield from check_keyed(frame, header)
        finally:
            self._unpacked_bytes -= unpacked_bytes
