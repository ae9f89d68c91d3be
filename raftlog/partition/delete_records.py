"""DeleteRecords: the log start moves up to an offset, which may lie inside a segment or a batch (KIP-107).

    a majority has said that this replica leads still      BEFORE   the offset is judged against the end of its log
    the leader's `state` has the new log start, synced     BEFORE   followers hear of it
    every in-sync replica has it, and a majority has       BEFORE   the answer leaves

A majority, with the witnesses counted in, so that whoever is elected next hears of it BEFORE it serves. Followers say
with each answer where their log starts. Segments that end up below the log start go when they are closed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from raftlog import limits
from raftlog.clock import NEVER_S, Clock
from raftlog.consensus.member import RaftMember
from raftlog.errors import ErrorCode
from raftlog.partition.outbox import Outbox
from raftlog.partition.reads import Reads
from raftlog.protocol.envelope import Request
from raftlog.protocol.records import HIGH_WATERMARK, DeleteRecordsRequest, DeleteRecordsResponse
from raftlog.storage.log import PartitionLog
from raftlog.types import INTERNAL_TOPICS, CleanupPolicy, ReplicaSpec


class _Waiting(NamedTuple):
    request: Request[DeleteRecordsRequest]
    offset: int
    deadline_s: float


class RecordDeletion:
    """One step BEFORE AppendEntries leave (`move`), one after the answers of the followers are counted (`answer`)."""

    def __init__(
        self,
        log: PartitionLog,
        member: RaftMember,
        reads: Reads,
        clock: Clock,
        outbox: Outbox,
        spec: Callable[[], ReplicaSpec],
    ) -> None:
        """`spec` gives the partition with the settings that it has now."""
        self._clock = clock
        self._spec = spec
        self._log = log
        self._member = member
        self._reads = reads
        self._outbox = outbox
        self._waiting: list[_Waiting] = []
        self._unmoved = False  # something was judged since the last `move`

    @property
    def next_deadline_s(self) -> float:
        if self._unmoved:
            return 0.0
        return min((waiting.deadline_s for waiting in self._waiting), default=NEVER_S)

    @property
    def has_waiting(self) -> bool:
        return bool(self._waiting)

    def on_request(self, request: Request[DeleteRecordsRequest], code: ErrorCode) -> None:
        timeout_ms = min(max(request.body.timeout_ms, 0), limits.ADMIN_TIMEOUT_MS)
        waiting = _Waiting(request, request.body.offset, self._clock.monotonic_s() + timeout_ms / 1000)
        if code is ErrorCode.NONE:
            self._reads.confirm(partial(self._judge, waiting))
        else:
            self._answer(waiting, code)

    def _judge(self, waiting: _Waiting, code: ErrorCode) -> None:
        """Before it was known who leads, `end` might have been lower than what was acknowledged."""
        text, spec = "", self._spec()
        end = self._reads.high_watermark
        offset = end if waiting.offset == HIGH_WATERMARK else waiting.offset
        if code is ErrorCode.NONE:
            if spec.topic in INTERNAL_TOPICS:
                code, text = ErrorCode.INVALID_TOPIC_EXCEPTION, f"{spec.topic} belongs to raftlog itself"
            elif not spec.config.cleanup_policy & CleanupPolicy.DELETE:
                code, text = ErrorCode.POLICY_VIOLATION, "a topic that is only compacted keeps the last of each key"
            elif not 0 <= offset <= end:
                code, text = ErrorCode.OFFSET_OUT_OF_RANGE, f"records are deleted up to {end} at most, not {offset}"
            elif len(self._waiting) >= limits.WAITING_ADMIN_REQUESTS_MAX:
                code = ErrorCode.THROTTLING_QUOTA_EXCEEDED
        if code is ErrorCode.NONE:
            self._waiting.append(waiting._replace(offset=offset))
            self._unmoved = True
        else:
            self._answer(waiting, code, text)

    def move(self) -> None:
        """Moves the own log start, durably; a heartbeat tells the followers at once. A full disk: at the next turn."""
        self._unmoved = False
        if not self._waiting:
            return
        offset = max(waiting.offset for waiting in self._waiting)
        if offset > self._log.state.log_start_offset:
            self._member.delete_head(offset)
            self._member.ask_confirmation()

    def answer(self, now_s: float) -> None:
        """What every in-sync replica and a majority has; and what has waited too long, with an open outcome."""
        if not self._waiting or not self._member.is_leader:
            return
        held = self._member.held_log_start
        kept = []
        for waiting in self._waiting:
            if waiting.offset <= held:
                self._answer(waiting, ErrorCode.NONE)
            elif waiting.deadline_s <= now_s:
                self._answer(waiting, ErrorCode.REQUEST_TIMED_OUT, "not on every in-sync replica in time")
            else:
                kept.append(waiting)
        self._waiting = kept

    def refuse_all(self, code: ErrorCode) -> None:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            self._answer(each, code)

    def _answer(self, waiting: _Waiting, code: ErrorCode, text: str = "") -> None:
        response = DeleteRecordsResponse(
            error_code=int(code),
            error_text=text,
            log_start_offset=self._log.state.log_start_offset if code is ErrorCode.NONE else -1,
            leader_id=self._member.leader_id,
            leader_epoch=self._member.term,
        )
        self._outbox.answer(waiting.request, response, None)
