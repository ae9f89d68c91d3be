"""The bench measures something, says under which conditions, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import subprocess
import time
import uuid
from pathlib import Path

import pytest

from raftlog.node.local import LocalCluster
from tests.cli.command import COMMAND, interrupt, processes_with, run
from tests.patience import WAIT_S

pytestmark = pytest.mark.cluster
QUICK = ["--seconds", "1"]
BENCH_S = 120.0


def _figures(tmp_path: Path, *arguments: str) -> dict[str, object]:
    how = [] if arguments[0] == "failover" else QUICK
    done = subprocess.run(
        [*COMMAND, "bench", *arguments, *how, "--json"], cwd=tmp_path, capture_output=True, timeout=BENCH_S, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.count(b"\n") == 1
    assert list(tmp_path.iterdir()) == []
    figures: dict[str, object] = json.loads(done.stdout)
    return figures


def _agree(figures: dict[str, object], record_size: int = 200) -> None:
    """The rates are what was counted, in the time that it took."""
    records, seconds = float(str(figures["records"])), float(str(figures["seconds"]))
    assert records > 0 and seconds >= float(QUICK[1])
    assert figures["records_per_s"] == pytest.approx(records / seconds, rel=0.002, abs=1)
    assert figures["mb_per_s"] == pytest.approx(records * record_size / seconds / 1e6, rel=0.002, abs=0.006)


def test_producing_is_measured_with_its_conditions(tmp_path: Path) -> None:
    figures = _figures(tmp_path, "produce", "--local", "3", "--partitions", "2", "--in-flight", "8")
    _agree(figures)
    assert figures["requests_per_s"] == pytest.approx(float(str(figures["records_per_s"])) / 50, rel=0.002, abs=1)
    for name in ("p50_ms", "fsyncs", "client_cpu_s", "nodes_cpu_s"):
        assert float(str(figures[name])) > 0, name
    assert figures["p50_ms"] <= figures["p99_ms"] <= figures["p999_ms"]  # type: ignore[operator]
    assert (figures["flush"], figures["nodes"], figures["replication_factor"], figures["acks"]) == (
        "always",
        3,
        3,
        "all",
    )
    assert figures["file_system"] not in (None, "unknown")
    assert float(str(figures["fdatasync_p50_ms"])) > 0


@pytest.mark.parametrize("acks", ["0", "1"])
def test_other_acknowledgements_are_measured(tmp_path: Path, acks: str) -> None:
    figures = _figures(tmp_path, "produce", "--local", "1", "--acks", acks, "--flush", "os")
    _agree(figures)
    assert (figures["flush"], figures["acks"]) == ("os", acks)
    assert (figures["p50_ms"] is None) == (acks == "0")


def test_a_fixed_rate_is_offered_and_not_exceeded(tmp_path: Path) -> None:
    figures = _figures(tmp_path, "produce", "--local", "1", "--flush", "os", "--rate", "500", "--batch-records", "1")
    _agree(figures)
    assert figures["offered_records_per_s"] == 500
    assert int(str(figures["records"])) <= 500 * float(str(figures["seconds"])) + 1


def test_a_rate_needs_answers(cluster: LocalCluster) -> None:
    done = run(cluster, "bench", "produce", "--rate", "500", "--acks", "0", code=2)
    assert b"--acks 0 asks for no answer" in done.stderr


def test_consuming_is_measured_raw_and_decoded(tmp_path: Path) -> None:
    figures = _figures(tmp_path, "consume", "--local", "1", "--record-size", "1000")
    _agree(figures, record_size=1000)
    for name in ("p50_ms", "p99_ms", "decoded_records_per_s"):
        assert float(str(figures[name])) > 0, name
    assert figures["fsyncs"] == 0


def test_a_running_cluster_is_measured_and_its_topics_left_as_they_were(cluster: LocalCluster) -> None:
    done = run(cluster, "bench", "produce", "--bootstrap", cluster.bootstrap, *QUICK, "--json")
    figures = json.loads(done.stdout)
    _agree(figures)
    assert (figures["file_system"], figures["nodes_cpu_s"]) == (None, None)
    assert b"bench-" not in run(cluster, "topic", "list").stdout


def test_what_cannot_be_measured_is_refused(cluster: LocalCluster) -> None:
    done = run(cluster, "bench", "produce", "--record-size", "1000000", "--batch-records", "1000", code=1)
    assert b"lower --batch-records or --record-size" in done.stderr


def test_interrupting_leaves_nothing_behind(tmp_path: Path) -> None:
    value = uuid.uuid4().hex
    with subprocess.Popen(
        [*COMMAND, "bench", "produce", "--seconds", "60"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "RAFTLOG_BENCH_TEST": value},
    ) as bench:
        interrupt(bench, b"measuring")
    deadline_s = time.monotonic() + WAIT_S
    while left := processes_with(f"RAFTLOG_BENCH_TEST={value}"):
        assert time.monotonic() < deadline_s, left
        time.sleep(0.1)
    assert list(tmp_path.iterdir()) == []


def test_a_leader_that_goes_is_measured_and_nothing_is_lost(tmp_path: Path) -> None:
    figures = _figures(tmp_path, "failover", "--blows", "1", "--graceful", "--rate", "2000")
    assert figures["lost"] == figures["failed"] == figures["duplicated"] == figures["out_of_order"] == 0
    assert isinstance(figures["gaps_ms"], list)
    assert len(figures["gaps_ms"]) == 1
    assert figures["gap_max_ms"] == figures["gap_p50_ms"] == figures["gaps_ms"][0] > 0
    assert int(str(figures["acked"])) > 2000
