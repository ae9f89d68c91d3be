"""Replicas and preferred leaders are spread evenly, within a topic and over all topics."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftlog.controller.image import Image, apply
from raftlog.controller.placement import place, place_witnesses, witness_count
from raftlog.controller.records import NodeRecord, TopicRecord
from raftlog.types import Endpoint, TopicConfig


def image_of(nodes: int) -> Image:
    image = Image()
    for node_id in range(1, nodes + 1):
        record = NodeRecord(node_id=node_id, directory_id=f"d{node_id}", endpoint=Endpoint("127.0.0.1", node_id))
        image = apply(image, image.end_offset, record)
    return image


def with_topic(
    image: Image, replicas: tuple[tuple[int, ...], ...], witnesses: tuple[tuple[int, ...], ...] = ()
) -> Image:
    record = TopicRecord(
        name=f"t{len(image.topics)}", topic_id=bytes(16), replicas=replicas, config=TopicConfig(), witnesses=witnesses
    )
    return apply(image, image.end_offset, record)


def spread(counts: Counter[int], nodes: list[int]) -> int:
    values = [counts[node] for node in nodes]
    return max(values) - min(values)


def leaders(replicas: tuple[tuple[int, ...], ...]) -> Counter[int]:
    return Counter(nodes[0] for nodes in replicas)


def holders(replicas: tuple[tuple[int, ...], ...]) -> Counter[int]:
    return Counter(node for nodes in replicas for node in nodes)


@given(nodes=st.integers(1, 9), factor=st.integers(1, 9), topics=st.lists(st.integers(1, 40), min_size=1, max_size=8))
def test_leaders_and_replicas_are_even_to_one(nodes: int, factor: int, topics: list[int]) -> None:
    factor = min(factor, nodes)
    everyone = list(range(1, nodes + 1))
    image = image_of(nodes)
    all_leaders: Counter[int] = Counter()
    for partitions in topics:
        replicas = place(image, live=everyone, partitions=partitions, replication_factor=factor)
        assert len(replicas) == partitions
        assert all(len(set(nodes)) == len(nodes) == factor for nodes in replicas)
        assert spread(leaders(replicas), everyone) <= 1
        assert spread(holders(replicas), everyone) <= 1
        all_leaders += leaders(replicas)
        assert spread(all_leaders, everyone) <= 1
        image = with_topic(image, replicas)


@given(
    nodes=st.integers(2, 7),
    dead=st.sets(st.integers(1, 7)),
    factor=st.integers(1, 7),
    partitions=st.integers(1, 20),
)
def test_a_silent_node_leads_nothing_and_holds_only_what_others_cannot(
    nodes: int, dead: set[int], factor: int, partitions: int
) -> None:
    factor = min(factor, nodes)
    live = [node for node in range(1, nodes + 1) if node not in dead] or [nodes]
    replicas = place(image_of(nodes), live=live, partitions=partitions, replication_factor=factor)
    assert set(leaders(replicas)) <= set(live)
    assert spread(leaders(replicas), live) <= 1
    assert all(len(set(nodes) & set(live)) == min(factor, len(live)) for nodes in replicas)
    if len(live) >= factor:
        assert set(holders(replicas)) <= set(live)


def test_many_topics_of_one_partition_spread_over_the_nodes() -> None:
    image = image_of(3)
    for _ in range(9):
        image = with_topic(image, place(image, live=[1, 2, 3], partitions=1, replication_factor=1))
    assert holders(tuple(t.replicas[0] for t in image.topics.values())) == {1: 3, 2: 3, 3: 3}


def test_followers_of_one_leader_differ_so_that_its_load_is_shared_when_it_fails() -> None:
    replicas = place(image_of(4), live=[1, 2, 3, 4], partitions=12, replication_factor=2)
    for leader in range(1, 5):
        followers = [nodes[1] for nodes in replicas if nodes[0] == leader]
        assert len(followers) == 3
        assert len(set(followers)) == 3


def test_a_node_that_joined_empty_does_not_get_all_of_a_new_topic() -> None:
    image = image_of(3)
    image = with_topic(image, place(image, live=[1, 2, 3], partitions=30, replication_factor=1))
    joined = NodeRecord(node_id=4, directory_id="d4", endpoint=Endpoint("127.0.0.1", 4))
    image = apply(image, image.end_offset, joined)
    replicas = place(image, live=[1, 2, 3, 4], partitions=8, replication_factor=1)
    assert spread(holders(replicas), [1, 2, 3, 4]) == 0


@pytest.mark.parametrize(
    ("factor", "nodes", "count"),
    [(1, 1, 0), (1, 9, 0), (2, 2, 0), (2, 3, 1), (2, 9, 1), (3, 3, 0), (3, 4, 0), (3, 5, 2), (4, 5, 1), (4, 7, 3)],
)
def test_f_plus_one_replicas_get_f_witnesses_where_there_are_nodes_for_them(
    factor: int, nodes: int, count: int
) -> None:
    assert witness_count(factor, nodes) == count


@given(
    nodes=st.integers(1, 9),
    factor=st.integers(1, 9),
    dead=st.sets(st.integers(1, 9), max_size=3),
    topics=st.lists(st.integers(1, 20), min_size=1, max_size=4),
)
def test_witnesses_are_spread_over_the_nodes_that_hold_no_records(
    nodes: int, factor: int, dead: set[int], topics: list[int]
) -> None:
    live = [node for node in range(1, nodes + 1) if node not in dead] or [nodes]
    factor = min(factor, len(live))
    image = image_of(nodes)
    for partitions in topics:
        replicas = place(image, live=live, partitions=partitions, replication_factor=factor)
        witnesses = place_witnesses(image, live=live, replicas=replicas)
        count = witness_count(factor, len(live))
        assert len(witnesses) == (partitions if count else 0)
        for holders, voters in zip(replicas, witnesses, strict=bool(count)):
            assert len(set(voters)) == len(voters) == count
            assert not set(holders) & set(voters)
            assert (len(holders) + len(voters)) % 2
        if count:
            counted = Counter(node for voters in witnesses for node in voters)
            assert set(counted) <= set(live)
            assert spread(counted, live) <= 2
        image = with_topic(image, replicas, witnesses)


def test_nodes_that_joined_and_are_gone_are_no_witnesses() -> None:
    replicas = place(image_of(5), live=[1, 2, 3], partitions=2, replication_factor=3)
    assert place_witnesses(image_of(5), live=[1, 2, 3], replicas=replicas) == ()
    replicas = place(image_of(5), live=[1, 2, 3], partitions=2, replication_factor=2)
    assert {node for nodes in place_witnesses(image_of(5), live=[1, 2, 3], replicas=replicas) for node in nodes} <= {
        1,
        2,
        3,
    }


def test_the_witnesses_of_many_small_topics_spread_as_well() -> None:
    image = image_of(5)
    everyone = [1, 2, 3, 4, 5]
    for _ in range(40):
        replicas = place(image, live=everyone, partitions=1, replication_factor=2)
        image = with_topic(image, replicas, place_witnesses(image, live=everyone, replicas=replicas))
    counted = Counter(node for topic in image.topics.values() for voters in topic.witnesses for node in voters)
    assert spread(counted, everyone) <= 2
