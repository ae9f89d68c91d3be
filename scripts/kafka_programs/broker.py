"""Apache Kafka itself, one server (KRaft) with its data in a folder: from where MirrorMaker copies."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

from kafka_clients.tools import jars
from raftlog.node.local import free_endpoints
from raftlog.types import Endpoint

from .process import Process, java, properties

_CLUSTER_ID = "AAAAAAAAAAAAAAAAAAAAAQ"


def version() -> str:
    (server,) = jars().glob("kafka_2.13-*.jar")
    return f"Apache Kafka {server.stem.rpartition('-')[2]}"


@contextlib.contextmanager
def broker(directory: Path) -> Iterator[str]:
    """Where it listens."""
    clients, controller = free_endpoints("127.0.0.1", 2)
    settings = properties(
        directory / "broker.properties",
        {
            "process.roles": "broker,controller",
            "node.id": 1,
            "listeners": f"PLAINTEXT://{clients},CONTROLLER://{controller}",
            "controller.listener.names": "CONTROLLER",
            "controller.quorum.voters": f"1@{controller}",
            "log.dirs": directory / "broker",
            "offsets.topic.replication.factor": 1,
            "offsets.topic.num.partitions": 4,
            "group.initial.rebalance.delay.ms": 0,
        },
    )
    classes = f"{jars()}/*"
    format_command = java(classes, "kafka.tools.StorageTool", "format", "-t", _CLUSTER_ID, "-c", settings)
    with Process(format_command, directory / "format.log") as storage:
        storage.finish()
    with Process(java(classes, "kafka.Kafka", settings), directory / "broker.log") as server:
        server.wait(lambda: _listens(clients), "Kafka does not listen")
        yield str(clients)


def _listens(endpoint: Endpoint) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((endpoint.host, endpoint.port)) == 0
