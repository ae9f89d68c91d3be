"""The metadata's wish for the one partition, and a controller that carries it out, as far as its leaders go along.

    plan        committed in the metadata BEFORE a leader is asked for anything
    assignment  follows what leaders report as committed, never ahead of it
    directory   goes once the assignment is without it

Here the metadata is always at hand, and new: a machine that starts asks it whom it names.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from raftlog.partition.replica import Replica
from raftlog.types import NO_VOTERS, Half, Plan

if TYPE_CHECKING:
    from raftlog.simulator.world import World

_STEP_S = (0.05, 0.3)
_WISH_S = 2.0  # until the next plan, about
_UNTOLD = 0.3  # of those who might lead: they go on with what they were told before
_CANCEL = 0.02  # of the steps of a plan


class Mover:
    """One partition's plan and assignment; `wander` lets plans come at random."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._rng = random.Random(world.seed ^ 0x30FE)
        self.assignment = world.spec.half
        self.reported = (0, 0)  # (term, index) of the newest configuration that a leader has reported as committed
        self.expected = (0, 0)  # the same of the one that the assignment is from
        self.plan: Half | None = None
        self._number = 0
        self.halves = [self.assignment]
        """The assignment and each plan since: they may count somewhere."""
        self.done = 0  # plans that were carried out
        self._kinds = {node_id: node_id in self.assignment.witnesses for node_id in self.assignment.ids}
        self.begins = True  # leaders are asked for more than to feed learners
        self.keeps_directories = False  # those of machines that are out
        self._calls_off = False
        self._wanders = False
        for node_id, machine in world.machines.items():
            machine.hosts = node_id in self.assignment.ids
            machine.named = self._named
        world.events.after(_STEP_S[0], self._step)

    def __str__(self) -> str:
        return f"assigned {self.assignment} of {self.expected}, reported {self.reported}, planned {self.plan}"

    def _named(self) -> Half:
        """Everyone with whom a replica may have acknowledged; nobody as long as the group is as it was founded."""
        if self.reported == (0, 0) and len(self.halves) == 1:
            return NO_VOTERS
        replicas = {node_id: None for half in self.halves for node_id in half.replicas}
        witnesses = {node_id: None for half in self.halves for node_id in half.witnesses}
        return Half(tuple(replicas), tuple(witnesses))

    # --- the wish --------------------------------------------------------------------------
    def move_to(self, half: Half) -> None:
        """A plan; only one at a time."""
        assert self.plan is None
        world = self._world
        world.note(f"plan {half}")
        self.plan, self._calls_off = half, False
        self._number += 1
        self.halves.append(half)
        for node_id in half.ids:
            machine = world.machines[node_id]
            if not machine.hosts:
                machine.hosts = True
                machine.is_witness = self._kinds.setdefault(node_id, node_id in half.witnesses)
            world.start(node_id)

    def call_off(self) -> None:
        self._calls_off = self.plan is not None

    def wander(self) -> None:
        self._wanders = True

    def finish(self) -> None:
        """What is planned is carried out, or called off; nothing new is planned."""
        self._wanders = False
        if self._rng.random() < 0.5:
            self.call_off()

    @property
    def is_at_rest(self) -> bool:
        """No plan, and whoever leads the assignment has its configuration."""
        return self.plan is None and self.reported == self.expected

    # --- what it does ----------------------------------------------------------------------
    def _step(self) -> None:
        self._hear_reports()
        for machine in self._world.machines.values():
            if machine.running and self.reported != (0, 0):
                machine.hand_in("named", self._named().ids)
        if self._wanders and self.plan is None and self._rng.random() < _STEP_S[1] / 2 / _WISH_S:
            wish = self._wish()
            if wish != self.assignment and self._survives(wish):
                self.move_to(wish)
        if self._wanders and self.plan is not None and self._rng.random() < _CANCEL:
            self.call_off()
        plan = None
        if self.plan is not None:
            plan = Plan(number=self._number, target=self.plan, called_off=self._calls_off)
        expected = self.expected if self.begins else (-1, -1)
        for machine in self._world.machines.values():
            if machine.running and not (self._wanders and self._rng.random() < _UNTOLD):
                machine.hand_in("heed", plan, expected)
        self._world.events.after(self._rng.uniform(*_STEP_S), self._step)

    def _hear_reports(self) -> None:
        """From any that takes itself for a leader: an older one reports older configurations."""
        for machine in self._world.machines.values():
            replica = machine.replica
            if isinstance(replica, Replica) and replica.leader_ready and not machine.paused:
                known = machine.log.configuration_at(replica.member.commit_index)
                if known is not None and (known.term, known.index) > self.reported:
                    self.reported = known.term, known.index
                    self._world.note(f"n{machine.node_id} reports {known.halves}")
                    if len(known.halves) == 1:
                        self._assign(known.halves[0])

    def _assign(self, half: Half) -> None:
        self.done += half == self.plan
        self.assignment, self.expected = half, self.reported
        if half == self.plan or self._calls_off or self._rng.random() < 0.5:
            self.plan = None
        self.halves = [half] if self.plan is None else [half, self.plan]
        named = self._named().ids
        for node_id, machine in self._world.machines.items():
            if machine.hosts and node_id not in named:
                self._take_away(node_id)

    def _take_away(self, node_id: int) -> None:
        """Its directory goes, now or later; until then it may run, or come back with what it has."""
        choice, world = self._rng.random(), self._world
        if choice < 0.6 and not self.keeps_directories:
            if world.machines[node_id].running:
                world.crash(node_id, power=False, why="taken away")
            world.machines[node_id].set_aside()
            world.invariants.forget(node_id)
            world.stops.pop(node_id, None)
        elif choice < 0.8 or self.keeps_directories:
            world.crash(node_id, power=self._rng.random() < 0.5, why="forgotten")
            world.machines[node_id].hosts = False

    # --- what it wishes --------------------------------------------------------------------
    def _wish(self) -> Half:
        """Another set of replicas, or of witnesses."""
        rng, now = self._rng, self.assignment
        others = [n for n in self._world.node_ids if n not in now.ids]
        free = [n for n in others if self._may_be(n, is_witness=False)]
        if now.witnesses and rng.random() < 0.3:
            spare = [n for n in others if self._may_be(n, is_witness=True)]
            if spare:
                kept = rng.sample(now.witnesses, len(now.witnesses) - 1)
                return Half(now.replicas, (*kept, rng.choice(spare)))
        witnesses = now.witnesses
        at_least = len(witnesses) + 1 if witnesses else 1
        count = len(now.replicas) if witnesses else rng.choice((1, 2, 3, 3, 3, 4, 5))
        pool = [*now.replicas, *free]
        count = max(at_least, min(count, len(pool)))
        if rng.random() < 0.6:  # a swap, or one more or less
            kept = rng.sample(now.replicas, max(0, min(len(now.replicas), count) - rng.choice((0, 1))))
        else:
            kept = []
        others = [n for n in pool if n not in kept]
        return Half((*kept, *rng.sample(others, count - len(kept))), witnesses)

    def _survives(self, half: Half) -> bool:
        """Nobody moves records to disks of which too many are damaged."""
        return len(self._world.invariants.damaged & {*half.ids}) <= (len(half.ids) - 1) // 2

    def _may_be(self, node_id: int, *, is_witness: bool) -> bool:
        """No node changes its kind in one group."""
        return self._kinds.get(node_id, is_witness) == is_witness
