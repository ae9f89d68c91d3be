"""NATS JetStream: file-backed streams, replicated by Raft, acknowledged before they are synced."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from .go_load import GoRunning, missing_client
from .servers import HOST, Servers, free_ports
from .system import Shape, Variant

# Each record is published and acknowledged by itself; with more of them in flight it got slower here.
_SHAPES = {"batches": Shape(1000, 1), "large": Shape(4 * 255, 1)}


class Nats:
    name = "nats"
    variants = (Variant("file store", fsync=False),)
    settle_s = 1.0

    def replicas(self, wanted: int) -> int:
        return wanted

    def missing(self) -> str | None:
        if shutil.which("nats-server") is None:
            return "Debian package nats-server is not installed"
        return missing_client()

    @contextlib.contextmanager
    def started(self, directory: Path, replicas: int, variant: Variant) -> Iterator[GoRunning]:
        ports = free_ports(2 * replicas)
        clients, routes = ports[:replicas], ports[replicas:]
        with Servers(directory) as servers:
            for i in range(replicas):
                command = ["nats-server", "-a", HOST, "-p", str(clients[i]), "-n", str(i + 1)]
                command += ["-js", "-sd", str(directory / str(i + 1))]
                if replicas > 1:
                    command += ["--cluster_name", "bench", "--cluster", f"nats://{HOST}:{routes[i]}"]
                    command += ["--routes", ",".join(f"nats://{HOST}:{port}" for port in routes)]
                servers.start(f"nats-{i + 1}", command)
            servers.await_ports(clients)
            yield GoRunning("nats", servers, clients, replicas, shapes=_SHAPES)
