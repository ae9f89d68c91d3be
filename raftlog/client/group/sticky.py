"""The balance of the cooperative-sticky assignor: the least change that makes the loads as even as they can be.

Loads are even when no partition, and no chain of partitions handed on from member to member, can go from somebody to
somebody with at least two fewer. Such chains are what different subscriptions need: the one with too much may share no
topic with the one with too little (an optimal semi-matching, by cost-reducing paths).

Partitions that nobody had move first. So the second rebalance of a cooperative one, which finds a part of the first
one's result and the rest without an owner, moves nothing that has one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from raftlog.types import TopicPartition

Step = tuple[str, str, str]  # from this member to that one, a partition of this topic
Held = dict[str, dict[str, list[TopicPartition]]]  # by member and topic


class Balance:
    """An assignment while it is being evened out.

    `readers`: members by topic; `claimed`: partitions that their owners would rather keep.
    """

    def __init__(
        self, members: Sequence[str], readers: Mapping[str, Sequence[str]], claimed: Mapping[TopicPartition, str]
    ) -> None:
        self.owners: dict[TopicPartition, str] = {}
        self._readers = readers
        self._order = {member_id: number for number, member_id in enumerate(members)}
        self._load = dict.fromkeys(members, 0)
        self._claimed = claimed
        self._kept: Held = {member_id: {} for member_id in members}
        self._free: Held = {member_id: {} for member_id in members}  # those that nobody claimed
        for place in sorted(claimed):
            self._put(place, claimed[place])

    def give(self, place: TopicPartition) -> None:
        """One that has no owner goes to whoever has the least."""
        self._put(place, min(self._readers[place.topic], key=lambda reader: (self._load[reader], self._order[reader])))

    def _put(self, place: TopicPartition, member_id: str) -> None:
        self.owners[place] = member_id
        self._load[member_id] += 1
        held = self._kept if place in self._claimed else self._free
        held[member_id].setdefault(place.topic, []).append(place)

    def settle(self) -> None:
        for moving in ((self._free,), (self._free, self._kept)):
            while path := self._improvement(moving):
                for giver, taker, topic in path:
                    self._move(giver, taker, topic, moving)

    def _move(self, giver: str, taker: str, topic: str, moving: Sequence[Held]) -> None:
        held = next(held for held in moving if held[giver].get(topic))
        place = held[giver][topic].pop()
        self._load[giver] -= 1
        self._put(place, taker)

    def _improvement(self, moving: Sequence[Held]) -> list[Step]:
        least = min(self._load.values(), default=0)
        givers = sorted(self._load, key=lambda member_id: (-self._load[member_id], self._order[member_id]))
        for giver in givers:
            if self._load[giver] < least + 2:
                return []
            if path := self._path(giver, moving):
                return path
        return []

    def _path(self, giver: str, moving: Sequence[Held]) -> list[Step]:
        """From `giver` to whoever has the least of all that can be reached, the nearest of those."""
        reached: dict[str, Step | None] = {giver: None}
        best = giver
        for member_id in (queue := [giver]):
            topics = sorted({topic for held in moving for topic, places in held[member_id].items() if places})
            for topic in topics:
                for reader in self._readers[topic]:
                    if reader not in reached:
                        reached[reader] = (member_id, reader, topic)
                        queue.append(reader)
                        if self._load[reader] < self._load[best]:
                            best = reader
        if self._load[giver] - self._load[best] < 2:
            return []
        path = []
        step = reached[best]
        while step is not None:
            path.append(step)
            step = reached[step[0]]
        # From the far end on: nobody hands on what was only handed to them on this way.
        return path
