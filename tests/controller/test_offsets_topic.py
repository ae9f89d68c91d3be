"""`__consumer_offsets`: made at its first use, as large as the cluster allows, and nobody's but raftlog's."""

from __future__ import annotations

import itertools

import pytest

from raftlog.controller.decisions import DecidedRequest, Decision, decide
from raftlog.controller.image import Image, apply
from raftlog.controller.records import NodeRecord, TopicRecord
from raftlog.errors import ErrorCode
from raftlog.protocol.groups import FindCoordinatorRequest, FindCoordinatorResponse
from raftlog.protocol.topics import CreateTopicsRequest, DeleteTopicsRequest, NewTopic, TopicsResponse
from raftlog.types import OFFSETS_TOPIC, CleanupPolicy, Endpoint


def _cluster(nodes: int) -> Image:
    image = Image()
    for node_id in range(1, nodes + 1):
        endpoint = Endpoint("127.0.0.1", 7070 + node_id)
        record = NodeRecord(node_id=node_id, directory_id=f"directory-{node_id}", endpoint=endpoint)
        image = apply(image, image.end_offset, record)
    return image


def _ask(image: Image, request: DecidedRequest) -> tuple[Decision, Image]:
    ids = (bytes([number]) * 16 for number in itertools.count(1))
    decision = decide(image, request, live=set(image.nodes), mint_id=lambda: next(ids))
    for record in decision.records:
        image = apply(image, image.end_offset, record)
    return decision, image


@pytest.mark.parametrize(("nodes", "partitions", "factor"), [(1, 1, 1), (2, 2, 2), (3, 3, 3), (5, 5, 3), (20, 8, 3)])
def test_it_has_as_many_partitions_and_replicas_as_the_cluster_allows(nodes: int, partitions: int, factor: int) -> None:
    decision, image = _ask(_cluster(nodes), FindCoordinatorRequest())
    topic = image.topics[OFFSETS_TOPIC]
    assert decision.response == FindCoordinatorResponse(topic_id=topic.topic_id, partitions=partitions)
    assert {len(replicas) for replicas in topic.replicas} == {factor}
    assert topic.witnesses == ()
    assert (topic.config.cleanup_policy, topic.config.retention_ms) == (CleanupPolicy.COMPACT, -1)
    assert len({replicas[0] for replicas in topic.replicas}) == partitions


@pytest.mark.parametrize(
    ("nodes", "live", "factor"),
    [(3, {1, 3}, 3), (3, {2}, 1), (2, {2}, 1), (5, {1, 2, 3}, 3), (5, {1, 5}, 3), (5, {4}, 1)],
)
def test_a_majority_of_each_of_its_partitions_is_alive_when_it_is_made(nodes: int, live: set[int], factor: int) -> None:
    decision = decide(_cluster(nodes), FindCoordinatorRequest(), live=live, mint_id=lambda: b"i" * 16)
    (record,) = decision.records
    assert isinstance(record, TopicRecord)
    for replicas in record.replicas:
        assert len(replicas) == factor and replicas[0] in live
        assert len(live.intersection(replicas)) >= factor // 2 + 1


def test_it_is_made_once() -> None:
    first, image = _ask(_cluster(3), FindCoordinatorRequest())
    again, _ = _ask(image, FindCoordinatorRequest())
    assert (again.response, again.records) == (first.response, [])


def test_users_neither_create_nor_delete_it() -> None:
    _, image = _ask(_cluster(3), FindCoordinatorRequest())
    create = CreateTopicsRequest(mutation_id=bytes(16), since_offset=0, topics=[NewTopic(name=OFFSETS_TOPIC)])
    delete = DeleteTopicsRequest(
        mutation_id=bytes(16),
        since_offset=0,
        topics=[(OFFSETS_TOPIC, image.topics[OFFSETS_TOPIC].topic_id)],
    )
    for request in (create, delete):
        decision, _ = _ask(image, request)
        assert isinstance(decision.response, TopicsResponse)
        assert decision.response.results[0].error_code == ErrorCode.INVALID_TOPIC_EXCEPTION
        assert decision.records == []
