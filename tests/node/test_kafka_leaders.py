"""Leaders that change, seen through the door for Kafka's clients: epochs, where they end, and elections on demand."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from raftlog.errors import ErrorCode
from raftlog.kafka.codes import KafkaCode
from raftlog.limits import PREFERRED_LEADER_S
from raftlog.node.local import LocalCluster
from raftlog.record.batch import encode as encode_batch
from tests.kafka.tcp import METADATA, PRODUCE, KafkaSocket
from tests.node.asking import create_topic, until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]
OFFSET_FOR_LEADER_EPOCH, ELECT_LEADERS = 23, 43
PREFERRED = 0
ATTEMPTS = 3  # a busy machine may be so late that the leadership has gone back by itself


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LocalCluster]:
    with LocalCluster(3, directory=tmp_path, kafka=True) as running:
        yield running


class Partition:
    """The one of a topic: asked of the broker that leads it, as a client does."""

    def __init__(self, cluster: LocalCluster, topic: str) -> None:
        self.topic = topic
        self._cluster = cluster

    def state(self, broker: int | None = None) -> dict[str, Any]:
        """As this broker tells it; of itself it does not know a leader that was killed a moment ago."""
        with KafkaSocket(self._cluster.kafka_endpoints[broker or min(self._cluster.pids)]) as client:
            told = client.ask(METADATA, 12, topics=[{"name": self.topic, "topic_id": None}])
        (topic,) = told["topics"]
        found: dict[str, Any] = topic["partitions"][0] if topic["partitions"] else {"leader_id": -1}
        return found

    def led(self, not_by: int = -1) -> dict[str, Any]:
        """Its state, once somebody else leads it and says so himself."""

        def find() -> dict[str, Any] | None:
            leader = self.state()["leader_id"]
            if leader in (-1, not_by) or leader not in self._cluster.pids:
                return None
            own = self.state(leader)
            return own if own["leader_id"] == leader else None

        return until(find)

    def ask(self, key: int, version: int, named: dict[str, Any], **fields: Any) -> dict[str, Any]:
        """What its leader answers of it; asked again while that moves. `named`: of the partition."""

        def attempt() -> dict[str, Any] | None:
            with KafkaSocket(self._cluster.kafka_endpoints[self.led()["leader_id"]]) as client:
                answer = client.ask(key, version, **fields, **named)
            (topic,) = answer.get("responses", answer.get("topics"))
            found: dict[str, Any] = topic.get("partition_responses", topic.get("partitions"))[0]
            return None if found["error_code"] == ErrorCode.NOT_LEADER_OR_FOLLOWER else found

        return until(attempt)

    def write(self, count: int) -> int:
        """The offset of the first of so many records."""
        batch = encode_batch([(0, None, b"%d" % number) for number in range(count)])
        data = {"name": self.topic, "partition_data": [{"index": 0, "records": batch}]}
        found = self.ask(PRODUCE, 9, {"topic_data": [data]}, transactional_id=None, acks=-1, timeout=10_000)
        assert not found["error_code"], found
        offset: int = found["base_offset"]
        return offset

    def end_of(self, epoch: int, known: int = -1) -> tuple[int, int, int]:
        """(error, epoch, where it ends). `known`: the epoch that the client believes to be the leader's."""
        asked = {"partition": 0, "current_leader_epoch": known, "leader_epoch": epoch}
        found = self.ask(
            OFFSET_FOR_LEADER_EPOCH, 4, {"topics": [{"topic": self.topic, "partitions": [asked]}]}, replica_id=-1
        )
        return found["error_code"], found["leader_epoch"], found["end_offset"]

    def elect(self) -> int:
        with KafkaSocket(self._cluster.kafka_endpoints[min(self._cluster.pids)]) as client:
            named = [{"topic": self.topic, "partitions": [0]}]
            answer = client.ask(ELECT_LEADERS, 2, election_type=PREFERRED, topic_partitions=named, timeout=10_000)
        assert answer["error_code"] == 0
        return int(answer["replica_election_results"][0]["partition_result"][0]["error_code"])


def test_a_leader_epoch_ends_where_the_next_leader_began(cluster: LocalCluster) -> None:
    create_topic(cluster.endpoints[1], "orders", 1, 3)
    orders = Partition(cluster, "orders")
    first = orders.led()
    assert orders.write(3) == 0
    assert orders.end_of(first["leader_epoch"]) == (0, first["leader_epoch"], 3)

    cluster.kill(first["leader_id"])
    second = orders.led(not_by=first["leader_id"])
    assert second["leader_epoch"] > first["leader_epoch"]
    assert orders.write(2) == 3
    # What a consumer asks that had read in the epoch of the leader that died: nothing of it was cut.
    assert orders.end_of(first["leader_epoch"], second["leader_epoch"]) == (0, first["leader_epoch"], 3)
    assert orders.end_of(second["leader_epoch"]) == (0, second["leader_epoch"], 5)
    # One to come is not known.
    assert orders.end_of(second["leader_epoch"] + 1) == (0, -1, -1)
    assert orders.end_of(first["leader_epoch"], first["leader_epoch"])[0] == KafkaCode.FENCED_LEADER_EPOCH
    assert orders.end_of(first["leader_epoch"], second["leader_epoch"] + 1)[0] == ErrorCode.UNKNOWN_LEADER_EPOCH

    # The node that was away tells the same, once it leads again.
    cluster.start(first["leader_id"])
    until(lambda: orders.led()["leader_id"] == first["leader_id"])
    assert orders.end_of(first["leader_epoch"]) == (0, first["leader_epoch"], 3)
    assert orders.end_of(second["leader_epoch"]) == (0, second["leader_epoch"], 5)


def test_an_operator_has_the_preferred_replica_lead_again(cluster: LocalCluster) -> None:
    """`kafka-leader-election --election-type preferred`, after a node has been away."""
    create_topic(cluster.endpoints[1], "orders", 1, 3)
    orders = Partition(cluster, "orders")
    preferred = orders.state()["replica_nodes"][0]
    until(lambda: orders.led()["leader_id"] == preferred and len(orders.state()["isr_nodes"]) == 3)
    assert orders.elect() == KafkaCode.ELECTION_NOT_NEEDED
    assert any(_handed_back(cluster, orders, preferred) for _ in range(ATTEMPTS))


def _handed_back(cluster: LocalCluster, orders: Partition, preferred: int) -> bool:
    """Whether it was the operator's doing: without it the leadership goes back after PREFERRED_LEADER_S."""
    cluster.kill(preferred)
    before = orders.led(not_by=preferred)
    orders.write(1)
    assert orders.elect() == ErrorCode.PREFERRED_LEADER_NOT_AVAILABLE
    cluster.start(preferred)
    until(lambda: preferred in orders.state()["isr_nodes"])
    in_sync_s = time.monotonic()
    code = orders.elect()
    told = [orders.state(broker) for broker in cluster.endpoints]
    took_s = time.monotonic() - in_sync_s
    if took_s > PREFERRED_LEADER_S - 1 or code == KafkaCode.ELECTION_NOT_NEEDED:
        return False
    assert code == 0
    # Every broker knows when the answer comes.
    assert {state["leader_id"] for state in told} == {preferred}, told
    assert all(state["leader_epoch"] > before["leader_epoch"] for state in told)
    orders.write(1)
    assert orders.elect() == KafkaCode.ELECTION_NOT_NEEDED
    return True
