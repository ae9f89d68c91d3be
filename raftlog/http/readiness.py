"""Whether a node should be given work, and why not. Pure: its report in, sentences out."""

from __future__ import annotations

from raftlog.protocol.report import NodeReport
from raftlog.types import NOBODY, ReplicaStatus, Role
from raftlog.view.partitions import replica_problems


def why_not_ready(report: NodeReport) -> list[str]:
    """None: it is in step with the metadata, and each replica that it hosts works."""
    reasons = list(report.obstacles)
    for status in report.replicas:
        reasons += [f"{status.topic}-{status.partition}: {text}" for text in _reasons(status)]
    return reasons


def _reasons(status: ReplicaStatus) -> list[str]:
    problems = replica_problems(status)
    # A witness hears from its leader only when there is something to count.
    if not problems and status.leader_id == NOBODY and status.role != Role.WITNESS:
        return ["it knows no leader"]
    return problems
