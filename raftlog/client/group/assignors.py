"""Who of a group reads which partition: data in, data out. The group's leader decides for all.

    range                each topic in even ranges; the first members get one more of every topic
    round-robin          all partitions of all topics, dealt out in turn
    cooperative-sticky   everybody keeps what they have, as far as the balance allows (KIP-429)

The same members with the same subscriptions get the same partitions, in whatever order they are listed.

Cooperative: who has to give a partition up still reads it when the assignment is made. So it is given to nobody yet;
its owner gives it up and joins again, and this second rebalance hands it on. At no time does it have two owners.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from raftlog.client.group.sticky import Balance
from raftlog.protocol.consumer_protocol import Subscription
from raftlog.types import TopicPartition


class GroupSubscriber(NamedTuple):
    """One member, as the leader sees it. Static members are known by their instance id, which outlives them."""

    member_id: str
    subscription: Subscription
    group_instance_id: str | None = None

    def order(self) -> tuple[bool, str]:
        return (self.group_instance_id is None, self.group_instance_id or self.member_id)


Assignment = dict[str, list[TopicPartition]]
"""By member id. Members without partitions are in it too."""


class Assignor(NamedTuple):
    """A way to share partitions: `assign(members, number of partitions by topic)`.

    `name` is Kafka's and goes over the wire.

    `cooperative`: members keep their partitions while they join, and name them.
    """

    name: str
    cooperative: bool
    assign: Callable[[Sequence[GroupSubscriber], Mapping[str, int]], Assignment]


def assign_range(members: Sequence[GroupSubscriber], partitions: Mapping[str, int]) -> Assignment:
    assignment: Assignment = {member.member_id: [] for member in members}
    for topic, readers in _readers(members, partitions).items():
        share, longer = divmod(partitions[topic], len(readers))
        start = 0
        for number, reader in enumerate(readers):
            end = start + share + (number < longer)
            assignment[reader] += [TopicPartition(topic, partition) for partition in range(start, end)]
            start = end
    return assignment


def assign_round_robin(members: Sequence[GroupSubscriber], partitions: Mapping[str, int]) -> Assignment:
    assignment: Assignment = {member.member_id: [] for member in members}
    order = [member.member_id for member in sorted(members, key=GroupSubscriber.order)]
    turn = 0
    for topic, readers in _readers(members, partitions).items():
        for partition in range(partitions[topic]):
            while order[turn % len(order)] not in readers:
                turn += 1
            assignment[order[turn % len(order)]].append(TopicPartition(topic, partition))
            turn += 1
    return assignment


def assign_cooperative_sticky(members: Sequence[GroupSubscriber], partitions: Mapping[str, int]) -> Assignment:
    readers = _readers(members, partitions)
    owners = _owners(members, readers, partitions)
    balance = Balance(
        [member.member_id for member in sorted(members, key=GroupSubscriber.order)],
        readers,
        {place: owner for place, owner in owners.items() if owner is not None},
    )
    for topic in readers:
        for partition in range(partitions[topic]):
            place = TopicPartition(topic, partition)
            if owners.get(place) is None:
                balance.give(place)
    balance.settle()
    assignment: Assignment = {member.member_id: [] for member in members}
    for place, member_id in sorted(balance.owners.items()):
        # Somebody else reads it still: it is handed on once that one has given it up.
        if place not in owners or owners[place] == member_id:
            assignment[member_id].append(place)
    return assignment


def _readers(members: Sequence[GroupSubscriber], partitions: Mapping[str, int]) -> dict[str, list[str]]:
    """Member ids by topic, both in their order; topics that do not exist are left out."""
    readers: dict[str, list[str]] = {}
    for member in sorted(members, key=GroupSubscriber.order):
        for topic in dict.fromkeys(member.subscription.topics):
            if partitions.get(topic):
                readers.setdefault(topic, []).append(member.member_id)
    return dict(sorted(readers.items()))


def _owners(
    members: Sequence[GroupSubscriber], readers: Mapping[str, list[str]], partitions: Mapping[str, int]
) -> dict[TopicPartition, str | None]:
    """Whose claim holds. None: somebody reads it who has to give it up, so that nobody gets it in this round."""
    owners: dict[TopicPartition, str | None] = {}
    generations: dict[TopicPartition, int] = {}
    for member_id, (_topics, owned, generation), _instance in members:
        for place in set(owned):
            if not 0 <= place.partition < partitions.get(place.topic, 0):
                continue
            newest = generations.get(place, -2)
            if generation < newest:
                continue
            generations[place] = generation
            reads = member_id in readers.get(place.topic, ())
            # Two claims of one generation cannot be: whoever of them is wrong, both give it up.
            owners[place] = member_id if reads and generation > newest else None
    return owners


ASSIGNORS = {
    "range": Assignor("range", False, assign_range),
    "round-robin": Assignor("roundrobin", False, assign_round_robin),
    "cooperative-sticky": Assignor("cooperative-sticky", True, assign_cooperative_sticky),
}
