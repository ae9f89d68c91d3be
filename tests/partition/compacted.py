"""Clusters of the harness whose topic is compacted, and what is written to them."""

from __future__ import annotations

from typing import Any

from raftlog.record.batch import BatchBuilder, split
from raftlog.record.compacted import is_filler
from raftlog.types import CleanupPolicy
from tests.partition.harness import Cluster, Node, produce


def keyed(key: bytes, value: bytes | None) -> bytes:
    builder = BatchBuilder()
    builder.append(1_700_000_000_000, key, value, [])
    return builder.build()


def compacted_cluster(nodes: int = 3, **config: Any) -> Cluster:
    return Cluster(nodes, **{"cleanup_policy": CleanupPolicy.COMPACT, "segment_bytes": 1024, **config})


def write(cluster: Cluster, records: list[tuple[bytes, bytes | None]]) -> None:
    leader = cluster.leader()
    for number, (key, value) in enumerate(records):
        leader.request("c", produce(number), [keyed(key, value)])
        if number % 5 == 4:
            cluster.settle()
    cluster.settle(0.1)
    assert all(result.error_code == 0 for result in leader.results())


def fillers(node: Node) -> int:
    data = node.log.read(0, 1 << 20, node.log.log_end_offset)
    return sum(is_filler(header) for _, header in split(data))


def rounds(count: int, keys: int = 5) -> list[tuple[bytes, bytes | None]]:
    return [(b"k%d" % (number % keys), b"%d" % number + bytes(60)) for number in range(count)]
