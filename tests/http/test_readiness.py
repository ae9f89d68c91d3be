"""When a node should get work: each reason against it is said."""

from __future__ import annotations

from msgspec.structs import replace

from raftlog.http.readiness import why_not_ready
from raftlog.protocol.report import NodeReport
from raftlog.types import Doubt, ReplicaStatus, Role

FINE = ReplicaStatus(topic="orders", topic_id=b"t" * 16, partition=0, node_id=2, leader_id=1)
REPORT = NodeReport(node_id=2, cluster_id="c", obstacles=[], replicas=[FINE])


def _with(status: ReplicaStatus) -> list[str]:
    return why_not_ready(replace(REPORT, replicas=[FINE, status]))


def test_a_node_whose_replicas_all_work_is_ready() -> None:
    assert why_not_ready(REPORT) == []
    assert _with(replace(FINE, role=Role.WITNESS, leader_id=-1)) == []


def test_what_keeps_it_from_the_metadata_is_a_reason() -> None:
    assert why_not_ready(replace(REPORT, obstacles=["the cluster is being formed"])) == ["the cluster is being formed"]


def test_a_replica_that_does_not_work_is_a_reason() -> None:
    assert _with(replace(FINE, partition=1, leader_id=-1)) == ["orders-1: it knows no leader"]
    assert _with(replace(FINE, error="its worker ended", leader_id=-1)) == ["orders-0: node 2: its worker ended"]
    assert _with(replace(FINE, doubt=Doubt.SHORT)) == [
        "orders-0: node 2 is doubtful: it is shorter than what it acknowledged"
    ]
