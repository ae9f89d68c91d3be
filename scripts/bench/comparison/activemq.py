"""ActiveMQ with its default store: one server, since Debian's has no replicated one; synced before the answer."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from .go_load import GoRunning, missing_client
from .servers import HOST, Servers, free_ports
from .system import Shape, Variant

_HOME = Path("/usr/share/activemq")
_JVM = ("-Xms512m", "-Xmx1g")
# A broker works on one frame of a connection after the other, and syncs for several connections at once.
_SHAPES = {
    "batches": Shape(50, 50, 50),
    "singles": Shape(1000, 1, 200),
    "large": Shape(16, 255, 16),
}


class ActiveMq:
    name = "activemq"
    variants = (Variant("KahaDB", fsync=True),)
    settle_s = 4.0

    def replicas(self, wanted: int) -> int:
        return 1

    def missing(self) -> str | None:
        if not (_HOME / "bin" / "activemq.jar").exists() or shutil.which("java") is None:
            return "Debian package activemq is not installed"
        return missing_client()

    @contextlib.contextmanager
    def started(self, directory: Path, replicas: int, variant: Variant) -> Iterator[GoRunning]:
        (port,) = free_ports(1)
        broker = f"broker:(stomp://{HOST}:{port})?useJmx=false&persistent=true&dataDirectory={directory}/data"
        command = ["java", *_JVM, f"-Dactivemq.home={_HOME}", f"-Dactivemq.base={directory}"]
        command += ["-jar", str(_HOME / "bin" / "activemq.jar"), "start", broker]
        with Servers(directory) as servers:
            servers.start("activemq", command)
            servers.await_ports([port])
            yield GoRunning("activemq", servers, [port], 1, shapes=_SHAPES, consumed=True)
