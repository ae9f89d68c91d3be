"""Idle partitions of real nodes fall asleep, and wake for a client, a killed node and a leader that hangs."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest

from raftlog import Admin, NewTopic, Producer
from raftlog.limits import SLEEPER_WORD_S
from raftlog.node.local import LocalCluster
from raftlog.types import ReplicaStatus, Role
from tests.conftest import ClusterFactory
from tests.node import asking
from tests.patience import WAIT_S

PARTITIONS = 3


@pytest.fixture
def sleeping(fresh_cluster: ClusterFactory) -> Iterator[LocalCluster]:
    """Three nodes whose partitions have a record each, and sleep."""
    cluster = fresh_cluster()
    with Admin(cluster.bootstrap) as admin:
        admin.create_topics([NewTopic(name="orders", partitions=PARTITIONS, replication_factor=3)])
    with Producer(cluster.bootstrap) as producer:
        for partition in range(PARTITIONS):
            producer.send("orders", b"one", partition=partition).result(WAIT_S)
    asking.until(lambda: _all_asleep(cluster))
    yield cluster


def _all_asleep(cluster: LocalCluster, seen_by: int = 3) -> bool:
    statuses = asking.statuses(cluster.endpoints[seen_by], "orders")
    return len(statuses) == 3 * PARTITIONS and all(status.asleep for status in statuses)


def _leader(cluster: LocalCluster, partition: int, seen_by: int, but: int = 0) -> ReplicaStatus | None:
    for status in asking.statuses(cluster.endpoints[seen_by], "orders"):
        if status.partition == partition and status.role == Role.LEADER and status.node_id not in (but, -1):
            return status
    return None


def _cpu_ns(pid: int) -> int:
    with open(f"/proc/{pid}/schedstat") as file:
        return int(file.read().split()[0])


def test_sleepers_take_hardly_any_time_of_a_core_and_wake_for_a_record(sleeping: LocalCluster) -> None:
    pids = [status.worker_pid for status in asking.statuses(sleeping.endpoints[3], "orders")]
    before, began_s = {pid: _cpu_ns(pid) for pid in pids}, time.monotonic()
    time.sleep(5.0)  # what is measured is that nothing happens
    seconds = time.monotonic() - began_s
    mean = sum(_cpu_ns(pid) - before[pid] for pid in pids) / len(pids) / 1e9 / seconds
    assert mean < 0.001, f"{mean:.4%} of a core each"
    epochs = {s.partition: s.leader_epoch for s in asking.statuses(sleeping.endpoints[3], "orders")}
    with Producer(sleeping.bootstrap) as producer:
        for partition in range(PARTITIONS):
            assert producer.send("orders", b"two", partition=partition).result(WAIT_S).offset == 1
    statuses = asking.statuses(sleeping.endpoints[3], "orders")
    assert {s.partition: s.leader_epoch for s in statuses} == epochs
    assert all(len(s.in_sync) == 3 for s in statuses if s.role == Role.LEADER)
    asking.until(lambda: _all_asleep(sleeping))


def test_sleeping_partitions_of_a_killed_node_are_led_again_though_nobody_asks(sleeping: LocalCluster) -> None:
    led = [s.partition for s in asking.statuses(sleeping.endpoints[3], "orders") if s.role == Role.LEADER]
    assert sorted(led) == list(range(PARTITIONS))
    sleeping.kill(1)
    for partition in range(PARTITIONS):
        asking.until(lambda n=partition: _leader(sleeping, n, seen_by=3, but=1))


def test_sleeping_leaders_that_hang_are_replaced_soon_where_a_client_asks_and_later_where_nobody_does(
    sleeping: LocalCluster,
) -> None:
    hung = [asking.until(lambda n=partition: _leader(sleeping, n, seen_by=3)) for partition in (0, 1)]
    seen_by = 3 if hung[0].node_id != 3 else 2
    for leader in hung:
        os.kill(leader.worker_pid, signal.SIGSTOP)
    try:
        began_s = time.monotonic()
        with Producer(sleeping.bootstrap) as producer:
            producer.send("orders", b"two", partition=0).result(WAIT_S)
        assert time.monotonic() - began_s < SLEEPER_WORD_S, "only the supervisor noticed"
        for leader in hung:
            asking.until(lambda gone=leader: _leader(sleeping, gone.partition, seen_by, but=gone.node_id))
    finally:
        for leader in hung:
            os.kill(leader.worker_pid, signal.SIGCONT)
