"""Redis streams: an append-only file that is synced once a second, and replicas that a WAIT waits for."""

from __future__ import annotations

import contextlib
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

from .go_load import GoRunning, missing_client
from .servers import HOST, Servers, free_ports
from .system import Shape, Variant

_WAIT_S = 2.0
# Each record is an XADD of its own in a pipeline. A WAIT blocks its connection: one for each request in flight.
_SHAPES = {
    "batches": Shape(2500, 1, 50),
    "singles": Shape(1000, 1, 1000),
    "large": Shape(16 * 255, 1, 16),
}
_UNREPLICATED = {"batches": Shape(2500, 1), "large": Shape(16 * 255, 1)}


class Redis:
    name = "redis"
    variants = (Variant("appendfsync everysec", fsync=False),)
    settle_s = 1.0

    def replicas(self, wanted: int) -> int:
        return wanted

    def missing(self) -> str | None:
        if shutil.which("redis-server") is None:
            return "Debian package redis-server is not installed"
        return missing_client()

    @contextlib.contextmanager
    def started(self, directory: Path, replicas: int, variant: Variant) -> Iterator[GoRunning]:
        ports = free_ports(replicas)
        with Servers(directory) as servers:
            for port in ports:
                data = directory / str(port)
                data.mkdir()
                command = ["redis-server", "--port", str(port), "--bind", HOST, "--dir", str(data), "--save", ""]
                command += ["--appendonly", "yes", "--appendfsync", "everysec"]
                # Or a replica that is late at a full load would be cut off: 64 MB a minute is what Redis allows it.
                command += ["--client-output-buffer-limit", "replica 0 0 0"]
                if port != ports[0]:
                    command += ["--replicaof", HOST, str(ports[0])]
                servers.start(f"redis-{port}", command)
            servers.await_ports(ports)
            servers.await_ready(lambda: _online_replicas(ports[0]) == replicas - 1)
            shapes = _SHAPES if replicas > 1 else _UNREPLICATED
            yield GoRunning("redis", servers, ports, replicas, shapes=shapes, readers=4)


def _online_replicas(port: int) -> int:
    with socket.create_connection((HOST, port), _WAIT_S) as connection:
        connection.sendall(b"INFO replication\r\n")
        answer = connection.recv(65536)
    return answer.count(b"state=online")
