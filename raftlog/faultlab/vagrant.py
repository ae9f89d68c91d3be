"""The VMs of the Vagrantfile as a lab's place: the nodes have kernels, disks, clocks and networks of their own.

The VMs have to be up (scripts/vagrant/up). A run begins with empty data directories. Its end, however it comes, heals
all: a keeper (`python -m raftlog.faultlab.vagrant`) waits for the end of its stdin and does what scripts/vagrant/heal
does.
"""

from __future__ import annotations

import fcntl
import random
import subprocess
import sys
from pathlib import Path

from raftlog.errors import ConfigError, RaftlogError
from raftlog.faultlab.guest import SECURITY
from raftlog.faultlab.hypervisor import OFF
from raftlog.faultlab.machines import Machine, Machines, each
from raftlog.faultlab.places import Pace, Place
from raftlog.faultlab.shape import Shape
from raftlog.node.local import SUPERUSER, Certificates
from raftlog.types import Flush

_SEED_BITS = 32
_BOOTING = Pace(patience_s=300.0)
# Software stands in for the processor: twenty times slower, and a node has to boot before it can be whole.
_EMULATED = Pace(patience_s=1200.0, rate=10.0, command_s=120.0, delivery_s=60.0)


class VagrantPlace(Place):
    name = "vagrant"
    missing: dict[str, str] = {"door": "Kafka's clients go through the doors of --on local and --on netns only"}

    def __init__(self, directory: Path, nodes: int, flush: str, *, doors: bool = False, secure: bool = False) -> None:
        if doors:
            raise ConfigError(self.missing["door"])
        self.directory = directory
        self._machines = Machines()
        self._by_node = {machine.node_id: machine for machine in self._machines.all}
        if len(self._by_node) != nodes:
            raise ConfigError(f"there are {len(self._by_node)} VMs: --nodes {len(self._by_node)} goes with them")
        self.pace = _EMULATED if any(machine.is_emulated for machine in self._machines.all) else _BOOTING
        self._secure = secure
        self._options = "" if flush == Flush.ALWAYS else f"--flush {flush}"
        self._shapes: dict[tuple[int, int], Shape] = {}
        self._clocks: dict[int, tuple[float, float]] = {}
        self._away: set[int] = set()  # paused or without power: these are told when they are back
        self._keeper: subprocess.Popen[bytes] | None = None

    @property
    def node_ids(self) -> list[int]:
        return sorted(self._by_node)

    @property
    def bootstrap(self) -> str:
        return self._machines.bootstrap

    def open(self) -> None:
        with open(self._machines.folder / "raftlog.lab", "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ConfigError("another run has these VMs, or they are being healed after it") from None
            self._keeper = subprocess.Popen(
                [sys.executable, "-P", "-m", "raftlog.faultlab.vagrant"],
                stdin=subprocess.PIPE,
                pass_fds=[lock.fileno()],  # the keeper's until it has ended
                start_new_session=True,  # Ctrl-C is for the lab
            )
        try:
            self._machines.heal()
            self._machines.learn_endpoints()
            certificates = Certificates(self.directory / "security") if self._secure else None
            each(self._machines.all, lambda machine: self._begin_anew(machine, certificates))
            each(self._machines.all, lambda machine: machine.ask("start"))
        except RaftlogError as error:
            raise ConfigError(str(error)) from None
        if problems := self._machines.await_whole():
            raise ConfigError(f"the nodes of the VMs are not whole: {problems}")

    def _begin_anew(self, machine: Machine, certificates: Certificates | None) -> None:
        options, files = self._options, {}
        if certificates is not None:
            self.security = self._machines.security = certificates.client
            host = self._machines.endpoints[machine.node_id].rpartition(":")[0]
            directory = Path(certificates.node(machine.node_id, host))
            files = {path.name: path.read_text() for path in directory.iterdir()}
            options = f"{options} --security {SECURITY} --superuser {SUPERUSER}".strip()
        machine.ask("begin_anew", options, files)

    def close(self) -> None:
        self._machines.close()
        if self._keeper is not None:
            assert self._keeper.stdin is not None
            self._keeper.stdin.close()
            self._keeper.wait()

    # --- processes -----------------------------------------------------------------------------
    def kill(self, node_id: int) -> None:
        if node_id not in self._away:
            self._by_node[node_id].ask("kill")

    def stop(self, node_id: int) -> None:
        if node_id not in self._away:
            self._by_node[node_id].ask("stop")

    def start(self, node_id: int) -> None:
        machine = self._by_node[node_id]
        if node_id in self._away and machine.state() == OFF:
            machine.power_on()
        elif node_id not in self._away:
            machine.ask("start")

    def await_up(self, node_ids: tuple[int, ...]) -> None:
        """VMs that were started have booted, and know what they missed."""
        booting = [self._by_node[node_id] for node_id in node_ids if node_id in self._away]
        each(booting, Machine.await_booted)
        for machine in booting:
            self._is_back(machine)

    def pause(self, node_id: int) -> None:
        self._by_node[node_id].channel.close()
        self._by_node[node_id].pause()
        self._away.add(node_id)

    def resume(self, node_id: int) -> None:
        machine = self._by_node[node_id]
        if node_id not in self._away:
            machine.ask("wake")
        elif machine.state() != OFF:
            machine.resume()
            self._is_back(machine)

    def _is_back(self, machine: Machine) -> None:
        self._away.discard(machine.node_id)
        self.network(self._shapes)
        if machine.node_id in self._clocks:
            machine.set_clock(*self._clocks[machine.node_id])

    def hang_worker(self, node_id: int, rng: random.Random) -> str:
        return str(self._by_node[node_id].ask("hang_worker", rng.getrandbits(_SEED_BITS)))

    def hang_supervisor(self, node_id: int) -> None:
        self._by_node[node_id].ask("hang_supervisor")

    def kill_worker(self, node_id: int, rng: random.Random) -> str:
        return str(self._by_node[node_id].ask("kill_worker", rng.getrandbits(_SEED_BITS)))

    # --- disks -----------------------------------------------------------------------------------
    def wipe(self, node_id: int) -> None:
        self._by_node[node_id].ask("wipe")

    def flip(self, node_id: int, rng: random.Random) -> str:
        return str(self._by_node[node_id].ask("flip", rng.getrandbits(_SEED_BITS)))

    def truncate(self, node_id: int, rng: random.Random) -> str:
        return str(self._by_node[node_id].ask("truncate", rng.getrandbits(_SEED_BITS)))

    def power_off(self, node_id: int) -> None:
        self._away.add(node_id)
        self._by_node[node_id].power_off()

    def disk_full(self, node_id: int, full: bool) -> None:
        if node_id not in self._away:
            self._by_node[node_id].ask("disk_full", full)

    def disk_error(self, node_id: int) -> None:
        self._by_node[node_id].ask("disk_error")

    # --- network and clock -----------------------------------------------------------------------
    def network(self, shapes: dict[tuple[int, int], Shape]) -> None:
        self._shapes = dict(shapes)
        self._machines.network(shapes, self._away)

    def clock(self, node_id: int, offset_s: float, rate: float) -> None:
        self._clocks[node_id] = (offset_s, rate)
        if node_id not in self._away:
            self._by_node[node_id].set_clock(offset_s, rate)


def keep() -> None:
    sys.stdin.buffer.read()
    machines = Machines()
    try:
        machines.heal()
    except RaftlogError as error:
        sys.exit(f"faultlab: the VMs are not healed: {error}. scripts/vagrant/heal tries again")
    finally:
        machines.close()


if __name__ == "__main__":
    keep()
