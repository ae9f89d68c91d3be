"""A producer of the simulator: the client's real Sender, with idempotence, over links that break when machines die.

It sends numbered values, several batches in flight, and asks again whatever it does not know the outcome of. Some
requests arrive a second time, late, as from an old connection; but none that was refused: a connection brings nothing
back, and a client that was told "not written" relies on it.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from raftlog.client.core.call import Calls
from raftlog.client.producer.accumulator import Accumulator
from raftlog.client.producer.batch import RecordFuture
from raftlog.client.producer.sender import Sender
from raftlog.client.producer.sequences import ProducerIds
from raftlog.errors import error_for
from raftlog.protocol import apis
from raftlog.protocol.body import ResponseBody
from raftlog.protocol.envelope import Request
from raftlog.protocol.records import InitProducerIdResponse, ProduceResult
from raftlog.simulator.client_link import LinkedClient
from raftlog.simulator.invariants import Broken
from raftlog.simulator.keyed_records import Keyed, keyed
from raftlog.types import Endpoint

if TYPE_CHECKING:
    from raftlog.simulator.world import World

_LATE_COPIES = 0.02  # of the requests
_UNSENT_MAX = 20
_HASTY_S = 2.0  # the delivery time-out of a client that gives up under faults; others never do
_PATIENT_S = 1e6


class _EventClock:
    """The client's clock does not drift: its timers decide nothing that must hold."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self.monotonic_s = now_s

    def wall_ms(self) -> int:
        return 1_700_000_000_000 + int(self.monotonic_s() * 1000)


class ProducingClient(LinkedClient):
    def __init__(self, name: str, producer_id: int, world: World, rng: random.Random, think_s: float) -> None:
        super().__init__(name, world, rng)
        self.acked_count = 0
        self._producer_id = producer_id
        self._think_s = think_s
        self._sent = 0
        self._open: dict[int, RecordFuture] = {}
        self._denied: set[int] = set()  # values of which it was told that they were not written
        self._refused: set[int] = set()  # correlation ids
        self._delivery_s = rng.choice((_HASTY_S, _PATIENT_S))
        calls = Calls(self._exchange, self._cache, self._refresher)
        accumulator = self._accumulator = Accumulator(
            clock=_EventClock(lambda: self._events.now_s),
            wake=self._wake,
            batch_bytes=rng.choice((1, 500, 2000)),
            buffer_bytes=1 << 20,
            linger_s=rng.choice((0.0, 0.005)),
            compression="none",
        )
        sender = Sender(
            self._exchange,
            self._cache,
            self._refresher,
            accumulator,
            acks=-1,
            ids=ProducerIds(calls),
            max_in_flight=rng.choice((1, 3, 5)),
            retries=None,
            request_timeout_s=3.0,
            delivery_timeout_s=self._delivery_s,
        )
        self._parts = (sender, calls, self._refresher)
        self._events.after(rng.random(), self._next)

    # --- load ------------------------------------------------------------------------------------
    def _next(self) -> None:
        if self.stopped:
            return
        if len(self._accumulator.incomplete()) < _UNSENT_MAX:
            for _ in range(self._rng.choice((1, 1, 3))):
                number, self._sent = self._sent, self._sent + 1
                value = b"%s:%d:0:" % (self.name.encode(), number) + bytes(self._rng.choice((0, 50, 400)))
                lane = self._accumulator.lane(self._world.spec.topic, 0)
                record = keyed(value) if self._world.compacted else Keyed(None, value, [])
                future = self._accumulator.append(lane, 0, *record, max_batch_bytes=1 << 20, max_block_s=0.0)
                self._open[number] = future
        self._events.after(self._rng.expovariate(1 / self._think_s), self._next)

    def _take_outcomes(self) -> None:
        for number in [number for number, future in self._open.items() if future.done()]:
            self._take_outcome(number, self._open.pop(number))

    def _take_outcome(self, number: int, future: RecordFuture) -> None:
        error = future.exception(0)
        if error is not None:
            if self._delivery_s > _HASTY_S:
                # Nothing was given up before, so a partition that refuses it has forgotten what it knew.
                raise Broken("lost", f"value {number} of {self.name}, which has time, failed: {error!r}")
            if not error.outcome_unknown:
                self._denied.add(number)
            return
        self.acked_count += 1
        offset = future.result(0).offset
        if offset < 0:
            return
        if future.index == 0:
            self._world.invariants.on_acknowledged(offset)
        mine = (b"%s:%d:" % (self.name.encode(), number), 1)
        if self._world.acked.setdefault(offset, mine) != mine:
            raise Broken("diverged", f"offset {offset} was given to {self._world.acked[offset][0]!r} and {mine[0]!r}")

    def judge(self, contents: dict[int, bytes]) -> None:
        """At most once, in the order of sending, and nothing that was said not to be there."""
        prefix = self.name.encode() + b":"
        found = [int(value.split(b":")[1]) for _, value in sorted(contents.items()) if value.startswith(prefix)]
        if found != sorted(set(found)):
            raise Broken("diverged", f"values of {self.name} are doubled or out of order")
        if denied := self._denied.intersection(found):
            raise Broken("diverged", f"{sorted(denied)} of {self.name} were said not to be written")

    def waits_for_all(self, _correlation_id: int) -> bool:
        """Whatever is answered with success has to be acknowledged by all, given up here or not."""
        return True

    def _stepped(self) -> None:
        self._take_outcomes()

    def _ask(self, endpoint: Endpoint, request: Request[Any]) -> None:
        if request.api is apis.INIT_PRODUCER_ID:
            response = InitProducerIdResponse(producer_id=self._producer_id)
            self._later(endpoint, request.api, request.correlation_id, response)
            return
        super()._ask(endpoint, request)
        if self._rng.random() < _LATE_COPIES:
            again = partial(super()._ask, endpoint, request)
            self._events.after(self._rng.uniform(0.05, 4.0), partial(self._again, request.correlation_id, again))

    def _again(self, correlation_id: int, send: Callable[[], None]) -> None:
        if correlation_id not in self._refused:
            send()

    def on_response(self, request: Request[Any], _response: ResponseBody, _payload: bytes | None) -> None:
        raise AssertionError(f"it does not ask for {request.api}")

    def on_produced(self, results: list[ProduceResult]) -> None:
        for result in results:
            if result.error_code and not error_for(result.error_code, "").outcome_unknown:
                self._refused.add(result.correlation_id)
            self._take(apis.PRODUCE, result.correlation_id, [result])
        self._take_outcomes()
        self._wake()


def add_producers(world: World, count: int, *, think_s: float) -> None:
    """Idempotent producers, with ids and random numbers of their own."""
    for number in range(count):
        name = f"p{number}"
        world.clients[name] = ProducingClient(name, number, world, random.Random(world.seed * 41 + number), think_s)
