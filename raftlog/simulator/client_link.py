"""A client of the simulator that is the product's code: its parts are stepped as the client's thread steps them.

Its links break when machines die. Metadata comes from any node, and a node says what its supervisor has heard: of the
own worker the truth as that believes it, hung and deposed or not, of the others what reached it over the network.
"""

from __future__ import annotations

import random
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from raftlog.client.core.exchange import Exchange
from raftlog.client.core.metadata import MetadataCache
from raftlog.client.core.metadata_refresh import Refresher
from raftlog.clock import NEVER_S
from raftlog.errors import ErrorCode
from raftlog.protocol import apis
from raftlog.protocol.apis import Api
from raftlog.protocol.body import ResponseBody
from raftlog.protocol.cluster import (
    MetadataResponse,
    NodeMetadata,
    PartitionMetadata,
    TopicMetadata,
)
from raftlog.protocol.envelope import Request, encode_response, read_request
from raftlog.protocol.session import Session
from raftlog.types import Endpoint

if TYPE_CHECKING:
    from raftlog.simulator.world import World

_LOST_S = 0.05  # so often it looks whether a machine that it is connected to has died


class Part(Protocol):
    def step(self, now_s: float) -> float: ...


class LinkedClient:
    """Is its own Wire: `Endpoint("node", n)` is node n, supervisor and worker in one."""

    def __init__(self, name: str, world: World, rng: random.Random) -> None:
        self.name = name
        self.stopped = False
        self._world = world
        self._events = world.events
        self._rng = rng
        self._boots: dict[Endpoint, int] = {}
        self._asked: dict[int, Endpoint] = {}
        self._due_s = NEVER_S
        self._cache = MetadataCache()
        self._exchange = Exchange(self, name)
        self._session = Session(name)
        nodes = [Endpoint("node", node_id) for node_id in world.node_ids]
        self._refresher = Refresher(self._exchange, self._cache, nodes, frozenset({world.spec.topic}), rng)
        self._parts: tuple[Part, ...] = ()
        self._events.after(_LOST_S, self._look)

    @property
    def closed(self) -> bool:
        return not self._parts

    def close(self) -> None:
        """As when its process ends: whatever is under way is answered to nobody."""
        self.stopped = True
        self._parts = ()

    def _stepped(self) -> None:
        """After each step and each loss: what the user's thread finds then."""

    # --- time ------------------------------------------------------------------------------------
    def _wake(self, delay_s: float = 0.0) -> None:
        due_s = self._events.now_s + delay_s
        if due_s < self._due_s and not self.closed:
            self._due_s = due_s
            self._events.at(due_s, partial(self._step, due_s))

    def _step(self, due_s: float) -> None:
        if due_s != self._due_s or self.closed:
            return
        self._due_s = NEVER_S
        now_s = self._events.now_s
        if silent := self._exchange.expire(now_s):
            self._refresher.want(silent)
        next_s = min([part.step(now_s) for part in self._parts] + [self._exchange.next_wakeup_s()])
        self._stepped()
        self._wake(min(max(next_s - now_s, 0.001), 1.0))

    def _look(self) -> None:
        if self.closed:
            return
        for endpoint, boot_id in list(self._boots.items()):
            if self._world.machines[endpoint.port].boot_id != boot_id:
                del self._boots[endpoint]
                self._exchange.lost(endpoint)
                self._stepped()
                self._wake()
        self._events.after(_LOST_S, self._look)

    # --- Wire ------------------------------------------------------------------------------------
    def connect(self, endpoint: Endpoint) -> bool:
        machine = self._world.machines[endpoint.port]
        if not machine.running:
            return False
        return self._boots.setdefault(endpoint, machine.boot_id) == machine.boot_id

    def send(self, endpoint: Endpoint, frames: list[bytes]) -> bool:
        if not self.connect(endpoint):
            return False
        request = read_request(self._session, frames[0], [*frames[1:]])
        api, number = request.api, request.correlation_id
        if api is apis.METADATA:
            self._later(endpoint, api, number, self._metadata(endpoint.port))
        elif api is not apis.HANDSHAKE:  # nobody waits for its answer
            self._ask(endpoint, request)
        return True

    def _ask(self, endpoint: Endpoint, request: Request[Any]) -> None:
        self._asked[request.correlation_id] = endpoint
        self._world.send_request(endpoint.port, request)

    def _take(self, api: Api[Any, Any], number: int, response: object, payload: bytes | None = None) -> None:
        """Hands an answer of whoever was asked to the exchange."""
        header = encode_response(api, 0 if api is apis.PRODUCE else number, response)
        self._exchange.answered(self._asked[number], [header] if payload is None else [header, payload])

    def _later(self, endpoint: Endpoint, api: Api[Any, Any], number: int, response: ResponseBody) -> None:
        def arrive() -> None:
            if not self.closed:
                self._exchange.answered(endpoint, [encode_response(api, number, response)])
                self._wake()

        self._events.after(self._rng.uniform(0.0005, 0.005), arrive)

    def _metadata(self, node_id: int) -> MetadataResponse:
        epoch, leader_id = self._world.believed_leader(node_id)
        leader = Endpoint("node", leader_id) if leader_id > 0 else None
        replicas = list(self._world.node_ids)
        partition = PartitionMetadata(
            partition=0, leader_id=leader_id, leader_epoch=epoch, endpoint=leader, replicas=replicas, in_sync=replicas
        )
        spec = self._world.spec
        topic = TopicMetadata(
            name=spec.topic, topic_id=spec.topic_id, error_code=ErrorCode.NONE, partitions=[partition], config={}
        )
        nodes = [NodeMetadata(node_id=n, endpoint=Endpoint("node", n), alive=True, voter=True) for n in replicas]
        return MetadataResponse(nodes=nodes, topics=[topic], controller=nodes[0].endpoint, confirmed=True)
