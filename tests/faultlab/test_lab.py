"""The command: real nodes, real faults, real clients, a verdict; and nothing left behind."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import pytest

from raftlog.faultlab.history import read_history
from raftlog.faultlab.lab import Lab, Workload
from raftlog.faultlab.schedule import FAULTS, Planned
from tests.patience import WAIT_S
from tests.source_tree import ROOT

COMMAND = [sys.executable, "-m", "raftlog.faultlab.run"]
ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces and mounts need root")


def lab(*arguments: object, timeout_s: float = 240) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=timeout_s, cwd=ROOT, check=False
    )


def left_behind() -> list[str]:
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines() if "raftlog-lab-" in line]
    names = os.listdir("/run/netns") if os.path.isdir("/run/netns") else []
    return mounts + [name for name in names if name.startswith("raftlog-lab-")]


def test_a_run_on_loopback_says_what_it_did_and_that_nothing_was_lost(tmp_path: Path) -> None:
    run = (
        "run",
        "--seconds",
        9,
        "--seed",
        4,
        "--faults",
        "kill-node,kill-worker,hang-worker,hang-supervisor,isolate",
        "--report",
        tmp_path,
    )
    done = lab(*run, "--json")
    found = json.loads(done.stdout)
    assert (done.returncode, found["valid"], found["anomalies"]) == (0, True, {}), done.stderr
    assert found["acked"] > 1000 and found["polled"] >= found["acked"]
    assert found["faults_applied"] and set(found["faults_left_out"]) == {"isolate"}
    assert found["seed"] == 4
    assert "leader in epoch" in (tmp_path / "logs" / "1.log").read_text() + (tmp_path / "logs" / "2.log").read_text()
    page = (tmp_path / "report.html").read_text()
    assert "scripts/faultlab run --on local" in page and "<svg" in page
    assert not re.search(r"(src|href)=", page), "the page needs nothing but itself"
    # The same verdict from the file, and another one once an acknowledged record is taken out of every poll.
    again = lab("check", tmp_path / "history.jsonl", "--json")
    assert (again.returncode, json.loads(again.stdout)["acked"]) == (0, found["acked"])
    gone = next(
        op.value[0] for op in read_history([tmp_path / "history.jsonl"]) if (op.type, op.function) == ("ok", "send")
    )
    text = (tmp_path / "history.jsonl").read_text()
    (tmp_path / "worse.jsonl").write_text(
        text.replace(f"[{gone[2]},{gone[1]}],", "").replace(f",[{gone[2]},{gone[1]}]", "")
    )
    worse = lab("check", tmp_path / "worse.jsonl")
    assert worse.returncode == 1
    assert f"{gone[1]} was acknowledged" in worse.stdout


def test_a_run_through_kafkas_door_kills_doors_too_and_each_comes_back(tmp_path: Path) -> None:
    run = ("--door", "kafka", "--seconds", 14, "--seed", 8, "--faults", "kill-door,kill-node", "--report", tmp_path)
    done = lab("run", *run, "--json")
    found = json.loads(done.stdout)
    assert (done.returncode, found["valid"], found["anomalies"]) == (0, True, {}), done.stdout + done.stderr
    assert found["acked"] > 500 and found["polled"] >= found["acked"]
    assert found["faults_applied"].get("kill-door") and not found["faults_left_out"]
    logs = "".join((tmp_path / "logs" / f"{node_id}.log").read_text() for node_id in (1, 2, 3))
    assert "a process of Kafka's door ended (-9); starting again" in logs
    assert re.search(r"served: .*Produce [1-9]", logs), "records came through the door"
    assert "--door kafka" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize("door", ["native", "kafka"])
def test_a_secured_run_logs_its_clients_in_and_loses_nothing(tmp_path: Path, door: str) -> None:
    run = ("run", "--secure", "--door", door, "--seconds", 8, "--seed", 4, "--faults", "kill-node")
    done = lab(*run, "--report", tmp_path, "--json")
    found = json.loads(done.stdout)
    assert (done.returncode, found["valid"], found["anomalies"]) == (0, True, {}), done.stdout + done.stderr
    assert found["acked"] > 300 and found["polled"] >= found["acked"]
    assert "nobody may do what no rule allows" in (tmp_path / "logs" / "1.log").read_text()


@ROOT_ONLY
def test_a_run_in_namespaces_survives_a_power_failure_and_leaves_nothing() -> None:
    faults = ("--faults", "power-off,isolate")
    done = lab("run", "--on", "netns", "--secure", "--seconds", 12, "--seed", 4, *faults, "--json")
    found = json.loads(done.stdout)
    assert (done.returncode, found["valid"]) == (0, True), done.stdout + done.stderr
    assert set(found["faults_applied"]) == {"power-off", "isolate"}
    assert not left_behind()


@ROOT_ONLY
def test_nodes_that_do_not_sync_are_found_out() -> None:
    """All lose power at once: what was only in memory is gone, and raftlog says so rather than to go on without it."""
    faults = ("--faults", "power-off-all", "--flush", "os", "--patience", 6)
    done = lab("run", "--on", "netns", "--seconds", 10, "--seed", 1, *faults, "--json", timeout_s=400)
    found = json.loads(done.stdout)
    assert (done.returncode, found["valid"]) == (1, False), done.stdout + done.stderr
    assert found["anomalies"].get("not-whole") or found["anomalies"].get("lost-write")


@ROOT_ONLY
def test_ctrl_c_heals_and_removes_everything() -> None:
    process = subprocess.Popen(
        [*COMMAND, "run", "--on", "netns", "--seconds", "60", "--faults", "disk-full,isolate"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline(), "a fault was announced"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=WAIT_S)
    assert (process.returncode, "stopped" in errors) == (130, True), errors
    assert not left_behind()


@ROOT_ONLY
def test_a_killed_lab_leaves_nothing_either() -> None:
    process = subprocess.Popen(
        [*COMMAND, "run", "--on", "netns", "--seconds", "60", "--faults", "pause"], cwd=ROOT, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline()
    assert left_behind()
    process.kill()
    process.communicate()
    deadline_s = time.monotonic() + WAIT_S
    while left_behind() and time.monotonic() < deadline_s:
        time.sleep(0.1)
    assert not left_behind()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--faults", "nothing"), "no fault is called 'nothing'"),
        (("--scenario", "stale-majority"), "scenario stale-majority cannot run here"),
        (("--without", "G99"), "no guard is called 'G99'"),
        (("--nodes", 0), "--nodes is 1 or more"),
        (("--on", "vagrant", "--door", "kafka"), "Kafka's clients go through the doors of --on local and --on netns"),
    ],
)
def test_what_cannot_be_run_is_one_clear_line(arguments: tuple[object, ...], text: str) -> None:
    done = lab("run", *arguments)
    assert done.returncode == 2
    assert text in done.stderr and done.stderr.count("\n") == 1


def test_a_history_that_is_none_is_one_clear_line(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text('{"process": 1}\n')
    done = lab("check", path)
    assert done.returncode == 2
    assert f"{path}, line 1 is not an operation" in done.stderr


def test_the_script_is_the_command() -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [ROOT / "scripts" / "faultlab", "--help"], capture_output=True, text=True, env={**os.environ, "PATH": path}
    )
    assert shutil.which("raftlog", path=path)
    assert done.returncode == 0 and "check" in done.stdout


def test_the_time_that_a_fault_takes_to_begin_is_not_taken_from_its_hold(tmp_path: Path) -> None:
    """Or a worker is to be killed on a node that has no power yet, and nobody gives it back meanwhile."""
    place = mock.Mock(directory=tmp_path, node_ids=[1, 2, 3])
    place.power_off.side_effect = lambda node_id: time.sleep(0.5)
    place.kill_worker.return_value = "process 1"
    plan = [Planned(0.0, 0.2, FAULTS["power-off"], (1,)), Planned(0.4, 0.1, FAULTS["kill-worker"], (1,))]
    run = Lab(place, plan, workload=Workload(), seconds=0.6, seed=1, patience_s=1.0)
    run._apply_plan()
    done = [call[0] for call in place.method_calls]
    assert done.index("power_off") < done.index("start") < done.index("kill_worker")
