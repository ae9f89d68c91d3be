"""`raftlog top`, `topic describe --watch` and `consume --tail`: what goes on now."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess

from raftlog import Producer
from raftlog.node.local import LocalCluster
from tests.cli.command import COMMAND, TIMEOUT_S, environment, run, start, unique
from tests.node.asking import until


def _topic(cluster: LocalCluster, records: int) -> str:
    name = unique("top")
    run(cluster, "topic", "create", name)
    with Producer(cluster.bootstrap, linger_ms=0) as producer:
        for number in range(records):
            producer.send(name, str(number).encode()).result(TIMEOUT_S)
    return name


def _topics(cluster: LocalCluster) -> list[str]:
    listed = json.loads(run(cluster, "topic", "list", "--internal", "--json").stdout)
    return [each["topic"] for each in listed["topics"]]


def test_each_look_of_top_is_a_line_for_programs(cluster: LocalCluster) -> None:
    name = _topic(cluster, 3)
    lines = run(cluster, "top", "--json", "--count", "2", "--every", "0.5").stdout.splitlines()
    first, second = map(json.loads, lines)
    parts = {each["partition"]: each for each in second["partitions"]}
    assert parts[f"{name}-0"]["replicas"] == 3
    assert parts[f"{name}-0"]["records_per_s"] is not None
    assert {each["records_per_s"] for each in first["partitions"]} == {None}
    assert [node["alive"] for node in second["nodes"]] == [True] * 3


def test_top_draws_a_screen_on_a_terminal(cluster: LocalCluster) -> None:
    _topic(cluster, 1)
    screen = _screen(cluster)
    # Which partitions the first look has room for is not said: the cluster is shared, and no rates are known yet.
    assert "controller node" in screen and "records/s" in screen
    assert any(f"{topic}-0" in screen for topic in _topics(cluster))


def _screen(cluster: LocalCluster) -> str:
    """What `raftlog top` draws on a terminal, once."""
    ours, theirs = pty.openpty()
    drawing = subprocess.Popen(
        [*COMMAND, "top", "--count", "1"],
        stdout=theirs,
        stderr=subprocess.PIPE,
        env={**environment(cluster.bootstrap), "COLUMNS": "150", "LINES": "60", "TERM": "xterm"},
    )
    os.close(theirs)
    drawn = b""
    with contextlib.suppress(OSError):  # EIO: the other end is closed
        while part := os.read(ours, 65536):
            drawn += part
    os.close(ours)
    _, errors = drawing.communicate(timeout=TIMEOUT_S)
    assert (drawing.returncode, errors) == (0, b"")
    return drawn.decode()


def test_top_names_clients_that_quotas_hold_back(cluster: LocalCluster) -> None:
    name, client = _topic(cluster, 1), unique("held")
    quota = ("--client-id", client, "--producer-byte-rate")
    run(cluster, "quota", "set", *quota, "1000")
    try:
        with Producer(cluster.bootstrap, client_id=client) as producer:

            def held() -> list[dict[str, object]]:
                producer.send(name, os.urandom(2000)).result(TIMEOUT_S)
                found = json.loads(run(cluster, "top", "--json", "--count", "1").stdout)["throttled"]
                return [each for each in found if each["client"] == client]

            (found,) = until(held)
    finally:
        run(cluster, "quota", "remove", *quota[:2])
    assert (found["door"], found["user"], found["held_per_s"]) == ("native", "ANONYMOUS", None)
    assert found["times"] and found["seconds"]
    screen = _screen(cluster)
    # Others of this shared cluster may have been held back for longer: the screen has room for some.
    shown = json.loads(run(cluster, "top", "--json", "--count", "1").stdout)["throttled"]
    assert "throttled client" in screen and any(each["client"] in screen for each in shown)


def test_a_watched_description_comes_again_until_ctrl_c(cluster: LocalCluster) -> None:
    name = _topic(cluster, 2)
    watching = start(cluster, "topic", "describe", name, "--watch", "--json")
    assert watching.stdout is not None
    seen = [json.loads(watching.stdout.readline())["topics"][0]["topic"] for _ in range(2)]
    watching.send_signal(signal.SIGINT)
    assert watching.wait(TIMEOUT_S) == 0
    for stream in (watching.stdin, watching.stdout, watching.stderr):
        assert stream is not None
        stream.close()
    assert seen == [name, name]


def test_tail_begins_so_many_records_before_the_end(cluster: LocalCluster) -> None:
    name = _topic(cluster, 9)
    assert run(cluster, "consume", name, "--tail", "3", "--exit-at-end").stdout == b"6\n7\n8\n"
    assert run(cluster, "consume", name, "--tail", "100", "--max", "9").stdout.count(b"\n") == 9
    refused = run(cluster, "consume", name, "--tail", "3", "--from", "beginning", code=2).stderr
    assert b"--tail and --from do not go together" in refused
