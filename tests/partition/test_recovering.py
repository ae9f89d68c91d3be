"""A majority that lost its records: no leader, until somebody accepts the loss; then one replica is the truth."""

from __future__ import annotations

from raftlog.errors import ErrorCode
from raftlog.types import Doubt, Half, Plan
from tests.partition.harness import Cluster, Node, batch, produce

_RECORDS = 40


def _filled() -> Cluster:
    cluster = Cluster(3, segment_bytes=2048)
    leader = cluster.leader()
    for number in range(_RECORDS):
        leader.request("c", produce(number), [batch(b"%03d" % number + bytes(60))])
        cluster.settle()
    cluster.settle(2.0)  # the bounds are written
    return cluster


def _restart(cluster: Cluster, *damaged: int, lost: int = 0) -> None:
    """All processes end and start again. `damaged`: of these nodes the last `lost` bytes are gone; 0: the disk is."""
    for node in cluster.nodes.values():
        existed = Doubt.NONE
        if node.node_id in damaged and not lost:
            node.disk.wipe("orders-0")
            existed = Doubt.LOST_DISK
        elif node.node_id in damaged:
            path, data = sorted(item for item in node.disk.files().items() if item[0].endswith(".log"))[-1]
            node.disk.truncate_durable(path, len(data) - lost)
        node.disk.restart()
        node.start(existed)
    cluster.queue.clear()
    for node in cluster.nodes.values():
        for other in cluster.nodes.values():
            if other is not node:
                node.replica.set_peer(other.node_id, other.boot_id)


def _leaders(cluster: Cluster) -> list[int]:
    return [node.node_id for node in cluster.nodes.values() if node.replica.is_leader]


def _write(cluster: Cluster, leader: Node) -> int:
    leader.request("c", produce(1000), [batch(b"more")])
    cluster.settle(1.0)
    (result,) = [result for result in leader.results() if result.correlation_id == 1000]
    assert result.error_code == ErrorCode.NONE
    return result.base_offset


def test_a_majority_of_lost_disks_does_not_come_back_in_silence_and_does_when_told() -> None:
    cluster = _filled()
    _restart(cluster, 2, 3)
    cluster.settle(10.0)
    assert _leaders(cluster) == []
    cluster.nodes[1].replica.accept_loss()
    leader = cluster.leader()
    cluster.settle(3.0)
    assert leader is cluster.nodes[1]
    assert [node.replica.high_watermark for node in cluster.nodes.values()] == [_RECORDS] * 3
    assert all(node.log.state.doubt is Doubt.NONE for node in cluster.nodes.values())
    assert _write(cluster, leader) == _RECORDS


def test_the_permission_ends_with_time() -> None:
    cluster = _filled()
    _restart(cluster, 2, 3)
    cluster.away = {3}
    cluster.nodes[1].replica.accept_loss()
    cluster.settle(31.0)
    assert _leaders(cluster) == []  # node 3 was not there to vote
    cluster.away = set()
    cluster.settle(10.0)
    assert _leaders(cluster) == []


def test_a_replica_that_lacks_what_another_holds_is_not_made_the_truth() -> None:
    cluster = _filled()
    _restart(cluster, 2, 3)
    cluster.nodes[2].replica.accept_loss()
    cluster.settle(10.0)
    assert _leaders(cluster) == []


def test_what_is_gone_is_forgotten_and_not_taken_for_committed_later() -> None:
    """Two replicas lost their ends, the third its disk: none holds what they had known to be committed."""
    cluster = _filled()
    for node_id in (1, 2):
        assert cluster.nodes[node_id].log.state.commit_bound == _RECORDS + 2
    cluster.nodes[3].disk.wipe("orders-0")
    for node_id in (1, 2):
        path, data = sorted(i for i in cluster.nodes[node_id].disk.files().items() if i[0].endswith(".log"))[-1]
        cluster.nodes[node_id].disk.truncate_durable(path, len(data) - 5)
    _restart(cluster, 3)
    cluster.settle(10.0)
    assert _leaders(cluster) == []
    cluster.nodes[2].replica.accept_loss()
    leader = cluster.leader()
    cluster.settle(3.0)
    assert leader is cluster.nodes[2]
    assert [node.replica.high_watermark for node in cluster.nodes.values()] == [_RECORDS - 1] * 3
    for node in cluster.nodes.values():
        assert node.log.state.doubt is Doubt.NONE
        assert node.log.state.commit_bound <= node.log.last_index
    assert _write(cluster, leader) == _RECORDS - 1
    cluster.settle(2.0)
    _restart(cluster)
    cluster.leader()
    cluster.settle(3.0)
    assert [node.replica.high_watermark for node in cluster.nodes.values()] == [_RECORDS] * 3
    assert all(node.log.state.doubt is Doubt.NONE for node in cluster.nodes.values())


def test_a_healthy_leader_is_not_disturbed() -> None:
    cluster = _filled()
    leader = cluster.leader()
    term = leader.log.state.term
    for node in cluster.nodes.values():
        node.replica.accept_loss()
    cluster.settle(5.0)
    assert leader.replica.leader_ready
    assert leader.log.state.term == term


def _moved() -> tuple[Cluster, tuple[int, int]]:
    """A group that has moved from 1, 2, 3 to 1, 2, 4, and (term, index) of its configuration."""
    cluster = _filled()
    leader = cluster.leader()
    cluster.join(4)
    for node in cluster.nodes.values():
        node.replica.heed(Plan(number=7, target=Half((1, 2, 4))), (0, 0))
    cluster.settle(5.0)
    group = leader.replica.status().group
    assert group.halves == (Half((1, 2, 4)),)
    return cluster, (group.term, group.index)


def test_the_voters_of_a_group_that_moved_become_a_configuration_of_the_new_term() -> None:
    """Or the metadata would take the lost one for the newest."""
    cluster, before = _moved()
    _restart(cluster, 2, 4)
    for node in cluster.nodes.values():
        node.replica.heed(None, before)
    cluster.settle(10.0)
    assert _leaders(cluster) == []
    cluster.nodes[1].replica.accept_loss()
    leader = cluster.leader()
    cluster.settle(3.0)
    group = leader.replica.status().group
    assert group.halves == (Half((1, 2, 4)),)
    assert (group.term, group.index) > before and group.term == leader.log.state.term
    assert len(leader.log.configurations_in(1, leader.log.last_index + 1)) == 3
    assert _write(cluster, leader) == _RECORDS


def test_a_group_that_never_moved_gets_no_configuration() -> None:
    """It stays in the format that a version reads which knows of none."""
    cluster = _filled()
    _restart(cluster, 2, 3)
    cluster.settle(5.0)
    cluster.nodes[1].replica.accept_loss()
    assert cluster.leader().log.halves == ()
