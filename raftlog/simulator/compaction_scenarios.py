"""Stories about a compacted topic: replicas that were away or lost something end with the same last values."""

from __future__ import annotations

from raftlog.simulator.producer import add_producers
from raftlog.simulator.stories import begin, cut_off, under
from raftlog.simulator.world import MAX_RECORD_BYTES, World
from raftlog.storage.log import PartitionLog
from raftlog.types import TopicConfig


def compaction(world: World) -> None:
    """A compacted topic with small segments, while replicas are away, lose power or their disks, and come back."""
    world.configure(TopicConfig(segment_bytes=world.rng.choice((4096, 16384)), max_record_bytes=MAX_RECORD_BYTES))
    world.add_clients(2, think_s=0.1, depth=2)
    add_producers(world, 1, think_s=0.05)
    world.add_readers(1)
    damage = ["flip", "truncate", "wipe", "wipe", "disk_full", "wall_jump"]
    under(world, [*damage, "isolate", "power", "power_all", "kill", "hand_over", *["fail_point"] * 3])


def lost_tombstones(world: World) -> None:
    """A replica has values, and others let the tombstones go that deleted them: while it is away, or lost a part."""
    world.compaction["delete_retention_ms"] = 0
    world.configure(TopicConfig(segment_bytes=4096, max_record_bytes=MAX_RECORD_BYTES))
    begin(world)
    node_id = world.rng.choice(world.spec.replicas)
    for _ in range(3):
        machine = world.machines[node_id]
        if machine.running and isinstance(machine.log, PartitionLog):
            # It is behind with its own compaction, as it may be: it keeps what others have dropped.
            setattr(machine.log.cleaner, "begin", lambda *_: None)  # noqa: B010 - mypy knows it as a method
        world.run_until(time_s=world.events.now_s + 4.0)
        if world.rng.random() < 0.5:
            cut_off(world, {node_id})
            world.run_until(time_s=world.events.now_s + world.rng.uniform(3.0, 8.0))
            world.network.heal_all()
        else:
            _lose_tombstones(world, node_id)
        world.run_until(time_s=world.events.now_s + world.rng.uniform(3.0, 5.0))
    world.heal()


def _lose_tombstones(world: World, node_id: int) -> None:
    """Everything behind some place goes, once others have let tombstones go that stood behind it."""
    others = [machine for machine in world.machines.values() if machine.node_id != node_id and machine.running]
    logs = [machine.log for machine in others if isinstance(machine.log, PartitionLog)]
    world.run_until(time_s=world.events.now_s + 4.0)
    if world.invariants.damaged or not any(log.state.purged_index for log in logs):
        return
    machine = world.machines[node_id]
    world.invariants.damaged.add(node_id)
    world.crash(node_id, power=False, why="damage")
    segments = sorted(path for path in machine.disk.files() if path.endswith(".log"))
    place = world.rng.randrange(max(1, len(segments) // 3))
    for path in segments[place + 1 :]:
        machine.disk.remove(path)
    size = len(machine.disk.files()[segments[place]])
    machine.disk.truncate_durable(segments[place], max(1, size - 10))
    machine.forget_index()
    world.note(f"n{node_id} keeps {place + 1} of {len(segments)} segments")
    world.start(node_id)
