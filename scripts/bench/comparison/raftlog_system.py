"""raftlog itself, with the load client of `raftlog bench`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import raftlog
from raftlog import Admin, Consumer
from raftlog.client.arguments import SECURITY_VARIABLE
from raftlog.errors import RaftlogError
from raftlog.node.local import LocalCluster
from raftlog.protocol.cluster import TopicMetadata
from raftlog.types import Flush, TopicPartition
from raftlog_cli.bench_run import LoadProcess, Settings, own_topic, plan_for

from .go_load import GoRunning, missing_client
from .kafka import KAFKA_READERS, KAFKA_SHAPES
from .system import Shape, Variant
from .workloads import COMMON, KAFKA, ONE_CONNECTION, Workload

_MODES = {"produce": "produce", "consume": "fetch", "decode": "decode"}  # of the load client


class Raftlog:
    """raftlog, as a system of the comparison.

    `secure`: nodes and clients with certificates, and all that they say under TLS.
    """

    name = "raftlog"
    settle_s = 1.0

    def __init__(self, *, secure: bool = False) -> None:
        self._secure = secure
        always = Variant("flush always, TLS" if secure else "flush always", True, (*COMMON, ONE_CONNECTION))
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
            _clients_of(cluster),
            Admin(bootstrap_servers=cluster.bootstrap) as admin,
            contextlib.ExitStack() as topics,
        ):
            yield RaftlogRunning(cluster, admin, topics)


@contextlib.contextmanager
def _clients_of(cluster: LocalCluster) -> Iterator[None]:
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
        self.variants = (Variant("Kafka's door, TLS" if secure else "Kafka's door", fsync=True, workloads=KAFKA),)

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
        return Shape(workload.in_flight, workload.batch_records)

    def load(self, workload: Workload, *, seconds: float, warm_up_s: float) -> LoadProcess:
        settings = settings_for(workload, self._cluster.bootstrap, seconds)
        if not workload.consume:
            self._topics[workload.topic] = self._stack.enter_context(own_topic(self._admin, settings))
        elif workload.topic not in self._topics:
            raise RaftlogError(f"nothing was produced to {workload.topic}")
        topic = self._topics[workload.topic]
        records = records_in(self._cluster.bootstrap, topic) if workload.consume else 0
        mode = _MODES[workload.mode]
        return LoadProcess(plan_for(settings, topic, mode, records=records, warm_up_s=warm_up_s))


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
