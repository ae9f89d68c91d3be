"""Moves that are under way: how far each is, and why it waits. Pure: plans and replicas' own reports in, views out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from raftlog.protocol.reassignments import OngoingReassignment
from raftlog.types import ReplicaStatus, Role, TopicPartition


class OngoingMove(msgspec.Struct, frozen=True, kw_only=True):
    """A partition with a plan. `called_off`: it goes back to where it was.

    `copied_bytes` of `total_bytes`: of all replicas that come. `waits`: what its leader waits for; "" where it goes on.
    """

    topic: str
    partition: int
    replicas: list[int]
    witnesses: list[int]
    target_replicas: list[int]
    target_witnesses: list[int]
    called_off: bool
    copied_bytes: int
    total_bytes: int
    waits: str
    bytes_per_s: int

    @property
    def place(self) -> TopicPartition:
        return TopicPartition(self.topic, self.partition)


class OngoingMoves(msgspec.Struct, frozen=True, kw_only=True):
    moves: list[OngoingMove]
    copied_bytes: int
    total_bytes: int

    @classmethod
    def of(cls, moves: list[OngoingMove]) -> OngoingMoves:
        copied_bytes = sum(each.copied_bytes for each in moves)
        return cls(moves=moves, copied_bytes=copied_bytes, total_bytes=sum(each.total_bytes for each in moves))


def view_ongoing(plans: Iterable[OngoingReassignment], statuses: Iterable[ReplicaStatus]) -> OngoingMoves:
    """`statuses` with those of the nodes that the plans name."""
    said: dict[tuple[bytes, int], list[ReplicaStatus]] = {}
    for status in statuses:
        said.setdefault((status.topic_id, status.partition), []).append(status)
    return OngoingMoves.of([_view(plan, said.get((plan.topic_id, plan.partition), [])) for plan in plans])


def _view(plan: OngoingReassignment, statuses: Sequence[ReplicaStatus]) -> OngoingMove:
    leader = next((each for each in statuses if each.role is Role.LEADER and not each.error), None)
    size_bytes = leader.size_bytes if leader is not None else 0
    adding = () if plan.called_off else plan.adding
    held = {each.node_id: min(each.size_bytes, size_bytes) for each in statuses}
    return OngoingMove(
        topic=plan.topic,
        partition=plan.partition,
        replicas=list(plan.replicas),
        witnesses=list(plan.witnesses),
        target_replicas=list(plan.target_replicas),
        target_witnesses=list(plan.target_witnesses),
        called_off=plan.called_off,
        copied_bytes=sum(held.get(node_id, 0) for node_id in adding),
        total_bytes=size_bytes * len(adding),
        waits=_waits(plan, leader),
        bytes_per_s=plan.bytes_per_s,
    )


def _waits(plan: OngoingReassignment, leader: ReplicaStatus | None) -> str:
    if leader is None:
        return "no leader"
    group = leader.group
    if group is None or group.plan != plan.number:
        return "its leader has not heard of it yet"
    return group.why_not.partition("; ")[0]  # what follows is for who asks the leader
