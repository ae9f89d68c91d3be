"""A running plain cluster becomes a secured one by the steps of the page, and back, while clients go on."""

from __future__ import annotations

import http.client
import itertools
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import kafka
import pytest

from raftlog import Admin, Consumer, NewTopic, Producer
from raftlog.errors import NoBrokersAvailableError, RaftlogError
from raftlog.node.local import LocalCluster
from raftlog.security.weakness import Weakness
from raftlog.types import TopicPartition
from tests.conftest import ClusterFactory
from tests.node import asking
from tests.patience import WAIT_S
from tests.security.made import Made
from tests.source_tree import ROOT

pytestmark = pytest.mark.cluster
TOPIC, PARTITIONS = "orders", 3
GAP_S = 5.0  # far above what a rolling restart costs here, and below what any loss of a majority would


class Load(threading.Thread):
    """Sends numbered records one after the other, until it is told to stop."""

    def __init__(self, name: str, bootstrap: str, security: str) -> None:
        super().__init__(name=name)
        self.acknowledged: list[tuple[int, bytes]] = []  # partition, value
        self.longest_s = 0.0  # between two acknowledgements
        self.error: BaseException | None = None
        self._producer = Producer(bootstrap, security=security, linger_ms=0)
        self._over = threading.Event()
        self.start()

    def run(self) -> None:
        last_s = time.monotonic()
        try:
            with self._producer as producer:
                for number in itertools.count():
                    if self._over.wait(0.002):
                        return
                    value = f"{self.name} {number}".encode()
                    producer.send(TOPIC, value, partition=number % PARTITIONS).result(WAIT_S)
                    self.acknowledged.append((number % PARTITIONS, value))
                    now_s = time.monotonic()
                    self.longest_s = max(self.longest_s, now_s - last_s)
                    last_s = now_s
        except RaftlogError as error:  # told by `end`
            self.error = error

    def tell_end(self) -> None:
        self._over.set()

    def end(self) -> list[tuple[int, bytes]]:
        self._over.set()
        self.join(WAIT_S)
        assert self.error is None, self.error
        assert len(self.acknowledged) > 100
        assert self.longest_s < GAP_S
        return self.acknowledged


@contextmanager
def loaded(name: str, cluster: LocalCluster, security: str) -> Iterator[Load]:
    load = Load(name, cluster.bootstrap, security)
    try:
        yield load
    finally:
        load.tell_end()
        load.join(WAIT_S)


def steps() -> list[list[str]]:
    """The options that the page adds to a node's command, step by step; without the directory."""
    page = (ROOT / "docs" / "security.md").read_text()
    section = page.partition("### From plain to secured without an outage\n")[2].partition("\n## ")[0]
    return [each.split() for each in re.findall(r"^ +raftlog node start … --security node-1(.*)$", section, re.M)]


class Rolling:
    def __init__(self, fresh_cluster: ClusterFactory, made: Made) -> None:
        self._made = made
        self._options: dict[int, list[str]] = {}
        self.cluster = fresh_cluster(kafka=True, options=lambda node_id: self._options.get(node_id, []))
        self.alice = made.client("alice")

    def restart_all(self, options: list[str] | None, security: str) -> None:
        """One after the other, each once all replicas are in sync. `options` None: plain again."""
        for node_id in self.cluster.endpoints:
            self.cluster.stop(node_id)
            self._options[node_id] = []
            if options is not None:
                flags = [word for option in options for word in (option, "on")]
                self._options[node_id] = ["--security", self._made.node(node_id), *flags]
            self.cluster.start(node_id)
            self.wait_whole(security)

    def wait_whole(self, security: str) -> None:
        with Admin(self.cluster.bootstrap, security=security) as admin:

            def whole() -> bool:
                (topic,) = admin.describe_topics([TOPIC])
                return all(len(each.in_sync) == 3 and each.leader_id > 0 for each in topic.partitions)

            asking.until(whole)

    def weak_spots(self, security: str) -> dict[int, list[int]]:
        with Admin(self.cluster.bootstrap, security=security) as admin:
            return {node: list(spots) for node, spots in admin.describe_weak_spots().items() if spots}


@pytest.mark.timeout(300)
def test_plain_nodes_become_secured_ones_and_plain_again_under_load(
    fresh_cluster: ClusterFactory, tmp_path: Path
) -> None:
    rolling = Rolling(fresh_cluster, Made(tmp_path))
    cluster, alice = rolling.cluster, rolling.alice
    permissive, required = steps()
    assert (permissive, required) == (["--permissive"], [])
    with Admin(cluster.bootstrap, security="") as admin:
        admin.create_topics([NewTopic(name=TOPIC, partitions=PARTITIONS, replication_factor=3)])
    acknowledged = []
    with loaded("plain", cluster, "") as plain:
        rolling.restart_all(permissive, "")
        asking.until(lambda: rolling.weak_spots(alice) == {node: [Weakness.PERMISSIVE] for node in (1, 2, 3)})
        with loaded("secured", cluster, alice) as secured:
            asking.until(lambda: len(secured.acknowledged) > 100)
            both_kinds_meet_at_kafkas_door(cluster, alice)
            acknowledged += plain.end()
            rolling.restart_all(required, alice)
            assert rolling.weak_spots(alice) == {}
            with pytest.raises(NoBrokersAvailableError):
                Admin(cluster.bootstrap, security="", bootstrap_timeout_ms=500)
            rolling.restart_all(permissive, alice)
            acknowledged += secured.end()
    with loaded("plain-again", cluster, "") as again:
        rolling.restart_all(None, "")
        acknowledged += again.end()
    found = read_all(cluster)
    assert len(found) == len(set(found))
    assert set(acknowledged) <= set(found)


def test_http_gives_nobody_the_rights_of_a_permissive_node(fresh_cluster: ClusterFactory, tmp_path: Path) -> None:
    """It asks nobody who he is: where there are users it tells no more than that of a plain node."""
    options = ["--security", Made(tmp_path).node(1), "--permissive", "on", "--superuser", "root"]
    cluster = fresh_cluster(nodes=1, http=True, options=lambda node_id: options)
    with Admin(cluster.bootstrap, security="") as admin:
        admin.create_topics([NewTopic(name="secrets")])
        assert b"secrets" in http_answer(cluster, "/api/topics")
        admin.create_user("root", "0123456789abcdef")
    asking.until(lambda: b"log in first" in http_answer(cluster, "/api/topics"))
    assert b"secrets" not in http_answer(cluster, "/api/topics")


def http_answer(cluster: LocalCluster, path: str) -> bytes:
    connection = http.client.HTTPConnection(*cluster.http_endpoints[1], timeout=WAIT_S)
    try:
        connection.request("GET", path)
        return connection.getresponse().read()
    finally:
        connection.close()


def both_kinds_meet_at_kafkas_door(cluster: LocalCluster, alice: str) -> None:
    files = {name: f"{alice}/{name}" for name in ("ca.pem", "client.pem", "client.key")}
    tls = {
        "security_protocol": "SSL",
        "ssl_cafile": files["ca.pem"],
        "ssl_certfile": files["client.pem"],
        "ssl_keyfile": files["client.key"],
    }
    for settings in ({}, tls):
        sender = kafka.KafkaProducer(bootstrap_servers=cluster.kafka_bootstrap, **settings)
        sender.send(TOPIC, f"kafka {bool(settings)}".encode(), partition=0).get(WAIT_S)
        sender.close()
        reader = kafka.KafkaConsumer(
            TOPIC,
            bootstrap_servers=cluster.kafka_bootstrap,
            auto_offset_reset="earliest",
            consumer_timeout_ms=int(WAIT_S * 1000),
            **settings,
        )
        assert next(reader).value
        reader.close()


def read_all(cluster: LocalCluster) -> list[tuple[int, bytes]]:
    found: list[tuple[int, bytes]] = []
    with Consumer(bootstrap_servers=cluster.bootstrap, security="") as consumer:
        places = [TopicPartition(TOPIC, partition) for partition in range(PARTITIONS)]
        consumer.assign(places)
        consumer.seek_to_beginning(*places)
        ends = consumer.end_offsets(places)

        def all_read() -> bool:
            for place, records in consumer.poll(500).items():
                found.extend((place.partition, record.value or b"") for record in records)
            return all(consumer.position(place) >= ends[place] for place in places)

        asking.until(all_read)
    return found
