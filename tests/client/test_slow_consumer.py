"""A consumer a long way behind reads old segments at full speed: producers and those who read the end hardly notice.

    pytest -s tests/client/test_slow_consumer.py

prints how much. What is asserted is far above it, since others may be at work on the machine: it finds a worker that a
reader holds up for long, not one that is a little slower.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median, quantiles
from typing import TYPE_CHECKING, NamedTuple

from raftlog import Admin, Consumer, NewTopic, Producer, RecordFuture, TopicPartition
from tests.client.grouping import unique
from tests.patience import WAIT_S

if TYPE_CHECKING:
    from raftlog.node.local import LocalCluster

_OLD_RECORDS = 40_000  # of 1,000 bytes: 40 segments
_ROUND_S = 3.0
_ROUNDS = 2  # of each kind, in turn, so that both meet the same machine
_EVERY_S = 0.005


class Round(NamedTuple):
    """In ms, and acknowledged records a second."""

    acks: list[float]  # from `send` to the acknowledgement
    tails: list[float]  # from `send` until a consumer at the end has it
    rate: float


def _measure(producer: Producer, place: TopicPartition, consumer: Consumer) -> Round:
    """A record every `_EVERY_S`, as far as the machine keeps up."""
    sent_s: dict[int, float] = {}
    acks: list[float] = []
    tails: list[float] = []
    futures: list[RecordFuture] = []
    done = threading.Event()

    def read_end() -> None:
        """All of this round, so that none of it is taken for one of the next."""
        deadline_s = time.monotonic() + _ROUND_S + 30
        while (not done.is_set() or len(tails) < len(futures)) and time.monotonic() < deadline_s:
            for records in consumer.poll(50).values():
                now_s = time.monotonic()
                tails.extend((now_s - float(record.value or b"0")) * 1000 for record in records)

    reader = threading.Thread(target=read_end)
    reader.start()
    began_s = time.monotonic()
    while (now_s := time.monotonic()) < began_s + _ROUND_S:
        future = producer.send(place.topic, b"%r" % now_s, partition=place.partition)
        sent_s[id(future)] = now_s
        future.add_done_callback(lambda done: acks.append((time.monotonic() - sent_s[id(done)]) * 1000))
        futures.append(future)
        time.sleep(_EVERY_S)
    for future in futures:
        future.result(WAIT_S)
    took_s = time.monotonic() - began_s
    done.set()
    reader.join()
    assert len(tails) == len(futures)
    return Round(acks, tails, len(acks) / took_s)


@contextlib.contextmanager
def _behind(bootstrap: str, topic: str) -> Iterator[list[int]]:
    """How many records it has read stands in the list afterwards."""
    script = Path(__file__).with_name("behind_process.py")
    command = [sys.executable, str(script), bootstrap, topic, str(_OLD_RECORDS)]
    read: list[int] = []
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        try:
            assert process.stdout.readline() == "behind\n"
            yield read
            process.stdin.close()
            read.append(int(process.stdout.readline()))
        finally:
            process.kill()


def _p99(values: list[float]) -> float:
    return quantiles(values, n=100)[98]


def test_one_that_is_far_behind_does_not_slow_producers_and_the_others(cluster: LocalCluster) -> None:
    topic = unique("behind")
    place = TopicPartition(topic, 0)
    with Admin(cluster.bootstrap) as admin:
        wanted = NewTopic(name=topic, partitions=1, replication_factor=3, config={"segment_bytes": str(1 << 20)})
        admin.create_topics([wanted])
    alone: list[Round] = []
    beside: list[Round] = []
    read: list[int] = []
    with Producer(cluster.bootstrap, linger_ms=0) as producer:
        for number in range(_OLD_RECORDS):
            producer.send(topic, b"%1000d" % number, partition=0)
        producer.flush()
        with Consumer(bootstrap_servers=cluster.bootstrap) as consumer:
            consumer.assign([place])
            consumer.seek_to_end()
            consumer.position(place)
            for _ in range(_ROUNDS):
                alone.append(_measure(producer, place, consumer))
                with _behind(cluster.bootstrap, topic) as count:
                    beside.append(_measure(producer, place, consumer))
                read += count
    kinds = (("alone", alone), ("beside it", beside))
    for name, rounds in kinds:
        acks, tails = ([value for each in rounds for value in getattr(each, kind)] for kind in ("acks", "tails"))
        print(
            f"\n{name}: {median(each.rate for each in rounds):.0f} records/s; acks p50 {median(acks):.1f} ms, "
            f"p99 {_p99(acks):.1f} ms; at the end of the log p50 {median(tails):.1f} ms, p99 {_p99(tails):.1f} ms",
            end="",
        )
    print(f"\nread behind: {sum(read) / _ROUNDS / _ROUND_S:.0f} records/s of 1,000 bytes")
    assert sum(read) > _OLD_RECORDS / 10, "hardly anything was read behind: nothing was tested"
    assert max(each.rate for each in beside) > 0.3 * min(each.rate for each in alone)
    best = [min(_p99(getattr(each, kind)) for each in beside) for kind in ("acks", "tails")]
    worst = [max(_p99(getattr(each, kind)) for each in alone) for kind in ("acks", "tails")]
    assert all(with_it < 5 * without + 250 for with_it, without in zip(best, worst, strict=True)), (best, worst)
