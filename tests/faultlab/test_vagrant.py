"""scripts/vagrant and the lab's place in VMs, as far as they go without one: what is asked of whom, wrong input."""

from __future__ import annotations

import configparser
import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from raftlog import Admin
from raftlog.errors import RaftlogError
from raftlog.faultlab import damage, guest
from raftlog.faultlab.channel import Channel
from raftlog.faultlab.guest import VERBS, tc_lines
from raftlog.faultlab.places import HostPlace
from raftlog.faultlab.shape import Shape
from raftlog.faultlab.vagrant import VagrantPlace
from raftlog.faultlab.wheels import gather
from raftlog.node.local import SUPERUSER, LocalCluster, free_endpoints
from tests.conftest import ClusterFactory
from tests.faultlab.stand_ins import StandIns
from tests.node import asking
from tests.patience import WAIT_S
from tests.source_tree import ROOT

SCRIPTS = sorted(path.name for path in (ROOT / "scripts" / "vagrant").iterdir() if path.is_file())
CUT, WHOLE = [True, 0.0, 0.0, 0.0], [False, 100.0, 0.0, 0.0]


@pytest.fixture
def vms(tmp_path: Path) -> StandIns:
    return StandIns(tmp_path)


def script(vms: StandIns, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [ROOT / "scripts" / "vagrant" / name, *arguments]
    return subprocess.run(command, env=vms.environment, capture_output=True, text=True, timeout=WAIT_S, check=False)


# --- the commands ----------------------------------------------------------------------------------
@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_explains_itself_and_is_documented(name: str, vms: StandIns) -> None:
    done = script(vms, name, "--help")
    assert done.returncode == 0 and done.stdout.startswith(f"usage: scripts/vagrant/{name} "), done.stderr
    assert f"`{name}" in (ROOT / "docs" / "vagrant.md").read_text()
    assert not vms.said()


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("kill n1", [["n1", "kill"]]),
        ("pause n2", [["virsh", "n2", "suspend"]]),
        ("power-off n3", [["virsh", "n3", "destroy"]]),
        ("disk-full n1", [["n1", "disk_full", True]]),
        ("disk-full n1 --off", [["n1", "disk_full", False]]),
        ("disk-error n1", [["n1", "disk_error"]]),
        ("disk-error n1 --off", [["n1", "start"]]),
        (
            "partition n1",
            [
                ["n1", "network", {"127.0.0.2": CUT, "127.0.0.3": CUT}],
                ["n2", "network", {"127.0.0.1": CUT}],
                ["n3", "network", {"127.0.0.1": CUT}],
            ],
        ),
        (
            "partition n2 n3 --one-way",
            [
                ["n1", "network", {}],
                ["n2", "network", {"127.0.0.1": CUT}],
                ["n3", "network", {"127.0.0.1": CUT}],
            ],
        ),
        ("kill n1 --off", [["n1", "start"]]),
        ("partition n1 --cable", [["virsh", "n1", "domif-setlink", "52:54:00:00:00:02", "down"]]),
        (
            "delay n3 --ms 100",
            [
                ["n1", "network", {"127.0.0.3": WHOLE}],
                ["n2", "network", {"127.0.0.3": WHOLE}],
                ["n3", "network", {"127.0.0.1": WHOLE, "127.0.0.2": WHOLE}],
            ],
        ),
    ],
)
def test_a_fault_is_done_to_the_vm_that_was_named(command: str, said: list[object], vms: StandIns) -> None:
    done = script(vms, *command.split())
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(vms.said(), key=str) == said


def test_a_clock_is_told_the_true_time_and_how_far_from_it(vms: StandIns) -> None:
    assert script(vms, "clock", "n1", "--by", "-3600", "--rate", "1.05").returncode == 0
    ((name, verb, now_s, rate),) = vms.said()
    assert (name, verb, rate) == ("n1", "clock", 1.05)
    assert isinstance(now_s, float) and abs(now_s - (time.time() - 3600)) < 60


def test_a_clock_that_is_put_right_is_told_the_true_time(vms: StandIns) -> None:
    assert script(vms, "clock", "n1", "--off").returncode == 0
    ((name, verb, now_s, rate),) = vms.said()
    assert (name, verb, rate) == ("n1", "clock", 1.0)
    assert isinstance(now_s, float) and abs(now_s - time.time()) < 60


@pytest.mark.parametrize("fault", ["partition", "delay"])
def test_the_network_of_one_vm_is_made_whole_and_that_of_the_others_stays(fault: str, vms: StandIns) -> None:
    (vms.folder / "n1.network").write_text(json.dumps({"127.0.0.2": CUT, "127.0.0.3": WHOLE}))
    (vms.folder / "n3.network").write_text(json.dumps({"127.0.0.1": CUT}))
    assert script(vms, fault, "n2", "--off").returncode == 0
    told = {line[0]: line[2] for line in vms.said() if line[1] == "network"}
    assert told == {"n1": {"127.0.0.3": WHOLE}, "n2": {}, "n3": {"127.0.0.1": CUT}}


def test_a_cable_is_plugged_in_again(vms: StandIns) -> None:
    script(vms, "partition", "n1", "--cable")
    assert "cable pulled" in script(vms, "status").stdout.splitlines()[0]
    assert script(vms, "partition", "n1", "--off").returncode == 0
    assert ["virsh", "n1", "domif-setlink", "52:54:00:00:00:02", "up"] in vms.said()
    assert "cable" not in script(vms, "status").stdout


@pytest.mark.parametrize(
    "name", ["kill", "pause", "power-off", "disk-full", "disk-error", "clock", "partition", "delay"]
)
def test_every_fault_can_be_taken_back_by_its_own_command(name: str, vms: StandIns) -> None:
    assert "--off" in script(vms, name, "--help").stdout


def test_power_off_twice_is_no_error(vms: StandIns) -> None:
    script(vms, "power-off", "n2")
    done = script(vms, "power-off", "n2")
    assert (done.returncode, done.stdout, done.stderr) == (0, "n2 is off already\n", "")
    assert [line for line in vms.said() if "destroy" in line] == [["virsh", "n2", "destroy"]]


@pytest.mark.parametrize(
    ("state", "command", "said"),
    [
        ("shut off", "kill n2", "n2 is off: `scripts/vagrant/power-off n2 --off` lets it run again"),
        ("paused", "disk-full n2", "n2 is paused: `scripts/vagrant/pause n2 --off` lets it run again"),
        ("paused", "clock n2 --by 5", "n2 is paused: `scripts/vagrant/pause n2 --off` lets it run again"),
        ("shut off", "pause n2", "n2 is off: `scripts/vagrant/power-off n2 --off` lets it run again"),
    ],
)
def test_a_vm_that_does_not_run_is_told_at_once(state: str, command: str, said: str, vms: StandIns) -> None:
    vms.set_state("n2", state)
    done = script(vms, *command.split())
    assert (done.returncode, done.stderr) == (2, f"scripts/vagrant/{command.split()[0]}: error: {said}\n")
    assert not vms.said()


def test_an_unknown_option_is_answered_with_the_usage_of_its_command(vms: StandIns) -> None:
    done = script(vms, "kill", "n1", "--of")
    assert done.returncode == 2 and done.stderr.startswith("usage: scripts/vagrant/kill ")


def test_the_state_names_the_pairs_that_a_fault_of_the_network_concerns(vms: StandIns) -> None:
    script(vms, "delay", "n1", "--ms", "50", "--jitter-ms", "20", "--loss", "0.05")
    lines = script(vms, "status").stdout.splitlines()
    assert "what it sends to 127.0.0.2: 50 to 70 ms late, 5 % lost" in lines[0]
    assert "what it sends to 127.0.0.1: 50 to 70 ms late, 5 % lost" in lines[1] and "127.0.0.3" not in lines[1]
    script(vms, "partition", "n3")
    assert "what it sends to 127.0.0.3: cut" in script(vms, "status").stdout.splitlines()[0]


def test_the_state_of_a_cluster_that_is_not_whole_is_exit_code_1(vms: StandIns, fresh_cluster: ClusterFactory) -> None:
    cluster = fresh_cluster(nodes=3)
    vms.set_endpoints(cluster.endpoints)
    assert script(vms, "status").returncode == 0
    cluster.kill(2)
    deadline_s = time.monotonic() + WAIT_S
    while (done := script(vms, "status")).returncode == 0 and time.monotonic() < deadline_s:
        time.sleep(0.2)
    assert done.returncode == 1 and "node 2 does not answer" in done.stdout


def test_a_worker_is_killed_and_named(vms: StandIns) -> None:
    assert script(vms, "kill", "--worker", "n2").stdout == "n2: process 77\n"


def test_a_paused_vm_is_not_asked_for_what_it_cannot_do(vms: StandIns) -> None:
    vms.set_state("n2", "paused")
    assert script(vms, "partition", "n2").returncode == 0
    assert {line[0] for line in vms.said()} == {"n1", "n3"}


def test_a_paused_vm_goes_on_with_the_true_time(vms: StandIns) -> None:
    vms.set_state("n2", "paused")
    assert script(vms, "pause", "n2", "--off").returncode == 0
    resumed, clock = vms.said()
    assert resumed == ["virsh", "n2", "resume"] and clock[:2] == ["n2", "clock"]


def test_the_state_of_the_vms_is_told_with_the_faults_upon_them(vms: StandIns) -> None:
    vms.set_state("n3", "shut off")
    lines = script(vms, "status").stdout.splitlines()
    assert lines[0].startswith("n1  running, node active") and lines[0].endswith("upon it: clock-drift")
    assert lines[2].split() == ["n3", "off"]


def test_logs_are_those_of_the_node(vms: StandIns) -> None:
    assert script(vms, "logs", "n2").stdout == "a line of the log of n2\n"


@pytest.mark.parametrize(
    ("command", "text"),
    [
        ("kill n9", "no VM is called n9; there are n1, n2, n3"),
        ("delay n1 --loss 2", "--loss is 0 to 1"),
        ("partition n1 n2 n3", "all VMs are on one side"),
    ],
)
def test_wrong_input_is_one_clear_line(command: str, text: str, vms: StandIns) -> None:
    done = script(vms, *command.split())
    assert done.returncode == 2
    assert text in done.stderr and done.stderr.count("\n") == 1
    assert not vms.said()


def test_without_vms_the_way_to_make_them_is_told(tmp_path: Path) -> None:
    (tmp_path / "Vagrantfile").touch()
    environment = {**os.environ, "VAGRANT_CWD": str(tmp_path)}
    command = [sys.executable, "-m", "raftlog.faultlab.run", "run", "--on", "vagrant"]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=WAIT_S, cwd=ROOT, check=False
    )
    assert (done.returncode, done.stderr) == (2, "faultlab: error: there are no VMs: scripts/vagrant/up makes them\n")


def test_what_a_vm_refuses_is_an_error(vms: StandIns) -> None:
    (vms.folder / "broken").touch()
    done = script(vms, "kill", "n1")
    assert done.returncode == 2
    assert done.stderr == "scripts/vagrant/kill: error: n1: it is broken\n"


def test_virtualbox_is_told_the_same_by_its_own_tool(tmp_path: Path) -> None:
    vms = StandIns(tmp_path, "virtualbox")
    for command in ("pause n1", "pause n1 --off", "power-off n2", "power-off n2 --off", "partition n3 --cable"):
        assert script(vms, *command.split()).returncode == 0
    assert [line for line in vms.said() if line[0] == "VBoxManage"] == [
        ["VBoxManage", "n1", "controlvm", "pause"],
        ["VBoxManage", "n1", "controlvm", "resume"],
        ["VBoxManage", "n2", "controlvm", "poweroff"],
        ["VBoxManage", "n2", "startvm", "--type", "headless"],
        ["VBoxManage", "n3", "controlvm", "setlinkstate2", "off"],
    ]


# --- the place -------------------------------------------------------------------------------------
def test_a_run_on_vms_does_the_faults_there_and_heals_them_all(vms: StandIns, fresh_cluster: ClusterFactory) -> None:
    """The nodes are real ones of this machine, so that there is a verdict; what the VMs do to theirs is only noted."""
    vms.set_endpoints(fresh_cluster(nodes=3).endpoints)
    faults = "--faults=isolate,clock-jump,disk-full,power-off,pause,kill-node,flipped-bit"
    command = [
        sys.executable,
        "-m",
        "raftlog.faultlab.run",
        "run",
        "--on",
        "vagrant",
        "--seconds",
        "40",
        "--json",
        faults,
    ]
    done = subprocess.run(
        [*command, "--seed", "1", "--workload", "assign"],
        env=vms.environment,
        capture_output=True,
        text=True,
        timeout=240,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert set(found["faults_applied"]) == {*faults.partition("=")[2].split(",")}, done.stderr
    said = vms.said()
    assert sorted(line[0] for line in said if line[1:] == ["begin_anew", "", {}]) == ["n1", "n2", "n3"]
    for verb in ("kill", "flip", "network", "clock", "disk_full", "destroy", "suspend"):
        assert [line for line in said if verb in line], verb
    # At the end each VM runs, with a whole network, the true time, room on its disk, and its node started.
    for name in ("n1", "n2", "n3"):
        assert (vms.folder / f"{name}.state").read_text() == "running"
        last = {str(line[1]): line[2:] for line in said if line[0] == name}
        assert last["network"] == [{}] and last["disk_full"] == [False] and last["clock"][1] == 1.0
        assert [line for line in said if line[0] == name][-1][1] == "start"


def test_a_secured_run_gives_each_vm_the_files_of_its_node_and_asks_with_those_of_a_client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nodes of this machine that run with what the VMs were given are a whole cluster, which a client may ask."""
    (tmp_path / "vms").mkdir()
    (tmp_path / "lab").mkdir()
    vms = StandIns(tmp_path / "vms")
    endpoints = dict(enumerate(free_endpoints("127.0.0.1", 3), 1))
    vms.set_endpoints(endpoints)
    monkeypatch.setenv("PATH", vms.environment["PATH"])
    monkeypatch.setenv("VAGRANT_CWD", str(vms.folder))
    monkeypatch.setattr(guest, "OWNER", os.geteuid())
    place = VagrantPlace(tmp_path / "lab", 3, "os", secure=True)

    def begun() -> list[list[Any]]:
        found: list[list[Any]] = [line for line in vms.said() if line[1] == "begin_anew"]
        return found if len(found) == 3 else []

    with ThreadPoolExecutor(1) as thread:
        opening = thread.submit(place.open)
        asked_for = f"--flush os --security {guest.SECURITY} --superuser local"
        for name, _, options, files in asking.until(begun):
            assert options == asked_for
            monkeypatch.setattr(guest, "SECURITY", tmp_path / name)
            guest.take_security(files)

        def given(node_id: int) -> list[str]:
            return ["--security", str(tmp_path / f"n{node_id}"), "--superuser", SUPERUSER]

        with LocalCluster(3, directory=tmp_path / "nodes", endpoints=endpoints, options=given):
            opening.result(WAIT_S)
            with Admin(place.bootstrap, security=place.security) as admin:
                assert len(admin.describe_cluster().nodes) == 3
            place.close()


def test_vms_are_healed_when_the_lab_is_killed(vms: StandIns, fresh_cluster: ClusterFactory) -> None:
    vms.set_endpoints(fresh_cluster(nodes=3).endpoints)
    command = [sys.executable, "-m", "raftlog.faultlab.run", "run", "--on", "vagrant", "--faults", "power-off"]
    process = subprocess.Popen(command, env=vms.environment, stdout=subprocess.PIPE, cwd=ROOT)
    assert process.stdout is not None
    assert b"power-off" in process.stdout.readline()
    second = subprocess.run(command, env=vms.environment, capture_output=True, text=True, timeout=WAIT_S, cwd=ROOT)
    assert (second.returncode, "another run has these VMs" in second.stderr) == (2, True)
    process.kill()
    process.communicate()
    deadline_s = time.monotonic() + WAIT_S
    while (last := vms.said()[-1])[1] != "start" and time.monotonic() < deadline_s:
        time.sleep(0.1)
    assert last[1] == "start"
    assert {(vms.folder / f"{name}.state").read_text() for name in ("n1", "n2", "n3")} == {"running"}


def test_the_number_of_nodes_is_that_of_the_vms(vms: StandIns) -> None:
    command = [sys.executable, "-m", "raftlog.faultlab.run", "run", "--on", "vagrant", "--nodes", "5"]
    done = subprocess.run(
        command, env=vms.environment, capture_output=True, text=True, timeout=WAIT_S, cwd=ROOT, check=False
    )
    assert done.returncode == 2 and "there are 3 VMs: --nodes 3 goes with them" in done.stderr


def test_emulated_vms_are_given_less_to_do_and_more_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vms = StandIns(tmp_path)
    monkeypatch.setenv("PATH", vms.environment["PATH"])
    monkeypatch.setenv("VAGRANT_CWD", str(tmp_path))
    quick = VagrantPlace(tmp_path, 3, "always").pace
    (tmp_path / "n2.type").write_text("qemu")
    slow = VagrantPlace(tmp_path, 3, "always").pace
    assert slow.rate < quick.rate and slow.patience_s > quick.patience_s > HostPlace.pace.patience_s


# --- in the VM -------------------------------------------------------------------------------------
def test_the_program_in_a_vm_answers_each_request_with_a_line() -> None:
    process = subprocess.run(
        [sys.executable, "-m", "raftlog.faultlab.guest", "serve"],
        input='["endpoints"]\n["endpoints"]\n',
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        cwd=ROOT,
    )
    ready, *answers = process.stdout.splitlines()
    assert ready == "ready" and len(answers) == 2
    assert all("/etc/raftlog/node.ini" in json.loads(answer)["error"] for answer in answers)


def test_each_direction_of_each_pair_is_shaped_by_its_sender() -> None:
    shapes = {"10.0.0.2": Shape(cut=True), "10.0.0.3": Shape(delay_ms=60, jitter_ms=60, loss=0.1)}
    assert tc_lines("eth1", shapes) == [
        "qdisc add dev eth1 root handle 1: prio bands 16 priomap 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0",
        "qdisc add dev eth1 parent 1:2 handle 20: netem loss 100%",
        "filter add dev eth1 parent 1: protocol ip prio 1 u32 match ip dst 10.0.0.2/32 flowid 1:2",
        "qdisc add dev eth1 parent 1:3 handle 30: netem loss 10% delay 90ms 30ms",
        "filter add dev eth1 parent 1: protocol ip prio 1 u32 match ip dst 10.0.0.3/32 flowid 1:3",
    ]
    with pytest.raises(RaftlogError, match="15 is the most"):
        tc_lines("eth1", {f"10.0.0.{n}": Shape(cut=True) for n in range(16)})


def test_damage_is_one_bit_or_fewer_bytes_than_a_header_and_the_seed_tells_where(tmp_path: Path) -> None:
    segment = tmp_path / "data" / "lab-0" / "0.log"
    segment.parent.mkdir(parents=True)
    whole = bytes(range(200))
    segment.write_bytes(whole)
    told = damage.flip(tmp_path / "data", random.Random(3))
    bits = [bin(one ^ other).count("1") for one, other in zip(segment.read_bytes(), whole, strict=True)]
    assert sum(bits) == 1 and told == f"data/lab-0/0.log at {bits.index(1)}"
    segment.write_bytes(whole)
    assert damage.flip(tmp_path / "data", random.Random(3)) == told
    damage.truncate(tmp_path / "data", random.Random(3))
    assert 0 < len(whole) - segment.stat().st_size <= 60
    damage.wipe(tmp_path / "data")
    assert not list((tmp_path / "data").iterdir())
    assert damage.flip(tmp_path / "data", random.Random(3)) == ""


def test_a_vm_that_ends_the_connection_is_an_error_and_the_next_request_connects_anew(vms: StandIns) -> None:
    path = os.environ["PATH"]
    os.environ["PATH"] = vms.environment["PATH"]
    channel = Channel(vms.folder / "config", "n1")
    try:
        channel.ask("kill")
        vms.set_state("n1", "shut off")
        channel.close()
        with pytest.raises(RaftlogError, match="n1: ssh: connect to host n1: timed out"):
            channel.ask("kill")
        vms.set_state("n1", "running")
        channel.ask("start")
    finally:
        channel.close()
        os.environ["PATH"] = path
    assert set(VERBS) >= {"kill", "start"} and [line[1] for line in vms.said()] == ["kill", "start"]


# --- what VMs are made from ------------------------------------------------------------------------
def test_wheels_are_all_that_an_installation_without_an_index_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = tmp_path / "index"
    index.mkdir()
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    requirements = setup["options"]["install_requires"].split()
    for requirement in [*requirements, "setuptools==80.0", "pip==30.0"]:
        name, version = re.findall(r"^([a-z0-9-]+)[=>]=([0-9.]+)", requirement)[0]
        _make_wheel(index, name.replace("-", "_"), version, requires="itself-needed" if name == "rich" else "")
    _make_wheel(index, "itself_needed", "1.0")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    gather(ROOT, tmp_path / "wheels", "3.11")
    found = {path.name.partition("-")[0] for path in (tmp_path / "wheels").iterdir()}
    assert found == {path.name.partition("-")[0] for path in index.iterdir()}
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nowhere"))
    with pytest.raises(RaftlogError, match=r"pip wheel: .*pysyncobj"):
        gather(ROOT, tmp_path / "none", "3.11")


def _make_wheel(directory: Path, name: str, version: str, requires: str = "") -> None:
    info = f"{name}-{version}.dist-info"
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    with zipfile.ZipFile(directory / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{info}/METADATA", "\n".join(lines + [f"Requires-Dist: {requires}"] * bool(requires)) + "\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


_VAGRANT_OF_RUBY = """
class Noted
  def initialize(path, notes) @path, @notes = path, notes end
  def method_missing(name, *arguments, **options, &block)
    path = @path + [name.to_s.chomp("=")]
    scope = arguments.first.to_s if name == :define || name == :provider
    @notes << [path.join("."), arguments, options] unless arguments.empty? && options.empty?
    inner = Noted.new(scope ? path + [scope] : path, @notes)
    block.call(inner) if block
    inner
  end
end
module Vagrant
  def self.configure(version) notes = []; yield Noted.new([], notes); puts JSON.dump(notes) end
end
"""


@pytest.mark.skipif(shutil.which("ruby") is None, reason="the Vagrantfile is Ruby: apt-get install ruby")
def test_the_vagrantfile_makes_the_vms_that_the_environment_asks_for() -> None:
    given = {"NODES": "2", "BOX": "a-box", "MEMORY_MB": "384", "LIBVIRT_DRIVER": "qemu", "LIBVIRT_CACHE": "unsafe"}
    notes = _vagrantfile(**given, LIBVIRT_CPU_MODEL="qemu64", INSERT_KEY="0")
    assert notes["vm.box"] == [["a-box"], {}] and notes["ssh.insert_key"] == [[False], {}]
    assert notes["vm.provider.libvirt.memory"] == notes["vm.provider.virtualbox.memory"] == [[384], {}]
    assert notes["vm.provider.libvirt.driver"] == [["qemu"], {}]
    assert notes["vm.provider.libvirt.cpu_model"] == [["qemu64"], {}]
    assert notes["vm.provider.libvirt.disk_driver"] == [[], {"cache": "unsafe"}]
    assert notes["vm.define.n2.vm.network"][1]["ip"] == "192.168.56.12"
    peers = "1@192.168.56.11:7071,2@192.168.56.12:7071"
    assert notes["vm.define.n2.vm.provision"][1]["args"] == ["2", peers]
    assert "vm.define.n3.vm.network" not in notes
    plain = _vagrantfile()
    assert "vm.define.n3.vm.network" in plain and plain["vm.box"] == [["debian/bookworm64"], {}]
    # What nobody asked for is the provider's own to choose.
    assert not [name for name in plain if name.endswith(("cpu_mode", "cpu_model", "graphics_type", "disk_driver"))]


def _vagrantfile(**settings: str) -> dict[str, list[object]]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAFTLOG_")}
    environment |= {f"RAFTLOG_{name}": value for name, value in settings.items()}
    program = f"require 'json'\n{_VAGRANT_OF_RUBY}\nload {str(ROOT / 'Vagrantfile')!r}"
    done = subprocess.run(
        ["ruby", "-e", program], env=environment, capture_output=True, text=True, timeout=WAIT_S, check=False
    )
    assert done.returncode == 0, done.stderr
    return {name: [arguments, options] for name, arguments, options in json.loads(done.stdout)}


def test_every_setting_of_the_vagrantfile_is_documented() -> None:
    page = (ROOT / "docs" / "vagrant.md").read_text()
    names = re.findall(r'setting\("(\w+)"', (ROOT / "Vagrantfile").read_text())
    names += [f"LIBVIRT_{name}" for name in re.findall(r'"(\w+)" => :', (ROOT / "Vagrantfile").read_text())]
    assert len(names) > 10
    assert not [name for name in names if f"`RAFTLOG_{name}`" not in page and name != "LIBVIRT_"]
