"""What the supervisors of the simulated nodes notice while nothing happens: silent nodes, and sleepers that hang.

Each tick every supervisor hears those that it can hear. One that it has not heard for NODE_SILENT_S is told to its
worker. A sleeping worker owes its supervisor a word every SLEEPER_WORD_S; one that hangs is told to the others as gone.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from raftlog import limits

if TYPE_CHECKING:
    from raftlog.simulator.machine import Machine
    from raftlog.simulator.world import World


class Supervisors:
    """Of all nodes of a world. A pause of a machine is one of its worker; a cut link is one of the supervisors too."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._rng = random.Random(world.seed ^ 0x51EE9)
        self._heard_s: dict[tuple[int, int], float] = {}
        self._told: dict[int, tuple[int, frozenset[int]]] = {}  # by node: to which process, and who is silent
        self._word_due_s: dict[int, float] = {}
        self._hung: dict[int, int] = {}  # by node: the process that was told to be gone
        self.hears_all = False  # their connections stand, whatever becomes of the links of the workers
        world.events.after(limits.GOSSIP_S, self._tick)

    def _tick(self) -> None:
        for machine in self._world.machines.values():
            if machine.running:
                self._tell_of_silence(machine)
                self._look_after(machine)
        self._world.events.after(limits.GOSSIP_S, self._tick)

    def _tell_of_silence(self, machine: Machine) -> None:
        world, now_s = self._world, self._world.events.now_s
        silent = set()
        for other in world.machines.values():
            if other is machine:
                continue
            link = (other.node_id, machine.node_id)
            if other.running and (self.hears_all or not world.network.is_cut(*link)):
                self._heard_s[link] = now_s
            elif now_s - self._heard_s.get(link, now_s - limits.NODE_SILENT_S) >= limits.NODE_SILENT_S:
                silent.add(other.node_id)
        told = (machine.boot_id, frozenset(silent))
        if self._told.get(machine.node_id, (machine.boot_id, frozenset())) != told:
            self._hand(machine, "silent", told[1])
        self._told[machine.node_id] = told

    def _look_after(self, machine: Machine) -> None:
        """Rule 8: nobody else would notice a sleeper that hangs."""
        node_id, now_s = machine.node_id, self._world.events.now_s
        assert machine.replica is not None
        if not machine.paused:
            if self._hung.pop(node_id, 0) == machine.boot_id:
                self._tell_others(machine, machine.boot_id)
            if not machine.replica.member.is_asleep:
                self._word_due_s.pop(node_id, None)
                return
        if not machine.replica.member.is_asleep:
            return
        due_s = self._word_due_s.setdefault(node_id, now_s + self._rng.random() * limits.SLEEPER_WORD_S)
        if now_s >= due_s and not machine.paused:
            self._word_due_s[node_id] = now_s + limits.SLEEPER_WORD_S
            self._hand(machine, "word")
        elif now_s >= due_s + limits.SLEEPER_HANGS_S and node_id not in self._hung:
            self._hung[node_id] = machine.boot_id
            self._tell_others(machine, 0)

    def _tell_others(self, machine: Machine, boot_id: int) -> None:
        self._world.note(f"n{machine.node_id} {'answers again' if boot_id else 'hangs'}")
        for other in self._world.machines.values():
            if other is not machine and other.running:
                self._hand(other, "peer", machine.node_id, boot_id)

    def _hand(self, machine: Machine, *item: object) -> None:
        machine.hand_in(*item)
        self._world.schedule_turn(machine)
