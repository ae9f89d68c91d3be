"""What a node has to say for one scrape, of each kind something."""

from __future__ import annotations

from msgspec.structs import replace

from raftlog.client.admin.lag_reader import GroupLag, PartitionLag
from raftlog.histogram import BOUNDS_S
from raftlog.http.metrics import Scrape
from raftlog.http.processes import Usage
from raftlog.protocol.report import Figures, NodeReport, PartitionFigures, Timing
from raftlog.types import ReplicaStatus, Role

LEADER = ReplicaStatus(
    topic="orders", topic_id=b"t" * 16, partition=0, node_id=1, role=Role.LEADER, in_sync=(1, 2), high_watermark=10
)
FIGURES = Figures(
    counts={("requests", "native", "Produce"): 3},
    levels={("connections", "native"): 2},
    timings={("sync_seconds",): Timing([1, 2, *[0] * (len(BOUNDS_S) - 2), 4], 50.0)},
    partitions=[
        PartitionFigures(
            topic="orders",
            partition=0,
            elections=2,
            produced_bytes=9,
            elected_ms=1_500,
            index_map_bytes=7,
            began_s=78.5,
        ),
        PartitionFigures(topic="orders", partition=1, fetched_bytes=5, began_s=79.5),  # its process has ended
    ],
    began_s=77.5,
)
REPORT = NodeReport(
    node_id=1,
    cluster_id="c",
    obstacles=[],
    replicas=[LEADER, replace(LEADER, partition=1, role=Role.FOLLOWER, in_sync=())],
    sizes=[3, 3],
    lags=[0, 4],
    figures=FIGURES,
)
LAG = PartitionLag("orders", 0, committed_offset=8, records=2, behind_since_ms=1_000)
SCRAPE = Scrape(
    report=REPORT,
    ready=True,
    lags=[GroupLag("billing", 1, [LAG])],
    usages={"worker": Usage(processes=2, cpu_s=1.5)},
    disk=(100, 40),
    now_ms=4_500,
)
