"""FindCoordinator, InitProducerId and DescribeLogDirs answer as Kafka does, in every version that is listed."""

from __future__ import annotations

from typing import Any

import pytest

from raftlog.errors import ErrorCode
from raftlog.kafka.calls import Controller, Node, Target
from raftlog.kafka.codes import KafkaCode
from raftlog.protocol import apis
from raftlog.protocol.cluster import DescribeReplicasRequest, DescribeReplicasResponse
from raftlog.protocol.groups import coordinator_partition
from raftlog.protocol.records import InitProducerIdResponse
from raftlog.types import METADATA_TOPIC, OFFSETS_TOPIC, ReplicaStatus, Role
from tests.kafka.controller import FakeController
from tests.kafka.door import Door, cluster, topic, topic_id, versions

GROUP, TRANSACTION, SHARE = 0, 1, 2


def _found(door: Door, version: int, key: str, key_type: int = GROUP) -> dict[str, Any]:
    answer = door.request("FindCoordinator", version, key=key, coordinator_keys=[key], key_type=key_type)
    if version < 4:
        return answer
    (found,) = answer["coordinators"]
    assert found["key"] == key
    return dict(found)


@pytest.mark.parametrize("version", versions("FindCoordinator"))
def test_a_group_is_coordinated_by_the_leader_of_its_partition(version: int) -> None:
    door = Door(cluster(topic(OFFSETS_TOPIC, 9, (1, 2, -1))))
    seen = set()
    for group in (f"group-{number}" for number in range(20)):
        found = _found(door, version, group)
        leader = (1, 2, -1)[coordinator_partition(group, 3)]
        seen.add(leader)
        if leader < 0:
            assert (found["error_code"], found["node_id"]) == (ErrorCode.COORDINATOR_NOT_AVAILABLE, -1)
        else:
            where = (found["error_code"], found["node_id"], found["host"], found["port"])
            assert where == (0, leader, "127.0.0.1", 9091 + leader)
    assert seen == {1, 2, -1}


@pytest.mark.parametrize("version", versions("FindCoordinator"))
def test_the_first_group_has_the_offsets_topic_made(version: int) -> None:
    door = Door(cluster())
    FakeController(door)
    assert _found(door, version, "first")["error_code"] == 0
    assert OFFSETS_TOPIC in door.cluster.topics


def test_many_groups_are_asked_for_at_once() -> None:
    door = Door(cluster(topic(OFFSETS_TOPIC, 9, (1, 2))))
    keys = [f"group-{number}" for number in range(5)]
    found = door.request("FindCoordinator", 6, coordinator_keys=keys, key_type=GROUP)["coordinators"]
    assert [each["key"] for each in found] == keys
    assert {each["error_code"] for each in found} == {0}


@pytest.mark.parametrize("version", [1, 3, 6])
def test_transactions_and_share_groups_have_no_coordinator(version: int) -> None:
    found = _found(Door(cluster()), version, "mine", TRANSACTION)
    assert found["error_code"] == KafkaCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED
    assert "transactional id" in found["error_message"]
    assert _found(Door(cluster()), version, "mine", SHARE)["error_code"] == ErrorCode.INVALID_REQUEST


def test_no_coordinator_is_there_while_there_is_no_controller() -> None:
    door = Door(cluster())
    door.workers[apis.FIND_COORDINATOR] = lambda *_: apis.FIND_COORDINATOR.refusal(ErrorCode.REQUEST_TIMED_OUT)
    assert _found(door, 6, "first")["error_code"] == ErrorCode.COORDINATOR_NOT_AVAILABLE


# --- InitProducerId ----------------------------------------------------------------------------
@pytest.mark.parametrize("version", versions("InitProducerId"))
def test_an_idempotent_producer_gets_an_id(version: int) -> None:
    door = Door(cluster())

    def controller(target: Target, _body: Any) -> InitProducerIdResponse:
        assert isinstance(target, Controller)
        return InitProducerIdResponse(producer_id=4000, producer_epoch=0)

    door.workers[apis.INIT_PRODUCER_ID] = controller
    for producer in ({}, {"producer_id": 3999, "producer_epoch": 7}):
        answer = door.request("InitProducerId", version, transactional_id=None, **producer)
        assert (answer["error_code"], answer["producer_id"], answer["producer_epoch"]) == (0, 4000, 0)


@pytest.mark.parametrize("version", versions("InitProducerId"))
def test_a_producer_with_transactions_is_refused(version: int) -> None:
    door = Door(cluster())
    answer = door.request("InitProducerId", version, transactional_id="mine", transaction_timeout=1000)
    assert answer["error_code"] == KafkaCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED
    assert (answer["producer_id"], answer["producer_epoch"]) == (-1, -1)
    assert door.request("InitProducerId", version, transactional_id="")["error_code"] == ErrorCode.INVALID_REQUEST


def test_an_old_producer_id_comes_with_its_epoch() -> None:
    answer = Door(cluster()).request("InitProducerId", 5, transactional_id=None, producer_id=3, producer_epoch=-1)
    assert answer["error_code"] == ErrorCode.INVALID_REQUEST


def test_a_producer_asks_again_while_there_is_no_controller() -> None:
    door = Door(cluster())
    door.workers[apis.INIT_PRODUCER_ID] = lambda *_: InitProducerIdResponse(ErrorCode.REQUEST_TIMED_OUT, "nobody")
    answer = door.request("InitProducerId", 5, transactional_id=None)
    assert (answer["error_code"], answer["producer_id"]) == (ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, -1)


# --- DescribeLogDirs ---------------------------------------------------------------------------
def _status(name: str, partition: int, node_id: int = 1, role: Role = Role.FOLLOWER) -> ReplicaStatus:
    return ReplicaStatus(
        topic=name,
        topic_id=topic_id(1),
        partition=partition,
        node_id=node_id,
        role=role,
        size_bytes=100 + partition,
        high_watermark=50,
        log_end_offset=50 - partition,
    )


def _replicas(target: Target, body: DescribeReplicasRequest) -> DescribeReplicasResponse:
    assert isinstance(target, Node)
    statuses = [
        _status(METADATA_TOPIC, 0),
        _status("orders", 0, role=Role.LEADER),
        _status("orders", 0, node_id=2),
        _status("orders", 1),
        _status("orders", 2, role=Role.WITNESS),
        _status("other", 0),
    ]
    return DescribeReplicasResponse(
        replicas=[each for each in statuses if body.topics is None or each.topic in body.topics]
    )


@pytest.mark.parametrize("version", versions("DescribeLogDirs"))
def test_the_nodes_replicas_are_told_with_their_sizes(version: int) -> None:
    door = Door(cluster(topic("orders", 1, (1, 1, 1)), topic("other", 2)))
    door.workers[apis.DESCRIBE_REPLICAS] = _replicas
    answer = door.request("DescribeLogDirs", version, topics=None)
    assert answer.get("error_code", 0) == 0
    (result,) = answer["results"]
    assert (result["log_dir"], result["error_code"]) == ("/var/lib/raftlog", 0)
    orders, other = result["topics"]
    assert (orders["name"], other["name"]) == ("orders", "other")
    assert orders["partitions"] == [
        {"partition_index": 0, "partition_size": 100, "offset_lag": 0, "is_future_key": False},
        {"partition_index": 1, "partition_size": 101, "offset_lag": 1, "is_future_key": False},
    ]
    if version >= 4:
        assert (result["total_bytes"], result["usable_bytes"]) == (1000, 400)


def test_only_the_replicas_that_are_named_are_told() -> None:
    door = Door(cluster(topic("orders", 1, (1, 1, 1)), topic("other", 2)))
    door.workers[apis.DESCRIBE_REPLICAS] = _replicas
    wanted = [{"topic": "orders", "partitions": [1]}, {"topic": "none", "partitions": [0]}]
    (result,) = door.request("DescribeLogDirs", 5, topics=wanted)["results"]
    (orders,) = result["topics"]
    assert [each["partition_index"] for each in orders["partitions"]] == [1]
