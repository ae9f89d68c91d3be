"""Commands that move replicas of a real cluster: what they show, ask, do, and leave going when they are interrupted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from raftlog import Admin
from raftlog.node.local import LocalCluster
from raftlog.protocol.topics import NewTopic
from tests.cli.command import interrupt, run, start
from tests.node import asking
from tests.node.test_moving_replicas import Load

pytestmark = [pytest.mark.timeout(240), pytest.mark.cluster]
GOES_ON = b"the plans are in the metadata and go on"


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """Nodes 1, 2 and 3 vote for the metadata, node 4 does not. Each test leaves them running, and no topic."""
    with LocalCluster(nodes=3, directory=tmp_path_factory.mktemp("moves")) as cluster:
        cluster.add()
        yield cluster


@pytest.fixture
def admin(four: LocalCluster) -> Iterator[Admin]:
    with Admin(four.bootstrap) as admin:
        yield admin
        admin.delete_topics(admin.list_topics())


def make(admin: Admin, name: str, *replicas: tuple[int, ...]) -> None:
    admin.create_topics([NewTopic(name=name, replicas=list(replicas))])


def told(cluster: LocalCluster, *arguments: str, code: int = 0) -> Any:
    return json.loads(run(cluster, *arguments, "--json", code=code).stdout)


def placed(admin: Admin, name: str) -> list[tuple[list[int], list[int]]]:
    """Of each partition its replicas and witnesses."""
    (topic,) = admin.describe_topics([name])
    return [(each.replicas, each.witnesses) for each in topic.partitions]


def held(cluster: LocalCluster) -> dict[int, tuple[int, int]]:
    """By node, how many replicas and witnesses."""
    return {each["node"]: (each["replicas"], each["witnesses"]) for each in told(cluster, "cluster", "status")["nodes"]}


def moving(cluster: LocalCluster) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = told(cluster, "cluster", "moves")["moves"]
    return found


def refused(cluster: LocalCluster, *arguments: str, code: int = 1) -> str:
    return run(cluster, *arguments, code=code).stderr.decode()


def test_a_node_is_drained_under_load_and_removed(four: LocalCluster, admin: Admin) -> None:
    make(admin, "loaded", (4, 1))
    make(admin, "others", (1, 4, 2), (4, 3, 1), (2, 3, 1))
    with Load(four, "loaded") as load:
        shown = run(four, "cluster", "drain", "4", "--yes")
        load.goes_on()
    assert b"3 partitions, " in shown.stdout and shown.stdout.endswith(b"node 4 is empty\n")
    assert b"(3 of 3)" in shown.stderr
    assert held(four)[4] == (0, 0) and all(4 not in ids for ids, _ in placed(admin, "loaded") + placed(admin, "others"))
    asking.until(lambda: told(four, "cluster", "status")["healthy"])
    assert told(four, "cluster", "drain", "4", "--yes") == {"node": 4, "moved": []}
    assert told(four, "cluster", "remove", "4") == {"node": 4, "removed": True}
    asking.until(lambda: 4 not in four.pids)
    four.stop(4)
    assert four.add() == 5  # what other tests call node 4 is the last one


def last(cluster: LocalCluster) -> int:
    return max(cluster.pids)


def test_a_node_that_joined_gets_its_share_when_asked_for(four: LocalCluster, admin: Admin) -> None:
    new = last(four)
    make(admin, "even", *((1, 2), (2, 3), (3, 1)) * 2)
    planned = told(four, "cluster", "balance", "--dry-run")
    assert planned["dry_run"] and sum(new in each["replicas"] for each in planned["moved"]) == 3
    assert held(four)[new][0] == 0 and not moving(four)
    done = told(four, "cluster", "balance", "--yes")
    assert done["moved"] == planned["moved"]
    assert {replicas for replicas, _ in held(four).values()} == {3}
    assert told(four, "cluster", "balance", "--yes")["moved"] == []
    assert run(four, "cluster", "balance", "--dry-run").stdout == b"the nodes hold as much as each other\n"


def test_a_topic_is_kept_on_more_and_on_fewer_nodes(four: LocalCluster, admin: Admin) -> None:
    make(admin, "factor", (1, 2), (2, 1))
    run(four, "produce", "factor", stdin=b"a\nb\nc\n")
    more = told(four, "topic", "alter", "factor", "--replication-factor", "3", "--config", "min.insync.replicas=2")
    assert (more["replication_factor"], more["partitions"]) == (3, 2)
    assert all(len(replicas) == 3 and not witnesses for replicas, witnesses in placed(admin, "factor"))
    too_few = refused(four, "topic", "alter", "factor", "--replication-factor", "1")
    assert "min_insync_replicas 2 is above the replication factor 1" in too_few
    run(four, "topic", "alter", "factor", "--reset", "min.insync.replicas")
    assert told(four, "topic", "alter", "factor", "--replication-factor", "1")["replication_factor"] == 1
    assert told(four, "topic", "alter", "factor", "--replication-factor", "2")["replication_factor"] == 2
    assert all(len(witnesses) == 1 for _, witnesses in placed(admin, "factor"))
    read = run(four, "consume", "factor", "--from", "beginning", "--exit-at-end").stdout
    assert sorted(read.split()) == [b"a", b"b", b"c"]


def test_a_plan_outlives_its_command_and_is_called_off_or_waited_for(four: LocalCluster, admin: Admin) -> None:
    new = last(four)
    make(admin, "slow", (1, 2, 3))
    run(four, "produce", "slow", stdin=b"".join(b"%d" % number + b"x" * 20_000 + b"\n" for number in range(2000)))
    asking.until(lambda: max(each.size_bytes for each in admin.describe_replicas(["slow"])) > 40_000_000)
    command = start(four, "topic", "move", "slow", "--partition", "0", "--to", f"1,2,{new}", "--throttle", "1")
    interrupt(command, b"moving 1 partition: 40 MB")
    (ongoing,) = moving(four)
    assert (ongoing["target_replicas"], ongoing["bytes_per_s"]) == ([1, 2, new], 1_000_000)
    assert 39_000_000 < ongoing["total_bytes"] < 42_000_000
    shown = run(four, "cluster", "moves", "slow-0").stdout
    assert f"slow-0     1,2,3      1,2,{new}".encode() in shown
    told(four, "cluster", "moves", "slow-0", "--throttle", "2")
    assert [each["bytes_per_s"] for each in moving(four)] == [2_000_000]
    asking.until(lambda: moving(four)[0]["copied_bytes"] > 0)
    asking.until(lambda: told(four, "cluster", "status")["healthy"])  # who copies is not doubtful
    run(four, "cluster", "moves", "slow-0", "--cancel")
    asking.until(lambda: not moving(four))
    assert placed(admin, "slow") == [([1, 2, 3], [])]
    again = ("topic", "move", "slow", "--partition", "0", "--to", f"{new},2,1")
    interrupt(start(four, *again, "--throttle", "1"), b"moving 1 partition: 40 MB")
    told(four, "cluster", "moves", "--throttle", "500")
    assert told(four, *again)["moved"] == [], "what is under way is waited for, and not begun again"
    assert placed(admin, "slow") == [([new, 2, 1], [])]
    assert run(four, "cluster", "moves").stderr == b"nothing moves\n"


def test_another_node_takes_the_place_of_one(four: LocalCluster, admin: Admin) -> None:
    new = last(four)
    make(admin, "placed", (2, 1), (1, 3))
    run(four, "cluster", "replace", "2", "--with", str(new), "--yes")
    assert all(2 not in replicas + witnesses for replicas, witnesses in placed(admin, "placed"))
    assert [replicas for replicas, _ in placed(admin, "placed")] == [[new, 1], [1, 3]]
    again = run(four, "cluster", "replace", "2", "--with", str(new), "--yes")
    assert b"node 2 votes for the metadata, so it stays in the cluster" in again.stderr


def test_what_a_dead_node_held_is_made_anew_and_the_node_is_removed(four: LocalCluster, admin: Admin) -> None:
    gone = last(four)
    make(admin, "dead", (gone, 1, 2))
    run(four, "produce", "dead", stdin=b"a\nb\n")
    assert f"node {gone} is alive: `raftlog cluster drain {gone}`" in refused(
        four, "cluster", "remove", str(gone), "--dead", "--yes"
    )
    assert "holds 1 replica (dead-0)" in refused(four, "cluster", "remove", str(gone))
    four.kill(gone)
    asking.until(lambda: not next(n for n in admin.describe_cluster().nodes if n.node_id == gone).alive)
    done = told(four, "cluster", "remove", str(gone), "--dead", "--yes")
    assert done["removed"] and [each["replicas"] for each in done["moved"]] == [[3, 1, 2]]
    assert placed(admin, "dead") == [([3, 1, 2], [])]
    assert run(four, "consume", "dead", "--from", "beginning", "--exit-at-end").stdout == b"a\nb\n"
    assert four.add() == gone + 1


def test_what_cannot_be_is_refused_in_one_line_and_moves_nothing(four: LocalCluster, admin: Admin) -> None:
    new = last(four)
    make(admin, "full", (1, 2, 3, new))
    make(admin, "one", (1,))
    for arguments, code, text in (
        (("cluster", "drain", "1", "--yes"), 1, "topic full has more replicas than the living nodes that are left"),
        (("cluster", "drain", "77", "--yes"), 1, "the cluster has no node 77"),
        (("cluster", "replace", "1", "--with", "1", "--yes"), 1, "cannot take its own place"),
        (("cluster", "remove", "1", "--dead", "--yes"), 1, "node 1 is alive"),
        (("cluster", "moves", "one-0", "--cancel"), 1, "one-0 does not move"),
        (("topic", "move", "one", "--partition", "0", "--to", "1,2"), 1, "one-0 has 1 replica, not 2"),
        (("topic", "move", "one", "--partition", "1", "--to", "2"), 1, "there is no partition 1"),
        (("topic", "move", "one", "--partition", "0", "--to", "77"), 1, "the cluster has no node 77"),
        (("topic", "move", "one", "--partition", "0", "--to", "two"), 2, "'two' is no list of nodes"),
        (("topic", "alter", "one", "--replication-factor", "9"), 1, "needs as many living nodes"),
    ):
        assert text in refused(four, *arguments, code=code)
    assert not moving(four)
    admin.delete_topics(["full"])
    asked = run(four, "cluster", "drain", "1", code=2)
    assert b"one-0" in asked.stdout and b"nobody is there to confirm it; add --yes" in asked.stderr
    assert not moving(four) and placed(admin, "one") == [([1], [])]
