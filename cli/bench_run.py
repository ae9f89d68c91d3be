"""One run of the bench against a cluster that is there: topic, load client, counters before and after."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from typing import Self

import msgspec
import psutil

from raftlog import Admin
from raftlog.errors import ConfigError, RaftlogError
from raftlog.limits import GOSSIP_S, RECORD_BYTES_MAX
from raftlog.protocol.cluster import TopicMetadata
from raftlog.protocol.topics import NewTopic
from raftlog.types import TopicConfig

from .bench_load import Leader, Plan, Result
from .connect import open_admin
from .output import note

_WARM_UP_S = 2.0
_SETTLE_S = 2 * GOSSIP_S + 0.3  # after this long, a quiet cluster has told all its counters
_LEADERS_S = 15.0  # for the workers of a new topic
_FILL_BYTES = 256 * 1000 * 1000  # what `consume` reads, over and over
_FILL_S = 300.0
_FILL_IN_FLIGHT = 50
_DECODE_S = 3.0
_BATCH_SPARE_BYTES = 128  # of a batch beside its records
_RECORD_SPARE_BYTES = 32  # of a record beside its value


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What a bench is asked to do. `pids`: the nodes, where they run on this machine."""

    record_size: int
    batch_records: int
    in_flight: int
    partitions: int
    replication_factor: int | None
    acks: int
    seconds: float
    rate: int = 0
    bootstrap: str = ""
    pids: tuple[int, ...] = ()

    @property
    def batch_bytes_max(self) -> int:
        return _BATCH_SPARE_BYTES + self.batch_records * (self.record_size + _RECORD_SPARE_BYTES)


def measure_produce(settings: Settings) -> dict[str, object]:
    with open_admin(settings.bootstrap) as admin, own_topic(admin, settings) as topic:
        return _measured(admin, settings, topic, plan_for(settings, topic, "produce"))


def measure_consume(settings: Settings) -> dict[str, object]:
    with open_admin(settings.bootstrap) as admin, own_topic(admin, settings) as topic:
        batches = -(-_FILL_BYTES // settings.partitions // (settings.batch_records * settings.record_size))
        records = batches * settings.batch_records
        note(f"filling {settings.partitions} x {records:,} records")
        fill = plan_for(
            settings, topic, "fill", records=records, in_flight=_FILL_IN_FLIGHT, acks=-1, seconds=_FILL_S, warm_up_s=0
        )
        with LoadProcess(fill) as load:
            filled = load.measure()
        if filled.records < records * settings.partitions:
            raise RaftlogError(f"only {filled.records:,} records could be filled in within {_FILL_S:.0f} s")
        figures = _measured(admin, settings, topic, plan_for(settings, topic, "fetch", records=records))
        with LoadProcess(plan_for(settings, topic, "decode", records=records, seconds=_DECODE_S)) as load:
            decoded = load.measure()
        return figures | {"decoded_records_per_s": round(decoded.records / decoded.seconds)}


@contextlib.contextmanager
def own_topic(admin: Admin, settings: Settings) -> Iterator[TopicMetadata]:
    """A topic of the run's own, with a leader and all replicas in sync for each partition."""
    if settings.batch_bytes_max > RECORD_BYTES_MAX:
        raise ConfigError(f"a batch has at most {RECORD_BYTES_MAX:,} bytes; lower --batch-records or --record-size")
    name = f"bench-{uuid.uuid4().hex[:8]}"
    admin.create_topics(
        [
            NewTopic(
                name=name,
                partitions=settings.partitions,
                replication_factor=settings.replication_factor or -1,
                config={"max_record_bytes": str(max(TopicConfig().max_record_bytes, settings.batch_bytes_max))},
            )
        ]
    )
    try:
        yield with_leaders(admin, name)
    finally:
        with contextlib.suppress(RaftlogError):  # what ends the run matters more
            admin.delete_topics([name])


def with_leaders(admin: Admin, name: str) -> TopicMetadata:
    end_s = time.monotonic() + _LEADERS_S
    while time.monotonic() < end_s:
        (topic,) = admin.describe_topics([name])
        if topic.partitions and all(
            each.endpoint is not None and len(each.in_sync) == len(each.replicas) for each in topic.partitions
        ):
            return topic
        time.sleep(0.1)
    raise RaftlogError(f"topic {name} had no leaders with all replicas in sync within {_LEADERS_S:.0f} s")


def plan_for(settings: Settings, topic: TopicMetadata, mode: str, **changes: float) -> Plan:
    leaders = [
        Leader(partition=each.partition, host=each.endpoint.host, port=each.endpoint.port)
        for each in topic.partitions
        if each.endpoint is not None
    ]
    plan = Plan(
        mode=mode,
        bootstrap=settings.bootstrap,
        topic=topic.name,
        topic_id=topic.topic_id,
        leaders=leaders,
        record_size=settings.record_size,
        batch_records=settings.batch_records,
        in_flight=settings.in_flight,
        acks=settings.acks,
        rate=settings.rate if mode == "produce" else 0,
        warm_up_s=min(_WARM_UP_S, settings.seconds),
        seconds=settings.seconds,
    )
    return msgspec.structs.replace(plan, **changes)


def _measured(admin: Admin, settings: Settings, topic: TopicMetadata, plan: Plan) -> dict[str, object]:
    note(f"measuring {settings.seconds:g} s")
    with LoadProcess(plan) as load:
        load.warm_up()
        # Between warm-up and measurement nothing is under way, so that the counters are exact.
        time.sleep(_SETTLE_S)
        fsyncs = _fsyncs(admin, topic)
        nodes_cpu_s = _cpu_s(settings.pids)
        result = load.measure()
        nodes_cpu_s = _cpu_s(settings.pids) - nodes_cpu_s
        time.sleep(_SETTLE_S)
        fsyncs = _fsyncs(admin, topic) - fsyncs
    cluster = admin.describe_cluster()
    return {
        "records_per_s": round(result.records / result.seconds),
        "mb_per_s": round(result.records * settings.record_size / result.seconds / 1e6, 2),
        "requests_per_s": round(result.requests / result.seconds),
        "p50_ms": _rounded(result.p50_ms),
        "p99_ms": _rounded(result.p99_ms),
        "p999_ms": _rounded(result.p999_ms),
        "fsyncs": fsyncs,
        "flush": cluster.flush,
        "records": result.records,
        "seconds": round(result.seconds, 3),
        "client_cpu_s": round(result.cpu_s, 2),
        "nodes_cpu_s": round(nodes_cpu_s, 2) if settings.pids else None,
        "nodes": len(cluster.nodes),
        "partitions": settings.partitions,
        "replication_factor": max(len(each.replicas) for each in topic.partitions),
        "acks": "all" if settings.acks < 0 else str(settings.acks),
        "record_size": settings.record_size,
        "batch_records": settings.batch_records,
        "in_flight": settings.in_flight,
        "offered_records_per_s": settings.rate or None,
    }


def _rounded(value_ms: float | None) -> float | None:
    return None if value_ms is None else round(value_ms, 3)


def _fsyncs(admin: Admin, topic: TopicMetadata) -> int:
    return sum(replica.fsyncs for replica in admin.describe_replicas([topic.name]))


def _cpu_s(pids: tuple[int, ...]) -> float:
    """Of the nodes and of all below them; workers are grandchildren, since a fork server stands between."""
    total_s = 0.0
    for pid in pids:
        node = psutil.Process(pid)
        for process in (node, *node.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total_s += times.user + times.system
    return total_s


class LoadProcess:
    """The load client's process, from entering the context until leaving it.

    `command`: another one that speaks as `bench_load` does, with a plan of its own.
    """

    def __init__(self, plan: msgspec.Struct, command: Sequence[str] | None = None) -> None:
        self._plan = plan
        self._command = command or (sys.executable, "-P", "-m", f"{__package__}.bench_load")
        self._warm = False

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        try:
            self._write(msgspec.json.encode(self._plan))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    @property
    def pid(self) -> int:
        return self._process.pid

    def warm_up(self) -> None:
        if self._read() != b"warm":
            raise RaftlogError("the load client does not say what it should")
        self._warm = True

    def measure(self) -> Result:
        if not self._warm:
            self.warm_up()
        self._write(b"go")
        return msgspec.json.decode(self._read(), type=Result)

    def _write(self, line: bytes) -> None:
        assert self._process.stdin is not None
        # A load client that has ended is told by `_read`, with what it had to say.
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(line + b"\n")
            self._process.stdin.flush()

    def _read(self) -> bytes:
        """Bounded, since the load client bounds every wait. Raises what it says went wrong."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        if not line:
            raise RaftlogError("the load client ended early")
        if line.startswith(b"{"):
            result = msgspec.json.decode(line, type=Result)
            if result.error:
                raise RaftlogError(f"the load client met an error: {result.error}")
        return line
