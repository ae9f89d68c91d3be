"""Produce requests that wait for their acknowledgement, and the answers of a turn, grouped by session.

A waiting produce is known by (Raft index, term), not by index alone: when leadership is lost its outcome is
unknown, never success (docs/architecture.md, "Semantics"). No I/O.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from raftlog.clock import NEVER_S
from raftlog.errors import ErrorCode
from raftlog.protocol.records import ProduceResult
from raftlog.protocol.session import Session

Done = Callable[[ErrorCode, int], None]

TIME_OUT_CHECK_S = 0.05  # which of them have waited too long is looked at no more often than this


class Produce(msgspec.Struct, frozen=True, gc=False, eq=False):
    """One accepted request. `append_ms`: if that is its time.

    `session` None: raftlog's own, told through `done`, or one that was told already and only keeps its place.
    """

    session: Session | None
    correlation_id: int
    acks: int
    deadline_s: float
    size_bytes: int
    done: Done | None
    append_ms: int = -1

    def begin(self) -> None:
        """With acks=0: its connection has one more under way, until `settle`, which each of them comes to."""
        if self.session is not None:
            self.session.unacknowledged += 1
            self.session.unacknowledged_bytes += self.size_bytes

    def settle(self) -> None:
        if not self.acks and self.session is not None:
            self.session.unacknowledged -= 1
            self.session.unacknowledged_bytes -= self.size_bytes


class Appended(NamedTuple):
    """Requests appended together: entry `first_index + i` is `produces[i]`, at `base_offsets[i]`."""

    first_index: int
    term: int
    produces: list[Produce]
    base_offsets: list[int]
    first_deadline_s: float


class Answers:
    """The produce results of one turn, one frame a session."""

    def __init__(self) -> None:
        self.by_session: dict[Session, list[ProduceResult]] = {}
        self.errors: dict[int, int] = {}  # by code, since the beginning

    def put(
        self,
        produce: Produce,
        code: ErrorCode,
        base_offset: int,
        text: str = "",
        leader_id: int = -1,
        leader_epoch: int = -1,
    ) -> None:
        if produce.done is not None:
            produce.done(code, base_offset)
        elif produce.acks != 0:
            session = produce.session
            assert session is not None, "raftlog's own is told through `done`"
            if code:
                self.errors[code] = self.errors.get(code, 0) + 1
            result = ProduceResult(
                int(code), text, produce.correlation_id, base_offset, leader_id, leader_epoch, produce.append_ms
            )
            results = self.by_session.get(session)
            if results is None:
                self.by_session[session] = [result]
            else:
                results.append(result)
        else:
            produce.settle()

    def take(self) -> dict[Session, list[ProduceResult]]:
        taken, self.by_session = self.by_session, {}
        return taken


class WaitingProduces:
    """acks=all, in index order, until acknowledged, timed out, or leadership ends."""

    def __init__(self) -> None:
        self._appended: deque[Appended] = deque()
        self._next_check_s = 0.0
        self.count = 0
        self.size_bytes = 0

    def add(self, first_index: int, term: int, produces: list[Produce], base_offsets: list[int]) -> None:
        """Those with acks=1 only keep their place: index by index, a group mirrors the log."""
        kept = [produce if produce.acks <= 0 else _told(produce) for produce in produces]
        first_deadline_s = min([produce.deadline_s for produce in kept])
        self._appended.append(Appended(first_index, term, kept, base_offsets, first_deadline_s))
        self.count += len(kept)
        self.size_bytes += sum([produce.size_bytes for produce in kept])

    def acknowledge(self, acked_index: int, answers: Answers) -> None:
        """Everything up to `acked_index` is committed and on every in-sync replica: those that wait for it succeed."""
        while self._appended:
            group = self._appended[0]
            ready = acked_index - group.first_index + 1
            if ready <= 0:
                return
            done, offsets = group.produces[:ready], group.base_offsets[:ready]
            self._forget(done)
            for produce, base_offset in zip(done, offsets, strict=True):
                answers.put(produce, ErrorCode.NONE, base_offset)
            if ready < len(group.produces):
                self._appended[0] = group._replace(
                    first_index=group.first_index + ready,
                    produces=group.produces[ready:],
                    base_offsets=group.base_offsets[ready:],
                )
                return
            self._appended.popleft()

    def end_all(self, answers: Answers) -> None:
        """Leadership is lost: whether these records stay is not known here."""
        while self._appended:
            group = self._appended.popleft()
            self._forget(group.produces)
            for produce in group.produces:
                answers.put(produce, ErrorCode.REQUEST_TIMED_OUT, -1, "leadership was lost; the outcome is unknown")

    def time_out(self, now_s: float, answers: Answers) -> None:
        """Answer what has waited too long. The entries stay in the log, so the outcome is open."""
        if not self._appended or now_s < self._next_check_s:
            return
        self._next_check_s = now_s + TIME_OUT_CHECK_S
        text = "not acknowledged in time; the outcome is open"
        for position, group in enumerate(self._appended):
            if group.first_deadline_s <= now_s:
                self._answer_some(position, now_s, ErrorCode.REQUEST_TIMED_OUT, text, answers)

    def refuse_all(self, code: ErrorCode, text: str, answers: Answers) -> None:
        """Answer everything that waits with an error. The entries stay in the log."""
        for position in range(len(self._appended)):
            self._answer_some(position, NEVER_S, code, text, answers)

    def _answer_some(self, position: int, deadline_s: float, code: ErrorCode, text: str, answers: Answers) -> None:
        """In one group: answer those whose time is up by `deadline_s`."""
        group = self._appended[position]
        kept: list[Produce] = []
        first_deadline_s = NEVER_S
        for produce in group.produces:
            if produce.acks == 0:
                kept.append(produce)
            elif produce.deadline_s > deadline_s:
                kept.append(produce)
                first_deadline_s = min(first_deadline_s, produce.deadline_s)
            else:
                answers.put(produce, code, -1, text)
                # The place in the group stays taken, as the index is; nobody is told again.
                kept.append(_told(produce))
        self._appended[position] = group._replace(produces=kept, first_deadline_s=first_deadline_s)

    def _forget(self, produces: list[Produce]) -> None:
        self.count -= len(produces)
        for produce in produces:
            self.size_bytes -= produce.size_bytes


def _told(produce: Produce) -> Produce:
    """What keeps the place of one that has its answer, or gets it elsewhere."""
    return replace(produce, acks=0, session=None, done=None)
