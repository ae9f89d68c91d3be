"""Apache Kafka in KRaft mode, from its published jars: acknowledged by the in-sync replicas before they sync."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from raftlog.errors import RaftlogError

from .go_load import BENCH, BUILD, GoRunning, missing_client
from .servers import HOST, READY_S, Servers, free_ports
from .system import Shape, Variant
from .workloads import KAFKA

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


class Kafka:
    name = "kafka"
    variants = (
        Variant("acks=all", fsync=False, workloads=KAFKA),
        Variant("log.flush.interval.messages=1", fsync=True),
    )
    settle_s = 6.0

    def replicas(self, wanted: int) -> int:
        return wanted

    def missing(self) -> str | None:
        if shutil.which("java") is None:
            return "Debian package default-jre-headless is not installed"
        if not any(_JARS.glob("kafka_*.jar")):
            if shutil.which("mvn") is None:
                return "its jars are not there: Debian package maven fetches them"
            command = ["mvn", "-q", "-B", "dependency:copy-dependencies", f"-DoutputDirectory={_JARS}"]
            fetched = subprocess.run(
                command, cwd=BENCH / "kafka", capture_output=True, text=True, timeout=_FETCH_S, check=False
            )
            if fetched.returncode:
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
        for i in range(replicas):
            path = directory / f"{i + 1}.properties"
            path.write_text(_properties(i, clients, controllers, directory / str(i + 1), fsync=variant.fsync))
            settings.append(path)
        _format(settings)
        with Servers(directory) as servers:
            for path in settings:
                servers.start(f"kafka-{path.stem}", _java("kafka.Kafka", str(path)))
            servers.await_ports(clients)
            yield GoRunning("kafka", servers, clients, replicas, shapes=KAFKA_SHAPES, readers=KAFKA_READERS)


def _properties(place: int, clients: Sequence[int], controllers: Sequence[int], data: Path, *, fsync: bool) -> str:
    voters = ",".join(f"{i + 1}@{HOST}:{port}" for i, port in enumerate(controllers))
    replicas = len(clients)
    flush = "log.flush.interval.messages=1" if fsync else ""
    return f"""\
process.roles=broker,controller
node.id={place + 1}
controller.quorum.voters={voters}
listeners=PLAINTEXT://{HOST}:{clients[place]},CONTROLLER://{HOST}:{controllers[place]}
advertised.listeners=PLAINTEXT://{HOST}:{clients[place]}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={data}
min.insync.replicas={replicas // 2 + 1}
offsets.topic.replication.factor={replicas}
auto.create.topics.enable=false
{flush}
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
