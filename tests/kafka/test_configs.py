"""DescribeConfigs, AlterConfigs and IncrementalAlterConfigs answer as Kafka does, in every version that is listed."""

from __future__ import annotations

from typing import Any

import pytest

from raftlog.errors import ErrorCode
from raftlog.kafka import topic_settings
from raftlog.types import CleanupPolicy, TopicConfig
from tests.kafka.controller import FakeController
from tests.kafka.door import Door, cluster, topic, versions

TOPIC, BROKER, LOGGER = 2, 4, 8
SET, DELETE, APPEND, SUBTRACT = 0, 1, 2, 3


def _described(door: Door, version: int = 4, *, kind: int = TOPIC, name: str = "orders", **fields: Any) -> Any:
    resource = {"resource_type": kind, "resource_name": name, "configuration_keys": fields.pop("keys", None)}
    (result,) = door.request("DescribeConfigs", version, resources=[resource], **fields)["results"]
    assert (result["resource_type"], result["resource_name"]) == (kind, name)
    return result


def _configs(result: Any) -> dict[str, Any]:
    return {each["name"]: each for each in result["configs"]}


def test_every_topic_setting_has_a_name_of_kafkas() -> None:
    own = {setting.own for setting in topic_settings.SETTINGS if setting.own}
    assert own == set(TopicConfig.__struct_fields__)
    names = [setting.name for setting in topic_settings.SETTINGS]
    assert names == sorted(set(names))


@pytest.mark.parametrize("version", versions("DescribeConfigs"))
def test_a_topics_settings_say_where_they_come_from(version: int) -> None:
    door = Door(cluster(topic("orders", config=TopicConfig(retention_ms=1000, cleanup_policy=CleanupPolicy(3)))))
    result = _described(door, version, include_synonyms=True, include_documentation=True)
    assert (result["error_code"], result["error_message"]) == (0, None)
    configs = _configs(result)
    changed = configs["retention.ms"]
    assert (changed["value"], changed["config_source"], changed["read_only"]) == ("1000", 1, False)
    assert [(each["name"], each["value"], each["source"]) for each in changed["synonyms"]] == [
        ("retention.ms", "1000", 1),
        ("log.retention.ms", "604800000", 5),
    ]
    assert configs["cleanup.policy"]["value"] == "compact,delete"
    untouched = configs["max.message.bytes"]
    assert (untouched["value"], untouched["config_source"]) == ("1048576", 5)
    assert [each["name"] for each in untouched["synonyms"]] == ["message.max.bytes"]
    assert (configs["compression.type"]["value"], configs["compression.type"]["read_only"]) == ("producer", True)
    if version >= 3:
        assert (changed["config_type"], configs["cleanup.policy"]["config_type"]) == (5, 7)
        assert changed["documentation"].startswith("Segments whose records are all older")


def test_synonyms_and_documentation_are_told_to_those_who_ask() -> None:
    changed = _configs(_described(Door(cluster(topic("orders")))))["retention.ms"]
    assert (changed["synonyms"], changed["documentation"]) == ([], None)


def test_only_the_settings_that_are_named_are_told() -> None:
    door = Door(cluster(topic("orders")))
    assert list(_configs(_described(door, keys=["retention.ms", "none"]))) == ["retention.ms"]
    assert len(_configs(_described(door, keys=[]))) == len(topic_settings.SETTINGS)


@pytest.mark.parametrize(
    ("kind", "name", "code"),
    [
        (TOPIC, "none", ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        (TOPIC, "no/topic", ErrorCode.INVALID_TOPIC_EXCEPTION),
        (BROKER, "2", ErrorCode.INVALID_REQUEST),
        (LOGGER, "1", ErrorCode.INVALID_REQUEST),
        (77, "1", ErrorCode.INVALID_REQUEST),
    ],
)
def test_what_has_no_settings_here_is_refused(kind: int, name: str, code: ErrorCode) -> None:
    result = _described(Door(cluster()), kind=kind, name=name)
    assert (result["error_code"], result["configs"]) == (code, [])
    assert result["error_message"]


@pytest.mark.parametrize("version", versions("DescribeConfigs"))
def test_a_broker_tells_what_is_true_of_it_and_cannot_be_changed(version: int) -> None:
    configs = _configs(_described(Door(cluster()), version, kind=BROKER, name="1"))
    shown = {name: each["value"] for name, each in configs.items()}
    assert shown["broker.id"] == shown["node.id"] == "1"
    assert shown["log.dirs"] == "/var/lib/raftlog"
    assert shown["advertised.listeners"] == "PLAINTEXT://127.0.0.1:9092"
    assert shown["auto.create.topics.enable"] == "true"
    assert (shown["num.partitions"], shown["default.replication.factor"]) == ("1", "3")
    assert (shown["message.max.bytes"], shown["log.retention.ms"]) == ("1048576", "604800000")
    assert all(each["read_only"] for each in configs.values())
    assert list(configs) == sorted(configs)


def test_nothing_is_set_for_all_brokers() -> None:
    assert _described(Door(cluster()), kind=BROKER, name="")["configs"] == []


# --- changes -----------------------------------------------------------------------------------
def _changing(**config: str) -> tuple[Door, FakeController]:
    door = Door(cluster())
    controller = FakeController(door)
    controller.create("orders", **config)
    return door, controller


def _altered(door: Door, api: str, version: int, configs: list[dict[str, Any]], **fields: Any) -> Any:
    resource = {"resource_type": TOPIC, "resource_name": fields.pop("resource", "orders"), "configs": configs}
    resource |= {"resource_type": fields.pop("kind", TOPIC)}
    (response,) = door.request(api, version, resources=[resource], **fields)["responses"]
    return response


def _incremented(door: Door, name: str, operation: int, value: str | None, version: int = 1, **fields: Any) -> Any:
    change = {"name": name, "config_operation": operation, "value": value}
    return _altered(door, "IncrementalAlterConfigs", version, [change], **fields)


@pytest.mark.parametrize("version", versions("IncrementalAlterConfigs"))
def test_one_setting_changes_and_the_others_stay(version: int) -> None:
    door, controller = _changing(retention_ms="1000", segment_bytes="4096")
    response = _incremented(door, "retention.ms", SET, "2000", version)
    assert (response["error_code"], response["error_message"], response["resource_name"]) == (0, None, "orders")
    assert _incremented(door, "segment.bytes", DELETE, None, version)["error_code"] == 0
    config = controller.image.topics["orders"].config
    assert config == TopicConfig(retention_ms=2000)


def test_words_are_added_to_a_list_and_taken_away() -> None:
    door, controller = _changing()
    assert _incremented(door, "cleanup.policy", APPEND, "compact")["error_code"] == 0
    assert controller.image.topics["orders"].config.cleanup_policy == CleanupPolicy.COMPACT | CleanupPolicy.DELETE
    # When the answer comes, the door knows of the change: the next one builds on it.
    assert _incremented(door, "cleanup.policy", SUBTRACT, "delete")["error_code"] == 0
    assert controller.image.topics["orders"].config.cleanup_policy == CleanupPolicy.COMPACT


@pytest.mark.parametrize(
    ("name", "operation", "value", "code"),
    [
        ("retention.ms", SET, "soon", ErrorCode.INVALID_CONFIG),
        ("retention.ms", SET, None, ErrorCode.INVALID_REQUEST),
        ("retention.ms", APPEND, "1", ErrorCode.INVALID_CONFIG),
        ("retention.ms", 9, "1", ErrorCode.INVALID_CONFIG),
        ("cleanup.policy", 9, "compact", ErrorCode.INVALID_REQUEST),
        ("cleanup.policy", SUBTRACT, "delete", ErrorCode.INVALID_CONFIG),
        ("no.such", SET, "1", ErrorCode.INVALID_CONFIG),
        ("no.such", DELETE, None, ErrorCode.NONE),
        ("min.insync.replicas", SET, "4", ErrorCode.INVALID_CONFIG),
        ("compression.type", SET, "zstd", ErrorCode.INVALID_CONFIG),
        ("compression.type", SET, "producer", ErrorCode.NONE),
        ("compression.type", DELETE, None, ErrorCode.NONE),
    ],
)
@pytest.mark.parametrize("validate_only", [False, True])
def test_changes_that_make_no_sense_change_nothing(
    name: str, operation: int, value: str | None, code: ErrorCode, validate_only: bool
) -> None:
    door, controller = _changing()
    response = _incremented(door, name, operation, value, validate_only=validate_only)
    assert response["error_code"] == code
    assert bool(response["error_message"]) is bool(code)
    assert controller.image.topics["orders"].config == TopicConfig()


def test_the_throttle_of_moving_replicas_is_refused_in_words_and_taken_away_without_a_word() -> None:
    """As kafka-reassign-partitions sets it with --execute, and takes it away with --verify."""
    door, controller = _changing()
    for kind, resource, name, code in (
        (TOPIC, "orders", "leader.replication.throttled.replicas", ErrorCode.INVALID_CONFIG),
        (TOPIC, "orders", "follower.replication.throttled.replicas", ErrorCode.INVALID_CONFIG),
        (BROKER, "1", "leader.replication.throttled.rate", ErrorCode.INVALID_REQUEST),
        (BROKER, "2", "follower.replication.throttled.rate", ErrorCode.INVALID_REQUEST),
    ):
        response = _incremented(door, name, SET, "0:1", kind=kind, resource=resource)
        assert response["error_code"] == code and "raftlog cluster moves --throttle" in response["error_message"]
        assert _incremented(door, name, DELETE, None, kind=kind, resource=resource)["error_code"] == 0
    assert controller.image.topics["orders"].config == TopicConfig()


@pytest.mark.parametrize(
    ("kind", "name", "code"),
    [
        (TOPIC, "none", ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        (BROKER, "1", ErrorCode.INVALID_REQUEST),
        (LOGGER, "1", ErrorCode.INVALID_REQUEST),
    ],
)
def test_what_cannot_be_changed_is_refused(kind: int, name: str, code: ErrorCode) -> None:
    door, _ = _changing()
    assert _incremented(door, "retention.ms", SET, "1000", kind=kind, resource=name)["error_code"] == code
    changes = [{"name": "retention.ms", "value": "1000"}]
    assert _altered(door, "AlterConfigs", 2, changes, kind=kind, resource=name)["error_code"] == code


@pytest.mark.parametrize("version", versions("AlterConfigs"))
def test_the_old_way_puts_back_what_is_not_named(version: int) -> None:
    door, controller = _changing(retention_ms="1000", segment_bytes="4096")
    changes = [{"name": "retention.ms", "value": "2000"}, {"name": "preallocate", "value": "false"}]
    assert _altered(door, "AlterConfigs", version, changes, validate_only=True)["error_code"] == 0
    assert controller.image.topics["orders"].config == TopicConfig(retention_ms=1000, segment_bytes=4096)
    assert _altered(door, "AlterConfigs", version, changes)["error_code"] == 0
    assert controller.image.topics["orders"].config == TopicConfig(retention_ms=2000)
    null = [{"name": "retention.ms", "value": None}]
    assert _altered(door, "AlterConfigs", version, null)["error_code"] == ErrorCode.INVALID_REQUEST
    assert _altered(door, "AlterConfigs", version, [])["error_code"] == 0
    assert controller.image.topics["orders"].config == TopicConfig()


def test_kafkas_way_to_keep_records_for_ever_is_taken() -> None:
    door, controller = _changing()
    assert _incremented(door, "retention.ms", SET, str(2**63 - 1))["error_code"] == 0
    assert controller.image.topics["orders"].config.retention_ms == 2**63 - 1
