"""One real replica, or three with a network that delivers at once, on simulated disks."""

from __future__ import annotations

import random
from collections.abc import Hashable
from typing import Any

import msgspec

from raftlog.clock import ManualClock
from raftlog.partition.replica import Replica
from raftlog.partition.witness import Witness
from raftlog.protocol.envelope import Request
from raftlog.protocol.records import FetchRequest, ProduceRequest, ProduceResult
from raftlog.protocol.session import Session
from raftlog.record.batch import BatchBuilder
from raftlog.storage.fail_points import FailPoint, no_fail_point
from raftlog.storage.index import MemoryIndex
from raftlog.storage.log import PartitionLog
from raftlog.storage.simulated_disk import SimulatedDisk
from raftlog.storage.witness_log import WitnessLog
from raftlog.types import Doubt, Flush, ReplicaSpec, TopicConfig
from tests.requests import request_of, session_of

TOPIC_ID = b"sixteen-bytes-id"
PLACE: dict[str, Any] = {"topic_id": TOPIC_ID, "partition": 0}


def batch(*values: bytes) -> bytes:
    builder = BatchBuilder()
    for value in values:
        builder.append(1_700_000_000_000, None, value, [])
    return builder.build()


class Node:
    """A replica with its disk; what it answers is kept, what it sends goes to the cluster."""

    def __init__(
        self, cluster: Cluster, node_id: int, *, existed: Doubt = Doubt.NONE, is_witness: bool = False
    ) -> None:
        self.cluster = cluster
        self.node_id = node_id
        self.is_witness = is_witness
        self.disk = SimulatedDisk(cluster.clock.wall_ms)
        self.answers: list[tuple[Hashable, Any, Any]] = []
        self.start(existed)

    def start(self, existed: Doubt = Doubt.NONE) -> None:
        self.boot_id = self.cluster.rng.randrange(1, 2**60)
        if self.is_witness:
            self._start_witness(existed)
            return
        log = PartitionLog.open(
            disk=self.disk,
            directory="orders-0",
            topic_id=TOPIC_ID,
            config=self.cluster.spec.config,
            flush=Flush.ALWAYS,
            clock=self.cluster.clock,
            index=lambda path: MemoryIndex(),
            existed=existed,
            fail_point=self.cluster.fail_point,
        )
        self.log: Any = log
        self.replica: Any = Replica(
            node_id=self.node_id,
            boot_id=self.boot_id,
            spec=self.cluster.spec,
            log=log,
            clock=self.cluster.clock,
            rng=self.cluster.rng,
            outbox=self,
            fail_point=self.cluster.fail_point,
        )

    def _start_witness(self, existed: Doubt) -> None:
        self.log = WitnessLog.open(disk=self.disk, directory="orders-0", topic_id=TOPIC_ID, existed=existed)
        self.replica = Witness(
            node_id=self.node_id,
            boot_id=self.boot_id,
            spec=self.cluster.spec,
            log=self.log,
            clock=self.cluster.clock,
            rng=self.cluster.rng,
            outbox=self,
        )

    def send_raft(self, node_id: int, message: Any, payload: Any) -> None:
        self.cluster.queue.append((self.node_id, node_id, message, None if payload is None else bytes(payload)))

    def request(self, client: Hashable, request: Request[Any], payload: list[Any]) -> None:
        """As a door hands it in."""
        self.replica.on_request(msgspec.structs.replace(request, session=session_of(client), payload=payload))

    def answer(self, request: Request[Any], response: Any, payload: Any) -> None:
        self.answers.append((request.session.connection, response, payload))

    def answer_produces(self, session: Session, results: list[ProduceResult]) -> None:
        for result in results:
            self.answers.append((session.connection, result, None))

    def results(self) -> list[ProduceResult]:
        """All produce results so far, in order."""
        return [response for _, response, _ in self.answers if isinstance(response, ProduceResult)]


class Cluster:
    """The last `witnesses` of the `nodes` hold no records."""

    def __init__(
        self, nodes: int = 1, *, witnesses: int = 0, fail_point: FailPoint = no_fail_point, **config: int
    ) -> None:
        self.fail_point = fail_point
        self.clock = ManualClock()
        self.rng = random.Random(7)
        self.queue: list[tuple[int, int, Any, bytes | None]] = []
        self.away: set[int] = set()
        self.spec = ReplicaSpec(
            topic="orders",
            topic_id=TOPIC_ID,
            partition=0,
            replicas=tuple(range(1, nodes + 1 - witnesses)),
            witnesses=tuple(range(nodes + 1 - witnesses, nodes + 1)),
            config=TopicConfig(**config),
        )
        self.nodes = {
            node_id: Node(self, node_id, is_witness=node_id in self.spec.witnesses) for node_id in self.spec.voters
        }
        self._introduce()

    def _introduce(self) -> None:
        for node in self.nodes.values():
            for other in self.nodes.values():
                if other is not node:
                    node.replica.set_peer(other.node_id, other.boot_id)

    def join(self, node_id: int, *, is_witness: bool = False) -> Node:
        """A node that is no voter, with an empty directory, as the host of a learner starts one."""
        self.nodes[node_id] = Node(self, node_id, existed=Doubt.LOST_DISK, is_witness=is_witness)
        self._introduce()
        return self.nodes[node_id]

    def power_failure(self, rng: random.Random | None) -> None:
        """Of all nodes: what was not synced is gone, or with `rng` some of it is. All start again."""
        self.queue.clear()
        for node in self.nodes.values():
            node.disk.crash(rng)
            node.answers.clear()
            node.start()
        self._introduce()

    def restart(self, node: Node) -> None:
        """Its disk works again. What was on its way anywhere is lost."""
        node.disk.restart()
        node.start()
        for other in self.nodes.values():
            if other is not node:
                node.replica.set_peer(other.node_id, other.boot_id)
                other.replica.set_peer(node.node_id, node.boot_id)
        self.queue.clear()

    def _is_due(self) -> bool:
        """Some replica has left something over for a turn that comes at once."""
        now_s = self.clock.monotonic_s()
        present = [node for node in self.nodes.values() if node.node_id not in self.away]
        return any(node.replica.next_wakeup_s() <= now_s for node in present)

    def settle(self, seconds: float = 0.0) -> None:
        """Turns and deliveries until nothing moves, then the same after each step of time."""
        end_s = self.clock.monotonic_s() + seconds
        while True:
            for _ in range(50):
                for node in self.nodes.values():
                    if node.node_id not in self.away:
                        node.replica.turn()
                if not self.queue and not self._is_due():
                    break
                arriving, self.queue = self.queue, []
                for source, target, message, payload in arriving:
                    if source not in self.away and target not in self.away:
                        self.nodes[target].replica.on_raft(message, payload)
            if self.clock.monotonic_s() >= end_s:
                return
            self.clock.advance(0.05)

    def leader(self) -> Node:
        for _ in range(20):
            self.settle(0.5)
            for node in self.nodes.values():
                if node.node_id not in self.away and node.replica.leader_ready:
                    return node
        raise AssertionError("no leader")


def produce(correlation_id: int, acks: int = -1, timeout_ms: int = 1000, **place: Any) -> Request[ProduceRequest]:
    return request_of(ProduceRequest(acks, timeout_ms), correlation_id, **{**PLACE, **place})


def fetch(offset: int, *, partition: int = 0, topic_id: bytes = TOPIC_ID, **changes: Any) -> Request[FetchRequest]:
    body = FetchRequest(**{"offset": offset, "max_bytes": 1 << 20, "max_wait_ms": 0, **changes})
    return request_of(body, 9, topic_id=topic_id, partition=partition)
