"""Large records, many partitions, and a follower that is far behind, on real nodes."""

from __future__ import annotations

import os
import threading

import pytest

from raftlog.client import Admin, Consumer, Producer
from raftlog.node.local import LocalCluster
from raftlog.protocol.cluster import PartitionMetadata
from raftlog.protocol.topics import NewTopic
from raftlog.types import TopicPartition
from tests.conftest import ClusterFactory
from tests.node import asking
from tests.patience import WAIT_S

MIB = 1024 * 1024
PARTITIONS = 200
BEHIND_BYTES = 200 * MIB
RECORD_BYTES = 100_000


def partition_of(cluster: LocalCluster, topic: str) -> PartitionMetadata:
    with Admin(bootstrap_servers=cluster.bootstrap) as admin:
        (found,) = admin.describe_topics([topic])
    return found.partitions[0]


def all_in_sync(cluster: LocalCluster, topic: str) -> bool:
    return len(partition_of(cluster, topic).in_sync) == 3


def test_a_record_of_32_mib_is_replicated_and_read_back(cluster: LocalCluster) -> None:
    value = os.urandom(32 * MIB)
    with Admin(bootstrap_servers=cluster.bootstrap) as admin:
        admin.create_topics([NewTopic(name="large", replication_factor=3, config={"max_record_bytes": str(33 * MIB)})])
    with Producer(bootstrap_servers=cluster.bootstrap) as producer:
        assert producer.send("large", value).result(WAIT_S).offset == 0
        assert producer.send("large", b"small").result(WAIT_S).offset == 1
    with Consumer("large", bootstrap_servers=cluster.bootstrap, auto_offset_reset="earliest") as consumer:
        read: list[bytes | None] = []
        while len(read) < 2:
            for records in consumer.poll(timeout_ms=1000).values():
                read += [record.value for record in records]
    assert read == [value, b"small"]


@pytest.mark.timeout(180)
def test_three_nodes_host_200_partitions(fresh_cluster: ClusterFactory) -> None:
    cluster = fresh_cluster()
    assert asking.create_topic(cluster.endpoints[1], "many", PARTITIONS, 1).error_code == 0
    asking.until(lambda: len(asking.leaders(cluster.endpoints[1], "many")) == PARTITIONS)
    with Producer(bootstrap_servers=cluster.bootstrap, partitioner="round-robin") as producer:
        futures = [producer.send("many", b"%d" % number) for number in range(5 * PARTITIONS)]
        producer.flush(WAIT_S)
        assert {future.result(0).partition for future in futures} == set(range(PARTITIONS))
    places = [TopicPartition("many", number) for number in range(PARTITIONS)]
    with Consumer(bootstrap_servers=cluster.bootstrap) as consumer:
        assert consumer.end_offsets(places) == dict.fromkeys(places, 5)


@pytest.mark.timeout(180)
def test_a_follower_far_behind_catches_up_while_producers_go_on(fresh_cluster: ClusterFactory) -> None:
    cluster = fresh_cluster()
    asking.create_topic(cluster.endpoints[1], "t", 1, 3)
    asking.until(lambda: asking.leaders(cluster.endpoints[1], "t") and all_in_sync(cluster, "t"))
    away = next(node_id for node_id in (1, 2, 3) if node_id != partition_of(cluster, "t").leader_id)
    value = os.urandom(RECORD_BYTES)
    acked = 0
    stopped = threading.Event()

    def produce() -> None:
        nonlocal acked
        with Producer(bootstrap_servers=cluster.bootstrap) as producer:
            while not stopped.is_set():
                for future in [producer.send("t", value) for _ in range(50)]:
                    future.result(WAIT_S)
                    acked += 1

    thread = threading.Thread(target=produce)
    cluster.kill(away)
    thread.start()
    try:
        asking.until(lambda: acked * RECORD_BYTES >= BEHIND_BYTES)
        before = acked
        cluster.start(away)
        asking.until(lambda: all_in_sync(cluster, "t"))
        assert acked > before, "producers went on meanwhile"
    finally:
        stopped.set()
        thread.join()
    place = TopicPartition("t", 0)
    with Consumer(bootstrap_servers=cluster.bootstrap) as consumer:
        assert consumer.end_offsets([place])[place] == acked
