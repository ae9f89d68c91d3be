"""AlterPartitionReassignments and ListPartitionReassignments answer as Kafka does, in every version that is listed."""

from __future__ import annotations

from typing import Any

import pytest

from raftlog.errors import ErrorCode
from raftlog.kafka.calls import Controller, Target
from raftlog.limits import REASSIGNMENTS_PER_REQUEST_MAX
from raftlog.protocol import apis
from raftlog.protocol.reassignments import (
    AlterReassignmentsRequest,
    AlterReassignmentsResponse,
    ListReassignmentsRequest,
    ListReassignmentsResponse,
    OngoingReassignment,
    ReassignmentResult,
)
from raftlog.protocol.topics import TopicIdsRequest, TopicIdsResponse
from tests.kafka.door import Door, cluster, topic, topic_id, versions

TEN_S = 10_000
ALTER, LIST = "AlterPartitionReassignments", "ListPartitionReassignments"


def _door(*refused: ReassignmentResult) -> Door:
    """Two topics of two partitions, on nodes 1, 2, 3. The controller refuses these, and takes all others."""
    door = Door(cluster(topic("orders", 1, (1, 2)), topic("other", 2, (1, 2))))
    ids = {"orders": topic_id(1), "other": topic_id(2)}

    def look_up(_target: Target, body: TopicIdsRequest) -> TopicIdsResponse:
        return TopicIdsResponse(end_offset=7, topic_ids=[ids[name] for name in body.names])

    def alter(target: Target, body: AlterReassignmentsRequest) -> AlterReassignmentsResponse:
        assert isinstance(target, Controller) and body.since_offset == 7
        assert len(body.changes) <= REASSIGNMENTS_PER_REQUEST_MAX
        answers = {(each.topic, each.partition): each for each in refused}
        results = []
        for each in body.changes:
            assert each.topic_id == ids[each.topic] and each.witnesses is None
            fine = ReassignmentResult(topic=each.topic, partition=each.partition)
            results.append(answers.get((each.topic, each.partition), fine))
        return AlterReassignmentsResponse(results=results)

    door.workers[apis.TOPIC_IDS] = look_up
    door.workers[apis.ALTER_REASSIGNMENTS] = alter
    return door


def _named(name: str, *partitions: tuple[int, Any]) -> dict[str, Any]:
    return {"name": name, "partitions": [{"partition_index": index, "replicas": nodes} for index, nodes in partitions]}


def _codes(answer: dict[str, Any]) -> dict[tuple[str, int], int]:
    assert answer["error_code"] == 0
    return {
        (each["name"], found["partition_index"]): found["error_code"]
        for each in answer["responses"]
        for found in each["partitions"]
    }


def _asked(door: Door) -> list[tuple[str, int, tuple[int, ...] | None]]:
    bodies = [body for _, body in door.asked if isinstance(body, AlterReassignmentsRequest)]
    return [(each.topic, each.partition, each.replicas) for body in bodies for each in body.changes]


@pytest.mark.parametrize("version", versions(ALTER))
def test_partitions_get_other_replicas_or_stay_each_for_itself(version: int) -> None:
    text = "orders-1 has no plan: its replicas do not move"
    none = ReassignmentResult(
        topic="orders", partition=1, error_code=ErrorCode.NO_REASSIGNMENT_IN_PROGRESS, error_text=text
    )
    door = _door(none)
    topics = [_named("orders", (0, [2, 1, 3]), (1, None)), _named("other", (7, [1])), _named("none", (0, [1]))]
    answer = door.request(ALTER, version, topics=topics, timeout=TEN_S)
    assert _codes(answer) == {
        ("orders", 0): 0,
        ("orders", 1): 85,
        ("other", 7): ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ("none", 0): ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
    }
    assert answer["responses"][0]["partitions"][1]["error_message"] == text
    assert _asked(door) == [("orders", 0, (2, 1, 3)), ("orders", 1, None)]


@pytest.mark.parametrize("version", versions(ALTER))
def test_another_number_of_replicas_is_refused_where_the_request_says_so(version: int) -> None:
    door = _door()
    topics = [_named("orders", (0, [2, 1]), (1, [2, 1, 4]))]
    fields = {"topics": topics, "timeout": TEN_S, "allow_replication_factor_change": False}
    factor = 0 if version < 1 else ErrorCode.INVALID_REPLICATION_FACTOR
    assert _codes(door.request(ALTER, version, **fields)) == {("orders", 0): factor, ("orders", 1): 0}


def test_a_partition_that_is_named_twice_is_not_moved() -> None:
    door = _door()
    answer = door.request(ALTER, 1, topics=[_named("orders", (0, [1]), (0, [2]))], timeout=TEN_S)
    assert _codes(answer) == {("orders", 0): ErrorCode.INVALID_REQUEST}
    assert not door.asked


def test_more_partitions_than_one_request_takes_are_asked_for_in_several() -> None:
    door = _door()
    many = REASSIGNMENTS_PER_REQUEST_MAX + 1
    door.learn(cluster(topic("orders", 1, (1,) * many)))
    answer = door.request(ALTER, 1, topics=[_named("orders", *((index, [2]) for index in range(many)))], timeout=TEN_S)
    assert set(_codes(answer).values()) == {0}
    assert [index for _, index, _ in _asked(door)] == list(range(many))


def test_a_controller_that_cannot_be_asked_is_told_for_each_partition() -> None:
    door = _door()
    door.workers[apis.ALTER_REASSIGNMENTS] = lambda *_: AlterReassignmentsResponse(ErrorCode.INVALID_UPDATE_VERSION)
    found = _codes(door.request(ALTER, 1, topics=[_named("orders", (0, [1]))], timeout=TEN_S))
    assert found == {("orders", 0): ErrorCode.REQUEST_TIMED_OUT}
    door.workers[apis.TOPIC_IDS] = lambda *_: TopicIdsResponse(ErrorCode.NOT_CONTROLLER, "nobody")
    found = _codes(door.request(ALTER, 1, topics=[_named("orders", (0, [1]))], timeout=TEN_S))
    assert found == {("orders", 0): ErrorCode.NOT_CONTROLLER}


def _moving(partition: int, replicas: tuple[int, ...], target: tuple[int, ...]) -> OngoingReassignment:
    return OngoingReassignment(
        topic="orders",
        topic_id=topic_id(1),
        partition=partition,
        number=9,
        replicas=replicas,
        witnesses=(4,),
        target_replicas=target,
        target_witnesses=(),
    )


def test_what_moves_is_listed_with_what_comes_and_what_goes() -> None:
    door = _door()
    names: list[Any] = []

    def tell(_target: Target, body: ListReassignmentsRequest) -> ListReassignmentsResponse:
        names.append(body.topics)
        return ListReassignmentsResponse(ongoing=[_moving(0, (1, 2), (2, 3)), _moving(1, (1, 2), (1, 2, 3))])

    door.workers[apis.LIST_REASSIGNMENTS] = tell
    answer = door.request(LIST, 0, topics=None, timeout=TEN_S)
    shown = {"partition_index": 0, "replicas": [2, 3, 1], "adding_replicas": [3], "removing_replicas": [1]}
    grows = {"partition_index": 1, "replicas": [1, 2, 3], "adding_replicas": [3], "removing_replicas": []}
    assert (answer["error_code"], answer["topics"]) == (0, [{"name": "orders", "partitions": [shown, grows]}])
    some = [{"name": "orders", "partition_indexes": [1, 5]}, {"name": "other", "partition_indexes": [0]}]
    answer = door.request(LIST, 0, topics=some, timeout=TEN_S)
    assert answer["topics"] == [{"name": "orders", "partitions": [grows]}]
    assert names == [None, ["orders", "other"]]


def test_who_cannot_be_asked_what_moves_is_told() -> None:
    door = _door()
    door.workers[apis.LIST_REASSIGNMENTS] = lambda *_: ListReassignmentsResponse(ErrorCode.NOT_CONTROLLER, "nobody")
    answer = door.request(LIST, 0, topics=None, timeout=TEN_S)
    assert (answer["error_code"], answer["error_message"], answer["topics"]) == (41, "nobody", [])
