"""Groups of real members, and messages made by hand for them."""

from __future__ import annotations

from typing import Any

from raftlog.protocol import raft as r
from tests.partition.harness import TOPIC_ID, Cluster, Node, batch, produce


def cluster_with_leader() -> tuple[Cluster, Node, Node]:
    """Three nodes, the leader, and a follower; nothing under way."""
    cluster = Cluster(3)
    leader = cluster.leader()
    follower = next(node for node in cluster.nodes.values() if node is not leader)
    cluster.queue.clear()
    return cluster, leader, follower


def appended(cluster: Cluster, leader: Node, *values: bytes) -> None:
    """One batch each, and all that follows from it."""
    for number, value in enumerate(values):
        leader.request("c", produce(number), [batch(value)])
        cluster.settle()


def head(cluster: Cluster, source: int, target: int, term: int) -> tuple[Any, ...]:
    nodes = cluster.nodes
    return (TOPIC_ID, 0, source, nodes[source].boot_id, nodes[target].boot_id, term)


def entries_of(
    cluster: Cluster,
    leader: Node,
    target: Node,
    *,
    after: tuple[int, int],
    count: int,
    starts: list[Any] | None = None,
    commit: int = 1,
    term: int = 0,
    sequence: int = 1,
) -> r.AppendEntries:
    """`count` entries behind `after` (index, term); `term` 0: the leader's."""
    start = head(cluster, leader.node_id, target.node_id, term or leader.log.state.term)
    last_index = max(after[0] + count, commit)
    return r.AppendEntries(*start, sequence, *after, commit, count, starts or [], 0, last_index, 0)


def sent_to(cluster: Cluster, target: int, kind: type) -> list[Any]:
    return [message for _, to, message, _ in cluster.queue if to == target and isinstance(message, kind)]
