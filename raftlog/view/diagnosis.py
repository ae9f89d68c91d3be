"""Why a partition does not work as it should, and what to do: metadata and statuses in, sentences out. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from raftlog.types import Doubt, ReplicaStatus, Role
from raftlog.view.partitions import replica_problems, survives_failures, survives_none_text

_LOST = (Doubt.LOST_DISK, Doubt.LOST_STATE, Doubt.SHORT)


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong somewhere in a cluster.

    `what` is wrong with `place`, a partition; what that means, and what to do.
    """

    place: str
    what: str
    meaning: str
    advice: str


class Loss(msgspec.Struct, frozen=True, kw_only=True):
    """What is gone when `node` becomes the truth of `partition`; `obstacles`: why it cannot.

    `lost_offsets` [start, end), and `lost_entries` (batches and leader changes), as far as anybody who runs knows:
    lost disks know nothing.
    """

    partition: str
    node: int
    log_end_offset: int
    lost_offsets: tuple[int, int] | None
    lost_entries: int
    obstacles: list[str]


def diagnose(place: str, leader_id: int, in_sync: Sequence[int], statuses: Sequence[ReplicaStatus]) -> list[Diagnosis]:
    """`statuses`: one of each replica of the partition."""
    found = []
    if leader_id < 0:
        found.append(_leaderless(place, statuses))
    for status in statuses:
        for what in replica_problems(status):
            found.append(_of_replica(place, what, status, leader_id))
        fine = status.role == Role.WITNESS or status.node_id in in_sync
        if leader_id >= 0 and not status.error and not status.doubt and not fine:
            found.append(
                Diagnosis(
                    place=place,
                    what=f"node {status.node_id} is not in sync",
                    meaning="it runs and is behind: fewer failures are survived until it has caught up",
                    advice="wait; if it stays, look at its disk and its network",
                )
            )
    return found + _survives_none(place, leader_id, in_sync, statuses)


def _survives_none(
    place: str, leader_id: int, in_sync: Sequence[int], statuses: Sequence[ReplicaStatus]
) -> list[Diagnosis]:
    witnesses = [status.node_id for status in statuses if status.role == Role.WITNESS]
    replicas = [status.node_id for status in statuses if status.role != Role.WITNESS]
    survives = survives_failures(replicas, witnesses, in_sync, statuses) if leader_id >= 0 else None
    text = survives_none_text(survives, len(replicas), len(witnesses))
    if not text:
        return []
    away = [status.node_id for status in statuses if status.error and not status.worker_pid]
    return [
        Diagnosis(
            place=place,
            what=text,
            meaning="the next node that fails or is stopped takes its leader away",
            advice=f"start {_nodes(away)}; if a machine is gone for good, a node with its id on an empty directory"
            if away
            else "wait until its replicas are whole and in sync; stop no node before",
        )
    ]


def _leaderless(place: str, statuses: Sequence[ReplicaStatus]) -> Diagnosis:
    needed = len(statuses) // 2 + 1
    away = [status.node_id for status in statuses if status.error]
    sound = [status for status in statuses if not status.error and not status.doubt]
    lost = [status for status in statuses if status.doubt in _LOST]
    if len(lost) >= needed and not away:
        best = _most_complete(statuses)
        return Diagnosis(
            place=place,
            what="no leader: a majority of its replicas lost records that they had acknowledged",
            meaning="nobody can know what these held, so nobody leads by itself: no record is forgotten in silence",
            advice=f"bring a lost disk back if you can; else `raftlog doctor --recover {place} --from {best.node_id}` "
            "shows what would be lost, and does it when told",
        )
    if len(sound) >= needed:
        return Diagnosis(
            place=place,
            what="no leader",
            meaning=f"{len(sound)} of {len(statuses)} replicas run and are whole: they are electing one",
            advice="look again in some seconds",
        )
    if not away:
        return Diagnosis(
            place=place,
            what="no leader: too few replicas are free of doubt",
            meaning="all run; the one that holds most is elected by the votes of all, unless more is known to be lost",
            advice=f"look again in some seconds; if it stays: `raftlog doctor --recover {place} "
            f"--from {_most_complete(statuses).node_id}` shows what would be lost",
        )
    return Diagnosis(
        place=place,
        what=f"no leader: {len(sound)} of {len(statuses)} replicas run and are whole, {needed} are needed",
        meaning="with fewer nothing may be decided; nothing is lost by that",
        advice=f"start {_nodes(away)}; if a machine is gone for good, a node with its id on an empty directory",
    )


def _of_replica(place: str, what: str, status: ReplicaStatus, leader_id: int) -> Diagnosis:
    if status.doubt and what.startswith(f"node {status.node_id} is doubtful"):
        meaning = "it may lack records that it acknowledged, and counts for nothing until it has them again"
        advice = "wait: it fetches them from its leader"
        if leader_id < 0:
            advice = "it fetches them once there is a leader"
        elif status.error:
            advice = f"start node {status.node_id}"
    elif "no other replica has it" in what:
        meaning = "a batch is not as it was written, and nobody else holds it; all others are served"
        advice = "restore it from where it came from, or skip it; replication factor 3 mends this by itself"
    elif not status.worker_pid:
        meaning = "this replica does not run"
        advice = f"start node {status.node_id}, or see its log; `raftlog doctor --data` looks at its files"
    else:
        meaning = "its disk refuses writes; what was acknowledged is safe"
        advice = f"make room on node {status.node_id}"
    return Diagnosis(place=place, what=what, meaning=meaning, advice=advice)


def weigh_recovery(place: str, node_id: int, leader_id: int, statuses: Sequence[ReplicaStatus]) -> Loss:
    """What making `node_id` the truth costs. Raises KeyError when it has no replica of the partition."""
    by_node = {status.node_id: status for status in statuses}
    chosen = by_node[node_id]
    known_end = max(status.high_watermark for status in statuses)
    entries = max(status.commit_bound for status in statuses) - chosen.last_index
    obstacles = []
    if chosen.role == Role.WITNESS:
        obstacles.append(f"node {node_id} is a witness: it holds no records")
    if leader_id >= 0:
        obstacles.append(f"node {leader_id} leads it: there is nothing to recover")
    for status in statuses:
        if status.error:
            obstacles.append(
                f"node {status.node_id} does not run this replica ({status.error}): all have to answer. If its machine "
                "is gone for good, start a node with the same id on an empty directory"
            )
        elif status.role == Role.WITNESS and _reach(status) > _reach(chosen):
            obstacles.append(
                f"the witness on node {status.node_id} counted entries that no running replica holds: start those that "
                "held them, or move the witness's directory away if they are gone for good"
            )
        elif _reach(status) > _reach(chosen):
            obstacles.append(
                f"node {status.node_id} holds more (up to offset {status.log_end_offset}): recover from it, or move "
                "its replica's directory away if it must not count"
            )
    return Loss(
        partition=place,
        node=node_id,
        log_end_offset=chosen.log_end_offset,
        lost_offsets=(chosen.log_end_offset, known_end) if known_end > chosen.log_end_offset else None,
        lost_entries=max(0, entries),
        obstacles=obstacles,
    )


def _most_complete(statuses: Sequence[ReplicaStatus]) -> ReplicaStatus:
    return max((status for status in statuses if status.role != Role.WITNESS), key=_reach)


def _reach(status: ReplicaStatus) -> tuple[int, int]:
    return status.last_term, status.last_index


def _nodes(node_ids: Sequence[int]) -> str:
    return ("node " if len(node_ids) == 1 else "nodes ") + " and ".join(map(str, node_ids))
