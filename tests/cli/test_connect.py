"""How soon a command says that nobody is there: at once where that is certain, not before where it is not.

What it says tells which: after a client's patience it would be that nobody answered within 10 s.
"""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Callable

import pytest

from raftlog.errors import NoBrokersAvailableError
from raftlog.node.local import LocalCluster
from raftlog_cli.connect import reach
from tests.cli.command import COMMAND
from tests.node.asking import until


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.parametrize(
    "arguments",
    [
        ("topic", "list"),
        ("topic", "create", "a"),
        ("consume", "a"),
        ("produce", "a"),
        ("cluster", "status"),
        ("group", "list"),
    ],
    ids=" ".join,
)
def test_a_refused_connection_is_one_line(arguments: tuple[str, ...]) -> None:
    address = f"127.0.0.1:{closed_port()}"
    done = subprocess.run([*COMMAND, *arguments, "--bootstrap", address], capture_output=True, text=True, input="")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert f"{address}: connection refused" in done.stderr and "raftlog node start --id 1" in done.stderr


def test_the_doctor_could_not_look() -> None:
    address = f"127.0.0.1:{closed_port()}"
    done = subprocess.run([*COMMAND, "doctor", "--bootstrap", address], capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


def test_a_name_that_does_not_resolve_is_said_at_once() -> None:
    with pytest.raises(NoBrokersAvailableError, match=r"nobody\.invalid is no address and no name that is known here"):
        reach("nobody.invalid:7071")


def test_one_address_that_takes_connections_is_enough() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        reach(f"127.0.0.1:{closed_port()},nobody.invalid:7071,127.0.0.1:{server.getsockname()[1]}")


def test_another_door_of_a_node_is_named_at_once(fresh_cluster: Callable[..., LocalCluster]) -> None:
    cluster = fresh_cluster(nodes=1, kafka=True, http=True)
    for door, whose in (
        (cluster.kafka_endpoints[1], "is an address for Kafka's clients"),
        (cluster.http_endpoints[1], "is an HTTP address, for browsers and monitoring"),
    ):

        def refusal(address: str = str(door)) -> str:
            """A door whose process has just been started may be silent still."""
            asked = [*COMMAND, "topic", "list", "--bootstrap", address]
            done = subprocess.run(asked, capture_output=True, text=True, check=False)
            return done.stderr if done.returncode == 2 else ""

        said = until(refusal)
        assert said.startswith(f"raftlog: error: {door} {whose}; --bootstrap is for a node's own address")
        assert said.count("\n") == 1
    reach(f"{cluster.kafka_bootstrap},{cluster.bootstrap}")  # one of its own is enough


def test_a_node_that_is_being_started_is_waited_for() -> None:
    port = closed_port()
    servers: list[socket.socket] = []
    timer = threading.Timer(0.3, lambda: servers.append(socket.create_server(("127.0.0.1", port))))
    timer.start()
    try:
        reach(f"127.0.0.1:{port}")
    finally:
        timer.join()
        servers[0].close()


def test_the_doctor_gives_up_on_a_silent_address_after_its_timeout() -> None:
    """It takes connections and says nothing, as a node that hangs does."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        command = [*COMMAND, "doctor", "--timeout", "0.5", "--bootstrap", address]
        done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"answered at {address} within 0.5 s" in done.stderr


def test_who_gets_no_answer_hears_of_certificates() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        asking = [*COMMAND, "doctor", "--timeout", "0.5", "--bootstrap", address]
        done = subprocess.run(asking, capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "with --security it answers only certificates of its cluster" in done.stderr
