"""Apache Kafka in KRaft mode, from its published jars: acknowledged by the in-sync replicas before they sync."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from raftlog.errors import RaftlogError
from raftlog.security.certificates import make_authority, make_client, make_node

from .go_load import BENCH, BUILD, GoRunning, missing_client
from .servers import HOST, READY_S, Servers, failure_of, free_ports
from .summary import TLS
from .system import Shape, Variant
from .workloads import CONNECTS, KAFKA

_JARS = BUILD / "kafka"
_FETCH_S = 900
_CLUSTER_ID = "MkU3OEVBNTcwNTJENDM2Qg"
# As bin/kafka-server-start.sh and kafka-run-class.sh set them.
_JVM = ("-Xms1g", "-Xmx1g", "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-Djava.awt.headless=true")
# A broker works on one request of a connection after the other: as many connections as help.
KAFKA_SHAPES = {
    "batches": Shape(50, 50, 10),
    "singles": Shape(1000, 1, 50),
    "offered": Shape(1000, 1, 50),
    "large": Shape(16, 255, 8),
}
KAFKA_READERS = 4
KAFKA_HELLO = bytes.fromhex("0000000e 0012 0000 00000001 0004") + b"load"  # ApiVersions, version 0


class Kafka:
    """Apache Kafka, as a system of the comparison.

    `secure`: all that brokers, controllers and clients say is under TLS, with certificates as raftlog makes them.
    """

    name = "kafka"
    settle_s = 6.0

    def __init__(self, *, secure: bool = False) -> None:
        self._secure = secure
        plain = Variant("acks=all", fsync=False, workloads=KAFKA), Variant("log.flush.interval.messages=1", fsync=True)
        self.variants = (Variant(f"acks=all{TLS}", False, (*KAFKA, CONNECTS)),) if secure else plain

    def replicas(self, wanted: int) -> int:
        return wanted

    def missing(self) -> str | None:
        if shutil.which("java") is None:
            return "Debian package default-jre-headless is not installed"
        if not any(_JARS.glob("kafka_*.jar")):
            if shutil.which("mvn") is None:
                return "its jars are not there: Debian package maven fetches them"
            command = ["mvn", "-q", "-B", "dependency:copy-dependencies", f"-DoutputDirectory={_JARS}"]
            if failure_of(command, _FETCH_S, cwd=BENCH / "kafka"):
                return "its jars (org.apache.kafka:kafka_2.13) cannot be fetched with Maven"
        return missing_client()

    def version(self) -> str:
        (jar,) = _JARS.glob("kafka_*.jar")
        return jar.stem.rpartition("-")[2]

    @contextlib.contextmanager
    def started(self, directory: Path, replicas: int, variant: Variant) -> Iterator[GoRunning]:
        ports = free_ports(2 * replicas)
        clients, controllers = ports[:replicas], ports[replicas:]
        settings = []
        security = directory / "security"
        if self._secure:
            make_authority(str(security / "ca"), "peers")
            make_client(str(security / "ca"), "load", str(security / "client"))
        for i in range(replicas):
            path = directory / f"{i + 1}.properties"
            protocol = "SSL" if self._secure else "PLAINTEXT"
            data = directory / str(i + 1)
            text = _properties(i, clients, controllers, data, protocol, fsync=variant.fsync)
            path.write_text(text + (_security(security, i + 1) if self._secure else ""))
            settings.append(path)
        _format(settings)
        with Servers(directory) as servers:
            for path in settings:
                servers.start(f"kafka-{path.stem}", _java("kafka.Kafka", str(path)))
            servers.await_ports(clients)
            yield GoRunning(
                "kafka",
                servers,
                clients,
                replicas,
                shapes=KAFKA_SHAPES,
                readers=KAFKA_READERS,
                security=str(security / "client") if self._secure else "",
                hello=KAFKA_HELLO,
            )


def _properties(
    place: int, clients: Sequence[int], controllers: Sequence[int], data: Path, protocol: str, *, fsync: bool
) -> str:
    voters = ",".join(f"{i + 1}@{HOST}:{port}" for i, port in enumerate(controllers))
    replicas = len(clients)
    flush = "log.flush.interval.messages=1" if fsync else ""
    return f"""\
process.roles=broker,controller
node.id={place + 1}
controller.quorum.voters={voters}
listeners={protocol}://{HOST}:{clients[place]},CONTROLLER://{HOST}:{controllers[place]}
advertised.listeners={protocol}://{HOST}:{clients[place]}
inter.broker.listener.name={protocol}
controller.listener.names=CONTROLLER
listener.security.protocol.map={protocol}:{protocol},CONTROLLER:{protocol}
log.dirs={data}
min.insync.replicas={replicas // 2 + 1}
offsets.topic.replication.factor={replicas}
auto.create.topics.enable=false
{flush}
"""


def _security(directory: Path, node_id: int) -> str:
    """Both ends show certificates, as raftlog's nodes do."""
    node = directory / str(node_id)
    make_node(str(directory / "ca"), node_id, [HOST], str(node))
    whole = node / "whole.pem"  # one file, as Kafka takes it
    whole.touch(0o600)
    whole.write_text((node / "node.key").read_text() + (node / "node.pem").read_text())
    return f"""\
ssl.client.auth=required
ssl.enabled.protocols=TLSv1.3
ssl.keystore.type=PEM
ssl.keystore.location={whole}
ssl.truststore.type=PEM
ssl.truststore.location={node / "ca.pem"}
"""


def _format(settings: Sequence[Path]) -> None:
    commands = [
        _java("kafka.tools.StorageTool", "format", "-t", _CLUSTER_ID, "-c", str(path), heap=("-Xmx256m",))
        for path in settings
    ]
    running = [subprocess.Popen(each, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for each in commands]
    try:
        for process in running:
            said, _ = process.communicate(timeout=READY_S)
            if process.returncode:
                raise RaftlogError(f"kafka cannot format its directory: {said.strip().splitlines()[-1:]}")
    finally:
        for process in running:
            process.kill()


def _java(main_class: str, *arguments: str, heap: Sequence[str] = _JVM) -> list[str]:
    return ["java", *heap, "-cp", f"{_JARS}/*", main_class, *arguments]
