"""A topic of a real cluster, and who leads it."""

from __future__ import annotations

import time
import uuid

from raftlog import Admin, NewTopic
from tests.patience import WAIT_S

PARTITIONS = 3


def new_topic(admin: Admin, partitions: int = PARTITIONS) -> str:
    name = f"client-{uuid.uuid4().hex[:8]}"
    admin.create_topics([NewTopic(name=name, partitions=partitions, replication_factor=3)])
    return name


def leader_of(admin: Admin, topic: str, partition: int = 0) -> tuple[int, int]:
    """(node id, process of the worker), waited for."""
    deadline_s = time.monotonic() + WAIT_S
    while time.monotonic() < deadline_s:
        (found,) = admin.describe_topics([topic])
        leader = found.partitions[partition].leader_id
        for replica in admin.describe_replicas([topic]):
            if (replica.partition, replica.node_id) == (partition, leader) and replica.worker_pid:
                return leader, replica.worker_pid
        time.sleep(0.05)
    raise AssertionError(f"{topic}-{partition} has no leader")
