"""One consumer group: members, generations, assignments. Kafka's classic protocol, as a state machine.

    Empty ──join──▶ PreparingRebalance ──all have joined, or time is up──▶ CompletingRebalance
                       ▲   ▲   │                                            │        │
                       │   │   └──nobody is left──▶ Empty                   │        │ the leader's assignment
                       │   └──join, leave, death, no sync in time───────────┘        │ is committed
                       └──join, leave, death────────────────────────────── Stable ◀──┘

The assignment is committed BEFORE any member hears of it: whoever coordinates next goes on in that generation.
Sources: Kafka's GroupCoordinator and GroupMetadata; KIP-345 (static members), KIP-394 (member ids), KIP-814 (a static
leader that comes back).
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from functools import partial
from typing import Any

from raftlog import limits
from raftlog.clock import NEVER_S
from raftlog.coordinator.member import Member, elect_protocol
from raftlog.coordinator.members import Members
from raftlog.coordinator.records import GroupKey, GroupValue, Record, encode
from raftlog.coordinator.refusals import code_of_log
from raftlog.errors import ErrorCode
from raftlog.machine.result import Now, Outbox, Then
from raftlog.protocol import groups as g
from raftlog.protocol.consumer_protocol import PROTOCOL_TYPE
from raftlog.protocol.envelope import Request


class State(enum.StrEnum):
    EMPTY = "Empty"
    PREPARING = "PreparingRebalance"
    COMPLETING = "CompletingRebalance"
    STABLE = "Stable"
    DEAD = "Dead"  # nobody knows it, or it has just been forgotten


class Group:
    """A consumer group: its members, its generation and their assignment.

    `due_s`: `tick` has nothing to do before. `wall_ms` gives the time for records, `mint_id` a new member id.
    """

    def __init__(
        self,
        group_id: str,
        outbox: Outbox,
        propose: Callable[[str, list[Record], Then], None],
        mint_id: Callable[[str], str],
        wall_ms: Callable[[], int],
    ) -> None:
        self.group_id = group_id
        self.key = encode(GroupKey(group_id))
        self.state = State.EMPTY
        self.generation = 0
        self.protocol_type = ""
        self.protocol_name = ""
        self.leader = ""
        self.members = Members()
        self.empty_since_ms = wall_ms()
        self.emptied = False  # its last member went, which nobody has written down yet
        self.writes = 0  # of its own record, in flight
        self.due_s = NEVER_S
        self._outbox = outbox
        self._propose = propose
        self._mint_id = mint_id
        self._wall_ms = wall_ms
        self._rebalance_ends_s = NEVER_S
        self._gathering = False  # the first generation of an empty group waits for others to come
        self._storing = -1  # the generation whose assignment is on its way to the log

    def load(self, value: GroupValue, now_s: float) -> None:
        """As the log tells it. Sessions start anew, behind what a leader that was replaced may still have granted."""
        self.generation, self.protocol_type = value.generation, value.protocol_type
        self.empty_since_ms = value.written_ms
        for known in value.members:
            member = Member.of(known)
            self.members.enter(member)
            self._renew(member, now_s + limits.LEADER_FALLBACK_S)
        if len(self.members):
            self.state, self.protocol_name, self.leader = State.STABLE, value.protocol_name, value.leader

    @property
    def is_vacant(self) -> bool:
        """Nobody is in it or about to come, and nothing of it is on its way to the log."""
        return self.state is State.EMPTY and not self.members.promised and not self.writes

    # --- joining ---------------------------------------------------------------------------------
    def join(self, request: g.JoinGroupRequest, caller: Request[Any], now_s: float) -> None:
        member_id, instance_id = request.member_id, request.group_instance_id
        code, known = self.members.who_joins(member_id, instance_id)
        code = code or self.members.why_not(request, known, self.protocol_type)
        if code is not ErrorCode.NONE:
            self._outbox.answer(caller, caller.api.refusal(code))
        elif known is not None and member_id:
            self._rejoin(known, request, caller, now_s)
        elif known is not None:
            self._replace(known, request, caller, now_s)
        elif member_id or instance_id is not None or request.one_round:
            name = request.client_id if instance_id is None else instance_id
            self._add(Member(member_id or self._mint_id(name), instance_id), request, caller, now_s)
        else:
            # The id comes back with the next request, so that a client that tries again is no second member (KIP-394).
            member_id = self._mint_id(request.client_id)
            until_s = now_s + request.session_timeout_ms / 1000
            self.members.promised[member_id] = until_s
            self.due_s = min(self.due_s, until_s)
            response = g.JoinGroupResponse(error_code=ErrorCode.MEMBER_ID_REQUIRED, member_id=member_id)
            self._outbox.answer(caller, response)

    def _add(self, member: Member, request: g.JoinGroupRequest, caller: Request[Any], now_s: float) -> None:
        member.take_wishes(request)
        self.members.enter(member)
        self.leader = self.leader or member.member_id
        self._wait_for_others(member, request, caller, now_s)

    def _rejoin(self, member: Member, request: g.JoinGroupRequest, caller: Request[Any], now_s: float) -> None:
        changed = member.protocols != request.protocols
        member.take_wishes(request)
        self._renew(member, now_s)
        wants_another = self.state is State.STABLE and member.member_id == self.leader
        if self.state is State.PREPARING or changed or wants_another:
            self._wait_for_others(member, request, caller, now_s)
        else:
            self._tell_generation(member, caller)  # the answer got lost

    def _replace(self, old: Member, request: g.JoinGroupRequest, caller: Request[Any], now_s: float) -> None:
        """Another process comes with the instance id of a static member, and takes its place."""
        member = Member(self._mint_id(old.group_instance_id or ""), old.group_instance_id)
        member.take_wishes(request)
        member.assignment = old.assignment
        self._answer_waiting(old, ErrorCode.FENCED_INSTANCE_ID)
        self.members.replace(old, member)
        if self.leader == old.member_id:
            self.leader = member.member_id
        self._renew(member, now_s)
        if self.state is not State.STABLE or self._wants_another_share(old, member):
            self._wait_for_others(member, request, caller, now_s)
            return
        # It keeps its share, without a rebalance. Its id is committed BEFORE it hears it, or a failover would
        # know the process that it has replaced.
        member.join = caller
        assignments = {other.member_id: other.assignment for other in self.members.all()}
        self._write(assignments, partial(self._replaced, member, caller))

    def _wants_another_share(self, old: Member, new: Member) -> bool:
        """Whether all share out anew, now that `new` has the place of `old`.

        Other bytes alone say nothing: a process that has just begun names no partitions that it owns.
        """
        name = self.protocol_name
        if elect_protocol(self.members.all()) != name:
            return True
        return self.protocol_type == PROTOCOL_TYPE and old.topics(name) != new.topics(name)

    def _replaced(self, member: Member, caller: Request[Any], code: ErrorCode, now: Now) -> None:
        if member.join is not caller:
            return  # answered: by a rebalance, or because it has gone
        if code is not ErrorCode.NONE:
            self._renew(member, now.s)
            self._answer_waiting(member, code_of_log(code))
        elif self.state is State.STABLE:
            self._renew(member, now.s)
            member.join = None
            self._tell_generation(member, caller, assigned=True)

    def _wait_for_others(self, member: Member, request: g.JoinGroupRequest, caller: Request[Any], now_s: float) -> None:
        self._answer_waiting(member, ErrorCode.REBALANCE_IN_PROGRESS)  # an earlier try of the same member
        self.protocol_type = request.protocol_type
        member.join = caller
        self._rebalance(now_s)

    # --- the rebalance ---------------------------------------------------------------------------
    def _rebalance(self, now_s: float) -> None:
        """A new generation is wanted; it begins at once if nobody has to be waited for."""
        if self.state is not State.PREPARING:
            self._gathering = self.state is State.EMPTY
            self.state = State.PREPARING
            self._answer_syncs(ErrorCode.REBALANCE_IN_PROGRESS, now_s)
            wait_s = limits.GROUP_INITIAL_DELAY_S if self._gathering else self.members.longest_wait_s
            self._end_rebalance_at(now_s + wait_s)
        if not self._gathering and all(member.join is not None for member in self.members.all()):
            self._begin_generation(now_s)

    def _begin_generation(self, now_s: float) -> None:
        """Whoever has joined is in it. Static members stay although they are late: their session decides."""
        for member in list(self.members.all()):
            if member.join is None and member.group_instance_id is None:
                self._remove(member)
        joined = [member for member in self.members.all() if member.join is not None]
        if len(self.members) and not joined:
            self._end_rebalance_at(now_s + self.members.longest_wait_s)
            return
        self.generation += 1
        self._gathering = False
        if not joined:
            self._become_empty()
            return
        if self.members.by_id[self.leader].join is None:
            self.leader = joined[0].member_id
        self.state = State.COMPLETING
        self.protocol_name = elect_protocol(self.members.all())
        self._end_rebalance_at(now_s + self.members.longest_wait_s)
        for member in self.members.all():
            caller, member.join = member.join, None
            member.owes_sync = caller is not None
            if caller is not None:
                self._renew(member, now_s)
                self._tell_generation(member, caller)

    def _become_empty(self) -> None:
        self.state = State.EMPTY
        self.leader = self.protocol_name = ""
        self.empty_since_ms = self._wall_ms()
        self.emptied = True

    def _tell_generation(self, member: Member, caller: Request[Any], *, assigned: bool = False) -> None:
        response = g.JoinGroupResponse(
            generation_id=self.generation,
            protocol_type=self.protocol_type,
            protocol_name=self.protocol_name,
            leader=self.leader,
            member_id=member.member_id,
        )
        if member.member_id == self.leader:
            response.members = [other.seen_by_leader(self.protocol_name) for other in self.members.all()]
            response.skip_assignment = assigned
        self._outbox.answer(caller, response)

    # --- the assignment --------------------------------------------------------------------------
    def sync(self, request: g.SyncGroupRequest, caller: Request[Any], now_s: float) -> None:
        code = self.check(request.member_id, request.group_instance_id, request.generation_id)
        if code is ErrorCode.NONE:
            of_type, spoken = request.protocol_type, request.protocol_name
            if of_type not in ("", self.protocol_type) or spoken not in ("", self.protocol_name):
                code = ErrorCode.INCONSISTENT_GROUP_PROTOCOL
            elif self.state is State.PREPARING:
                code = ErrorCode.REBALANCE_IN_PROGRESS
        if code is not ErrorCode.NONE:
            self._outbox.answer(caller, caller.api.refusal(code))
            return
        member = self.members.by_id[request.member_id]
        self._renew(member, now_s)
        self._answer_sync(member, ErrorCode.REBALANCE_IN_PROGRESS)  # an earlier try of the same member
        member.sync = caller
        member.owes_sync = False
        if self.state is State.STABLE:
            self._answer_sync(member, ErrorCode.NONE)
        elif member.member_id == self.leader and self._storing != self.generation:
            self._storing = self.generation
            assignments = dict(request.assignments)
            self._write(assignments, partial(self._stored, self.generation, assignments))

    def _stored(self, generation: int, assignments: dict[str, bytes], code: ErrorCode, now: Now) -> None:
        if generation != self.generation or self.state is not State.COMPLETING:
            return  # another rebalance has begun meanwhile, and whoever waited was told
        if code is not ErrorCode.NONE:
            self._answer_syncs(code_of_log(code), now.s)
            self._rebalance(now.s)
            return
        self.state = State.STABLE
        for member in self.members.all():
            member.assignment = assignments.get(member.member_id, b"")
        self._answer_syncs(ErrorCode.NONE, now.s)

    def write_emptiness(self) -> None:
        """So that no failover brings the last members back, and offsets expire from now on."""
        self.emptied = False
        self._write({}, lambda code, now: None)

    def _write(self, assignments: dict[str, bytes], then: Then) -> None:
        value = GroupValue(
            generation=self.generation,
            protocol_type=self.protocol_type,
            protocol_name=self.protocol_name,
            leader=self.leader,
            members=[member.value(assignments.get(member.member_id, b"")) for member in self.members.all()],
            written_ms=self._wall_ms(),
        )
        self.writes += 1
        self._propose(self.group_id, [(self.key, encode(value))], partial(self._written, then))

    def _written(self, then: Then, code: ErrorCode, now: Now) -> None:
        self.writes -= 1
        then(code, now)

    def reads(self, topic: str) -> bool:
        """Whether a member has subscribed to it, or may have: no assignor is chosen yet, or its bytes do not say."""
        wanted = [member.topics(self.protocol_name) for member in self.members.all()]
        return any(topics is None or topic in topics for topics in wanted)

    # --- life signs ------------------------------------------------------------------------------
    def check(self, member_id: str, group_instance_id: str | None, generation: int) -> ErrorCode:
        """Whether this is a member, of this generation."""
        code = self.members.check(member_id, group_instance_id)
        if code is ErrorCode.NONE and generation != self.generation:
            return ErrorCode.ILLEGAL_GENERATION
        return code

    def heartbeat(self, request: g.HeartbeatRequest, now_s: float) -> ErrorCode:
        code = self.check(request.member_id, request.group_instance_id, request.generation_id)
        if code is not ErrorCode.NONE:
            return code
        self.touch(request.member_id, now_s)
        return ErrorCode.REBALANCE_IN_PROGRESS if self.state is State.PREPARING else ErrorCode.NONE

    def touch(self, member_id: str, now_s: float) -> None:
        """A sign of life of one who is a member."""
        self._renew(self.members.by_id[member_id], now_s)

    def leave(self, leaving: g.LeavingMember, now_s: float) -> ErrorCode:
        member_id = leaving.member_id
        if leaving.group_instance_id is not None and not member_id:
            member_id = self.members.id_of(leaving.group_instance_id)
        if self.members.promised.pop(member_id, None) is not None:
            return ErrorCode.NONE
        code = self.members.check(member_id, leaving.group_instance_id)
        if code is ErrorCode.NONE:
            self._remove(self.members.by_id[member_id])
            self._rebalance(now_s)
        return code

    def tick(self, now_s: float) -> None:
        """Everything whose time has come by `now_s`."""
        if now_s < self.due_s:
            return
        promised = self.members.promised
        for member_id in [member_id for member_id, until_s in promised.items() if until_s <= now_s]:
            del promised[member_id]
        gone = [member for member in self.members.all() if not member.waits and member.deadline_s <= now_s]
        if self.state is State.COMPLETING and self._rebalance_ends_s <= now_s:
            gone += [member for member in self.members.all() if member.owes_sync and member not in gone]
            self._rebalance_ends_s = NEVER_S  # where nobody owes any, the log has yet to commit the assignment
        for member in gone:
            self._remove(member)
        if gone:
            self._rebalance(now_s)
        if self.state is State.PREPARING and self._rebalance_ends_s <= now_s:
            self._begin_generation(now_s)
        self.due_s = min(
            self._rebalance_ends_s if self.state in (State.PREPARING, State.COMPLETING) else NEVER_S,
            min(promised.values(), default=NEVER_S),
            min((member.deadline_s for member in self.members.all() if not member.waits), default=NEVER_S),
        )

    def disband(self, code: ErrorCode) -> None:
        """Nothing is decided here any more: answer all that wait."""
        self.state = State.DEAD
        for member in self.members.all():
            self._answer_waiting(member, code)

    def _renew(self, member: Member, now_s: float) -> None:
        member.deadline_s = now_s + member.session_timeout_ms / 1000
        self.due_s = min(self.due_s, member.deadline_s)

    def _end_rebalance_at(self, ends_s: float) -> None:
        self._rebalance_ends_s = ends_s
        self.due_s = min(self.due_s, ends_s)

    def _remove(self, member: Member) -> None:
        self.members.remove(member)
        if self.leader == member.member_id:
            self.leader = self.members.first_id
        self._answer_waiting(member, ErrorCode.UNKNOWN_MEMBER_ID)

    def _answer_waiting(self, member: Member, code: ErrorCode) -> None:
        if member.join is not None:
            caller, member.join = member.join, None
            self._outbox.answer(caller, g.JoinGroupResponse(error_code=code))
        self._answer_sync(member, code)

    def _answer_syncs(self, code: ErrorCode, now_s: float) -> None:
        for member in self.members.all():
            if member.sync is not None:
                self._renew(member, now_s)
                self._answer_sync(member, code)

    def _answer_sync(self, member: Member, code: ErrorCode) -> None:
        if member.sync is None:
            return
        caller, member.sync = member.sync, None
        response = g.SyncGroupResponse(error_code=code)
        if code is ErrorCode.NONE:
            response.protocol_type, response.protocol_name = self.protocol_type, self.protocol_name
            response.assignment = member.assignment
        self._outbox.answer(caller, response)
