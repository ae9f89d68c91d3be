"""The smallest state machine that can lie: names, each given once. Over real replicas on simulated disks."""

from __future__ import annotations

import random
from typing import Any, NamedTuple

from raftlog.errors import ErrorCode
from raftlog.machine.host import Host
from raftlog.machine.result import Now, Outbox
from raftlog.protocol import apis
from raftlog.protocol.envelope import NO_TOPIC, Request
from raftlog.types import ReplicaSpec
from tests.partition.harness import Cluster, Node
from tests.requests import session_of


class Give(NamedTuple):
    """Asks for a name."""

    name: bytes


def ask_for(name: bytes) -> Request[Give]:
    return Request(session_of("client"), apis.TOPIC_IDS, 1, NO_TOPIC, -1, Give(name))


class Given(NamedTuple):
    """`code` NONE: the name is in the log. TOPIC_ALREADY_EXISTS: somebody had it before."""

    name: bytes
    code: ErrorCode


class Names:
    """A state machine for the host: as real ones it applies, decides on what is applied, and denies."""

    pipelines = True
    next_deadline_s = float("inf")

    def __init__(self) -> None:
        self.outbox = Outbox()
        self.given: set[bytes] = set()
        self.loads = 0

    def apply(self, _offset: int, key: bytes | None, _value: bytes | None) -> None:
        assert key is not None and key not in self.given, "a record is applied once"
        self.given.add(key)

    def applied_all(self) -> int:
        return 0

    def clear(self) -> None:
        self.given.clear()

    def tick(self, now: Now) -> None:
        pass

    def load(self, _now: Now) -> None:
        self.loads += 1
        self._pending: set[bytes] = set()

    def unload(self, now: Now) -> None:
        pass

    def on_request(self, caller: Request[Give], _now: Now) -> None:
        name = caller.body.name
        if name in self.given or name in self._pending:
            self.outbox.answer(caller, self._said(name, ErrorCode.TOPIC_ALREADY_EXISTS))
            return
        self._pending.add(name)
        response = self._said(name, ErrorCode.NONE)
        self.outbox.propose([(name, b"given")], caller=caller, response=response)

    @staticmethod
    def _said(name: bytes, code: ErrorCode) -> Any:
        return Given(name, code)

    def misdirected(self, _request: Any, _spec: ReplicaSpec) -> ErrorCode:
        return ErrorCode.NONE

    def refusal(self, request: Request[Give], code: ErrorCode) -> Any:
        return self._said(request.body.name, code)

    def is_statement(self, response: Any) -> bool:
        return bool(response.code is ErrorCode.TOPIC_ALREADY_EXISTS)


class Crash(Exception):
    """The process stops at the armed fail point."""


class World:
    """A host with `Names` over each replica. `told`: the names that somebody was told are given."""

    def __init__(self, nodes: int, seed: int) -> None:
        self.rng = random.Random(seed)
        self.armed = ""
        self.skip = 0
        self.hits = 0
        self.told: set[bytes] = set()
        self.answers: list[Given] = []
        self.cluster = Cluster(nodes, fail_point=self._fail_point)
        self.start()

    def start(self) -> None:
        self.machines = {node_id: Names() for node_id in self.cluster.nodes}
        self.hosts = {node_id: self._host(node) for node_id, node in self.cluster.nodes.items()}

    def _host(self, node: Node) -> Host:
        def answer(_request: Any, response: Any) -> None:
            self.answers.append(response)
            if response.code is ErrorCode.NONE:
                assert response.name in self.machines[node.node_id].given, "told before it was applied"
                self.told.add(response.name)

        return Host(
            replica=node.replica,
            machine=self.machines[node.node_id],
            clock=self.cluster.clock,
            answer=answer,
            fail_point=self._fail_point,
        )

    def _fail_point(self, name: str) -> None:
        if name != self.armed:
            return
        if self.skip:
            self.skip -= 1
            return
        self.armed = ""
        self.hits += 1
        raise Crash(name)

    def turns(self, seconds: float = 0.05) -> None:
        self.cluster.settle(seconds)
        for node_id, host in self.hosts.items():
            if node_id not in self.cluster.away:
                host.after_turn()

    def leader(self) -> int:
        for _ in range(100):
            node_id = self.cluster.leader().node_id
            self.turns()
            if self.machines[node_id].loads:
                return node_id
        raise AssertionError("nobody was loaded")

    def lose_power(self) -> None:
        self.cluster.power_failure(self.rng)
        self.start()
