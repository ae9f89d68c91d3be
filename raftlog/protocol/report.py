"""What a node says of itself to its own HTTP address, and its processes to their supervisor, on one machine.

Names are those of the metrics without their prefix (raftlog/http/catalog.py), labels in the order that stands there.
"""

from __future__ import annotations

import msgspec

from raftlog.types import ReplicaStatus

Labels = tuple[str, ...]


class ThrottledClient(msgspec.Struct, frozen=True, kw_only=True):
    """A client that quotas have held back: how often, and for how long in all, since its node began.

    `door`: `native` or `kafka`.
    """

    door: str
    user: str
    client: str
    times: int = 0
    seconds: float = 0.0


class Count(msgspec.Struct, array_like=True):
    """Of what only grows, since the process that says so began. `began_s`: wall clock; filled in by the supervisor."""

    name: str
    labels: Labels
    value: float
    began_s: float = 0.0


class Level(msgspec.Struct, array_like=True):
    """Of what there is now."""

    name: str
    labels: Labels
    value: float


class Timing(msgspec.Struct, array_like=True):
    """A histogram: `counts` of each bucket alone (raftlog/histogram.py)."""

    name: str
    labels: Labels
    counts: list[int]
    sum_s: float
    began_s: float = 0.0


class Figures(msgspec.Struct, array_like=True):
    """All that one process counts."""

    counts: list[Count]
    levels: list[Level]
    timings: list[Timing]

    def throttled(self) -> list[ThrottledClient]:
        """Those that waited longest first."""
        times = {each.labels: int(each.value) for each in self.counts if each.name == "throttles"}
        found = [
            ThrottledClient(
                door=each.labels[0],
                user=each.labels[1],
                client=each.labels[2],
                times=times.get(each.labels, 0),
                seconds=round(each.value, 3),
            )
            for each in self.counts
            if each.name == "throttle_seconds"
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
    figures: Figures = msgspec.field(default_factory=lambda: Figures([], [], []))
