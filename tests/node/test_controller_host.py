"""The controller over real replicas: a disk without room, and a log whose head its snapshots let go."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from raftlog.controller import controller
from raftlog.controller.decisions import Founder
from raftlog.controller.image import Image, encode_image
from raftlog.node.controller_host import ControllerHost
from raftlog.protocol.nodes import RegisterNodeRequest
from raftlog.types import Endpoint
from tests.partition.harness import Cluster, Node


@pytest.mark.timeout(20)
def test_a_cluster_that_cannot_be_founded_for_want_of_room_is_founded_once_there_is_some() -> None:
    """What is refused at once must not be proposed again in the same turn, for ever."""
    cluster = Cluster(1)
    node = cluster.leader()
    images: list[Image] = []
    host = ControllerHost(
        replica=node.replica,
        founders=[Founder(1, "directory", Endpoint("127.0.0.1", 7071))],
        clock=cluster.clock,
        answer=lambda client, response: None,
        publish=images.append,
    )
    node.disk.full = True
    for _ in range(5):
        host.after_turn()
        cluster.settle(0.1)
    assert images == []
    node.disk.full = False
    for _ in range(30):
        host.after_turn()
        cluster.settle(0.1)
    assert images[-1].cluster_id


class Hosts:
    """A controller host over each replica of a cluster of three."""

    def __init__(self) -> None:
        self.cluster = Cluster(3, retention_ms=-1, segment_bytes=1024)
        self.images: dict[int, Image] = {}
        self.hosts = {node.node_id: self.start(node) for node in self.cluster.nodes.values()}
        self.run(until=lambda: len(self.images) == 3)

    def start(self, node: Node) -> ControllerHost:
        def publish(image: Image) -> None:
            self.images[node.node_id] = image

        return ControllerHost(
            replica=node.replica,
            founders=[Founder(1, "directory", Endpoint("127.0.0.1", 7071))],
            clock=self.cluster.clock,
            answer=lambda client, response: None,
            publish=publish,
        )

    def run(self, until: Callable[[], bool]) -> None:
        for _ in range(200):
            if until():
                return
            for host in self.hosts.values():
                host.after_turn()
            self.cluster.settle(0.05)
        raise AssertionError("did not happen in time")

    def agree(self) -> bool:
        """Every image holds all of the log."""
        ends = {node.log.log_end_offset for node in self.cluster.nodes.values()}
        return {image.end_offset for image in self.images.values()} == ends

    def register(self, times: int) -> None:
        leader = self.cluster.leader()
        for number in range(times):
            image = self.images[leader.node_id]
            request = RegisterNodeRequest(
                correlation_id=1,
                node_id=2,
                cluster_id=image.cluster_id,
                directory_id="other",
                endpoint=Endpoint("127.0.0.1", 8000 + number),
            )
            self.hosts[leader.node_id].on_request("client", request)
            self.run(until=lambda before=image: self.images[leader.node_id].end_offset > before.end_offset)  # type: ignore[misc]


def test_a_log_lets_go_what_its_snapshot_holds_and_every_replica_starts_from_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(controller, "METADATA_SNAPSHOT_RECORDS", 20)
    hosts = Hosts()
    hosts.register(70)
    hosts.run(until=hosts.agree)
    image = hosts.images[1]
    assert image.snapshot_offset >= 60
    starts = {node.node_id: node.log for node in hosts.cluster.nodes.values()}
    hosts.run(until=lambda: all(log.log_start_offset == image.snapshot_offset for log in starts.values()))
    assert all(log.segment_count < 10 for log in starts.values())
    for node in hosts.cluster.nodes.values():
        hosts.hosts[node.node_id] = hosts.start(node)
        hosts.images.pop(node.node_id)
    hosts.run(until=lambda: len(hosts.images) == 3)
    assert set(map(encode_image, hosts.images.values())) == {encode_image(image)}
    assert image.nodes[2].endpoint.port == 8069 and image.nodes[2].registered_offset < image.snapshot_offset


def test_a_replica_that_was_away_while_the_head_went_has_the_same_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controller, "METADATA_SNAPSHOT_RECORDS", 20)
    hosts = Hosts()
    leader = hosts.cluster.leader()
    away = next(node for node in hosts.cluster.nodes.values() if node is not leader)
    hosts.cluster.away = {away.node_id}
    hosts.register(70)
    hosts.cluster.away = set()
    hosts.run(until=hosts.agree)
    assert away.log.log_start_offset == hosts.images[away.node_id].snapshot_offset >= 60
