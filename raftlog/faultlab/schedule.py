"""Which fault hits which nodes when: a plan, drawn by a seed or told by a scenario. Pure.

A quarter of the time has no fault. Every fault comes before one comes again; one of the network or the clock may lie
over one of a process or a disk. What damages disks hits at most f of 2 f + 1 nodes until the lab has seen all replicas
whole again, since that is what replication promises to survive.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from raftlog.faultlab.clients import SESSION_S
from raftlog.faultlab.shape import Shape


class Fault(NamedTuple):
    """A kind of fault.

    `needs`: what the place has to be able to do. `kind`: network, clock, process, disk or client.

    `hold_s`: the shortest and the longest time that it lasts.
    """

    name: str
    kind: str
    needs: str = ""
    damages: bool = False
    one: bool = True  # hits one node; else as many as the plan says
    hold_s: tuple[float, float] = (2.0, 7.0)


# From what is hardly noticed to several election time-outs: a disk that stalls, a machine that swaps, a VM that moves.
_HANG_S = (0.5, 8.0)


class Planned(NamedTuple):
    at_s: float
    hold_s: float
    fault: Fault
    nodes: tuple[int, ...]
    when_whole: bool = False  # not before every replica is whole again


FAULTS = {
    fault.name: fault
    for fault in (
        Fault("kill-worker", "process"),
        Fault("kill-door", "process", "door"),
        Fault("kill-node", "process"),
        Fault("pause", "process", hold_s=_HANG_S),
        Fault("hang-worker", "process", hold_s=_HANG_S),
        Fault("hang-supervisor", "process", hold_s=_HANG_S),
        Fault("stop", "process"),
        Fault("kill-member", "client", "members"),
        Fault("pause-member", "client", "members", hold_s=(SESSION_S + 2.0, SESSION_S + 7.0)),
        Fault("rolling-restart", "process", one=False),
        Fault("isolate", "network", "network"),
        Fault("halves", "network", "network", one=False),
        Fault("ring", "network", "network", one=False),
        Fault("one-way", "network", "network", one=False),
        Fault("slow", "network", "network"),
        Fault("lossy", "network", "network"),
        Fault("clock-jump", "clock", "clock"),
        Fault("clock-drift", "clock", "clock"),
        Fault("disk-full", "disk", "disk_full"),
        Fault("disk-error", "disk", "disk_error"),
        Fault("power-off", "disk", "power_off"),
        Fault("power-off-all", "disk", "power_off", one=False),
        Fault("empty-disk", "disk", damages=True),
        Fault("flipped-bit", "disk", damages=True),
        Fault("truncated-file", "disk", damages=True),
    )
}
_QUIET = 0.25
_OVER = 0.35  # of the faults of processes and disks have one of the network or clock over them
_LAST_S = 5.0  # without a new fault


def usable(names: Collection[str], missing: dict[str, str]) -> tuple[list[Fault], dict[str, str]]:
    """Of these faults those that a place can do, and for the others why not."""
    chosen = [FAULTS[name] for name in FAULTS if name in names]
    left_out = {fault.name: missing[fault.needs] for fault in chosen if fault.needs in missing}
    return [fault for fault in chosen if fault.name not in left_out], left_out


def draw(seed: int, seconds: float, nodes: Sequence[int], faults: Sequence[Fault]) -> list[Planned]:
    """The same for the same arguments, in order of time; the last fault ends before `seconds`."""
    rng = random.Random(seed)
    plan: list[Planned] = []
    bag: list[Fault] = []
    at_s = rng.uniform(1.0, 3.0)
    while faults:
        if not bag:
            bag = rng.sample(faults, len(faults))
        fault = bag.pop()
        hold_s = rng.uniform(*fault.hold_s)
        if at_s + hold_s > seconds - _LAST_S:
            break
        plan.append(Planned(at_s, hold_s, fault, _targets(fault, nodes, rng), when_whole=fault.damages))
        over = [other for other in bag if other.kind in ("network", "clock")]
        if fault.kind in ("process", "disk", "client") and over and rng.random() < _OVER:
            other = rng.choice(over)
            bag.remove(other)
            plan.append(Planned(at_s + hold_s * rng.random() / 2, hold_s / 2, other, _targets(other, nodes, rng)))
        at_s += hold_s + rng.expovariate((1 - _QUIET) / _QUIET / hold_s)
    return sorted(plan, key=lambda planned: planned.at_s)


def _targets(fault: Fault, nodes: Sequence[int], rng: random.Random) -> tuple[int, ...]:
    """One node, or all of them in the order that tells who is on which side."""
    return (rng.choice(nodes),) if fault.one else tuple(rng.sample(nodes, len(nodes)))


# --- the network's faults --------------------------------------------------------------------
def shapes_of(planned: Planned, nodes: Collection[int]) -> dict[tuple[int, int], Shape]:
    """What a fault of the network does to each direction of each pair."""
    cut = Shape(cut=True)
    pairs = {(source, target) for source in nodes for target in nodes if source != target}
    first = planned.nodes[0]
    match planned.fault.name:
        case "isolate":
            return {pair: cut for pair in pairs if first in pair}
        case "halves":
            minority = set(planned.nodes[: (len(nodes) - 1) // 2])
            return {pair: cut for pair in pairs if (pair[0] in minority) != (pair[1] in minority)}
        case "ring":
            # Each still hears its two neighbours; of three nodes two do not hear each other.
            ring = planned.nodes
            places = {node_id: place for place, node_id in enumerate(ring)}
            apart = {pair: abs(places[pair[0]] - places[pair[1]]) for pair in pairs}
            if len(ring) <= 3:
                return {pair: cut for pair, steps in apart.items() if steps == len(ring) - 1}
            return {pair: cut for pair, steps in apart.items() if 1 < steps < len(ring) - 1}
        case "one-way":
            return {(first, planned.nodes[1]): cut}
        case "slow":
            return {pair: Shape(delay_ms=60.0, jitter_ms=60.0) for pair in pairs if first in pair}
        case "lossy":
            return {pair: Shape(delay_ms=2.0, jitter_ms=5.0, loss=0.1) for pair in pairs if first in pair}
    return {}


def has_majority(nodes: Collection[int], down: Collection[int], shapes: dict[tuple[int, int], Shape]) -> bool:
    """Whether more than half of the nodes are up and each of these hears each other one."""
    up = [node_id for node_id in nodes if node_id not in down]
    needed = len(nodes) // 2 + 1

    def heard(one: int, other: int) -> bool:
        return not (shapes.get((one, other), Shape()).cut or shapes.get((other, one), Shape()).cut)

    def grows(group: list[int], rest: list[int]) -> bool:
        if len(group) >= needed:
            return True
        return any(
            grows([*group, node_id], rest[place + 1 :])
            for place, node_id in enumerate(rest)
            if all(heard(node_id, member) for member in group)
        )

    return grows([], up)


# --- scenarios -------------------------------------------------------------------------------
def stale_majority(nodes: Sequence[int], rng: random.Random) -> list[Planned]:
    """A minority is cut off for 30 s, one of the rest loses power, and the stale ones meet the amnesiac."""
    return _stale_meet_amnesiac(nodes, rng, "power-off")


def amnesiac(nodes: Sequence[int], rng: random.Random) -> list[Planned]:
    """The same with a disk that comes back empty."""
    return _stale_meet_amnesiac(nodes, rng, "empty-disk")


def _stale_meet_amnesiac(nodes: Sequence[int], rng: random.Random, loss: str) -> list[Planned]:
    order = rng.sample(nodes, len(nodes))
    minority = (len(nodes) - 1) // 2
    forgetful, informed = order[minority], order[minority + 1 :]
    plan = [Planned(2.0, 30.0, FAULTS["isolate"], (node_id,)) for node_id in order[:minority]]
    plan.append(Planned(31.0, 1.5, FAULTS[loss], (forgetful,)))
    # Those who know everything are away when the others meet.
    plan += [Planned(31.5, 12.0, FAULTS["isolate"], (node_id,)) for node_id in informed]
    return plan


def rolling_restart(nodes: Sequence[int], rng: random.Random) -> list[Planned]:
    """Every node is stopped and started, one after the other, twice."""
    return [
        Planned(2.0 + 6.0 * number, 2.0, FAULTS["stop"], (node_id,)) for number, node_id in enumerate([*nodes, *nodes])
    ]


def whole_cluster_power(nodes: Sequence[int], rng: random.Random) -> list[Planned]:
    """All nodes lose power at once, again and again."""
    return [Planned(4.0 + 9.0 * number, 2.0, FAULTS["power-off-all"], tuple(nodes)) for number in range(4)]


def leader_hunt(nodes: Sequence[int], rng: random.Random) -> list[Planned]:
    """Nodes are killed, paused and cut off in quick turns, so that leaders move all the time."""
    names = ("kill-node", "pause", "isolate")
    return [Planned(2.0 + 3.0 * number, 1.8, FAULTS[rng.choice(names)], (rng.choice(nodes),)) for number in range(14)]


Scenario = Callable[[Sequence[int], random.Random], list[Planned]]
SCENARIOS: dict[str, Scenario] = {
    "stale-majority": stale_majority,
    "amnesiac": amnesiac,
    "rolling-restart": rolling_restart,
    "whole-cluster-power": whole_cluster_power,
    "leader-hunt": leader_hunt,
}
