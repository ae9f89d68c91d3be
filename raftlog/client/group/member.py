"""A member of a group, without I/O: it joins, learns its partitions, says that it lives, and joins again.

    OUT ──poll──▶ JOINING ──JoinGroup──▶ ASSIGNING ──▶ SYNCING ──SyncGroup──▶ STABLE
     ▲               ▲     (the leader decides)              │                   │
     │               └──── a rebalance: of others, or wished for here ───────────┤
     └──── the coordinator does not know it (any more), it left, it did not poll ┘

A partition has one owner at any time. What this rests on here:

* Without a cooperative assignor the member joins only when it owns nothing any more. With one it joins naming what it
  owns; what it has to give up is given to nobody before it has, and joined again without it.
* What was assigned counts once the user's thread has taken it, and only until the next JoinGroup is sent: that one did
  not name it, so that it may be given to somebody else.
* The coordinator gives a member up a session timeout after it last heard of it, or when it has not joined within the
  rebalance timeout. By its own clock, counted from when it SENT what was answered, the member stops no later.

The user's thread asks for its `task` and says when it is done; the client's thread calls `step` and `answered`. Whoever
calls holds the fetcher's lock.
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from raftlog.client.group.assignors import Assignor, GroupSubscriber
from raftlog.client.group.member_tasks import Ask, Identity, Lost, Revoke, Take, Task
from raftlog.clock import LONG_AGO_S, NEVER_S
from raftlog.errors import ErrorCode, InconsistentGroupProtocolError, InvalidRequestError, RaftlogError, error_for
from raftlog.limits import GROUP_RETRY_S, HEARTBEAT_ATTEMPT_S, JOIN_ATTEMPT_S, LEAVE_S
from raftlog.protocol import apis
from raftlog.protocol.body import Body, ResponseBody
from raftlog.protocol.consumer_protocol import (
    PROTOCOL_TYPE,
    Subscription,
    decode_assignment,
    decode_subscription,
    encode_assignment,
    encode_subscription,
)
from raftlog.protocol.groups import (
    HeartbeatRequest,
    HeartbeatResponse,
    JoinGroupRequest,
    JoinGroupResponse,
    LeaveGroupRequest,
    LeavingMember,
    SyncGroupRequest,
    SyncGroupResponse,
)
from raftlog.types import TopicPartition

LOGGER = logging.getLogger(__name__)
Counts = Callable[[Collection[str]], Mapping[str, int] | None]
"""Numbers of partitions of these topics; None: not known yet."""


class Phase(enum.Enum):
    """Where a member stands; the way from one to the next is drawn above."""

    OUT = "out"
    JOINING = "joining"
    ASSIGNING = "assigning"
    SYNCING = "syncing"
    STABLE = "stable"


class GroupMember:
    """The membership of one consumer in its group, as a state machine (drawn above)."""

    def __init__(
        self,
        group_id: str,
        assignors: Sequence[Assignor],
        *,
        session_timeout_s: float,
        heartbeat_interval_s: float,
        max_poll_interval_s: float,
        group_instance_id: str | None = None,
        client_id: str = "",
        now_s: float = 0.0,
    ) -> None:
        self.group_id = group_id
        self.group_instance_id = group_instance_id
        self.cooperative = all(assignor.cooperative for assignor in assignors)
        self._assignors = {assignor.name: assignor for assignor in assignors}
        self._session_timeout_s = session_timeout_s
        self._heartbeat_interval_s = heartbeat_interval_s
        self._max_poll_interval_s = max_poll_interval_s
        self._client_id = client_id
        self.now_s = now_s
        self.phase = Phase.OUT
        self.member_id = ""
        self.generation = -1
        self.topics: tuple[str, ...] = ()
        self.owned: frozenset[TopicPartition] = frozenset()
        self.error: RaftlogError | None = None  # for the user's next poll
        self._tenure = 0
        self.owned_generation = -1  # the last one that this member was synced in
        self._lost = False
        self._offered: frozenset[TopicPartition] | None = None
        self._rejoin = False
        self.polled_s = now_s
        self._proof_s = LONG_AGO_S  # sent then, and answered by a coordinator that knows this member
        self._settled_s = LONG_AGO_S  # likewise, and no rebalance was waiting for it
        self._beat_s = LONG_AGO_S
        self._retry_s = LONG_AGO_S
        self._asking: Ask | None = None  # JoinGroup or SyncGroup
        self._beating: Ask | None = None
        self._leaving: list[Ask] = []
        self._protocol = ""
        self._leads: list[GroupSubscriber] = []  # all members, for the one who assigns
        self._assignments: list[tuple[str, bytes]] = []
        self._assigned_from: Mapping[str, int] | None = None

    @property
    def identity(self) -> Identity:
        return Identity(self.member_id, self.generation, self._tenure)

    # --- the user's thread ---------------------------------------------------------------------
    def polled(self, now_s: float) -> None:
        """The user asks for records: joins if it is not a member yet, and no loss has to be told first."""
        self.polled_s = now_s
        if self.phase is Phase.OUT and self.topics and not self._lost and self.error is None:
            self.phase = Phase.JOINING
            self._proof_s = self._settled_s = self._retry_s = LONG_AGO_S

    def subscribe(self, topics: Iterable[str]) -> None:
        wanted = tuple(sorted(set(topics)))
        if wanted != self.topics:
            self.topics = wanted
            self._rejoin = True

    def hands_out_until_s(self) -> float:
        """Records of what is owned may be handed out before this time, as far as is known now."""
        if self.phase is Phase.OUT or self._lost:
            return LONG_AGO_S
        return min(self._proof_s + self._session_timeout_s, self._settled_s + self._max_poll_interval_s)

    def task(self) -> Task | None:
        if self._lost:
            return Lost(self.owned)
        unwanted = frozenset(place for place in self.owned if place.topic not in self.topics)
        if not self.cooperative and self._rejoin and self.owned:
            return Revoke(self.owned)
        if unwanted:
            return Revoke(unwanted)
        if self._offered is not None:
            return Take(self.owned - self._offered, self._offered - self.owned)
        return None

    def gave_up(self, partitions: frozenset[TopicPartition]) -> None:
        """After Revoke, Lost, and the revoked part of Take. Nobody reads them here any more."""
        self.owned -= partitions
        if self._lost:
            self._lost = bool(self.owned)
        elif partitions:
            self._rejoin = True  # whoever shall have them waits for this

    def take(self, task: Take) -> bool:
        """Whether the assignment still holds, and is owned now: its revoked part has been given up."""
        if self._offered is None or self._lost or self.owned | task.added != self._offered:
            return False
        self.owned = self._offered
        self._offered = None
        return True

    def leave(self) -> None:
        """Static members stay until their session ends, so that they come back to what they had."""
        if self.member_id and self.phase is not Phase.OUT and self.group_instance_id is None:
            members = [LeavingMember(member_id=self.member_id)]
            request = LeaveGroupRequest(group_id=self.group_id, members=members)
            self._leaving.append(self._ask(request, attempt_s=LEAVE_S, within_s=LEAVE_S))
            self.member_id = ""
        self._out()

    def _ask(self, body: Body, *, attempt_s: float, within_s: float) -> Ask:
        api = apis.BY_REQUEST[type(body)]
        return Ask(self.identity, api, body, lambda: self.now_s, attempt_s=attempt_s, within_s=within_s)

    def _out(self) -> None:
        """BEFORE anybody is told that it left: from here on nothing of what it owned is handed out."""
        self._lost = bool(self.owned)
        self._tenure += 1
        self.phase = Phase.OUT
        self.generation = self.owned_generation = -1
        self._offered = None
        self._asking = self._beating = None
        self._rejoin = False
        self._leads = []
        self._assigned_from = None

    def _fail(self, error: RaftlogError) -> None:
        self.error = error
        self._out()

    # --- the client's thread -------------------------------------------------------------------
    def step(self, now_s: float, counts: Counts) -> list[Ask]:
        """What is to be asked now."""
        self.now_s = now_s
        if self.phase is not Phase.OUT and now_s - self.polled_s > self._max_poll_interval_s:
            LOGGER.warning("group %s: left, since nobody polled for %g s", self.group_id, self._max_poll_interval_s)
            self.leave()
        asks, self._leaving = self._leaving, []
        if self.phase is Phase.OUT:
            return asks
        if self.phase is Phase.STABLE:
            self._look_at_topics(counts)
        if self.phase is Phase.STABLE and self._rejoin:
            self.phase = Phase.JOINING
        if self.phase is Phase.ASSIGNING:
            self._assign(counts)
        if self._asking is None and now_s >= self._retry_s:
            if self.phase is Phase.SYNCING:
                self._asking = self._sync()
            elif self._may_join():
                self._asking = self._join()
            if self._asking is not None:
                asks.append(self._asking)
        if self.generation >= 0 and self._beating is None and now_s >= self._beat_s + self._heartbeat_interval_s:
            self._beat_s = now_s
            self._beating = self._heartbeat()
            asks.append(self._beating)
        return asks

    def next_step_s(self) -> float:
        if self._leaving:
            return self.now_s
        if self.phase is Phase.OUT:
            return NEVER_S
        next_s = self.polled_s + self._max_poll_interval_s
        if self.generation >= 0 and self._beating is None:
            next_s = min(next_s, self._beat_s + self._heartbeat_interval_s)
        if (
            self._asking is None
            and self.phase in (Phase.JOINING, Phase.SYNCING)
            and (self.cooperative or not self.owned)
        ):
            next_s = min(next_s, self._retry_s)
        return next_s

    def _may_join(self) -> bool:
        return self.phase is Phase.JOINING and (self.cooperative or not self.owned)

    def _look_at_topics(self, counts: Counts) -> None:
        """The leader answers for the topics of all members: partitions that came, topics that came or went."""
        if self._assigned_from is not None:
            now = counts(self._assigned_from)
            self._rejoin = self._rejoin or (now is not None and now != self._assigned_from)

    def _join(self) -> Ask:
        # BEFORE it is sent: what is taken after it would be unknown to the leader, who may give it to somebody else.
        self._offered = None
        self._rejoin = False
        subscription = Subscription(self.topics, tuple(sorted(self.owned)), self.owned_generation)
        request = JoinGroupRequest(
            group_id=self.group_id,
            session_timeout_ms=int(self._session_timeout_s * 1000),
            rebalance_timeout_ms=int(self._max_poll_interval_s * 1000),
            member_id=self.member_id,
            group_instance_id=self.group_instance_id,
            protocol_type=PROTOCOL_TYPE,
            protocols=[(name, encode_subscription(subscription)) for name in self._assignors],
            client_id=self._client_id,
        )
        return self._ask(request, attempt_s=JOIN_ATTEMPT_S, within_s=self._max_poll_interval_s)

    def _assign(self, counts: Counts) -> None:
        topics = sorted({topic for member in self._leads for topic in member.subscription.topics})
        found = counts(topics)
        if found is None:
            return
        assignment = self._assignors[self._protocol].assign(self._leads, found)
        self._assigned_from = found
        self._assignments = [(name, encode_assignment(places)) for name, places in sorted(assignment.items())]
        self.phase = Phase.SYNCING

    def _sync(self) -> Ask:
        request = SyncGroupRequest(
            group_id=self.group_id,
            generation_id=self.generation,
            member_id=self.member_id,
            group_instance_id=self.group_instance_id,
            protocol_type=PROTOCOL_TYPE,
            protocol_name=self._protocol,
            assignments=self._assignments,
        )
        return self._ask(request, attempt_s=JOIN_ATTEMPT_S, within_s=self._max_poll_interval_s)

    def _heartbeat(self) -> Ask:
        request = HeartbeatRequest(
            group_id=self.group_id,
            generation_id=self.generation,
            member_id=self.member_id,
            group_instance_id=self.group_instance_id,
        )
        attempt_s = min(HEARTBEAT_ATTEMPT_S, self._session_timeout_s / 3)
        return self._ask(request, attempt_s=attempt_s, within_s=attempt_s)

    # --- answers -------------------------------------------------------------------------------
    def answered(self, ask: Ask, answer: ResponseBody, now_s: float) -> None:
        """Answers that it refuses come here too. What is not waited for any more is ignored."""
        self.now_s = now_s
        code = answer.error_code
        if ask is self._beating:
            self._beating = None
            if ask.identity == self.identity and isinstance(answer, HeartbeatResponse):
                self._heard(ask, code, answer)
        elif ask is self._asking:
            self._asking = None
            if code in (ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.ILLEGAL_GENERATION):
                self._unknown(code)
            elif code == ErrorCode.REBALANCE_IN_PROGRESS:
                self.phase = Phase.JOINING
                self._retry_s = now_s + GROUP_RETRY_S
            elif isinstance(answer, JoinGroupResponse):
                self._joined(ask, answer)
            elif isinstance(answer, SyncGroupResponse):
                self._synced(ask, answer)

    def failed(self, ask: Ask, error: RaftlogError, now_s: float) -> None:
        """No answer in time, or none that says anything of the member."""
        self.now_s = now_s
        if ask is self._beating:
            self._beating = None
        elif ask is self._asking:
            self._asking = None
            self.phase = Phase.JOINING
            self._retry_s = now_s + GROUP_RETRY_S
            if not error.retriable:
                self._fail(error)

    def _heard(self, ask: Ask, code: int, answer: HeartbeatResponse) -> None:
        if code in (ErrorCode.NONE, ErrorCode.REBALANCE_IN_PROGRESS):
            self._proof_s = max(self._proof_s, ask.sent_s)
            if self.phase is Phase.STABLE and code:
                self._rejoin = True
            elif self.phase is Phase.STABLE:
                self._settled_s = max(self._settled_s, ask.sent_s)
        elif code == ErrorCode.ILLEGAL_GENERATION and self.phase is Phase.JOINING:
            pass  # the answer to its JoinGroup is on its way, or will say what is the matter
        elif code in (ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.ILLEGAL_GENERATION):
            self._unknown(code)
        else:
            self._fail(error_for(code, answer.error_text))

    def _unknown(self, code: int) -> None:
        LOGGER.info("group %s: %s is not a member any more (%s)", self.group_id, self.member_id, ErrorCode(code).name)
        if code == ErrorCode.UNKNOWN_MEMBER_ID:
            self.member_id = ""
        self._out()

    def _joined(self, ask: Ask, answer: JoinGroupResponse) -> None:
        if answer.error_code == ErrorCode.MEMBER_ID_REQUIRED:
            self.member_id = answer.member_id
            return
        if answer.error_code:
            self._fail(error_for(answer.error_code, answer.error_text))
            return
        self.member_id = answer.member_id
        self.generation = answer.generation_id
        self._proof_s = max(self._proof_s, ask.sent_s)
        self._settled_s = max(self._settled_s, ask.sent_s)
        self._beat_s = self.now_s
        self._protocol = answer.protocol_name
        self._assigned_from = None
        self._assignments = []
        self.phase = Phase.SYNCING
        if self._protocol not in self._assignors:
            self._fail(InconsistentGroupProtocolError(f"the group uses {self._protocol!r}, which is not offered here"))
        elif answer.leader == answer.member_id:
            try:
                self._leads = [
                    GroupSubscriber(member.member_id, decode_subscription(member.metadata), member.group_instance_id)
                    for member in answer.members
                ]
            except InvalidRequestError as error:
                self._fail(error)
                return
            self.phase = Phase.ASSIGNING

    def _synced(self, ask: Ask, answer: SyncGroupResponse) -> None:
        if answer.error_code:
            self._fail(error_for(answer.error_code, answer.error_text))
            return
        try:
            self._offered = frozenset(decode_assignment(answer.assignment))
        except InvalidRequestError as error:
            self._fail(error)
            return
        self._proof_s = max(self._proof_s, ask.sent_s)
        self._settled_s = max(self._settled_s, ask.sent_s)
        self.owned_generation = self.generation
        self.phase = Phase.STABLE
