"""Kafka Connect, distributed: a file source and a file sink, stopped and started, with a second worker later."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kafka_clients.bench import equal
from kafka_clients.samples import packed
from kafka_clients.tools import jars
from raftlog.node.local import free_endpoints

from .process import Process, java, properties
from .stage import Stage

_CALL_S = 90.0  # the first request waits until the worker has read its topics
_STORES = ("connect-configs", "connect-offsets", "connect-status")
_TOPIC = "lines"
_SINK = "file-sink"


def version() -> str:
    (runtime,) = jars("maven-connect").glob("connect-runtime-*.jar")
    return f"Kafka Connect {runtime.stem.rpartition('-')[2]}"


def run(stage: Stage) -> Iterator[str]:
    source, sink = stage.directory / "source.txt", stage.directory / "sink.txt"
    _add(source, 0, 400)
    with _Worker(stage, "worker-1") as worker:
        worker.put("file-source", "FileStreamSource", file=source, topic=_TOPIC)
        worker.put(_SINK, "FileStreamSink", file=sink, topics=_TOPIC)
        worker.wait(lambda: _lines(sink) >= 400, lambda: f"{_lines(sink)} of 400 lines are in the sink")
        equal("the sink's file", sink.read_text(), source.read_text())
        yield "400 lines from a file into a topic and out into a file, in order"
        policies = {name: stage.configs(name)["cleanup.policy"] for name in _STORES}
        equal("the policies of its own topics", policies, dict.fromkeys(_STORES, "compact"))
        yield "its three topics are compacted"
        worker.stop()
    _add(source, 400, 250)
    with _Worker(stage, "worker-2") as worker, _Worker(stage, "worker-3") as other:
        worker.wait(lambda: _lines(sink) >= 650, lambda: f"{_lines(sink)} of 650 lines are in the sink")
        other.wait(lambda: len(other.places()) == 2, lambda: f"the tasks run on {other.places()}")
        _add(source, 650, 100)
        worker.wait(lambda: _lines(sink) >= 750, lambda: f"{_lines(sink)} of 750 lines are in the sink")
        equal("the sink's file", sink.read_text(), source.read_text())
        yield "stopped, lines added, two workers started: each line once, in order"
        worker.stop()
        other.stop()
    expected = [(None, packed(line.encode())) for line in source.read_text().splitlines()]
    equal("the topic", [(each["key"], each["value"]) for each in stage.records(_TOPIC, 1)], expected)
    committed = stage.bench.scribe.ask("group-offsets", group=f"connect-{_SINK}", topic=_TOPIC)["offsets"]
    equal("the sink's committed offset", committed, {"0": 750})
    yield "750 records in the topic, the sink's group has committed 750"


class _Worker(Process):
    """Its REST interface is at a port of its own."""

    def __init__(self, stage: Stage, name: str) -> None:
        (listener,) = free_endpoints("127.0.0.1", 1)
        self._url = f"http://{listener}"
        text = "org.apache.kafka.connect.storage.StringConverter"
        settings: dict[str, object] = {
            "bootstrap.servers": stage.bootstrap,
            "group.id": "connect",
            "listeners": self._url,
            "key.converter": text,
            "value.converter": text,
            "plugin.discovery": "service_load",
            "offset.flush.interval.ms": 1000,
        }
        for store, topic in zip(("config", "offset", "status"), _STORES, strict=True):
            settings |= {f"{store}.storage.topic": topic, f"{store}.storage.replication.factor": 3}
        settings |= {"offset.storage.partitions": 2, "status.storage.partitions": 2}  # each is a process of every node
        path = properties(stage.directory / f"{name}.properties", settings)
        main = "org.apache.kafka.connect.cli.ConnectDistributed"
        super().__init__(java(f"{jars('maven-connect')}/*", main, path), stage.directory / f"{name}.log")

    def put(self, connector: str, kind: str, **settings: str | Path) -> None:
        """Makes the connector, once the worker answers."""
        config = {
            "connector.class": f"org.apache.kafka.connect.file.{kind}Connector",
            "tasks.max": "1",
            "topic.creation.default.partitions": "1",
            "topic.creation.default.replication.factor": "-1",
            **{name: str(value) for name, value in settings.items()},
        }
        if kind.endswith("Sink"):
            config = {name: value for name, value in config.items() if not name.startswith("topic.creation")}
        self.wait(lambda: self._ask("PUT", f"/connectors/{connector}/config", config) is not None, "no connector")

    def places(self) -> set[str]:
        """Which workers have connectors and tasks."""
        told = self._ask("GET", "/connectors?expand=status") or {}
        states = [each["status"] for each in told.values()]
        return {part["worker_id"] for each in states for part in (each["connector"], *each["tasks"])}

    def _ask(self, method: str, path: str, body: dict[str, str] | None = None) -> Any:
        """None while it does not answer: it starts, or rebalances."""
        request = urllib.request.Request(
            self._url + path,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
            method=method,
        )
        try:
            with urllib.request.urlopen(request, timeout=_CALL_S) as answer:
                return json.load(answer)
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return None


def _add(path: Path, first: int, count: int) -> None:
    with path.open("a") as file:
        # ASCII: the source goes on at the count of letters as if it were one of bytes (findings/).
        file.writelines(f"line {place} {'x' * (place % 50)}\n" for place in range(first, first + count))


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0
