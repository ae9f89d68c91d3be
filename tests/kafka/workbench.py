"""The whole core on a workbench: a client's bytes in, its answers out, and questions that the test answers."""

from __future__ import annotations

from typing import Any

from raftlog.kafka.broker import Broker
from raftlog.kafka.calls import DoorSettings, Leader, Target, Told
from raftlog.kafka.cluster import Cluster
from raftlog.kafka.connection import Connection, Piece
from raftlog.protocol.apis import Api
from raftlog.protocol.body import Body
from raftlog.protocol.records import LocateResponse, Place
from raftlog.protocol.session import Session
from raftlog.types import Buffer
from tests.kafka.door import CORRELATION_ID, decode, encode


class Asked:
    """A question that waits for the test's answer."""

    def __init__(self, target: Target, api: Api[Any, Any], body: Any, payload: Buffer | None, told: Told) -> None:
        self.target = target
        self.api = api
        self.body = body
        self.payload = None if payload is None else bytes(payload)
        self._told = told

    def answer(self, response: Any, payload: bytes | None = None) -> None:
        self._told(response, payload)


class Workbench:
    """`asked`: the questions that nobody has answered yet. Time stands still until `pass_time`.

    `opened` False: no file can be sent from; else a file's name is what it holds.
    """

    def __init__(self, known: Cluster) -> None:
        self.asked: list[Asked] = []
        self.opened = True
        self._now_s = 1000.0
        self.broker = Broker(self, DoorSettings(1))
        self.broker.learn(known)

    # --- a backend ---------------------------------------------------------------------------------
    def ask(
        self, target: Target, api: Api[Any, Any], body: Body, payload: Buffer | None, timeout_s: float, told: Told
    ) -> None:
        self.asked.append(Asked(target, api, body, payload, told))

    def piece(self, target: Leader, place: LocateResponse | Place) -> Piece | None:
        return place.path.encode() if self.opened else None

    def now_s(self) -> float:
        return self._now_s

    def now_ms(self) -> int:
        return 1_700_000_000_000 + round((self._now_s - 1000.0) * 1000)

    def mint_id(self) -> bytes:
        return bytes(16)

    def volume_bytes(self) -> tuple[int, int]:
        return -1, -1

    # --- what a test does --------------------------------------------------------------------------
    def pass_time(self, seconds: float) -> None:
        self._now_s += seconds
        self.broker.tick()

    def take(self, api: Api[Any, Any]) -> Asked:
        """The oldest question of this API."""
        found = next(each for each in self.asked if each.api is api)
        self.asked.remove(found)
        return found

    def connect(self) -> Client:
        return Client(self.broker)


class Client:
    """One connection."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self.connection = Connection(Session("test", "127.0.0.1:50000"))
        self._sent: list[tuple[int, int]] = []

    def send(self, key: int, version: int, answered: bool = True, **fields: Any) -> None:
        frame = encode(key, version, fields)
        if answered:
            self._sent.append((key, version))
        self._broker.receive(self.connection, len(frame).to_bytes(4, "big") + frame)

    def answers(self) -> list[dict[str, Any]]:
        """Those that have left, in their order."""
        data = b"".join(bytes(each) for each in self.connection.take())  # type: ignore[arg-type]
        found = []
        while data:
            size = 4 + int.from_bytes(data[:4], "big")
            key, version = self._sent.pop(0)
            found.append(decode(key, version, data[:size]))
            data = data[size:]
        return found


__all__ = ["CORRELATION_ID", "Asked", "Client", "Workbench"]
