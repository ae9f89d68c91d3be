"""RabbitMQ, once with streams (acknowledged by a majority, not synced), once with quorum queues (synced)."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from .go_load import GoRunning, missing_client
from .servers import HOST, Servers, free_ports, package_version
from .system import Shape, Variant
from .workloads import TAKEN

# The package's own command in PATH would change to the user of the system's service.
_SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
_COOKIE = "raftlogbench"


class RabbitMq:
    """RabbitMQ, as a system of the comparison. `protocol`: which of the two listeners the load client speaks to."""

    settle_s = 2.0

    def __init__(
        self, name: str, protocol: str, variant: Variant, shapes: Mapping[str, Shape], *, consumed: bool
    ) -> None:
        self.name = name
        self.variants = (variant,)
        self._protocol = protocol
        self._shapes = shapes
        self._consumed = consumed

    def replicas(self, wanted: int) -> int:
        return wanted

    def missing(self) -> str | None:
        if not _SERVER.exists() or shutil.which("epmd") is None:
            return "Debian package rabbitmq-server is not installed"
        return missing_client()

    def version(self) -> str:
        return package_version("rabbitmq-server")

    @contextlib.contextmanager
    def started(self, directory: Path, replicas: int, variant: Variant) -> Iterator[GoRunning]:
        names, *ports = free_ports(1 + 3 * replicas)
        amqp, stream, nodes = ports[:replicas], ports[replicas : 2 * replicas], ports[2 * replicas :]
        cookie = directory / ".erlang.cookie"
        cookie.write_text(_COOKIE)
        cookie.chmod(0o400)
        with Servers(directory) as servers:
            # The name server of Erlang nodes: theirs alone, or one would be started that outlives them.
            epmd = {"ERL_EPMD_PORT": str(names), "ERL_EPMD_ADDRESS": HOST, "HOME": str(directory)}
            servers.start("epmd", ["epmd", "-port", str(names), "-address", HOST])
            servers.await_ports([names])
            for i in range(replicas):
                home = directory / str(i + 1)
                home.mkdir()
                _configure(home, amqp[i], stream[i], replicas)
                environment = epmd | _environment(i, home, nodes[i])
                servers.start(f"rabbitmq-{i + 1}", [str(_SERVER)], environment)
                if i == 0:
                    servers.await_ports([amqp[0], stream[0]])  # the others join it
            servers.await_ports([*amqp, *stream])
            listeners = amqp if self._protocol == "amqp" else stream
            yield GoRunning(self.name, servers, listeners, replicas, shapes=self._shapes, consumed=self._consumed)


def _configure(home: Path, amqp: int, stream: int, replicas: int) -> None:
    peers = "\n".join(f"cluster_formation.classic_config.nodes.{i + 1} = r{i + 1}@localhost" for i in range(replicas))
    (home / "rabbitmq.conf").write_text(f"""\
listeners.tcp.1 = {HOST}:{amqp}
stream.listeners.tcp.1 = {HOST}:{stream}
stream.advertised_host = {HOST}
stream.advertised_port = {stream}
cluster_formation.peer_discovery_backend = classic_config
{peers}
""")
    (home / "plugins").write_text("[rabbitmq_stream].\n")


def _environment(place: int, home: Path, port: int) -> dict[str, str]:
    return {
        "RABBITMQ_NODENAME": f"r{place + 1}@localhost",
        "RABBITMQ_DIST_PORT": str(port),
        "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq.conf"),
        "RABBITMQ_CONF_ENV_FILE": "/dev/null",
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "plugins"),
        "RABBITMQ_MNESIA_BASE": str(home),
        "RABBITMQ_LOG_BASE": str(home),
        "RABBITMQ_PID_FILE": str(home / "pid"),
    }


STREAM = RabbitMq(
    "rabbitmq-stream",
    "stream",
    Variant("stream", fsync=False),
    {},
    consumed=False,
)
QUORUM = RabbitMq(
    "rabbitmq-quorum",
    "amqp",
    Variant("quorum queue", fsync=True, workloads=TAKEN),
    # Each record is published and confirmed by itself.
    {"batches": Shape(2500, 1), "large": Shape(16 * 255, 1)},
    consumed=True,
)
