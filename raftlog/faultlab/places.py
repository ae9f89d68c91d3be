"""Where a lab runs, and what can be done to the nodes there. The first place is `HostPlace`: processes on loopback.

A place does, and does not decide: which fault hits which node and when is the schedule's (schedule.py). What a place
cannot do stands in `missing` with the reason, and is left out of every schedule.
"""

from __future__ import annotations

import contextlib
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import psutil

from raftlog.errors import RaftlogError
from raftlog.faultlab import damage
from raftlog.faultlab.shape import Shape
from raftlog.node.local import LocalCluster

_OWN_KERNEL = "the nodes share this machine's disk and clock; --on netns can"
_OWN_NETWORK = "the nodes share the loopback device; --on netns can"
_WORKERS_S = 60.0
NO_DOOR = "the clients are raftlog's own; --door kafka has Kafka's"


class Pace(NamedTuple):
    """How slow the nodes of a place may be."""

    patience_s: float = 120.0  # after healing, until all is whole
    rate: float = 400.0  # records that a producer sends in a second, at most
    command_s: float = 30.0  # until a raftlog command has ended
    delivery_s: float = 8.0  # a send's; shorter than most faults, so that clients see unknown outcomes too


class Place(ABC):
    """What the lab does to nodes, wherever they run. A node that is not named in a call is left as it is."""

    name: str
    missing: dict[str, str] = {}
    pace: Pace = Pace()
    directory: Path
    """The lab's files: histories, logs."""
    security: str = ""
    """The directory of a client who may do everything; "": nodes without --security."""

    @property
    @abstractmethod
    def node_ids(self) -> list[int]: ...

    @property
    @abstractmethod
    def bootstrap(self) -> str: ...

    @property
    def kafka_bootstrap(self) -> str:
        """For Kafka's clients, where the place was made with their doors."""
        raise RaftlogError(self.missing["door"])

    def command(self, arguments: list[str]) -> list[str]:
        """How a client's command is run here."""
        return arguments

    @abstractmethod
    def open(self) -> None:
        """Nodes with empty data directories run, and form a cluster."""

    @abstractmethod
    def close(self) -> None:
        """Nothing is left of what the lab has made or done."""

    # --- processes -----------------------------------------------------------------------------
    @abstractmethod
    def kill(self, node_id: int) -> None:
        """SIGKILL to the node and its workers; it may be down already, or paused."""

    @abstractmethod
    def stop(self, node_id: int) -> None: ...

    @abstractmethod
    def start(self, node_id: int) -> None:
        """Returns before it is ready; it may be up already."""

    @abstractmethod
    def await_up(self, node_ids: tuple[int, ...]) -> None:
        """What has to boot before a started node can run has booted."""

    @abstractmethod
    def pause(self, node_id: int) -> None: ...

    @abstractmethod
    def resume(self, node_id: int) -> None: ...

    @abstractmethod
    def hang_worker(self, node_id: int, rng: random.Random) -> str:
        """SIGSTOP to one process of the node that is not its supervisor, until `resume`; which was stopped."""

    @abstractmethod
    def hang_supervisor(self, node_id: int) -> None:
        """SIGSTOP to the node's supervisor alone, until `resume`. Its workers go on."""

    @abstractmethod
    def kill_worker(self, node_id: int, rng: random.Random) -> str:
        """One process of the node that is not its supervisor; what was killed. One that has just started is awaited."""

    def kill_door(self, node_id: int, rng: random.Random) -> str:
        """One process that serves Kafka's clients; what was killed. One that has just started is awaited."""
        raise RaftlogError(self.missing["door"])

    def closed_doors(self) -> list[int]:
        """The nodes that should serve Kafka's clients and have no process for it."""
        return []

    # --- disks, of nodes that do not run, and networks and clocks ------------------------------
    @abstractmethod
    def wipe(self, node_id: int) -> None: ...

    @abstractmethod
    def flip(self, node_id: int, rng: random.Random) -> str:
        """Which bit; empty where there was nothing to damage."""

    @abstractmethod
    def truncate(self, node_id: int, rng: random.Random) -> str:
        """Which file; empty where there was nothing to damage."""

    def power_off(self, node_id: int) -> None:
        """The node is gone and with it what was not synced. `start` brings it back."""
        raise RaftlogError(self.missing["power_off"])

    def disk_full(self, node_id: int, full: bool) -> None:
        raise RaftlogError(self.missing["disk_full"])

    def disk_error(self, node_id: int) -> None:
        """Writes and syncs fail from now on, until the node is killed and started."""
        raise RaftlogError(self.missing["disk_error"])

    def network(self, shapes: dict[tuple[int, int], Shape]) -> None:
        """From node to node; what is not named is whole."""
        raise RaftlogError(self.missing["network"])

    def clock(self, node_id: int, offset_s: float, rate: float) -> None:
        raise RaftlogError(self.missing["clock"])


class HostPlace(Place):
    """Nodes on loopback, with their data in `directory`. Needs nothing but this machine's user."""

    name = "local"
    missing: dict[str, str] = {
        "network": _OWN_NETWORK,
        "power_off": _OWN_KERNEL,
        "disk_full": _OWN_KERNEL,
        "disk_error": _OWN_KERNEL,
        "clock": _OWN_KERNEL,
    }

    def __init__(self, directory: Path, nodes: int, flush: str, *, doors: bool = False, secure: bool = False) -> None:
        """`doors`: the nodes serve Kafka's clients too. `secure`: they run with --security."""
        self.directory = directory
        self.cluster = self._make_cluster(nodes, flush, doors=doors, secure=secure)
        self.security = self.cluster.security
        self._doors = doors
        if not doors:
            self.missing = {**self.missing, "door": NO_DOOR}

    def _make_cluster(self, nodes: int, flush: str, *, doors: bool, secure: bool) -> LocalCluster:
        return LocalCluster(nodes, directory=self.directory, flush=flush, kafka=doors, secure=secure)

    @property
    def node_ids(self) -> list[int]:
        return sorted(self.cluster.endpoints)

    @property
    def bootstrap(self) -> str:
        return self.cluster.bootstrap

    @property
    def kafka_bootstrap(self) -> str:
        return self.cluster.kafka_bootstrap

    def open(self) -> None:
        self.cluster.__enter__()

    def close(self) -> None:
        self.cluster.close()

    # --- processes -----------------------------------------------------------------------------
    def is_up(self, node_id: int) -> bool:
        return node_id in self.cluster.pids

    def kill(self, node_id: int) -> None:
        if self.is_up(node_id):
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

    def await_up(self, node_ids: tuple[int, ...]) -> None:
        """This machine has."""

    def pause(self, node_id: int) -> None:
        self.cluster.pause(node_id)

    def resume(self, node_id: int) -> None:
        self.cluster.resume(node_id)

    def kill_worker(self, node_id: int, rng: random.Random) -> str:
        victim = self._some(self.cluster.workers, node_id, rng)
        with contextlib.suppress(psutil.NoSuchProcess):
            victim.kill()
        return f"process {victim.pid}"

    def kill_door(self, node_id: int, rng: random.Random) -> str:
        victim = self._some(self.cluster.doors, node_id, rng)
        with contextlib.suppress(psutil.NoSuchProcess):
            victim.kill()
        return f"process {victim.pid}"

    def closed_doors(self) -> list[int]:
        return [node_id for node_id in self.node_ids if self._doors and not self.cluster.doors(node_id)]

    def hang_worker(self, node_id: int, rng: random.Random) -> str:
        victim = self._some(self.cluster.workers, node_id, rng)
        with contextlib.suppress(psutil.NoSuchProcess):
            victim.suspend()
        return f"process {victim.pid}"

    def hang_supervisor(self, node_id: int) -> None:
        if self.is_up(node_id):
            psutil.Process(self.cluster.pids[node_id]).suspend()

    def _some(self, find: Callable[[int], list[psutil.Process]], node_id: int, rng: random.Random) -> psutil.Process:
        deadline_s = time.monotonic() + _WORKERS_S
        while not (found := find(node_id)) and time.monotonic() < deadline_s:
            time.sleep(0.05)
        return rng.choice(found)

    # --- disks -----------------------------------------------------------------------------------
    def data(self, node_id: int) -> Path:
        return self.directory / str(node_id)

    def wipe(self, node_id: int) -> None:
        damage.wipe(self.data(node_id))

    def flip(self, node_id: int, rng: random.Random) -> str:
        return damage.flip(self.data(node_id), rng)

    def truncate(self, node_id: int, rng: random.Random) -> str:
        return damage.truncate(self.data(node_id), rng)
