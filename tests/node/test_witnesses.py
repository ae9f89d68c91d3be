"""Witnesses on real nodes: f + 1 copies survive the loss of any f of 2 f + 1 nodes, readable and writable."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from raftlog.client import Consumer, Producer
from raftlog.errors import RaftlogError
from raftlog.node.local import LocalCluster
from raftlog.protocol.cluster import PartitionMetadata
from raftlog.types import Role
from raftlog.view.partitions import view_topic
from tests.conftest import ClusterFactory
from tests.node import asking
from tests.node.retention import directory_bytes
from tests.patience import WAIT_S

Acknowledged = dict[tuple[int, int], bytes]
"""(partition, offset) to value."""


def partitions_of(cluster: LocalCluster, topic: str) -> list[PartitionMetadata]:
    found = asking.metadata(cluster.endpoints[min(cluster.pids)], [topic])
    return found.topics[0].partitions if found is not None else []


def whole(cluster: LocalCluster, topic: str) -> list[PartitionMetadata]:
    """The partitions once every replica of every one is in sync, and no replica or witness has an error."""
    found = partitions_of(cluster, topic)
    statuses = asking.statuses(cluster.endpoints[min(cluster.pids)], topic)
    in_sync = all(set(each.in_sync) == set(each.replicas) for each in found)
    return found if in_sync and not any(status.error or status.doubt for status in statuses) else []


class Load:
    """One producer under acks=all, a few records in flight for each partition, until it is stopped."""

    def __init__(self, cluster: LocalCluster, topic: str, partitions: int) -> None:
        self.acknowledged: Acknowledged = {}
        self._cluster = cluster
        self._topic = topic
        self._partitions = partitions
        self._stopped = threading.Event()

    def run(self) -> None:
        number = 0
        with Producer(bootstrap_servers=self._cluster.bootstrap, linger_ms=1) as producer:
            while not self._stopped.is_set():
                sent = []
                for _ in range(20):
                    number += 1
                    value = b"%d " % number + bytes(200)
                    sent.append((value, producer.send(self._topic, value, partition=number % self._partitions)))
                producer.flush(WAIT_S)
                for value, future in sent:
                    try:
                        stored = future.result(0)
                    except RaftlogError:
                        continue  # an unknown outcome promises nothing
                    self.acknowledged[stored.partition, stored.offset] = value

    def stop(self) -> None:
        self._stopped.set()

    def wait_for_new(self, timeout_s: float = 20.0) -> None:
        """Every partition acknowledges something that was sent after this call."""
        before = [max((o for p, o in list(self.acknowledged) if p == n), default=-1) for n in range(self._partitions)]
        # Two rounds: the first may have been under way.
        for _ in range(2):
            ends = before[:]
            deadline_s = time.monotonic() + timeout_s
            while any(all(o <= ends[n] for p, o in list(self.acknowledged) if p == n) for n in range(self._partitions)):
                assert time.monotonic() < deadline_s, f"no partition may stop for {timeout_s} s"
                time.sleep(0.02)
            before = [max(o for p, o in list(self.acknowledged) if p == n) for n in range(self._partitions)]


@contextmanager
def load_on(cluster: LocalCluster, topic: str, partitions: int) -> Iterator[Load]:
    load = Load(cluster, topic, partitions)
    thread = threading.Thread(target=load.run, daemon=True)
    thread.start()
    try:
        yield load
    finally:
        load.stop()
        thread.join(WAIT_S)
    assert not thread.is_alive()


def missing(cluster: LocalCluster, topic: str, acknowledged: Acknowledged) -> Acknowledged:
    """What was acknowledged and is not read back at its offset."""
    wanted = dict(acknowledged)
    with Consumer(
        topic, bootstrap_servers=cluster.bootstrap, auto_offset_reset="earliest", consumer_timeout_ms=10_000
    ) as consumer:
        for record in consumer:
            if wanted.get((record.partition, record.offset)) == record.value:
                del wanted[record.partition, record.offset]
            if not wanted:
                break
    return wanted


def survive(cluster: LocalCluster, topic: str, load: Load, away: list[int]) -> None:
    """Kill -9 those nodes: writes go on, and everything acknowledged before is read without them."""
    asking.until(lambda: whole(cluster, topic))
    load.wait_for_new()
    before = dict(load.acknowledged)
    for node_id in away:
        cluster.kill(node_id)
    load.wait_for_new()
    assert missing(cluster, topic, before) == {}
    for node_id in away:
        cluster.start(node_id)


@pytest.mark.timeout(300)
def test_two_replicas_and_a_witness_survive_each_of_three_nodes(fresh_cluster: ClusterFactory) -> None:
    cluster = fresh_cluster(nodes=3)
    topic, partitions = "pairs", 3
    created = asking.create_topic(cluster.endpoints[1], topic, partitions, 2)
    assert (created.error_code, created.witnesses) == (0, 1)
    found = asking.until(lambda: whole(cluster, topic))
    assert sorted(node_id for each in found for node_id in each.witnesses) == [1, 2, 3]
    with load_on(cluster, topic, partitions) as load:
        for node_id in (1, 2, 3):
            survive(cluster, topic, load, [node_id])
    asking.until(lambda: whole(cluster, topic))
    assert len(load.acknowledged) > 200
    assert missing(cluster, topic, load.acknowledged) == {}


@pytest.mark.timeout(400)
def test_three_replicas_and_two_witnesses_survive_any_two_of_five_nodes(fresh_cluster: ClusterFactory) -> None:
    cluster = fresh_cluster(nodes=5)
    topic = "triples"
    created = asking.create_topic(cluster.endpoints[1], topic, 1, 3)
    assert (created.error_code, created.witnesses) == (0, 2)
    with load_on(cluster, topic, 1) as load:
        for pick in ("leader and follower", "leader and witness", "follower and witness", "both witnesses"):
            [found] = asking.until(lambda: whole(cluster, topic))
            follower = next(node_id for node_id in found.replicas if node_id != found.leader_id)
            survive(
                cluster,
                topic,
                load,
                {
                    "leader and follower": [found.leader_id, follower],
                    "leader and witness": [found.witnesses[0], found.leader_id],
                    "follower and witness": [follower, found.witnesses[1]],
                    "both witnesses": found.witnesses,
                }[pick],
            )
    assert missing(cluster, topic, load.acknowledged) == {}


@pytest.mark.timeout(200)
def test_a_partition_waits_for_the_node_that_was_in_sync_alone_and_says_so(fresh_cluster: ClusterFactory) -> None:
    cluster = fresh_cluster(nodes=3)
    topic = "alone"
    asking.create_topic(cluster.endpoints[1], topic, 1, 2)
    [found] = asking.until(lambda: whole(cluster, topic))
    leader = found.leader_id
    [follower] = set(found.replicas) - {leader}
    cluster.kill(follower)
    with Producer(bootstrap_servers=cluster.bootstrap) as producer:
        stored = [producer.send(topic, b"%d" % number) for number in range(50)]
        producer.flush(WAIT_S)
        acknowledged = {(each.result(0).partition, each.result(0).offset): b"%d" % n for n, each in enumerate(stored)}
    cluster.kill(leader)
    cluster.start(follower)

    def problems() -> list[str]:
        endpoint = cluster.endpoints[follower]
        described = asking.metadata(endpoint, [topic])
        if described is None:
            return []
        [partition] = view_topic(described.topics[0], asking.statuses(endpoint, topic)).partitions
        return [text for text in partition.problems if "it waits for" in text]

    [problem] = asking.until(problems)
    assert problem.endswith(f"so it waits for node {leader}")
    cluster.start(leader)
    asking.until(lambda: whole(cluster, topic))
    assert missing(cluster, topic, acknowledged) == {}


def test_a_witness_writes_next_to_nothing_and_says_what_it_is(fresh_cluster: ClusterFactory) -> None:
    cluster = fresh_cluster(nodes=3)
    topic = "light"
    asking.create_topic(cluster.endpoints[1], topic, 1, 2)
    [found] = asking.until(lambda: whole(cluster, topic))
    with Producer(bootstrap_servers=cluster.bootstrap) as producer:
        for _ in range(20_000):
            producer.send(topic, bytes(500))
        producer.flush(WAIT_S)
    [witness] = found.witnesses
    records = directory_bytes(cluster.directory / str(found.leader_id) / f"{topic}-0")
    assert records > 10_000_000
    assert directory_bytes(cluster.directory / str(witness) / f"{topic}-0") < records / 1000
    roles = {status.node_id: status.role for status in asking.statuses(cluster.endpoints[1], topic)}
    assert roles[witness] == Role.WITNESS
    assert sorted(roles.values()) == [Role.FOLLOWER, Role.LEADER, Role.WITNESS]


@pytest.mark.timeout(200)
def test_nodes_that_joined_and_are_gone_vote_on_nothing_new(fresh_cluster: ClusterFactory) -> None:
    cluster = fresh_cluster(nodes=3)
    old, new = "old", "new"
    gone = [cluster.add(), cluster.add()]
    assert asking.create_topic(cluster.endpoints[1], old, 1, 3).witnesses == 2
    asking.until(lambda: whole(cluster, old))
    for node_id in gone:
        cluster.kill(node_id)
    endpoint = cluster.endpoints[1]
    asking.until(lambda: (found := asking.metadata(endpoint)) and sum(node.alive for node in found.nodes) == 3)
    warned = asking.create_topic(endpoint, "warned", 1, 4)
    assert (warned.error_code, warned.witnesses) == (0, 0)
    assert "survives no failure instead of" in warned.warning and "nodes 4 and 5 are not alive" in warned.warning
    created = asking.create_topic(endpoint, new, 3, 3)
    assert (created.error_code, created.witnesses) == (0, 0)
    assert "survives 1 failure instead of 2" in created.warning
    described = asking.until(lambda: whole(cluster, new))
    assert {node_id for each in described for node_id in each.replicas} == {1, 2, 3}

    def problems() -> list[str]:
        found = asking.metadata(endpoint, [old])
        [view] = view_topic(found.topics[0], asking.statuses(endpoint, old)).partitions if found else []
        return view.problems

    # What was placed on them while they lived is said, as long as it is so.
    asking.until(lambda: any(text.startswith("it survives no failure now") for text in problems()))
    assert cluster.stop(2) == 0
    with Producer(bootstrap_servers=cluster.bootstrap) as producer:
        for partition in range(3):
            assert producer.send(new, b"after", partition=partition).result(WAIT_S).offset == 0
