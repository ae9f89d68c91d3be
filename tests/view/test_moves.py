"""Whatever the cluster, what is planned empties a node, keeps factors and leaders, and names no node twice."""

from __future__ import annotations

import msgspec
import pytest

from raftlog.controller.placement import witness_count
from raftlog.errors import (
    BrokerIdNotRegisteredError,
    InvalidConfigError,
    InvalidReplicaAssignmentError,
    InvalidReplicationFactorError,
    UnknownTopicOrPartitionError,
)
from raftlog.types import Half, TopicConfig, TopicPartition
from raftlog.view.layout import Move
from raftlog.view.moves import change_factor, drain, move, replace
from tests.view.layouts import Told, nodes, partition, told, topic_of

SEEDS = range(100)


def three(
    replicas: list[int], witnesses: list[int] | None = None, *, count: int = 3, away: tuple[int, ...] = ()
) -> Told:
    """One topic of one partition."""
    return Told(nodes(count, away), [topic_of("t", bytes(16), [partition(0, replicas, witnesses or [])])], [])


def check(before: Told, moves: list[Move], gone: int = -1) -> None:
    """What holds of any moves but those that change a factor."""
    for each in moves:
        members = each.replicas + each.witnesses
        assert len(set(members)) == len(members) and gone not in members
        assert len(each.replicas) == len(each.old_replicas)
        left = len(before.nodes) - (gone > 0)
        assert len(each.witnesses) <= witness_count(len(each.replicas), left)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_drained_node_holds_nothing_and_what_moves_is_what_it_held(seed: int) -> None:
    before = told(seed)
    gone = seed % len(before.nodes) + 1
    try:
        moves = drain(before.layout(without=[gone]), gone)
    except InvalidReplicationFactorError:
        most = max(len(each.replicas) for topic in before.topics for each in topic.partitions)
        assert len(before.nodes) - 1 < most
        return
    check(before, moves, gone)
    after = before.after(moves)
    assert not after.layout().of_node(gone)
    assert {each.place for each in moves} == set(before.layout().of_node(gone))
    for each in moves:
        assert set(each.old_replicas) - {gone} <= set(each.replicas), "what is elsewhere stays there"
        size = before.layout().held[each.place].size_bytes
        assert each.copied_bytes == (size if gone in each.old_replicas else 0)
    assert drain(after.layout(without=[gone]), gone) == []


@pytest.mark.parametrize("seed", SEEDS)
def test_a_drained_node_is_shared_out_to_the_least_loaded(seed: int) -> None:
    before = told(seed)
    gone = seed % len(before.nodes) + 1
    layout = before.layout(without=[gone])
    if any(len(half.replicas) > len(layout.candidates) - 1 for half in layout.halves.values()):
        return  # where each node has to hold each partition there is nothing to choose
    counts = dict(layout.replicas)
    even = max(counts.get(each, 0) for each in layout.candidates)
    after = before.after(drain(layout, gone)).layout()
    most = max(after.replicas[each] for each in layout.candidates)
    share = -(-sum(after.replicas[each] for each in layout.candidates) // len(layout.candidates))
    assert most <= max(even, share) + 2, "nobody gets much more than a fair share"


@pytest.mark.parametrize("seed", SEEDS)
def test_a_successor_takes_all_that_it_does_not_hold_already(seed: int) -> None:
    before = told(seed)
    old, new = seed % len(before.nodes) + 1, (seed + 1) % len(before.nodes) + 1
    try:
        moves = replace(before.layout(without=[old]), old, new)
    except InvalidReplicationFactorError:
        return
    check(before, moves, old)
    for each in moves:
        if old in each.old_replicas:
            assert new in each.replicas
        if new not in each.old_replicas + each.old_witnesses and old in each.old_replicas:
            assert each.replicas.index(new) == each.old_replicas.index(old)
    assert not before.after(moves).layout().of_node(old)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_factor_is_that_of_every_partition_and_the_leader_stays(seed: int) -> None:
    before = told(seed)
    factor = seed % len(before.nodes) + 1
    moves = change_factor(before.layout(), "t0", factor, TopicConfig())
    assert {each.topic for each in moves} <= {"t0"}
    for each in moves:
        members = each.replicas + each.witnesses
        assert len(each.replicas) == factor and len(set(members)) == len(members)
        assert len(each.witnesses) == witness_count(factor, len(before.nodes))
        assert each.old_replicas[0] in each.replicas  # who leads, here
        assert set(each.replicas) <= set(each.old_replicas) or set(each.old_replicas) <= set(each.replicas)
    after = before.after(moves)
    assert all(len(each.replicas) == factor for each in after.topics[0].partitions)
    assert change_factor(after.layout(), "t0", factor, TopicConfig()) == []


def test_a_leader_that_is_not_the_first_replica_stays_when_there_are_fewer() -> None:
    before = three([1, 2, 3])
    before.topics[0].partitions[0] = msgspec.structs.replace(
        before.topics[0].partitions[0], leader_id=3, in_sync=[2, 3]
    )
    (one,) = change_factor(before.layout(), "t", 1, TopicConfig())
    assert one.replicas == [3]
    (two,) = change_factor(before.layout(), "t", 2, TopicConfig())
    assert (two.replicas, two.witnesses) == ([2, 3], [1])


def test_a_witness_becomes_a_replica_and_the_other_way_round_where_there_is_no_other_node() -> None:
    (up,) = change_factor(three([1, 2], [3]).layout(), "t", 3, TopicConfig())
    assert (up.replicas, up.witnesses) == ([1, 2, 3], [])
    (down,) = change_factor(three([1, 2, 3]).layout(), "t", 2, TopicConfig())
    assert (down.replicas, down.witnesses) == ([1, 2], [3])
    (both,) = drain(three([1, 2], [3]).layout(without=[1]), 1)
    assert (both.replicas, both.witnesses) == ([3, 2], [])


def test_a_node_that_is_nothing_of_the_partition_comes_before_its_witness() -> None:
    (up,) = change_factor(three([1, 2], [3], count=4).layout(), "t", 3, TopicConfig())
    assert (up.replicas, up.witnesses) == ([1, 2, 4], [])


def test_a_factor_that_cannot_be_is_refused_in_words() -> None:
    with pytest.raises(InvalidReplicationFactorError, match="4 needs as many living nodes, of which there are 3"):
        change_factor(three([1, 2, 3]).layout(), "t", 4, TopicConfig())
    with pytest.raises(InvalidConfigError, match="min_insync_replicas 2 is above the replication factor 1"):
        change_factor(three([1, 2, 3]).layout(), "t", 1, TopicConfig(min_insync_replicas=2))


def test_a_drain_that_cannot_be_is_refused_in_words() -> None:
    too_few = "topic t has more replicas than the living nodes that are left without node 2: 2; start another node"
    with pytest.raises(InvalidReplicationFactorError, match=too_few):
        drain(three([1, 2, 3]).layout(without=[2]), 2)
    with pytest.raises(InvalidReplicationFactorError, match="without node 2: 1; start"):
        drain(three([1, 2], [3], away=(3,)).layout(without=[2]), 2)
    with pytest.raises(BrokerIdNotRegisteredError, match="the cluster has no node 4; its nodes are 1, 2, 3"):
        drain(three([1]).layout(without=[4]), 4)


def test_a_drain_tells_where_fewer_nodes_may_fail_afterwards() -> None:
    (moved,) = drain(three([1, 2], [3]).layout(without=[3]), 3)
    assert (moved.replicas, moved.witnesses, moved.survives_less) == ([1, 2], [], True)
    (moved,) = drain(three([1, 2], [3], count=4).layout(without=[3]), 3)
    assert (moved.replicas, moved.witnesses, moved.survives_less) == ([1, 2], [4], False)


def test_a_dead_node_is_drained_and_one_that_is_away_gets_nothing() -> None:
    (moved,) = drain(three([1, 2], [3], count=5, away=(2, 4)).layout(without=[2]), 2)
    assert (moved.replicas, moved.witnesses) == ([1, 5], [3])


def test_a_successor_that_is_not_there_or_not_alive_is_refused() -> None:
    with pytest.raises(BrokerIdNotRegisteredError):
        replace(three([1]).layout(without=[1]), 1, 9)
    with pytest.raises(InvalidReplicaAssignmentError, match="node 2 is not alive: start it first"):
        replace(three([1], away=(2,)).layout(without=[1]), 1, 2)
    with pytest.raises(InvalidReplicaAssignmentError, match="its own place"):
        replace(three([1]).layout(without=[1]), 1, 1)


def test_a_successor_votes_where_the_other_did() -> None:
    (moved,) = replace(three([1, 2], [3], count=5).layout(without=[3]), 3, 5)
    assert (moved.replicas, moved.witnesses) == ([1, 2], [5])


def test_what_is_on_its_way_is_not_moved_again_and_is_told_apart() -> None:
    plans = {TopicPartition("t", 0): Half((3, 4), (1,))}
    layout = three([1, 2], [3], count=5).layout(without=[2], plans=plans)
    assert drain(layout, 2) == []
    (going,) = layout.under_way()
    assert (going.old_replicas, going.replicas, going.witnesses) == ([1, 2], [3, 4], [1])
    (other,) = drain(three([1, 2], [3], count=5).layout(without=[4], plans=plans), 4)
    assert (other.old_replicas, other.replicas) == ([1, 2], [3, 2])


def test_one_partition_moves_to_the_nodes_that_are_named() -> None:
    place = TopicPartition("t", 0)
    (moved,) = move(three([1, 2], [3], count=4).layout(), place, [4, 1])
    assert (moved.replicas, moved.witnesses) == ([4, 1], [3])
    for wanted, text in (
        ([1], "t-0 has 2 replicas, not 1: name as many nodes"),
        ([1, 1], "a node is named twice: 1, 1"),
        ([1, 2, 3], "replication-factor 3"),
    ):
        with pytest.raises(InvalidReplicaAssignmentError, match=text):
            move(three([1, 2], [3]).layout(), place, wanted)
    with pytest.raises(InvalidReplicaAssignmentError, match="node 3 is not alive, so it can copy nothing"):
        move(three([1, 2], away=(3,)).layout(), place, [1, 3])
    with pytest.raises(BrokerIdNotRegisteredError):
        move(three([1, 2]).layout(), place, [1, 9])
    with pytest.raises(UnknownTopicOrPartitionError, match="there is no partition t-1"):
        move(three([1, 2]).layout(), TopicPartition("t", 1), [1, 2])
