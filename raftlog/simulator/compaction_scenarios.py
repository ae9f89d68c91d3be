"""Stories about a compacted topic: replicas that were away or lost something end with the same last values."""

from __future__ import annotations

from raftlog.simulator.producing import add_producers
from raftlog.simulator.stories import under
from raftlog.simulator.world import MAX_RECORD_BYTES, World
from raftlog.types import TopicConfig


def compaction(world: World) -> None:
    """A compacted topic with small segments, while replicas are away, lose power or their disks, and come back."""
    world.configure(TopicConfig(segment_bytes=world.rng.choice((4096, 16384)), max_record_bytes=MAX_RECORD_BYTES))
    world.add_clients(2, think_s=0.1, depth=2)
    add_producers(world, 1, think_s=0.05)
    world.add_readers(1)
    damage = ["flip", "truncate", "wipe", "wipe", "disk_full", "wall_jump"]
    under(world, [*damage, "isolate", "power", "power_all", "kill", "hand_over", *["fail_point"] * 3])
