"""What is asked of every system, and what one answer to it is. Data only."""

from __future__ import annotations

from typing import Literal

import msgspec

Mode = Literal["produce", "consume", "decode", "behind", "hold", "attend", "connect"]


class Workload(msgspec.Struct, frozen=True, kw_only=True):
    """What is measured: how records are sent or read.

    `topic`: where a produce leaves its records; a consume reads what the produce of that topic has left, a decode also
    takes every record out of its batch.

    `rate`: records a second that are offered, whatever is answered when; 0: as many as `in_flight` allows.

    `connections`: where the workload is about them; else each system has as many as suit it.
    """

    key: str
    title: str
    topic: str
    record_size: int
    batch_records: int
    in_flight: int
    mode: Mode = "produce"
    rate: int = 0
    connections: int | None = None
    partitions: int = 1

    @property
    def consume(self) -> bool:
        return self.mode in ("consume", "decode")

    @property
    def timed(self) -> bool:
        """How long a record takes is asked; else how many go."""
        return self.in_flight == 1 or self.rate > 0


BATCHES = Workload(
    key="batches",
    title="50 × 200 B a request, 50 requests in flight",
    topic="batches",
    record_size=200,
    batch_records=50,
    in_flight=50,
)
SINGLES = Workload(
    key="singles",
    title="single records of 200 B, 1,000 in flight",
    topic="singles",
    record_size=200,
    batch_records=1,
    in_flight=1000,
)
ALONE = Workload(
    key="alone",
    title="one record of 200 B at a time",
    topic="alone",
    record_size=200,
    batch_records=1,
    in_flight=1,
)
OFFERED = Workload(
    key="offered",
    title="10,000 single records of 200 B a second offered",
    topic="offered",
    record_size=200,
    batch_records=1,
    in_flight=1000,
    rate=10_000,
)
LARGE = Workload(
    key="large",
    title="255 × 1 KiB a request, 16 requests in flight",
    topic="large",
    record_size=1024,
    batch_records=255,
    in_flight=16,
)
READ_SMALL = Workload(
    key="read-small",
    title="consuming 200 B records from the page cache",
    topic="batches",
    record_size=200,
    batch_records=50,
    in_flight=4,
    mode="consume",
)
READ_DECODED = Workload(
    key="read-decoded",
    title="consuming 200 B records from the page cache, each taken out of its batch",
    topic="batches",
    record_size=200,
    batch_records=50,
    in_flight=4,
    mode="decode",
)
READ_LARGE = Workload(
    key="read-large",
    title="consuming 1 KiB records from the page cache",
    topic="large",
    record_size=1024,
    batch_records=255,
    in_flight=4,
    mode="consume",
)
ONE_CONNECTION = Workload(
    key="batches-1",
    title="50 × 200 B a request, 50 requests in flight, one connection",
    topic="batches-1",
    record_size=200,
    batch_records=50,
    in_flight=50,
    connections=1,
)
THREE_CONNECTIONS = Workload(
    key="batches-3",
    title="50 × 200 B a request, 48 requests in flight, three connections",
    topic="batches-3",
    record_size=200,
    batch_records=50,
    in_flight=48,
    connections=3,
)
BEHIND = Workload(
    key="behind",
    title="50 × 200 B a request, 48 in flight, beside a consumer far behind in the same partition",
    topic="batches",
    record_size=200,
    batch_records=50,
    in_flight=48,
    connections=3,
    mode="behind",
)
IDLE_CONNECTIONS = Workload(
    key="idle-connections",
    title="2,000 idle connections",
    topic="",
    record_size=0,
    batch_records=1,
    in_flight=2000,
    connections=2000,
    mode="hold",
)
IDLE_PARTITIONS = Workload(
    key="idle-partitions",
    title="a consumer of 100 idle partitions with one replica each",
    topic="idle",
    record_size=0,
    batch_records=1,
    in_flight=1,
    connections=1,
    partitions=100,
    mode="attend",
)
CONNECTS = Workload(
    key="connects",
    title="connections made under TLS with both certificates, asked one question and closed, 8 at a time",
    topic="",
    record_size=0,
    batch_records=1,
    in_flight=8,
    connections=8,
    mode="connect",
)
# In this order: what is consumed was produced before, and not much lies between.
COMMON = (BATCHES, READ_SMALL, READ_DECODED, SINGLES, ALONE, OFFERED, LARGE, READ_LARGE)
# Of systems where reading takes records away.
TAKEN = tuple(workload for workload in COMMON if workload is not READ_DECODED)
# Of systems that speak Kafka's protocol.
KAFKA = (*COMMON, ONE_CONNECTION, THREE_CONNECTIONS, BEHIND, IDLE_CONNECTIONS, IDLE_PARTITIONS)
WORKLOADS = (*KAFKA, CONNECTS)


class Row(msgspec.Struct, kw_only=True):
    """One workload on one system, once. `error`: why there are no figures.

    CPU is in cores: seconds of CPU a second. Wire bytes are what TCP carried for one record, headers of TCP and below
    left out: over the client's connections, both ways, and over all connections, those between the servers included.
    `cost_percent`: of the producer's records a second that a consumer beside it takes away; `read_per_s`: its records.
    `bytes_each`: the servers' memory (PSS) for each connection. `idle_percent`, `held_percent`: of a core that the
    servers use without idle clients and with them; `requests_per_s`: what those ask for nevertheless. `connects_per_s`:
    connections made; `connects_per_core`: for a second of the servers' CPU.
    """

    system: str
    variant: str
    workload: str
    replicas: int
    fsync: bool
    record_size: int
    in_flight: int
    batch_records: int
    connections: int = 1
    records_per_s: float = 0
    mb_per_s: float = 0
    p50_ms: float | None = None
    p99_ms: float | None = None
    p999_ms: float | None = None
    client_cpu: float = 0
    servers_cpu: float = 0
    client_wire_bytes: float | None = None
    all_wire_bytes: float | None = None
    cost_percent: float | None = None
    read_per_s: float | None = None
    bytes_each: float | None = None
    idle_percent: float | None = None
    held_percent: float | None = None
    requests_per_s: float | None = None
    connects_per_s: float | None = None
    connects_per_core: float | None = None
    error: str = ""
