"""The Prometheus of Debian's package, on a free port, with what deploy/ ships."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from raftlog.errors import ConfigError, RaftlogError
from raftlog.node.local import free_endpoints
from raftlog.types import Endpoint

ROOT = Path(__file__).resolve().parents[2]
_START_S = 60.0
_STOP_S = 20.0
_ANSWER_S = 20.0

Sample = tuple[float, float]


class Prometheus:
    def __init__(self, endpoint: Endpoint) -> None:
        self._base = f"http://{endpoint}"

    def ask(self, query: str) -> list[tuple[dict[str, str], float]]:
        """Labels and value of each series of an instant vector."""
        found = self._get("/api/v1/query", query=query)["result"]
        return [(each["metric"], float(each["value"][1])) for each in found]

    def samples(self, selector: str) -> list[Sample]:
        """(time of the scrape, value) of all that was scraped, in order; `selector` has a range."""
        found = self._get("/api/v1/query", query=selector)["result"]
        return sorted((float(at_s), float(value)) for each in found for at_s, value in each["values"])

    def alerts(self) -> set[str]:
        return {each["labels"]["alertname"] for each in self._get("/api/v1/alerts")["alerts"]}

    def _get(self, path: str, **parameters: str) -> Any:
        url = f"{self._base}{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=_ANSWER_S) as answer:
            return json.load(answer)["data"]

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self._base}/-/ready", timeout=1):
                return True
        except OSError:
            return False


@contextlib.contextmanager
def prometheus(directory: Path, nodes: Mapping[int, Endpoint], every_s: int) -> Iterator[Prometheus]:
    """Scrapes the nodes' HTTP addresses each `every_s`, with the alerts of deploy/."""
    program = _program(directory)
    for path in (ROOT / "deploy" / "prometheus").iterdir():
        shutil.copy(path, directory)
    config = directory / "prometheus.yml"
    text = re.sub(r"scrape_interval: \w+", f"scrape_interval: {every_s}s", config.read_text())
    targets = ", ".join(f'"{endpoint}"' for endpoint in nodes.values())
    config.write_text(re.sub(r"targets: \[.*\]", f"targets: [{targets}]", text))
    (endpoint,) = free_endpoints("127.0.0.1", 1)
    arguments = [f"--config.file={config}", f"--storage.tsdb.path={directory / 'tsdb'}"]
    with (directory / "prometheus.log").open("wb") as log:
        process = subprocess.Popen([program, *arguments, f"--web.listen-address={endpoint}"], stdout=log, stderr=log)
    try:
        started = Prometheus(endpoint)
        deadline_s = time.monotonic() + _START_S
        while not started.is_ready():
            if process.poll() is not None or time.monotonic() > deadline_s:
                raise RaftlogError(f"Prometheus does not start: {(directory / 'prometheus.log').read_text()[-500:]}")
            time.sleep(0.2)
        yield started
    finally:
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _program(directory: Path) -> str:
    """Of PATH, or of Debian's package, which is unpacked only: installed, it starts a server."""
    found = shutil.which("prometheus")
    if found is not None:
        return found
    unpacked = directory / "package"
    unpacked.mkdir()
    try:
        subprocess.run(["apt-get", "download", "-qq", "prometheus"], cwd=unpacked, check=True)
        (package,) = unpacked.glob("prometheus_*.deb")
        subprocess.run(["dpkg", "-x", package.name, "."], cwd=unpacked, check=True)
    except (OSError, subprocess.CalledProcessError, ValueError):
        raise ConfigError("needs prometheus: put it on PATH, or apt-get update on Debian") from None
    return str(unpacked / "usr" / "bin" / "prometheus")
