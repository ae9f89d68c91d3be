"""What a client of the coordinator is told instead of an answer. Data."""

from __future__ import annotations

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
_OF_LEADERSHIP = {
    ErrorCode.NOT_LEADER_OR_FOLLOWER: ErrorCode.NOT_COORDINATOR,
    ErrorCode.OFFSET_NOT_AVAILABLE: ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
}
_AS_THEY_ARE = {
    ErrorCode.NONE,
    ErrorCode.REQUEST_TIMED_OUT,
    ErrorCode.MESSAGE_TOO_LARGE,
    ErrorCode.INCONSISTENT_TOPIC_ID,
    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
}


def refusal(request: g.GroupRequest, code: ErrorCode, text: str = "") -> g.GroupResponse:
    """The answer to `request` that says no more than an error."""
    return _RESPONSES[type(request)](correlation_id=request.correlation_id, error_code=code, error_text=text)


def code_of_log(code: ErrorCode) -> ErrorCode:
    """What a client is told of a log that refused a batch, may have lost it, or is led by another replica."""
    return code if code in _AS_THEY_ARE else _OF_LEADERSHIP.get(code, ErrorCode.COORDINATOR_NOT_AVAILABLE)
