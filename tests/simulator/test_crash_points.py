"""A worker is stopped between each two steps of its turn, and what was not synced is dropped or torn.

On the node that reaches the point first, on that node with a random part of the others, and on all. Then everything
starts again, and nothing that was acknowledged may be missing. With the sync taken out the same test fails.
"""

from __future__ import annotations

import pytest

from raftlog.errors import StorageError
from raftlog.partition.replica import FAIL_POINTS as TURN_FAIL_POINTS
from raftlog.simulator.convergence import require_convergence
from raftlog.simulator.invariants import Broken
from raftlog.simulator.machine import SimulatedCrash
from raftlog.simulator.sabotage import without
from raftlog.simulator.world import World
from raftlog.storage.fail_points import FAIL_POINTS as LOG_FAIL_POINTS

APPEND_PATH = ("append.segment-created", "append.written", "persist.data-synced", "persist.names-synced")
STATE_PATH = ("state.a.written", "state.a.renamed", "state.b.written", "state.b.renamed", "epoch.batches-durable")
POINTS = (*TURN_FAIL_POINTS, *APPEND_PATH, *STATE_PATH)
WITNESS_POINTS = (
    "turn: received",
    "turn: ticked",
    "turn: persisted",
    "turn: committed",
    *(point for point in LOG_FAIL_POINTS if point.startswith("state.")),
)
WHO = ("one", "some", "all")


class CrashingWorld(World):
    """At the armed point a chosen part of the cluster loses power with the node that reached it."""

    who = "one"
    hits = 0

    def crash(self, node_id: int, *, power: bool, why: str) -> None:
        super().crash(node_id, power=True, why=why)
        if not why.startswith("at "):
            return
        self.hits += 1
        others = [other for other in self.node_ids if other != node_id]
        if self.who == "some":
            others = self.rng.sample(others, self.rng.randint(1, len(others)))
        for other in others if self.who != "one" else ():
            super().crash(other, power=True, why="with it")
            self.restart_later(other)


def run(point: str, who: str, seed: int, witnesses: int = 0) -> int:
    """Three crashes at `point`, each under load; returns how many were hit. On witnesses only, where there are any."""
    world = CrashingWorld(seed, witnesses=witnesses)
    world.who = who
    world.add_clients(2, think_s=0.04, depth=3)
    for node_id in world.node_ids:
        world.start(node_id)
    for _ in range(3):
        world.run_until(time_s=world.events.now_s + world.rng.uniform(1.5, 2.5))
        for machine in world.machines.values():
            if witnesses and not machine.is_witness:
                continue
            machine.armed_fail_point = point
            if point in STATE_PATH and machine.replica is not None and machine.replica.is_leader:
                world.pause(machine.node_id, 2.5)  # `state` changes with a term
    world.run_until(time_s=world.events.now_s + 2.0)
    world.heal()
    require_convergence(world)
    return world.hits


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("point", POINTS)
def test_nothing_acknowledged_is_lost(point: str, who: str) -> None:
    assert run(point, who, seed=len(point) * 7 + len(who)) > 0, "the point was never reached: nothing was tested"


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("point", WITNESS_POINTS)
def test_nothing_acknowledged_is_lost_when_a_witness_stops(point: str, who: str) -> None:
    hits = run(point, who, seed=len(point) * 7 + len(who), witnesses=1)
    assert hits > 0, "the point was never reached: nothing was tested"


def test_without_the_sync_something_acknowledged_is_lost() -> None:
    """The same crashes with fdatasync taken out. A test that cannot fail would prove nothing."""
    with without("G5"):
        for seed in range(10):
            try:
                run("turn: served", "all", seed)
            except (Broken, SimulatedCrash, StorageError) as found:
                assert "lost" in str(found) or "before committed" in str(found) or "CUT" in str(found), found
                return
    pytest.fail("ten seeds without a sync lost nothing")
