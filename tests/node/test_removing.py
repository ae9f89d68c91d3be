"""A node that is taken out of its cluster ends, stays away, and comes back with an empty directory only."""

from __future__ import annotations

import contextlib
import json
import shutil

import pytest

from raftlog import Admin
from raftlog.errors import BrokerIdNotRegisteredError, ConfigError, InvalidRequestError
from tests.cli.command import run
from tests.conftest import ClusterFactory
from tests.node import asking

REMOVED = "node 4 was removed from the cluster: this data directory is of no use any more"


def test_a_removed_node_ends_and_joins_again_as_a_new_one(fresh_cluster: ClusterFactory) -> None:
    cluster = fresh_cluster()
    assert cluster.add() == 4
    endpoint = cluster.endpoints[1]
    assert asking.create_topic(endpoint, "t", 1, 4).error_code == 0
    with Admin(cluster.bootstrap) as admin:
        with pytest.raises(InvalidRequestError, match=r"node 4 holds 1 replica \(t-0\)"):
            admin.remove_node(4)
        with pytest.raises(InvalidRequestError, match="node 2 votes for the metadata"):
            admin.remove_node(2)
        with pytest.raises(BrokerIdNotRegisteredError):
            admin.remove_node(5)
        admin.delete_topics(["t"])
        shown = json.loads(run(cluster, "cluster", "remove", "4", "--json").stdout)
        assert shown == {"node": 4, "removed": True}
        asking.until(lambda: 4 not in cluster.pids)
        assert REMOVED in cluster.log_text(4)
        asking.until(lambda: [node.node_id for node in admin.describe_cluster().nodes] == [1, 2, 3])
        assert b"the cluster has no node 4" in run(cluster, "cluster", "remove", "4", code=1).stderr

        cluster.stop(4)
        with pytest.raises(ConfigError, match=REMOVED):
            cluster.start(4)
        cluster.stop(4)
        shutil.rmtree(cluster.directory / "4")
        cluster.start(4)
        asking.until(lambda: [node.node_id for node in admin.describe_cluster().nodes] == [1, 2, 3, 4])


def test_a_node_that_was_removed_while_it_was_away_ends_once_it_hears_of_it(fresh_cluster: ClusterFactory) -> None:
    cluster = fresh_cluster()
    cluster.add()
    cluster.kill(4)
    with Admin(cluster.bootstrap) as admin:
        admin.remove_node(4)
    with contextlib.suppress(ConfigError):  # before or after it has said that it is ready
        cluster.start(4)
    asking.until(lambda: 4 not in cluster.pids)
    assert REMOVED in cluster.log_text(4)
