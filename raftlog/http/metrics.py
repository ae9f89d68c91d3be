"""A scrape: what the node, its groups and its machine say, as the metrics of catalog.py. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import raftlog
from raftlog.client.admin.lag_reader import GroupLag
from raftlog.http.exposition import OPENMETRICS_TYPE, TEXT_TYPE, Exposition, wants_openmetrics
from raftlog.http.processes import Usage
from raftlog.protocol.report import NodeReport
from raftlog.types import Doubt, ReplicaStatus, Role


class Scrape(NamedTuple):
    """All that one answer to Prometheus is made of.

    `lags` None: not known. `disk`: the size of the volume, and what is free there.
    """

    report: NodeReport
    ready: bool
    lags: Sequence[GroupLag] | None
    usages: dict[str, Usage]
    disk: tuple[int, int] | None
    now_ms: int


def render(scrape: Scrape, accept: str) -> tuple[bytes, str]:
    """In the format that `accept`, a request's header, asks for, and its content type."""
    openmetrics = wants_openmetrics(accept)
    page, report = Exposition(openmetrics=openmetrics), scrape.report
    _add_node(page, scrape)
    _add_figures(page, report)
    for status, size, lag in zip(report.replicas, report.sizes, report.lags, strict=True):
        _add_replica(page, status, size, lag)
    _add_groups(page, scrape)
    _add_machine(page, scrape)
    return page.encoded(), OPENMETRICS_TYPE if openmetrics else TEXT_TYPE


def _add_node(page: Exposition, scrape: Scrape) -> None:
    report = scrape.report
    page.add("build_info", (raftlog.__version__,), 1)
    page.add("node_ready", (), int(scrape.ready))
    page.add("nodes", (), report.nodes_known)
    page.add("nodes_alive", (), report.nodes_alive)
    roles = Counter(status.role for status in report.replicas)
    for role in Role:
        page.add("replicas", (role.name.lower(),), roles[role])
    page.add("replicas_failed", (), sum(bool(status.error) for status in report.replicas))
    page.add("replicas_doubtful", (), sum(status.doubt != Doubt.NONE for status in report.replicas))


def _add_figures(page: Exposition, report: NodeReport) -> None:
    for count in report.figures.counts:
        page.add(count.name, count.labels, count.value, count.began_s)
    for level in report.figures.levels:
        page.add(level.name, level.labels, level.value)
    for timing in report.figures.timings:
        page.add_histogram(timing.name, timing.labels, timing.counts, timing.sum_s, timing.began_s)


def _add_replica(page: Exposition, status: ReplicaStatus, size: int, lag: int) -> None:
    place = status.topic, str(status.partition)
    leads = status.role == Role.LEADER
    page.add("partition_leader", place, int(leads))
    page.add("partition_leader_epoch", place, status.leader_epoch)
    if status.role == Role.WITNESS:
        return
    if leads:
        page.add("partition_replicas", place, size)
        page.add("partition_in_sync_replicas", place, len(status.in_sync))
    elif lag >= 0:
        page.add("partition_replica_lag_records", place, lag)
    page.add("partition_log_start_offset", place, status.log_start_offset)
    page.add("partition_high_watermark", place, status.high_watermark)
    page.add("partition_size_bytes", place, status.size_bytes)
    page.add("partition_cuts", place, status.cuts)
    page.add("partition_corruptions", place, status.corruptions)


def _add_groups(page: Exposition, scrape: Scrape) -> None:
    for group in scrape.lags or ():
        page.add("group_members", (group.group,), group.members)
        for each in group.partitions:
            labels = group.group, each.topic, str(each.partition)
            page.add("group_committed_offset", labels, each.committed_offset)
            if each.records is not None:
                page.add("group_lag_records", labels, each.records)
            seconds = each.seconds(scrape.now_ms)
            if seconds is not None:
                page.add("group_lag_seconds", labels, seconds)


def _add_machine(page: Exposition, scrape: Scrape) -> None:
    if scrape.disk is not None:
        size_bytes, free_bytes = scrape.disk
        page.add("disk_size_bytes", (), size_bytes)
        page.add("disk_free_bytes", (), free_bytes)
    for kind, usage in scrape.usages.items():
        page.add("processes", (kind,), usage.processes)
        page.add("process_cpu_seconds", (kind,), usage.cpu_s)
        page.add("process_resident_memory_bytes", (kind,), usage.resident_bytes)
        page.add("process_proportional_memory_bytes", (kind,), usage.proportional_bytes)
        page.add("process_open_fds", (kind,), usage.descriptors)
        page.add("process_threads", (kind,), usage.threads)
