"""A host with a controller over each replica of a simulated metadata log."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from raftlog.controller.controller import Controller
from raftlog.controller.decisions import Founder
from raftlog.controller.image import Image
from raftlog.machine.host import Host
from raftlog.types import Endpoint
from tests.partition.harness import Cluster, Node


def controller_host(
    cluster: Cluster,
    node: Node,
    *,
    answer: Callable[[Any, Any], None],
    publish: Callable[[Image], None],
    live: Callable[[], frozenset[int]],
) -> Host:
    controller = Controller(
        node_id=node.node_id,
        founders=[Founder(1, "directory", Endpoint("127.0.0.1", 7071))],
        mint_id=lambda: uuid.uuid4().bytes,
        mint_cluster_id=lambda: uuid.uuid4().hex,
        live=live,
        publish=publish,
        now_s=cluster.clock.monotonic_s(),
    )
    return Host(replica=node.replica, machine=controller, clock=cluster.clock, answer=answer)


class Hosts:
    """`images` holds what each host has published last. `living`: the founder, if a test does not say otherwise."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.images: dict[int, Image] = {}
        self.hosts: dict[int, Host] = {}
        self.living = frozenset({1})
        self.start()

    def start(self) -> None:
        """New hosts, which know nothing."""
        self.images.clear()
        self.hosts = {node.node_id: self._host(node) for node in self.cluster.nodes.values()}
        self.run(until=self.agree)

    def _host(self, node: Node) -> Host:
        def publish(image: Image) -> None:
            self.images[node.node_id] = image

        return controller_host(self.cluster, node, answer=self.answered, publish=publish, live=lambda: self.living)

    def leader(self) -> int:
        """One whose controller is loaded."""
        node_id = self.cluster.leader().node_id
        self.run(until=lambda: self.hosts[node_id].leads)
        return node_id

    def answered(self, request: Any, response: Any) -> None:
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
