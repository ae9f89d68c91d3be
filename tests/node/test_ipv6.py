"""Three nodes that listen on, advertise and reach each other at IPv6 addresses only."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from raftlog import Admin, Consumer, Producer
from raftlog.client import NewTopic
from raftlog.node.local import LocalCluster
from tests.patience import WAIT_S

pytestmark = pytest.mark.cluster


def test_clients_nodes_and_replicas_use_ipv6(tmp_path: Path) -> None:
    with LocalCluster(nodes=3, directory=tmp_path, host="::1") as cluster:
        assert cluster.bootstrap.startswith("[::1]:")
        with Admin(cluster.bootstrap) as admin:
            admin.create_topics([NewTopic(name="t", replication_factor=3, config={"min_insync_replicas": "3"})])
            assert {node.endpoint[0] for node in admin.describe_cluster().nodes} == {"::1"}
        with Producer(bootstrap_servers=cluster.bootstrap) as producer:
            producer.send("t", b"value").result(WAIT_S)
        with Consumer("t", bootstrap_servers=cluster.bootstrap, auto_offset_reset="earliest") as consumer:
            records = [record for each in consumer.poll(30_000).values() for record in each]
        assert [record.value for record in records] == [b"value"]
        workers = [worker for node_id in cluster.pids for worker in cluster.workers(node_id)]
        listening = [
            each.laddr.ip
            for process in [*workers, *map(psutil.Process, cluster.pids.values())]
            for each in process.net_connections("tcp")
            if each.status == psutil.CONN_LISTEN
        ]
        assert len(listening) >= 15 and set(listening) == {"::1"}
