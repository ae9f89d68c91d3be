"""raftlog itself, with the load client of `raftlog bench`."""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import raftlog
from raftlog import Admin, Consumer
from raftlog.client.arguments import SECURITY_VARIABLE
from raftlog.errors import RaftlogError
from raftlog.limits import PROTOCOL_VERSION
from raftlog.node.local import LocalCluster
from raftlog.protocol import apis
from raftlog.protocol.cluster import HandshakeRequest, TopicMetadata
from raftlog.protocol.envelope import encode_request
from raftlog.types import Flush, TopicPartition
from raftlog_cli.bench_run import LoadProcess, Settings, own_topic, plan_for

from .go_load import GoRunning, missing_client
from .kafka import KAFKA_HELLO, KAFKA_READERS, KAFKA_SHAPES
from .summary import TLS
from .system import Shape, Variant
from .workloads import COMMON, CONNECTS, KAFKA, ONE_CONNECTION, Workload

_MODES = {"produce": "produce", "consume": "fetch", "decode": "decode"}  # of the load client


class Raftlog:
    """raftlog, as a system of the comparison.

    `secure`: nodes and clients with certificates, and all that they say under TLS.
    """

    name = "raftlog"
    settle_s = 1.0

    def __init__(self, *, secure: bool = False) -> None:
        self._secure = secure
        workloads = (*COMMON, ONE_CONNECTION)
        always = Variant("flush always", True, workloads)
        if secure:
            always = Variant(f"flush always{TLS}", True, (*workloads, CONNECTS))
        self.variants = (always,) if secure else (always, Variant("flush os", fsync=False))

    def replicas(self, wanted: int) -> int:
        return wanted

    def missing(self) -> str | None:
        return None

    def version(self) -> str:
        return raftlog.__version__

    @contextlib.contextmanager
    def started(self, directory: Path, replicas: int, variant: Variant) -> Iterator[RaftlogRunning]:
        flush = Flush.ALWAYS if variant.fsync else Flush.OS
        with (
            LocalCluster(nodes=replicas, directory=directory, flush=flush, secure=self._secure) as cluster,
            clients_of(cluster),
            Admin(bootstrap_servers=cluster.bootstrap) as admin,
            contextlib.ExitStack() as topics,
        ):
            yield RaftlogRunning(cluster, admin, topics)


@contextlib.contextmanager
def clients_of(cluster: LocalCluster) -> Iterator[None]:
    """All that this process starts take the cluster's certificate, if it has one."""
    os.environ[SECURITY_VARIABLE] = cluster.security
    try:
        yield
    finally:
        del os.environ[SECURITY_VARIABLE]


class RaftlogByKafka:
    """The same nodes, and the same load client as Apache Kafka has, on the door that speaks Kafka's protocol."""

    name = "raftlog"
    settle_s = 1.0

    def __init__(self, *, secure: bool = False) -> None:
        self._secure = secure
        plain = Variant("Kafka's door", fsync=True, workloads=KAFKA)
        self.variants = (Variant(f"Kafka's door{TLS}", True, (*KAFKA, CONNECTS)) if secure else plain,)

    def replicas(self, wanted: int) -> int:
        return wanted

    def missing(self) -> str | None:
        return missing_client()

    def version(self) -> str:
        return raftlog.__version__

    @contextlib.contextmanager
    def started(self, directory: Path, replicas: int, variant: Variant) -> Iterator[GoRunning]:
        with LocalCluster(nodes=replicas, directory=directory, kafka=True, secure=self._secure) as cluster:
            ports = [endpoint.port for endpoint in cluster.kafka_endpoints.values()]
            yield GoRunning(
                "kafka",
                Nodes(cluster),
                ports,
                replicas,
                shapes=KAFKA_SHAPES,
                readers=KAFKA_READERS,
                security=cluster.security,
                hello=KAFKA_HELLO,
            )


class Nodes:
    """The processes of a cluster."""

    def __init__(self, cluster: LocalCluster) -> None:
        self._cluster = cluster

    def pids(self) -> list[int]:
        return list(self._cluster.pids.values())


class RaftlogRunning:
    def __init__(self, cluster: LocalCluster, admin: Admin, stack: contextlib.ExitStack) -> None:
        self._cluster = cluster
        self._admin = admin
        self._stack = stack
        self._topics: dict[str, TopicMetadata] = {}

    def pids(self) -> list[int]:
        return list(self._cluster.pids.values())

    def shape(self, workload: Workload) -> Shape:
        return Shape(workload.in_flight, workload.batch_records, workload.connections or 1)

    def load(self, workload: Workload, *, seconds: float, warm_up_s: float) -> LoadProcess:
        if workload.mode == "connect":
            return self._connecting().load(workload, seconds=seconds, warm_up_s=warm_up_s)
        settings = settings_for(workload, self._cluster.bootstrap, seconds)
        if not workload.consume:
            self._topics[workload.topic] = self._stack.enter_context(own_topic(self._admin, settings))
        elif workload.topic not in self._topics:
            raise RaftlogError(f"nothing was produced to {workload.topic}")
        topic = self._topics[workload.topic]
        records = records_in(self._cluster.bootstrap, topic) if workload.consume else 0
        mode = _MODES[workload.mode]
        return LoadProcess(plan_for(settings, topic, mode, records=records, warm_up_s=warm_up_s))

    def _connecting(self) -> GoRunning:
        """As Kafka's door has it: the same load client."""
        if reason := missing_client():
            raise RaftlogError(reason)
        ports = [endpoint.port for endpoint in self._cluster.endpoints.values()]
        greeting = encode_request(apis.HANDSHAKE, 1, HandshakeRequest(PROTOCOL_VERSION, PROTOCOL_VERSION, "load"))
        hello = struct.pack(">II", len(greeting), 0) + greeting  # raftlog/network/message_stream.py
        security, replicas = self._cluster.security, len(ports)
        return GoRunning("raftlog", Nodes(self._cluster), ports, replicas, security=security, hello=hello)


def settings_for(workload: Workload, bootstrap: str, seconds: float) -> Settings:
    """One partition, replicated over all nodes, acks=all."""
    return Settings(
        record_size=workload.record_size,
        batch_records=workload.batch_records,
        in_flight=workload.in_flight,
        partitions=1,
        replication_factor=None,
        acks=-1,
        rate=workload.rate,
        seconds=seconds,
        bootstrap=bootstrap,
    )


def records_in(bootstrap: str, topic: TopicMetadata) -> int:
    """Of its one partition."""
    partition = TopicPartition(topic.name, 0)
    with Consumer(bootstrap_servers=bootstrap) as consumer:
        return consumer.end_offsets([partition])[partition]
