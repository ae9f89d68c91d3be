"""A leader that hangs, is deposed and goes on: what it says of its log moves nobody's position."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from raftlog import Admin, Consumer, Producer, TopicPartition
from raftlog.types import ReplicaStatus, Role
from tests.client.led_topic import leader_of, new_topic
from tests.patience import WAIT_S

if TYPE_CHECKING:
    from raftlog.node.local import LocalCluster


def wait_for(what: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while not what():
        assert time.monotonic() < deadline_s, "waited in vain"
        time.sleep(0.01)


def test_a_position_that_only_the_new_leader_knows_stays(cluster: LocalCluster) -> None:
    """Its own question waits in the old leader's socket, which answers it before it can learn that it leads no more."""
    with ExitStack() as stack:
        admin = stack.enter_context(Admin(cluster.bootstrap))
        topic = new_topic(admin, 1)
        place = TopicPartition(topic, 0)
        _, process = leader_of(admin, topic)
        produce(cluster, place, 100)
        consumers = [stack.enter_context(at_end_of(cluster, place, policy)) for policy in ("latest", "earliest")]
        old_epoch = max(led_epochs(admin, topic))
        os.kill(process, signal.SIGSTOP)
        stack.callback(os.kill, process, signal.SIGCONT)
        wait_for(lambda: any(epoch > old_epoch for epoch in led_epochs(admin, topic)))
        produce(cluster, place, 200)
        before = unread_bytes(process)
        for consumer in consumers:
            consumer.seek(place, 200)
            consumer.resume(place)
        wait_for(lambda: sum(size - before.get(peer, 0) > 20 for peer, size in unread_bytes(process).items()) >= 2)
        os.kill(process, signal.SIGCONT)
        assert [read_until(consumer, place, 300) for consumer in consumers] == [list(range(200, 300))] * 2


def produce(cluster: LocalCluster, place: TopicPartition, count: int) -> None:
    with Producer(cluster.bootstrap) as producer:
        futures = [producer.send(place.topic, b"%d" % number, partition=place.partition) for number in range(count)]
    for future in futures:
        future.result(0)


def at_end_of(cluster: LocalCluster, place: TopicPartition, policy: str) -> Consumer:
    """One that has read everything, waits for no answer, and knows the leader of now."""
    consumer = Consumer(bootstrap_servers=cluster.bootstrap, auto_offset_reset=policy)
    consumer.assign([place])
    consumer.seek(place, 0)
    assert read_until(consumer, place, 100) == list(range(100))
    consumer.pause(place)
    wait_for(lambda: consumer._fetcher.states[place].asked is None)
    return consumer


def unread_bytes(process: int) -> dict[str, int]:
    """What waits in the sockets of a stopped process, by whom it came from. A heartbeat has less than 20 bytes."""
    sockets = set()
    for descriptor in Path(f"/proc/{process}/fd").iterdir():
        with suppress(FileNotFoundError):
            sockets.add(os.readlink(descriptor))
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {line[2]: int(line[4].split(":")[1], 16) for line in lines if f"socket:[{line[9]}]" in sockets}


def led_epochs(admin: Admin, topic: str) -> list[int]:
    statuses: list[ReplicaStatus] = admin.describe_replicas([topic])
    return [status.leader_epoch for status in statuses if status.role == Role.LEADER]


def read_until(consumer: Consumer, place: TopicPartition, end: int) -> list[int]:
    found: list[int] = []
    deadline_s = time.monotonic() + WAIT_S
    while (consumer.position(place) or 0) < end:
        assert time.monotonic() < deadline_s, f"{found[-1:]} was the last one read"
        found += [record.offset for record in consumer.poll(timeout_ms=100).get(place, [])]
    return found
