"""What a client of the coordinator is told instead of an answer. Data."""

from __future__ import annotations

from raftlog.errors import ErrorCode

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


def code_of_log(code: ErrorCode) -> ErrorCode:
    """What a client is told of a log that refused a batch, may have lost it, or is led by another replica."""
    return code if code in _AS_THEY_ARE else _OF_LEADERSHIP.get(code, ErrorCode.COORDINATOR_NOT_AVAILABLE)
