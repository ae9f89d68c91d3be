"""Stories about witnesses: any f of 2 f + 1 nodes may fail, and the last one with all records is waited for."""

from __future__ import annotations

from raftlog.simulator.invariants import Broken
from raftlog.simulator.stories import begin, in_sync, leader_of, wait, wait_for_writes
from raftlog.simulator.world import World


def any_minority(world: World) -> None:
    """Again and again as many nodes as may fail are gone, at once or one by one, and writes go on without them.

    A node that is about to fail may hear nothing any more while it still counts as in sync.
    """
    begin(world)
    for _ in range(6):
        wait(world, "not all replicas were in sync", lambda: in_sync(world) == world.spec.replicas)
        leader = leader_of(world)
        away = set(world.rng.sample(world.node_ids, (len(world.node_ids) - 1) // 2))
        if leader and world.rng.random() < 0.7:
            away = {leader, *list(away)[1:]}
        if leader and world.rng.random() < 0.7:
            for node_id in world.node_ids:
                if node_id != leader and world.rng.random() < 0.5:
                    world.network.cut(leader, node_id)
            world.run_until(time_s=world.events.now_s + world.rng.uniform(0.02, 0.3))
        at_once = world.rng.random() < 0.5
        for node_id in away:
            world.crash(node_id, power=world.rng.random() < 0.5, why="one of a minority")
            world.network.heal_all()
            if not at_once:
                world.run_until(time_s=world.events.now_s + world.rng.uniform(0.1, 4.0))
        wait_for_writes(world, 1, f"no write was acknowledged without {sorted(away)}")
        for node_id in away:
            world.start(node_id)
    world.heal()


def alone_in_sync(world: World) -> None:
    """All replicas but the leader are away, a witness makes the majority; then the leader dies and the others are back.

    They lack what was acknowledged: the partition waits for the leader, and goes on with it.
    """
    begin(world)
    wait(world, "not all replicas were in sync", lambda: in_sync(world) == world.spec.replicas)
    leader = leader_of(world)
    others = [node_id for node_id in world.spec.replicas if node_id != leader]
    for node_id in others:
        world.crash(node_id, power=world.rng.random() < 0.5, why="away")
    wait_for_writes(world, 4, "the witnesses made no majority")
    world.crash(leader, power=world.rng.random() < 0.5, why="alone in sync")
    for node_id in others:
        world.start(node_id)
    term, before = max(world.invariants.leaders), world.invariants.commit_index
    world.run_until(time_s=world.events.now_s + 20.0)
    if max(world.invariants.leaders) != term or world.invariants.commit_index != before:
        raise Broken("lost", "a replica led that lacks what was acknowledged")
    world.heal()
