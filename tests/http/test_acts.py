"""POST /api/acts/ of a real node: previews that change nothing, acts that do, and what is refused."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from raftlog import Admin, Consumer, NewTopic, Producer, TopicPartition
from raftlog.errors import GroupIdNotFoundError, UnknownTopicOrPartitionError
from raftlog.node.local import LocalCluster
from tests.http.browser import without_authorization
from tests.node.started import free_port, started
from tests.patience import WAIT_S

pytestmark = pytest.mark.cluster


class Node:
    def __init__(self, base: str, admin: Admin) -> None:
        self.base = base
        self.admin = admin

    def act(self, name: str, headers: dict[str, str] | None = None, **body: object) -> tuple[int, Any]:
        request = urllib.request.Request(
            f"{self.base}/api/acts/{name}",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json", **(headers or {})},
        )
        try:
            with urllib.request.urlopen(request, timeout=WAIT_S) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self.base + path, timeout=WAIT_S) as answer:
            return json.load(answer)

    def refused(self, name: str, **body: object) -> tuple[int, str]:
        code, answer = self.act(name, **body)
        return code, answer["text"]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    directory = tmp_path_factory.mktemp("acts")
    with (
        LocalCluster(nodes=1, directory=directory, http=True, prefix=without_authorization) as cluster,
        Admin(cluster.bootstrap) as admin,
    ):
        admin.create_topics([NewTopic(name="orders", partitions=2)])
        with Producer(cluster.bootstrap) as producer:
            for number in range(20):
                producer.send("orders", b"x", partition=number % 2)
            producer.flush()
        yield Node(f"http://{cluster.http_endpoints[1]}", admin)


def test_a_topic_is_made_once_it_was_looked_at(node: Node) -> None:
    wanted = {"topic": "clicks", "partitions": 3, "config": {"retention_ms": "1h"}}
    code, effect = node.act("create-topic", **wanted)  # without a word, it is a preview
    assert (code, effect["done"]) == (200, False)
    assert effect["says"] == ["Topic clicks with 3 partitions, replication factor 1."]
    assert "clicks" not in node.admin.list_topics()
    code, effect = node.act("create-topic", preview=False, **wanted)
    assert (code, effect["done"]) == (200, True)
    (made,) = node.admin.describe_topics(["clicks"])
    assert (len(made.partitions), made.config["retention_ms"]) == (3, 3_600_000)
    assert node.act("create-topic", **wanted)[0] == 409
    assert node.refused("create-topic", topic="a b")[0] == 400


def test_settings_and_partitions_are_changed(node: Node) -> None:
    node.admin.create_topics([NewTopic(name="plain")])
    change = {"topic": "plain", "config": {"retention_ms": "1h"}, "partitions": 2}
    code, effect = node.act("alter-topic", **change)
    assert code == 200
    assert effect["changes"] == [
        {"what": "retention_ms", "before": 604_800_000, "after": 3_600_000},
        {"what": "partitions", "before": 1, "after": 2},
    ]
    (before,) = node.admin.describe_topics(["plain"])
    assert (len(before.partitions), before.config["retention_ms"]) == (1, 604_800_000)
    assert node.act("alter-topic", preview=False, **change)[1]["done"]
    (after,) = node.admin.describe_topics(["plain"])
    assert (len(after.partitions), after.config["retention_ms"]) == (2, 3_600_000)
    effect = node.act("alter-topic", preview=False, topic="plain", config={"retention_ms": None})[1]
    assert effect["changes"] == [{"what": "retention_ms", "before": 3_600_000, "after": 604_800_000}]


def test_of_two_changes_none_is_made_when_one_cannot_be(node: Node) -> None:
    node.admin.create_topics([NewTopic(name="both", partitions=2)])
    code, text = node.refused("alter-topic", topic="both", config={"retention_ms": "1h"}, partitions=1, preview=False)
    assert code == 400, text
    (found,) = node.admin.describe_topics(["both"])
    assert found.config["retention_ms"] == 604_800_000
    assert node.refused("alter-topic", topic="both", config={"nope": "1"})[0] == 400
    assert node.refused("alter-topic", topic="both")[0] == 400


def test_records_are_deleted_once_the_name_was_typed(node: Node) -> None:
    wanted = {"topic": "orders", "partition": 0, "before": 4}
    place = TopicPartition("orders", 0)
    code, effect = node.act("delete-records", **wanted)
    assert code == 200
    assert effect["changes"] == [{"what": "log start offset", "before": 0, "after": 4}]
    for confirm in ("", "order", "orders "):
        assert node.refused("delete-records", preview=False, confirm=confirm, **wanted)[0] == 400
    assert node.admin.list_offsets({place: -2}) == {place: 0}
    assert node.act("delete-records", preview=False, confirm="orders", **wanted)[1]["done"]
    assert node.admin.list_offsets({place: -2}) == {place: 4}
    assert node.refused("delete-records", topic="orders", partition=0, before=11)[0] == 400
    assert node.refused("delete-records", topic="orders", partition=9, before=1)[0] == 404
    (change,) = node.act("delete-records", topic="orders", partition=1, before=-1)[1]["changes"]
    assert change["after"] == 10


def test_a_topic_is_deleted_once_its_name_was_typed(node: Node) -> None:
    node.admin.create_topics([NewTopic(name="doomed")])
    code, effect = node.act("delete-topic", topic="doomed")
    assert (code, effect["done"]) == (200, False)
    assert "This cannot be undone." in effect["says"]
    assert node.refused("delete-topic", topic="doomed", preview=False) == (400, "this is done once `confirm` is doomed")
    assert node.act("delete-topic", topic="doomed", preview=False, confirm="doomed")[1]["done"]
    with pytest.raises(UnknownTopicOrPartitionError):
        node.admin.describe_topics(["doomed"])
    assert node.refused("delete-topic", topic="doomed")[0] == 404


def test_offsets_of_a_group_are_reset_and_the_group_is_deleted(node: Node) -> None:
    committed = {TopicPartition("orders", 0): 6, TopicPartition("orders", 1): 6}
    node.admin.set_group_offsets("billing", committed)
    wanted = {"group": "billing", "topic": "orders", "to": {"shift_by": -1}}
    code, effect = node.act("reset-offsets", **wanted)
    assert code == 200
    assert [(each["before"], each["after"]) for each in effect["changes"]] == [(6, 5), (6, 5)]
    assert effect["says"] == ["Group billing reads 2 offsets of orders again, and skips 0."]
    assert node.admin.group_offsets("billing") == committed
    assert node.refused("reset-offsets", preview=False, **wanted)[0] == 400
    assert node.act("reset-offsets", preview=False, confirm="billing", **wanted)[1]["done"]
    assert set(node.admin.group_offsets("billing").values()) == {5}
    ends = node.act("reset-offsets", group="billing", topic="orders", to={"end": True})[1]["changes"]
    assert [each["after"] for each in ends] == [10, 10]
    assert node.refused("reset-offsets", group="billing", topic="orders", to={})[0] == 400
    assert node.refused("reset-offsets", group="nobody", topic="orders", to={"end": True})[0] == 404
    assert node.act("delete-group", group="billing")[1]["done"] is False
    assert node.act("delete-group", group="billing", preview=False, confirm="billing")[1]["done"]
    with pytest.raises(GroupIdNotFoundError):
        node.admin.describe_group("billing")


def test_a_group_with_members_is_left_alone(node: Node) -> None:
    servers = str(next(iter(node.admin.describe_cluster().nodes)).endpoint)
    with Consumer("orders", bootstrap_servers=servers, group_id="busy", auto_offset_reset="earliest") as consumer:
        consumer.poll(WAIT_S * 1000)
        code, text = node.refused("reset-offsets", group="busy", topic="orders", to={"end": True})
        assert (code, text) == (409, "group busy has 1 member: stop them first")
        assert node.refused("delete-group", group="busy", preview=False, confirm="busy")[0] == 409


def test_a_user_is_made_gets_another_password_and_is_deleted(node: Node) -> None:
    wanted = {"user": "alice", "password": "something long"}
    code, effect = node.act("set-password", **wanted)
    assert (code, effect["done"]) == (200, False)
    assert effect["says"][0] == "User alice, who logs in with this password."
    assert "It is the first user" in effect["says"][1]
    assert node.admin.list_users() == []
    assert node.act("set-password", preview=False, **wanted)[1]["done"]
    assert node.get("/api/users") == {"users": [{"user": "alice", "mechanisms": ["SCRAM-SHA-256", "SCRAM-SHA-512"]}]}
    effect = node.act("set-password", preview=False, **wanted | {"password": "another"})[1]
    assert effect["says"] == ["User alice gets another password. Its sessions end within seconds."]
    for user, password in (("alice", ""), ("", "x"), ("a\nb", "x"), ("bob", "\x00")):
        assert node.refused("set-password", user=user, password=password)[0] == 400
    assert node.refused("delete-user", user="alice", preview=False)[0] == 400
    assert node.act("delete-user", user="alice", preview=False, confirm="alice")[1]["done"]
    assert node.admin.list_users() == []
    assert node.refused("delete-user", user="alice")[0] == 404


def test_a_rule_is_added_and_removed(node: Node) -> None:
    rule = {"principal": "User:bob", "operation": "Read", "resource": "Topic", "name": "orders-", "pattern": "Prefixed"}
    effect = node.act("add-rule", rule=rule)[1]
    assert effect["says"][0] == "User:bob may do Read with each Topic whose name begins with orders-."
    assert "It is the first rule" in effect["says"][1]
    assert node.admin.list_acls() == []
    assert node.act("add-rule", rule=rule, preview=False)[1]["done"]
    assert node.get("/api/acls") == {"rules": [{**rule, "host": "*", "permission": "Allow"}]}
    assert "This rule is there already." in node.act("add-rule", rule=rule)[1]["says"]
    for part, word in (("operation", "Eat"), ("resource", "Table"), ("principal", "bob"), ("host", "a.example")):
        assert node.refused("add-rule", rule={**rule, part: word}, preview=False)[0] == 400
    other = {**rule, "pattern": "Literal"}
    assert node.refused("remove-rule", rule=other, preview=False, confirm="User:bob")[0] == 404
    assert node.refused("remove-rule", rule=rule, preview=False)[0] == 400
    assert node.act("remove-rule", rule=rule, preview=False, confirm="User:bob")[1]["done"]
    assert node.admin.list_acls() == []


def test_what_is_no_act_is_refused(node: Node) -> None:
    assert node.refused("nothing")[0] == 400
    code, text = node.refused("delete-topic", topic="orders", confirmed="orders")
    assert code == 400 and "confirmed" in text
    assert node.refused("delete-topic")[0] == 400
    assert node.refused("create-topic", topic=7)[0] == 400


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Content-Type": "text/plain"},
        {"Host": "evil.example"},
    ],
)
def test_what_another_site_sends_does_nothing(node: Node, headers: dict[str, str]) -> None:
    assert node.act("create-topic", headers, topic="forged", preview=False)[0] == 403
    assert "forged" not in node.admin.list_topics()


@pytest.mark.parametrize(("host", "options"), [("127.0.0.1", ("--http-read-only", "on")), ("0.0.0.0", ("--insecure",))])
def test_a_node_that_is_read_only_changes_nothing(tmp_path: Path, host: str, options: tuple[str, ...]) -> None:
    port = free_port()
    listen = ("--id", "1", "--data", "data", "--listen", f"127.0.0.1:{free_port()}", "--http-listen", f"{host}:{port}")
    with started(tmp_path, *listen, *options) as running:
        running.ready()
        with Admin(str(running.endpoint)) as admin:
            node = Node(f"http://127.0.0.1:{port}", admin)
            code, answer = node.act("create-topic", topic="made", preview=False)
            assert code == 403, answer
            assert admin.list_topics() == []
            assert node.get("/api/console")["read_only"]
