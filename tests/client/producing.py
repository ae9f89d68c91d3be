"""A producer's core over a wire that is played by hand."""

from __future__ import annotations

from typing import Any

from raftlog.client.core.call import Calls
from raftlog.client.producer.accumulator import Accumulator, Lane
from raftlog.client.producer.batch import RecordFuture
from raftlog.client.producer.sender import Sender
from raftlog.client.producer.sequences import ProducerIds
from raftlog.clock import ManualClock
from raftlog.protocol.records import InitProducerIdRequest, ProduceRequest
from raftlog.record.batch import decode
from tests.client.fake_wire import FakeCluster, Sent


class Producing(FakeCluster):
    """One record per batch, so that a batch is named by its value."""

    def __init__(self, *, idempotent: bool = False, **changes: Any) -> None:
        super().__init__()
        self.calls = Calls(self.exchange, self.cache, self.refresher)
        if idempotent:
            changes["ids"] = ProducerIds(self.calls)
        self.clock = ManualClock(self.now_s)
        options: dict[str, Any] = {
            "acks": -1,
            "max_in_flight": 3,
            "retries": None,
            "request_timeout_s": 30.0,
            "delivery_timeout_s": 120.0,
        }
        self.accumulator = Accumulator(
            clock=self.clock, wake=lambda: None, batch_bytes=1, buffer_bytes=10**6, linger_s=0.0, compression="none"
        )
        self.sender = Sender(self.exchange, self.cache, self.refresher, self.accumulator, **(options | changes))
        self.know()

    def send(self, value: bytes, partition: int = 0) -> RecordFuture:
        lane: Lane = self.accumulator.lane("t", partition)
        return self.accumulator.append(lane, 0, None, value, [], max_batch_bytes=1, max_block_s=0.0)

    def step(self, seconds: float = 0.0) -> float:
        self.clock.advance(seconds)
        self.now_s += seconds
        self.exchange.expire(self.now_s)
        next_s = self.sender.step(self.now_s)
        return min(next_s, self.calls.step(self.now_s))

    def produced(self, seconds: float = 0.0) -> list[Sent]:
        """What was sent after so many seconds."""
        self.step(seconds)
        return self.wire.take(ProduceRequest)

    def identify(self, producer_id: int = 7) -> None:
        """The controller gives a producer id."""
        (asked,) = self.wire.take(InitProducerIdRequest)
        self.answer_producer_id(asked, producer_id)

    def prove(self) -> None:
        """The leader acknowledges something, after which several may be in flight."""
        self.send(b"first")
        (sent,) = self.produced()
        self.answer_produce(sent, 0, 0)

    def in_flight(self, *values: bytes) -> list[Sent]:
        for value in values:
            self.send(value)
        sent = self.produced()
        assert values_of(sent) == list(values)
        return sent


def values_of(sent: list[Sent]) -> list[bytes | None]:
    return [record.value for one in sent for record in decode(one.payload)]
