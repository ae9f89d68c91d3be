"""What the comparison needs of a system: its servers on loopback, and a load client for each workload."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

import msgspec

from raftlog_cli.bench_run import LoadProcess

from .workloads import COMMON, Workload


class Variant(msgspec.Struct, frozen=True):
    """How durable a record is when it is acknowledged, and what is asked. `fsync`: it was synced to disk before."""

    label: str
    fsync: bool
    workloads: tuple[Workload, ...] = COMMON


class Shape(msgspec.Struct, frozen=True):
    """How a workload travels: what a system cannot take as asked, it takes as near as it can."""

    in_flight: int
    batch_records: int
    connections: int = 1


class Running(Protocol):
    """Servers that are ready."""

    def pids(self) -> list[int]:
        """The processes that were started; their descendants count as well."""
        ...

    def shape(self, workload: Workload) -> Shape: ...

    def load(self, workload: Workload, *, seconds: float, warm_up_s: float) -> AbstractContextManager[LoadProcess]: ...


class System(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def variants(self) -> Sequence[Variant]: ...

    @property
    def settle_s(self) -> float:
        """Of load before the first figure, for what compiles while it runs."""
        ...

    def replicas(self, wanted: int) -> int:
        """How many servers hold each record when so many are wanted."""
        ...

    def missing(self) -> str | None:
        """What has to be installed, in one line; None when all is there. May build or fetch it first."""
        ...

    def version(self) -> str:
        """Of what is measured; asked when nothing is missing."""
        ...

    def started(self, directory: Path, replicas: int, variant: Variant) -> AbstractContextManager[Running]: ...
