"""Asks the coordinator of a group, once it is known whose partition of the offsets topic that is.

Which worker leads that partition is found, retried and followed as for every other call (core/call.py).
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from raftlog.client.core.call import CONTROLLER, Call, Calls
from raftlog.client.core.exchange import A, Q
from raftlog.clock import LONG_AGO_S, NEVER_S
from raftlog.errors import ClosedError, InvalidRequestError, RaftlogError, RequestTimedOutError
from raftlog.limits import ADMIN_ATTEMPT_S, ADMIN_TIMEOUT_MS, GROUP_RETRY_S
from raftlog.protocol import apis
from raftlog.protocol.apis import Api
from raftlog.protocol.groups import (
    FindCoordinatorRequest,
    FindCoordinatorResponse,
    coordinator_partition,
)
from raftlog.types import OFFSETS_TOPIC, TopicPartition


class CoordinatorFinder:
    """All calls are made with the fetcher's lock held; `change` has `step` called."""

    def __init__(self, calls: Calls, group_id: str, change: Callable[[], None]) -> None:
        self._calls = calls
        self._group_id = group_id
        self._change = change
        self._place: TopicPartition | None = None
        self._waiting: list[Call[Any, Any]] = []
        self._finding: Future[int] | None = None
        self._retry_s = LONG_AGO_S
        self._closed = False

    def ask(
        self, what: str, api: Api[Q, A], body: Q | Callable[[bytes], Q], *, attempt_s: float, deadline_s: float
    ) -> Future[A]:
        """Refusals that are not retried are results as well. `body` as in Call."""
        what = f"{what}, group {self._group_id}"
        call = Call(what, self._place, api, body, deadline_s=deadline_s, attempt_s=attempt_s, reads_refusals=True)
        if self._place is not None:
            self._calls.add(call)
        elif self._closed:
            call.future.set_exception(ClosedError(f"{what}: the client was closed"))
        else:
            self._waiting.append(call)
            self._change()
        return call.future

    def step(self, now_s: float) -> float:
        if self._finding is not None and self._finding.done():
            self._found(self._finding, now_s)
        if not self._waiting:
            return NEVER_S
        for call in self._waiting:
            if now_s >= call.deadline_s:
                call.future.set_exception(RequestTimedOutError(f"{call.what}: its coordinator was not found in time"))
        self._waiting = [call for call in self._waiting if not call.future.done()]
        if self._finding is None and now_s >= self._retry_s:
            deadline_s = now_s + ADMIN_TIMEOUT_MS / 1000
            what = f"find the coordinator of group {self._group_id}"
            find = Call(
                what,
                CONTROLLER,
                apis.FIND_COORDINATOR,
                FindCoordinatorRequest(),
                _partitions,
                deadline_s=deadline_s,
                attempt_s=ADMIN_ATTEMPT_S,
            )
            self._finding = find.future
            find.future.add_done_callback(lambda _: self._change())
            self._calls.add(find)
        next_s = min((call.deadline_s for call in self._waiting), default=NEVER_S)
        return min(next_s, self._retry_s) if self._finding is None else next_s

    def _found(self, finding: Future[int], now_s: float) -> None:
        self._finding = None
        error = finding.exception()
        if error is None:
            self._place = TopicPartition(OFFSETS_TOPIC, coordinator_partition(self._group_id, finding.result()))
            waiting, self._waiting = self._waiting, []
            for call in waiting:
                call.place = self._place
                self._calls.add(call)
        elif isinstance(error, RaftlogError) and error.retriable:
            self._retry_s = now_s + GROUP_RETRY_S
        else:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        waiting, self._waiting = self._waiting, []
        for call in waiting:
            call.future.set_exception(error)

    def abort(self) -> None:
        self._closed = True
        self._fail(ClosedError(f"group {self._group_id}: the client was closed"))


def _partitions(answer: FindCoordinatorResponse, _maybe_done: bool) -> int:
    if answer.partitions < 1:
        raise InvalidRequestError("the controller names no partition of __consumer_offsets")
    return answer.partitions
