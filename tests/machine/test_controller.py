"""The controller over real replicas: a disk without room, and a log whose head its snapshots let go."""

from __future__ import annotations

from typing import Any

import pytest

from raftlog.controller import controller
from raftlog.controller.image import Image, encode_image
from raftlog.errors import ErrorCode
from raftlog.limits import NODE_SILENT_S
from raftlog.protocol.nodes import FEATURES, RegisterNodeRequest
from raftlog.protocol.topics import (
    CreatePartitionsRequest,
    CreateTopicsRequest,
    DeleteTopicsRequest,
    NewTopic,
    TopicIdsRequest,
)
from raftlog.types import Endpoint
from tests.machine.controller_hosts import Hosts, controller_host
from tests.partition.harness import Cluster
from tests.requests import request_of


@pytest.mark.timeout(20)
def test_a_cluster_that_cannot_be_founded_for_want_of_room_is_founded_once_there_is_some() -> None:
    """What is refused at once must not be proposed again in the same turn, for ever."""
    cluster = Cluster(1)
    node = cluster.leader()
    images: list[Image] = []
    host = controller_host(
        cluster, node, answer=lambda client, response: None, publish=images.append, live=lambda: frozenset({1})
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


class Answered(Hosts):
    def __init__(self) -> None:
        self.answers: list[Any] = []
        super().__init__(Cluster(3))
        for _ in range(int(NODE_SILENT_S / 0.5)):  # until then a controller does not know who lives
            self.cluster.settle(0.5)
            for host in self.hosts.values():
                host.after_turn()

    def answered(self, request: Any, response: Any) -> None:
        self.answers.append(response)

    def replaced(self) -> tuple[int, int]:
        """(a leader that does not know that it is none, its successor)"""
        old = self.cluster.leader().node_id
        self.cluster.away = {old}
        new = self.cluster.leader().node_id
        self.run_only(new)
        return old, new

    def run_only(self, node_id: int) -> None:
        for _ in range(10):
            self.hosts[node_id].after_turn()
            self.cluster.settle(0.05)


REQUESTS = [
    DeleteTopicsRequest(mutation_id=b"d" * 16, since_offset=0, topics=[("made-since", b"")]),
    CreatePartitionsRequest(mutation_id=b"p" * 16, since_offset=0, name="made-since", topic_id=b"", partitions=3),
    CreateTopicsRequest(mutation_id=b"c" * 16, since_offset=0, topics=[NewTopic(name="a b", partitions=1)]),
    TopicIdsRequest(names=["made-since"]),
]


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda request: type(request).__name__)
def test_a_controller_that_was_replaced_without_knowing_denies_nothing(request_: Any) -> None:
    hosts = Answered()
    old, new = hosts.replaced()
    made = CreateTopicsRequest(
        mutation_id=b"m" * 16, since_offset=0, topics=[NewTopic(name="made-since", partitions=1)]
    )
    hosts.hosts[new].on_request(request_of(made))
    hosts.run_only(new)
    assert [answer.results[0].error_code for answer in hosts.answers] == [ErrorCode.NONE]
    hosts.answers.clear()
    hosts.hosts[old].on_request(request_of(request_))
    hosts.hosts[old].after_turn()
    assert hosts.answers == []
    hosts.cluster.away = set()
    for _ in range(20):
        for host in hosts.hosts.values():
            host.after_turn()
        hosts.cluster.settle(0.05)
    assert [answer.error_code for answer in hosts.answers] == [ErrorCode.NOT_CONTROLLER]


def test_a_controller_denies_once_a_majority_has_answered() -> None:
    hosts = Answered()
    leader = hosts.cluster.leader()
    hosts.hosts[leader.node_id].on_request(request_of(REQUESTS[0]))
    hosts.hosts[leader.node_id].after_turn()
    assert hosts.answers == []
    assert leader.replica.next_wakeup_s() <= hosts.cluster.clock.monotonic_s(), "the heartbeats leave at once"
    hosts.cluster.settle()
    assert [answer.results[0].error_code for answer in hosts.answers] == [ErrorCode.UNKNOWN_TOPIC_OR_PARTITION]


class Registered(Hosts):
    """One node registers again and again, each time at another port."""

    def register(self, times: int) -> None:
        leader = self.leader()
        for number in range(times):
            image = self.images[leader]
            request = RegisterNodeRequest(
                features=FEATURES,
                node_id=2,
                cluster_id=image.cluster_id,
                directory_id="other",
                endpoint=Endpoint("127.0.0.1", 8000 + number),
            )
            self.hosts[leader].on_request(request_of(request))
            self.run(until=lambda before=image: self.images[leader].end_offset > before.end_offset)  # type: ignore[misc]


def test_after_a_start_and_after_a_standstill_nobody_is_taken_for_dead_at_once() -> None:
    hosts = Registered(Cluster(1))
    hosts.register(1)
    answers: list[Any] = []
    hosts.answered = lambda client, response: answers.append(response)  # type: ignore[method-assign]
    hosts.start()
    host = hosts.hosts[1]

    def create(name: str) -> Any:
        answers.clear()
        request = CreateTopicsRequest(mutation_id=name.encode() * 16, since_offset=0, topics=[NewTopic(name=name)])
        host.on_request(request_of(request))
        hosts.run(until=lambda: bool(answers))
        return answers[0]

    def listen() -> None:
        for _ in range(int(NODE_SILENT_S / 0.05) + 1):
            host.after_turn()
            hosts.cluster.settle(0.05)

    assert create("a").error_code == ErrorCode.LEADER_NOT_AVAILABLE
    listen()
    assert [result.replication_factor for result in create("b").results] == [1]
    hosts.cluster.clock.advance(NODE_SILENT_S)
    assert create("c").error_code == ErrorCode.LEADER_NOT_AVAILABLE
    hosts.living = frozenset({1, 2})
    assert [result.replication_factor for result in create("d").results] == [2]


def test_a_log_lets_go_what_its_snapshot_holds_and_every_replica_starts_from_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(controller, "METADATA_SNAPSHOT_RECORDS", 20)
    hosts = Registered(Cluster(3, retention_ms=-1, segment_bytes=1024))
    hosts.register(70)
    hosts.run(until=hosts.agree)
    image = hosts.images[1]
    assert image.snapshot_offset >= 60
    starts = {node.node_id: node.log for node in hosts.cluster.nodes.values()}
    hosts.run(until=lambda: all(log.state.log_start_offset == image.snapshot_offset for log in starts.values()))
    assert all(log.segment_count < 10 for log in starts.values())
    hosts.start()
    assert set(map(encode_image, hosts.images.values())) == {encode_image(image)}
    assert image.nodes[2].endpoint.port == 8069 and image.nodes[2].registered_offset < image.snapshot_offset


def test_a_replica_that_was_away_while_the_head_went_has_the_same_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controller, "METADATA_SNAPSHOT_RECORDS", 20)
    hosts = Registered(Cluster(3, retention_ms=-1, segment_bytes=1024))
    leader = hosts.cluster.leader()
    away = next(node for node in hosts.cluster.nodes.values() if node is not leader)
    hosts.cluster.away = {away.node_id}
    hosts.register(70)
    hosts.cluster.away = set()
    hosts.run(until=hosts.agree)
    assert away.log.state.log_start_offset == hosts.images[away.node_id].snapshot_offset >= 60
