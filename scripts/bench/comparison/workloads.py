"""What is asked of every system, and what one answer to it is. Data only."""

from __future__ import annotations

import msgspec


class Workload(msgspec.Struct, frozen=True, kw_only=True):
    """`topic`: where a produce leaves its records; a consume reads what the produce of that topic has left."""

    key: str
    title: str
    topic: str
    record_size: int
    batch_records: int
    in_flight: int
    consume: bool = False


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
    consume=True,
)
READ_LARGE = Workload(
    key="read-large",
    title="consuming 1 KiB records from the page cache",
    topic="large",
    record_size=1024,
    batch_records=255,
    in_flight=4,
    consume=True,
)
# In this order: what is consumed was produced before, and not much lies between.
WORKLOADS = (BATCHES, READ_SMALL, SINGLES, ALONE, LARGE, READ_LARGE)


class Row(msgspec.Struct, kw_only=True):
    """One workload on one system, once. `error`: why there are no figures.

    CPU is in cores: seconds of CPU a second. Wire bytes are what TCP carried for one record, headers of TCP and below
    left out: over the client's connections, both ways, and over all connections, those between the servers included.
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
    client_cpu: float = 0
    servers_cpu: float = 0
    client_wire_bytes: float | None = None
    all_wire_bytes: float | None = None
    error: str = ""
