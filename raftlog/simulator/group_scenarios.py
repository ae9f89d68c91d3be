"""Stories about a group: its members hang, die and come back while those who coordinate crash, hang or are cut off."""

from __future__ import annotations

from raftlog.simulator.faults import Faults
from raftlog.simulator.group_consumer import PARTITIONS
from raftlog.simulator.stories import cut_off, leader_of, wait
from raftlog.simulator.world import MAX_RECORD_BYTES, World
from raftlog.types import CleanupPolicy, TopicConfig

_KINDS = [
    "isolate",
    "cut",
    "one_way",
    "loss",
    "delay",
    "kill",
    "power",
    "power_all",
    "pause",
    "hand_over",
    "fail_point",
]
_DISKS = ["wipe", "truncate", "fail_sync", "disk_full", "slow_disk"]


def groups(world: World) -> None:
    """Any faults of nodes, links and disks, and consumers that come and go."""
    _begin(world)
    faults = Faults(world, _KINDS + (_DISKS if world.rng.random() < 0.5 else []))
    _no_drift(world)
    world.run_until(time_s=world.events.now_s + 40.0)
    faults.stop()
    _end(world)


def hung_coordinator(world: World) -> None:
    """Coordinators hang or are cut off, are replaced without noticing, and are asked when they come to themselves."""
    _begin(world)
    for _ in range(6):
        old = leader_of(world)
        hangs = world.rng.random() < 0.5
        if old and hangs:
            world.pause(old, world.rng.choice((world.rng.uniform(1.2, 3.0), world.rng.uniform(3.0, 6.0))))
        elif old:
            cut_off(world, {old})
        # Who is cut off from the others only has its clients still, until their commits have run out of time.
        world.run_until(time_s=world.events.now_s + world.rng.uniform(2.0, 6.0 if hangs else 10.0))
        world.network.heal_all()
        world.run_until(time_s=world.events.now_s + world.rng.uniform(0.0, 2.0))
    _end(world)


def _begin(world: World) -> None:
    world.configure(
        TopicConfig(
            segment_bytes=world.rng.choice((4096, 65536)),
            max_record_bytes=MAX_RECORD_BYTES,
            cleanup_policy=world.rng.choice((CleanupPolicy.COMPACT, CleanupPolicy.DELETE)),
            delete_retention_ms=world.rng.choice((0, 1000)),
        )
    )
    world.invariants.compacted = CleanupPolicy.COMPACT in world.spec.config.cleanup_policy
    for node_id in world.node_ids:
        world.start(node_id)
    world.add_seats(world.rng.choice((2, 3, 4)))
    world.run_until(time_s=4.0)


def _no_drift(world: World) -> None:
    """A session is measured by two clocks: that they run alike is what it rests on."""
    for machine in world.machines.values():
        machine.clock._rate = 1.0


def _end(world: World) -> None:
    """Everything works again: each partition has an owner, and each commit of a while is done."""
    world.heal()
    for seat in world.seats:
        seat.restless = False
    wait(world, "not every partition has an owner", lambda: _owned(world) == list(range(PARTITIONS)))
    ledger = world.ledger
    assert ledger is not None
    before = dict(ledger.told)
    wait(
        world,
        "no offset of every partition was committed",
        lambda: all(ledger.told.get(number, -1) > before.get(number, -1) for number in range(PARTITIONS)),
    )


def _owned(world: World) -> list[int]:
    consumers = [seat.consumer for seat in world.seats if seat.consumer is not None]
    return sorted(partition for consumer in consumers for partition in consumer.may_hand_out())
