"""What a coordinator gives out: answers, and records that have to be committed before something is so. Data."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import NamedTuple

from raftlog.coordinator.records import Record
from raftlog.errors import ErrorCode
from raftlog.protocol import groups as g

_RESPONSES: dict[type[g.GroupRequest], type[g.GroupResponse]] = {
    g.JoinGroupRequest: g.JoinGroupResponse,
    g.SyncGroupRequest: g.SyncGroupResponse,
    g.HeartbeatRequest: g.HeartbeatResponse,
    g.LeaveGroupRequest: g.LeaveGroupResponse,
    g.OffsetCommitRequest: g.OffsetCommitResponse,
    g.OffsetFetchRequest: g.OffsetFetchResponse,
    g.ListGroupsRequest: g.ListGroupsResponse,
    g.DescribeGroupRequest: g.DescribeGroupResponse,
    g.DeleteGroupRequest: g.DeleteGroupResponse,
}


class Caller(NamedTuple):
    """Who waits for the answer to which request."""

    client: Hashable
    correlation_id: int


class Answer(NamedTuple):
    client: Hashable
    response: g.GroupResponse


class Proposal(NamedTuple):
    """To be appended in one batch, after those before it.

    `finish(code, now_s)` is told once: NONE when the records are committed and applied, else the error of the append,
    after which their fate may be open.
    """

    group_id: str
    records: list[Record]
    finish: Callable[[ErrorCode, float], None]


class Outbox:
    """`unfinished`: proposals whose fate has not been reported."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.proposals: list[Proposal] = []
        self.unfinished = 0

    def answer(self, caller: Caller, response: g.GroupResponse) -> None:
        self.answers.append(Answer(caller.client, response))

    def propose(self, group_id: str, records: list[Record], finish: Callable[[ErrorCode, float], None]) -> None:
        self.unfinished += 1
        self.proposals.append(Proposal(group_id, records, finish))


def refusal(request: g.GroupRequest, code: ErrorCode, text: str = "") -> g.GroupResponse:
    """The answer to `request` that says no more than an error."""
    return _RESPONSES[type(request)](correlation_id=request.correlation_id, error_code=code, error_text=text)


def code_of_append(code: ErrorCode) -> ErrorCode:
    """What a client of the coordinator is told of a batch that the log refused or may have lost."""
    if code is ErrorCode.NOT_LEADER_OR_FOLLOWER:
        return ErrorCode.NOT_COORDINATOR
    if code in (ErrorCode.NONE, ErrorCode.REQUEST_TIMED_OUT, ErrorCode.NOT_COORDINATOR, ErrorCode.MESSAGE_TOO_LARGE):
        return code
    return ErrorCode.COORDINATOR_NOT_AVAILABLE
