"""What stories are made of: a beginning, nodes that are cut off, faults of some kinds, waiting for what has to come."""

from __future__ import annotations

from collections.abc import Callable

from raftlog.simulator.faults import Faults
from raftlog.simulator.invariants import Broken
from raftlog.simulator.world import World

_PROGRESS_S = 20.0  # virtual seconds within which a story goes on


def begin(world: World) -> None:
    world.add_clients(2, think_s=0.05, depth=1)  # long stories, so a slow pace
    for node_id in world.node_ids:
        world.start(node_id)
    world.run_until(time_s=6.0)


def cut_off(world: World, group: set[int]) -> None:
    for a in world.node_ids:
        for b in world.node_ids:
            if a != b and (a in group) != (b in group):
                world.network.cut(a, b)


def under(world: World, kinds: list[str]) -> None:
    for node_id in world.node_ids:
        world.start(node_id)
    faults = Faults(world, kinds)
    world.run_until(time_s=40.0)
    faults.stop()
    world.heal()


def leader_of(world: World) -> int:
    """The leader of the newest term, once it is ready; 0 while there is none."""
    newest = world.invariants.leaders.get(max(world.invariants.leaders, default=0), 0)
    return newest if newest and leads(world, newest) else 0


def in_sync(world: World) -> tuple[int, ...]:
    replica = world.machines[leader_of(world)].replica if leader_of(world) else None
    return replica.member.in_sync if replica is not None else ()


def acked(world: World) -> int:
    return sum(client.acked_count for client in world.clients.values())


def wait_for_writes(world: World, count: int, complaint: str) -> None:
    enough = acked(world) + count
    wait(world, complaint, lambda: acked(world) >= enough)


def wait(world: World, complaint: str, condition: Callable[[], bool]) -> None:
    deadline_s = world.events.now_s + _PROGRESS_S
    while not condition():
        if world.events.now_s > deadline_s:
            raise Broken("stuck", f"{complaint} within {_PROGRESS_S:.0f} s")
        world.run_until(time_s=world.events.now_s + 0.05)


def leads(world: World, node_id: int) -> bool:
    replica = world.machines[node_id].replica
    return replica is not None and replica.leader_ready
