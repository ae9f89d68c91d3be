"""Who is in a group, and who may come in: by member id, by instance id, or with an id given out before."""

from __future__ import annotations

from collections.abc import ValuesView

from raftlog import limits
from raftlog.coordinator.member import Member, size_of, spoken_by_all
from raftlog.errors import ErrorCode
from raftlog.protocol.groups import JoinGroupRequest


class Members:
    """In the order in which they came. `promised`: member ids given out, and until when they may be used."""

    def __init__(self) -> None:
        self.by_id: dict[str, Member] = {}
        self.promised: dict[str, float] = {}
        self._static: dict[str, str] = {}  # instance id to member id

    def __len__(self) -> int:
        return len(self.by_id)

    def all(self) -> ValuesView[Member]:
        return self.by_id.values()

    @property
    def first_id(self) -> str:
        return next(iter(self.by_id), "")

    @property
    def longest_wait_s(self) -> float:
        return max((member.rebalance_timeout_ms for member in self.all()), default=0) / 1000

    def enter(self, member: Member) -> None:
        self.promised.pop(member.member_id, None)
        self.by_id[member.member_id] = member
        if member.group_instance_id is not None:
            self._static[member.group_instance_id] = member.member_id

    def replace(self, old: Member, new: Member) -> None:
        """`new` takes the place of the static member `old`."""
        assert old.group_instance_id is not None and old.group_instance_id == new.group_instance_id
        in_place = [new if member is old else member for member in self.all()]
        self.by_id = {member.member_id: member for member in in_place}
        self._static[old.group_instance_id] = new.member_id

    def remove(self, member: Member) -> None:
        del self.by_id[member.member_id]
        if member.group_instance_id is not None:
            del self._static[member.group_instance_id]

    def id_of(self, group_instance_id: str) -> str:
        """Empty where nobody has this instance id."""
        return self._static.get(group_instance_id, "")

    def check(self, member_id: str, group_instance_id: str | None) -> ErrorCode:
        holder = None if group_instance_id is None else self._static.get(group_instance_id)
        if holder is not None and member_id != holder:
            return ErrorCode.FENCED_INSTANCE_ID
        if member_id not in self.by_id or (group_instance_id is not None and holder is None):
            return ErrorCode.UNKNOWN_MEMBER_ID
        return ErrorCode.NONE

    def who_joins(self, member_id: str, group_instance_id: str | None) -> tuple[ErrorCode, Member | None]:
        """The member that joins again, or whose place a static one takes; None for a new one."""
        if group_instance_id is not None:
            holder = self._static.get(group_instance_id)
            if holder is not None and member_id not in ("", holder):
                return ErrorCode.FENCED_INSTANCE_ID, None
            if holder is None and member_id:
                return ErrorCode.UNKNOWN_MEMBER_ID, None
            return ErrorCode.NONE, None if holder is None else self.by_id[holder]
        known = self.by_id.get(member_id)
        if known is None and member_id and member_id not in self.promised:
            return ErrorCode.UNKNOWN_MEMBER_ID, None
        return ErrorCode.NONE, known

    def why_not(self, request: JoinGroupRequest, known: Member | None, protocol_type: str) -> ErrorCode:
        """`known` would be replaced by what joins; all others have to speak one of its protocols."""
        others = [member for member in self.all() if member is not known]
        size_bytes = size_of(request.protocols) + sum(member.size_bytes for member in others)
        promised = len(self.promised) - (request.member_id in self.promised)
        if len(others) + promised >= limits.GROUP_MEMBERS_MAX or size_bytes > limits.GROUP_BYTES_MAX:
            return ErrorCode.GROUP_MAX_SIZE_REACHED
        if not request.protocol_type or not request.protocols:
            return ErrorCode.INCONSISTENT_GROUP_PROTOCOL
        if others:
            spoken = spoken_by_all(others) & {name for name, _ in request.protocols}
            if not spoken or request.protocol_type != protocol_type:
                return ErrorCode.INCONSISTENT_GROUP_PROTOCOL
        return ErrorCode.NONE
