"""Kafka's door of one simulated node: the core of raftlog/kafka as it is, with events in the place of its sockets.

    client ── Pipe ──▶ SimulatedDoor ── requests, in order ──▶ the machine of its node

A door dies and another one begins, which knows nothing. What it asks reaches the worker of its own node, whatever that
believes of itself, and what it knows of leaders is what its supervisor has heard.
"""

from __future__ import annotations

import random
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from raftlog.clock import NEVER_S
from raftlog.errors import ErrorCode, StorageError
from raftlog.kafka.broker import Broker
from raftlog.kafka.calls import DoorSettings, Leader, Target, Told, nobody
from raftlog.kafka.cluster import Cluster
from raftlog.kafka.connection import Connection, Piece
from raftlog.protocol.apis import Api
from raftlog.protocol.body import Body, ResponseBody
from raftlog.protocol.cluster import MetadataResponse, NodeMetadata, PartitionMetadata, TopicMetadata
from raftlog.protocol.envelope import Request
from raftlog.protocol.records import LocateResponse, Place, ProduceRequest, ProduceResult
from raftlog.protocol.session import Session
from raftlog.types import Buffer, Endpoint

if TYPE_CHECKING:
    from raftlog.simulator.world import World

_NEWS_S = 0.05  # so often it hears from its supervisor
_STALLS = 0.01  # of what is sent comes late, with all behind it
_STALL_S = (0.05, 4.0)


class Listener(Protocol):
    """A client, as its pipe knows it."""

    def on_leaving(self, pipe: Pipe, answers: bytes) -> None:
        """Whole answers leave the door: what they say has to be true now."""
        ...

    def on_answers(self, pipe: Pipe, answers: bytes) -> None: ...

    def on_broken(self, pipe: Pipe) -> None: ...


class Pipe:
    """A connection: bytes come in the order in which they were sent, some late, also when the client has gone.

    `asked`: correlation id and API of what was asked over it, and has not left its door as an answer.
    """

    def __init__(self, client: Listener, door: SimulatedDoor, world: World, rng: random.Random) -> None:
        self._client = client
        self._door = door
        self._events = world.events
        self._rng = rng
        self._boot = door.boots
        self._sent_s = self._answered_s = 0.0  # when the last bytes arrive, on either side
        self._gone = False
        self.asked: deque[tuple[int, tuple[int, int]]] = deque()
        self.connection = Connection(Session(self, "simulated"))

    def send(self, data: bytes) -> None:
        """In two pieces, now and then."""
        cut = self._rng.randrange(1, len(data)) if self._rng.random() < 0.2 else len(data)
        for piece in (data[:cut], data[cut:]):
            if piece:
                self._sent_s = self._arrival(self._sent_s)
                self._events.at(self._sent_s, partial(self._deliver, piece))

    def _arrival(self, last_s: float) -> float:
        stall_s = self._rng.uniform(*_STALL_S) if self._rng.random() < _STALLS else 0.0
        return max(last_s, self._events.now_s + self._rng.uniform(0.0001, 0.001) + stall_s)

    def _deliver(self, data: bytes) -> None:
        if self._door.boots == self._boot:
            self._door.receive(self, data)

    def answer(self, answers: bytes) -> None:
        self._client.on_leaving(self, answers)
        self._answered_s = self._arrival(self._answered_s)
        self._events.at(self._answered_s, partial(self._hand_over, answers))

    def _hand_over(self, answers: bytes) -> None:
        if not self._gone:
            self._client.on_answers(self, answers)

    def leave(self) -> None:
        """The client has closed it. What it sent before still arrives, and the end of it after that."""
        self._gone = True
        self._sent_s = self._arrival(self._sent_s)
        self._events.at(self._sent_s, partial(self._door.forget, self))

    def break_off(self) -> None:
        """The door's end is gone: the client notices in a moment."""

        def notice() -> None:
            if not self._gone:
                self._gone = True
                self._client.on_broken(self)

        self._events.after(self._rng.uniform(0.0001, 0.01), notice)


class SimulatedDoor:
    """Is the backend of its core. `boots` counts its processes; what belongs to an older one is nobody's."""

    def __init__(self, node_id: int, world: World, rng: random.Random) -> None:
        self.boots = 0
        self.name = f"door{node_id}"
        self._node_id = node_id
        self._world = world
        self._rng = rng
        self._broker: Broker | None = None
        self._pipes: dict[Connection, Pipe] = {}
        self._last_id = 0  # never used again, so that nothing is told to a process that did not ask
        world.doors[self.name] = self
        self.die()
        self.start()

    @property
    def running(self) -> bool:
        return self._broker is not None

    def start(self) -> None:
        self._session = Session(self.name)
        self._broker = Broker(self, DoorSettings(self._node_id, auto_create_topics=False))
        self._hear_news(self.boots)

    def die(self) -> None:
        pipes, self._pipes = self._pipes, {}
        for pipe in pipes.values():
            pipe.break_off()
        self.boots += 1
        self._broker = None
        self._asked: dict[int, tuple[Api[Any, Any], Body, Told]] = {}
        self._link = 0  # the boot id of the worker that it is connected to
        self._news: tuple[object, ...] = ()
        self._arrives_s = 0.0
        self._due_s = NEVER_S

    # --- clients -----------------------------------------------------------------------------------
    def accept(self, client: Listener, rng: random.Random) -> Pipe | None:
        if self._broker is None:
            return None
        pipe = Pipe(client, self, self._world, rng)
        self._pipes[pipe.connection] = pipe
        return pipe

    def receive(self, pipe: Pipe, data: bytes) -> None:
        if pipe.connection in self._pipes:
            assert self._broker is not None
            self._check_link()
            self._broker.receive(pipe.connection, data)
            self._flush()

    def forget(self, pipe: Pipe) -> None:
        if self._pipes.pop(pipe.connection, None) is not None:
            assert self._broker is not None
            self._broker.forget(pipe.connection)

    def break_one(self) -> None:
        """Some connection ends, as by a network between it and its client."""
        if self._pipes:
            pipe = self._rng.choice(list(self._pipes.values()))
            self.forget(pipe)
            pipe.break_off()

    def _flush(self) -> None:
        broker = self._broker
        if broker is None:
            return
        while broker.touched:
            touched, broker.touched = broker.touched, {}
            for connection in touched:
                pipe = self._pipes.get(connection)
                if pipe is None:
                    continue
                if answers := b"".join(map(bytes, connection.take())):  # type: ignore[arg-type]  # pieces are bytes
                    pipe.answer(answers)
                if connection.closing:
                    self.forget(pipe)
                    pipe.break_off()
        if broker.due_s < self._due_s:
            self._due_s = broker.due_s
            self._world.events.at(broker.due_s, partial(self._tick, broker))

    def _tick(self, broker: Broker) -> None:
        if broker is self._broker:
            self._due_s = NEVER_S
            broker.tick()
            self._flush()

    # --- its supervisor and its worker -------------------------------------------------------------
    def _hear_news(self, boot: int) -> None:
        if boot != self.boots:
            return
        assert self._broker is not None
        self._check_link()
        news = self._world.believed_leader(self._node_id)
        if news != self._news:
            self._news = news
            self._broker.learn(Cluster(self._cluster(*news)))
        self._flush()
        self._world.events.after(_NEWS_S, partial(self._hear_news, boot))

    def _cluster(self, epoch: int, leader_id: int) -> MetadataResponse:
        spec = self._world.spec
        nodes = [
            NodeMetadata(node_id=n, endpoint=Endpoint("node", n), alive=True, voter=True, kafka=Endpoint("door", n))
            for n in self._world.node_ids
        ]
        replicas = list(self._world.node_ids)
        partition = PartitionMetadata(
            partition=0, leader_id=leader_id, leader_epoch=epoch, endpoint=None, replicas=replicas, in_sync=replicas
        )
        topic = TopicMetadata(
            name=spec.topic, topic_id=spec.topic_id, error_code=ErrorCode.NONE, partitions=[partition], config={}
        )
        return MetadataResponse(cluster_id="simulated", controller_id=1, nodes=nodes, topics=[topic])

    def _check_link(self) -> None:
        if not self._link or self._link == self._world.machines[self._node_id].boot_id:
            return
        self._link = 0
        if self._broker is not None:
            self._broker.lost(Leader(self._world.spec.topic_id, self._world.spec.partition))
        asked, self._asked = self._asked, {}
        for api, _, told in asked.values():
            told(nobody(api), None)

    def ask(
        self, target: Target, api: Api[Any, Any], body: Body, payload: Buffer | None, timeout_s: float, told: Told
    ) -> None:
        assert isinstance(target, Leader), "simulated clients ask for nothing else"
        self._check_link()
        boot_id = self._world.machines[self._node_id].boot_id
        if not boot_id:
            told(nobody(api), None)
            return
        self._link = boot_id
        self._last_id = number = self._last_id + 1
        self._asked[number] = api, body, told
        frames: list[Buffer] = [] if payload is None else [bytes(payload)]
        request = Request(self._session, api, number, target.topic_id, target.partition, body, frames)
        self._arrives_s = max(self._arrives_s, self._world.events.now_s + self._rng.uniform(0.0001, 0.0005))
        self._world.events.at(self._arrives_s, partial(self._world.hand_request, self._node_id, request, boot_id))
        self._world.events.after(timeout_s, partial(self._expire, self.boots, number))

    def _expire(self, boot: int, number: int) -> None:
        if boot == self.boots and number in self._asked:
            api, _, told = self._asked.pop(number)
            told(api.refusal(ErrorCode.REQUEST_TIMED_OUT, "the worker did not answer in time"), None)
            self._flush()

    def on_response(self, request: Request[Any], response: ResponseBody, _payload: bytes | None) -> None:
        self._tell(request.correlation_id, response)

    def on_produced(self, results: list[ProduceResult]) -> None:
        for result in results:
            self._tell(result.correlation_id, result)

    def waits_for_all(self, number: int) -> bool:
        """Whether this is an acks=all append that is not given up yet."""
        _, body, _ = self._asked.get(number, (None, None, None))
        return isinstance(body, ProduceRequest) and body.acks == -1

    def _tell(self, number: int, answer: ResponseBody) -> None:
        if number in self._asked:
            _, _, told = self._asked.pop(number)
            told(answer, None)
            self._flush()

    # --- the rest of a backend ---------------------------------------------------------------------
    def piece(self, _target: Leader, place: LocateResponse | Place) -> Piece | None:
        try:
            file = self._world.machines[self._node_id].disk.open(place.path)
        except StorageError:
            return None
        return file.read(place.position, place.length) if file.inode() == place.inode else None

    def now_s(self) -> float:
        return self._world.events.now_s

    def now_ms(self) -> int:
        return 1_700_000_000_000 + int(self.now_s() * 1000)

    def mint_id(self) -> bytes:
        return self._rng.randbytes(16)

    def volume_bytes(self) -> tuple[int, int]:
        return -1, -1


class DoorTrouble:
    """Doors die and connections break, until `stop()`."""

    def __init__(self, world: World, doors: list[SimulatedDoor], rng: random.Random) -> None:
        self._world = world
        self._doors = doors
        self._rng = rng
        self._stopped = False
        self._plan()

    def stop(self) -> None:
        self._stopped = True

    def _plan(self) -> None:
        self._world.events.after(self._rng.expovariate(1.0), self._strike)

    def _strike(self) -> None:
        if self._stopped:
            return
        door = self._rng.choice(self._doors)
        if self._rng.random() < 0.5:
            door.break_one()
        elif door.running:
            door.die()
            self._world.events.after(self._rng.uniform(0.1, 1.0), door.start)
        self._plan()
