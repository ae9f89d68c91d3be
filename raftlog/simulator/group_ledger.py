"""What a group was promised, and what its log says: members, generations and committed offsets, in the log's order.

an offset is committed by a member of the generation of that moment, of a partition that nobody else has in it
a committed offset never goes back, and what was told as committed is never told to be less
what was told is applied BEFORE it is told, on the very replica that tells
a partition is handed out by one member at a time, and taken by one in a generation
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from raftlog.coordinator.coordinator import Coordinator
from raftlog.coordinator.records import GroupValue, OffsetKey, decode_group, decode_key, decode_offset
from raftlog.protocol.consumer_protocol import decode_assignment
from raftlog.protocol.groups import OffsetCommitRequest
from raftlog.simulator.invariants import Broken

Offsets = dict[int, int]  # partition -> offset


class WatchedCoordinator(Coordinator):
    """The product's coordinator; `watch` sees each record that it applies."""

    def __init__(self, mint_id: Callable[[str], str], watch: Callable[[int, bytes, bytes | None], None]) -> None:
        super().__init__(mint_id)
        self._watch = watch

    def apply(self, offset: int, key: bytes | None, value: bytes | None) -> None:
        super().apply(offset, key, value)
        assert key is not None, "a coordinator writes keys"
        self._watch(offset, key, value)

    def offsets(self) -> Offsets:
        """What this replica would answer of the one group there is."""
        keys = self.committed.offset_keys(GROUP)
        values = [(key.partition, self.committed.offset(data)) for data, key in keys.items()]
        return {partition: value.offset for partition, value in values if value is not None}


GROUP = "readers"


class _Sent(NamedTuple):
    """One attempt of a commit."""

    member_id: str
    generation: int
    offsets: Offsets


class GroupLedger:
    """The one true history of one group. `acked_count`: commits that a member was told of."""

    def __init__(self) -> None:
        self.acked_count = 0
        self.told: Offsets = {}  # the highest that somebody was told to be committed
        self.committed: Offsets = {}  # as the log says, up to `_end_offset`
        self.generations: dict[int, GroupValue] = {}
        self._end_offset = 0
        self._log: dict[int, tuple[bytes, bytes | None]] = {}
        self._sent: dict[tuple[int, int], list[_Sent]] = {}  # (committer, sequence) -> its attempts
        self._newest: GroupValue | None = None
        self._taken: dict[tuple[int, int], str] = {}  # (generation, partition) -> member

    # --- the log -------------------------------------------------------------------------------
    def on_applied(self, offset: int, key: bytes, value: bytes | None) -> None:
        """On any replica, again after each of its starts."""
        if offset < self._end_offset:
            known = self._log.get(offset, (key, value))
            if known != (key, value):
                raise Broken("diverged", f"offset {offset} was applied as {known!r} and as {(key, value)!r}")
            return
        self._end_offset = offset + 1
        self._log[offset] = key, value
        known_key = decode_key(key)
        if value is None:
            if self.committed:
                raise Broken("lost", f"{known_key} was forgotten at offset {offset}")
            self._newest = None  # nobody was left before anything was committed: generations begin anew
            self.generations.clear()
            self._taken.clear()
        elif isinstance(known_key, OffsetKey):
            self._on_offset(known_key.partition, value)
        else:
            self._on_generation(decode_group(value))

    def _on_generation(self, value: GroupValue) -> None:
        if self._newest is not None and value.generation < self._newest.generation:
            raise Broken("diverged", f"generation {value.generation} follows {self._newest.generation}")
        owners: dict[int, str] = {}
        for member in value.members:
            for place in decode_assignment(member.assignment):
                other = owners.setdefault(place.partition, member.member_id)
                if other != member.member_id:
                    raise Broken("diverged", f"generation {value.generation} gives {place} to two members")
        self._newest = self.generations[value.generation] = value

    def _on_offset(self, partition: int, data: bytes) -> None:
        value = decode_offset(data)
        before = self.committed.get(partition, -1)
        if value.offset < before:
            raise Broken("lost", f"partition {partition} was committed up to {before}, then {value.offset}")
        self.committed[partition] = value.offset
        attempts = self._sent.get((value.committer_id, value.sequence), [])
        if not any(attempt.offsets.get(partition) == value.offset for attempt in attempts):
            raise Broken("diverged", f"{value.offset} of partition {partition} was committed, and nobody has sent it")
        if not any(self._may_commit(attempt, partition) for attempt in attempts):
            raise Broken("diverged", f"partition {partition} was committed by {attempts} in {self._newest}")

    def _may_commit(self, attempt: _Sent, partition: int) -> bool:
        """Whether it is of the newest generation, in which nobody else has the partition."""
        newest = self._newest
        if newest is None or attempt.generation < newest.generation:
            return False
        others = [member for member in newest.members if member.member_id != attempt.member_id]
        has_it = {place.partition for member in others for place in decode_assignment(member.assignment)}
        is_member = len(others) < len(newest.members) or attempt.generation > newest.generation
        return is_member and partition not in has_it

    # --- members -------------------------------------------------------------------------------
    def on_sent(self, request: OffsetCommitRequest) -> None:
        offsets = {each.partition: each.offset for each in request.offsets}
        attempt = _Sent(request.member_id, request.generation_id, offsets)
        self._sent.setdefault((request.committer_id, request.sequence), []).append(attempt)

    def on_taken(self, generation: int, partitions: Iterable[int], member: str) -> None:
        for partition in partitions:
            owner = self._taken.setdefault((generation, partition), member)
            if owner != member:
                raise Broken("diverged", f"partition {partition} has two owners in {generation}: {owner} and {member}")

    def two_owners(self, partitions: Iterable[int], one: str, other: str) -> None:
        raise Broken("diverged", f"partitions {sorted(partitions)} are handed out by {one} and {other}")

    # --- answers -------------------------------------------------------------------------------
    def on_commit_told(self, applied: Offsets, offsets: Offsets) -> None:
        """A replica is about to say that these are committed, and has `applied` this."""
        for partition, offset in offsets.items():
            if applied.get(partition, -1) < offset:
                raise Broken("lost", f"{offset} of partition {partition} was told before it was applied: {applied}")

    def on_share_told(self, generation: int, member_id: str, assignment: bytes) -> None:
        """A member is about to hear its share of a generation, which has to be in the log."""
        members = {member.member_id: member for member in getattr(self.generations.get(generation), "members", ())}
        known = members.get(member_id)
        if known is None or known.assignment != assignment:
            raise Broken("lost", f"a share of generation {generation} was told before it was committed")

    def on_committed(self, offsets: Offsets) -> None:
        """A member has heard that its commit is done."""
        self.acked_count += 1
        for partition, offset in offsets.items():
            self.told[partition] = max(self.told.get(partition, -1), offset)

    def on_fetched(self, asked: Iterable[int], floor: Offsets, found: Offsets, who: str) -> None:
        """`floor`: what was told before this was asked."""
        for partition in asked:
            if found.get(partition, -1) < floor.get(partition, -1):
                was = floor[partition]
                raise Broken("lost", f"{who} is sent to {found.get(partition)} of {partition}, {was} was committed")
        for partition, offset in found.items():
            if offset > self.committed.get(partition, -1):
                raise Broken("diverged", f"{offset} of partition {partition} was read, and is not committed")
            self.told[partition] = max(self.told.get(partition, -1), offset)

    def judge(self, node_id: int, applied: Offsets) -> None:
        """At the end, of each replica."""
        if applied != self.committed:
            raise Broken("diverged", f"node {node_id} holds {applied}, the log says {self.committed}")
        if any(self.committed.get(partition, -1) < offset for partition, offset in self.told.items()):
            raise Broken("lost", f"{self.told} was told, and {self.committed} is committed")
