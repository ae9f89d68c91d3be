"""Members in processes of their own, killed and paused; and the coordinator's node killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from raftlog import Admin, Consumer, Producer, TopicPartition
from raftlog.protocol.groups import coordinator_partition
from raftlog.types import OFFSETS_TOPIC
from tests.client.grouping import FAST, SESSION_MS, at_end, drain, fill, new_topic, shared, unique, until
from tests.patience import WAIT_S

if TYPE_CHECKING:
    from raftlog.node.local import LocalCluster


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
        member._thread.join(WAIT_S)
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
        found = consumer.committed([other])[other]
        assert found is not None and found.offset == 30


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
            found = consumer.committed([place])[place]
            assert found is not None and found.offset == 11
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
