"""A scrape: names as Prometheus wants them, all of the catalog, and what a partition and a group say."""

from __future__ import annotations

import re
from typing import Any

import pytest
from msgspec.structs import replace
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from raftlog.client.admin.lag_reader import GroupLag
from raftlog.histogram import BOUNDS_S
from raftlog.http.catalog import COUNTER, METRICS
from raftlog.http.metrics import Scrape, render
from raftlog.protocol.report import Figures
from raftlog.types import Role
from tests.http.scrape import LAG, LEADER, REPORT, SCRAPE


def _samples(scrape: Scrape = SCRAPE) -> dict[tuple[str, ...], float]:
    """By name and the values of labels."""
    text = render(scrape, "")[0].decode()
    return {
        (sample.name, *(sample.labels[name] for name in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_names_follow_the_conventions(metric: Any) -> None:
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", metric.name)
    assert not metric.name.endswith(("_total", "_ms", "_count", "_sum", "_created"))
    assert metric.full_name.endswith("_total") == (metric.kind == COUNTER)
    assert metric.meaning[-1] != "."


def test_each_name_stands_once() -> None:
    assert len({metric.name for metric in METRICS}) == len(METRICS)


def test_both_formats_read_back_and_name_the_whole_catalog() -> None:
    text, text_type = render(SCRAPE, "")
    openmetrics, openmetrics_type = render(SCRAPE, "application/openmetrics-text; version=1.0.0")
    assert text_type.startswith("text/plain") and openmetrics_type.startswith("application/openmetrics-text")
    found = {family.name: family for family in parse_openmetrics(openmetrics.decode())}
    assert set(found) == {f"raftlog_{metric.name}" for metric in METRICS}
    assert {family.documentation for family in found.values()} == {metric.meaning for metric in METRICS}
    assert f"# TYPE {METRICS[0].full_name} {METRICS[0].kind}" in text.decode()


def test_counters_say_since_when_they_count() -> None:
    openmetrics = render(SCRAPE, "application/openmetrics-text")[0].decode()
    assert 'raftlog_requests_created{door="native",api="Produce"} 77.5' in openmetrics
    assert "raftlog_sync_seconds_created 77.5" in openmetrics
    assert 'raftlog_partition_elections_created{topic="orders",partition="0"} 78.5' in openmetrics
    assert "_created" not in render(SCRAPE, "")[0].decode()


def test_names_that_clients_choose_read_back_as_they_are() -> None:
    name = 'a "b"\\n\\ \n} 1\r\u2028'
    figures = Figures(levels={("sessions", "native", name, ""): 2})
    scrape = SCRAPE._replace(report=replace(REPORT, figures=figures))
    assert _samples(scrape)["raftlog_sessions", name, "native", ""] == 2
    found = parse_openmetrics(render(scrape, "application/openmetrics-text")[0].decode())
    assert name in {sample.labels.get("client") for family in found for sample in family.samples}


def test_buckets_add_up() -> None:
    samples = _samples()
    buckets = [samples["raftlog_sync_seconds_bucket", str(bound)] for bound in BOUNDS_S]
    assert buckets[:3] == [1, 3, 3]
    assert samples["raftlog_sync_seconds_bucket", "+Inf"] == samples[("raftlog_sync_seconds_count",)] == 7
    assert samples[("raftlog_sync_seconds_sum",)] == 50


def test_a_leader_says_who_is_in_sync_and_a_follower_how_far_it_is_behind() -> None:
    samples = _samples()
    assert samples["raftlog_partition_in_sync_replicas", "0", "orders"] == 2
    assert samples["raftlog_partition_replicas", "0", "orders"] == 3
    assert samples["raftlog_partition_replica_lag_records", "1", "orders"] == 4
    assert ("raftlog_partition_replicas", "1", "orders") not in samples
    assert ("raftlog_partition_replica_lag_records", "0", "orders") not in samples


def test_a_partition_says_what_its_worker_counted_and_no_level_of_one_that_ended() -> None:
    samples = _samples()
    assert samples["raftlog_partition_elections_total", "0", "orders"] == 2
    assert samples["raftlog_partition_produced_bytes_total", "0", "orders"] == 9
    assert samples["raftlog_partition_elected_timestamp_seconds", "0", "orders"] == 1.5
    assert samples["raftlog_partition_index_map_bytes", "0", "orders"] == 7
    assert samples["raftlog_partition_index_used_bytes", "0", "orders"] == 0
    assert samples["raftlog_partition_fetched_bytes_total", "1", "orders"] == 5
    for level in ("elected_timestamp_seconds", "index_map_bytes", "index_used_bytes"):
        assert (f"raftlog_partition_{level}", "1", "orders") not in samples


def test_a_witness_keeps_no_records_and_says_nothing_of_them() -> None:
    witness = replace(LEADER, role=Role.WITNESS)
    samples = _samples(SCRAPE._replace(report=replace(REPORT, replicas=[witness], sizes=[2], lags=[-1])))
    assert samples["raftlog_replicas", "witness"] == 1
    assert ("raftlog_partition_high_watermark", "0", "orders") not in samples


def test_lag_in_seconds_is_the_age_of_the_first_record_that_is_left() -> None:
    assert _samples()["raftlog_group_lag_seconds", "billing", "0", "orders"] == 3.5
    done = LAG._replace(records=0, behind_since_ms=None, caught_up=True)
    assert (
        _samples(SCRAPE._replace(lags=[GroupLag("billing", 1, [done])]))[
            "raftlog_group_lag_seconds", "billing", "0", "orders"
        ]
        == 0
    )
    unknown = LAG._replace(behind_since_ms=None)
    samples = _samples(SCRAPE._replace(lags=[GroupLag("billing", 1, [unknown])]))
    assert ("raftlog_group_lag_seconds", "billing", "0", "orders") not in samples
