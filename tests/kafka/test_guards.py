"""Every API of Kafka's door, asked by nobody, by a user without a rule, and by one who may: who hears what."""

from __future__ import annotations

from typing import Any

import pytest

from raftlog.kafka.apis import APIS, KafkaApi
from raftlog.protocol.cluster import DescribeReplicasResponse
from raftlog.protocol.groups import ListedGroup, ListGroupsResponse
from raftlog.security.acls import CLUSTER_NAME, Acl, Operation, ResourceType
from raftlog.security.policy import Access, Policy, Security
from tests.kafka.door import topic_id
from tests.kafka.guarded import JUDGED, REQUESTS, USERS, Secured, ask

REFUSALS = {29, 30, 31, 53}
TOPIC, GROUP, CLUSTER = ResourceType.TOPIC, ResourceType.GROUP, ResourceType.CLUSTER
HOST = "127.0.0.1"


TOLD_LESS = ("ListGroups", "DescribeCluster")  # nothing is refused: what may not be seen is left out
EACH = pytest.mark.parametrize("api", JUDGED, ids=lambda api: api.name)


def allow(operation: Operation, kind: ResourceType = TOPIC, name: str = "orders") -> Acl:
    return Acl(resource_type=kind, name=name, principal="User:alice", operation=operation)


def listed(group_id: str) -> ListedGroup:
    return ListedGroup(group_id=group_id, protocol_type="consumer", state="Stable", members=1)


def codes(value: Any) -> set[int]:
    """All error codes anywhere in an answer."""
    if isinstance(value, dict):
        own = {each for key, each in value.items() if key.endswith("error_code") and isinstance(each, int)}
        return own.union(*(codes(each) for each in value.values()))
    if isinstance(value, list):
        return set().union(*(codes(each) for each in value))
    return set()


def test_every_api_has_an_example() -> None:
    assert {api.name for api in JUDGED} == set(REQUESTS)


@EACH
def test_who_has_not_logged_in_is_disconnected_without_an_answer(api: KafkaApi) -> None:
    bench = Secured()
    client = bench.connect()
    ask(client, api)
    assert "has not logged in" in client.connection.closing
    assert client.answers() == [] and bench.asked == []


@EACH
def test_who_has_no_rule_is_refused_before_anybody_is_asked(api: KafkaApi) -> None:
    bench = Secured()
    client = bench.connect_as("alice")
    ask(client, api)
    if api.name == "ListGroups":
        bench.asked.pop().answer(ListGroupsResponse(groups=[listed("readers")]))
    (answer,) = client.answers()
    assert bench.asked == []
    assert codes(answer) - {0} <= REFUSALS
    assert bool(codes(answer) & REFUSALS) == (api.name not in TOLD_LESS)
    assert "readers" not in str(answer.get("groups", "")) or codes(answer) & {30}


@EACH
def test_a_superuser_is_refused_nothing(api: KafkaApi) -> None:
    bench = Secured(allow(Operation.READ))
    client = bench.connect_as("root")
    ask(client, api)
    assert not any(codes(answer) & REFUSALS for answer in client.answers())
    assert not client.connection.closing


@EACH
def test_without_users_and_rules_nobody_is_refused_anything(api: KafkaApi) -> None:
    bench = Secured(users={})
    client = bench.connect()
    ask(client, api)
    assert not any(codes(answer) & REFUSALS for answer in client.answers())
    assert not client.connection.closing


RULES: dict[str, list[Acl]] = {
    "Produce": [allow(Operation.WRITE)],
    "Fetch": [allow(Operation.READ)],
    "ListOffsets": [allow(Operation.DESCRIBE)],
    "Metadata": [allow(Operation.DESCRIBE)],
    "OffsetCommit": [allow(Operation.READ), allow(Operation.READ, GROUP, "readers")],
    "OffsetFetch": [allow(Operation.DESCRIBE), allow(Operation.DESCRIBE, GROUP, "readers")],
    "FindCoordinator": [allow(Operation.DESCRIBE, GROUP, "readers")],
    "JoinGroup": [allow(Operation.READ, GROUP, "readers")],
    "Heartbeat": [allow(Operation.READ, GROUP, "readers")],
    "LeaveGroup": [allow(Operation.READ, GROUP, "readers")],
    "SyncGroup": [allow(Operation.READ, GROUP, "readers")],
    "DescribeGroups": [allow(Operation.DESCRIBE, GROUP, "readers")],
    "CreateTopics": [allow(Operation.CREATE)],
    "DeleteTopics": [allow(Operation.DELETE)],
    "DeleteRecords": [allow(Operation.DELETE)],
    "InitProducerId": [allow(Operation.WRITE)],
    "OffsetForLeaderEpoch": [allow(Operation.DESCRIBE)],
    "DescribeAcls": [allow(Operation.DESCRIBE, CLUSTER, CLUSTER_NAME)],
    "CreateAcls": [allow(Operation.ALTER, CLUSTER, CLUSTER_NAME)],
    "DeleteAcls": [allow(Operation.ALTER, CLUSTER, CLUSTER_NAME)],
    "DescribeConfigs": [allow(Operation.DESCRIBE_CONFIGS)],
    "AlterConfigs": [allow(Operation.ALTER_CONFIGS)],
    "IncrementalAlterConfigs": [allow(Operation.ALTER_CONFIGS)],
    "DescribeLogDirs": [allow(Operation.DESCRIBE, CLUSTER, CLUSTER_NAME)],
    "CreatePartitions": [allow(Operation.ALTER)],
    "DeleteGroups": [allow(Operation.DELETE, GROUP, "readers")],
    "ElectLeaders": [allow(Operation.ALTER, CLUSTER, CLUSTER_NAME)],
    "OffsetDelete": [allow(Operation.DELETE, GROUP, "readers"), allow(Operation.READ)],
    "DescribeClientQuotas": [allow(Operation.DESCRIBE_CONFIGS, CLUSTER, CLUSTER_NAME)],
    "AlterClientQuotas": [allow(Operation.ALTER_CONFIGS, CLUSTER, CLUSTER_NAME)],
    "DescribeUserScramCredentials": [allow(Operation.DESCRIBE, CLUSTER, CLUSTER_NAME)],
    "AlterUserScramCredentials": [allow(Operation.ALTER, CLUSTER, CLUSTER_NAME)],
    "DescribeProducers": [allow(Operation.READ)],
    "UnregisterBroker": [allow(Operation.ALTER, CLUSTER, CLUSTER_NAME)],
    "DescribeTopicPartitions": [allow(Operation.DESCRIBE)],
}


@pytest.mark.parametrize("name", sorted(RULES))
def test_the_right_rules_are_enough_and_each_of_them_is_needed(name: str) -> None:
    api = next(api for api in APIS if api.name == name)
    bench = Secured(*RULES[name])
    client = bench.connect_as("alice")
    ask(client, api)
    assert not any(codes(answer) & REFUSALS for answer in client.answers())
    for missing in RULES[name]:
        bench = Secured(*(rule for rule in RULES[name] if rule is not missing))
        client = bench.connect_as("alice")
        ask(client, api)
        for asked in bench.asked:  # about what is allowed: nothing
            asked.answer(asked.api.response())
        assert any(codes(answer) & REFUSALS for answer in client.answers())


@pytest.mark.parametrize(
    "name",
    ["Produce", "Fetch", "ListOffsets", "Metadata", "DescribeConfigs", "DeleteRecords", "DescribeTopicPartitions"],
)
def test_a_topic_that_may_not_be_seen_is_answered_as_one_that_is_not_there(name: str) -> None:
    api = next(api for api in APIS if api.name == name)
    answers = []
    for known in ("orders", "absent"):
        bench = Secured()
        version, fields = REQUESTS[name]
        client = bench.connect_as("alice")
        client.send(api.key, version, **_renamed(fields, known))
        (answer,) = client.answers()
        answers.append(str(answer).replace(known, "NAME"))
    assert answers[0] == answers[1]


def _renamed(value: Any, name: str) -> Any:
    if isinstance(value, dict):
        return {key: _renamed(each, name) for key, each in value.items()}
    if isinstance(value, list):
        return [_renamed(each, name) for each in value]
    return name if value == "orders" else value


# --- several at once -------------------------------------------------------------------------------
def test_of_several_topics_each_gets_its_own_answer() -> None:
    bench = Secured(allow(Operation.WRITE))
    client = bench.connect_as("alice")
    data = [{"index": 0, "records": b"x"}]
    topics = [{"name": "orders", "partition_data": data}, {"name": "other", "partition_data": data}]
    client.send(0, 9, acks=-1, timeout=1, topic_data=topics)
    (asked,) = bench.asked
    assert asked.target.topic_id == topic_id(1)  # type: ignore[union-attr]
    asked.answer(asked.api.response(base_offset=7))
    (answer,) = client.answers()
    told = {each["name"]: each["partition_responses"][0]["error_code"] for each in answer["responses"]}
    assert told == {"orders": 0, "other": 29}


def test_all_topics_are_those_that_one_may_see() -> None:
    bench = Secured(allow(Operation.READ))
    client = bench.connect_as("alice")
    client.send(3, 12, topics=None)
    client.send(75, 0, topics=[])
    for answer in client.answers():
        assert [each["name"] for each in answer["topics"]] == ["orders"]


def test_only_refused_topics_are_not_taken_for_all() -> None:
    client = Secured().connect_as("alice")
    client.send(3, 12, topics=[{"name": "orders"}], allow_auto_topic_creation=False)
    (answer,) = client.answers()
    assert [(each["name"], each["error_code"], each["partitions"]) for each in answer["topics"]] == [("orders", 29, [])]


def test_by_its_id_a_hidden_topic_is_refused_and_an_unknown_one_unknown() -> None:
    bench = Secured()
    client = bench.connect_as("alice")
    client.send(3, 12, topics=[{"name": None, "topic_id": topic_id(1)}, {"name": None, "topic_id": topic_id(99)}])
    (answer,) = client.answers()
    told = {each["topic_id"]: (each["error_code"], each["name"]) for each in answer["topics"]}
    assert told[topic_id(99)] == (100, None)
    assert told[topic_id(1)][0] == 29 and not told[topic_id(1)][1]


def test_a_topic_that_a_metadata_request_would_make_needs_create() -> None:
    bench = Secured(allow(Operation.DESCRIBE, name="new"))
    client = bench.connect_as("alice")
    client.send(3, 12, topics=[{"name": "new"}], allow_auto_topic_creation=True)
    (answer,) = client.answers()
    assert answer["topics"][0]["error_code"] == 29 and bench.asked == []


def test_groups_are_listed_as_far_as_one_may_see_them() -> None:
    bench = Secured(allow(Operation.DESCRIBE, GROUP, "readers"))
    groups = [listed("readers"), listed("secret")]
    for rules, seen in (([], ["readers"]), ([allow(Operation.DESCRIBE, CLUSTER, CLUSTER_NAME)], ["readers", "secret"])):
        bench.allow(allow(Operation.DESCRIBE, GROUP, "readers"), *rules)
        client = bench.connect_as("alice")
        client.send(16, 4)
        bench.asked.pop().answer(ListGroupsResponse(groups=list(groups)))
        (answer,) = client.answers()
        assert [each["group_id"] for each in answer["groups"]] == seen


def test_what_one_may_do_is_told_as_it_is() -> None:
    bench = Secured(allow(Operation.READ))
    client = bench.connect_as("alice")
    client.send(3, 9, topics=None, include_topic_authorized_operations=True)
    client.send(60, 1, include_cluster_authorized_operations=True)
    metadata, described = client.answers()
    read_and_describe = 1 << Operation.READ | 1 << Operation.DESCRIBE
    assert metadata["topics"][0]["topic_authorized_operations"] == read_and_describe
    assert described["cluster_authorized_operations"] == 0


def test_a_new_topic_is_told_less_of_to_who_may_not_read_settings() -> None:
    bench = Secured(allow(Operation.CREATE))
    client = bench.connect_as("alice")
    client.send(19, 7, topics=[{"name": "orders", "num_partitions": 1, "replication_factor": 1}], timeout=1000)
    assert bench.asked, "it goes to the controller"
    assert client.answers() == []


def test_log_dirs_of_a_superuser_come_from_its_node() -> None:
    bench = Secured()
    client = bench.connect_as("root")
    client.send(35, 4, topics=None)
    bench.asked.pop().answer(DescribeReplicasResponse())
    (answer,) = client.answers()
    assert answer["error_code"] == 0


# --- sessions --------------------------------------------------------------------------------------
def test_a_session_ends_when_its_user_is_changed_or_deleted() -> None:
    bench = Secured()
    client, other = bench.connect_as("alice"), bench.connect_as("root")
    users = {"root": USERS["root"]}
    policy = Policy(Security(offset=10, users=users), Access(superusers=("User:root",)))
    bench.broker.secure(policy, [client.connection, other.connection])
    assert "deleted" in client.connection.closing and not other.connection.closing


def test_a_session_that_has_expired_may_only_log_in_again() -> None:
    bench = Secured()
    client = bench.connect_as("root")
    client.connection.session.expires_s = bench.now_s() + 5
    client.send(3, 12, topics=None)
    assert len(client.answers()) == 1
    bench.pass_time(6)
    client.send(18, 0)
    assert len(client.answers()) == 1 and not client.connection.closing
    client.send(3, 12, topics=None)
    assert "expired" in client.connection.closing and client.answers() == []


def test_rights_that_are_taken_away_are_gone_with_the_next_request() -> None:
    bench = Secured(allow(Operation.READ))
    client = bench.connect_as("alice")
    client.send(2, 7, topics=[{"name": "orders", "partitions": [{"partition_index": 0, "timestamp": -1}]}])
    assert len(bench.asked) == 1
    bench.allow()
    client.send(2, 7, topics=[{"name": "orders", "partitions": [{"partition_index": 0, "timestamp": -1}]}])
    assert len(bench.asked) == 1
