"""What a partition's nodes hold, and a consumer that reads along: for tests in which records go."""

from __future__ import annotations

import contextlib
import fnmatch
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from raftlog import Consumer, ConsumerRecord, TopicPartition
from raftlog.errors import RaftlogError
from raftlog.node.local import LocalCluster
from raftlog.types import ReplicaStatus
from tests.node import asking
from tests.patience import WAIT_S


def statuses(cluster: LocalCluster, place: TopicPartition) -> list[ReplicaStatus]:
    """Of those nodes that run, as any of them sees it."""
    endpoint = cluster.endpoints[min(cluster.pids)]
    return [s for s in asking.statuses(endpoint, place.topic) if s.partition == place.partition and s.worker_pid]


def leader_of(cluster: LocalCluster, place: TopicPartition) -> int:
    return asking.until(lambda: next((s.node_id for s in statuses(cluster, place) if s.in_sync), 0))


def is_equal(cluster: LocalCluster, place: TopicPartition) -> bool:
    """Every replica holds all that the leader has now. Statuses alone may all be from before the last record."""
    with Consumer(bootstrap_servers=cluster.bootstrap) as consumer:
        end = consumer.end_offsets([place])[place]
    found = statuses(cluster, place)
    starts = {s.log_start_offset for s in found}
    ends = {s.high_watermark for s in found} | {s.log_end_offset for s in found}
    whole = len(found) == len(cluster.endpoints) and not any(s.doubt for s in found)
    return whole and len(starts) == 1 and ends == {end}


def bytes_of(cluster: LocalCluster, node_id: int, place: TopicPartition) -> int:
    """Of segments; 0 when the directory is gone."""
    return directory_bytes(cluster.directory / str(node_id) / f"{place}", "*.log")


def directory_bytes(directory: Path, pattern: str = "*") -> int:
    """Of the files whose names match, the index not counted. A node that runs may delete any of them meanwhile."""
    total = 0
    for parent, _, names in os.walk(directory):  # passes over a directory that is gone; Path.glob raises
        if parent.endswith("index.lmdb"):
            continue
        for name in fnmatch.filter(names, pattern):
            with contextlib.suppress(FileNotFoundError):
                total += os.path.getsize(os.path.join(parent, name))
    return total


class Reading(threading.Thread):
    """Consumes from the beginning on; what it was given is judged when it is stopped."""

    def __init__(self, bootstrap: str, place: TopicPartition) -> None:
        super().__init__(daemon=True)
        self.records: list[ConsumerRecord] = []
        self.failure: RaftlogError | None = None
        self._address = bootstrap
        self._place = place
        self._stopping = threading.Event()
        self.start()

    def run(self) -> None:
        try:
            with Consumer(self._place.topic, bootstrap_servers=self._address, auto_offset_reset="earliest") as consumer:
                while not self._stopping.is_set():
                    for records in consumer.poll(timeout_ms=200).values():
                        self.records += records
        except RaftlogError as error:
            self.failure = error

    def stop(self) -> None:
        self._stopping.set()
        self.join(WAIT_S)
        assert self.failure is None, self.failure


@contextlib.contextmanager
def reading(bootstrap: str, place: TopicPartition) -> Iterator[Reading]:
    reader = Reading(bootstrap, place)
    try:
        yield reader
    finally:
        reader.stop()
