"""What clients see when the leader of a partition goes: killed, or stopped in good order, again and again under load.

A steady stream of numbered records is sent; a gap is the longest time between two acknowledgements around a blow. At
the end everything is read back, and judged: what was acknowledged is there once, in the order of sending.
"""

from __future__ import annotations

import statistics
import threading
import time
from concurrent.futures import Future
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from raftlog import Admin, Consumer, NewTopic, Producer, TopicPartition
from raftlog.errors import RaftlogError

from .output import note

if TYPE_CHECKING:
    from raftlog.node.local import LocalCluster

_TOPIC = "failover"
_RECORD_BYTES = 200
_PERIOD_S = 0.005  # a gap is known as exactly as this
_WATCHED_S = 3.0  # after each blow; above the longest gap that is allowed
_WHOLE_S = 60.0  # for a node to be back and in sync
_BEFORE_A_BLOW = 20  # acknowledgements


class Failover(NamedTuple):
    """What the clients of a failover saw.

    `gaps_ms`: one per blow. `lost` were acknowledged and not read; `duplicated` were read more than once.
    """

    gaps_ms: list[float]
    acked: int
    failed: int
    lost: int
    duplicated: int
    out_of_order: int

    def figures(self) -> dict[str, object]:
        ordered = sorted(self.gaps_ms)
        return {
            "gap_p50_ms": round(statistics.median(ordered), 1),
            "gap_max_ms": round(ordered[-1], 1),
            "gaps_ms": [round(gap, 1) for gap in self.gaps_ms],
            "acked": self.acked,
            "failed": self.failed,
            "lost": self.lost,
            "duplicated": self.duplicated,
            "out_of_order": self.out_of_order,
        }


class _Stream(threading.Thread):
    """Sends `rate` records a second until stopped, and notes when each burst was acknowledged."""

    def __init__(self, producer: Producer, rate: int) -> None:
        super().__init__(name="raftlog-bench-failover", daemon=True)
        self._producer = producer
        self._burst = max(1, round(rate * _PERIOD_S))
        self._stopped = threading.Event()
        self.acked_s: list[float] = []
        self.acked: set[int] = set()
        self.failed = 0
        self.sent = 0

    def stop(self) -> None:
        self._stopped.set()
        self.join()

    def run(self) -> None:
        padding = bytes(_RECORD_BYTES - 12)
        due_s = time.monotonic()
        while not self._stopped.is_set():
            for _ in range(self._burst):
                number, self.sent = self.sent, self.sent + 1
                future = self._producer.send(_TOPIC, b"%012d" % number + padding, partition=0)
                future.add_done_callback(partial(self._done, number))
            due_s = max(due_s + _PERIOD_S, time.monotonic() - 0.1)
            time.sleep(max(0.0, due_s - time.monotonic()))

    def _done(self, number: int, future: Future[object]) -> None:
        if future.exception() is None:
            self.acked.add(number)
            self.acked_s.append(time.monotonic())
        else:
            self.failed += 1

    def longest_gap_s(self, start_s: float, end_s: float) -> float:
        """Between acknowledgements, from the last one before `start_s` on."""
        before = max((at for at in self.acked_s if at <= start_s), default=start_s)
        times = [before, *(at for at in self.acked_s if start_s < at <= end_s), end_s]
        return max(later - earlier for earlier, later in pairwise(times))


def measure_failover(cluster: LocalCluster, *, blows: int, graceful: bool, rate: int) -> Failover:
    """`blows` times: kill -9 (or SIGTERM) to the node that leads, and start it again. Raises RaftlogError."""
    gaps_ms = []
    with Admin(bootstrap_servers=cluster.bootstrap) as admin:
        admin.create_topics([NewTopic(name=_TOPIC, partitions=1, replication_factor=3)])
        with Producer(bootstrap_servers=cluster.bootstrap) as producer:
            stream = _Stream(producer, rate)
            stream.start()
            try:
                for number in range(blows):
                    leader = _whole(admin)
                    gaps_ms.append(1000 * _blow(cluster, stream, leader, graceful))
                    note(f"{number + 1} of {blows}: node {leader}, {gaps_ms[-1]:.0f} ms")
                    cluster.start(leader)
                _whole(admin)
            finally:
                stream.stop()
    numbers = _read_back(cluster)
    read = set(numbers)
    return Failover(
        gaps_ms=gaps_ms,
        acked=len(stream.acked),
        failed=stream.failed,
        lost=len(stream.acked - read),
        duplicated=len(numbers) - len(read),
        out_of_order=_out_of_order(numbers),
    )


def _whole(admin: Admin) -> int:
    """Waits until all replicas are in sync; the leader."""
    end_s = time.monotonic() + _WHOLE_S
    while time.monotonic() < end_s:
        (topic,) = admin.describe_topics([_TOPIC])
        if topic.partitions and topic.partitions[0].leader_id > 0 and len(topic.partitions[0].in_sync) == 3:
            return topic.partitions[0].leader_id
        time.sleep(0.05)
    raise RaftlogError(f"the replicas were not all in sync within {_WHOLE_S:.0f} s")


def _acknowledged(stream: _Stream) -> None:
    """Waits until records are acknowledged again, a blow after the last one."""
    end_s = time.monotonic() + _WHOLE_S
    enough = len(stream.acked_s) + _BEFORE_A_BLOW
    while len(stream.acked_s) < enough:
        if time.monotonic() > end_s:
            raise RaftlogError(f"nothing was acknowledged within {_WHOLE_S:.0f} s")
        time.sleep(_PERIOD_S)


def _blow(cluster: LocalCluster, stream: _Stream, node_id: int, graceful: bool) -> float:
    _acknowledged(stream)  # so that there is something to measure from
    start_s = time.monotonic()
    if graceful:
        cluster.stop(node_id)
    else:
        cluster.kill(node_id)
    end_s = start_s + _WATCHED_S
    time.sleep(max(0.0, end_s - time.monotonic()))
    return stream.longest_gap_s(start_s, end_s)


def _read_back(cluster: LocalCluster) -> list[int]:
    """The numbers of all records, in the order of their offsets."""
    place = TopicPartition(_TOPIC, 0)
    numbers: list[int] = []
    with Consumer(bootstrap_servers=cluster.bootstrap) as consumer:
        consumer.assign([place])
        consumer.seek(place, 0)
        end = consumer.end_offsets([place])[place]
        while consumer.position(place) < end:
            for record in consumer.poll(timeout_ms=500).get(place, []):
                numbers.append(int((record.value or b"")[:12]))
    return numbers


def _out_of_order(numbers: list[int]) -> int:
    """Records read for the first time after one that was sent later."""
    seen: set[int] = set()
    highest, count = -1, 0
    for number in numbers:
        if number not in seen and number < highest:
            count += 1
        seen.add(number)
        highest = max(highest, number)
    return count
