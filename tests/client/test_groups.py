"""Groups of consumers against real nodes: restarts, members killed and paused, coordinators lost, changing topics."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from raftlog import Admin, AsyncConsumer, Consumer, NewTopic, OffsetAndMetadata, Producer, TopicPartition
from raftlog.errors import CommitFailedError, FencedInstanceIdError, RaftlogError
from raftlog.types import OFFSETS_TOPIC

if TYPE_CHECKING:
    from raftlog.node.local import LocalCluster

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
        (result,) = admin.create_topics([NewTopic(name=name, partitions=partitions, replication_factor=3)])
        assert not result.error_code, result.error_text
    return name


def fill(bootstrap: str, topic: str, partitions: int, per_partition: int) -> None:
    with Producer(bootstrap) as producer:
        for number in range(per_partition):
            for partition in range(partitions):
                producer.send(topic, b"%d" % number, partition=partition)


def until(consumers: list[Consumer], found: Callable[[], bool], within_s: float = 30.0) -> list[tuple[int, int]]:
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


def test_positions_survive_a_restart_and_nothing_is_read_twice_or_missed(cluster: LocalCluster) -> None:
    topic, group = new_topic(cluster.bootstrap, 3), unique("g")
    fill(cluster.bootstrap, topic, 3, 100)
    read = []
    for _ in range(5):
        with Consumer(topic, bootstrap_servers=cluster.bootstrap, group_id=group, **FAST) as consumer:
            start = len(read)
            for record in consumer:
                read.append((record.partition, record.offset))
                if len(read) >= start + 60:
                    break
    assert sorted(read) == [(partition, offset) for partition in range(3) for offset in range(100)]


def test_two_groups_read_the_same_records_independently(cluster: LocalCluster) -> None:
    topic = new_topic(cluster.bootstrap, 2)
    fill(cluster.bootstrap, topic, 2, 50)
    for group in (unique("g"), unique("g")):
        with Consumer(topic, bootstrap_servers=cluster.bootstrap, group_id=group, **FAST) as consumer:
            read = until([consumer], lambda: len(consumer.assignment()) == 2 and at_end(50)(consumer) == 2)
            assert sorted(read) == [(partition, offset) for partition in range(2) for offset in range(50)]


def drain(consumer: Consumer) -> list[tuple[int, int]]:
    return [(place.partition, record.offset) for place, found in consumer.poll(50).items() for record in found]


def test_members_share_the_partitions_and_the_idle_one_takes_over(cluster: LocalCluster) -> None:
    topic, group = new_topic(cluster.bootstrap, 2), unique("g")
    with contextlib.ExitStack() as stack:
        options = {"bootstrap_servers": cluster.bootstrap, "group_id": group, **FAST}
        members = [stack.enter_context(Consumer(topic, **options)) for _ in range(3)]
        until(members, shared(members, 2))
        idle = next(member for member in members if not member.assignment())
        busy = next(member for member in members if member.assignment())
        kept = next(member for member in members if member not in (idle, busy)).assignment()
        share = busy.assignment()
        busy.close()
        members.remove(busy)
        until(members, shared(members, 2))
        assert idle.assignment() == share, "what was left is not what the idle one got"
        assert next(member for member in members if member is not idle).assignment() == kept


def test_callbacks_and_manual_commits(cluster: LocalCluster) -> None:
    topic, group = new_topic(cluster.bootstrap, 2), unique("g")
    fill(cluster.bootstrap, topic, 2, 10)
    places = [TopicPartition(topic, 0), TopicPartition(topic, 1)]
    told: list[tuple[str, list[TopicPartition]]] = []
    options = {"bootstrap_servers": cluster.bootstrap, "group_id": group, "enable_auto_commit": False, **FAST}
    with Consumer(**options) as consumer:

        def revoked(lost: list[TopicPartition]) -> None:
            consumer.commit({place: consumer.position(place) for place in lost})
            told.append(("revoked", lost))

        consumer.subscribe([topic], on_assigned=lambda new: told.append(("assigned", new)), on_revoked=revoked)
        until([consumer], lambda: len(consumer.assignment()) == 2)
        assert told == [("assigned", places)]
        assert consumer.committed(places) == dict.fromkeys(places)
        consumer.commit({places[0]: OffsetAndMetadata(4, "here")})
        assert consumer.committed(places) == {places[0]: OffsetAndMetadata(4, "here"), places[1]: None}
        done: list[tuple[object, RaftlogError | None]] = []
        consumer.commit_async({places[1]: 7}, lambda offsets, error: done.append((offsets, error)))
        until([consumer], lambda: bool(done))
        assert done == [({places[1]: OffsetAndMetadata(7)}, None)]
        with pytest.raises(CommitFailedError):
            consumer.commit({TopicPartition("another", 0): 1})
        consumer.seek_to_end()
    assert told[1:] == [("revoked", places)]
    with Consumer(**options) as consumer:
        consumer.assign(places)
        assert [consumer.position(place) for place in places] == [10, 10]
        consumer.commit({places[0]: 2})  # from outside: the group has no members
        with Consumer(topic, **options) as member:
            read = until([member], lambda: at_end(10)(member) == 2)
            assert read == [(0, offset) for offset in range(2, 10)]
            with pytest.raises(CommitFailedError):
                consumer.commit({places[0]: 3})


def test_a_static_member_that_comes_back_has_its_share_and_fences_the_one_before(cluster: LocalCluster) -> None:
    topic, group = new_topic(cluster.bootstrap, 4), unique("g")
    options = {"bootstrap_servers": cluster.bootstrap, "group_id": group, **FAST}
    with Consumer(topic, **options) as other:
        first = Consumer(topic, group_instance_id="one", **options)
        until([first, other], shared([first, other], 4))
        share, kept = first.assignment(), other.assignment()
        with Consumer(topic, group_instance_id="one", **options) as second:
            until([second, other], lambda: second.assignment() == share)
            assert other.assignment() == kept
            with pytest.raises(FencedInstanceIdError):
                until([first], lambda: False)
            with pytest.raises(FencedInstanceIdError):
                first.poll(100)  # for good: it would fence the second
        first.close()


def test_topics_come_and_go_and_partitions_are_added(cluster: LocalCluster) -> None:
    name = unique("pattern")
    first = new_topic(cluster.bootstrap, 2, f"{name}-a")
    options = {"bootstrap_servers": cluster.bootstrap, "group_id": unique("g"), **FAST}
    with Admin(cluster.bootstrap) as admin, Consumer(**options) as one, Consumer(**options) as two:
        for member in (one, two):
            member.subscribe(pattern=f"{name}-.*")
        until([one, two], shared([one, two], 2))
        second = new_topic(cluster.bootstrap, 2, f"{name}-b")
        until([one, two], shared([one, two], 4))
        admin.create_partitions(first, 4)
        until([one, two], shared([one, two], 6))
        fill(cluster.bootstrap, first, 4, 1)
        admin.delete_topics([second])
        until([one, two], shared([one, two], 4))
        assert {place.topic for place in one.assignment() | two.assignment()} == {first}


def test_a_topic_made_anew_has_no_committed_offset(cluster: LocalCluster) -> None:
    topic, group = new_topic(cluster.bootstrap, 1), unique("g")
    fill(cluster.bootstrap, topic, 1, 10)
    options = {"bootstrap_servers": cluster.bootstrap, "group_id": group, **FAST}
    with Consumer(topic, **options) as consumer:
        until([consumer], lambda: bool(consumer.assignment()) and consumer.position(TopicPartition(topic, 0)) == 10)
    with Admin(cluster.bootstrap) as admin:
        admin.delete_topics([topic])
    new_topic(cluster.bootstrap, 1, topic)
    fill(cluster.bootstrap, topic, 1, 3)
    with Consumer(topic, **options) as consumer:
        read = until([consumer], lambda: bool(consumer.assignment()))
        while len(read) < 3:
            read += drain(consumer)
        assert read == [(0, 0), (0, 1), (0, 2)]


def test_the_asyncio_consumer_is_a_member_as_well(cluster: LocalCluster) -> None:
    topic, group = new_topic(cluster.bootstrap, 2), unique("g")
    fill(cluster.bootstrap, topic, 2, 20)

    async def read(count: int) -> list[tuple[int, int]]:
        options = {"bootstrap_servers": cluster.bootstrap, "group_id": group, **FAST}
        found = []
        async with AsyncConsumer(topic, **options) as consumer:
            async for record in consumer:
                found.append((record.partition, record.offset))
                if len(found) == count:
                    await consumer.commit()
                    place = TopicPartition(topic, record.partition)
                    assert (await consumer.committed([place]))[place] == OffsetAndMetadata(record.offset + 1)
                    return found
        raise AssertionError("iteration ended")

    found = asyncio.run(asyncio.wait_for(read(25), 60)) + asyncio.run(asyncio.wait_for(read(15), 60))
    assert sorted(found) == [(partition, offset) for partition in range(2) for offset in range(20)]


# --- processes -------------------------------------------------------------------------------
class Process:
    """A member that can be killed or paused, and the lines that it has said."""

    def __init__(self, bootstrap: str, topic: str, group: str) -> None:
        script = Path(__file__).with_name("group_process.py")
        command = [sys.executable, str(script), bootstrap, topic, group, str(SESSION_MS)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.lines: list[tuple[float, list[str]]] = []
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append((time.monotonic(), line.split()))

    def said(self, *words: str) -> bool:
        return any(line[: len(words)] == list(words) for _, line in list(self.lines))

    def read(self) -> set[tuple[int, int]]:
        return {(int(line[1]), int(line[2])) for _, line in list(self.lines) if line[0] == "read"}

    def signal(self, number: int) -> None:
        os.kill(self.process.pid, number)


@contextmanager
def process(bootstrap: str, topic: str, group: str) -> Iterator[Process]:
    member = Process(bootstrap, topic, group)
    try:
        yield member
    finally:
        member.process.kill()
        member.process.wait()
        assert member.process.stdout is not None
        member._thread.join(5)
        member.process.stdout.close()


def wait(found: Callable[[], bool], within_s: float = 30.0) -> None:
    deadline_s = time.monotonic() + within_s
    while not found():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def test_a_killed_member_is_replaced_within_the_session_timeout(cluster: LocalCluster) -> None:
    topic, group = new_topic(cluster.bootstrap, 2), unique("g")
    options = {"bootstrap_servers": cluster.bootstrap, "group_id": group, **FAST}
    with process(cluster.bootstrap, topic, group) as member, Consumer(topic, **options) as consumer:
        until([consumer], lambda: len(consumer.assignment()) == 1 and member.said("assigned"))
        fill(cluster.bootstrap, topic, 2, 10)
        wait(lambda: len(member.read()) == 10)
        member.signal(signal.SIGKILL)
        killed_s = time.monotonic()
        until([consumer], lambda: len(consumer.assignment()) == 2)
        # A session timeout, the next heartbeat, and a busy machine.
        assert time.monotonic() - killed_s < SESSION_MS / 1000 + 3.0
        fill(cluster.bootstrap, topic, 2, 10)
        read: set[tuple[int, int]] = set()
        wait(lambda: read.update(drain(consumer)) or {(0, 19), (1, 19)} <= read)


def test_a_paused_member_hands_out_nothing_and_commits_nothing_after_it_wakes(cluster: LocalCluster) -> None:
    topic, group = new_topic(cluster.bootstrap, 2), unique("g")
    options = {"bootstrap_servers": cluster.bootstrap, "group_id": group, **FAST}
    with process(cluster.bootstrap, topic, group) as member, Consumer(topic, **options) as consumer:
        until([consumer], lambda: len(consumer.assignment()) == 1 and member.said("assigned"))
        until([consumer], lambda: len(member.lines[-1][1]) == 2)  # it has one of the two
        (kept,) = consumer.assignment()
        member.signal(signal.SIGSTOP)
        until([consumer], lambda: len(consumer.assignment()) == 2)
        other = TopicPartition(topic, 1 - kept.partition)
        fill(cluster.bootstrap, topic, 2, 30)
        until([consumer], lambda: consumer.position(other) == 30)
        consumer.commit()
        before = len(member.lines)
        woken_s = time.monotonic()
        member.signal(signal.SIGCONT)
        wait(lambda: member.said("lost"))
        reads = [line for at_s, line in member.lines[before:] if line[0] == "read" and at_s >= woken_s]
        assert not [line for line in reads if int(line[2]) < 30 and int(line[1]) == other.partition]
        assert consumer.committed([other])[other] == OffsetAndMetadata(30)


def test_a_member_that_was_paused_while_it_worked_cannot_commit_after_it_wakes(cluster: LocalCluster) -> None:
    topic, group = new_topic(cluster.bootstrap, 1), unique("g")
    place = TopicPartition(topic, 0)
    with process(cluster.bootstrap, topic, group) as member:
        wait(lambda: member.said("assigned", "0"))
        with Producer(cluster.bootstrap) as producer:
            producer.send(topic, b"stop")
        wait(lambda: member.said("read", "0", "0"))
        with Consumer(topic, bootstrap_servers=cluster.bootstrap, group_id=group, **FAST) as consumer:
            until([consumer], lambda: consumer.assignment() == {place})
            fill(cluster.bootstrap, topic, 1, 10)
            until([consumer], lambda: consumer.position(place) == 11)
            consumer.commit()
            member.signal(signal.SIGCONT)
            wait(lambda: member.said("commit", "CommitFailedError"))
            wait(lambda: member.said("lost", "0"))
            assert consumer.committed([place])[place] == OffsetAndMetadata(11)
            until([consumer], lambda: member.said("assigned"))
            assert member.read() == {(0, 0)}


# --- clusters of their own -------------------------------------------------------------------
def test_consumption_goes_on_when_the_coordinators_node_is_killed(
    fresh_cluster: Callable[..., LocalCluster],
) -> None:
    cluster = fresh_cluster(nodes=3)
    topic, group = new_topic(cluster.bootstrap, 3), unique("g")
    options = {"bootstrap_servers": cluster.bootstrap, "group_id": group, **FAST}
    with Admin(cluster.bootstrap) as admin, Consumer(topic, **options) as one, Consumer(topic, **options) as two:
        until([one, two], shared([one, two], 3))
        (offsets,) = admin.describe_topics([OFFSETS_TOPIC])
        from raftlog.protocol.groups import coordinator_partition

        number = coordinator_partition(group, len(offsets.partitions))
        fill(cluster.bootstrap, topic, 3, 10)
        read = until([one, two], lambda: sum(map(at_end(10), (one, two))) == 3)
        cluster.kill(offsets.partitions[number].leader_id)
        fill(cluster.bootstrap, topic, 3, 10)
        read += until([one, two], lambda: sum(map(at_end(20), (one, two))) == 3)
        one.commit()
        two.commit()
        until([one, two], shared([one, two], 3))
        assert sorted(set(read)) == [(partition, offset) for partition in range(3) for offset in range(20)]
        assert len(read) == 60, "without a change of members nothing is read twice"


def at_end(offset: int) -> Callable[[Consumer], int]:
    return lambda consumer: sum(consumer.position(place) == offset for place in consumer.assignment())
