"""Clients that quotas have held back, as this node has counted them. Pure."""

from __future__ import annotations

import msgspec

from raftlog.protocol.report import NodeReport


class ThrottledClient(msgspec.Struct, frozen=True, kw_only=True):
    """A client that a quota has held back.

    `door`: `native` or `kafka`. Since the node began: how often it was held back, and for how long in all.
    """

    door: str
    user: str
    client: str
    times: int = 0
    seconds: float = 0.0


class ThrottledClients(msgspec.Struct, frozen=True, kw_only=True):
    node: int
    throttled: list[ThrottledClient]


def throttled_clients(report: NodeReport) -> ThrottledClients:
    """Those that waited longest first."""
    times = {each.labels: int(each.value) for each in report.figures.counts if each.name == "throttles"}
    found = [
        ThrottledClient(
            door=each.labels[0],
            user=each.labels[1],
            client=each.labels[2],
            times=times.get(each.labels, 0),
            seconds=round(each.value, 3),
        )
        for each in report.figures.counts
        if each.name == "throttle_seconds"
    ]
    return ThrottledClients(node=report.node_id, throttled=sorted(found, key=lambda client: -client.seconds))
