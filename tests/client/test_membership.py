"""One member's steps: what it asks, what it hands out, and when it stops by itself."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import pytest

from raftlog.client.group.assignors import ASSIGNORS
from raftlog.client.group.member import GroupMember, Phase
from raftlog.client.group.member_tasks import Ask, Lost, Revoke, Take
from raftlog.errors import (
    ErrorCode,
    FencedInstanceIdError,
    InconsistentGroupProtocolError,
    InvalidGroupIdError,
    RequestTimedOutError,
)
from raftlog.limits import GROUP_RETRY_S
from raftlog.protocol import groups as g
from raftlog.protocol.consumer_protocol import Subscription, decode_subscription, encode_assignment, encode_subscription
from raftlog.types import TopicPartition

T0, T1, T2 = (TopicPartition("t", number) for number in range(3))
SESSION_S, MAX_POLL_S, HEARTBEAT_S = 10.0, 60.0, 3.0


class Alone:
    """A member, and a coordinator that says what the test says."""

    def __init__(self, strategy: str = "cooperative-sticky", **options: Any) -> None:
        self.now_s = 100.0
        self.counts: Mapping[str, int] | None = {"t": 3}
        self.member = GroupMember(
            "group",
            [ASSIGNORS[strategy]],
            session_timeout_s=SESSION_S,
            heartbeat_interval_s=HEARTBEAT_S,
            max_poll_interval_s=MAX_POLL_S,
            now_s=self.now_s,
            **options,
        )
        self.member.subscribe(["t"])
        self.asks: list[tuple[Ask, Any]] = []

    def step(self, seconds: float = 0.0) -> None:
        self.now_s += seconds
        for ask in self.member.step(self.now_s, self._counts):
            self.asks.append((ask, ask.body(b"offsets")))

    def _counts(self, topics: Collection[str]) -> Mapping[str, int] | None:
        return None if self.counts is None else {topic: self.counts.get(topic, 0) for topic in topics}

    def asked(self, kind: type) -> tuple[Ask, Any]:
        found = [(ask, request) for ask, request in self.asks if isinstance(request, kind)]
        assert len(found) == 1, [type(request).__name__ for _, request in self.asks]
        self.asks.remove(found[0])
        return found[0]

    def answer(self, request: type, response: Any) -> Any:
        ask, sent = self.asked(request)
        self.member.answered(ask, response, self.now_s)
        return sent

    def heartbeat(self, code: int = 0) -> None:
        self.answer(g.HeartbeatRequest, g.HeartbeatResponse(error_code=code))

    def join(self, generation: int = 1, leader: str = "other", code: int = 0) -> g.JoinGroupRequest:
        members = []
        if leader == "me":
            subscription = encode_subscription(Subscription(("t",)))
            members = [g.GroupMember(member_id=name, metadata=subscription) for name in ("me", "you")]
        name = next(iter(self.member._assignors))
        sent: g.JoinGroupRequest = self.answer(
            g.JoinGroupRequest,
            g.JoinGroupResponse(
                error_code=code,
                generation_id=generation,
                protocol_name=name,
                leader=leader,
                member_id="me",
                members=members,
            ),
        )
        return sent

    def sync(self, *places: TopicPartition, code: int = 0) -> g.SyncGroupRequest:
        response = g.SyncGroupResponse(error_code=code, assignment=encode_assignment(places))
        sent: g.SyncGroupRequest = self.answer(g.SyncGroupRequest, response)
        return sent

    def poll(self) -> None:
        """A user who does at once whatever he is told."""
        self.member.polled(self.now_s)
        while (task := self.member.task()) is not None:
            if not isinstance(task, Take):
                self.member.gave_up(task.partitions)
                continue
            self.member.gave_up(task.revoked)
            self.member.take(task)
        self.member.polled(self.now_s)

    def stable(self, *places: TopicPartition, leader: str = "other") -> None:
        self.poll()
        self.step()
        self.join(leader=leader)
        self.step()
        self.sync(*places)
        self.poll()
        assert self.member.phase is Phase.STABLE and self.member.owned == set(places)

    def hands_out(self) -> bool:
        return self.now_s < self.member.hands_out_until_s()


def claims(request: g.JoinGroupRequest) -> Subscription:
    return decode_subscription(request.protocols[0][1])


def test_the_group_is_joined_by_the_first_poll_with_the_id_that_the_coordinator_gives() -> None:
    alone = Alone()
    alone.step()
    assert not alone.asks
    alone.poll()
    alone.step()
    assert alone.join(code=ErrorCode.MEMBER_ID_REQUIRED).member_id == ""
    alone.step()
    assert alone.join().member_id == "me"
    alone.step()
    assert alone.sync(T0).assignments == []
    assert alone.member.task() == Take(frozenset(), frozenset([T0]))
    assert not alone.member.owned, "it is owned before the user has taken it"


def test_the_leader_assigns_once_it_knows_the_topics_and_again_when_they_change() -> None:
    alone = Alone()
    alone.counts = None
    alone.poll()
    alone.step()
    alone.join(leader="me")
    alone.step()
    assert not alone.asks
    alone.counts = {"t": 3}
    alone.step()
    assert dict(alone.sync(T0, T1).assignments).keys() == {"me", "you"}
    alone.poll()
    alone.step()
    assert alone.member.phase is Phase.STABLE
    alone.counts = None  # not known for a moment: no reason for anything
    alone.step()
    assert alone.member.phase is Phase.STABLE
    alone.counts = {"t": 4}
    alone.step()
    assert claims(alone.join(generation=2)).owned == (T0, T1)


def test_an_eager_member_gives_everything_up_before_it_joins() -> None:
    alone = Alone("range")
    alone.stable(T0, T1)
    alone.step(HEARTBEAT_S)
    alone.heartbeat(ErrorCode.REBALANCE_IN_PROGRESS)
    alone.step()
    assert not alone.asks
    assert alone.member.task() == Revoke(frozenset([T0, T1]))
    alone.poll()
    alone.step()
    assert claims(alone.join(generation=2)).owned == ()


def test_a_cooperative_member_keeps_and_names_what_it_owns_and_joins_again_without_what_it_gave_up() -> None:
    alone = Alone()
    alone.stable(T0, T1)
    alone.step(HEARTBEAT_S)
    alone.heartbeat(ErrorCode.REBALANCE_IN_PROGRESS)
    alone.step()
    assert alone.hands_out()
    assert claims(alone.join(generation=2)) == Subscription(("t",), (T0, T1), 1)
    alone.step()
    alone.sync(T0)
    assert alone.member.task() == Take(frozenset([T1]), frozenset())
    alone.step()
    assert not alone.asks, "it joins again before the user has given up what moves"
    alone.poll()
    alone.step()
    assert claims(alone.join(generation=3)) == Subscription(("t",), (T0,), 2)


def test_an_assignment_that_was_not_taken_before_the_next_join_counts_for_nothing() -> None:
    alone = Alone()
    alone.stable(T0)
    alone.step(HEARTBEAT_S)
    alone.heartbeat(ErrorCode.REBALANCE_IN_PROGRESS)
    alone.step()
    alone.join(generation=2)
    alone.step()
    alone.sync(T0, T1)
    task = alone.member.task()
    assert isinstance(task, Take)
    alone.step(HEARTBEAT_S)
    alone.heartbeat(ErrorCode.REBALANCE_IN_PROGRESS)
    alone.step()
    assert claims(alone.join(generation=3)).owned == (T0,)
    assert not alone.member.take(task), "the leader believes that nobody has it"
    assert alone.member.owned == {T0}


def test_nothing_is_handed_out_a_session_after_the_last_answered_heartbeat_was_sent() -> None:
    alone = Alone()
    alone.stable(T0)
    alone.step(HEARTBEAT_S)
    ask, _ = alone.asked(g.HeartbeatRequest)
    alone.now_s += 2.0  # the answer is slow: what counts is when it was asked
    alone.member.answered(ask, g.HeartbeatResponse(), alone.now_s)
    assert alone.member.hands_out_until_s() == alone.now_s - 2.0 + SESSION_S
    alone.now_s += SESSION_S
    assert not alone.hands_out()
    alone.step()
    alone.heartbeat()
    assert alone.hands_out(), "it was a member all the time"


def test_nothing_is_handed_out_when_a_rebalance_has_waited_for_this_member_for_too_long() -> None:
    alone = Alone()
    alone.stable(T0)
    settled_s = alone.now_s
    while alone.now_s < settled_s + MAX_POLL_S - HEARTBEAT_S:
        alone.step(HEARTBEAT_S)  # its JoinGroup does not get through, its heartbeats do
        alone.heartbeat(ErrorCode.REBALANCE_IN_PROGRESS)
        alone.member.polled(alone.now_s)
        assert alone.hands_out()
    alone.now_s = settled_s + MAX_POLL_S
    assert not alone.hands_out(), "the others may have begun a generation without it"


def test_who_is_not_known_any_more_has_lost_everything_and_joins_as_somebody_new() -> None:
    alone = Alone()
    alone.stable(T0)
    identity = alone.member.identity
    alone.step(HEARTBEAT_S)
    alone.heartbeat(ErrorCode.UNKNOWN_MEMBER_ID)
    assert alone.member.task() == Lost(frozenset([T0]))
    assert not alone.hands_out()
    assert alone.member.identity.tenure > identity.tenure
    alone.step()
    assert not alone.asks, "it joins before the user knows of the loss"
    alone.poll()
    alone.step()
    request = alone.join()
    assert request.member_id == "" and claims(request).owned == ()


def test_an_older_generation_is_lost_but_not_while_the_answer_to_a_join_is_on_its_way() -> None:
    alone = Alone()
    alone.stable(T0)
    alone.step(HEARTBEAT_S)
    alone.heartbeat(ErrorCode.REBALANCE_IN_PROGRESS)
    alone.step(HEARTBEAT_S)
    alone.heartbeat(ErrorCode.ILLEGAL_GENERATION)
    assert alone.member.phase is Phase.JOINING and alone.member.task() is None
    alone.join(generation=2)
    alone.step()
    alone.sync(T0)
    alone.poll()
    alone.step(HEARTBEAT_S)
    alone.heartbeat(ErrorCode.ILLEGAL_GENERATION)
    assert alone.member.task() == Lost(frozenset([T0]))


def test_a_member_that_does_not_poll_leaves_and_comes_back_with_the_next_poll() -> None:
    alone = Alone()
    alone.stable(T0)
    alone.step(MAX_POLL_S + 1.0)
    assert not alone.hands_out()
    _, request = alone.asked(g.LeaveGroupRequest)
    assert request.members == [g.LeavingMember(member_id="me")]
    assert alone.member.task() == Lost(frozenset([T0]))
    alone.poll()
    alone.step()
    assert alone.join().member_id == ""


def test_a_static_member_never_leaves_by_itself() -> None:
    alone = Alone(group_instance_id="one")
    alone.stable(T0)
    alone.step(MAX_POLL_S + 1.0)
    assert not alone.asks and alone.member.task() == Lost(frozenset([T0]))
    alone.poll()
    alone.step()
    assert alone.join().member_id == "me"
    alone.member.leave()
    alone.asks.clear()
    alone.step()
    assert not alone.asks


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (ErrorCode.INVALID_GROUP_ID, InvalidGroupIdError),
        (ErrorCode.INCONSISTENT_GROUP_PROTOCOL, InconsistentGroupProtocolError),
        (ErrorCode.FENCED_INSTANCE_ID, FencedInstanceIdError),
    ],
)
def test_what_ends_a_membership_is_an_error_for_the_user(code: ErrorCode, error: type) -> None:
    alone = Alone()
    alone.poll()
    alone.step()
    alone.join(code=code)
    assert isinstance(alone.member.error, error)
    alone.poll()
    alone.step()
    assert not alone.asks, "it tries again before the user knows"


def test_a_member_that_is_fenced_has_lost_everything() -> None:
    alone = Alone(group_instance_id="one")
    alone.stable(T0)
    alone.step(HEARTBEAT_S)
    alone.heartbeat(ErrorCode.FENCED_INSTANCE_ID)
    assert alone.member.task() == Lost(frozenset([T0]))
    assert isinstance(alone.member.error, FencedInstanceIdError)


def test_lost_answers_are_asked_for_again_and_late_ones_ignored() -> None:
    alone = Alone()
    alone.stable(T0)
    alone.step(HEARTBEAT_S)
    alone.heartbeat(ErrorCode.REBALANCE_IN_PROGRESS)
    alone.step()
    late, _ = alone.asked(g.JoinGroupRequest)
    alone.member.failed(late, RequestTimedOutError("nobody answered"), alone.now_s)
    alone.step(GROUP_RETRY_S)
    response = g.JoinGroupResponse(generation_id=9, protocol_name="x", leader="", member_id="else")
    alone.member.answered(late, response, alone.now_s)
    assert alone.member.member_id == "me"
    assert claims(alone.join(generation=2)).owned == (T0,)
    alone.step()
    alone.sync(code=ErrorCode.REBALANCE_IN_PROGRESS)
    alone.step(GROUP_RETRY_S)
    alone.join(generation=3)
    alone.step()
    alone.sync(T0)
    assert alone.member.owned == {T0}


def test_partitions_of_topics_that_are_not_subscribed_any_more_are_given_up_at_once() -> None:
    alone = Alone()
    alone.stable(T0, T1)
    alone.member.subscribe(["another"])
    assert alone.member.task() == Revoke(frozenset([T0, T1]))
    alone.poll()
    alone.step()
    assert claims(alone.join(generation=2)) == Subscription(("another",), (), 1)


def test_an_assignor_that_is_not_offered_ends_the_membership() -> None:
    alone = Alone()
    alone.poll()
    alone.step()
    response = g.JoinGroupResponse(generation_id=1, protocol_name="sticky", leader="", member_id="me")
    alone.answer(g.JoinGroupRequest, response)
    assert isinstance(alone.member.error, InconsistentGroupProtocolError)
