"""DescribeClientQuotas and AlterClientQuotas: what Kafka's tools ask, and what the controller is asked."""

from __future__ import annotations

from typing import Any

import pytest

from raftlog.errors import ErrorCode
from raftlog.protocol import apis
from raftlog.protocol import security as s
from raftlog.protocol.topics import TopicIdsResponse
from raftlog.security.quotas import Quota, entity_of
from tests.kafka.door import Door, cluster, versions

ALICE = [{"entity_type": "user", "entity_name": "alice"}]


def component(kind: str, match_type: int, match: str | None = None) -> dict[str, Any]:
    return {"entity_type": kind, "match_type": match_type, "match": match}


def describe(door: Door, version: int, *components: dict[str, Any], strict: bool = False) -> dict[str, Any]:
    return door.request("DescribeClientQuotas", version, components=list(components), strict=strict)


@pytest.mark.parametrize("version", versions("DescribeClientQuotas"))
def test_quotas_are_told_by_entity(version: int) -> None:
    door = Door(cluster())
    both = entity_of(user="alice", client_id=None)
    quotas = [
        Quota(both, "producer_byte_rate", 100),
        Quota(entity_of(user="alice"), "producer_byte_rate", 7),
        Quota(both, "consumer_byte_rate", 200),
    ]
    door.workers[apis.DESCRIBE_QUOTAS] = lambda *_: s.DescribeQuotasResponse(quotas=quotas)
    found = describe(door, version, component("user", 0, "alice"), component("client-id", 1), strict=True)
    assert found["entries"] == [
        {
            "entity": [{"entity_type": "client-id", "entity_name": None}, *ALICE],
            "values": [{"key": "producer_byte_rate", "value": 100.0}, {"key": "consumer_byte_rate", "value": 200.0}],
        },
        {"entity": ALICE, "values": [{"key": "producer_byte_rate", "value": 7.0}]},
    ]
    (_, asked), *_ = door.asked
    assert (asked.filter.names, asked.filter.strict) == ({"user": "alice", "client-id": None}, True)
    describe(door, version, component("user", 2))
    assert door.asked[-1][1].filter.any_name == ("user",)


@pytest.mark.parametrize(
    ("components", "code"),
    [
        ([component("group", 2)], ErrorCode.UNSUPPORTED_VERSION),
        ([component("user", 0)], ErrorCode.INVALID_REQUEST),
        ([component("user", 1, "alice")], ErrorCode.INVALID_REQUEST),
        ([component("user", 3)], ErrorCode.INVALID_REQUEST),
        ([component("user", 2), component("user", 1)], ErrorCode.INVALID_REQUEST),
    ],
)
def test_what_is_no_filter_is_refused_without_a_question(components: list[dict[str, Any]], code: ErrorCode) -> None:
    door = Door(cluster())
    found = describe(door, 1, *components)
    assert (found["error_code"], found["entries"], door.asked) == (code, None, [])


@pytest.mark.parametrize("version", versions("AlterClientQuotas"))
def test_each_entity_gets_its_own_answer(version: int) -> None:
    door = Door(cluster())
    results = [
        s.SecurityResult(name="user alice"),
        s.SecurityResult(name="x", error_code=ErrorCode.INVALID_REQUEST, error_text="no"),
    ]
    door.workers[apis.TOPIC_IDS] = lambda *_: TopicIdsResponse(end_offset=4)
    door.workers[apis.ALTER_QUOTAS] = lambda *_: s.SecurityResponse(results=results)
    operations = [
        {"key": "producer_byte_rate", "value": 100.0, "remove": False},
        {"key": "consumer_byte_rate", "value": 0.0, "remove": True},
    ]
    default = [{"entity_type": "user", "entity_name": None}]
    entries = [{"entity": ALICE, "ops": operations}, {"entity": default, "ops": operations[:1]}]
    found = door.request("AlterClientQuotas", version, entries=entries, validate_only=True)
    assert [(each["error_code"], each["entity"]) for each in found["entries"]] == [(0, ALICE), (42, default)]
    assert found["entries"][1]["error_message"] == "no"
    _, asked = door.asked[-1]
    assert asked.validate_only and [(each.entity, each.values) for each in asked.changes] == [
        ([("user", "alice")], {"producer_byte_rate": 100.0, "consumer_byte_rate": None}),
        ([("user", None)], {"producer_byte_rate": 100.0}),
    ]


def test_a_controller_that_refuses_all_refuses_each() -> None:
    door = Door(cluster())
    door.workers[apis.TOPIC_IDS] = lambda *_: apis.TOPIC_IDS.refusal(ErrorCode.NOT_CONTROLLER, "gone")
    found = door.request("AlterClientQuotas", 1, entries=[{"entity": ALICE, "ops": []}] * 2, validate_only=False)
    assert [each["error_code"] for each in found["entries"]] == [ErrorCode.NOT_CONTROLLER] * 2
