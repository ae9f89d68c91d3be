"""Batches of idempotent producers at real replicas: written once, answered when the first one's acks are met."""

from __future__ import annotations

from typing import Any

from raftlog.errors import ErrorCode
from raftlog.record.batch import decode, numbered
from tests.partition.harness import Cluster, Node, batch, produce
from tests.storage.machine import known


def ask(node: Node, correlation_id: int, sequence: int, *values: bytes, epoch: int = 0, **changes: Any) -> None:
    values = values or (b"%d" % sequence,)
    frame = numbered(batch(*values), changes.pop("producer_id", 7), epoch, sequence)
    node.request("c", produce(correlation_id, **changes), [frame])


def answers(node: Node) -> list[tuple[int, int, int]]:
    return [(result.correlation_id, result.error_code, result.base_offset) for result in node.results()]


def values(node: Node) -> list[bytes | None]:
    return [record.value for record in decode(node.replica.read_committed(0, 1 << 20))]


def test_a_repetition_is_answered_with_the_first_ones_offset() -> None:
    cluster = Cluster(3)
    leader = cluster.leader()
    ask(leader, 1, 0, b"a", b"b")
    cluster.settle()
    ask(leader, 2, 2, b"c")
    cluster.settle()
    ask(leader, 3, 0, b"a", b"b")
    ask(leader, 4, 2, b"c", acks=1)
    ask(leader, 5, 2, b"c", acks=0)
    cluster.settle()
    assert answers(leader) == [(1, 0, 0), (2, 0, 2), (4, 0, 2), (3, 0, 0)]
    assert leader.log.log_end_offset == 3


def test_repetitions_and_gaps_within_one_turn_are_found() -> None:
    cluster = Cluster()
    leader = cluster.leader()
    for correlation_id, sequence in enumerate((0, 1, 1, 3, 2, 0), 1):
        ask(leader, correlation_id, sequence)
    ask(leader, 7, 0, epoch=1)
    ask(leader, 8, 3, epoch=0)
    leader.request("c", produce(9), [batch(b"unnumbered")])
    ask(leader, 10, 5, producer_id=8)
    cluster.settle()
    unknown = ErrorCode.UNKNOWN_PRODUCER_ID
    assert sorted(answers(leader)) == [
        (1, 0, 0),
        (2, 0, 1),
        (3, 0, 1),
        (4, ErrorCode.REQUEST_TIMED_OUT, -1),  # a gap when it came, and none when a majority had spoken
        (5, 0, 2),
        (6, 0, 0),
        (7, 0, 3),
        (8, ErrorCode.INVALID_PRODUCER_EPOCH, -1),
        (9, 0, 4),
        (10, unknown, -1),
    ]
    assert leader.log.log_end_offset == 5


def test_a_repetition_waits_until_what_it_repeats_is_acknowledged() -> None:
    cluster = Cluster(3)
    leader = cluster.leader()
    cluster.away = set(cluster.nodes) - {leader.node_id}
    ask(leader, 1, 0, timeout_ms=100)
    cluster.settle(0.3)
    ask(leader, 2, 0, timeout_ms=60_000)
    ask(leader, 3, 0, timeout_ms=100)
    ask(leader, 4, 0, acks=1)
    cluster.settle(0.3)
    late = ErrorCode.REQUEST_TIMED_OUT
    assert answers(leader) == [(1, late, -1), (4, 0, 0), (3, late, -1)]
    cluster.away = set()
    cluster.settle(1.0)
    assert answers(leader)[3:] == [(2, 0, 0)]
    assert values(leader) == [b"0"]


def test_a_deposed_leader_does_not_say_that_a_batch_does_not_follow() -> None:
    """It lacks what the next leader has taken. One of Kafka's clients would end over the word."""
    cluster = Cluster(3)
    old = cluster.leader()
    ask(old, 1, 0)
    cluster.settle()
    cluster.away = set(cluster.nodes) - {old.node_id}
    ask(old, 2, 2, timeout_ms=60_000)  # its predecessor went to another one
    ask(old, 3, 4, producer_id=8, timeout_ms=60_000)
    cluster.settle(0.1)
    assert answers(old)[1:] == []
    cluster.away = set()
    cluster.settle(0.5)
    gap, unknown = ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, ErrorCode.UNKNOWN_PRODUCER_ID
    assert sorted(answers(old)[1:]) == [(2, gap, -1), (3, unknown, -1)], "it leads still, by the word of a majority"
    cluster.away = {old.node_id}
    new = cluster.leader()
    ask(old, 4, 3, timeout_ms=60_000)
    cluster.settle(1.5)
    cluster.away = set()
    cluster.settle(1.0)
    assert new is not old
    assert sorted(answers(old))[3:] == [(4, ErrorCode.NOT_LEADER_OR_FOLLOWER, -1)]


def test_a_gap_that_is_closed_before_a_majority_has_spoken_is_none() -> None:
    """The producer hears of the batch before first: told of a gap after that, it would end."""
    cluster = Cluster(3)
    leader = cluster.leader()
    ask(leader, 1, 0)
    cluster.settle()
    cluster.away = set(cluster.nodes) - {leader.node_id}
    ask(leader, 2, 2, timeout_ms=60_000)
    cluster.settle(0.05)
    ask(leader, 3, 1, timeout_ms=60_000)
    cluster.settle(0.05)
    assert answers(leader)[1:] == []
    cluster.away = set()
    cluster.settle(0.5)
    assert sorted(answers(leader)[1:]) == [(2, ErrorCode.REQUEST_TIMED_OUT, -1), (3, ErrorCode.NONE, 1)]


def test_a_repetition_ends_as_unknown_when_leadership_does_and_is_written_once_at_the_next_leader() -> None:
    cluster = Cluster(3)
    old = cluster.leader()
    ask(old, 1, 0)
    cluster.settle()
    cluster.away = set(cluster.nodes) - {old.node_id}
    ask(old, 2, 1, timeout_ms=60_000)
    cluster.settle(0.1)
    ask(old, 3, 1, timeout_ms=60_000)
    cluster.settle(0.1)
    cluster.away = {old.node_id}
    new = cluster.leader()
    ask(new, 4, 0)
    ask(new, 5, 1)
    ask(new, 6, 2)
    cluster.settle(1.5)
    assert sorted(answers(new)) == [(4, 0, 0), (5, 0, 1), (6, 0, 2)]
    cluster.away = set()
    cluster.settle(1.0)
    assert {code for _, code, _ in answers(old)[1:]} == {ErrorCode.REQUEST_TIMED_OUT}
    assert len(answers(old)) == 3
    for node in cluster.nodes.values():
        assert values(node) == [b"0", b"1", b"2"]
        assert known(node.log.producers) == known(new.log.producers)


def test_a_full_disk_leaves_no_trace_of_the_batches_that_it_refused() -> None:
    cluster = Cluster()
    leader = cluster.leader()
    ask(leader, 1, 0)
    cluster.settle()
    leader.disk.full = True
    for correlation_id, sequence in ((2, 1), (3, 1), (4, 0)):
        ask(leader, correlation_id, sequence)
    cluster.settle()
    full = ErrorCode.KAFKA_STORAGE_ERROR
    assert sorted(answers(leader)) == [(1, 0, 0), (2, full, -1), (3, full, -1), (4, 0, 0)]
    leader.disk.full = False
    cluster.clock.advance(2.0)
    ask(leader, 5, 1)
    cluster.settle()
    assert answers(leader)[-1] == (5, 0, 1)
    assert values(leader) == [b"0", b"1"]


def test_a_crowd_of_new_producers_is_throttled_and_nobody_is_forgotten_for_it() -> None:
    cluster = Cluster()
    leader = cluster.leader()
    for number in range(10_000):
        ask(leader, number, 0, producer_id=number)
    cluster.settle()
    ask(leader, 10_000, 0, producer_id=10_000)
    ask(leader, 10_001, 1, producer_id=0)
    cluster.settle()
    assert sorted(answers(leader))[-2:] == [(10_000, ErrorCode.THROTTLING_QUOTA_EXCEEDED, -1), (10_001, 0, 10_000)]


def test_a_follower_behind_the_horizon_is_given_what_was_known_there() -> None:
    cluster = Cluster(3, segment_bytes=1024, retention_bytes=2048)
    leader = cluster.leader()
    away = next(node for node in cluster.nodes.values() if node is not leader)
    ask(leader, 1, 0, producer_id=3)  # heard of never again
    cluster.settle(0.5)
    cluster.away = {away.node_id}
    for sequence in range(40):
        ask(leader, 2, sequence, bytes(100))
        cluster.settle(0.2)
    assert leader.log.state.horizon_index > away.log.last_index + 1
    cluster.away = set()
    cluster.settle(3.0)
    assert away.log.last_index == leader.log.last_index
    assert known(away.log.producers) == known(leader.log.producers)
    assert 3 in away.log.producers.states and away.log.producers.complete
