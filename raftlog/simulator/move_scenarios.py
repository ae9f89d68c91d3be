"""Stories about replicas that move: each is what one rule is for, and breaks without it (docs/simulator.md)."""

from __future__ import annotations

from collections.abc import Callable

from raftlog.record.batch import split
from raftlog.simulator.clients import Client
from raftlog.simulator.invariants import Broken
from raftlog.simulator.mover import Mover
from raftlog.simulator.stories import begin, cut_off, in_sync, leader_of, under, wait, wait_for_writes
from raftlog.simulator.world import World
from raftlog.types import Half, TopicConfig

_ALL = ["isolate", "cut", "one_way", "power", "power_all", "kill", "fail_point", "fail_point", "wipe", "hand_over"]
_ALL += ["truncate", "disk_full", "flip", "delay", "loss", "pause", "slow_disk", "fail_sync", "garble", "settings"]


def moves(world: World) -> None:
    """Replicas and witnesses come, go and are swapped, plans are called off, among all that can go wrong."""
    world.add_clients(2, think_s=0.05, depth=2)
    world.add_readers(world.rng.choice((0, 1)))
    _mover(world).wander()
    under(world, world.rng.sample(_ALL, world.rng.randint(0, len(_ALL))))


def untold_voter(world: World) -> None:
    """A leader has promoted a learner, which has not heard of it, and dies: who stands needs the learner's vote."""
    begin(world)
    _mover(world).begins = False
    leader, old, new = _begin_swap(world)
    others = [node_id for node_id in world.spec.voters if node_id not in (leader, old)]
    _wait_for_learner(world, leader, new)
    world.network.cut(leader, new)
    _mover(world).begins = True
    wait(world, "no follower got the configuration", lambda: all(_halves(world, n) == 2 for n in others))
    world.crash(leader, power=world.rng.random() < 0.5, why="has promoted")
    world.network.heal_all()
    wait_for_writes(world, 1, "nobody leads without the vote of the one who does not know that it is a voter")
    world.start(leader)
    world.heal()


def out_of_sync_promotion(world: World) -> None:
    """A new replica is gone as soon as it is promoted, the old one follows a little later, then the leader is gone.

    Until the new one is in sync the old one stays, or a witness would be ahead of every replica that is left.
    """
    begin(world)
    leader, old, new = _begin_swap(world)
    _when_joint(world, leader, lambda: cut_off(world, {new}))
    wait_for_writes(world, 5, "no write was acknowledged without the new replica")
    world.run_until(time_s=world.events.now_s + 1.0)
    world.crash(leader, power=True, why="alone with a new half")
    world.network.heal_all()
    wait_for_writes(world, 1, f"nobody leads of {old}, {new} and the witness")
    world.start(leader)
    world.heal()


def torn_promotion(world: World) -> None:
    """Both old replicas lose, with their tails, that a third is one, and that alone holds what was committed.

    What they lose was committed after they wrote their bound last: they do not know how much it is.
    """
    begin(world)
    mover, [new] = _mover(world), [n for n in world.node_ids if n not in world.spec.voters]
    wait(world, "not all replicas were in sync", lambda: in_sync(world) == world.spec.replicas)
    mover.begins = False
    mover.move_to(Half((*world.spec.replicas, new)))
    leader = leader_of(world)
    [other] = [node_id for node_id in world.spec.replicas if node_id != leader]
    _wait_for_learner(world, leader, new)
    world.network.cut(new, leader)  # it hears, and is not heard
    world.network.cut(other, leader)
    _burst(world, leader, 3)
    mover.begins = True
    _when_joint(world, leader, world.network.heal_all)
    world.network.cut(new, leader)
    end = world.machines[leader].log.last_index
    _burst(world, leader, 3)
    _step_until(world, lambda: world.invariants.commit_index > end, "nothing was committed")
    if all(_is_unbound(world, node_id) for node_id in world.spec.replicas):
        for node_id in world.spec.replicas:
            _tear(world, node_id)
        world.network.heal_all()
        for node_id in world.spec.replicas:
            world.start(node_id)
        world.run_until(time_s=world.events.now_s + 5.0)
    world.heal()


def gone_while_all_moved(world: World) -> None:
    """All replicas move to other nodes while one is away; it comes back, then the others, and they elect nobody."""
    begin(world)
    mover, old = _mover(world), world.spec.replicas
    mover.keeps_directories = True
    away = world.rng.choice([node_id for node_id in old if node_id != leader_of(world)])
    world.crash(away, power=True, why="away")
    mover.move_to(Half(tuple(n for n in world.node_ids if n not in old)))
    wait(world, "the move did not end", lambda: mover.plan is None and mover.done == 1)
    wait_for_writes(world, 3, "no write was acknowledged by the new replicas")
    term = max(world.invariants.leaders)
    for node_id in old:
        world.crash(node_id, power=world.rng.random() < 0.5, why="out")
        world.machines[node_id].hosts = True
    for node_id in world.rng.sample(old, len(old)):
        world.start(node_id)
        world.run_until(time_s=world.events.now_s + world.rng.uniform(0.5, 4.0))
    cut_off(world, {*old})
    world.run_until(time_s=world.events.now_s + 6.0)
    if any(world.invariants.leaders[led] in old for led in world.invariants.leaders if led > term):
        raise Broken("two_leaders", "those who are out elected one of them")
    world.heal()


def steady_swap(world: World) -> None:
    """acks=all under load, with two in sync required, while one replica after another is swapped: never refused."""
    world.configure(TopicConfig(min_insync_replicas=2))
    begin(world)
    mover = _mover(world)
    wait(world, "not all replicas were in sync", lambda: len(in_sync(world)) == 2)
    refused = _refusals(world)
    world.network.delay_s = 0.01  # what is acknowledged is a little ahead of who comes
    for _ in range(6):
        done = mover.done
        [spare, *_] = [n for n in world.node_ids if n not in mover.assignment.ids]
        mover.move_to(Half((world.rng.choice(mover.assignment.replicas), spare)))
        wait(world, "the swap did not end", lambda done=done: mover.done > done)  # type: ignore[misc]
        wait_for_writes(world, 5, "no write was acknowledged after a swap")
    if _refusals(world) != refused:
        raise Broken("stuck", "acks=all was refused though two replicas of each half were well")
    world.heal()


def returning_founder(world: World) -> None:
    """The only replica has moved; its node comes back with an empty directory, copies what names it, and is cut off."""
    begin(world)
    mover, [old] = _mover(world), world.spec.replicas
    [new] = [node_id for node_id in world.node_ids if node_id != old]
    _burst(world, old, 150)
    mover.move_to(Half((new,)))
    wait(world, "the move did not end", lambda: mover.plan is None and mover.done == 1)
    machine = world.machines[old]
    if machine.running:
        world.crash(old, power=False, why="taken away")
    machine.disk.wipe("data")
    machine.forget_index()
    machine.hosts = True
    world.invariants.damaged.add(old)
    world.network.bytes_per_s = 300_000.0
    mover.move_to(Half((new, old)))
    wait(world, "nothing was copied", lambda: machine.running and machine.log.last_index > 1)
    world.crash(old, power=False, why="while it copies")
    cut_off(world, {old})
    world.start(old)
    term = max(world.invariants.leaders)
    world.run_until(time_s=world.events.now_s + 8.0)
    if max(world.invariants.leaders) != term:
        raise Broken("two_leaders", "a copy of the beginning led, since it was named alone there")
    world.network.bytes_per_s = 200e6
    world.heal()


def hasty_removal(world: World) -> None:
    """Of five under acks=all one is cut off, three are killed, one is taken out, in quick succession, again and again.

    And one alone is asked to go on without all others: nothing of that ever stands on a disk.
    """
    begin(world)
    mover, nodes = _mover(world), world.spec.replicas
    for _ in range(4):
        alone, *others = world.rng.sample(nodes, len(nodes))
        cut_off(world, {alone})
        if mover.plan is None:
            out = world.rng.choice(others)
            keep = tuple(n for n in mover.assignment.replicas if n != out)
            back = tuple(n for n in nodes if n not in mover.assignment.replicas)
            mover.move_to(Half(back + mover.assignment.replicas) if back else Half(keep))
        for node_id in world.rng.sample(nodes, 3):
            world.events.after(world.rng.uniform(0.0, 0.5), lambda n=node_id: _killed(world, n))  # type: ignore[misc]
        world.run_until(time_s=world.events.now_s + world.rng.uniform(1.0, 3.0))
        world.network.heal_all()
        world.run_until(time_s=world.events.now_s + world.rng.uniform(0.0, 4.0))
    world.heal()


def _refusals(world: World) -> int:
    return sum(client.refused_count for client in world.clients.values() if isinstance(client, Client))


def _burst(world: World, node_id: int, count: int) -> None:
    for client in world.clients.values():
        if isinstance(client, Client):
            client.burst(node_id, count)


def _killed(world: World, node_id: int) -> None:
    world.crash(node_id, power=world.rng.random() < 0.3, why="kill")
    world.restart_later(node_id)


def _mover(world: World) -> Mover:
    assert world.mover is not None, "a story about moves needs spare machines"
    return world.mover


def _halves(world: World, node_id: int) -> int:
    machine = world.machines[node_id]
    return len(machine.log.halves) if machine.running else 0


def _begin_swap(world: World) -> tuple[int, int, int]:
    """Some follower with records is to be replaced. Returns the leader, who goes and who comes."""
    wait(world, "not all replicas were in sync", lambda: in_sync(world) == world.spec.replicas)
    leader = leader_of(world)
    old = world.rng.choice([node_id for node_id in world.spec.replicas if node_id != leader])
    new = next(node_id for node_id in world.node_ids if node_id not in world.spec.voters)
    replicas = tuple(new if node_id == old else node_id for node_id in world.spec.replicas)
    _mover(world).move_to(Half(replicas, world.spec.witnesses))
    return leader, old, new


def _when_joint(world: World, leader: int, act: Callable[[], None]) -> None:
    """As soon as the leader has appended J, and before anybody else can have it."""
    _step_until(world, lambda: _halves(world, leader) == 2, "no change was begun")
    act()


def _step_until(world: World, condition: Callable[[], bool], complaint: str) -> None:
    deadline_s = world.events.now_s + 20.0
    while not condition():
        if world.events.now_s > deadline_s or not world.events.run_next():
            raise Broken("stuck", complaint)


def _wait_for_learner(world: World, leader: int, new: int) -> None:
    """It holds the leader's log, and the leader knows that."""

    def is_ready() -> bool:
        machine = world.machines[new]
        if not machine.running or world.machines[leader].replica is None or machine.log.state.doubt:
            return False
        return machine.log.last_index >= world.machines[leader].log.last_index - 1

    wait(world, "the learner does not get there", is_ready)
    world.run_until(time_s=world.events.now_s + 0.01)


def _is_unbound(world: World, node_id: int) -> bool:
    """The configuration can be torn off without the loss of anything that this replica has noted as committed."""
    machine = world.machines[node_id]
    starts = [start for start in machine.log.epoch_starts if start.halves] if machine.running else []
    return bool(starts) and machine.log.state.values.commit_bound < starts[0].index - 1


def _tear(world: World, node_id: int) -> None:
    """The tail goes, from the last batch in front of the configuration on."""
    machine = world.machines[node_id]
    offset = next(start.base_offset for start in machine.log.epoch_starts if start.halves)
    world.invariants.damaged.add(node_id)
    world.crash(node_id, power=False, why="torn")
    for path in sorted(path for path in machine.disk.files() if path.endswith(".log")):
        for position, header in split(machine.disk.files()[path]):
            if header.next_offset >= offset:
                machine.disk.truncate_durable(path, position + 10)
                machine.forget_index()
                world.note(f"n{node_id} torn at {position} of {path}")
                return
