"""What is shipped for other programs is what they take, and speaks of metrics that there are."""

from __future__ import annotations

import configparser
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from raftlog.http.catalog import HISTOGRAM, METRICS
from raftlog.http.metrics import render
from tests.http.scrape import SCRAPE
from tests.patience import WAIT_S
from tests.source_tree import ROOT

DEPLOY = ROOT / "deploy"
RULES = DEPLOY / "prometheus" / "raftlog.rules.yml"
KNOWN = {metric.full_name for metric in METRICS} | {
    f"{metric.full_name}{suffix}" for metric in METRICS if metric.kind == HISTOGRAM for suffix in ("_bucket", "_count")
}


def _promtool(*arguments: str, stdin: bytes = b"") -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool, of Debian's package prometheus, is not there")
    done = subprocess.run([promtool, *arguments], input=stdin, capture_output=True, timeout=WAIT_S, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr).decode()


def _dashboard_queries() -> list[str]:
    dashboard: dict[str, Any] = json.loads((DEPLOY / "grafana" / "raftlog.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert len(queries) > 15
    return [query.replace("$__rate_interval", "5m").replace("$topic", ".*") for query in queries]


def _written_queries() -> list[str]:
    page = (ROOT / "docs" / "operations.md").read_text().partition("What people ask of Prometheus first")[2]
    return re.findall(r"^\| [a-z ]+ \| `(.+)` \|$", page.partition("\n#")[0], re.M)


def test_alerts_and_dashboard_and_docs_speak_of_metrics_that_there_are() -> None:
    assert len(_written_queries()) == 5
    for text in (RULES.read_text(), *_dashboard_queries(), *_written_queries()):
        named = set(re.findall(r"\braftlog_[a-z_]+", text))
        assert named and not named - KNOWN


def test_prometheus_takes_the_alerts_and_the_scrape(tmp_path: Path) -> None:
    _promtool("check", "rules", str(RULES))
    for path in (DEPLOY / "prometheus").iterdir():
        shutil.copy(path, tmp_path)
    for name in ("ca.pem", "prometheus.password"):
        (tmp_path / name).touch()
    for name in ("prometheus.yml", "raftlog-secure.yml"):
        _promtool("check", "config", str(tmp_path / name))


def test_prometheus_takes_the_queries_of_dashboard_and_docs(tmp_path: Path) -> None:
    rules = [
        {"record": f"query:{number}", "expr": query}
        for number, query in enumerate([*_dashboard_queries(), *_written_queries()])
    ]
    (tmp_path / "queries.yml").write_text(json.dumps({"groups": [{"name": "queries", "rules": rules}]}))
    _promtool("check", "rules", str(tmp_path / "queries.yml"))


def test_prometheus_finds_nothing_wrong_with_the_metrics() -> None:
    _promtool("check", "metrics", stdin=render(SCRAPE, "")[0])


def test_alerts_come_when_they_should(tmp_path: Path) -> None:
    shutil.copy(RULES, tmp_path)
    shutil.copy(ROOT / "tests" / "deploy" / "alerts.yml", tmp_path)
    _promtool("test", "rules", str(tmp_path / "alerts.yml"))


def test_the_unit_waits_for_the_node_and_watches_it() -> None:
    unit = configparser.ConfigParser(interpolation=None, strict=False)
    unit.read(DEPLOY / "systemd" / "raftlog@.service")
    service = unit["Service"]
    assert (service["Type"], service["NotifyAccess"]) == ("notify", "main")
    assert int(service["WatchdogSec"]) >= 10
