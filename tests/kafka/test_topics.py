"""CreateTopics, DeleteTopics and CreatePartitions answer as Kafka does, in every version that is listed."""

from __future__ import annotations

from typing import Any

import pytest

from raftlog.errors import ErrorCode
from raftlog.kafka.codes import KafkaCode
from raftlog.protocol import apis
from raftlog.protocol.topics import CreateTopicsRequest, TopicsResponse
from raftlog.types import OFFSETS_TOPIC
from tests.kafka.controller import FakeController
from tests.kafka.door import Door, cluster, topic_id, versions

TEN_S = 10_000


def _new(name: str, partitions: int = 1, factor: int = 3, **configs: str | None) -> dict[str, Any]:
    return {
        "name": name,
        "num_partitions": partitions,
        "replication_factor": factor,
        "configs": [{"name": key.replace("_", "."), "value": value} for key, value in configs.items()],
    }


def _errors(answer: dict[str, Any], topics: str = "topics") -> dict[str, int]:
    return {each["name"]: each["error_code"] for each in answer[topics]}


@pytest.mark.parametrize("version", versions("CreateTopics"))
def test_topics_are_made_and_known_when_the_answer_comes(version: int) -> None:
    door = Door(cluster())
    controller = FakeController(door)
    wanted = [_new("orders", 4, 2, retention_ms="1000"), _new("plain", -1, -1)]
    answer = door.request("CreateTopics", version, topics=wanted, timeout=TEN_S)
    assert _errors(answer) == {"orders": 0, "plain": 0}
    assert len(door.cluster.topics["orders"].partitions) == 4
    assert all(each.leader_id > 0 for each in door.cluster.topics["orders"].partitions)
    assert controller.image.topics["orders"].config.retention_ms == 1000
    if version >= 5:
        orders, plain = answer["topics"]
        assert (orders["num_partitions"], orders["replication_factor"]) == (4, 2)
        assert (plain["num_partitions"], plain["replication_factor"]) == (1, 3)
        configs = {each["name"]: each for each in orders["configs"]}
        assert (configs["retention.ms"]["value"], configs["retention.ms"]["config_source"]) == ("1000", 1)
        assert (configs["cleanup.policy"]["value"], configs["cleanup.policy"]["config_source"]) == ("delete", 5)
        assert configs["compression.type"]["read_only"]
    if version >= 7:
        assert answer["topics"][0]["topic_id"] == controller.image.topics["orders"].topic_id


def test_every_living_node_knows_of_a_change_when_the_answer_comes() -> None:
    """Clients ask any broker next; with acks=0 they do not notice that one knows no leader."""
    door = Door(cluster())
    controller = FakeController(door, others_s=0.4)
    door.request("CreateTopics", 7, topics=[_new("orders", 2)], timeout=TEN_S)
    assert [each.leader_id for each in controller.others.topics["orders"].partitions] == [1, 2]
    door.request("CreatePartitions", 3, topics=[{"name": "orders", "count": 5, "assignments": None}], timeout=TEN_S)
    assert len(controller.others.topics["orders"].partitions) == 5
    change = {"name": "retention.ms", "config_operation": 0, "value": "1234"}
    resource = {"resource_type": 2, "resource_name": "orders", "configs": [change]}
    door.request("IncrementalAlterConfigs", 1, resources=[resource])
    assert controller.others.topics["orders"].config["retention_ms"] == 1234
    door.request("Metadata", 12, topics=[{"name": "asked-for", "topic_id": None}], allow_auto_topic_creation=True)
    assert controller.others.topics["asked-for"].partitions[0].leader_id == 1
    door.request("DeleteTopics", 6, topics=[{"name": "orders", "topic_id": topic_id(0)}], timeout=TEN_S)
    assert "orders" not in controller.others.topics


def test_a_node_that_hears_nothing_is_not_waited_for_long() -> None:
    door = Door(cluster())
    FakeController(door, others_s=60)
    answer = door.request("CreateTopics", 7, topics=[_new("orders", 2)], timeout=TEN_S)
    assert _errors(answer) == {"orders": 0}
    assert door.now_s() < 102


@pytest.mark.parametrize("version", versions("CreateTopics"))
def test_what_cannot_be_made_is_refused_topic_by_topic(version: int) -> None:
    door = Door(cluster())
    FakeController(door).create("there")
    wanted = [
        _new("there"),
        _new("no/topic"),
        _new("crowded", 1, 4),
        _new("none", 0),
        _new("unknown", retention_mss="1"),
        _new("null", retention_ms=None),
        _new("squeezed", compression_type="gzip"),
        _new("same", compression_type="producer", preallocate="False"),
        _new("twice"),
        _new("twice"),
    ]
    answer = door.request("CreateTopics", version, topics=wanted, timeout=TEN_S)
    assert _errors(answer) == {
        "there": ErrorCode.TOPIC_ALREADY_EXISTS,
        "no/topic": ErrorCode.INVALID_TOPIC_EXCEPTION,
        "crowded": ErrorCode.INVALID_REPLICATION_FACTOR,
        "none": ErrorCode.INVALID_PARTITIONS,
        "unknown": ErrorCode.INVALID_CONFIG,
        "null": ErrorCode.INVALID_CONFIG,
        "squeezed": ErrorCode.INVALID_CONFIG,
        "same": 0,
        "twice": ErrorCode.INVALID_REQUEST,
    }
    messages = {each["name"]: each["error_message"] for each in answer["topics"]}
    assert messages["squeezed"] == "topic config compression.type is always producer in raftlog, not 'gzip'"
    assert messages["same"] is None


def test_more_topics_are_made_than_one_native_request_holds() -> None:
    door = Door(cluster())
    controller = FakeController(door)
    answer = door.request("CreateTopics", 7, topics=[_new(f"t{number}") for number in range(230)], timeout=TEN_S)
    assert set(_errors(answer).values()) == {0}
    assert len(controller.image.topics) == 230
    assert sum(isinstance(body, CreateTopicsRequest) for _, body in door.asked) == 3


@pytest.mark.parametrize("version", versions("CreateTopics"))
def test_replicas_are_placed_where_the_client_says(version: int) -> None:
    door = Door(cluster())
    controller = FakeController(door)

    def placed(name: str, assignment: dict[int, list[int]], partitions: int = -1) -> dict[str, Any]:
        assignments = [{"partition_index": each, "broker_ids": nodes} for each, nodes in assignment.items()]
        return {**_new(name, partitions, -1), "assignments": assignments}

    wanted = [
        placed("orders", {1: [2, 3], 0: [1, 2]}),
        placed("hole", {0: [1], 2: [1]}),
        placed("uneven", {0: [1, 2], 1: [1]}),
        placed("nobody", {0: [9]}),
        placed("both", {0: [1]}, partitions=1),
    ]
    assert _errors(door.request("CreateTopics", version, topics=wanted, timeout=TEN_S)) == {
        "orders": 0,
        "hole": ErrorCode.INVALID_REPLICA_ASSIGNMENT,
        "uneven": ErrorCode.INVALID_REPLICA_ASSIGNMENT,
        "nobody": ErrorCode.INVALID_REPLICA_ASSIGNMENT,
        "both": ErrorCode.INVALID_REQUEST,
    }
    assert controller.image.topics["orders"].replicas == ((1, 2), (2, 3))


@pytest.mark.parametrize("version", versions("CreateTopics"))
def test_topics_are_only_judged_when_the_client_wants_no_more(version: int) -> None:
    door = Door(cluster())
    controller = FakeController(door)
    wanted = [_new("orders", 4, 2), _new("crowded", 1, 4)]
    answer = door.request("CreateTopics", version, topics=wanted, timeout=TEN_S, validate_only=True)
    assert _errors(answer) == {"orders": 0, "crowded": ErrorCode.INVALID_REPLICATION_FACTOR}
    assert not controller.image.topics
    if version >= 5:
        assert (answer["topics"][0]["num_partitions"], answer["topics"][0]["replication_factor"]) == (4, 2)
    if version >= 7:
        assert answer["topics"][0]["topic_id"] is None


@pytest.mark.parametrize(
    ("native", "told"),
    [
        (ErrorCode.NOT_CONTROLLER, ErrorCode.NOT_CONTROLLER),
        (ErrorCode.REQUEST_TIMED_OUT, ErrorCode.REQUEST_TIMED_OUT),
        # Whether it was carried out is forgotten: the client has to look.
        (ErrorCode.INVALID_UPDATE_VERSION, ErrorCode.REQUEST_TIMED_OUT),
    ],
)
def test_a_controller_that_cannot_answer_is_told(native: ErrorCode, told: ErrorCode) -> None:
    door = Door(cluster())
    FakeController(door)
    door.workers[apis.CREATE_TOPICS] = lambda *_: TopicsResponse(native, "why")
    assert _errors(door.request("CreateTopics", 7, topics=[_new("orders")], timeout=TEN_S)) == {"orders": told}


# --- DeleteTopics ------------------------------------------------------------------------------
@pytest.mark.parametrize("version", versions("DeleteTopics"))
def test_topics_are_deleted_by_name(version: int) -> None:
    door = Door(cluster())
    controller = FakeController(door)
    controller.create("orders")
    names = ["orders", "none", OFFSETS_TOPIC]
    answer = door.request(
        "DeleteTopics", version, topic_names=names, topics=[{"name": name} for name in names], timeout=TEN_S
    )
    assert _errors(answer, "responses") == {
        "orders": 0,
        "none": ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        OFFSETS_TOPIC: ErrorCode.INVALID_TOPIC_EXCEPTION,
    }
    assert not controller.image.topics
    assert not door.cluster.topics


def test_topics_are_deleted_by_id() -> None:
    door = Door(cluster())
    controller = FakeController(door)
    made = controller.create("orders")
    wanted = [{"name": None, "topic_id": made}, {"name": None, "topic_id": topic_id(9)}]
    deleted, unknown = door.request("DeleteTopics", 6, topics=wanted, timeout=TEN_S)["responses"]
    assert (deleted["name"], deleted["topic_id"], deleted["error_code"]) == ("orders", made, 0)
    assert (unknown["name"], unknown["topic_id"]) == (None, topic_id(9))
    assert unknown["error_code"] == KafkaCode.UNKNOWN_TOPIC_ID


def test_a_topic_made_anew_is_not_deleted_by_the_id_of_the_old_one() -> None:
    door = Door(cluster())
    controller = FakeController(door)
    old = controller.create("orders")
    stale = door.cluster
    door.request("DeleteTopics", 6, topics=[{"name": "orders"}], timeout=TEN_S)
    controller.create("orders")
    door.learn(stale)
    (answer,) = door.request("DeleteTopics", 6, topics=[{"name": None, "topic_id": old}], timeout=TEN_S)["responses"]
    assert answer["error_code"] == KafkaCode.UNKNOWN_TOPIC_ID
    assert "orders" in controller.image.topics


def test_a_topic_named_twice_is_not_deleted() -> None:
    door = Door(cluster())
    controller = FakeController(door)
    made = controller.create("orders")
    for wanted in (
        [{"name": "orders"}, {"name": "orders"}],
        [{"name": "orders", "topic_id": made}],
        [{"name": None}],
    ):
        (answer,) = door.request("DeleteTopics", 6, topics=wanted, timeout=TEN_S)["responses"]
        assert answer["error_code"] == ErrorCode.INVALID_REQUEST
    assert "orders" in controller.image.topics


# --- CreatePartitions --------------------------------------------------------------------------
@pytest.mark.parametrize("version", versions("CreatePartitions"))
def test_partitions_are_added(version: int) -> None:
    door = Door(cluster())
    controller = FakeController(door)
    controller.create("orders", 2)
    controller.create("fewer", 2)
    controller.create("placed")
    placed = [{"broker_ids": [1, 2, 3]}]
    wanted = [
        {"name": "orders", "count": 5, "assignments": None},
        {"name": "fewer", "count": 2, "assignments": None},
        {"name": "none", "count": 2, "assignments": None},
        {"name": "placed", "count": 2, "assignments": placed},
        {"name": "empty", "count": 2, "assignments": []},
        {"name": "twice", "count": 2, "assignments": None},
        {"name": "twice", "count": 2, "assignments": None},
    ]
    answer = door.request("CreatePartitions", version, topics=wanted, timeout=TEN_S)
    assert _errors(answer, "results") == {
        "orders": 0,
        "fewer": ErrorCode.INVALID_PARTITIONS,
        "none": ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        "placed": 0,
        "empty": ErrorCode.INVALID_REPLICA_ASSIGNMENT,
        "twice": ErrorCode.INVALID_REQUEST,
    }
    assert controller.image.topics["placed"].replicas[1] == (1, 2, 3)
    assert len(controller.image.topics["orders"].replicas) == 5
    assert len(door.cluster.topics["orders"].partitions) == 5


def test_partitions_are_only_judged_when_the_client_wants_no_more() -> None:
    door = Door(cluster())
    controller = FakeController(door)
    controller.create("orders")
    wanted = [{"name": name, "count": 3, "assignments": None} for name in ("orders", "none")]
    answer = door.request("CreatePartitions", 3, topics=wanted, timeout=TEN_S, validate_only=True)
    assert _errors(answer, "results") == {"orders": 0, "none": ErrorCode.UNKNOWN_TOPIC_OR_PARTITION}
    assert len(controller.image.topics["orders"].replicas) == 1
