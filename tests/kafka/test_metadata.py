"""Metadata, DescribeTopicPartitions and DescribeCluster answer as Kafka does, in every version that is listed."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from raftlog.errors import ErrorCode
from raftlog.kafka.calls import DoorSettings
from raftlog.kafka.cluster import NOTHING
from raftlog.kafka.codes import KafkaCode
from raftlog.limits import KAFKA_CREATE_S
from raftlog.protocol import apis
from raftlog.protocol.topics import TopicIdsResponse, TopicsResponse
from raftlog.types import OFFSETS_TOPIC
from tests.kafka.controller import FakeController, known
from tests.kafka.door import Door, cluster, topic, topic_id, versions

ORDERS = topic("orders", 1, (1, 2, -1))
OFFSETS = topic(OFFSETS_TOPIC, 2)
BROKERS = [{"node_id": 1, "host": "127.0.0.1", "port": 9092}, {"node_id": 2, "host": "127.0.0.1", "port": 9093}]


@pytest.mark.parametrize("version", versions("Metadata"))
def test_metadata_names_brokers_leaders_and_replicas(version: int) -> None:
    door = Door(cluster(ORDERS))
    answer = door.request("Metadata", version, topics=[{"name": "orders"}])
    assert [{key: each[key] for key in BROKERS[0]} for each in answer["brokers"]] == BROKERS
    if version >= 1:
        assert answer["controller_id"] == 2
    if version >= 2:
        assert answer["cluster_id"] == "one"
    (found,) = answer["topics"]
    assert (found["error_code"], found["name"]) == (0, "orders")
    assert found.get("topic_id", topic_id(1)) == topic_id(1)
    led, elsewhere, unled = found["partitions"]
    assert (led["leader_id"], led["error_code"], led["replica_nodes"]) == (1, 0, [1, 2, 3])
    assert (led["isr_nodes"], led.get("offline_replicas", [3]), led.get("leader_epoch", 5)) == ([1, 2], [3], 5)
    assert (elsewhere["leader_id"], elsewhere["partition_index"]) == (2, 1)
    assert (unled["leader_id"], unled["error_code"]) == (-1, ErrorCode.LEADER_NOT_AVAILABLE)
    assert unled.get("leader_epoch", -1) == -1


def test_replicas_that_come_are_told_with_those_that_are_there_as_kafka_does() -> None:
    told = topic("orders", 1, (1,))
    told.partitions[0] = msgspec.structs.replace(told.partitions[0], replicas=[1, 2], adding=[3])
    door = Door(cluster(told))
    (found,) = door.request("Metadata", 13, topics=None)["topics"]
    assert (found["partitions"][0]["replica_nodes"], found["partitions"][0]["offline_replicas"]) == ([1, 2, 3], [3])
    (found,) = door.request("DescribeTopicPartitions", 0, topics=[], response_partition_limit=9)["topics"]
    assert found["partitions"][0]["replica_nodes"] == [1, 2, 3]


@pytest.mark.parametrize("version", versions("Metadata"))
def test_no_list_means_all_topics_and_an_empty_one_none(version: int) -> None:
    door = Door(cluster(ORDERS, OFFSETS))
    everything = door.request("Metadata", version, topics=None if version else [])["topics"]
    assert [each["name"] for each in everything] == [OFFSETS_TOPIC, "orders"]
    if version:
        assert [each["is_internal"] for each in everything] == [True, False]
        assert door.request("Metadata", version, topics=[])["topics"] == []


def test_bytes_behind_a_request_are_ignored() -> None:
    """librdkafka 2.16 sends these three."""
    answer = Door(cluster(ORDERS)).request("Metadata", 13, topics=None, trailing=b"\1\0\0")
    assert [each["name"] for each in answer["topics"]] == ["orders"]


@pytest.mark.parametrize("version", [version for version in versions("Metadata") if version >= 4])
def test_a_topic_that_is_not_there_is_not_made_unless_the_client_allows_it(version: int) -> None:
    door = Door(cluster())
    wanted = [{"name": "orders"}, {"name": "no/topic"}, {"name": "orders"}, {"name": ""}]
    answer = door.request("Metadata", version, topics=wanted, allow_auto_topic_creation=False)
    codes = {each["name"]: each["error_code"] for each in answer["topics"]}
    unknown, illegal = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, ErrorCode.INVALID_TOPIC_EXCEPTION
    assert codes == {"orders": unknown, "no/topic": illegal, "": illegal}
    assert len(answer["topics"]) == 3
    assert not door.asked


@pytest.mark.parametrize("version", versions("Metadata"))
def test_a_topic_that_is_asked_for_is_made_and_the_first_answer_serves(version: int) -> None:
    door = Door(cluster())
    controller = FakeController(door)
    answer = door.request("Metadata", version, topics=[{"name": "orders"}, {"name": "no/topic"}])
    made, illegal = answer["topics"]
    assert (made["name"], made["error_code"]) == ("orders", 0)
    (partition,) = made["partitions"]
    assert partition["error_code"] == 0
    assert partition["leader_id"] in (1, 2)
    assert illegal["error_code"] == ErrorCode.INVALID_TOPIC_EXCEPTION
    assert list(controller.image.topics) == ["orders"]


def test_a_topic_that_another_client_made_first_is_served() -> None:
    door = Door(cluster())
    controller = FakeController(door)
    controller.create("orders")
    latest = door.cluster
    door.learn(cluster())
    door.later(0.1, lambda: door.learn(latest))
    (found,) = door.request("Metadata", 13, topics=[{"name": "orders"}])["topics"]
    assert (found["error_code"], len(found["partitions"])) == (0, 1)


def test_a_topic_whose_election_takes_long_is_waited_for() -> None:
    door = Door(cluster())
    FakeController(door, led_s=4)
    (found,) = door.request("Metadata", 13, topics=[{"name": "orders"}])["topics"]
    assert [each["error_code"] for each in found["partitions"]] == [0]


def test_a_topic_that_is_made_and_not_led_in_time_is_asked_for_again() -> None:
    door = Door(cluster())
    FakeController(door, news_s=60)
    (found,) = door.request("Metadata", 13, topics=[{"name": "orders"}])["topics"]
    assert found["error_code"] == ErrorCode.LEADER_NOT_AVAILABLE


@pytest.mark.parametrize("wanted", [None, [{"name": "orders", "topic_id": None}]], ids=["all", "by name"])
def test_a_partition_that_was_just_made_has_a_leader_when_it_is_told_of(wanted: list[dict[str, Any]] | None) -> None:
    """As in Kafka. kafka-go keeps for seconds that there is none."""
    door = Door(cluster(topic("old", 2, (-1,))))
    door.learn(cluster(topic("old", 2, (-1,)), topic("orders", 1, (-1, -1))))
    door.later(0.2, lambda: door.learn(cluster(topic("old", 2, (-1,)), topic("orders", 1, (1, -1)))))
    door.later(0.4, lambda: door.learn(cluster(topic("old", 2, (-1,)), topic("orders", 1, (1, 2)))))
    answer = door.request("Metadata", 12, topics=wanted, allow_auto_topic_creation=False)
    found = {each["name"]: [part["leader_id"] for part in each["partitions"]] for each in answer["topics"]}
    assert found["orders"] == [1, 2]
    assert found.get("old", [-1]) == [-1]
    assert door.now_s() < 101

    # Others that were made meanwhile are waited for as well; one that loses its leader later is not.
    door.learn(cluster(topic("orders", 1, (1, 2, -1))))
    door.later(0.2, lambda: door.learn(cluster(topic("orders", 1, (1, 2, 1)))))
    (grown,) = door.request("DescribeTopicPartitions", 0, topics=[{"name": "orders"}])["topics"]
    assert [each["leader_id"] for each in grown["partitions"]] == [1, 2, 1]
    door.learn(cluster(topic("orders", 1, (1, -1, 1))))
    before_s = door.now_s()
    (lost,) = door.request("Metadata", 12, topics=[{"name": "orders", "topic_id": None}])["topics"]
    assert [each["leader_id"] for each in lost["partitions"]] == [1, -1, 1]
    assert door.now_s() == before_s


def test_a_partition_that_nobody_can_lead_is_waited_for_once() -> None:
    door = Door(cluster())
    door.learn(cluster(topic("orders", 1, (-1,))))
    for waited_s in (KAFKA_CREATE_S, 0):
        before_s = door.now_s()
        (found,) = door.request("Metadata", 12, topics=[{"name": "orders", "topic_id": None}])["topics"]
        assert found["partitions"][0]["error_code"] == ErrorCode.LEADER_NOT_AVAILABLE
        assert door.now_s() == pytest.approx(before_s + waited_s)
        door.learn(cluster(topic("orders", 1, (-1,))))


def test_what_the_controller_refuses_is_told() -> None:
    door = Door(cluster())
    door.workers[apis.TOPIC_IDS] = lambda *_: TopicIdsResponse(topic_ids=[b""])
    door.workers[apis.CREATE_TOPICS] = lambda *_: TopicsResponse(ErrorCode.KAFKA_STORAGE_ERROR, "full")
    (found,) = door.request("Metadata", 13, topics=[{"name": "orders"}])["topics"]
    assert found["error_code"] == ErrorCode.KAFKA_STORAGE_ERROR
    door.workers[apis.TOPIC_IDS] = lambda *_: TopicIdsResponse(ErrorCode.REQUEST_TIMED_OUT, "nobody")
    (found,) = door.request("Metadata", 13, topics=[{"name": "orders"}])["topics"]
    assert found["error_code"] == ErrorCode.LEADER_NOT_AVAILABLE


def test_the_operator_may_forbid_that_topics_are_made() -> None:
    door = Door(cluster())
    door.settings = DoorSettings(1, auto_create_topics=False)
    (found,) = door.request("Metadata", 13, topics=[{"name": "orders"}])["topics"]
    assert found["error_code"] == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


@pytest.mark.parametrize("version", [12, 13])
def test_topics_are_found_by_their_ids(version: int) -> None:
    door = Door(cluster(ORDERS))
    wanted = [{"name": None, "topic_id": topic_id(1)}, {"name": None, "topic_id": topic_id(9)}]
    found, unknown = door.request("Metadata", version, topics=wanted)["topics"]
    assert (found["name"], found["error_code"], len(found["partitions"])) == ("orders", 0, 3)
    assert (unknown["name"], unknown["error_code"]) == (None, KafkaCode.UNKNOWN_TOPIC_ID)
    assert unknown["topic_id"] == topic_id(9)


@pytest.mark.parametrize("version", [10, 11])
def test_ids_are_refused_in_the_versions_that_only_have_the_field(version: int) -> None:
    for name in (None, "orders"):
        wanted = [{"name": name, "topic_id": topic_id(1)}]
        (found,) = Door(cluster(ORDERS)).request("Metadata", version, topics=wanted)["topics"]
        assert (found["name"], found["error_code"]) == (name or "", ErrorCode.INVALID_REQUEST)


def test_a_leader_without_a_door_for_kafka_is_not_named() -> None:
    told = cluster(topic("orders", 1, (2,)))
    told.brokers = told.brokers[:1]
    door = Door(told)
    for version, code in ((5, ErrorCode.LEADER_NOT_AVAILABLE), (6, KafkaCode.LISTENER_NOT_FOUND)):
        answer = door.request("Metadata", version, topics=[{"name": "orders"}])
        assert answer["controller_id"] == 1
        assert answer["topics"][0]["partitions"][0]["leader_id"] == -1
        assert answer["topics"][0]["partitions"][0]["error_code"] == code


def test_operations_are_told_to_those_who_ask() -> None:
    door = Door(cluster(ORDERS))
    answer = door.request(
        "Metadata",
        8,
        topics=[{"name": "orders"}],
        include_cluster_authorized_operations=True,
        include_topic_authorized_operations=True,
    )
    assert (answer["cluster_authorized_operations"], answer["topics"][0]["topic_authorized_operations"]) == (8096, 3576)
    answer = door.request("Metadata", 8, topics=[{"name": "orders"}])
    assert answer["topics"][0]["topic_authorized_operations"] == -(2**31)


def test_a_door_that_knows_nothing_yet_waits_for_its_first_news() -> None:
    door = Door(NOTHING)
    door.later(0.2, lambda: door.learn(cluster(ORDERS)))
    assert [each["name"] for each in door.request("Metadata", 13, topics=None)["topics"]] == ["orders"]


# --- DescribeTopicPartitions -------------------------------------------------------------------
def test_partitions_come_a_bounded_number_at_a_time() -> None:
    door = Door(cluster(topic("a", 1, (1,) * 3), topic("b", 2, (1,) * 4), topic("c", 3)))
    seen: list[tuple[str, int]] = []
    cursor = None
    answers = 0
    while answers == 0 or cursor is not None:
        answer = door.request("DescribeTopicPartitions", 0, topics=[], response_partition_limit=3, cursor=cursor)
        seen += [(each["name"], found["partition_index"]) for each in answer["topics"] for found in each["partitions"]]
        cursor = answer["next_cursor"]
        answers += 1
    assert seen == [("a", 0), ("a", 1), ("a", 2), ("b", 0), ("b", 1), ("b", 2), ("b", 3), ("c", 0)]
    assert answers == 3


def test_topic_partitions_are_described_with_their_errors() -> None:
    door = Door(cluster(ORDERS))
    wanted = [{"name": "orders"}, {"name": "none"}, {"name": "no/topic"}]
    illegal, none, orders = door.request("DescribeTopicPartitions", 0, topics=wanted)["topics"]
    assert illegal["error_code"] == ErrorCode.INVALID_TOPIC_EXCEPTION
    assert none["error_code"] == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert orders["topic_id"] == topic_id(1)
    assert [each["leader_id"] for each in orders["partitions"]] == [1, 2, -1]
    assert orders["partitions"][0]["eligible_leader_replicas"] == []


@pytest.mark.parametrize(
    "cursor", [{"topic_name": "a", "partition_index": 0}, {"topic_name": "b", "partition_index": -1}]
)
def test_a_cursor_that_makes_no_sense_is_refused(cursor: dict[str, object]) -> None:
    answer = Door(cluster(topic("b"))).request("DescribeTopicPartitions", 0, topics=[{"name": "b"}], cursor=cursor)
    assert [each["error_code"] for each in answer["topics"]] == [ErrorCode.INVALID_REQUEST]


# --- DescribeCluster ---------------------------------------------------------------------------
@pytest.mark.parametrize("version", versions("DescribeCluster"))
def test_a_cluster_is_described(version: int) -> None:
    answer = Door(cluster()).request("DescribeCluster", version, endpoint_type=1, include_fenced_brokers=True)
    assert (answer["cluster_id"], answer["controller_id"], answer["error_code"]) == ("one", 2, 0)
    found = [(each["broker_id"], each["port"], each.get("is_fenced", False)) for each in answer["brokers"]]
    assert found == [(1, 9092, False), (2, 9093, False)] + [(3, 9094, True)] * (version == 2)
    assert answer["cluster_authorized_operations"] == -(2**31)


def test_the_controllers_have_no_addresses_of_their_own() -> None:
    for endpoint_type, code in ((2, KafkaCode.MISMATCHED_ENDPOINT_TYPE), (9, KafkaCode.UNSUPPORTED_ENDPOINT_TYPE)):
        answer = Door(cluster()).request("DescribeCluster", 1, endpoint_type=endpoint_type)
        assert (answer["error_code"], answer["brokers"]) == (code, [])


def test_leaders_of_the_tests_own_controller_are_alive() -> None:
    """The tests above rely on it."""
    door = Door(cluster())
    controller = FakeController(door)
    controller.create("orders", 6)
    leaders = {each.leader_id for each in known(controller.image, led=True).topics["orders"].partitions}
    assert leaders == {1, 2}
