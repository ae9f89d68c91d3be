"""What the README tells a new user to type works as it stands."""

from __future__ import annotations

import functools
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

from raftlog import Admin, NewTopic
from tests.conftest import ClusterFactory
from tests.node.started import free_port, started
from tests.patience import WAIT_S
from tests.source_tree import ROOT

README = (ROOT / "README.md").read_text()
ADDRESS = "127.0.0.1:7071"  # the default, which a live node may have taken
KAFKA_ADDRESS = "127.0.0.1:9092"
HTTP_ADDRESS = "127.0.0.1:8071"


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.M | re.S)


def _shape(printed: str) -> set[str]:
    """The lines without their numbers, in any order: they come from two streams."""
    return {" ".join(re.sub(r"[0-9][0-9,]*", "N", line).split()) for line in printed.splitlines()}


def test_the_demo_prints_what_the_readme_shows(tmp_path: Path) -> None:
    (tmp_path / "lines").write_text("".join(f"line {number}\n" for number in range(5_000)))
    command = [sys.executable, "-P", "-m", "raftlog", "demo", "--file", "lines"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert _shape(done.stderr + done.stdout) == _shape(_blocks("text")[0])


def test_a_node_prints_the_line_of_the_readme(tmp_path: Path) -> None:
    expected = re.sub(r"[0-9a-f]{32}", "ID", _blocks("text")[1])
    listen, kafka, http = (f"127.0.0.1:{free_port()}" for _ in range(3))
    doors = ["--listen", listen, "--kafka-listen", kafka, "--http-listen", http]
    with started(tmp_path, "--id", "1", *doors) as node:
        printed = re.sub(r"[0-9a-f]{32}", "ID", node.ready()[0])
        for ours, default in ((listen, ADDRESS), (kafka, KAFKA_ADDRESS), (http, HTTP_ADDRESS)):
            printed = printed.replace(ours, default)
    assert printed == expected


def _environment(bootstrap: str) -> dict[str, str]:
    # The command of this environment comes first, as after `source .venv/bin/activate`.
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "RAFTLOG_BOOTSTRAP": bootstrap}


def test_the_commands_and_the_program_of_the_readme_run(fresh_cluster: ClusterFactory, tmp_path: Path) -> None:
    bootstrap = fresh_cluster(nodes=1).bootstrap
    start, use = _blocks("sh")
    assert start == "raftlog node start --id 1\n"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", use],
        env=_environment(bootstrap),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout in _blocks("text")
    (program,) = _blocks("python")
    assert ADDRESS in program
    done = subprocess.run(
        [sys.executable, "-c", program.replace(ADDRESS, bootstrap)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "three plums" in done.stdout


def test_the_node_of_the_readme_comes_and_goes(fresh_cluster: ClusterFactory, tmp_path: Path) -> None:
    cluster = fresh_cluster(nodes=3)
    with Admin(cluster.bootstrap) as admin:
        admin.create_topics([NewTopic(name="orders", partitions=6, replication_factor=3)])
    (block,) = _blocks("shell")
    start, *others = block.splitlines()
    first = cluster.bootstrap.partition(",")[0]
    arguments = shlex.split(start.replace(ADDRESS, first))
    assert arguments[:3] == ["raftlog", "node", "start"] and f"1@{first}" in arguments
    listen = f"127.0.0.1:{free_port()}"
    with started(tmp_path, *arguments[3:], "--listen", listen) as node:
        node.ready()
        for line in others:
            asks = "" if "remove" in line else " --yes"
            command = ["bash", "-euc", line + asks]
            done = subprocess.run(
                command, env=_environment(cluster.bootstrap), capture_output=True, text=True, timeout=120, check=False
            )
            assert done.returncode == 0, line + done.stdout + done.stderr
            if "balance" in line:
                with Admin(cluster.bootstrap) as admin:
                    (topic,) = admin.describe_topics(["orders"])
                assert any(4 in partition.replicas for partition in topic.partitions)
        node.process.wait(WAIT_S)  # a node that was removed ends


def test_every_option_that_the_pages_name_exists() -> None:
    """`raftlog NOUN VERB --option …` anywhere in the pages is looked up in that command's help."""
    wrong = []
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        for line in _command_lines(page.read_text()):
            words = shlex.split(line, comments=True)[1:]
            command: tuple[str, ...] = ()
            for word in words:
                if not re.fullmatch(r"[a-z][a-z-]*", word) or len(command) == 2:
                    break
                command = (*command, word)
            help_text = _help(command)
            options = [word.partition("=")[0] for word in words if word.startswith("--")]
            wrong += [f"{page.name}: {line}: {option}" for option in options if option not in help_text]
    assert not wrong


def _command_lines(page: str) -> list[str]:
    """Between backticks, in an indented line, or in a shell block."""
    shell = re.findall(r"^```sh(?:ell)?\n(.*?)^```$", page, re.M | re.S)
    lines = re.findall(r"^    (raftlog [a-z].*)$|`(raftlog [a-z][^`\n]*)`", page, re.M)
    return [a or b for a, b in lines] + re.findall(r"^(raftlog .*)$", "".join(shell), re.M)


@functools.cache
def _help(command: tuple[str, ...]) -> str:
    """Help of `raftlog command`; its last word may be an argument, such as a topic's name."""
    for words in (command, command[:1]):
        done = subprocess.run(
            [sys.executable, "-P", "-m", "raftlog", *words, "--help"], capture_output=True, text=True, timeout=WAIT_S
        )
        if done.returncode == 0:
            return done.stdout
    raise AssertionError(f"raftlog {' '.join(command)} is no command")


def test_the_secured_cluster_of_the_readme_is_one(tmp_path: Path) -> None:
    """Under ten lines, and who has no certificate gets nowhere."""
    start, use = _blocks("bash")
    assert len((start + use).splitlines()) < 10
    ports = [free_port() for _ in range(3)]
    for number, port in enumerate(ports):
        start = start.replace(f"127.0.0.1:707{number + 1}", f"127.0.0.1:{port}")
    environment = _environment(f"127.0.0.1:{ports[0]}")
    command = ["bash", "-eu", "-c", start + "wait\n"]
    with (tmp_path / "log").open("wb") as log:
        nodes = subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=log, start_new_session=True
        )
    assert nodes.stdout is not None
    try:
        ready = 0
        while ready < 3:
            line = nodes.stdout.readline()
            assert line, (tmp_path / "log").read_text()
            ready += b" ready at " in line
        done = subprocess.run(
            ["bash", "-euc", use],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "created topic orders: 1 partition, replication factor 3" in done.stdout
        stranger = [sys.executable, "-P", "-m", "raftlog", "topic", "list"]
        refused = subprocess.run(
            stranger, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert refused.returncode == 1 and refused.stdout == ""
    finally:
        os.killpg(nodes.pid, signal.SIGTERM)
        nodes.communicate(timeout=WAIT_S)
