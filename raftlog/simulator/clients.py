"""Clients that append values no other append has, and read the high watermark, as a producer and a consumer would."""

from __future__ import annotations

import random
from typing import Any, TypeVar

from raftlog.errors import ErrorCode
from raftlog.protocol import apis
from raftlog.protocol.apis import Api
from raftlog.protocol.body import Body, ResponseBody
from raftlog.protocol.envelope import Request
from raftlog.protocol.records import (
    ListOffsetsRequest,
    ListOffsetsResponse,
    ProduceRequest,
    ProduceResult,
)
from raftlog.protocol.session import Session
from raftlog.record.batch import CRC_START, BatchBuilder
from raftlog.simulator.asker import SendRequest
from raftlog.simulator.events import Events
from raftlog.simulator.invariants import Broken, Invariants
from raftlog.simulator.keyed_records import Keyed, keyed
from raftlog.types import LATEST_TIMESTAMP, Buffer, ReplicaSpec

_TIMEOUT_S = 2.0
_REFUSED = b"no log may take this"

Q = TypeVar("Q", bound=Body)


class Client:
    """One client with several requests in flight. Its believed leader follows hints and chance."""

    def __init__(
        self,
        *,
        name: str,
        spec: ReplicaSpec,
        events: Events,
        rng: random.Random,
        send: SendRequest,
        invariants: Invariants,
        acked: dict[int, tuple[bytes, int]],
        think_s: float,
        depth: int,
        compacted: bool,
    ) -> None:
        self.name = name
        self.stopped = False
        self.acked_count = 0
        self.refused_count = 0  # for want of in-sync replicas
        self._spec = spec
        self._events = events
        self._rng = rng
        self._send = send
        self._session = Session(name)
        self._invariants = invariants
        self._acked = acked
        self._think_s = think_s
        self._compacted = compacted
        self._leader = rng.choice(spec.voters)
        self._next_id = 0
        self._once: set[int] = set()  # of a burst: no append follows these
        self._in_flight: dict[int, tuple[int, bytes, int]] = {}  # correlation id -> (acks, value, records)
        self._depth = depth
        self.go_on()

    def pause(self) -> None:
        """Ask nothing more until `go_on`."""
        self.stopped = True

    def go_on(self) -> None:
        self.stopped = False
        for _ in range(self._depth):
            self._events.after(self._rng.random() * self._think_s, self._next)

    def _next(self) -> None:
        if self.stopped:
            return
        self._next_id += 1
        correlation_id = self._next_id
        if self._rng.random() < 0.1:
            self._in_flight[correlation_id] = (0, b"", 0)
            question = ListOffsetsRequest(timestamp_ms=LATEST_TIMESTAMP)
            self._send(self._leader, self._request(apis.LIST_OFFSETS, correlation_id, question, []))
        elif self._rng.random() < 0.02:
            self._append_what_is_refused(correlation_id)
        else:
            self._append(correlation_id, self._rng.choice((-1, -1, -1, -1, 1, 0)))
        self._events.after(_TIMEOUT_S, lambda: self._give_up(correlation_id))

    def burst(self, node_id: int, count: int) -> None:
        """Beside its usual pace, `count` appends to one node at once, whether it leads or not."""
        for _ in range(count):
            self._next_id += 1
            self._once.add(self._next_id)
            self._leader = node_id
            self._append(self._next_id, -1)

    def _append(self, correlation_id: int, acks: int) -> None:
        records = self._rng.choice((1, 1, 1, 2, 5))
        value = f"{self.name}:{correlation_id}:".encode()
        builder = BatchBuilder()
        for number in range(records):
            size = self._rng.choice((0, 10, 200, 3000))
            named = value + b"%d:" % number + bytes(size)
            record = keyed(named) if self._compacted else Keyed(None, named, [])
            builder.append(1_700_000_000_000 + correlation_id, *record)
        request = self._produce(correlation_id, acks, [builder.build()])
        if acks == 0:
            self._events.after(self._rng.expovariate(1 / self._think_s), self._next)
        else:
            self._in_flight[correlation_id] = (acks, value, records)
        self._send(self._leader, request)

    def _request(self, api: Api[Q, Any], correlation_id: int, body: Q, payload: list[Buffer]) -> Request[Q]:
        spec = self._spec
        return Request(self._session, api, correlation_id, spec.topic_id, spec.partition, body, payload)

    def _produce(self, correlation_id: int, acks: int, payload: list[Buffer]) -> Request[ProduceRequest]:
        body = ProduceRequest(acks=acks, timeout_ms=int(_TIMEOUT_S * 1000))
        return self._request(apis.PRODUCE, correlation_id, body, payload)

    def _append_what_is_refused(self, correlation_id: int) -> None:
        """A request that no log may take: it is answered with an error, whoever is asked."""
        builder = BatchBuilder()
        size = self._rng.choice((0, self._spec.config.max_record_bytes * 2))
        builder.append(1_700_000_000_000, None, _REFUSED + bytes(size), [])
        payload = [builder.build()]
        request = self._produce(correlation_id, -1, [])
        match self._rng.randrange(5 + self._compacted) if size == 0 else -1:  # 5: it has no key
            case 0:
                request.body.acks = 7
            case 1:
                request.topic_id = b"another topic!!!"
            case 2:
                request.partition += 1
            case 3:
                payload *= 2
            case 4:
                position = self._rng.randrange(CRC_START, len(payload[0]))
                payload[0] = payload[0][:position] + bytes([payload[0][position] ^ 1]) + payload[0][position + 1 :]
        self._in_flight[correlation_id] = (-1, _REFUSED, 0)
        request.payload = [*payload]
        self._send(self._leader, request)

    def _give_up(self, correlation_id: int) -> None:
        if self._in_flight.pop(correlation_id, None) is not None:
            self._leader = self._rng.choice(self._spec.voters)
            self._next()

    def waits_for_all(self, correlation_id: int) -> bool:
        """Whether this is an acks=all append that is not given up yet."""
        return self._in_flight.get(correlation_id, (0,))[0] == -1

    def judge(self, contents: dict[int, bytes]) -> None:
        """What was acknowledged to it is judged by the world; what was not may be there, or not."""

    def on_response(self, request: Request[Any], response: ResponseBody, _payload: bytes | None) -> None:
        assert isinstance(response, ListOffsetsResponse)
        if self._in_flight.pop(request.correlation_id, None) is not None:
            self._after(response.error_code, response.leader_id)

    def on_produced(self, results: list[ProduceResult]) -> None:
        for result in results:
            self._on_result(result)

    def _on_result(self, result: ProduceResult) -> None:
        sent = self._in_flight.pop(result.correlation_id, None)
        if sent is None:
            return
        acks, value, records = sent
        if result.error_code == ErrorCode.NONE and value == _REFUSED:
            raise Broken("diverged", f"a request that has to be refused was taken at offset {result.base_offset}")
        if result.error_code == ErrorCode.NONE and acks == -1:
            self._invariants.on_acknowledged(result.base_offset)
            taken = self._acked.setdefault(result.base_offset, (value, records))
            if taken != (value, records):
                raise Broken("diverged", f"offset {result.base_offset} was given to {taken[0]!r} and {value!r}")
            self.acked_count += 1
        refusals = (ErrorCode.NOT_ENOUGH_REPLICAS, ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND)
        self.refused_count += result.error_code in refusals
        if result.correlation_id in self._once:
            self._once.discard(result.correlation_id)
            return
        self._after(result.error_code, result.leader_id)

    def _after(self, error_code: int, leader_id: int) -> None:
        think_s = self._rng.expovariate(1 / self._think_s)
        if error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER:
            self._leader = leader_id if leader_id > 0 else self._rng.choice(self._spec.voters)
            think_s += 0.05
        elif error_code != ErrorCode.NONE:
            think_s += 0.1
        self._events.after(think_s, self._next)
