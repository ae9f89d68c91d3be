"""Faults, drawn from the seed: which kinds a run has, when they come, and when they end.

A quarter of the runs has none. Damage (bytes lost that were synced) befalls at most f replicas between repairs, since
no system keeps what a majority of its disks has lost.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from raftlog.simulator.machine import DIRECTORY
from raftlog.simulator.world import MAX_RECORD_BYTES, World
from raftlog.types import TopicConfig

_EVERY_S = 0.8
_BETWEEN_NODES = ("cut", "one_way", "isolate", "loss", "delay", "garble")


class Faults:
    """Schedules faults on a world until `stop()`."""

    def __init__(self, world: World, kinds: list[str] | None = None) -> None:
        self._world = world
        self._rng = random.Random(world.seed ^ 0xFA17)
        self._stopped = False
        self._tolerated = (len(world.node_ids) - 1) // 2
        known: dict[str, Callable[[], None]] = {
            "cut": self._cut,
            "one_way": self._one_way,
            "isolate": self._isolate,
            "loss": self._loss,
            "delay": self._delay,
            "kill": self._kill,
            "power": self._power,
            "power_all": self._power_all,
            "fail_point": self._fail_point,
            "pause": self._pause,
            "wall_jump": self._wall_jump,
            "fail_sync": self._fail_sync,
            "disk_full": self._disk_full,
            "slow_disk": self._slow_disk,
            "flip": self._flip,
            "truncate": self._truncate,
            "wipe": self._wipe,
            "garble": self._garble,
            "hand_over": self._hand_over,
            "settings": self._settings,
        }
        if len(world.node_ids) == 1:
            known = {kind: action for kind, action in known.items() if kind not in _BETWEEN_NODES}
        if kinds is None:
            kinds = [kind for kind in known if self._rng.random() < 0.5]
            if self._rng.random() < 0.25:
                kinds = []
        self._actions = [known[kind] for kind in kinds]
        for node_id in world.node_ids:
            # Clocks of real machines differ by parts per million; 2 % is far worse than any.
            world.machines[node_id].clock._rate = self._rng.uniform(0.98, 1.02) if kinds else 1.0
        if self._actions:
            world.note(f"faults {' '.join(kinds)}")
            self._plan()

    def stop(self) -> None:
        self._stopped = True

    def _plan(self) -> None:
        self._world.events.after(self._rng.expovariate(1 / _EVERY_S), self._strike)

    def _strike(self) -> None:
        if self._stopped:
            return
        self._rng.choice(self._actions)()
        self._plan()

    def _later(self, low_s: float, high_s: float, action: Callable[[], None]) -> None:
        self._world.events.after(self._rng.uniform(low_s, high_s), lambda: None if self._stopped else action())

    def _node(self) -> int:
        return self._rng.choice(self._world.node_ids)

    # --- network -----------------------------------------------------------------------------
    def _cut_links(self, links: list[tuple[int, int]]) -> None:
        network = self._world.network
        for source, target in links:
            network.cut(source, target)
        self._world.note(f"cut {links}")
        self._rng.shuffle(links)
        for source, target in links:  # healed one by one, in another order
            self._later(0.1, 5.0, lambda a=source, b=target: network.heal(a, b))  # type: ignore[misc]

    def _cut(self) -> None:
        a, b = self._rng.sample(self._world.node_ids, 2)
        self._cut_links([(a, b), (b, a)])

    def _one_way(self) -> None:
        a, b = self._rng.sample(self._world.node_ids, 2)
        self._cut_links([(a, b)])

    def _isolate(self) -> None:
        node_ids = self._world.node_ids
        group = set(self._rng.sample(node_ids, self._rng.randint(1, max(1, self._tolerated))))
        self._cut_links([(a, b) for a in node_ids for b in node_ids if a != b and (a in group) != (b in group)])

    def _loss(self) -> None:
        network = self._world.network
        network.loss = self._rng.uniform(0.01, 0.4)
        self._later(0.2, 3.0, lambda: setattr(network, "loss", 0.0))

    def _delay(self) -> None:
        network = self._world.network
        network.delay_s, network.jitter_s = self._rng.uniform(0.001, 0.2), self._rng.uniform(0.0, 0.2)

        def restore() -> None:
            network.delay_s = network.jitter_s = 0.0003

        self._later(0.2, 3.0, restore)

    def _garble(self) -> None:
        network = self._world.network
        network.garbled = self._rng.uniform(0.01, 0.2)
        self._later(0.1, 2.0, lambda: setattr(network, "garbled", 0.0))

    # --- processes -----------------------------------------------------------------------------
    def _kill(self) -> None:
        node_id = self._node()
        if self._rng.random() < 0.3:
            self._world.stop(node_id)
        else:
            self._world.crash(node_id, power=False, why="kill")
        self._world.restart_later(node_id)

    def _power(self) -> None:
        node_id = self._node()
        self._world.crash(node_id, power=True, why="fault")
        self._world.restart_later(node_id)

    def _power_all(self) -> None:
        for node_id in self._world.node_ids:
            if self._rng.random() < 0.8:
                self._world.crash(node_id, power=True, why="all")
                self._world.restart_later(node_id)

    def _fail_point(self) -> None:
        machine = self._world.machines[self._node()]
        if machine.running:
            machine.armed_fail_point = self._rng.choice(machine.fail_points)
            self._world.note(f"n{machine.node_id} armed {machine.armed_fail_point}")

    def _pause(self) -> None:
        self._world.pause(self._node(), self._rng.choice((0.2, 0.5, 1.0, 2.0, 3.0, 5.0, 8.0, 10.0)))

    def _wall_jump(self) -> None:
        self._world.machines[self._node()].clock.jump_wall(self._rng.choice((-3_600_000, -1000, 1000, 86_400_000)))

    def _hand_over(self) -> None:
        for machine in self._world.machines.values():
            if machine.replica is not None:
                machine.replica.hand_over()  # a follower has nothing to hand over

    def _settings(self) -> None:
        config = TopicConfig(
            segment_bytes=self._rng.choice((4096, 65536, 1 << 20)),
            segment_ms=self._rng.choice((1000, 3_600_000)),
            retention_bytes=self._rng.choice((-1, -1, 30_000)),
            retention_ms=self._rng.choice((-1, -1, 5000)),
            max_record_bytes=MAX_RECORD_BYTES,
            min_insync_replicas=self._rng.choice((1, 1, self._tolerated + 1)) if self._world.mover is None else 1,
        )
        self._world.configure(config)
        self._world.note(f"settings {config}")

    # --- disks ---------------------------------------------------------------------------------
    def _fail_sync(self) -> None:
        disk = self._world.machines[self._node()].disk
        disk.fail_sync = True
        self._later(0.01, 0.5, lambda: setattr(disk, "fail_sync", False))

    def _disk_full(self) -> None:
        disk = self._world.machines[self._node()].disk
        if self._rng.random() < 0.5:
            disk.full = True
            self._later(0.1, 3.0, lambda: setattr(disk, "full", False))
        else:  # some room is left, so that it runs out anywhere
            disk.capacity_bytes = disk.used_bytes + self._rng.randrange(20_000)
            self._later(0.1, 3.0, lambda: setattr(disk, "capacity_bytes", None))

    def _slow_disk(self) -> None:
        machine = self._world.machines[self._node()]
        machine.disk_slowness = self._rng.choice((10.0, 100.0, 1000.0))
        self._later(0.1, 3.0, lambda: setattr(machine, "disk_slowness", 1.0))

    def _damage(self) -> int | None:
        """A node whose disk may be damaged now: it is stopped first, and counted until it is whole again."""
        invariants = self._world.invariants
        node_id = self._node()
        damaged = invariants.damaged | {node_id}
        if not self._is_tolerated(damaged) or not self._world.machines[node_id].disk.exists(DIRECTORY):
            return None
        if self._world.machines[node_id].running and self._world.machines[node_id].log.state.doubt:
            return None
        if not self._is_kept_elsewhere(node_id, damaged):
            return None
        invariants.damaged.add(node_id)
        self._world.crash(node_id, power=self._rng.random() < 0.5, why="damage")
        self._world.restart_later(node_id)
        return node_id

    def _is_tolerated(self, damaged: set[int]) -> bool:
        """f of the replicas, in each half that may count while the voters change."""
        mover = self._world.mover
        if mover is None:
            return len(damaged) <= self._tolerated
        return all(len(damaged & {*half.ids}) <= (len(half.ids) - 1) // 2 for half in mover.halves)

    def _is_kept_elsewhere(self, node_id: int, damaged: set[int]) -> bool:
        """With witnesses a replica alone in sync holds the only copy: losing that is beyond what is promised."""
        spec, invariants = self._world.assignment, self._world.invariants
        if not spec.witnesses or node_id in spec.witnesses:
            return True
        durable = {other: invariants.durable_end(other) for other in self._world.node_ids}
        running = [machine.log for machine in self._world.machines.values() if machine.running]
        known = max(*durable.values(), *((log.last_term, log.last_index) for log in running))
        return any(durable[other] >= known for other in spec.replicas if other not in damaged)

    def _damaged_segments(self) -> tuple[int | None, list[tuple[str, bytes]]]:
        node_id = self._damage()
        files = {} if node_id is None else self._world.machines[node_id].disk.files()
        return node_id, [(path, data) for path, data in files.items() if path.endswith(".log") and data]

    def _flip(self) -> None:
        node_id, segments = self._damaged_segments()
        if node_id is None or not segments:
            return
        path, data = segments[-1] if self._rng.random() < 0.7 else self._rng.choice(segments)
        # The tail is where a flip looks like a torn write.
        first = max(0, len(data) - 200) if self._rng.random() < 0.5 else 0
        position = self._rng.randrange(first, len(data))
        machine = self._world.machines[node_id]
        machine.disk.flip_bit(path, position, self._rng.randrange(8))
        # In front of its index's last entry a start does not read the log again: there the scrub finds the flip, or
        # whoever reads it, and until then the invariants do not look at this log. Beside witnesses it is found at
        # once: one that is found while its replica is in sync alone takes the only copy of what stands behind it.
        if self._rng.random() < 0.5 or self._world.assignment.witnesses:
            machine.forget_index()
        wrong = (path, position, machine.disk.byte_at(path, position))
        self._world.invariants.latent.setdefault(node_id, []).append(wrong)
        self._world.note(f"n{node_id} flip {path} at {position} of {len(data)}")

    def _truncate(self) -> None:
        node_id, segments = self._damaged_segments()
        if node_id is None or not segments:
            return
        path, data = segments[-1]
        # One byte short of the end at least: never exactly at a batch boundary, which nothing could tell
        # from a healthy file (docs/operations.md, "Limits").
        size = len(data) - self._rng.randrange(1, min(len(data), 61))
        self._world.machines[node_id].disk.truncate_durable(path, size)
        self._world.note(f"n{node_id} truncate {path} to {size} of {len(data)}")

    def _wipe(self) -> None:
        node_id = self._damage()
        if node_id is None:
            return
        self._world.machines[node_id].disk.wipe("data")
        self._world.machines[node_id].forget_index()
        self._world.note(f"n{node_id} wipe")
