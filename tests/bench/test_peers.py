"""scripts/bench/peers: what it says when something is missing or fails, and raftlog's own rows."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from comparison.measuring import Pace, rounds
from comparison.raftlog_system import Raftlog
from comparison.servers import Servers, free_ports
from comparison.system import Running, Variant
from comparison.workloads import COMMON
from tests.patience import WAIT_S
from tests.source_tree import ROOT

TINY = Pace(rounds=1, seconds=0.2, warm_up_s=0.1)


def _peers(*arguments: str, path: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / "scripts" / "bench" / "peers", *arguments],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture
def bare_path(tmp_path: Path) -> str:
    """A PATH with raftlog, what a shell script needs, and no other system."""
    (tmp_path / "raftlog").symlink_to(Path(sys.executable).parent / "raftlog")
    for name in ("sh", "sed", "dirname"):
        (tmp_path / name).symlink_to(Path("/usr/bin") / name)
    return str(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--peers", "raftlog,zookeeper"], "no system 'zookeeper'; there are raftlog, raftlog-kafka, "),
        (["--peers", ","], "no system ','"),
        (["--replicas", "2"], "invalid choice: 2"),
        (["--workloads", "batches,huge"], "no workload huge; there are batches, read-small"),
        (["--rounds", "2"], "unrecognized arguments: --rounds"),
    ],
)
def test_wrong_arguments_are_told_from_figures(arguments: list[str], said: str, bare_path: str) -> None:
    done = _peers(*arguments, path=bare_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


def test_a_peer_that_is_not_installed_is_left_out_and_said(bare_path: str) -> None:
    done = _peers("--peers", "nats,valkey,kafka", "--quick", path=bare_path)
    assert done.returncode == 1, "no system gave a figure"
    for name in ("nats", "valkey"):
        assert f"{name} is left out: its load client needs Go: Debian package golang-go, or a newer one." in done.stdout
    assert "kafka is left out: Debian package default-jre-headless is not installed." in done.stdout
    assert "records/s" not in done.stdout.partition("Medians")[0]


@pytest.mark.cluster
def test_every_workload_gives_a_row_of_raftlog(tmp_path: Path) -> None:
    said: list[str] = []
    rows = list(rounds([Raftlog()], 1, TINY, tmp_path, said.append))
    assert [row.error for row in rows] == [""] * len(rows)
    assert {(row.variant, row.workload) for row in rows} == {
        (variant.label, workload.key) for variant in Raftlog().variants for workload in variant.workloads
    }
    assert all(row.records_per_s > 0 and row.client_cpu > 0 for row in rows)
    assert {row.fsync for row in rows if row.variant == "flush always"} == {True}
    wire = {row.workload: row.client_wire_bytes for row in rows if row.variant == "flush always"}
    assert wire["read-small"] is None
    # One record a request carries its headers alone; fifty share them.
    assert wire["batches"] is not None and wire["singles"] is not None
    assert 200 < wire["batches"] < wire["singles"]
    assert list(tmp_path.iterdir()) == []


class Broken:
    """A system whose server ends at once."""

    name = "broken"
    variants = (Variant("as it comes", fsync=False),)
    settle_s = 0.0

    def replicas(self, wanted: int) -> int:
        return wanted

    def missing(self) -> str | None:
        return None

    @contextlib.contextmanager
    def started(self, directory: Path, replicas: int, variant: Variant) -> Iterator[Running]:
        with Servers(directory) as servers:
            servers.start("broken", ["sh", "-c", "echo no licence; exit 3"])
            servers.await_ports(free_ports(1))
            raise AssertionError("it never listened")


def test_a_system_that_fails_leaves_rows_that_say_so_and_the_run_goes_on(tmp_path: Path) -> None:
    said: list[str] = []
    rows = list(rounds([Broken(), Broken()], 3, TINY, tmp_path, said.append))
    assert len(rows) == 2 * len(COMMON)
    assert {row.error for row in rows} == {"not started: broken ended with 3: no licence"}
    assert len([text for text in said if "ended with 3" in text]) == len(rows)


def test_servers_end_with_their_children_when_the_run_is_interrupted(tmp_path: Path) -> None:
    pids = []
    with pytest.raises(KeyboardInterrupt), Servers(tmp_path) as servers:
        servers.start("pair", ["sh", "-c", "sleep 600 & wait"])
        (pid,) = servers.pids()
        servers.await_ready(lambda: bool(psutil.Process(pid).children()))
        pids = [pid, *(child.pid for child in psutil.Process(pid).children())]
        raise KeyboardInterrupt
    assert len(pids) == 2
    assert not any(map(_runs, pids))


def test_a_server_ends_when_the_run_is_killed(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from comparison.servers import Servers\n"
        "with Servers(Path(sys.argv[1])) as servers:\n"
        "    servers.start('one', ['sleep', '600']); print(*servers.pids(), flush=True); time.sleep(600)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "scripts" / "bench")}
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], env=environment, stdout=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        pid = int(run.stdout.readline())
        # The wish to die with the parent is told to the kernel by the program that becomes the server.
        _await(lambda: psutil.Process(pid).name() == "sleep")
        run.send_signal(signal.SIGKILL)
    _await(lambda: not _runs(pid))


def _await(there: object) -> None:
    assert callable(there)
    end_s = time.monotonic() + WAIT_S
    while not there():
        assert time.monotonic() < end_s
        time.sleep(0.02)


def _runs(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    return False
