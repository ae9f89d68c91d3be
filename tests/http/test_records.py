"""/api/records/ of a real node: records from a place on, by time and key, searched, and one whole."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from raftlog import Admin, NewTopic, Producer
from raftlog.node.local import LocalCluster
from tests.patience import WAIT_S

pytestmark = pytest.mark.cluster
BIG = bytes(range(256)) * 4_000  # a megabyte of all there is


class Node:
    def __init__(self, cluster: LocalCluster) -> None:
        self.cluster = cluster
        self.base = f"http://{cluster.http_endpoints[1]}"

    def open(self, path: str, **parameters: object) -> Any:
        query = urllib.parse.urlencode(parameters)
        return urllib.request.urlopen(f"{self.base}{path}?{query}", timeout=WAIT_S)

    def records(self, topic: str, **parameters: object) -> Any:
        return json.load(self.open(f"/api/records/{topic}", **parameters))

    def refused(self, path: str, **parameters: object) -> tuple[int, str]:
        with pytest.raises(urllib.error.HTTPError) as raised:
            self.open(path, **parameters)
        return raised.value.code, json.load(raised.value)["text"]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with LocalCluster(nodes=1, directory=tmp_path_factory.mktemp("read"), http=True) as cluster:
        with Admin(cluster.bootstrap) as admin:
            admin.create_topics(
                [
                    NewTopic(name="orders", partitions=2),
                    NewTopic(name="odd", config={"max_record_bytes": "2MiB"}),
                    NewTopic(name="empty"),
                ]
            )
        with Producer(cluster.bootstrap) as producer:
            for number in range(100):
                producer.send(
                    "orders",
                    f"order {number}".encode(),
                    key=f"customer-{number % 10}".encode(),
                    partition=number % 2,
                    timestamp_ms=1_000_000 + number,
                    headers=[("trace", f"t{number}".encode())],
                )
            producer.send("odd", BIG, key=None)
            producer.send("odd", None, key=b"gone")
            producer.flush()
        yield Node(cluster)


def _values(found: Any) -> list[str]:
    return [base64.b64decode(record["value"]["base64"]).decode() for record in found["records"]]


def test_without_a_place_the_newest_of_each_partition_come_in_the_order_of_their_times(node: Node) -> None:
    found = node.records("orders", limit=10)
    assert _values(found) == [f"order {number}" for number in range(90, 100)]
    assert (found["start"], found["end"]) == ({"0": 0, "1": 0}, {"0": 50, "1": 50})
    assert found["complete"] and found["next"] == found["end"]
    first = found["records"][0]
    assert (first["partition"], first["offset"], first["timestamp_ms"]) == (0, 45, 1_000_090)
    assert first["headers"] == [{"name": "trace", "value": {"size_bytes": 3, "base64": "dDkw"}}]


def test_it_reads_on_where_it_stopped_and_hands_out_each_record_once(node: Node) -> None:
    values: list[str] = []
    parameters: dict[str, object] = {"offset": 0}
    while True:
        found = node.records("orders", limit=7, **parameters)
        values += _values(found)
        if found["complete"]:
            break
        parameters = {"at": ",".join(f"{partition}:{offset}" for partition, offset in found["next"].items())}
    assert sorted(values) == sorted(f"order {number}" for number in range(100))


def test_it_begins_at_an_offset_or_a_time(node: Node) -> None:
    assert _values(node.records("orders", partition=1, offset=48)) == ["order 97", "order 99"]
    assert _values(node.records("orders", time_ms=1_000_098)) == ["order 98", "order 99"]
    assert node.records("orders", time_ms=9_000_000)["records"] == []
    assert _values(node.records("orders", partition=1, offset=10**15)) == []


def test_it_finds_texts_in_keys_values_and_headers_and_records_of_a_key(node: Node) -> None:
    assert _values(node.records("orders", search="order 42")) == ["order 42"]
    assert _values(node.records("orders", search="t77")) == ["order 77"]
    of_key = node.records("orders", key="customer-3")
    assert _values(of_key) == [f"order {number}" for number in range(3, 100, 10)]
    assert (of_key["looked_at"], of_key["complete"]) == (100, True)
    assert _values(node.records("orders", key="customer")) == []
    first = node.records("orders", search="customer-3", limit=3)
    assert not first["complete"] and len(first["records"]) == 3
    assert node.records("orders", search="nowhere")["records"] == []


def test_a_large_value_is_shown_from_its_beginning_and_can_be_had_whole(node: Node) -> None:
    large, gone = node.records("odd")["records"]
    assert large["key"] is None
    assert large["value"]["size_bytes"] == len(BIG)
    assert base64.b64decode(large["value"]["base64"]) == BIG[:2048]
    answer = node.open("/api/records/odd/0/0/value")
    assert answer.read() == BIG
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="odd-0-0.value"'
    assert "sandbox" in answer.headers["Content-Security-Policy"]
    assert gone["value"] is None
    assert node.open("/api/records/odd/0/1/value").status == 204
    assert node.open("/api/records/odd/0/1/key").read() == b"gone"


def test_a_topic_without_records_has_none(node: Node) -> None:
    found = node.records("empty")
    assert (found["records"], found["end"], found["complete"]) == ([], {"0": 0}, True)


def test_a_partition_without_a_leader_is_named_and_the_others_are_read(fresh_cluster: Any) -> None:
    cluster: LocalCluster = fresh_cluster(nodes=3, http=True)
    with Admin(cluster.bootstrap) as admin:
        admin.create_topics([NewTopic(name="thin", replicas=[(1,), (3,)])])
        with Producer(cluster.bootstrap) as producer:
            producer.send("thin", b"here", partition=0).result(WAIT_S)
            producer.send("thin", b"away", partition=1).result(WAIT_S)
        cluster.kill(3)
        found = _until_without_leader(Node(cluster))
    assert _values(found) == ["here"]
    assert found["without_leader"] == [1]


def _until_without_leader(node: Node) -> Any:
    from tests.node.asking import until

    found: list[Any] = []

    def seen() -> bool:
        try:
            found.append(node.records("thin"))
        except urllib.error.HTTPError:
            return False  # its leader is asked until it is known to be gone
        return bool(found[-1]["without_leader"])

    assert until(seen)
    return found[-1]


def test_what_cannot_be_is_said(node: Node) -> None:
    assert node.refused("/api/records/nope") == (404, "there is no topic nope")
    assert node.refused("/api/records/orders", partition=7) == (404, "topic orders has no partition 7")
    assert node.refused("/api/records/orders", offset=1, time_ms=1)[0] == 400
    assert node.refused("/api/records/orders", limit=0) == (400, "limit lies between 1 and 500")
    assert node.refused("/api/records/orders", at="x") == (400, "at is a list of partition:offset, separated by commas")
    assert node.refused("/api/records/orders", offset="x")[0] == 400
    assert node.refused("/api/records/orders", offset=-1)[0] == 400
    code, text = node.refused("/api/records/orders/0/50/value")
    assert (code, text) == (404, "orders-0 has no record at offset 50; it has 0 to 49")


def test_a_foreign_host_name_is_refused_and_health_is_not(node: Node) -> None:
    for path, code in (("/api/topics", 403), ("/", 403), ("/health/live", 200)):
        request = urllib.request.Request(node.base + path, headers={"Host": "evil.example"})
        try:
            assert urllib.request.urlopen(request, timeout=WAIT_S).status == code
        except urllib.error.HTTPError as error:
            assert error.code == code
