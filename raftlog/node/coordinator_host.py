"""Runs the group coordinator inside a worker of `__consumer_offsets`: applies its log, proposes, answers.

On every replica, leader or not, the committed records are applied, so that whoever leads next has them already. On the
leader the coordinator takes requests as soon as all of its log is applied.

A coordinator that was replaced without noticing must not send a consumer back to where it was, or tell a member that it
is none. So an answer that says what is in the group, or that refuses for good, waits:

    a majority has said that this replica leads still   BEFORE   the answer leaves

The other answers are to what was committed, or take nothing from anybody: a heartbeat counts for the member from when
it was sent, and a JoinGroup is worth nothing before its SyncGroup.
"""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Callable, Hashable
from functools import partial
from typing import NamedTuple

from raftlog import limits
from raftlog.clock import Clock
from raftlog.coordinator.coordinator import Coordinator
from raftlog.coordinator.outbox import Proposal, refusal
from raftlog.errors import ErrorCode, OffsetOutOfRangeError, error_for
from raftlog.partition.replica import Replica
from raftlog.protocol.groups import (
    DescribeGroupResponse,
    GroupRequest,
    GroupResponse,
    LeaveGroupResponse,
    ListGroupsResponse,
    OffsetFetchResponse,
    SyncGroupResponse,
)
from raftlog.record.batch import decode_pairs, encode, split
from raftlog.types import ReplicaStatus

_NEVER_S = float("inf")
_ID_NAME_CHARS = 64  # of a member id; what makes it unique follows
_STATEMENTS = (DescribeGroupResponse, ListGroupsResponse, OffsetFetchResponse, SyncGroupResponse)


class _Outcome(NamedTuple):
    """Of one batch: what it held, and what became of it."""

    proposals: list[Proposal]
    code: ErrorCode
    end_offset: int


class CoordinatorHost:
    """`answer` sends to a client."""

    def __init__(self, *, replica: Replica, clock: Clock, answer: Callable[[Hashable, GroupResponse], None]) -> None:
        self._replica = replica
        self._clock = clock
        self._answer = answer
        self._coordinator = Coordinator(lambda name: f"{name[:_ID_NAME_CHARS]}-{uuid.uuid4()}")
        self._applied_offset = 0  # records in [0, it) are applied
        self._truncations = replica.status().truncations
        self._led_epoch = 0  # in which the coordinator takes requests; 0: in none
        self._outcomes: deque[_Outcome] = deque()

    @property
    def _leads(self) -> bool:
        replica = self._replica
        return bool(self._led_epoch) and replica.is_leader and replica.leader_epoch == self._led_epoch

    def on_request(self, client: Hashable, request: GroupRequest) -> None:
        code = self._why_not(request)
        if code is not ErrorCode.NONE:
            self._answer(client, refusal(request, code))
        else:
            self._coordinator.on_request(client, request, self._clock.monotonic_s(), self._clock.wall_ms())

    def _why_not(self, request: GroupRequest) -> ErrorCode:
        spec = self._replica.spec
        if request.topic_id != spec.topic_id:
            return ErrorCode.INCONSISTENT_TOPIC_ID
        if request.partition != spec.partition:
            return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        if self._leads:
            return ErrorCode.NONE
        return ErrorCode.COORDINATOR_LOAD_IN_PROGRESS if self._replica.is_leader else ErrorCode.NOT_COORDINATOR

    def next_deadline_s(self) -> float:
        """Monotonic time at which `after_turn` has something to do even without input."""
        if self._applied_offset < self._replica.high_watermark or self._outcomes:
            return 0.0
        return self._coordinator.next_deadline_s if self._led_epoch else _NEVER_S

    def after_turn(self) -> None:
        """What the turn committed is applied BEFORE anyone is told that it was done."""
        now_s, now_ms = self._clock.monotonic_s(), self._clock.wall_ms()
        self._apply()
        if self._led_epoch and not self._leads:
            self._finish(float("inf"), now_s, now_ms)
            self._coordinator.unload(now_s)
            self._led_epoch = 0
        whole = self._applied_offset == self._replica.high_watermark
        if not self._led_epoch and self._replica.leader_ready and whole and not self._begin_anew_if_cut():
            self._coordinator.load(now_s, now_ms)
            self._led_epoch = self._replica.leader_epoch
        self._finish(self._applied_offset, now_s, now_ms)
        if self._led_epoch:
            self._coordinator.tick(now_s, now_ms)
        self._propose(now_ms)
        answers, self._coordinator.outbox.answers = self._coordinator.outbox.answers, []
        for client, response in answers:
            if _needs_leadership(response):
                self._replica.confirm(partial(self._confirmed, client, response))
            else:
                self._answer(client, response)

    def _confirmed(self, client: Hashable, response: GroupResponse, code: ErrorCode) -> None:
        if code is not ErrorCode.NONE:
            response = type(response)(correlation_id=response.correlation_id, error_code=int(ErrorCode.NOT_COORDINATOR))
        self._answer(client, response)

    def _apply(self) -> None:
        """A part of what is committed: a long log is read over many turns."""
        end_offset = self._replica.high_watermark
        if self._applied_offset >= end_offset or self._begin_anew_if_cut():
            return
        committed = self._coordinator.committed
        try:
            data = self._replica.read_committed(self._applied_offset, limits.COORDINATOR_REPLAY_BYTES)
        except OffsetOutOfRangeError:
            # The head is gone, or a follower was given another log: with the newest record of every key.
            self._begin_anew(self._replica.status())
            return
        applied_offset = self._applied_offset
        for position, header in split(data):
            for offset, key, value in decode_pairs(data, position, header):
                if offset >= applied_offset and key is not None:
                    committed.apply(key, value)
            self._applied_offset = header.next_offset
        if not data:
            self._applied_offset = end_offset

    def _begin_anew_if_cut(self) -> bool:
        """Where an operator accepted a loss, a cut may take what was committed, hence applied."""
        status = self._replica.status()
        if status.truncations == self._truncations:
            return False
        self._begin_anew(status)
        return True

    def _begin_anew(self, status: ReplicaStatus) -> None:
        self._coordinator.committed.clear()
        self._applied_offset = status.log_start_offset
        self._truncations = status.truncations

    def _finish(self, applied_offset: float, now_s: float, now_ms: int) -> None:
        """In the order of the log: a batch that failed is told after those before it were applied."""
        while self._outcomes and self._outcomes[0].end_offset <= applied_offset:
            proposals, code, _ = self._outcomes.popleft()
            for proposal in proposals:
                self._coordinator.on_outcome(proposal, code, now_s, now_ms)

    def _propose(self, now_ms: int) -> None:
        """What came together goes into one batch, hence one Raft entry; a proposal is never divided."""
        outbox = self._coordinator.outbox
        proposals, outbox.proposals = outbox.proposals, []
        together: list[Proposal] = []
        size_bytes = 0
        for proposal in proposals:
            more_bytes = sum(len(key) + len(value or b"") for key, value in proposal.records)
            if together and size_bytes + more_bytes > limits.COORDINATOR_BATCH_BYTES:
                self._append(together, now_ms)
                together, size_bytes = [], 0
            together.append(proposal)
            size_bytes += more_bytes
        if together:
            self._append(together, now_ms)

    def _append(self, proposals: list[Proposal], now_ms: int) -> None:
        records = [(now_ms, key, value) for proposal in proposals for key, value in proposal.records]

        def done(code: ErrorCode, base_offset: int) -> None:
            end_offset = base_offset + len(records) if code is ErrorCode.NONE else 0
            self._outcomes.append(_Outcome(proposals, code, end_offset))

        self._replica.propose(encode(records), done)


def _needs_leadership(response: GroupResponse) -> bool:
    """Whether a coordinator that was replaced without noticing might answer otherwise than its successor."""
    if response.error_code == ErrorCode.MEMBER_ID_REQUIRED:
        return False  # an id that nobody has
    if response.error_code:
        return not error_for(response.error_code).retriable
    return isinstance(response, _STATEMENTS) or (
        isinstance(response, LeaveGroupResponse) and any(response.member_error_codes)
    )
