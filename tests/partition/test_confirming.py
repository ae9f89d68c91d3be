"""Linearizable reads: a leader that was replaced without knowing it finds nobody who says that it still leads."""

from __future__ import annotations

from raftlog.protocol.records import ListOffsetsRequest, ListOffsetsResponse
from raftlog.storage.simulated_disk import SimulatedDisk
from raftlog.types import LATEST_TIMESTAMP, Doubt
from tests.partition.harness import PLACE, Cluster, Node, batch, produce
from tests.requests import request_of


def _settle_apart(cluster: Cluster, *groups: set[int], seconds: float = 0.02) -> None:
    """Nodes hear those of their own group."""
    for _ in range(30):
        for node in cluster.nodes.values():
            node.replica.turn()
        arriving, cluster.queue = cluster.queue, []
        if not arriving:
            break
        for source, target, message, payload in arriving:
            if any({source, target} <= group for group in groups):
                cluster.nodes[target].replica.on_raft(message, payload)
    cluster.clock.advance(seconds)


def test_a_replica_that_lost_its_disk_cannot_confirm_a_leader_that_it_helped_to_replace() -> None:
    cluster = Cluster(3)
    old = cluster.leader()
    for number in range(5):
        old.request("p", produce(number), [batch(b"%d" % number)])
        cluster.settle()
    cluster.settle(2)
    others = [node for node in cluster.nodes.values() if node is not old]
    apart = {old.node_id}, {node.node_id for node in others}
    for node in others:
        node.replica.set_peer(old.node_id, 0)  # the connection between their supervisors broke
    new: Node | None = None
    for _ in range(50):
        _settle_apart(cluster, *apart)
        new = new or next((node for node in others if node.replica.leader_ready), None)
        if new is not None:
            break
    assert new is not None
    forgetful = next(node for node in others if node is not new)
    new.request("p", produce(100), [batch(b"newer")])
    _settle_apart(cluster, *apart)
    assert [result.base_offset for result in new.results()] == [5]
    assert old.replica.is_leader, "it has not noticed yet"

    forgetful.disk = SimulatedDisk()
    forgetful.start(Doubt.LOST_DISK)
    cluster.clock.advance(0.4)
    cluster.queue.clear()
    old.replica.set_peer(forgetful.node_id, forgetful.boot_id)
    forgetful.replica.set_peer(old.node_id, old.boot_id)
    question = request_of(ListOffsetsRequest(timestamp_ms=LATEST_TIMESTAMP), 7, **PLACE)
    old.request("c", question, [])
    for _ in range(100):
        _settle_apart(cluster, {old.node_id, forgetful.node_id}, {new.node_id})
    said = [answer for _, answer, _ in old.answers if isinstance(answer, ListOffsetsResponse)]
    assert not [answer for answer in said if answer.offset == 5], "6 was acknowledged before it was asked"
