"""A controller host over each replica of a simulated metadata log."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from raftlog.controller.decisions import Founder
from raftlog.controller.image import Image
from raftlog.node.controller_host import ControllerHost
from raftlog.types import Endpoint
from tests.partition.harness import Cluster, Node


class Hosts:
    """`images` holds what each host has published last."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.images: dict[int, Image] = {}
        self.hosts: dict[int, ControllerHost] = {}
        self.start()

    def start(self) -> None:
        """New hosts, which know nothing."""
        self.images.clear()
        self.hosts = {node.node_id: self._host(node) for node in self.cluster.nodes.values()}
        self.run(until=self.agree)

    def _host(self, node: Node) -> ControllerHost:
        def publish(image: Image) -> None:
            self.images[node.node_id] = image

        host = ControllerHost(
            replica=node.replica,
            founders=[Founder(1, "directory", Endpoint("127.0.0.1", 7071))],
            clock=self.cluster.clock,
            answer=self.answered,
            publish=publish,
        )
        host.live = frozenset({1})  # the founder
        return host

    def answered(self, client: Hashable, response: Any) -> None:
        """For those who want to know."""

    def agree(self) -> bool:
        """Every image holds all of the log, and the cluster is founded."""
        ends = {node.log.log_end_offset for node in self.cluster.nodes.values()}
        images = self.images.values()
        founded = len(images) == len(self.hosts) and all(image.cluster_id for image in images)
        return founded and {image.end_offset for image in images} == ends

    def run(self, until: Callable[[], bool]) -> None:
        for _ in range(400):
            if until():
                return
            for host in self.hosts.values():
                host.after_turn()
            self.cluster.settle(0.05)
        raise AssertionError("did not happen in time")
