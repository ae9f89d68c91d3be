"""Runs a state machine over one replica: applies its log, proposes its records, and answers in the order of result.py.

After each turn of the replica, each step BEFORE the next:

    1 apply     a part of what is committed, into the machine
    2 finish    the fate of proposals is told, in the order of the log, and committed ones only once they are applied
    3 lead      a machine whose replica leads no more is unloaded; one whose whole log is applied is loaded
    4 tick      the machine's timers
    5 propose   what came together goes into one batch, hence one Raft entry
    6 answer    responses leave; those that wait for records left in step 2, and statements wait for a majority

A machine that was replaced without noticing must not deny what its successor has done: so a statement waits until a
majority has said that this replica leads still. The other answers are to what was committed, or take nothing from
anybody.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol

from raftlog import limits
from raftlog.clock import NEVER_S, Clock
from raftlog.errors import ErrorCode, OffsetOutOfRangeError
from raftlog.machine.machine import StateMachine
from raftlog.machine.result import Now, Record, Result
from raftlog.protocol.body import ResponseBody
from raftlog.protocol.envelope import Request
from raftlog.record.batch import decode_pairs, encode, split
from raftlog.types import ReplicaSpec, ReplicaStatus

FAIL_POINTS = ("host: applied", "host: finished", "host: proposed", "host: answered")


class ReplicatedLog(Protocol):
    """What a host needs of its replica."""

    spec: ReplicaSpec

    @property
    def is_leader(self) -> bool: ...

    @property
    def leader_ready(self) -> bool: ...

    @property
    def leader_epoch(self) -> int: ...

    @property
    def high_watermark(self) -> int: ...

    def status(self) -> ReplicaStatus: ...

    def read_committed(self, offset: int, max_bytes: int) -> bytes: ...

    def propose(self, batch: bytes, done: Callable[[ErrorCode, int], None]) -> None: ...

    def confirm(self, done: Callable[[ErrorCode], None]) -> None: ...

    def delete_head(self, offset: int) -> None: ...


class _Outcome(NamedTuple):
    """Of one batch: what it held, and what became of it."""

    results: list[Result]
    code: ErrorCode
    end_offset: int


class Host:
    """One state machine over one replica. The owner calls `after_turn` after each turn of the replica."""

    def __init__(
        self,
        *,
        replica: ReplicatedLog,
        machine: StateMachine,
        clock: Clock,
        answer: Callable[[Request[Any], ResponseBody], None],
        fail_point: Callable[[str], None] = lambda name: None,
    ) -> None:
        self._replica = replica
        self._machine = machine
        self._clock = clock
        self._answer = answer
        self._fail_point = fail_point
        self._applied_offset = 0  # records in [0, it) are applied
        self._truncations = replica.status().truncations
        self._led_epoch = 0  # in which the machine takes requests; 0: in none
        self._outcomes: deque[_Outcome] = deque()

    def on_request(self, request: Request[Any]) -> None:
        code = self._machine.misdirected(request, self._replica.spec) or self._why_not()
        if code is not ErrorCode.NONE:
            self._answer(request, self._machine.refusal(request, code))
        else:
            self._machine.on_request(request, self._now())

    def _why_not(self) -> ErrorCode:
        if self.leads:
            return ErrorCode.NONE
        return ErrorCode.OFFSET_NOT_AVAILABLE if self._replica.is_leader else ErrorCode.NOT_LEADER_OR_FOLLOWER

    @property
    def leads(self) -> bool:
        """Whether the machine is loaded, and takes requests."""
        replica = self._replica
        return bool(self._led_epoch) and replica.is_leader and replica.leader_epoch == self._led_epoch

    def _now(self) -> Now:
        return Now(self._clock.monotonic_s(), self._clock.wall_ms())

    def next_deadline_s(self) -> float:
        """Monotonic time at which `after_turn` has something to do even without input."""
        if self._applied_offset < self._replica.high_watermark or self._outcomes:
            return 0.0
        return self._machine.next_deadline_s if self._led_epoch else NEVER_S

    def after_turn(self) -> None:
        now = self._now()
        self._apply()
        self._fail_point("host: applied")
        failed = self._finish(now)
        self._fail_point("host: finished")
        if self._led_epoch and (not self.leads or (failed and not self._machine.pipelines and not self._is_whole())):
            self._unload(now)
        if not self._led_epoch and self._replica.leader_ready and self._is_whole() and not self._begin_anew_if_cut():
            self._machine.load(now)
            self._led_epoch = self._replica.leader_epoch
        self._machine.tick(now)
        results = self._machine.outbox.take()
        self._propose([result for result in results if result.records], now.ms)
        self._fail_point("host: proposed")
        for result in results:
            if not result.records:
                self._respond(result)
        self._fail_point("host: answered")

    # --- 1 apply -------------------------------------------------------------------------------
    def _apply(self) -> None:
        """A part of what is committed: a long log is read over many turns."""
        end_offset = self._replica.high_watermark
        if self._applied_offset >= end_offset or self._begin_anew_if_cut():
            return
        try:
            data = self._replica.read_committed(self._applied_offset, limits.REPLAY_BYTES)
        except OffsetOutOfRangeError:
            # The head is gone, or a follower was given another log: what is left says all that is still true.
            self._begin_anew(self._replica.status())
            return
        applied_offset, apply = self._applied_offset, self._machine.apply
        for position, header in split(data):
            for offset, key, value in decode_pairs(data, position, header):
                if offset >= applied_offset:
                    apply(offset, key, value)
            self._applied_offset = header.next_offset
        if not data:
            self._applied_offset = end_offset
        if self._applied_offset == end_offset:
            needed_offset = self._machine.applied_all()
            if needed_offset and self._replica.leader_ready:
                self._replica.delete_head(needed_offset)

    def _begin_anew_if_cut(self) -> bool:
        """Where an operator accepted a loss, a cut may take what was committed, hence applied."""
        status = self._replica.status()
        if status.truncations == self._truncations:
            return False
        self._begin_anew(status)
        return True

    def _begin_anew(self, status: ReplicaStatus) -> None:
        self._machine.clear()
        self._applied_offset = status.log_start_offset
        self._truncations = status.truncations

    # --- 2 finish ------------------------------------------------------------------------------
    def _finish(self, now: Now) -> bool:
        """Returns whether the log refused something, or may have lost it."""
        failed = False
        while self._outcomes and self._outcomes[0].end_offset <= self._applied_offset:
            outcome = self._outcomes.popleft()
            failed = failed or outcome.code is not ErrorCode.NONE
            for result in outcome.results:
                self._tell(result, outcome.code, now)
        return failed

    def _tell(self, result: Result, code: ErrorCode, now: Now) -> None:
        self._machine.outbox.finish(result, code, now)
        if result.caller is None or result.response is None:
            return
        if code is ErrorCode.NONE:
            self._answer(result.caller, result.response)
        else:
            self._respond(result._replace(response=self._machine.refusal(result.caller, code)))

    # --- 3 lead --------------------------------------------------------------------------------
    def _is_whole(self) -> bool:
        """All that the log holds is committed and applied: no batch of open fate stands behind the high watermark."""
        return self._applied_offset == self._replica.high_watermark == self._replica.status().log_end_offset

    def _unload(self, now: Now) -> None:
        while self._outcomes:
            # What is committed and not applied yet: nobody may be told that it was done, so its fate is open.
            results, code, _ = self._outcomes.popleft()
            for result in results:
                self._tell(result, code or ErrorCode.REQUEST_TIMED_OUT, now)
        self._machine.unload(now)
        self._led_epoch = 0
        for result in self._machine.outbox.take():
            if result.records:
                self._tell(result, ErrorCode.NOT_LEADER_OR_FOLLOWER, now)
            else:
                self._respond(result)

    # --- 5 propose -----------------------------------------------------------------------------
    def _propose(self, results: list[Result], now_ms: int) -> None:
        """Together, but never more than a batch may hold; one result is never divided."""
        together: list[Result] = []
        size_bytes = 0
        for result in results:
            more_bytes = sum([len(key or b"") + len(value or b"") for key, value in result.records])
            if together and size_bytes + more_bytes > limits.PROPOSED_BATCH_BYTES:
                self._append(together, now_ms)
                together, size_bytes = [], 0
            together.append(result)
            size_bytes += more_bytes
        if together:
            self._append(together, now_ms)

    def _append(self, results: list[Result], now_ms: int) -> None:
        records: list[Record] = [record for result in results for record in result.records]

        def done(code: ErrorCode, base_offset: int) -> None:
            end_offset = base_offset + len(records) if code is ErrorCode.NONE else 0
            self._outcomes.append(_Outcome(results, code, end_offset))

        self._replica.propose(encode([(now_ms, key, value) for key, value in records]), done)

    # --- 6 answer ------------------------------------------------------------------------------
    def _respond(self, result: Result) -> None:
        """With what needs no records."""
        assert result.caller is not None and result.response is not None
        if self._machine.is_statement(result.response):
            self._replica.confirm(partial(self._confirmed, result.caller, result.response))
        else:
            self._answer(result.caller, result.response)

    def _confirmed(self, caller: Request[Any], response: ResponseBody, code: ErrorCode) -> None:
        if code is not ErrorCode.NONE:
            response = self._machine.refusal(caller, ErrorCode.NOT_LEADER_OR_FOLLOWER)
        self._answer(caller, response)
