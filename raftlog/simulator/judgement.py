"""The last judgement of a run, once the replicas are equal: everything promised is there, once, and in order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raftlog.partition.replica import Replica
from raftlog.record.batch import decode
from raftlog.simulator.invariants import Broken
from raftlog.simulator.readers import VALUE_BYTES

if TYPE_CHECKING:
    from raftlog.simulator.machine import Machine
    from raftlog.simulator.world import World

Content = dict[int, bytes]


def judge_records(world: World) -> None:
    """Every acknowledged value stands at its offset on every replica, offsets without a gap."""
    holders = world.spec.replicas
    contents = [_read_all(world.machines[node_id]) for node_id in holders]
    for node_id, other in zip(holders, contents, strict=True):
        if other != contents[0]:
            raise Broken("diverged", f"nodes {holders[0]} and {node_id} hold other records")
    content = contents[0]
    start = min(content, default=0)
    if list(content) != list(range(start, start + len(content))):
        raise Broken("lost", "the offsets have a gap")
    for offset, value in world.read.items():
        if offset >= start and content.get(offset) != value:
            raise Broken("lost", f"{value!r} was read at offset {offset} and is not there")
    for base_offset, (value, records) in world.acked.items():
        for number in range(records):
            offset = base_offset + number
            if offset >= start and not content.get(offset, b"").startswith(value + b"%d:" % number):
                raise Broken("lost", f"acknowledged {value!r} is not at offset {offset}")
    for client in world.clients.values():
        client.judge(content)
    for trimmer in world.trimmers.values():
        for node_id in holders:
            trimmer.judge(world.machines[node_id].log.log_start_offset)


def _read_all(machine: Machine) -> Content:
    replica = machine.replica
    assert isinstance(replica, Replica)
    found: Content = {}
    offset = machine.log.log_start_offset
    while data := replica.read_committed(offset, 1 << 20):
        for record in decode(data):
            if record.offset >= offset:
                found[record.offset] = (record.value or b"")[:VALUE_BYTES]
        offset = max(found) + 1
    return found
