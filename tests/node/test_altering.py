"""Topics that change while nodes come and go: new partitions are new everywhere, new settings reach everybody."""

from __future__ import annotations

import threading

import msgspec

from raftlog import Admin, Consumer, NewTopic, Producer, TopicPartition
from raftlog.node.local import LocalCluster
from raftlog.types import ReplicaStatus
from tests.conftest import ClusterFactory
from tests.node import asking
from tests.patience import WAIT_S


def statuses(cluster: LocalCluster, topic: str) -> list[ReplicaStatus]:
    endpoint = cluster.endpoints[min(cluster.pids)]
    return [status for status in asking.statuses(endpoint, topic) if status.worker_pid]


def settings_on(cluster: LocalCluster, node_id: int, replica: str) -> dict[str, int]:
    meta = msgspec.json.decode((cluster.directory / str(node_id) / "meta.json").read_bytes())
    (config,) = [
        hosted["spec"]["config"]
        for hosted in meta["replicas"]
        if f"{hosted['spec']['topic']}-{hosted['spec']['partition']}" == replica
    ]
    return dict(config)


def test_partitions_added_after_a_node_joined_are_new_there_and_take_records(fresh_cluster: ClusterFactory) -> None:
    cluster = fresh_cluster()
    with Admin(cluster.bootstrap) as admin, Producer(cluster.bootstrap, linger_ms=0) as producer:
        admin.create_topics([NewTopic(name="t", partitions=2, replication_factor=2)])
        for number in range(20):
            producer.send("t", b"old %d" % number, partition=number % 2).result(WAIT_S)
        assert cluster.add() == 4
        made = admin.create_partitions("t", 8)
        assert (made.partitions, made.replication_factor, made.witnesses) == (8, 2, 1)
        asking.until(lambda: len(statuses(cluster, "t")) == 24, 30.0)  # two replicas and a witness each
        assert {status.doubt for status in statuses(cluster, "t")} == {0}, "no replica counts as lost"
        (topic,) = admin.describe_topics(["t"])
        assert {node for each in topic.partitions[2:] for node in each.replicas} == {1, 2, 3, 4}
        for partition in range(8):
            producer.send("t", b"new", partition=partition).result(WAIT_S)
    with Consumer("t", bootstrap_servers=cluster.bootstrap, auto_offset_reset="earliest") as consumer:
        read: list[bytes | None] = []
        while len(read) < 28:
            read += [record.value for records in consumer.poll(timeout_ms=1000).values() for record in records]
    assert sorted(read) == sorted([b"old %d" % n for n in range(20)] + [b"new"] * 8)  # type: ignore[type-var]
    cluster.kill(4)
    cluster.start(4)
    asking.until(lambda: len(statuses(cluster, "t")) == 24)
    assert {status.doubt for status in statuses(cluster, "t")} == {0}


def test_a_consumer_that_is_at_work_finds_the_new_partitions(fresh_cluster: ClusterFactory) -> None:
    cluster = fresh_cluster(nodes=1)
    with Admin(cluster.bootstrap) as admin, Producer(cluster.bootstrap) as producer:
        admin.create_topics([NewTopic(name="t", partitions=1)])
        with Consumer(
            bootstrap_servers=cluster.bootstrap, group_id="readers", auto_offset_reset="earliest"
        ) as consumer:
            consumer.subscribe(["t"])
            producer.send("t", b"0", partition=0).result(WAIT_S)
            asking.until(lambda: consumer.poll(timeout_ms=500))
            admin.create_partitions("t", 4)
            asking.until(lambda: consumer.poll(timeout_ms=200) or len(consumer.assignment()) == 4)
            with Producer(cluster.bootstrap) as later:
                later.send("t", b"3", partition=3).result(WAIT_S)
            polled = asking.until(lambda: consumer.poll(timeout_ms=500))
    assert [record.value for record in polled[TopicPartition("t", 3)]] == [b"3"]


def test_settings_reach_nodes_that_run_nodes_that_were_down_and_the_next_start(fresh_cluster: ClusterFactory) -> None:
    cluster = fresh_cluster()
    with Admin(cluster.bootstrap) as admin:
        admin.create_topics([NewTopic(name="t", replication_factor=3)])
        asking.until(lambda: len(statuses(cluster, "t")) == 3)
        cluster.kill(3)
        # Two of the three have the change in their log; the third learns of it when it is back.
        admin.alter_topic("t", {"max.message.bytes": "2000", "min.insync.replicas": "2"})
        asking.until(lambda: all(settings_on(cluster, node, "t-0").get("max_record_bytes") == 2000 for node in (1, 2)))
        assert settings_on(cluster, 3, "t-0").get("max_record_bytes") == 1024 * 1024
        cluster.start(3)
        asking.until(lambda: settings_on(cluster, 3, "t-0")["max_record_bytes"] == 2000)
        admin.alter_topic("t", {}, reset=["max.message.bytes"])
        for node_id in (1, 2, 3):
            cluster.kill(node_id)
        threads = [threading.Thread(target=cluster.start, args=(node_id,)) for node_id in (1, 2, 3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (topic,) = asking.until(
            lambda: [each for each in admin.describe_topics(["t"]) if each.partitions and each.partitions[0].endpoint]
        )
    assert (topic.config["max_record_bytes"], topic.config["min_insync_replicas"]) == (1024 * 1024, 2)
    for node_id in (1, 2, 3):
        config = settings_on(cluster, node_id, "t-0")
        assert (config["max_record_bytes"], config["min_insync_replicas"]) == (1024 * 1024, 2)
