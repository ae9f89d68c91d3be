"""Named stories, longer than the mix: each is worth a run of its own on many seeds."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from raftlog.simulator.clients import Client
from raftlog.simulator.compaction_scenarios import compaction, lost_tombstones
from raftlog.simulator.configuration_scenarios import configurations
from raftlog.simulator.faults import Faults
from raftlog.simulator.group_scenarios import groups, hung_coordinator
from raftlog.simulator.invariants import Broken
from raftlog.simulator.kafka_scenarios import kafka_door
from raftlog.simulator.move_scenarios import (
    gone_while_all_moved,
    hasty_removal,
    moves,
    out_of_sync_promotion,
    returning_founder,
    steady_swap,
    torn_promotion,
    untold_voter,
)
from raftlog.simulator.producer import add_producers
from raftlog.simulator.sleep_scenarios import SLEEP_SCENARIOS
from raftlog.simulator.stories import begin, cut_off, leader_of, leads, under, wait_for_writes
from raftlog.simulator.witness_scenarios import alone_in_sync, any_minority
from raftlog.simulator.world import MAX_RECORD_BYTES, World
from raftlog.types import TopicConfig


def stale_majority(world: World) -> None:
    """A minority is cut off for 30 s, one node of the rest loses power, then stale nodes and the amnesiac meet."""
    begin(world)
    order = world.rng.sample(world.node_ids, len(world.node_ids))
    minority = set(order[: (len(order) - 1) // 2])
    rest = [node_id for node_id in order if node_id not in minority]
    cut_off(world, minority)
    world.run_until(time_s=36.0)
    amnesiac = world.rng.choice(rest)
    world.crash(amnesiac, power=True, why="amnesiac")
    # With witnesses, one that was in sync alone holds the only copy: losing that is beyond what is promised.
    kept = amnesiac in world.spec.witnesses or set(rest) - {amnesiac, *world.spec.witnesses}
    if world.rng.random() < 0.5 and kept:
        world.invariants.damaged.add(amnesiac)
        world.machines[amnesiac].disk.wipe("data")
        world.machines[amnesiac].forget_index()
        world.note(f"n{amnesiac} wipe")
    others = set(rest) - {amnesiac}
    for node_id in others:
        world.crash(node_id, power=False, why="away")
    world.network.heal_all()
    world.start(amnesiac)
    before = world.invariants.commit_index
    world.run_until(time_s=46.0)
    if (
        world.invariants.commit_index != before
        and len(minority) + 1 > len(world.node_ids) // 2
        and amnesiac in (world.invariants.damaged)
    ):
        raise Broken("lost", "stale nodes and an amnesiac committed without the ones who know")
    world.heal()


def whole_cluster_power(world: World) -> None:
    """Power fails for all nodes at once, again and again, each time in the middle of writing: many torn tails."""
    if world.rng.random() < 0.5:
        world.add_clients(2, think_s=0.05, depth=4)
        for node_id in world.node_ids:
            world.start(node_id)
        world.run_until(time_s=3.0)
    else:
        begin(world)
    for _ in range(8):
        for node_id in world.node_ids:
            world.crash(node_id, power=True, why="mains")
        for node_id in world.rng.sample(world.node_ids, len(world.node_ids)):
            world.restart_later(node_id)
        world.run_until(time_s=world.events.now_s + world.rng.uniform(1.5, 5.0))
    world.heal()


def torn_tails(world: World) -> None:
    """Any number of nodes come back with zeros behind what they synced: a majority in doubt elects by all votes."""
    begin(world)
    for _ in range(6):
        torn = world.rng.sample(world.node_ids, world.rng.randint(1, len(world.node_ids)))
        for node_id in torn:
            world.crash(node_id, power=False, why="torn")
            disk = world.machines[node_id].disk
            segments = [path for path in disk.files() if path.endswith(".log")]
            if segments:
                file = disk.open(segments[-1])
                file.append(bytes(world.rng.randint(1, 200)))
                file.sync()
            world.restart_later(node_id)
        wait_for_writes(world, 1, f"no write was acknowledged with torn tails on {torn}")
        world.run_until(time_s=world.events.now_s + world.rng.uniform(0.0, 2.0))
    world.heal()


def returning_node(world: World) -> None:
    """A node comes back after 20 s again and again; the healthy leader of the others is not deposed."""
    begin(world)
    leaders = {node for node in world.node_ids if leads(world, node)}
    if not leaders:
        raise Broken("stuck", "no leader after 6 s without a fault")
    leader = leaders.pop()
    term = max(world.invariants.leaders)
    away = world.rng.choice([node_id for node_id in world.node_ids if node_id != leader])
    for _ in range(3):
        cut_off(world, {away})
        world.run_until(time_s=world.events.now_s + 20.0)
        world.network.heal_all()
        world.run_until(time_s=world.events.now_s + 5.0)
    if max(world.invariants.leaders) != term:
        raise Broken("stuck", f"a returning node deposed the healthy leader of term {term}")
    world.heal()


def restless_voter(world: World) -> None:
    """The old leader and a new one cannot hear each other; the voter between them restarts just after its vote."""
    begin(world)
    for _ in range(10):
        old = leader_of(world) or world.rng.choice(world.node_ids)
        voter = world.rng.choice([node_id for node_id in world.node_ids if node_id != old])
        others = set(world.node_ids) - {voter}
        for a in others:
            for b in others - {a}:
                world.network.cut(a, b)
        world.network.delay_s = world.rng.uniform(0.02, 0.1)
        world.crash(old, power=False, why="away")
        term, deadline_s = max(world.invariants.leaders, default=0), world.events.now_s + 4.0
        while max(world.invariants.leaders, default=0) == term and world.events.now_s < deadline_s:
            world.run_until(time_s=world.events.now_s + 0.005)
        cut_off(world, {world.invariants.leaders.get(max(world.invariants.leaders, default=0), old)})
        world.crash(voter, power=world.rng.random() < 0.5, why="restless")
        world.events.after(0.001, partial(world.start, voter))
        world.start(old)
        world.run_until(time_s=world.events.now_s + 3.0)
        world.network.heal_all()
        world.run_until(time_s=world.events.now_s + 2.0)
    world.heal()


def moving_leader(world: World) -> None:
    """Whoever leads is cut off while it goes on appending; answers of an older leadership arrive during a newer one."""
    begin(world)
    for _ in range(25):
        for node_id in world.node_ids:
            if leads(world, node_id):
                cut_off(world, {node_id})
        world.run_until(time_s=world.events.now_s + world.rng.uniform(1.0, 2.5))
        world.network.heal_all()
        world.run_until(time_s=world.events.now_s + world.rng.uniform(0.2, 1.5))
    world.heal()


def late_answers(world: World) -> None:
    """What a follower answered an older leadership arrives in a newer one of the same node, after both were cut.

    A leader and one follower share a tail that nobody else has. Both are cut off, others lead, both are truncated.
    The same leader, in the same boot, comes to lead again; a copy of the old answer arrives while the follower is out
    of reach and the new entries stand at the same indexes.
    """
    world.add_clients(2, think_s=0.3, depth=1)
    for node_id in world.node_ids:
        world.start(node_id)
    world.run_until(time_s=6.0)
    for _ in range(6):
        _late_answers_once(world)
        world.network.heal_all()
        world.run_until(time_s=world.events.now_s + 3.0)
    world.heal()


def _late_answers_once(world: World) -> None:
    network = world.network
    client = next(client for client in world.clients.values() if isinstance(client, Client))
    leader = leader_of(world)
    if not leader:
        return
    others = [node_id for node_id in world.node_ids if node_id != leader]
    follower, only, *_ = world.rng.sample(others, len(others))
    cut_off(world, {leader, follower})
    client.burst(leader, 60)
    world.run_until(time_s=world.events.now_s + 0.2)
    cut_off(world, {follower})
    world.run_until(time_s=world.events.now_s + 3.5)  # the rest elects a leader of its own
    for node_id in world.node_ids:
        if node_id not in (leader, follower):
            for alone in (leader, follower):
                network.heal(node_id, alone)
                network.heal(alone, node_id)
    network.heal(leader, follower)
    world.run_until(time_s=world.events.now_s + 2.5)  # both are truncated; the old answers are still under way
    for _ in range(200):
        at_work = leader_of(world)
        replica = world.machines[at_work].replica if at_work else None
        if replica is not None and at_work != leader:
            replica.member.transfer_to(leader)
        if at_work == leader:
            break
        world.run_until(time_s=world.events.now_s + 0.02)
    for node_id in others:
        if node_id != only:
            network.cut(leader, node_id)
    client.burst(leader, 60)
    network.heal(follower, leader)
    world.run_until(time_s=world.events.now_s + 2.5)


def narrow_links(world: World) -> None:
    """Slow, narrow links under a load that they can just carry: a node that was away still catches up."""
    world.add_clients(2, think_s=0.02, depth=4)
    for node_id in world.node_ids:
        world.start(node_id)
    world.network.bytes_per_s = 600_000.0
    world.run_until(time_s=5.0)
    away = world.rng.choice(world.node_ids)
    cut_off(world, {away})
    world.run_until(time_s=15.0)
    world.network.heal_all()
    world.network.delay_s = 0.15
    world.run_until(time_s=25.0)
    world.heal()


def retries(world: World) -> None:
    """Producers that ask again whatever they do not know the outcome of, under all faults; a short retention."""
    world.configure(TopicConfig(segment_bytes=4096, retention_bytes=world.rng.choice((-1, 20_000))))
    add_producers(world, 2, think_s=0.03)
    world.add_clients(1, think_s=0.1, depth=1)
    for node_id in world.node_ids:
        world.start(node_id)
    faults = Faults(world)
    world.run_until(steps=2500)
    faults.stop()
    world.heal()


def hung_leader(world: World) -> None:
    """Whoever leads hangs for 0.5 to 8 s, with its clients connected, while the others go on.

    Just before it wakes others take the consumers' places: it has known them for long, and holds a part of what they
    have to read next.
    """
    world.add_clients(1, think_s=0.05, depth=2)
    world.add_readers(3)
    for node_id in world.node_ids:
        world.start(node_id)
    world.run_until(time_s=3.0)
    for _ in range(8):
        leader = leader_of(world)
        seconds = world.rng.choice((0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 8.0))
        wakes_s = world.events.now_s + seconds
        if leader:
            world.pause(leader, seconds)
        world.run_until(time_s=wakes_s - world.rng.uniform(0.0, min(1.5, seconds)))
        for group in world.groups:
            group.take_over()
        world.run_until(time_s=wakes_s + world.rng.uniform(0.5, 3.0))
    world.heal()


def behind_horizon(world: World) -> None:
    """A node is away while retention moves the head beyond its log: it starts over at the horizon."""
    config = TopicConfig(segment_bytes=4096, retention_bytes=20_000)
    world.configure(config)
    begin(world)
    away = world.rng.choice(world.node_ids)
    cut_off(world, {away})
    world.run_until(time_s=world.events.now_s + 15.0)
    horizons = [machine.log.state.horizon_index for machine in world.machines.values() if machine.running]
    stale_index = world.machines[away].log.last_index
    if max(horizons) <= stale_index:
        raise Broken("stuck", f"retention did not pass the absent node: horizons {horizons}, its end {stale_index}")
    world.heal()


def moving_horizon(world: World) -> None:
    """Retention goes on while nodes are away, lose power or their disks: resets meet crashes, doubt and full disks."""
    world.configure(TopicConfig(segment_bytes=4096, retention_bytes=15_000, max_record_bytes=MAX_RECORD_BYTES))
    world.add_clients(1, think_s=0.05, depth=2)
    add_producers(world, 1, think_s=0.05)
    world.add_readers(1)
    under(world, ["isolate", "cut", "power", "kill", "wipe", "pause", "delay", "disk_full", "fail_point", "garble"])


def trimmed_head(world: World) -> None:
    """Records are deleted up to any offset while nodes are away, lose power or their disks, and leaders change."""
    retention_bytes = world.rng.choice((-1, -1, 20_000))
    world.configure(TopicConfig(segment_bytes=4096, retention_bytes=retention_bytes, max_record_bytes=MAX_RECORD_BYTES))
    world.add_clients(1, think_s=0.05, depth=2)
    add_producers(world, 1, think_s=0.05)
    world.add_readers(1)
    world.add_trimmer()
    kinds = ["isolate", "cut", "power", "kill", "wipe", "pause", "delay", "disk_full", "fail_point", "hand_over"]
    under(world, kinds)


def no_room(world: World) -> None:
    """Disks fill up and have room again while leaders change and segments roll."""
    world.configure(TopicConfig(segment_bytes=4096, retention_bytes=40_000, max_record_bytes=MAX_RECORD_BYTES))
    world.add_clients(2, think_s=0.05, depth=2)
    under(world, ["disk_full", "disk_full", "disk_full", "hand_over", "isolate", "kill", "power", "wipe"])


SCENARIOS: dict[str, Callable[[World], None]] = {
    "stale-majority": stale_majority,
    "whole-cluster-power": whole_cluster_power,
    "torn-tails": torn_tails,
    "returning-node": returning_node,
    "behind-horizon": behind_horizon,
    "retries": retries,
    "restless-voter": restless_voter,
    "moving-leader": moving_leader,
    "narrow-links": narrow_links,
    "moving-horizon": moving_horizon,
    "trimmed-head": trimmed_head,
    "no-room": no_room,
    "compaction": compaction,
    "lost-tombstones": lost_tombstones,
    "configurations": configurations,
    "moves": moves,
    "untold-voter": untold_voter,
    "out-of-sync-promotion": out_of_sync_promotion,
    "torn-promotion": torn_promotion,
    "gone-while-all-moved": gone_while_all_moved,
    "steady-swap": steady_swap,
    "returning-founder": returning_founder,
    "hasty-removal": hasty_removal,
    "any-minority": any_minority,
    "alone-in-sync": alone_in_sync,
    "late-answers": late_answers,
    "hung-leader": hung_leader,
    "groups": groups,
    "hung-coordinator": hung_coordinator,
    "kafka-door": kafka_door,
    **SLEEP_SCENARIOS,
}
# Stories about a compacted topic.
COMPACTED = ("compaction", "lost-tombstones")
# Stories about witnesses, whatever the seed.
WITH_WITNESSES = ("any-minority", "alone-in-sync", "out-of-sync-promotion")
# Stories about a group, whose coordinator runs on the machines. They have no witnesses, as the offsets topic has none.
COORDINATED = ("groups", "hung-coordinator")
# Other stories without any, whatever the seed.
WITHOUT_WITNESSES = (
    *COORDINATED,
    "untold-voter",
    "torn-promotion",
    "gone-while-all-moved",
    "steady-swap",
    "hasty-removal",
    "refused-forever",
    "asleep-without-one",
)
# Stories in which a group sleeps soon.
SLEEPY = ("sleepers",)
# Machines beyond those that found the group, for its replicas to move to.
SPARES = {
    "moves": 3,
    "untold-voter": 1,
    "out-of-sync-promotion": 1,
    "torn-promotion": 1,
    "gone-while-all-moved": 3,
    "steady-swap": 2,
    "returning-founder": 1,
    "hasty-removal": 1,
}
NODES = {
    "late-answers": 5,
    "torn-promotion": 2,
    "steady-swap": 2,
    "returning-founder": 1,
    "hasty-removal": 5,
}  # replicas that a story needs; 3 where it does not say
