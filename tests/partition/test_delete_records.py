"""DeleteRecords: the log starts exactly there, on every in-sync replica, BEFORE anyone is told."""

from __future__ import annotations

import pytest

from raftlog.errors import ErrorCode
from raftlog.protocol.records import HIGH_WATERMARK
from raftlog.record.batch import decode
from raftlog.types import METADATA_TOPIC, OFFSETS_TOPIC, CleanupPolicy, ReplicaSpec, TopicConfig
from tests.partition.harness import TOPIC_ID, Cluster, Node, batch, fetch, produce
from tests.partition.head_deletion import answers, ask


def filled(cluster: Cluster, batches: int = 5, records: int = 4) -> Node:
    leader = cluster.leader()
    for number in range(batches):
        leader.request("p", produce(number), [batch(*[b"x" * 300] * records)])
        cluster.settle()
    cluster.settle(0.5)
    assert leader.replica.high_watermark == batches * records
    return leader


def starts(cluster: Cluster) -> list[int]:
    return [cluster.nodes[node_id].log.state.log_start_offset for node_id in cluster.spec.replicas]


@pytest.mark.parametrize(("nodes", "witnesses"), [(1, 0), (3, 0), (3, 1)])
@pytest.mark.parametrize("offset", [1, 8, 10, 20])
def test_the_log_starts_exactly_there_on_every_replica_when_it_is_answered(
    nodes: int, witnesses: int, offset: int
) -> None:
    cluster = Cluster(nodes, witnesses=witnesses, segment_bytes=2048)
    leader = filled(cluster)
    ask(leader, offset)
    cluster.settle()
    assert answers(leader) == [(ErrorCode.NONE, offset)]
    assert starts(cluster) == [offset] * len(cluster.spec.replicas)
    for node in cluster.nodes.values():
        node.disk.crash(None)
        node.start()
    assert starts(cluster) == [offset] * len(cluster.spec.replicas), "what was answered is durable"


def test_records_from_the_new_start_on_are_read_and_those_below_are_out_of_range() -> None:
    cluster = Cluster()
    leader = filled(cluster)
    ask(leader, 10)
    cluster.settle()
    for offset in (10, 9):
        leader.request("c", fetch(offset), [])
        cluster.settle()
    (read, payload), (refused, _) = [(r, p) for client, r, p in leader.answers if client == "c"]
    assert read.error_code == ErrorCode.NONE
    assert read.log_start_offset == 10
    assert [record.offset for record in decode(payload) if record.offset >= 10] == list(range(10, 20))
    assert refused.error_code == ErrorCode.OFFSET_OUT_OF_RANGE


def test_minus_one_deletes_all_that_can_be_read_and_the_offsets_go_on() -> None:
    cluster = Cluster(3)
    leader = filled(cluster)
    ask(leader, HIGH_WATERMARK)
    cluster.settle()
    assert answers(leader) == [(ErrorCode.NONE, 20)]
    leader.request("p", produce(99), [batch(b"next")])
    cluster.settle(0.5)
    assert leader.results()[-1].base_offset == 20
    assert starts(cluster) == [20] * 3


def test_what_is_gone_already_is_answered_with_where_the_log_starts() -> None:
    cluster = Cluster()
    leader = filled(cluster)
    ask(leader, 10)
    ask(leader, 3)
    cluster.settle()
    assert answers(leader) == [(ErrorCode.NONE, 10)] * 2


def test_a_replica_that_is_away_is_waited_for_until_it_leaves_the_isr_and_catches_up_later() -> None:
    cluster = Cluster(3)
    leader = filled(cluster)
    (away, *_) = (node_id for node_id in cluster.nodes if node_id != leader.node_id)
    cluster.away.add(away)
    ask(leader, 10)
    cluster.settle(0.1)
    assert answers(leader) == []
    assert leader.log.state.log_start_offset == 10, "the own disk has it first"
    cluster.settle(1.0)
    assert answers(leader) == [(ErrorCode.NONE, 10)]
    assert cluster.nodes[away].log.state.log_start_offset == 0
    cluster.away.clear()
    cluster.settle(2.0)
    assert starts(cluster) == [10] * 3


def test_without_a_majority_nothing_is_deleted() -> None:
    cluster = Cluster(3)
    leader = filled(cluster)
    cluster.away |= cluster.nodes.keys() - {leader.node_id}
    ask(leader, 10, timeout_ms=700)
    cluster.settle(2.0)
    assert answers(leader) == [(ErrorCode.NOT_LEADER_OR_FOLLOWER, -1)]
    assert starts(cluster) == [0] * 3


def test_what_an_in_sync_replica_does_not_have_in_time_has_an_open_outcome() -> None:
    cluster = Cluster(3)
    leader = filled(cluster)
    cluster.away = {next(node_id for node_id in cluster.nodes if node_id != leader.node_id)}
    ask(leader, 10, timeout_ms=100)
    cluster.settle(0.3)
    assert answers(leader) == [(ErrorCode.REQUEST_TIMED_OUT, -1)]


def test_a_leader_that_is_deposed_answers_those_that_wait() -> None:
    cluster = Cluster(3)
    leader = filled(cluster)
    cluster.away.add(leader.node_id)
    leader.replica.turn()
    ask(leader, 10)
    cluster.settle(4.0)
    cluster.away.clear()
    cluster.settle(3.0)
    assert answers(leader) == [(ErrorCode.NOT_LEADER_OR_FOLLOWER, -1)]


def test_segments_below_the_start_go_on_every_replica_once_they_are_closed() -> None:
    cluster = Cluster(3, segment_bytes=3000, retention_ms=-1)
    leader = filled(cluster, batches=2)
    ask(leader, HIGH_WATERMARK)
    cluster.settle(0.5)
    assert {node.log.segment_count for node in cluster.nodes.values()} == {1}, "the active one stays"
    for number in range(6):
        leader.request("p", produce(50 + number), [batch(*[b"y" * 300] * 4)])
        cluster.settle(0.1)
    cluster.settle(3.0)
    for node in cluster.nodes.values():
        node.replica.turn()
        assert node.log.segments.in_order[0].base_offset >= 8
        assert node.log.state.log_start_offset == 8
        assert node.log.state.horizon_index > 3


@pytest.mark.parametrize("offset", [21, -2, 1 << 60])
def test_what_is_not_committed_cannot_be_deleted(offset: int) -> None:
    cluster = Cluster(3)
    leader = filled(cluster)
    ask(leader, offset)
    cluster.settle()
    assert answers(leader) == [(ErrorCode.OFFSET_OUT_OF_RANGE, -1)]
    assert starts(cluster) == [0] * 3


@pytest.mark.parametrize(
    ("topic", "policy", "code"),
    [
        (METADATA_TOPIC, CleanupPolicy.DELETE, ErrorCode.INVALID_TOPIC_EXCEPTION),
        (OFFSETS_TOPIC, CleanupPolicy.COMPACT, ErrorCode.INVALID_TOPIC_EXCEPTION),
        ("orders", CleanupPolicy.COMPACT, ErrorCode.POLICY_VIOLATION),
        ("orders", CleanupPolicy.COMPACT | CleanupPolicy.DELETE, ErrorCode.NONE),
    ],
)
def test_what_is_only_compacted_or_raftlog_s_own_keeps_its_records(
    topic: str, policy: CleanupPolicy, code: ErrorCode
) -> None:
    cluster = Cluster()
    leader = filled(cluster)
    config = TopicConfig(cleanup_policy=policy)
    leader.replica.set_config(ReplicaSpec(topic=topic, topic_id=TOPIC_ID, partition=0, replicas=(1,), config=config))
    ask(leader, 10)
    cluster.settle()
    assert [each for each, _ in answers(leader)] == [code]
    assert leader.log.state.log_start_offset == (10 if code is ErrorCode.NONE else 0)


def test_only_the_leader_of_the_partition_deletes() -> None:
    cluster = Cluster(3, witnesses=1)
    leader = filled(cluster)
    for node in cluster.nodes.values():
        ask(node, 10, topic_id=b"another-topic-id")
        ask(node, 10, partition=1)
        if node is not leader:
            ask(node, 10)
        cluster.settle()
        codes = [ErrorCode.INCONSISTENT_TOPIC_ID, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION]
        codes += [] if node is leader else [ErrorCode.NOT_LEADER_OR_FOLLOWER]
        assert [each for each, _ in answers(node)] == codes
    assert starts(cluster) == [0, 0]


def test_a_full_disk_is_tried_again() -> None:
    cluster = Cluster()
    leader = filled(cluster)
    leader.disk.full = True
    ask(leader, 10)
    cluster.settle(0.3)
    assert answers(leader) == []
    leader.disk.full = False
    cluster.settle(0.3)
    assert answers(leader) == [(ErrorCode.NONE, 10)]


@pytest.mark.parametrize("witnesses", [0, 1])
def test_what_was_answered_stays_deleted_under_a_leader_that_was_away(witnesses: int) -> None:
    cluster = Cluster(3, witnesses=witnesses)
    leader = filled(cluster)
    cluster.settle(3)
    others = [cluster.nodes[node_id] for node_id in cluster.spec.replicas if node_id != leader.node_id]
    away = others[0]
    if not witnesses:  # it holds the last batch, but has not heard that it is committed
        leader.request("p", produce(50), [batch(b"last")])
        leader.replica.turn()
        for _, target, message, payload in list(cluster.queue):
            if target == away.node_id:
                away.replica.on_raft(message, payload)
        away.replica.turn()
        cluster.queue = [sent for sent in cluster.queue if away.node_id not in sent[:2]]
    cluster.away = {away.node_id}
    cluster.settle(3)
    end = leader.replica.high_watermark
    ask(leader, HIGH_WATERMARK)
    cluster.settle(1.0)
    assert answers(leader) == [(ErrorCode.NONE, end)]
    cluster.away = {leader.node_id}
    for node in cluster.nodes.values():
        if node is not leader:
            node.replica.set_peer(leader.node_id, 0)
    for _ in range(400):
        cluster.settle(0.02)
        if away.replica.is_leader or any(node.replica.is_leader for node in others):
            new = next(node for node in others if node.replica.is_leader)
            if new.replica.leader_ready:
                assert new.log.state.log_start_offset == end
                break
    else:
        pytest.fail("nobody was elected")
