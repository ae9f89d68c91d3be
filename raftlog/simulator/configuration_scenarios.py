"""Stories about configurations in the log: entries with an index and no offset, among all that can go wrong."""

from __future__ import annotations

from raftlog.simulator.stories import under
from raftlog.simulator.world import World
from raftlog.types import Half

_EVERY_S = 0.4


def configurations(world: World) -> None:
    """Leaders append one again and again, with the same voters: no index of any entry may change by that.

    One of two halves is ended by whoever leads then.
    """
    world.add_clients(2, think_s=0.05, depth=2)

    def configure() -> None:
        order = tuple(world.rng.sample(world.spec.replicas, len(world.spec.replicas)))
        halves = (Half(order, world.spec.witnesses), world.spec.half)[: world.rng.choice((1, 2))]
        for machine in world.machines.values():
            machine.hand_in("configure", halves)
        world.events.after(world.rng.expovariate(1 / _EVERY_S), configure)

    configure()
    under(
        world,
        ["isolate", "cut", "power", "power_all", "kill", "fail_point", "fail_point", "wipe", "hand_over", "settings"]
        + ["truncate", "disk_full", "flip", "delay", "loss"],
    )
