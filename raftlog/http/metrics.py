"""A scrape: what the node, its groups and its machine say, as the metrics of catalog.py. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import raftlog
from raftlog.client.admin.lag_reader import GroupLag
from raftlog.http.catalog import PLACE
from raftlog.http.exposition import OPENMETRICS_TYPE, TEXT_TYPE, Exposition, labelled, wants_openmetrics
from raftlog.http.processes import Usage
from raftlog.protocol.report import Figures, NodeReport, PartitionFigures
from raftlog.types import Doubt, Role


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
    _add_figures(page, report.figures)
    places = _Places()
    _add_replicas(page, report, places)
    _add_partition_figures(page, report.figures.partitions, places)
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


def _add_figures(page: Exposition, figures: Figures) -> None:
    for (name, *labels), value in figures.counts.items():
        page.add(name, tuple(labels), value, figures.began_s)
    for (name, *labels), value in figures.levels.items():
        page.add(name, tuple(labels), value)
    for (name, *labels), timing in figures.timings.items():
        page.add_histogram(name, tuple(labels), timing.counts, timing.sum_s, figures.began_s)


class _Places(dict[tuple[str, int], str]):
    """The labels of a partition, for its thirteen lines and more, made when they are looked up first."""

    def __missing__(self, place: tuple[str, int]) -> str:
        text = self[place] = labelled(PLACE, (place[0], str(place[1])))
        return text


def _add_replicas(page: Exposition, report: NodeReport, places: _Places) -> None:
    """Metric by metric: in a node with a thousand partitions each call for one line would be felt."""
    replicas = [(places[status.topic, status.partition], status) for status in report.replicas]
    rows = list(zip(replicas, report.sizes, report.lags, strict=True))
    page.add_each("partition_leader", [(text, int(each.role == Role.LEADER)) for text, each in replicas])
    page.add_each("partition_leader_epoch", [(text, each.leader_epoch) for text, each in replicas])
    page.add_each("partition_asleep", [(text, int(each.asleep)) for text, each in replicas])
    led = [(text, each, size) for (text, each), size, _ in rows if each.role == Role.LEADER]
    page.add_each("partition_replicas", [(text, size) for text, _, size in led])
    page.add_each("partition_in_sync_replicas", [(text, len(each.in_sync)) for text, each, _ in led])
    page.add_each(
        "partition_replica_lag_records",
        [(text, lag) for (text, each), _, lag in rows if each.role not in (Role.LEADER, Role.WITNESS) and lag >= 0],
    )
    kept = [(text, each) for text, each in replicas if each.role != Role.WITNESS]
    page.add_each("partition_log_start_offset", [(text, each.log_start_offset) for text, each in kept])
    page.add_each("partition_high_watermark", [(text, each.high_watermark) for text, each in kept])
    page.add_each("partition_size_bytes", [(text, each.size_bytes) for text, each in kept])
    page.add_each("partition_cuts", [(text, each.cuts) for text, each in kept])
    page.add_each("partition_corruptions", [(text, each.corruptions) for text, each in kept])


def _add_partition_figures(page: Exposition, partitions: Sequence[PartitionFigures], places: _Places) -> None:
    """A level that is 0 is not known."""
    told = [(places[each.topic, each.partition], each) for each in partitions]
    page.add_counts("partition_elections", [(text, each.elections, each.began_s) for text, each in told])
    page.add_counts("partition_produced_bytes", [(text, each.produced_bytes, each.began_s) for text, each in told])
    page.add_counts("partition_fetched_bytes", [(text, each.fetched_bytes, each.began_s) for text, each in told])
    elected = [(text, each.elected_ms / 1000) for text, each in told if each.elected_ms]
    page.add_each("partition_elected_timestamp_seconds", elected)
    indexed = [(text, each) for text, each in told if each.index_map_bytes]
    page.add_each("partition_index_map_bytes", [(text, each.index_map_bytes) for text, each in indexed])
    page.add_each("partition_index_used_bytes", [(text, each.index_used_bytes) for text, each in indexed])


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
