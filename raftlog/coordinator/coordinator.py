"""All groups of one partition of `__consumer_offsets`, as a state machine: its host is machine/host.py.

Every replica applies the committed records. The one that leads loads the groups from them, and takes requests until it
is unloaded. It pipelines: a group goes on while what it has decided is on its way to the log.

A coordinator that was replaced without noticing must not send a consumer back to where it was, or tell a member that it
is none. So an answer that says what is in the group, or that refuses for good, is a statement. The other answers are to
what was committed, or take nothing from anybody: a heartbeat counts for the member from when it was sent, and a
JoinGroup is worth nothing before its SyncGroup.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from functools import partial
from typing import Any

from raftlog import limits
from raftlog.clock import NEVER_S
from raftlog.coordinator.committed import Committed
from raftlog.coordinator.group import Group, State
from raftlog.coordinator.offsets import Offsets
from raftlog.coordinator.records import Record
from raftlog.coordinator.refusals import code_of_log
from raftlog.errors import ErrorCode, error_for
from raftlog.machine.result import Now, Outbox, Then
from raftlog.protocol import groups as g
from raftlog.protocol.body import ResponseBody
from raftlog.protocol.consumer_protocol import PROTOCOL_TYPE
from raftlog.protocol.envelope import Request
from raftlog.types import ReplicaSpec

_STATEMENTS = (
    g.DescribeGroupResponse,
    g.ListGroupsResponse,
    g.OffsetDeleteResponse,  # without records: that nothing is committed there
    g.OffsetFetchResponse,
    g.SyncGroupResponse,
)


class Coordinator:
    """The groups of one partition, and what they have committed. `mint_id(name)` gives an unused member id."""

    pipelines = True

    def __init__(self, mint_id: Callable[[str], str]) -> None:
        self.outbox = Outbox()
        self.committed = Committed()
        self._mint_id = mint_id
        self._now_ms = 0
        self._groups: dict[str, Group] = {}
        self._offsets = Offsets(self.committed, self.outbox, self._propose)
        self._timers: list[tuple[float, str]] = []
        self._scheduled: dict[str, float] = {}  # group id to its entry in `_timers` that counts
        self._scan_s = NEVER_S

    @property
    def next_deadline_s(self) -> float:
        return min(self._timers[0][0] if self._timers else NEVER_S, self._scan_s)

    # --- every replica ---------------------------------------------------------------------------
    def apply(self, _offset: int, key: bytes | None, value: bytes | None) -> None:
        if key is not None:
            self.committed.apply(key, value)

    def applied_all(self) -> int:
        return 0  # compaction decides what is not needed

    def clear(self) -> None:
        self.committed.clear()

    # --- begin and end of leading ----------------------------------------------------------------
    def load(self, now: Now) -> None:
        """Go on with the groups as they are in the log."""
        self._now_ms = now.ms
        for group_id, value in self.committed.groups():
            group = self._new_group(group_id)
            group.load(value, now.s)
            self._schedule(group)
        self._scan_s = now.s + limits.OFFSETS_SCAN_S

    def unload(self, _now: Now) -> None:
        for group in self._groups.values():
            group.disband(ErrorCode.NOT_COORDINATOR)
        self._groups.clear()
        self._timers.clear()
        self._scheduled.clear()
        self._scan_s = NEVER_S

    def tick(self, now: Now) -> None:
        now_s, self._now_ms = now
        while self._timers and self._timers[0][0] <= now_s:
            due_s, group_id = heapq.heappop(self._timers)
            if self._scheduled.get(group_id) == due_s:
                del self._scheduled[group_id]
                group = self._groups[group_id]
                group.tick(now_s)
                self._settle(group)
        if self._scan_s <= now_s:
            self._scan_s = now_s + limits.OFFSETS_SCAN_S
            self._expire()

    # --- requests --------------------------------------------------------------------------------
    def misdirected(self, request: Request[Any], spec: ReplicaSpec) -> ErrorCode:
        if request.topic_id != spec.topic_id:
            return ErrorCode.INCONSISTENT_TOPIC_ID
        return ErrorCode.NONE if request.partition == spec.partition else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION

    def refusal(self, request: Request[Any], code: ErrorCode) -> ResponseBody:
        refusal: ResponseBody = request.api.refusal(code_of_log(code))
        return refusal

    def is_statement(self, response: ResponseBody) -> bool:
        code = response.error_code
        if code == ErrorCode.MEMBER_ID_REQUIRED:
            return False  # an id that nobody has
        if code:
            return not error_for(code).retriable
        return isinstance(response, _STATEMENTS) or (
            isinstance(response, g.LeaveGroupResponse) and any(response.member_error_codes)
        )

    def on_request(self, caller: Request[Any], now: Now) -> None:
        now_s, self._now_ms = now
        request = caller.body
        group = None if isinstance(request, g.ListGroupsRequest) else self._groups.get(request.group_id)
        match request:
            case g.JoinGroupRequest():
                self._join(group, request, caller, now_s)
            case g.SyncGroupRequest() if group is not None:
                group.sync(request, caller, now_s)
            case g.HeartbeatRequest() if group is not None:
                code = group.heartbeat(request, now_s)
                self._answer(caller, g.HeartbeatResponse(error_code=int(code)))
            case g.SyncGroupRequest() | g.HeartbeatRequest():
                self._answer(caller, caller.api.refusal(ErrorCode.UNKNOWN_MEMBER_ID))
            case g.LeaveGroupRequest():
                codes = [
                    int(group.leave(leaving, now_s) if group is not None else ErrorCode.UNKNOWN_MEMBER_ID)
                    for leaving in request.members
                ]
                response = g.LeaveGroupResponse(member_error_codes=codes)
                self._answer(caller, response)
            case g.OffsetCommitRequest():
                self._commit(group, request, caller, now_s)
            case g.OffsetFetchRequest():
                self._answer(caller, self._offsets.fetch(request))
            case g.ListGroupsRequest():
                self._answer(caller, self._list(request))
            case g.DescribeGroupRequest():
                self._answer(caller, self._describe(group, request))
            case g.DeleteGroupRequest():
                self._delete(group, request, caller)
            case g.OffsetDeleteRequest():
                self._delete_offsets(group, request, caller)
        group = group or self._groups.get(getattr(request, "group_id", ""))
        if group is not None:
            self._settle(group)

    def _join(self, group: Group | None, request: g.JoinGroupRequest, caller: Request[Any], now_s: float) -> None:
        code = ErrorCode.NONE
        if not _is_group_id(request.group_id):
            code = ErrorCode.INVALID_GROUP_ID
        elif max(map(_bytes, _names(request))) > limits.GROUP_NAME_MAX_BYTES:
            code = ErrorCode.INVALID_REQUEST
        elif not limits.SESSION_TIMEOUT_MIN_MS <= request.session_timeout_ms <= limits.SESSION_TIMEOUT_MAX_MS:
            code = ErrorCode.INVALID_SESSION_TIMEOUT
        elif group is None and request.member_id:
            code = ErrorCode.UNKNOWN_MEMBER_ID
        elif group is None and len(self._groups) >= limits.GROUPS_MAX:
            code = ErrorCode.THROTTLING_QUOTA_EXCEEDED
        if code is not ErrorCode.NONE:
            self._answer(caller, caller.api.refusal(code))
        else:
            (group or self._new_group(request.group_id)).join(request, caller, now_s)

    def _commit(self, group: Group | None, request: g.OffsetCommitRequest, caller: Request[Any], now_s: float) -> None:
        code = self._who_commits(group, request)
        if code is ErrorCode.NONE and request.version is not None:
            code = self._check_version(group, request.group_id, request.version)
        if code is not ErrorCode.NONE:
            self._answer(caller, caller.api.refusal(code))
            return
        if request.member_id and group is not None:
            group.touch(request.member_id, now_s)
        self._offsets.commit(request, caller, self._now_ms)

    def _who_commits(self, group: Group | None, request: g.OffsetCommitRequest) -> ErrorCode:
        if not _is_group_id(request.group_id):
            return ErrorCode.INVALID_GROUP_ID
        if self.outbox.unfinished >= limits.GROUP_WRITES_IN_FLIGHT_MAX:
            return ErrorCode.THROTTLING_QUOTA_EXCEEDED
        if not request.member_id and request.generation_id < 0:  # from outside
            empty = group is None or group.state is State.EMPTY
            return ErrorCode.NONE if empty else ErrorCode.UNKNOWN_MEMBER_ID
        if group is None:
            return ErrorCode.UNKNOWN_MEMBER_ID
        code = group.check(request.member_id, request.group_instance_id, request.generation_id)
        if code is ErrorCode.NONE and group.state is State.COMPLETING:
            return ErrorCode.REBALANCE_IN_PROGRESS  # its share of this generation is not known to it yet
        return code

    def _check_version(self, group: Group | None, group_id: str, version: bytes) -> ErrorCode:
        """Whether the group is as it was looked up; while something of it is on its way to the log, nobody knows."""
        if self._offsets.is_writing(group_id) or (group is not None and group.writes):
            return ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
        return ErrorCode.NONE if self.committed.version(group_id) == version else ErrorCode.INVALID_UPDATE_VERSION

    def _list(self, request: g.ListGroupsRequest) -> g.ListGroupsResponse:
        groups = [
            g.ListedGroup(
                group_id=group.group_id,
                protocol_type=group.protocol_type,
                state=group.state.value,
                members=len(group.members),
            )
            for group in self._groups.values()
            if not group.is_vacant or self.committed.has_group(group.group_id)
        ]
        groups += [
            g.ListedGroup(group_id=group_id, protocol_type="", state=State.EMPTY.value, members=0)
            for group_id in self.committed.groups_with_offsets() - self._groups.keys()
        ]
        groups.sort(key=lambda listed: listed.group_id)
        return g.ListGroupsResponse(groups=groups)

    def _describe(self, group: Group | None, request: g.DescribeGroupRequest) -> g.DescribeGroupResponse:
        state = State.EMPTY if self._offsets.has_any(request.group_id) else State.DEAD
        response = g.DescribeGroupResponse(group_id=request.group_id)
        response.state = state.value
        if group is not None:
            response.state = group.state.value
            response.protocol_type, response.protocol_name = group.protocol_type, group.protocol_name
            response.generation_id = group.generation
            response.members = [
                g.DescribedMember(
                    member_id=member.member_id,
                    group_instance_id=member.group_instance_id,
                    client_id=member.client_id,
                    metadata=member.metadata(group.protocol_name),
                    assignment=member.assignment,
                    client_host=member.client_host,
                )
                for member in group.members.all()
            ]
        return response

    def _delete(self, group: Group | None, request: g.DeleteGroupRequest, caller: Request[Any]) -> None:
        group_id = request.group_id
        if group is not None and group.state is not State.EMPTY:
            self._answer(caller, caller.api.refusal(ErrorCode.NON_EMPTY_GROUP))
            return
        if not self._offsets.has_any(group_id) and not self.committed.has_group(group_id):
            self._answer(caller, caller.api.refusal(ErrorCode.GROUP_ID_NOT_FOUND))
            return
        code = ErrorCode.NONE
        if request.version is not None:
            code = self._check_version(group, group_id, request.version)
        if code is not ErrorCode.NONE:
            self._answer(caller, caller.api.refusal(code))
            return
        group = group or self._new_group(group_id)
        self._bury(group, caller)

    def _delete_offsets(self, group: Group | None, request: g.OffsetDeleteRequest, caller: Request[Any]) -> None:
        group_id = request.group_id
        code = ErrorCode.NONE
        if group is not None and len(group.members) and group.protocol_type != PROTOCOL_TYPE:
            code = ErrorCode.NON_EMPTY_GROUP
        elif group is None and not self._offsets.has_any(group_id):
            code = ErrorCode.GROUP_ID_NOT_FOUND
        elif len(request.partitions) > limits.OFFSETS_PER_GROUP_MAX:
            code = ErrorCode.INVALID_REQUEST
        if code is not ErrorCode.NONE:
            self._answer(caller, caller.api.refusal(code))
            return
        wanted = {topic for topic, _ in request.partitions}
        kept = {topic for topic in wanted if group is not None and group.reads(topic)}
        response = g.OffsetDeleteResponse(
            partition_error_codes=[
                int(ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC if topic in kept else ErrorCode.NONE)
                for topic, _ in request.partitions
            ]
        )
        self._offsets.delete(
            group_id, [place for place in request.partitions if place[0] not in kept], caller, response
        )

    def _bury(self, group: Group, caller: Request[Any] | None = None) -> None:
        """Tombstones for all that the log has of the group, or is about to have."""
        group.emptied = False
        group.writes += 1
        records = [*self._offsets.tombstones(group.group_id), (group.key, None)]
        response = None if caller is None else g.DeleteGroupResponse()
        self._propose(group.group_id, records, partial(self._buried, group), caller, response)

    def _buried(self, group: Group, _code: ErrorCode, _now: Now) -> None:
        group.writes -= 1

    # --- what follows of itself ------------------------------------------------------------------
    def _settle(self, group: Group, *, may_forget: bool = True) -> None:
        """After anything that happened to a group."""
        if group.emptied and self._offsets.has_any(group.group_id):
            group.write_emptiness()
        if may_forget and group.is_vacant and not self._offsets.has_any(group.group_id):
            if self.committed.has_group(group.group_id):
                self._bury(group)
            else:
                group.state = State.DEAD
                del self._groups[group.group_id]
                self._scheduled.pop(group.group_id, None)
                return
        self._schedule(group)

    def _expire(self) -> None:
        """Offsets of groups that have long been without members, and then the groups."""
        for group in list(self._groups.values()):
            self._settle(group)
        for group_id in list(self.committed.groups_with_offsets()):
            known = self._groups.get(group_id)
            if known is not None and not known.is_vacant:
                continue
            records = self._offsets.expired(group_id, known.empty_since_ms if known else 0, self._now_ms)
            if records:
                self._propose(group_id, records, lambda code, now: None)

    def _new_group(self, group_id: str) -> Group:
        group = Group(group_id, self.outbox, self._propose, self._mint_id, lambda: self._now_ms)
        self._groups[group_id] = group
        return group

    def _schedule(self, group: Group) -> None:
        if group.due_s < self._scheduled.get(group.group_id, NEVER_S):
            self._scheduled[group.group_id] = group.due_s
            heapq.heappush(self._timers, (group.due_s, group.group_id))

    def _propose(
        self,
        group_id: str,
        records: list[Record],
        then: Then,
        caller: Request[Any] | None = None,
        response: ResponseBody | None = None,
    ) -> None:
        self.outbox.propose(records, partial(self._finished, group_id, then), caller=caller, response=response)

    def _finished(self, group_id: str, then: Then, code: ErrorCode, now: Now) -> None:
        self._now_ms = now.ms
        then(code, now)
        group = self._groups.get(group_id)
        if group is not None:
            # What the log refused, it may refuse again: to forget a group waits for the next scan then.
            self._settle(group, may_forget=code is ErrorCode.NONE)

    def _answer(self, caller: Request[Any], response: ResponseBody) -> None:
        self.outbox.answer(caller, response)


def _is_group_id(text: str) -> bool:
    return 0 < _bytes(text) <= limits.GROUP_NAME_MAX_BYTES


def _names(request: g.JoinGroupRequest) -> tuple[str, ...]:
    return request.client_id, request.client_host, request.group_instance_id or ""


def _bytes(text: str) -> int:
    return len(text.encode())
