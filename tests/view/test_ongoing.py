"""A move that is under way says how much of it is copied, and what its leader waits for."""

from __future__ import annotations

from typing import Any

from raftlog.protocol.reassignments import OngoingReassignment
from raftlog.types import GroupStatus, ReplicaStatus, Role
from raftlog.view.ongoing import OngoingMove, view_ongoing

ID = b"t" * 16


def plan(**changed: Any) -> OngoingReassignment:
    fields: dict[str, Any] = {
        "topic": "t",
        "topic_id": ID,
        "partition": 0,
        "number": 7,
        "replicas": (1, 2),
        "witnesses": (3,),
        "target_replicas": (1, 4, 5),
        "target_witnesses": (),
    }
    return OngoingReassignment(**{**fields, **changed})


def status(node_id: int, size_bytes: int, role: Role = Role.FOLLOWER, **more: Any) -> ReplicaStatus:
    return ReplicaStatus(topic="t", topic_id=ID, partition=0, node_id=node_id, role=role, size_bytes=size_bytes, **more)


def leads(why_not: str = "", number: int = 7) -> ReplicaStatus:
    group = GroupStatus(
        term=1, index=2, halves=(), newest=(1, 2), names=True, plan=number, why_not=why_not, learners=()
    )
    return status(1, 1000, Role.LEADER, group=group)


def seen(move: OngoingReassignment, *statuses: ReplicaStatus) -> OngoingMove:
    (found,) = view_ongoing([move], statuses).moves
    return found


def test_what_the_new_replicas_hold_is_told_with_what_there_is_to_copy() -> None:
    found = seen(plan(), leads(), status(2, 1000), status(4, 300), status(5, 1200))
    assert (found.copied_bytes, found.total_bytes) == (300 + 1000, 2000)
    whole = view_ongoing([plan(), plan(partition=1)], [leads(), status(4, 300)])
    assert (whole.copied_bytes, whole.total_bytes) == (300, 2000)


def test_what_the_leader_waits_for_is_told_without_what_is_meant_for_whom_asked_it() -> None:
    assert seen(plan(), leads("a new replica does not hold the log's end; ask again")).waits == (
        "a new replica does not hold the log's end"
    )
    assert seen(plan(), leads()).waits == ""
    assert seen(plan(), leads(number=6)).waits == "its leader has not heard of it yet"
    assert seen(plan(), status(2, 10)).waits == "no leader"


def test_what_is_called_off_copies_nothing() -> None:
    found = seen(plan(called_off=True), leads(), status(4, 300))
    assert (found.called_off, found.copied_bytes, found.total_bytes) == (True, 0, 0)
