"""Consumers of a group, driven by one thread: topics to read, and polling until something is so."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Any

from raftlog import Admin, Consumer, NewTopic, Producer
from tests.patience import WAIT_S

SESSION_MS = 3000
FAST: dict[str, Any] = {
    "auto_offset_reset": "earliest",
    "session_timeout_ms": SESSION_MS,
    "heartbeat_interval_ms": 300,
}


def unique(name: str) -> str:
    return f"{name}-{uuid.uuid4().hex[:8]}"


def new_topic(bootstrap: str, partitions: int, name: str = "") -> str:
    name = name or unique("grouped")
    with Admin(bootstrap) as admin:
        admin.create_topics([NewTopic(name=name, partitions=partitions, replication_factor=3)])
    return name


def fill(bootstrap: str, topic: str, partitions: int, per_partition: int) -> None:
    with Producer(bootstrap) as producer:
        for number in range(per_partition):
            for partition in range(partitions):
                producer.send(topic, b"%d" % number, partition=partition)


def until(consumers: list[Consumer], found: Callable[[], bool], within_s: float = WAIT_S) -> list[tuple[int, int]]:
    """Polls all of them in turn. What was read, as (partition, offset)."""
    read = []
    deadline_s = time.monotonic() + within_s
    while not found():
        assert time.monotonic() < deadline_s, [sorted(consumer.assignment()) for consumer in consumers]
        for consumer in consumers:
            for place, records in consumer.poll(50).items():
                read += [(place.partition, record.offset) for record in records]
    return read


def shared(consumers: list[Consumer], partitions: int) -> Callable[[], bool]:
    """Every partition is assigned, to one of them, as evenly as can be."""

    def found() -> bool:
        shares = [consumer.assignment() for consumer in consumers]
        loads = [len(share) for share in shares]
        return sum(loads) == len(set().union(*shares)) == partitions and max(loads) - min(loads) <= 1

    return found


def drain(consumer: Consumer) -> list[tuple[int, int]]:
    return [(place.partition, record.offset) for place, found in consumer.poll(50).items() for record in found]


def at_end(offset: int) -> Callable[[Consumer], int]:
    return lambda consumer: sum(consumer.position(place) == offset for place in consumer.assignment())
