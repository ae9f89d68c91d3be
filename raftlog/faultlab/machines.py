"""The VMs of the Vagrantfile, each with its node: reached from inside over ssh, from outside by their provider.

What scripts/vagrant/* and `faultlab run --on vagrant` do to them is here. A fault lasts until it is undone; `heal`
undoes whatever is upon any of them.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from raftlog.errors import ConfigError, RaftlogError
from raftlog.faultlab.channel import Channel
from raftlog.faultlab.hypervisor import HYPERVISORS, OFF, PAUSED, RUNNING
from raftlog.faultlab.shape import Shape

BOOT_S = 1200.0
"""Until a VM that was started answers. Under emulation on a busy machine it takes ten minutes."""
WHOLE_S = 1200.0
"""Until no replica has a problem, after all VMs have booted and all nodes have started."""
_LOOK_S = 1.0
_STATUS_S = 60.0
_T = TypeVar("_T")


class Machine:
    """A virtual machine with a node in it. `provider` is libvirt or virtualbox, `identity` what it calls the VM."""

    def __init__(self, name: str, provider: str, identity: str, ssh_config: Path) -> None:
        self.name = name
        self.node_id = int(name.removeprefix("n"))
        self.channel = Channel(ssh_config, name)
        self._hypervisor = HYPERVISORS[provider]()
        self._identity = identity

    def state(self) -> str:
        return self._hypervisor.state(self._identity)

    @property
    def is_emulated(self) -> bool:
        return self._hypervisor.is_emulated(self._identity)

    def ask(self, verb: str, *arguments: Any) -> Any:
        """Raises RaftlogError: at once where the VM does not run, instead of when ssh gives it up."""
        self._connect()
        return self.channel.ask(verb, *arguments)

    def _connect(self) -> None:
        if not self.channel.is_open:
            self.require_running()
            self.channel.connect()

    def require_running(self) -> None:
        """Raises RaftlogError, which says how it runs again."""
        state = self.state()
        if state != RUNNING:
            again = "power-off" if state == OFF else "pause"
            raise RaftlogError(f"{self.name} is {state}: `scripts/vagrant/{again} {self.name} --off` lets it run again")

    def pause(self) -> None:
        self.require_running()
        self._hypervisor.pause(self._identity)

    def resume(self) -> None:
        """Its clock stood still, which is another fault than this one."""
        if self.state() == PAUSED:
            self._hypervisor.resume(self._identity)
            self.set_clock()

    def power_off(self) -> None:
        """It may be off already."""
        if self.state() != OFF:
            self._hypervisor.power_off(self._identity)
        self.channel.close()

    def power_on(self) -> None:
        """Its node starts by itself; `await_booted` waits until it can be asked."""
        if self.state() == OFF:
            self._hypervisor.power_on(self._identity)

    def await_booted(self) -> None:
        """Raises RaftlogError when it does not answer in time."""
        deadline_s = time.monotonic() + BOOT_S
        while True:
            try:
                self.ask("status")
                return
            except RaftlogError:
                if time.monotonic() > deadline_s:
                    raise
            time.sleep(_LOOK_S)

    def plug(self, plugged: bool) -> None:
        self._hypervisor.plug(self._identity, plugged)

    def is_plugged(self) -> bool:
        return self._hypervisor.is_plugged(self._identity)

    def set_clock(self, offset_s: float = 0.0, rate: float = 1.0) -> None:
        self._connect()  # BEFORE the time is taken: it takes seconds
        self.ask("clock", time.time() + offset_s, rate)


class Machines:
    """Of the Vagrantfile that is found as Vagrant finds it. Raises ConfigError where no VM was made."""

    def __init__(self) -> None:
        self.root = vagrant_root()
        self.folder = folder = Path(os.environ.get("VAGRANT_DOTFILE_PATH") or self.root / ".vagrant")
        identities = sorted(
            (path for provider in HYPERVISORS for path in folder.glob(f"machines/n*/{provider}/id")),
            key=lambda path: int(path.parts[-3].removeprefix("n")),
        )
        if not identities:
            raise ConfigError("there are no VMs: scripts/vagrant/up makes them")
        config = folder / "raftlog.ssh-config"
        if not config.exists() or any(path.stat().st_mtime > config.stat().st_mtime for path in identities):
            config.write_text(_vagrant(self.root, "ssh-config"))
        self.all = [Machine(path.parts[-3], path.parts[-2], path.read_text().strip(), config) for path in identities]
        self.endpoints: dict[int, str] = {}
        self.security = ""  # the directory of a client

    def named(self, names: Collection[str]) -> list[Machine]:
        """None: all. Raises ConfigError for a name that no VM has."""
        known = {machine.name: machine for machine in self.all}
        unknown = [name for name in names if name not in known]
        if unknown:
            raise ConfigError(f"no VM is called {unknown[0]}; there are {', '.join(known)}")
        return [known[name] for name in names] or self.all

    def learn_endpoints(self) -> dict[int, str]:
        """`host:port` of each node, as the nodes themselves were told. Asks a VM that runs."""
        machine = next((machine for machine in self.all if machine.state() == RUNNING), None)
        if machine is None:
            raise ConfigError("no VM runs: scripts/vagrant/heal starts them")
        self.endpoints = {int(node_id): address for node_id, address in machine.ask("endpoints").items()}
        return self.endpoints

    @property
    def bootstrap(self) -> str:
        return ",".join(self.endpoints.values())

    def network(self, shapes: dict[tuple[int, int], Shape], away: Collection[int] = ()) -> None:
        """From node to node; what is not named is whole. Nodes that are `away` cannot be told now."""
        hosts = {node_id: address.rpartition(":")[0] for node_id, address in self.endpoints.items()}

        def tell(machine: Machine) -> None:
            own = {hosts[to]: list(shape) for (source, to), shape in shapes.items() if source == machine.node_id}
            machine.ask("network", own)

        each([machine for machine in self.all if machine.node_id not in away], tell)

    def shapes(self) -> dict[tuple[int, int], Shape]:
        """What is upon the network now, of the VMs that run: from node to node."""
        node_ids = {address.rpartition(":")[0]: node_id for node_id, address in self.endpoints.items()}
        running = [machine for machine in self.all if machine.state() == RUNNING]
        told = each(running, lambda machine: machine.ask("status")["network"])
        return {
            (machine.node_id, node_ids[host]): Shape(*shape)
            for machine, network in zip(running, told, strict=True)
            for host, shape in network.items()
            if host in node_ids
        }

    def heal(self, say: Callable[[str], None] = lambda text: None) -> None:
        """All VMs run, nothing of a fault is left, and all nodes have been started."""
        for machine in self.all:
            if machine.state() == OFF:
                say(f"{machine.name}: power on")
                machine.power_on()
            machine.plug(True)
        for machine in self.all:
            machine.resume()
        each(self.all, Machine.await_booted)
        each(self.all, _heal_inside)

    def close(self) -> None:
        for machine in self.all:
            machine.channel.close()

    def problems(self) -> str:
        """Of any node or replica, as `raftlog cluster status` tells; empty when there is none."""
        command = [sys.executable, "-P", "-m", "raftlog", "cluster", "status", "--json", "--bootstrap", self.bootstrap]
        command += ["--security", self.security]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_STATUS_S)
            return "; ".join(map(str, json.loads(done.stdout)["problems"]))
        except subprocess.TimeoutExpired:
            return "no answer"
        except ValueError:
            return done.stderr.strip()

    def await_whole(self) -> str:
        """Until there is no problem; what it was when patience ended, empty when there is none."""
        deadline_s = time.monotonic() + WHOLE_S
        while (problems := self.problems()) and time.monotonic() < deadline_s:
            time.sleep(_LOOK_S)
        return problems


def _heal_inside(machine: Machine) -> None:
    machine.ask("wake")
    machine.ask("network", {})
    machine.set_clock()
    machine.ask("disk_full", False)
    if machine.ask("forget_options"):
        machine.ask("stop")
    machine.ask("start")


def each(machines: Iterable[Machine], action: Callable[[Machine], _T]) -> list[_T]:
    """At the same time: an emulated VM takes its time. Raises the first error, after all have ended."""
    with ThreadPoolExecutor(thread_name_prefix="vm") as pool:
        return list(pool.map(action, machines))


def vagrant_root() -> Path:
    """The nearest folder with a Vagrantfile, upward from VAGRANT_CWD or here."""
    here = Path(os.environ.get("VAGRANT_CWD") or ".").resolve()
    for folder in (here, *here.parents):
        if (folder / "Vagrantfile").exists():
            return folder
    raise ConfigError(f"there is no Vagrantfile in {here} or above it")


def _vagrant(root: Path, *arguments: str) -> str:
    with contextlib.suppress(FileNotFoundError):
        done = subprocess.run(["vagrant", *arguments], cwd=root, capture_output=True, text=True)
        if done.returncode:
            said = " ".join((done.stderr or done.stdout).split())
            raise ConfigError(f"vagrant {' '.join(arguments)}: {said}")
        return done.stdout
    raise ConfigError("vagrant is not installed")
