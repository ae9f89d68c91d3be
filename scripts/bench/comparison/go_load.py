"""The compiled load client of scripts/bench/load, for every system but raftlog."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from raftlog_cli.bench_run import LoadProcess

from .servers import HOST, failure_of
from .system import Shape
from .workloads import Workload

BENCH = Path(__file__).resolve().parent.parent
BUILD = BENCH.parent.parent / "build" / "bench"  # ignored by version control
BINARY = BUILD / "load"
GO_BUILD_S = 1800


class GoPlan(msgspec.Struct, frozen=True, kw_only=True):
    """As Plan in load/main.go. There a request is what is handed over at once, also where it travels as many."""

    system: str
    mode: str
    addresses: list[str]
    topic: str
    record_size: int
    batch_records: int
    in_flight: int
    connections: int
    replicas: int
    partitions: int
    rate: int
    synced: bool
    security: str
    hello: str
    warm_up_s: float
    seconds: float


def missing_client() -> str | None:
    """Builds it when its source is newer, which takes a while the first time."""
    if shutil.which("go") is None:
        return "its load client needs Go: Debian package golang-go, or a newer one"
    BUILD.mkdir(parents=True, exist_ok=True)
    if why := failure_of(["go", "build", "-o", str(BINARY), "."], GO_BUILD_S, cwd=BENCH / "load"):
        return f"its load client does not build: {why}"
    return None


class Family(Protocol):
    """Whose processes are the servers."""

    def pids(self) -> list[int]: ...


class GoRunning:
    """A running system, under the load of the program in Go.

    `consumed`: reading takes records away, so that nothing can be read before the clock runs.

    `shapes`: how workloads travel, by key, where it is not as asked. `readers`: connections that read at the same time,
    each of them everything. `security`: the directory of the certificate that clients show; "": no TLS. `hello`: the
    first question of a connection. `synced`: the client asks for
    that with each request, as with Valkey's WAITAOF.
    """

    def __init__(
        self,
        system: str,
        servers: Family,
        ports: Sequence[int],
        replicas: int,
        *,
        shapes: Mapping[str, Shape] | None = None,
        readers: int = 1,
        consumed: bool = False,
        security: str = "",
        synced: bool = False,
        hello: bytes = b"",
    ) -> None:
        self._system = system
        self._servers = servers
        self._addresses = [f"{HOST}:{port}" for port in ports]
        self._replicas = replicas
        self._shapes = shapes or {}
        self._readers = readers
        self._consumed = consumed
        self._security = security
        self._synced = synced
        self._hello = hello

    def pids(self) -> list[int]:
        return self._servers.pids()

    def shape(self, workload: Workload) -> Shape:
        if workload.connections is not None:
            return Shape(workload.in_flight, workload.batch_records, workload.connections)
        if workload.consume:
            return Shape(self._readers, workload.batch_records, self._readers)
        return self._shapes.get(workload.key) or Shape(workload.in_flight, workload.batch_records)

    def load(self, workload: Workload, *, seconds: float, warm_up_s: float) -> LoadProcess:
        shape = self.shape(workload)
        plan = GoPlan(
            system=self._system,
            mode=workload.mode,
            addresses=self._addresses,
            topic=workload.topic,
            record_size=workload.record_size,
            batch_records=workload.batch_records,
            in_flight=shape.in_flight * shape.batch_records // workload.batch_records,
            connections=shape.connections,
            replicas=self._replicas if workload.partitions == 1 else 1,
            partitions=workload.partitions,
            rate=workload.rate,
            synced=self._synced,
            security=self._security,
            hello=base64.b64encode(self._hello).decode(),
            warm_up_s=0 if workload.consume and self._consumed else warm_up_s,
            seconds=seconds,
        )
        return LoadProcess(plan, [str(BINARY)])
