"""What a replica says of itself, for the status."""

from __future__ import annotations

from raftlog.consensus.member import RaftMember
from raftlog.storage.log import PartitionLog
from raftlog.types import GroupStatus, ReplicaSpec, ReplicaStatus


def status_of(
    spec: ReplicaSpec,
    member: RaftMember,
    log: PartitionLog,
    high_watermark: int,
    refusal: str,
    plan: int = -1,
    why_not: str = "",
) -> ReplicaStatus:
    """`refusal`: why the disk takes no writes; empty when it does. `plan`, `why_not`: see GroupStatus."""
    return ReplicaStatus(
        topic=spec.topic,
        topic_id=spec.topic_id,
        partition=spec.partition,
        node_id=member.node_id,
        role=member.role.kind,
        leader_id=member.leader_id,
        leader_epoch=member.term,
        log_start_offset=log.state.log_start_offset,
        high_watermark=high_watermark,
        log_end_offset=log.log_end_offset,
        size_bytes=log.size_bytes,
        segments=log.segment_count,
        doubt=log.state.doubt,
        doubt_reason=log.state.doubt_reason,
        in_sync=member.in_sync,
        error=refusal or (f"{log.damage}; no other replica has it" if log.damage else ""),
        fsyncs=log.syncs,
        truncations=log.state.truncations,
        last_index=log.last_index,
        last_term=log.last_term,
        corruptions=log.state.corruptions,
        cuts=log.state.cuts,
        commit_bound=log.state.commit_bound,
        group=group_of(member, plan, why_not),
        asleep=member.is_asleep,
    )


def group_of(member: RaftMember, plan: int = -1, why_not: str = "") -> GroupStatus | None:
    """Of the voters; None: they are as they were founded, and nothing is planned."""
    newest = member.log.configuration_at(member.log.last_index)
    if newest is None and plan < 0:
        return None
    known = member.log.configuration_at(member.commit_index)
    return GroupStatus(
        term=known.term if known is not None else 0,
        index=known.index if known is not None else 0,
        halves=known.halves if known is not None else (),
        newest=(newest.term, newest.index) if newest is not None else (0, 0),
        names=member.node_id in member.voters.ids,
        plan=plan if member.is_leader else -1,
        why_not=why_not,
        learners=tuple(sorted(member.learning.items())),
    )
