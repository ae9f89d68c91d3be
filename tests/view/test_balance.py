"""A balanced cluster stays as it is, and any other one becomes one for few bytes."""

from __future__ import annotations

import itertools

import pytest

from raftlog.types import Half, TopicPartition
from raftlog.view.balance import _LEEWAY, _LEEWAY_BYTES, balance
from raftlog.view.layout import Layout
from tests.view.layouts import Told, nodes, partition, status, told, topic_of
from tests.view.test_moves import check

SEEDS = range(100)
GB = 10**9


def spread(counts: dict[int, int], layout: Layout) -> int:
    values = [counts.get(node_id, 0) for node_id in layout.candidates]
    return max(values) - min(values)


def even_topic(count: int, partitions: int, factor: int) -> Told:
    """On the first `count` - 1 nodes, round robin; the last node has just joined. All of one size."""
    old = count - 1
    made = [partition(index, [(index + each) % old + 1 for each in range(factor)]) for index in range(partitions)]
    return Told(nodes(count), [topic_of("t", bytes(16), made)], [])


@pytest.mark.parametrize("seed", SEEDS)
def test_replicas_are_even_to_one_and_again_means_no_move(seed: int) -> None:
    before = told(seed, voting=False)
    moves = balance(before.layout())
    check(before, moves)
    after = before.after(moves)
    layout = after.layout()
    assert spread(layout.replicas, layout) <= 1
    assert balance(after.layout()) == []


@pytest.mark.parametrize("seed", SEEDS)
def test_no_witness_becomes_a_replica_and_nothing_else_keeps_replicas_uneven(seed: int) -> None:
    before = told(seed)
    moves = balance(before.layout())
    check(before, moves)
    assert not [each for each in moves if set(each.replicas) & set(each.old_witnesses)]
    layout = before.after(moves).layout()
    for source, target in itertools.permutations(layout.candidates, 2):
        if layout.replicas[source] - layout.replicas[target] >= 2:
            held = [each for each in layout.of_node(source) if source in layout.halves[each].replicas]
            left = [each for each in held if target not in layout.halves[each].ids]
            assert all(target in before.layout().held[each].half.witnesses for each in left)


@pytest.mark.parametrize("seed", SEEDS)
def test_bytes_are_even_as_far_as_the_sizes_of_replicas_allow(seed: int) -> None:
    before = told(seed, voting=False)
    layout = before.after(balance(before.layout())).layout()
    sizes = [layout.size_bytes[node_id] for node_id in layout.candidates]
    average = sum(sizes) / len(sizes)
    leeway = max(average * _LEEWAY, _LEEWAY_BYTES)
    largest = max((held.size_bytes for held in layout.held.values()), default=0)
    assert max(sizes) - average <= leeway + largest
    assert average - min(sizes) <= leeway + largest


@pytest.mark.parametrize("seed", SEEDS)
def test_of_replicas_of_one_size_no_more_move_than_are_too_many(seed: int) -> None:
    before = told(seed, size_max=0, voting=False)
    layout = before.layout()
    total = sum(layout.replicas[node_id] for node_id in layout.candidates)
    fair = total // len(layout.candidates)
    most = sorted((layout.replicas[node_id] for node_id in layout.candidates), reverse=True)
    more = total % len(layout.candidates)  # so many nodes hold one more than the others
    too_many = sum(max(0, count - fair - (place < more)) for place, count in enumerate(most))
    moves = balance(layout)
    assert sum(len(set(each.replicas) - set(each.old_replicas)) for each in moves) == too_many


def test_a_node_that_joined_gets_its_share_and_leads_its_share() -> None:
    before = even_topic(4, 12, 3)
    moves = balance(before.layout())
    layout = before.after(moves).layout()
    assert [layout.replicas[node_id] for node_id in (1, 2, 3, 4)] == [9, 9, 9, 9]
    assert len(moves) == 9 and all(4 in each.replicas for each in moves)
    assert spread(layout.leads, layout) <= 1


def test_large_and_small_replicas_go_to_a_new_node_as_they_lie_on_the_others() -> None:
    before = even_topic(4, 24, 1)
    (topic,) = before.topics
    statuses = [status(topic, each, 10 * GB if each.partition < 12 else GB // 100) for each in topic.partitions]
    before = Told(before.nodes, before.topics, statuses)
    moves = balance(before.layout())
    layout = before.after(moves).layout()
    sizes = [layout.size_bytes[node_id] for node_id in layout.candidates]
    assert max(sizes) - min(sizes) < 10 * GB
    assert sum(each.copied_bytes for each in moves) <= 31 * GB  # the new node's share is 30 GB


def test_what_lies_on_a_node_that_is_away_stays_there() -> None:
    made = [partition(index, [4]) for index in range(6)] + [partition(6, [1]), partition(7, [2]), partition(8, [3])]
    before = Told(nodes(4, away=(4,)), [topic_of("t", bytes(16), made)], [])
    assert balance(before.layout()) == []


def test_a_partition_that_was_made_on_two_nodes_gets_its_witness_from_a_third() -> None:
    made = [partition(0, [1, 2]), partition(1, [2, 1])]
    moves = balance(Told(nodes(3), [topic_of("t", bytes(16), made)], []).layout())
    after = Told(nodes(3), [topic_of("t", bytes(16), made)], []).after(moves).layout()
    assert all(len(half.witnesses) == 1 for half in after.halves.values())
    assert spread(after.replicas, after) <= 1


def test_what_is_on_its_way_counts_as_done() -> None:
    made = [partition(index, [1, 2]) for index in range(3)]
    before = Told(nodes(3), [topic_of("t", bytes(16), made)], [])
    plans = {TopicPartition("t", 0): Half((1, 3)), TopicPartition("t", 1): Half((3, 2))}
    moves = balance(before.layout(plans=plans))
    assert all(each.replicas == each.old_replicas for each in moves if each.partition == 2)
    assert not [each for each in moves if each.copied_bytes]


def test_one_node_alone_is_balanced() -> None:
    assert balance(Told(nodes(1), [topic_of("t", bytes(16), [partition(0, [1])])], []).layout()) == []


def test_of_a_large_cluster_a_new_node_gets_its_share() -> None:
    """A thousand partitions of three replicas, and an eleventh node."""
    moves = balance(even_topic(11, 1000, 3).layout())
    assert sum(set(each.replicas) != set(each.old_replicas) for each in moves) == 3000 // 11
