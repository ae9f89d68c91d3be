"""A topic of one partition on all nodes, and all of it that was acknowledged."""

from __future__ import annotations

from raftlog.client import Admin, Consumer, Producer
from raftlog.node.local import LocalCluster
from raftlog.protocol.topics import NewTopic
from raftlog.types import ReplicaStatus, TopicPartition
from tests.node import asking, damage
from tests.patience import WAIT_S

TOPIC, REPLICA = "orders", "orders-0"
HEAL_S = 30.0  # a few passes of the scrub over a small log, and a busy machine


def _values(start: int, end: int) -> list[bytes]:
    return [b"%06d" % number + bytes(300) for number in range(start, end)]


class Story:
    """A topic of one partition on all nodes, and all that was acknowledged."""

    def __init__(self, cluster: LocalCluster, factor: int = 3) -> None:
        self.cluster = cluster
        self.count = 0
        self.nodes = list(cluster.endpoints)
        with Admin(cluster.bootstrap) as admin:
            new = NewTopic(name=TOPIC, replication_factor=factor, config={"segment_bytes": "32768"})
            admin.create_topics([new])

    def write(self, count: int) -> None:
        """In batches of a few records, all acknowledged."""
        with Producer(self.cluster.bootstrap, linger_ms=0) as producer:
            values = _values(self.count, self.count + count)
            for first in range(0, count, 10):
                futures = [producer.send(TOPIC, value, partition=0) for value in values[first : first + 10]]
                for future in futures:
                    future.result(WAIT_S)
        self.count += count

    def statuses(self) -> dict[int, ReplicaStatus]:
        endpoint = self.cluster.endpoints[min(self.cluster.pids)]
        return {status.node_id: status for status in asking.statuses(endpoint, TOPIC)}

    def leader(self) -> int:
        def find() -> int:
            return next((node for node, status in self.statuses().items() if status.role == 2 and status.in_sync), 0)

        return asking.until(find)

    def wait_whole(self) -> dict[int, ReplicaStatus]:
        """Every replica runs, without doubt, and holds all that was acknowledged, committed."""

        def whole() -> dict[int, ReplicaStatus]:
            found = self.statuses()
            good = [
                status
                for status in found.values()
                if status.worker_pid and not status.doubt and not status.error and status.high_watermark == self.count
            ]
            return found if len(good) == len(self.nodes) else {}

        return asking.until(whole, HEAL_S)

    def wait_bounds(self) -> None:
        """What is on the running nodes' disks is also what their `state` knows to be committed."""

        def written() -> bool:
            return all(
                damage.state(self.cluster, node, REPLICA).commit_bound == damage.last_index(self.cluster, node, REPLICA)
                for node in self.cluster.pids
            )

        asking.until(written)

    def read(self) -> None:
        """A consumer from the beginning gets everything, once, in order."""
        with Consumer(bootstrap_servers=self.cluster.bootstrap) as consumer:
            consumer.assign([TopicPartition(TOPIC, 0)])
            consumer.seek(TopicPartition(TOPIC, 0), 0)
            found: list[bytes | None] = []

            def all_read() -> bool:
                for records in consumer.poll(500).values():
                    found.extend(record.value for record in records)
                return len(found) >= self.count

            asking.until(all_read, HEAL_S)
        assert found == _values(0, self.count)

    def require_equal_disks(self) -> None:
        """Stops everything: the logs are the same, byte by byte."""
        for node in list(self.cluster.pids):
            assert self.cluster.stop(node) == 0
        logs = {damage.records_bytes(self.cluster, node, REPLICA) for node in self.nodes}
        assert len(logs) == 1

    def kill_all(self) -> None:
        for node in list(self.cluster.pids):
            self.cluster.kill(node)
