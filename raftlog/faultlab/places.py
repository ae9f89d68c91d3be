"""Where a lab runs, and what can be done to the nodes there. `HostPlace` is the first: processes on loopback.

A place does, and does not decide: which fault hits which node and when is the schedule's (schedule.py). What a place
cannot do stands in `missing` with the reason, and is left out of every schedule.
"""

from __future__ import annotations

import contextlib
import random
import shutil
import signal
import time
from pathlib import Path

import psutil

from raftlog.errors import RaftlogError
from raftlog.faultlab.shape import Shape
from raftlog.node.local import LocalCluster

_OWN_KERNEL = "the nodes share this machine's disk and clock; --on netns can"
_OWN_NETWORK = "the nodes share the loopback device; --on netns can"
_WORKERS_S = 60.0


class HostPlace:
    """Nodes on loopback, with their data in `directory`. Needs nothing but this machine's user."""

    name = "local"
    missing: dict[str, str] = {
        "network": _OWN_NETWORK,
        "power_off": _OWN_KERNEL,
        "disk_full": _OWN_KERNEL,
        "disk_error": _OWN_KERNEL,
        "clock": _OWN_KERNEL,
    }

    def __init__(self, directory: Path, nodes: int, flush: str) -> None:
        self.directory = directory
        self.cluster = self._make_cluster(nodes, flush)

    def _make_cluster(self, nodes: int, flush: str) -> LocalCluster:
        return LocalCluster(nodes, directory=self.directory, flush=flush)

    @property
    def node_ids(self) -> list[int]:
        return sorted(self.cluster.endpoints)

    @property
    def bootstrap(self) -> str:
        return self.cluster.bootstrap

    def command(self, arguments: list[str]) -> list[str]:
        """How a client's command is run here."""
        return arguments

    def open(self) -> None:
        self.cluster.__enter__()

    def close(self) -> None:
        self.cluster.close()

    # --- processes -----------------------------------------------------------------------------
    def is_up(self, node_id: int) -> bool:
        return node_id in self.cluster.pids

    def kill(self, node_id: int) -> None:
        if self.is_up(node_id):
            self._signal(node_id, signal.SIGCONT)
            self.cluster.kill(node_id)

    def stop(self, node_id: int) -> None:
        if self.is_up(node_id):
            self.cluster.stop(node_id)

    def start(self, node_id: int) -> None:
        if not self.is_up(node_id):
            # A node that died by itself, of its disk, is still to be forgotten.
            with contextlib.suppress(KeyError):
                self.cluster.stop(node_id)
            self.cluster.start(node_id, wait=False)

    def pause(self, node_id: int) -> None:
        self._signal(node_id, signal.SIGSTOP)

    def resume(self, node_id: int) -> None:
        self._signal(node_id, signal.SIGCONT)

    def kill_worker(self, node_id: int, rng: random.Random) -> str:
        """One process of the node that is not its supervisor; what was killed. One that has just started is awaited."""
        deadline_s = time.monotonic() + _WORKERS_S
        while not (workers := self._family(node_id)[1:]) and time.monotonic() < deadline_s:
            time.sleep(0.05)
        victim = rng.choice(workers)
        with contextlib.suppress(psutil.NoSuchProcess):
            victim.kill()
        return f"process {victim.pid}"

    def _family(self, node_id: int) -> list[psutil.Process]:
        pid = self.cluster.pids.get(node_id)
        if pid is None:
            return []
        try:
            supervisor = psutil.Process(pid)
            return [supervisor, *supervisor.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def _signal(self, node_id: int, number: int) -> None:
        for process in self._family(node_id):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    # --- disks -----------------------------------------------------------------------------------
    def data(self, node_id: int) -> Path:
        return self.directory / str(node_id)

    def wipe(self, node_id: int) -> None:
        """The data directory is empty. The node must not run."""
        for entry in self.data(node_id).iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()

    def _segment(self, node_id: int, rng: random.Random) -> Path | None:
        found = sorted(path for path in self.data(node_id).rglob("*.log") if path.stat().st_size)
        return rng.choice(found) if found else None

    def flip(self, node_id: int, rng: random.Random) -> str:
        """One bit of one segment is another; which one. The node must not run."""
        path = self._segment(node_id, rng)
        if path is None:
            return ""
        position = rng.randrange(path.stat().st_size)
        with open(path, "r+b") as segment:
            segment.seek(position)
            byte = segment.read(1)[0]
            segment.seek(position)
            segment.write(bytes([byte ^ 1 << rng.randrange(8)]))
        return f"{path.relative_to(self.directory)} at {position}"

    def truncate(self, node_id: int, rng: random.Random) -> str:
        """The last bytes of one segment are gone, fewer than a batch's header, so that it cannot be a clean cut."""
        path = self._segment(node_id, rng)
        if path is None:
            return ""
        size = path.stat().st_size - rng.randint(1, 60)
        with open(path, "r+b") as segment:
            segment.truncate(max(0, size))
        return f"{path.relative_to(self.directory)} to {size}"

    def power_off(self, node_id: int) -> None:
        """The node is gone and with it what was not synced. `start` brings it back."""
        raise RaftlogError(self.missing["power_off"])

    def disk_full(self, node_id: int, full: bool) -> None:
        raise RaftlogError(self.missing["disk_full"])

    def disk_error(self, node_id: int) -> None:
        """Writes and syncs fail from now on, until the node is killed and started."""
        raise RaftlogError(self.missing["disk_error"])

    # --- network and clock -----------------------------------------------------------------------
    def network(self, shapes: dict[tuple[int, int], Shape]) -> None:
        """From node to node; what is not named is whole."""
        raise RaftlogError(self.missing["network"])

    def clock(self, node_id: int, offset_s: float, rate: float) -> None:
        raise RaftlogError(self.missing["clock"])
