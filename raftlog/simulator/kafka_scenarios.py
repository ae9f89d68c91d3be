"""Stories about Kafka's door: its core between clients of Kafka and the replicas."""

from __future__ import annotations

import random

from raftlog.simulator.faults import Faults
from raftlog.simulator.world import World

_FAULTS = (
    *("cut", "one_way", "isolate", "loss", "delay", "kill", "power", "power_all", "fail_point", "pause", "wall_jump"),
    *("fail_sync", "disk_full", "slow_disk", "flip", "truncate", "wipe", "garble", "hand_over"),
)


def kafka_door(world: World) -> None:
    """Kafka's clients produce and read through doors that die, over connections that break, under all faults."""
    # Imported here: no other story needs Kafka's messages.
    from raftlog.simulator.kafka_clients import KafkaProducer, KafkaReader
    from raftlog.simulator.kafka_door import DoorTrouble, SimulatedDoor

    seed = world.seed
    for node_id in world.node_ids:
        world.start(node_id)
    doors = {node_id: SimulatedDoor(node_id, world, random.Random(seed * 53 + node_id)) for node_id in world.node_ids}
    for number in range(2):
        name = f"kp{number}"
        world.clients[name] = KafkaProducer(name, 1000 + number, world, doors, random.Random(seed * 59 + number))
    for number in range(2):
        name = f"kr{number}"
        world.readers[name] = KafkaReader(name, world, doors, random.Random(seed * 61 + number))
    world.add_clients(1, think_s=0.1, depth=1)
    world.add_readers(1)
    rng = random.Random(seed * 67)
    trouble = DoorTrouble(world, list(doors.values()), rng)
    quiet = rng.random() < 0.2
    faults = Faults(world, [kind for kind in _FAULTS if not quiet and rng.random() < 0.4])
    world.run_until(steps=2500)
    faults.stop()
    trouble.stop()
    world.heal()
