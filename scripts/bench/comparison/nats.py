"""NATS JetStream: file-backed streams, replicated by Raft, acknowledged before they are synced, or after."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from .go_load import BUILD, GO_BUILD_S, GoRunning, missing_client
from .servers import HOST, Servers, failure_of, free_ports, said_by
from .system import Shape, Variant

_MODULE = "github.com/nats-io/nats-server/v2@v2.15.3"
_SERVER = BUILD / "nats-server"
# Each record is published and acknowledged by itself; with more of them in flight it got slower here.
_SHAPES = {"batches": Shape(1000, 1), "large": Shape(4 * 255, 1)}


class Nats:
    name = "nats"
    variants = (Variant("file store", fsync=False), Variant("sync_interval: always", fsync=True))
    settle_s = 1.0

    def replicas(self, wanted: int) -> int:
        return wanted

    def missing(self) -> str | None:
        if reason := missing_client():
            return reason
        if not _SERVER.exists():
            why = failure_of(["go", "install", _MODULE], GO_BUILD_S, environment={"GOBIN": str(BUILD)})
            if why:
                return f"its server ({_MODULE}) does not build: {why}"
        return None

    def version(self) -> str:
        return said_by([str(_SERVER), "--version"]).split()[-1].removeprefix("v")

    @contextlib.contextmanager
    def started(self, directory: Path, replicas: int, variant: Variant) -> Iterator[GoRunning]:
        ports = free_ports(2 * replicas)
        clients, routes = ports[:replicas], ports[replicas:]
        settings = directory / "nats.conf"
        settings.write_text("jetstream { sync_interval: always }\n" if variant.fsync else "jetstream {}\n")
        with Servers(directory) as servers:
            for i in range(replicas):
                command = [str(_SERVER), "-c", str(settings), "-a", HOST, "-p", str(clients[i]), "-n", str(i + 1)]
                command += ["-sd", str(directory / str(i + 1))]
                if replicas > 1:
                    command += ["--cluster_name", "bench", "--cluster", f"nats://{HOST}:{routes[i]}"]
                    command += ["--routes", ",".join(f"nats://{HOST}:{port}" for port in routes)]
                servers.start(f"nats-{i + 1}", command)
            servers.await_ports(clients)
            yield GoRunning("nats", servers, clients, replicas, shapes=_SHAPES)
