"""What is done to a VM from outside, whatever runs in it: paused, without power, its cable pulled.

By the tools of the two providers of the Vagrantfile. A VM is named by the id that Vagrant keeps in
`.vagrant/machines/NAME/PROVIDER/id`.
"""

from __future__ import annotations

import os
import subprocess
from typing import Protocol

from raftlog.errors import RaftlogError

_TOOL_S = 60.0
RUNNING, PAUSED, OFF = "running", "paused", "off"


class Hypervisor(Protocol):
    def state(self, machine: str) -> str:
        """RUNNING, PAUSED or OFF."""

    def is_emulated(self, machine: str) -> bool:
        """Whether software stands in for its processor."""

    def pause(self, machine: str) -> None: ...
    def resume(self, machine: str) -> None: ...
    def power_off(self, machine: str) -> None:
        """At once, like the pulled plug: what only the guest's memory held is gone."""

    def power_on(self, machine: str) -> None:
        """Returns before it has booted."""

    def plug(self, machine: str, plugged: bool) -> None:
        """The cable of the nodes' own network. The connection of ssh is another one."""

    def is_plugged(self, machine: str) -> bool: ...


def _run(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TOOL_S)
    except (FileNotFoundError, subprocess.TimeoutExpired) as error:
        raise RaftlogError(f"{command[0]}: {error}") from None
    if done.returncode:
        raise RaftlogError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


class Libvirt:
    def _virsh(self, *arguments: str) -> str:
        return _run("virsh", "-q", "-c", os.environ.get("LIBVIRT_DEFAULT_URI", "qemu:///system"), *arguments)

    def state(self, machine: str) -> str:
        said = self._virsh("domstate", machine).strip()
        return said if said in (RUNNING, PAUSED) else OFF

    def is_emulated(self, machine: str) -> bool:
        return "type='qemu'" in self._virsh("dumpxml", machine).splitlines()[0]

    def pause(self, machine: str) -> None:
        self._virsh("suspend", machine)

    def resume(self, machine: str) -> None:
        self._virsh("resume", machine)

    def power_off(self, machine: str) -> None:
        self._virsh("destroy", machine)

    def power_on(self, machine: str) -> None:
        self._virsh("start", machine)

    def plug(self, machine: str, plugged: bool) -> None:
        self._virsh("domif-setlink", machine, self._interface(machine), "up" if plugged else "down")

    def is_plugged(self, machine: str) -> bool:
        return not self._virsh("domif-getlink", machine, self._interface(machine)).strip().endswith("down")

    def _interface(self, machine: str) -> str:
        """Vagrant's own network comes first, that of the Vagrantfile second."""
        return self._virsh("domiflist", machine).splitlines()[1].split()[-1]


class VirtualBox:
    def _control(self, machine: str, *arguments: str) -> None:
        _run("VBoxManage", "controlvm", machine, *arguments)

    def _told(self, machine: str, name: str) -> str:
        """Empty where nothing is said of it."""
        lines = _run("VBoxManage", "showvminfo", machine, "--machinereadable").splitlines()
        return next((line.partition("=")[2].strip('"') for line in lines if line.startswith(f"{name}=")), "")

    def state(self, machine: str) -> str:
        said = self._told(machine, "VMState")
        return said if said in (RUNNING, PAUSED) else OFF

    def is_emulated(self, machine: str) -> bool:
        return False

    def pause(self, machine: str) -> None:
        self._control(machine, "pause")

    def resume(self, machine: str) -> None:
        self._control(machine, "resume")

    def power_off(self, machine: str) -> None:
        self._control(machine, "poweroff")

    def power_on(self, machine: str) -> None:
        _run("VBoxManage", "startvm", machine, "--type", "headless")

    def plug(self, machine: str, plugged: bool) -> None:
        self._control(machine, "setlinkstate2", "on" if plugged else "off")

    def is_plugged(self, machine: str) -> bool:
        return self._told(machine, "cableconnected2") != "off"


HYPERVISORS: dict[str, type[Hypervisor]] = {"libvirt": Libvirt, "virtualbox": VirtualBox}
