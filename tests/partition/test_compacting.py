"""Replicas that compact on their own: whoever was away, or lost something, ends with the same last values."""

from __future__ import annotations

import pytest

from raftlog.errors import CorruptLogError, ErrorCode
from raftlog.record.batch import decode, split
from raftlog.types import CleanupPolicy, Doubt
from tests.partition.compacted import compacted_cluster, fillers, keyed, rounds, write
from tests.partition.harness import Cluster, Node, batch, fetch, produce


def last_values(node: Node) -> dict[bytes, bytes]:
    found: dict[bytes, bytes | None] = {}
    offset = node.log.state.log_start_offset
    while data := node.log.read(offset, 1 << 16, node.log.log_end_offset):
        for record in decode(data):
            if record.offset >= offset:
                found[record.key or b""] = record.value
        *_, (_, header) = split(data)
        offset = header.next_offset
    return {key: value for key, value in found.items() if value is not None}


def cut_log_to_its_first_segment(node: Node) -> None:
    """As damage does: everything behind the first batches is gone, synced or not."""
    node.disk.restart()
    first, *others = sorted(path for path in node.disk.files() if path.endswith(".log"))
    for path in others:
        node.disk.remove(path)
    node.disk.truncate_durable(first, len(node.disk.files()[first]) - 10)


def test_a_compacted_topic_refuses_records_without_a_key() -> None:
    cluster = compacted_cluster(1)
    leader = cluster.leader()
    leader.request("c", produce(1), [batch(b"no key")])
    leader.request("c", produce(2), [keyed(b"key", b"value")])
    cluster.settle(0.1)
    results = {result.correlation_id: result for result in leader.results()}
    assert results[1].error_code == ErrorCode.INVALID_RECORD
    assert "without a key" in results[1].error_text
    assert results[2].error_code == ErrorCode.NONE


def test_a_fetch_from_an_offset_that_is_gone_goes_on_with_what_stays() -> None:
    cluster = compacted_cluster(1)
    write(cluster, rounds(50))
    cluster.settle(3.0)
    leader = cluster.leader()
    offset, found = 3, list[int]()
    while offset < 50:
        leader.request("r", fetch(offset), [])
        cluster.settle()
        _, response, payload = leader.answers[-1]
        assert response.error_code == ErrorCode.NONE
        found += [record.offset for record in decode(payload)]
        *_, (_, header) = split(payload)
        assert header.next_offset > offset
        offset = header.next_offset
    assert 30 < found[0] < 45
    assert found == sorted(found)


def test_a_follower_that_was_away_gets_every_key() -> None:
    cluster = compacted_cluster(segment_bytes=3000)
    write(cluster, rounds(26))
    cluster.settle(3.0)
    leader = cluster.leader()
    away = next(node for node in cluster.nodes.values() if node is not leader)
    cluster.away = {away.node_id}
    cluster.queue.clear()
    write(cluster, rounds(100, keys=7))
    cluster.settle(5.0)
    assert fillers(leader)
    assert leader.log.size_bytes < 5000
    ended = away.log.last_index
    # Its log ends within what the leader has compacted.
    assert leader.log.read_entries(ended + 1, 1).first_index < ended + 1
    cluster.away = set()
    cluster.settle(5.0)
    assert away.log.last_index == leader.log.last_index
    assert away.log.state.doubt is Doubt.NONE
    assert last_values(away) == last_values(leader)
    assert len(last_values(leader)) == 7
    assert fillers(away)
    # And may lead.
    cluster.away = {leader.node_id}
    cluster.queue.clear()
    away.replica.set_peer(leader.node_id, 0)
    write(cluster, rounds(10))
    restarted = next(node for node in cluster.nodes.values() if node.node_id not in (away.node_id, leader.node_id))
    assert last_values(restarted) == last_values(away)


def test_an_empty_replica_gets_every_key() -> None:
    cluster = compacted_cluster()
    write(cluster, rounds(100))
    cluster.settle(3.0)
    leader = cluster.leader()
    lost = next(node for node in cluster.nodes.values() if node is not leader)
    lost.disk.wipe("orders-0")
    lost.disk.restart()
    lost.start(Doubt.LOST_DISK)
    for other in cluster.nodes.values():
        if other is not lost:
            lost.replica.set_peer(other.node_id, other.boot_id)
            other.replica.set_peer(lost.node_id, lost.boot_id)
    cluster.settle(5.0)
    assert lost.log.state.doubt is Doubt.NONE
    assert last_values(lost) == last_values(leader)
    assert lost.log.size_bytes < 3000


def test_tombstones_stay_while_a_replica_is_away_and_go_when_it_is_back() -> None:
    cluster = compacted_cluster(delete_retention_ms=0)
    write(cluster, [(b"deleted", b"value"), *rounds(30)])
    leader = cluster.leader()
    away = next(node for node in cluster.nodes.values() if node is not leader)
    cluster.away = {away.node_id}
    cluster.queue.clear()
    write(cluster, [(b"deleted", None), *rounds(60)])
    cluster.settle(6.0)
    assert leader.log.state.purged_index == 0
    cluster.away = set()
    cluster.settle(3.0)
    write(cluster, rounds(60))
    cluster.settle(6.0)
    assert all(node.log.state.purged_index > 0 for node in cluster.nodes.values())
    for node in cluster.nodes.values():
        assert b"deleted" not in last_values(node)
        keys = {record.key for record in decode(node.log.read(0, 1 << 20, node.log.log_end_offset))}
        assert b"deleted" not in keys


def test_what_a_lost_tombstone_deleted_does_not_come_back() -> None:
    """A replica loses the tombstone, but not the value; on the others the tombstone is gone for good."""
    cluster = compacted_cluster(delete_retention_ms=0)
    victim = next(node for node in cluster.nodes.values() if node is not cluster.leader())
    victim.replica._house._log.cleaner.begin = lambda *_: None  # it is a little behind with its own compaction
    write(cluster, [(b"deleted", b"value"), *rounds(30), (b"deleted", None), *rounds(60)])
    cluster.settle(6.0)
    leader = cluster.leader()
    assert leader is not victim
    assert leader.log.state.purged_index > 0
    cut_log_to_its_first_segment(victim)
    cluster.restart(victim)
    assert victim.log.state.doubt is not Doubt.NONE
    assert b"deleted" in last_values(victim)
    with pytest.raises(CorruptLogError, match="tombstones"):
        cluster.settle(5.0)
    cluster.restart(victim)
    assert victim.log.size_bytes == 0
    cluster.settle(5.0)
    assert victim.log.state.doubt is Doubt.NONE
    assert last_values(victim) == last_values(leader)
    assert b"deleted" not in last_values(victim)
    # Whoever it serves has to know as well, whatever it was told when.
    assert victim.log.state.purged_index == leader.log.state.purged_index


def test_a_copy_that_a_crash_ends_is_begun_anew() -> None:
    cluster = compacted_cluster(delete_retention_ms=0)
    write(cluster, [(b"stays", b"value"), (b"deleted", b"value"), *rounds(30), (b"deleted", None), *rounds(60)])
    cluster.settle(6.0)
    leader = cluster.leader()
    victim = next(node for node in cluster.nodes.values() if node is not leader)
    assert leader.log.state.purged_index > 20
    with pytest.raises(CorruptLogError):
        victim.log.begin_anew("a test")
    cluster.restart(victim)
    assert victim.log.size_bytes == 0
    # Half a copy: as after a crash, the next process does not know of whom.
    entries = leader.log.read_entries(2, 1)
    assert victim.log.epoch_starts == leader.log.epoch_starts
    _, first = next(split(entries.payload))
    payload = bytes(entries.payload)[: first.batch_bytes]
    victim.log.append_compacted(payload, [header for _, header in split(payload)])
    victim.log.persist()
    assert victim.log.last_index < leader.log.state.purged_index
    cluster.restart(victim)
    with pytest.raises(CorruptLogError, match="tombstones"):
        cluster.settle(5.0)
    cluster.restart(victim)
    cluster.settle(5.0)
    assert victim.log.state.doubt is Doubt.NONE
    assert last_values(victim) == last_values(leader)


def test_a_witness_needs_nothing_of_compaction() -> None:
    cluster = Cluster(3, witnesses=1, cleanup_policy=CleanupPolicy.COMPACT, segment_bytes=1024, delete_retention_ms=0)
    write(cluster, [(b"deleted", b"value"), *rounds(30), (b"deleted", None), *rounds(60)])
    cluster.settle(6.0)
    leader = cluster.leader()
    assert leader.log.state.purged_index > 0
    witness = cluster.nodes[3]
    cluster.settle(2.0)
    assert witness.log.last_index == leader.log.last_index
    assert last_values(cluster.nodes[1]) == last_values(cluster.nodes[2])
