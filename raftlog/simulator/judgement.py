"""The last judgement of a run, once the replicas are equal: everything promised is there, once, and in order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raftlog.partition.replica import Replica
from raftlog.record.batch import decode, split
from raftlog.simulator.invariants import Broken
from raftlog.simulator.keyed_records import Held, held, last_values, may_be_gone, newest_offsets

if TYPE_CHECKING:
    from raftlog.simulator.machine import Machine
    from raftlog.simulator.world import World

Content = dict[int, Held]


def judge_records(world: World) -> None:
    """Every acknowledged value stands at its offset on every replica, offsets without a gap.

    In a compacted topic it may be gone where a newer one of its key stands, and the replicas have to agree on the last
    value of each key.
    """
    holders = world.assignment.replicas
    contents = {node_id: _read_all(world.machines[node_id]) for node_id in holders}
    first = holders[0]
    for node_id, content in contents.items():
        if not world.compacted and content != contents[first]:
            raise Broken("diverged", f"nodes {first} and {node_id} hold other records")
        if world.compacted and last_values(content) != last_values(contents[first]):
            raise Broken("diverged", f"nodes {first} and {node_id} hold other last values")
        _judge(world, node_id, content)


def _judge(world: World, node_id: int, content: Content) -> None:
    log_start = world.machines[node_id].log.state.log_start_offset
    start = min(content, default=0)
    if not world.compacted and list(content) != list(range(start, start + len(content))):
        raise Broken("lost", "the offsets have a gap")

    newest = newest_offsets(content) if world.compacted else {}

    def require(offset: int, name: bytes, what: str) -> None:
        there = content.get(offset)
        if there is None and world.compacted and may_be_gone(name, offset, newest):
            return
        if there is None or not there.name.startswith(name):
            raise Broken("lost", f"{name!r} was {what} at offset {offset} and is not there, on node {node_id}")

    start = log_start if world.compacted else start
    for offset, name in world.read.items():
        if offset >= start:
            require(offset, name, "read")
    for base_offset, (value, records) in world.acked.items():
        for number in range(records):
            if base_offset + number >= start:
                require(base_offset + number, value + b"%d:" % number, "acknowledged")
    for client in world.clients.values():
        client.judge({offset: there.name for offset, there in content.items()})
    for trimmer in world.trimmers.values():
        trimmer.judge(log_start)


def _read_all(machine: Machine) -> Content:
    replica = machine.replica
    assert isinstance(replica, Replica)
    found: Content = {}
    offset = machine.log.state.log_start_offset
    while data := replica.read_committed(offset, 1 << 20):
        for record in decode(data):
            if record.offset >= offset:
                found[record.offset] = held(record)
        *_, (_, last) = split(data)
        offset = last.next_offset
    return found
