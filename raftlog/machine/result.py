"""What a state machine gives out, and the one order that holds for all of it:

    records committed, and applied here               BEFORE   `then` hears of it, and the response leaves
    a majority has said that this replica leads still  BEFORE   a response without records that is a statement leaves

The host keeps both; a machine only says which records a response needs. Data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from raftlog.errors import ErrorCode
from raftlog.protocol.body import ResponseBody
from raftlog.protocol.envelope import Request

Record = tuple[bytes | None, bytes | None]
"""Key and value, as they stand in the log."""


class Now(NamedTuple):
    """One moment on both clocks: `s` for time-outs, `ms` for what is written into records."""

    s: float
    ms: int


Then = Callable[[ErrorCode, Now], None]


class Result(NamedTuple):
    """What one input comes to: a response, records, or a response that is true once the records are committed.

    The records go into the log in one batch, hence in one Raft entry: all of them are committed, or none.
    `then` is called once: with NONE when the records are committed and applied, else with the error of the append,
    after which their fate may be open. In place of `response` the caller is refused with that error.
    """

    caller: Request[Any] | None  # whose request it answers; None: nobody asked
    response: ResponseBody | None
    records: Sequence[Record]
    then: Then | None


class Outbox:
    """The results of a machine that its host has not taken yet."""

    def __init__(self) -> None:
        self._results: list[Result] = []
        self.unfinished = 0  # results with records whose fate the machine has not heard of

    def answer(self, caller: Request[Any], response: ResponseBody) -> None:
        self._results.append(Result(caller, response, [], None))

    def propose(
        self,
        records: Sequence[Record],
        then: Then | None = None,
        *,
        caller: Request[Any] | None = None,
        response: ResponseBody | None = None,
    ) -> None:
        self.unfinished += 1
        self._results.append(Result(caller, response, records, then))

    def take(self) -> list[Result]:
        taken, self._results = self._results, []
        return taken

    def finish(self, result: Result, code: ErrorCode, now: Now) -> None:
        """The fate of a result with records, told in the order in which they were given out."""
        self.unfinished -= 1
        if result.then is not None:
            result.then(code, now)
