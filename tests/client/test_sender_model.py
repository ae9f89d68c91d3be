"""The sender against a model of leaders that change, connections that break and answers that get lost.

Whatever happens, every record gets its outcome, an acknowledged one is where its future says, and the
first appearances in the log are in the order of `send`.
"""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from raftlog.client.producer.batch import RecordFuture
from raftlog.errors import ErrorCode
from raftlog.types import Endpoint
from tests.client.fake_wire import Sent
from tests.client.producing import Producing, values_of

WORKERS = [Endpoint("worker", port) for port in (11, 12, 13)]


class Model:
    def __init__(self, seed: int, in_flight: int) -> None:
        self.rng = random.Random(seed)
        self.producing = Producing(max_in_flight=in_flight)
        self.producing.wire.connected |= set(WORKERS)
        self.leader = WORKERS[0]
        self.epoch = 1
        self.log: list[bytes | None] = []
        self.arrived: dict[Endpoint, list[Sent]] = {worker: [] for worker in WORKERS}
        self.futures: list[RecordFuture] = []
        self.unknown = False

    def send(self) -> None:
        self.futures.append(self.producing.send(b"%d" % len(self.futures)))

    def step(self, seconds: float) -> None:
        for sent in self.producing.produced(seconds):
            self.arrived[sent.endpoint].append(sent)

    def serve(self, worker: Endpoint, *, lose_answer: bool = False) -> None:
        """The oldest request at this worker."""
        if not self.arrived[worker]:
            return
        sent = self.arrived[worker].pop(0)
        if worker != self.leader:
            self.producing.answer_produce(sent, ErrorCode.NOT_LEADER_OR_FOLLOWER, epoch=self.epoch)
            return
        self.log += values_of([sent])
        if lose_answer:
            self.lose(worker)
        else:
            self.producing.answer_produce(sent, 0, len(self.log) - 1)

    def lose(self, worker: Endpoint) -> None:
        self.unknown = self.unknown or bool(self.arrived[worker])
        self.arrived[worker].clear()
        self.producing.lose(worker)

    def elect(self, worker: Endpoint, *, committed: bool = True) -> None:
        """The leader steps down and `worker`, perhaps the same one, is elected."""
        # All that a worker has received is answered before it can win an election.
        old, self.leader = self.leader, WORKERS[0]._replace(port=0)
        keeps = True
        while not committed and self.arrived[old]:
            # Appended by the old leader, and nobody knows how much of it the new one has.
            sent = self.arrived[old].pop(0)
            keeps = keeps and self.rng.random() < 0.5
            if keeps:
                self.log += values_of([sent])
            self.unknown = True
            self.producing.answer_produce(sent, ErrorCode.REQUEST_TIMED_OUT)
        for one in {old, worker}:
            while self.arrived[one]:
                self.serve(one)
        self.leader = worker
        self.epoch += 1

    def tell(self, *, stale: bool = False) -> None:
        if stale:
            self.producing.know(self.rng.choice(WORKERS), max(1, self.epoch - 1))
        else:
            self.producing.know(self.leader, self.epoch)

    def act(self) -> None:
        rng = self.rng
        worker = rng.choice(WORKERS)
        match rng.choices(range(8), (30, 30, 30, 2, 2, 2, 10, 2))[0]:
            case 0:
                self.send()
            case 1:
                self.step(rng.choice((0.0, 0.001, 0.03, 0.2)))
            case 2:
                self.serve(rng.choice((worker, self.leader)))
            case 3:
                self.serve(self.leader, lose_answer=True)
                self.unknown = True
            case 4:
                self.lose(worker)
            case 5:
                self.elect(worker, committed=rng.random() < 0.7)
            case 6:
                self.tell()
            case 7:
                self.tell(stale=True)

    def settle(self) -> None:
        for _ in range(2000):
            if all(future.done() for future in self.futures):
                return
            self.step(0.05)
            for worker in WORKERS:
                while self.arrived[worker]:
                    self.serve(worker)
            self.tell()


@settings(max_examples=300)
@given(seed=st.integers(0, 2**32), in_flight=st.integers(1, 6))
def test_order_and_outcomes_hold_whatever_happens(seed: int, in_flight: int) -> None:
    model = Model(seed, in_flight)
    for _ in range(300):
        model.act()
    model.settle()
    assert all(future.done() for future in model.futures)
    for number, future in enumerate(model.futures):
        assert model.log[future.result(0).offset] == b"%d" % number
    first = list(dict.fromkeys(model.log))
    assert first == [b"%d" % number for number in range(len(model.futures))]
    if not model.unknown:
        assert len(model.log) == len(model.futures), "doubled although every outcome was known"
    assert model.producing.accumulator.incomplete() == []
