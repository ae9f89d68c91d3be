"""`raftlog node start` as a user runs it: the ready line, clean ends, and every reason not to start."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from raftlog.errors import ConfigError
from raftlog.node import local
from raftlog.node.local import LocalCluster
from tests.conftest import ClusterFactory
from tests.node import asking
from tests.node.started import READY, StartedNode, all_gone, free_port, started
from tests.patience import WAIT_S
from tests.security.made import Made

pytestmark = pytest.mark.cluster

Start = Callable[..., StartedNode]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with contextlib.ExitStack() as stack:

        def start_node(*arguments: str) -> StartedNode:
            if "--listen" not in arguments and "--config" not in arguments:
                arguments = (*arguments, "--listen", f"127.0.0.1:{free_port()}")
            return stack.enter_context(started(tmp_path, *arguments))

        yield start_node


def formed(start: Start, node_id: int = 1, data: str = "data") -> str:
    """A directory of a one-node cluster that has been formed and stopped. Gives the cluster id."""
    node = start("--id", str(node_id), "--data", data)
    cluster_id = str(node.ready()[3])
    assert node.end() == 0
    return cluster_id


def test_one_command_is_a_cluster_and_says_so_in_one_line(start: Start, tmp_path: Path) -> None:
    node = start("--id", "1")
    match = node.ready()
    assert match[1] == "1"
    assert match[2] == str(node.endpoint)
    assert match[4] == "always"
    assert match[5] == "./raftlog-data/1"
    assert (tmp_path / "raftlog-data" / "1" / "meta.json").exists()


def test_neither_a_node_nor_its_workers_import_what_lies_in_the_current_directory(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("raftlog", "msgspec", "multiprocessing"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('imported from the current directory')\n")
    start("--id", "1").ready()  # by the command; it is ready once its first worker leads
    monkeypatch.chdir(tmp_path)
    with LocalCluster(nodes=1, directory=tmp_path / "cluster") as cluster:  # by `python -m raftlog.node`
        assert cluster.workers(1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_node_cleanly_with_all_its_processes(start: Start, number: int) -> None:
    node = start("--id", "1")
    node.ready()
    asking.create_topic(node.endpoint, "t", 3)
    asking.until(lambda: asking.leaders(node.endpoint, "t"))
    family = node.descendants()
    assert len(family) >= 5  # fork server, resource tracker, four workers, less what the platform saves
    assert node.end(number) == 0
    assert all_gone(family)
    assert "stopped" in node.log_text
    assert "ERROR" not in node.log_text


def test_the_ready_line_is_one_write_also_where_nothing_is_buffered(tmp_path: Path) -> None:
    """Nodes that share a stdout would mix their lines otherwise."""
    command = [sys.executable, "-u", "-P", "-m", "raftlog.node", "--id", "1", "--kafka-listen", "none"]
    command += ["--http-listen", "none", "--listen", f"127.0.0.1:{free_port()}"]
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)  # a write is a message
    ours.settimeout(WAIT_S)
    with ours, theirs, (tmp_path / "log").open("wb") as log:
        node = subprocess.Popen(command, cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=theirs, stderr=log)
        try:
            said = ours.recv(65536).decode()
        finally:
            node.kill()
            node.wait()
    assert READY.fullmatch(said), said


def test_kill_9_of_a_node_ends_its_workers_even_stopped_ones(start: Start) -> None:
    node = start("--id", "1")
    node.ready()
    asking.create_topic(node.endpoint, "t", 3)
    asking.until(lambda: asking.leaders(node.endpoint, "t"))
    workers = [status.worker_pid for status in asking.statuses(node.endpoint, "t")]
    os.kill(workers[0], signal.SIGSTOP)
    family = node.descendants()
    assert set(workers) <= {process.pid for process in family}
    node.end(signal.SIGKILL)
    assert all_gone(family)


def test_a_restarted_node_keeps_its_cluster_and_its_topics(start: Start, tmp_path: Path) -> None:
    node = start("--id", "1")
    cluster_id = node.ready()[3]
    asking.create_topic(node.endpoint, "kept")
    meta = next(tmp_path.rglob("meta.json"))
    boots = json.loads(meta.read_text())["boots"]
    node.end(signal.SIGKILL)
    again = start("--id", "1")
    assert again.ready()[3] == cluster_id
    assert json.loads(meta.read_text())["boots"] == boots + 1, "what the process before it said is older"
    assert asking.until(lambda: asking.leaders(again.endpoint, "kept"))


def test_waiting_for_a_node_that_another_thread_stops_ends_with_the_reason(
    fresh_cluster: ClusterFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = fresh_cluster(nodes=1)
    cluster.kill(1)
    cluster.start(1, wait=False)

    def stopped_meanwhile(*arguments: object) -> object:
        cluster.kill(1)
        return arguments[:1]

    monkeypatch.setattr(local, "select", SimpleNamespace(select=stopped_meanwhile))
    with pytest.raises(ConfigError, match="node 1 was stopped before it was ready"):
        cluster.wait_ready([1])


def test_an_audit_log_that_cannot_be_written_is_refused(start: Start) -> None:
    error = start("--id", "1", "--audit-log", "/nowhere/audit.log").fails()
    assert error == "raftlog: error: --audit-log /nowhere/audit.log cannot be written: No such file or directory"


def test_a_directory_in_use_is_refused(start: Start) -> None:
    start("--id", "1", "--data", "data").ready()
    assert "in use by a running node" in start("--id", "1", "--data", "data").fails()


def test_a_port_in_use_is_refused(start: Start) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert f"port {port} on 127.0.0.1 is in use" in start("--id", "1", "--listen", f"127.0.0.1:{port}").fails()


def test_an_address_of_another_machine_is_refused(start: Start) -> None:
    assert "cannot listen on 192.0.2.1" in start("--id", "1", "--listen", "192.0.2.1:7071", "--insecure").fails()


def test_another_set_of_peers_is_refused(start: Start) -> None:
    formed(start)
    port = free_port()
    peers = f"1@127.0.0.1:{port},2@127.0.0.1:{free_port()}"
    error = start("--id", "1", "--data", "data", "--peers", peers, "--listen", f"127.0.0.1:{port}").fails()
    assert "voters are nodes 1; --peers names 1, 2" in error


def test_a_node_of_a_foreign_cluster_is_refused_and_the_running_one_goes_on(start: Start) -> None:
    first = start("--id", "1", "--data", "first")
    other = first.ready()[3]
    joined = start("--id", "4", "--data", "joined", "--peers", f"1@{first.endpoint}")
    assert joined.ready()[3] == other
    assert joined.end() == first.end() == 0
    running = start("--id", "1")
    cluster_id = running.ready()[3]
    error = start("--id", "4", "--data", "joined", "--peers", f"1@{running.endpoint}").fails()
    assert cluster_id in error
    assert other in error
    assert asking.metadata(running.endpoint) is not None


def test_a_newer_format_is_refused(start: Start, tmp_path: Path) -> None:
    formed(start)
    path = tmp_path / "data" / "meta.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format_version": 99}))
    assert "newer raftlog (format 99" in start("--id", "1", "--data", "data").fails()


def test_what_is_no_directory_is_refused(start: Start, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot use the data directory" in start("--id", "1", "--data", "file").fails()


def test_an_unreadable_directory_is_refused(start: Start, tmp_path: Path) -> None:
    (tmp_path / "data").symlink_to("data")  # a loop: unreadable for root as well
    assert "cannot use the data directory" in start("--id", "1", "--data", "data").fails()


def test_another_node_s_directory_is_refused(start: Start) -> None:
    formed(start)
    assert "belongs to node 1, not to node 2" in start("--id", "2", "--data", "data").fails()


def test_a_wrong_flag_is_named(start: Start) -> None:
    node = start("--id", "1", "--flush", "never")
    assert "--flush" in node.fails()
    assert node.process.returncode == 2, "a command line that is not understood"


def test_the_file_says_what_flags_do_not(start: Start, tmp_path: Path) -> None:
    ports = (free_port(), free_port())
    (tmp_path / "node.ini").write_text(
        f"[node]\nid = 1\nlisten = 127.0.0.1:{ports[0]}\nflush = os\nlog-level = warning\n"
    )
    node = start("--config", "node.ini", "--listen", f"127.0.0.1:{ports[1]}")
    match = node.ready()
    assert match[2] == f"127.0.0.1:{ports[1]}"
    assert match[4] == "os"
    assert " INFO " not in node.log_text


def test_anything_but_loopback_is_warned_about(start: Start) -> None:
    listen = ["--listen", f"0.0.0.0:{free_port()}", "--advertise", "127.0.0.1"]
    node = start("--id", "1", *listen, "--insecure")
    node.ready()
    assert "can be reached by anybody: this node is --insecure" in node.log_text


def test_anything_but_loopback_is_refused_unless_the_user_says_so(start: Start) -> None:
    error = start("--id", "1", "--listen", f"0.0.0.0:{free_port()}", "--advertise", "127.0.0.1").fails()
    assert "give --security DIR" in error and "or --insecure" in error
    kafka = ["--listen", f"127.0.0.1:{free_port()}", "--kafka-listen", f"0.0.0.0:{free_port()}"]
    error = start("--id", "1", *kafka, "--kafka-advertise", "127.0.0.1").fails()
    assert "can be reached from other machines" in error


def test_a_directory_that_is_not_the_nodes_is_refused(start: Start, tmp_path: Path) -> None:
    made = Made(tmp_path)
    error = start("--id", "2", "--security", made.node(1)).fails()
    assert "node.pem is of node 1 of cluster orders, not of node 2" in error
    assert "has no node.pem" in start("--id", "1", "--security", made.client("alice")).fails()
    key = tmp_path / "node-1" / "node.key"
    key.chmod(0o644)
    assert f"chmod 600 {key}" in start("--id", "1", "--security", str(key.parent)).fails()


def test_workers_keep_to_their_ports_and_say_when_there_are_too_few(start: Start) -> None:
    first = free_port()
    node = start("--id", "1", "--worker-ports", f"{first}-{first + 1}")
    node.ready()
    asking.create_topic(node.endpoint, "t", 2)
    problem = asking.until(lambda: [s.error for s in asking.statuses(node.endpoint, "t") if "in use" in s.error])
    assert f"every port from {first} to {first + 1}" in problem[0]
    served = asking.until(lambda: asking.metadata(node.endpoint, ["t"]))
    ports = {p.endpoint.port for p in served.topics[0].partitions if p.endpoint}
    assert ports <= {first, first + 1}


def test_a_worker_that_cannot_start_says_why_and_the_others_work(start: Start, tmp_path: Path) -> None:
    node = start("--id", "1")
    node.ready()
    asking.create_topic(node.endpoint, "t", 2)
    asking.until(lambda: asking.leaders(node.endpoint, "t"))
    node.end()
    for copy in ("state.a", "state.b"):
        (tmp_path / "raftlog-data" / "1" / "t-0" / copy).write_bytes(b"nonsense")
    again = start("--id", "1")
    again.ready()
    broken, sound = sorted(asking.statuses(again.endpoint, "t"), key=lambda status: status.partition)
    assert "state" in broken.error
    assert broken.worker_pid == 0
    assert sound.error == ""
    assert "starting again in" in again.log_text


def test_a_lost_data_directory_of_a_single_node_is_a_new_cluster(start: Start, tmp_path: Path) -> None:
    # Nobody is left who could know better: this is what a first start looks like.
    first = formed(start)
    shutil.rmtree(tmp_path / "data")
    assert formed(start) != first
