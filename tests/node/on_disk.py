"""A node's log as it lies on the disk. The node must not run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from raftlog.clock import SystemClock
from raftlog.node.local import LocalCluster
from raftlog.storage.disk import OsDisk
from raftlog.storage.lmdb_index import LmdbIndex
from raftlog.storage.log import PartitionLog
from raftlog.types import Flush, TopicConfig, TopicPartition


@contextmanager
def log_on_disk(cluster: LocalCluster, node_id: int, place: TopicPartition, topic_id: bytes) -> Iterator[PartitionLog]:
    """With the node's own index: whatever was done to it has to lead to the records."""
    log = PartitionLog.open(
        disk=OsDisk(),
        directory=str(cluster.directory / str(node_id) / f"{place}"),
        topic_id=topic_id,
        config=TopicConfig(),
        flush=Flush.ALWAYS,
        clock=SystemClock(),
        index=LmdbIndex,
    )
    try:
        yield log
    finally:
        log.close()
