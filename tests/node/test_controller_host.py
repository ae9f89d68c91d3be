"""The controller over a real replica whose disk has no room."""

from __future__ import annotations

import pytest

from raftlog.controller.decisions import Founder
from raftlog.controller.image import Image
from raftlog.node.controller_host import ControllerHost
from raftlog.types import Endpoint
from tests.partition.harness import Cluster


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
