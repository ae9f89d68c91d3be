"""Damaged frames for the door of a real node, and how long a healthy client beside them waits for its answers.

    scripts/kafka-fuzz --door 30

A node, a client that produces and fetches one record after the other, and beside it a process that sends damaged
frames over many connections, some of which it leaves half sent: not at all in the first third of the seconds, in half
of its time in the second, so that the processor is not what all wait for, and as fast as it can in the last.
"""

from __future__ import annotations

import random
import select
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

import psutil

from raftlog import Admin
from raftlog.client import NewTopic
from raftlog.node.local import LocalCluster
from raftlog.record.batch import encode
from raftlog.types import Endpoint
from tests.fuzz.kafka_frames import damaged, undamaged
from tests.kafka.tcp import FETCH, PRODUCE, WAIT_S, KafkaSocket

_T = TypeVar("_T")
_TOPIC = "healthy"
_PAUSE_S = 0.005
_FRAMES_PER_CONNECTION = 20
_HALF_SENT = 0.1  # of the connections
_HALF_BYTES = 256 * 1024
_OPEN_MAX = 200


class Seen(NamedTuple):
    """By a healthy client and of the door, over some seconds."""

    answers: int
    median_ms: float
    late_ms: float  # 1 of 100 came later
    longest_ms: float
    door_mib: float
    door_cores: float

    def __str__(self) -> str:
        return (
            f"{self.answers} answers, median {self.median_ms:.1f} ms, 99 % within {self.late_ms:.1f} ms, "
            f"longest {self.longest_ms:.1f} ms; "
            f"the door: at most {self.door_mib:.0f} MiB, {self.door_cores:.2f} of a core"
        )


class Third(NamedTuple):
    name: str
    seen: Seen
    sent: int = 0  # damaged frames

    def __str__(self) -> str:
        return f"{self.name + ':':<8} {self.sent:>8} damaged frames; {self.seen}"


def besiege(seconds: float, seed: int) -> Iterator[Third]:
    """Raises where the healthy client fails."""
    with (
        tempfile.TemporaryDirectory() as directory,
        LocalCluster(1, directory=directory, kafka=True) as cluster,
        Admin(cluster.bootstrap) as admin,
    ):
        admin.create_topics([NewTopic(name=_TOPIC)])
        endpoint = cluster.kafka_endpoints[1]
        with KafkaSocket(endpoint) as client:
            _await_leader(client)
            (door,) = cluster.doors(1)
            yield Third("without", _watch(client, door, seconds / 3))
            for name, share in (("half", 0.5), ("with", 1.0)):
                hostile = subprocess.Popen(
                    [sys.executable, "-m", "tests.fuzz.hostile_clients", str(endpoint.port), str(seed), str(share)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
                assert hostile.stdout is not None
                try:
                    assert hostile.stdout.readline(), "the hostile process has ended"
                    under = _watch(client, door, seconds / 3)
                    said, _ = hostile.communicate("")
                finally:
                    hostile.kill()
                yield Third(name, under, int(said.split()[0]))
        assert door.is_running(), "the door has ended"


def _watch(client: KafkaSocket, door: psutil.Process, seconds: float) -> Seen:
    waits_ms: list[float] = []
    door_bytes, cpu_s, begun_s = 0, sum(door.cpu_times()[:2]), time.monotonic()

    def timed(ask: Callable[[], _T]) -> _T:
        asked_s = time.monotonic()
        answer = ask()
        waits_ms.append((time.monotonic() - asked_s) * 1000)
        return answer

    while time.monotonic() < begun_s + seconds:
        code, offset = timed(lambda: _produce(client))
        assert not code, f"refused with {code}"
        records = timed(lambda: _fetch(client, offset))  # noqa: B023
        assert b"healthy" in records
        door_bytes = max(door_bytes, door.memory_info().rss)
        time.sleep(_PAUSE_S)
    cores = (sum(door.cpu_times()[:2]) - cpu_s) / seconds
    late_ms = statistics.quantiles(waits_ms, n=100)[-1]
    return Seen(len(waits_ms), statistics.median(waits_ms), late_ms, max(waits_ms), door_bytes / 2**20, cores)


def _produce(client: KafkaSocket) -> tuple[int, int]:
    """Error code and offset."""
    records = encode([(int(time.time() * 1000), None, b"healthy")])
    topics = [{"name": _TOPIC, "partition_data": [{"index": 0, "records": records}]}]
    told = client.ask(PRODUCE, 9, acks=-1, timeout=5000, topic_data=topics, transactional_id=None)
    (written,) = told["responses"][0]["partition_responses"]
    return written["error_code"], written["base_offset"]


def _fetch(client: KafkaSocket, offset: int) -> bytes:
    wanted = {"partition": 0, "fetch_offset": offset, "partition_max_bytes": 1000, "current_leader_epoch": -1}
    topics = [{"topic": _TOPIC, "partitions": [wanted]}]
    sizes = {"max_wait": 0, "min_bytes": 1, "max_bytes": 1000}
    told = client.ask(FETCH, 11, replica_id=-1, session_id=0, session_epoch=-1, topics=topics, **sizes)
    return bytes(told["responses"][0]["partitions"][0]["records"])


def _await_leader(client: KafkaSocket) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while (code := _produce(client)[0]) and time.monotonic() < deadline_s:
        time.sleep(0.05)
    assert not code, f"refused with {code}"


# --- the hostile process -------------------------------------------------------------------------
def _attack(endpoint: Endpoint, seed: int, share: float) -> str:
    """Until stdin ends. `share`: of its time; it rests in what is left."""
    dice = random.Random(seed)
    frames = undamaged(dice)
    sent = 0
    left: list[socket.socket] = []
    print("ready", flush=True)
    begun_s = time.monotonic()
    while not _is_over():
        time.sleep((time.monotonic() - begun_s) * (1 / share - 1))
        begun_s = time.monotonic()
        connected = socket.create_connection(tuple(endpoint), timeout=5.0)
        try:
            if dice.random() < _HALF_SENT:
                connected.sendall(struct.pack(">ihh", 100 * 2**20, 0, 9) + bytes(_HALF_BYTES))
                left.append(connected)
                if len(left) > _OPEN_MAX:
                    left.pop(0).close()
                continue
            pieces = [damaged(frames, dice) for _ in range(_FRAMES_PER_CONNECTION)]
            sent += len(pieces)
            connected.sendall(b"".join(struct.pack(">i", len(piece)) + piece for piece in pieces))
            connected.settimeout(0.02)
            while connected.recv(65_536):
                pass
        except OSError:
            pass  # ended by the door, or it answers nothing
        if connected not in left:
            connected.close()
    return str(sent)


def _is_over() -> bool:
    return bool(select.select([sys.stdin], [], [], 0)[0])


if __name__ == "__main__":
    print(_attack(Endpoint("127.0.0.1", int(sys.argv[1])), int(sys.argv[2]), float(sys.argv[3])))
