"""What a node says of itself to its own HTTP address, and its processes to their supervisor, on one machine.

Names are those of the metrics without their prefix (raftlog/http/catalog.py), labels in the order that stands there.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from raftlog.types import ReplicaStatus

Series = tuple[str, ...]  # a name, then its labels


class ThrottledClient(msgspec.Struct, frozen=True, kw_only=True):
    """A client that quotas have held back: how often, and for how long in all, since its node began.

    `door`: `native` or `kafka`.
    """

    door: str
    user: str
    client: str
    times: int = 0
    seconds: float = 0.0


class Timing(NamedTuple):
    """A histogram: `counts` of each bucket alone (raftlog/histogram.py)."""

    counts: list[int]
    sum_s: float


class PartitionFigures(msgspec.Struct, array_like=True, kw_only=True):
    """What the replica of one partition counts, since `began_s`; that is filled in by the supervisor.

    `elected_ms`, `index_map_bytes`, `index_used_bytes`: how it is now; 0: not known.
    """

    topic: str
    partition: int
    elections: int = 0
    produced_bytes: int = 0
    fetched_bytes: int = 0
    elected_ms: int = 0
    index_map_bytes: int = 0
    index_used_bytes: int = 0
    began_s: float = 0.0


class Figures(msgspec.Struct, array_like=True):
    """All that one process counts, or a node.

    `counts` and `timings` are of what only grows, since `began_s` by the wall clock, which is filled in by the
    supervisor; `levels` are of what there is now. `partitions`: one of a worker, all of a node.
    """

    counts: dict[Series, float] = {}
    levels: dict[Series, float] = {}
    timings: dict[Series, Timing] = {}
    partitions: list[PartitionFigures] = []
    began_s: float = 0.0

    def count(self, value: float, *series: str) -> None:
        """Added to what other parts of the process have counted of the same."""
        self.counts[series] = self.counts.get(series, 0) + value

    def throttled(self) -> list[ThrottledClient]:
        """Those that waited longest first."""
        found = [
            ThrottledClient(
                door=series[1],
                user=series[2],
                client=series[3],
                times=int(self.counts.get(("throttles", *series[1:]), 0)),
                seconds=round(seconds, 3),
            )
            for series, seconds in self.counts.items()
            if series[0] == "throttle_seconds"
        ]
        return sorted(found, key=lambda client: -client.seconds)


class NodeReport(msgspec.Struct, array_like=True, kw_only=True):
    """How a node is, for its metrics and for those who ask.

    `obstacles`: why the node is not in step with the metadata, or has not started all that it hosts.

    `sizes`: how many replicas keep the records of the partition of each of `replicas`. `lags`: how many records each of
    them is behind its leader, as far as the supervisors have told each other; -1: not known. `processes`: the process
    ids of the node, by what they are.
    """

    node_id: int
    cluster_id: str
    obstacles: list[str]
    replicas: list[ReplicaStatus]
    sizes: list[int] = []
    lags: list[int] = []
    nodes_alive: int = 0
    nodes_known: int = 0
    processes: dict[str, list[int]] = {}
    figures: Figures = msgspec.field(default_factory=Figures)
