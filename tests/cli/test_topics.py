"""Topics are created, shown, refused and deleted as the commands say."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from raftlog.node.local import LocalCluster
from tests.cli.command import run, unique
from tests.patience import WAIT_S


def _json(cluster: LocalCluster, *arguments: str) -> dict[str, Any]:
    output = run(cluster, *arguments, "--json").stdout
    assert output.count(b"\n") == 1
    shown: dict[str, Any] = json.loads(output)
    return shown


def _described(cluster: LocalCluster, name: str) -> dict[str, Any]:
    """Once every partition has a leader and all replicas are in sync."""
    deadline_s = time.monotonic() + WAIT_S
    while True:
        (shown,) = _json(cluster, "topic", "describe", name)["topics"]
        if all(len(each["isr"]) == len(each["replicas"]) for each in shown["partitions"]):
            return dict(shown)
        assert time.monotonic() < deadline_s, shown
        time.sleep(0.2)


def test_the_life_of_a_topic(cluster: LocalCluster) -> None:
    name = unique("life")
    created = _json(cluster, "topic", "create", name, "--partitions", "3", "--config", "retention.ms=3600000")
    assert (created["created"], created["partitions"], created["replication_factor"]) == (True, 3, 3)
    assert {"topic": name, "partitions": 3, "replication_factor": 3} in _json(cluster, "topic", "list")["topics"]
    run(cluster, "produce", name, "--partitioner", "round-robin", stdin=b"a\nb\nc\n")

    shown = _described(cluster, name)
    assert (shown["topic"], shown["topic_id"], shown["config"]["retention_ms"]) == (name, created["topic_id"], 3600000)
    assert [each["partition"] for each in shown["partitions"]] == [0, 1, 2]
    assert [each["high_watermark"] for each in shown["partitions"]] == [1, 1, 1]
    assert {each["survives_failures"] for each in shown["partitions"]} == {1}
    assert sorted(each["replicas"][0] for each in shown["partitions"]) == [1, 2, 3]
    assert {each["leader"] for each in shown["partitions"]} <= {1, 2, 3}
    for each in shown["partitions"]:
        assert sorted(each["isr"]) == sorted(each["replicas"]) == [1, 2, 3]
        assert (each["log_start_offset"], each["problems"]) == (0, [])

    assert _json(cluster, "topic", "delete", name) == {"topic": name, "deleted": True}
    assert b"does not exist" in run(cluster, "topic", "delete", name, code=1).stderr
    assert b"does not exist" in run(cluster, "topic", "describe", name, code=1).stderr


def test_tables_in_a_pipe_are_plain_and_whole(cluster: LocalCluster) -> None:
    name = unique("a-topic-with-quite-a-long-name-that-no-terminal-of-eighty-columns-would-show-in-full")
    run(cluster, "topic", "create", name)
    header, *rows = run(cluster, "topic", "list").stdout.decode().splitlines()
    assert header.split() == ["topic", "partitions", "replication-factor"]
    assert [name, "1", "3"] in [row.split() for row in rows]
    described = run(cluster, "topic", "describe", name).stdout.decode()
    assert described.splitlines()[1].split()[:3] == ["partition", "leader", "epoch"]
    run(cluster, "topic", "delete", name)


def test_a_topic_that_exists_is_refused_or_accepted(cluster: LocalCluster) -> None:
    name = unique("twice")
    run(cluster, "topic", "create", name)
    refused = run(cluster, "topic", "create", name, code=1)
    assert b"TOPIC_ALREADY_EXISTS" in refused.stderr
    assert b"--if-not-exists" in refused.stderr
    assert b"exists already" in run(cluster, "topic", "create", name, "--if-not-exists").stdout
    assert _json(cluster, "topic", "create", name, "--if-not-exists") == {"topic": name, "created": False}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["no/slash"], b"INVALID_TOPIC_EXCEPTION"),
        ([".."], b"INVALID_TOPIC_EXCEPTION"),
        (["__cluster_metadata"], b"INVALID_TOPIC_EXCEPTION"),
        (["x" * 250], b"INVALID_TOPIC_EXCEPTION"),
        (["fine", "--replication-factor", "4"], b"INVALID_REPLICATION_FACTOR"),
        (["fine", "--partitions", "100000"], b"INVALID_PARTITIONS"),
    ],
)
def test_what_cannot_be_is_refused_with_the_standard_error(
    cluster: LocalCluster, arguments: list[str], said: bytes
) -> None:
    done = run(cluster, "topic", "create", *arguments, code=1)
    assert said in done.stderr
    assert done.stderr.count(b"\n") == 1
    assert done.stdout == b""


@pytest.mark.parametrize(
    ("setting", "said"),
    [("nope=1", b"unknown topic config 'nope'"), ("retention.ms=soon", b"takes a whole number")],
)
def test_a_wrong_setting_is_an_error_of_usage(cluster: LocalCluster, setting: str, said: bytes) -> None:
    done = run(cluster, "topic", "create", "fine", "--config", setting, code=2)
    assert said in done.stderr
    assert b"--config" in done.stderr


def test_two_replicas_on_three_nodes_get_a_witness_and_survive_a_failure(cluster: LocalCluster) -> None:
    name = unique("two")
    done = run(cluster, "topic", "create", name, "--replication-factor", "2")
    assert done.stderr == b""
    assert done.stdout.endswith(b"replication factor 2, 1 witness each\n")
    [partition] = _described(cluster, name)["partitions"]
    assert sorted(partition["replicas"] + partition["witnesses"]) == [1, 2, 3]
    assert (len(partition["witnesses"]), partition["survives_failures"]) == (1, 1)
    text = run(cluster, "topic", "describe", name).stdout.decode()
    assert "witnesses" in text
    witness = partition["witnesses"][0]
    nodes = {node["node"]: node for node in _json(cluster, "cluster", "status")["nodes"]}
    assert nodes[witness]["witnesses"] >= 1


def test_two_replicas_on_two_nodes_are_warned_about(fresh_cluster: Callable[..., LocalCluster]) -> None:
    cluster = fresh_cluster(nodes=2)
    done = run(cluster, "topic", "create", "two", "--replication-factor", "2")
    assert b"survives no failure" in done.stderr
    assert done.stdout.startswith(b"created topic")
    assert _described(cluster, "two")["partitions"][0]["survives_failures"] == 0


def test_the_status_of_a_healthy_cluster(cluster: LocalCluster) -> None:
    shown = _json(cluster, "cluster", "status")
    assert shown["flush"] == "always"
    assert shown["controller"] in (1, 2, 3)
    assert [(node["node"], node["alive"], node["voter"]) for node in shown["nodes"]] == [
        (n, True, True) for n in (1, 2, 3)
    ]
    text = run(cluster, "cluster", "status").stdout.decode()
    assert text.startswith(f"cluster {shown['cluster_id']}, controller node")


def test_the_status_names_a_node_that_is_gone(fresh_cluster: Callable[..., LocalCluster]) -> None:
    cluster = fresh_cluster(nodes=3)
    run(cluster, "topic", "create", "orders")
    assert _described(cluster, "orders")["partitions"][0]["survives_failures"] == 1
    cluster.kill(3)
    deadline_s = time.monotonic() + WAIT_S
    while "node 3 does not answer" not in (shown := _json(cluster, "cluster", "status"))["problems"]:
        assert time.monotonic() < deadline_s
        time.sleep(0.2)
    assert shown["healthy"] is False
    (described,) = _json(cluster, "topic", "describe", "orders")["topics"]
    (partition,) = described["partitions"]
    assert partition["survives_failures"] == 0
    assert 3 not in partition["isr"]
    assert any(problem.startswith("node 3 ") for problem in partition["problems"])
