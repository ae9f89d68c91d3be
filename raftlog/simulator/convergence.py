"""What has to become of a run once everything works: a leader, new writes, equal replicas, within bounded time."""

from __future__ import annotations

from raftlog import limits
from raftlog.simulator.clients import Client
from raftlog.simulator.consumer import ConsumingClient
from raftlog.simulator.group_ledger import GroupLedger
from raftlog.simulator.invariants import Broken
from raftlog.simulator.judgement import judge_records
from raftlog.simulator.kafka_clients import KafkaReader
from raftlog.simulator.machine import Machine
from raftlog.simulator.world import World
from raftlog.storage.log import PartitionLog
from raftlog.types import Doubt

_HEAL_S = 30.0  # virtual seconds within which a healed cluster must have a leader and be equal


def require_convergence(world: World) -> None:
    """A leader within bounded virtual time, new writes accepted, all replicas equal, everything acknowledged."""
    deadline_s = world.events.now_s + _HEAL_S
    for client in world.clients.values():
        if isinstance(client, Client) and client.stopped:
            client.go_on()
    before = {name: client.acked_count for name, client in world.clients.items()}
    while not all(client.acked_count > before[name] for name, client in world.clients.items()):
        _step_before(world, deadline_s, "no new write was acknowledged by every client")
    for client in world.clients.values():
        client.stopped = True
    for reader in world.readers.values():
        reader.stopped = True
    for trimmer in world.trimmers.values():
        trimmer.stopped = True
    if world.mover is not None:
        world.mover.finish()
    if world.invariants.latent:
        deadline_s += _scrub_s(world)
    while not _equal(world):
        _step_before(world, deadline_s, "the replicas are not equal")
    _require_readers_at_end(world)
    deadline_s = world.events.now_s + _HEAL_S
    while not _equal(world):  # retention goes on meanwhile, on one replica before it does on another
        _step_before(world, deadline_s, "the replicas are not equal")
    if world.ledger is None:
        judge_records(world)
    else:
        _judge_groups(world, world.ledger)


def _judge_groups(world: World, ledger: GroupLedger) -> None:
    """Every replica has applied what the log says, and that is no less than anybody was told."""
    deadline_s = world.events.now_s + _HEAL_S
    for node_id, machine in world.machines.items():
        assert machine.coordinator is not None and machine.host is not None
        while machine.coordinator.offsets() != ledger.committed and world.events.now_s < deadline_s:
            world.run_until(time_s=world.events.now_s + 0.01)
        ledger.judge(node_id, machine.coordinator.offsets())


def _require_readers_at_end(world: World) -> None:
    """Consumers read all that is there, whatever they went through."""
    deadline_s = world.events.now_s + _HEAL_S
    logs = [world.machines[node_id].log for node_id in world.assignment.ids]
    end_offset = max(log.log_end_offset for log in logs if isinstance(log, PartitionLog))
    for reader in world.readers.values():
        while isinstance(reader, ConsumingClient | KafkaReader) and not reader.at_end(end_offset):
            _step_before(world, deadline_s, f"{reader.name} is at {reader.due} and does not come to {end_offset}")


def _scrub_s(world: World) -> float:
    """Until a scrub that has just begun has been through the longest log, and once more."""
    logs = [machine.log for machine in world.machines.values() if machine.running and not machine.is_witness]
    steps = [log.segment_count + log.size_bytes // limits.SCRUB_BYTES for log in logs if isinstance(log, PartitionLog)]
    return (
        2 * max(limits.SCRUB_S, limits.SLEEPER_WORD_S) * (1 + max(steps, default=0))
    )  # a step ends where a segment does


def _step_before(world: World, deadline_s: float, complaint: str) -> None:
    if world.events.now_s > deadline_s or not world.events.run_next():
        states = "; ".join(_describe(machine) for machine in world.machines.values())
        plan = "" if world.mover is None else f"; {world.mover}"
        raise Broken("stuck", f"{complaint} within {_HEAL_S:.0f} s of healing: {states}{plan}")
    for node_id, machine in world.machines.items():
        if not machine.running and "did not" not in machine.stopped_because and world.stops.get(node_id):
            raise Broken("stuck", f"node {node_id} stays down: {machine.stopped_because}")


def _describe(machine: Machine) -> str:
    if machine.replica is None:
        return f"n{machine.node_id} down ({machine.stopped_because})"
    member, log = machine.replica.member, machine.log
    state = f"{member.role.kind.name}{' asleep' if member.is_asleep else ''}"
    return (
        f"n{machine.node_id} {state} term {member.term} commit {member.commit_index} "
        f"last {log.last_index} doubt {log.state.doubt.name}"
    )


def _equal(world: World) -> bool:
    hosts = world.assignment
    machines = [world.machines[node_id] for node_id in world.node_ids if node_id in hosts.ids]
    logs = [machine.log for machine in machines if machine.running]
    with_records = [machine.log for machine in machines if machine.running and not machine.is_witness]
    replicas = [machine.replica for machine in machines if machine.replica]
    members = [replica.member for replica in replicas]
    return (
        len(logs) == len(hosts.ids)
        and (world.mover is None or world.mover.is_at_rest)
        and any(member.leader_ready for member in members)
        and len({log.last_index for log in logs}) == 1
        and len({log.state.log_start_offset for log in with_records}) == 1
        and all(member.commit_index == log.last_index for member, log in zip(members, logs, strict=True))
        and all(log.state.doubt is Doubt.NONE for log in logs)
        and not set(world.invariants.latent) & {*hosts.ids}
        and any(set(replica.status().in_sync) == set(hosts.replicas) for replica in replicas)
    )
