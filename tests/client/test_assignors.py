"""What every assignor holds for any members, topics and histories; and what only the cooperative one does."""

from __future__ import annotations

import random
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftlog.client.group.assignors import ASSIGNORS, Assignment, Assignor, GroupSubscriber
from raftlog.protocol.consumer_protocol import Subscription
from raftlog.types import TopicPartition

TOPICS = ("a", "b", "c", "d")
STICKY = ASSIGNORS["cooperative-sticky"]
PARTITIONS = st.dictionaries(st.sampled_from(TOPICS), st.integers(1, 9), max_size=4)
NAMES = st.lists(st.sampled_from([f"m{number}" for number in range(8)]), min_size=1, max_size=8, unique=True)
SUBSCRIPTIONS = st.dictionaries(
    st.sampled_from([f"m{number}" for number in range(8)]),
    st.lists(st.sampled_from(TOPICS), max_size=4, unique=True),
    min_size=1,
    max_size=8,
)
EVERY = pytest.mark.parametrize("assignor", ASSIGNORS.values(), ids=ASSIGNORS)


def members_of(subscriptions: Mapping[str, list[str]]) -> list[GroupSubscriber]:
    return [GroupSubscriber(name, Subscription(tuple(topics))) for name, topics in subscriptions.items()]


def all_of(partitions: Mapping[str, int]) -> set[TopicPartition]:
    return {TopicPartition(topic, number) for topic, count in partitions.items() for number in range(count)}


def owners_of(assignment: Assignment) -> dict[TopicPartition, str]:
    pairs = [(place, member_id) for member_id, places in assignment.items() for place in places]
    assert len({place for place, _ in pairs}) == len(pairs), "a partition has two owners"
    return dict(pairs)


class Group:
    """Members with what they own, through the two rebalances of a cooperative change."""

    def __init__(self, subscriptions: Mapping[str, list[str]], partitions: Mapping[str, int]) -> None:
        self.subscriptions = dict(subscriptions)
        self.partitions = dict(partitions)
        self.owned: dict[str, set[TopicPartition]] = {}
        self.generation = 0

    def rebalance(self) -> dict[TopicPartition, str]:
        """Until nobody has to give anything up: two rounds at most. At no time has a partition two owners."""
        for _ in range(2):
            subscribers = [
                GroupSubscriber(name, Subscription(tuple(topics), tuple(self.owned.get(name, ())), self.generation))
                for name, topics in self.subscriptions.items()
            ]
            assignment = STICKY.assign(subscribers, self.partitions)
            self.generation += 1
            before = {name: self.owned.get(name, set()) for name in self.subscriptions}
            revoked = any(before[name] - set(assignment[name]) for name in before)
            # Each takes its assignment when it gets it: some are still where they were.
            for place, owner in owners_of(assignment).items():
                assert all(name == owner or place not in owned for name, owned in before.items())
            self.owned = {name: set(places) for name, places in assignment.items()}
            if not revoked:
                break
        else:
            again = STICKY.assign(
                [
                    GroupSubscriber(name, Subscription(tuple(topics), tuple(self.owned[name]), self.generation))
                    for name, topics in self.subscriptions.items()
                ],
                self.partitions,
            )
            assert owners_of(again) == self.owners(), "a third round moves something"
        return self.owners()

    def owners(self) -> dict[TopicPartition, str]:
        return {place: name for name, places in self.owned.items() for place in places}


@EVERY
@given(SUBSCRIPTIONS, PARTITIONS)
def test_every_partition_has_one_owner_among_its_subscribers(
    assignor: Assignor, subscriptions: dict[str, list[str]], partitions: dict[str, int]
) -> None:
    assignment = assignor.assign(members_of(subscriptions), partitions)
    assert set(assignment) == set(subscriptions)
    owners = owners_of(assignment)
    read = {topic for topics in subscriptions.values() for topic in topics}
    assert set(owners) == {place for place in all_of(partitions) if place.topic in read}
    assert all(place.topic in subscriptions[owner] for place, owner in owners.items())


@EVERY
@given(SUBSCRIPTIONS, PARTITIONS, st.randoms())
def test_the_order_in_which_members_are_listed_changes_nothing(
    assignor: Assignor, subscriptions: dict[str, list[str]], partitions: dict[str, int], rng: random.Random
) -> None:
    members = members_of(subscriptions)
    shuffled = rng.sample(members, len(members))
    assert assignor.assign(members, partitions) == assignor.assign(shuffled, partitions)


@pytest.mark.parametrize("name", ["round-robin", "cooperative-sticky"])
@given(NAMES, PARTITIONS)
def test_equal_subscriptions_get_loads_within_one(name: str, names: list[str], partitions: dict[str, int]) -> None:
    assignment = ASSIGNORS[name].assign(members_of({member: list(TOPICS) for member in names}), partitions)
    loads = [len(places) for places in assignment.values()]
    assert max(loads) - min(loads) <= 1


@given(SUBSCRIPTIONS, PARTITIONS)
def test_range_gives_each_subscriber_of_a_topic_one_range_within_one_of_the_others(
    subscriptions: dict[str, list[str]], partitions: dict[str, int]
) -> None:
    assignment = ASSIGNORS["range"].assign(members_of(subscriptions), partitions)
    for topic in partitions:
        ranges = [
            [place.partition for place in assignment[name] if place.topic == topic]
            for name, topics in subscriptions.items()
            if topic in topics
        ]
        assert all(numbers == list(range(numbers[0], numbers[0] + len(numbers))) for numbers in ranges if numbers)
        assert not ranges or max(map(len, ranges)) - min(map(len, ranges)) <= 1


def test_static_members_keep_their_place_when_their_member_id_changes() -> None:
    def members(member_id: str) -> list[GroupSubscriber]:
        reads = Subscription(("a",))
        return [GroupSubscriber(member_id, reads, "first"), GroupSubscriber("m", reads, "second")]

    for assignor in ASSIGNORS.values():
        assert assignor.assign(members("a"), {"a": 3})["a"] == assignor.assign(members("z"), {"a": 3})["z"]


# --- cooperative -----------------------------------------------------------------------------
@given(SUBSCRIPTIONS, PARTITIONS, st.data())
def test_different_subscriptions_are_balanced_as_far_as_they_allow(
    subscriptions: dict[str, list[str]], partitions: dict[str, int], data: st.DataObject
) -> None:
    """Nobody could hand one partition to a subscriber of its topic who has at least two fewer."""
    group = Group(subscriptions, partitions)
    group.rebalance()
    for name in data.draw(st.lists(st.sampled_from(sorted(subscriptions)), unique=True, max_size=len(subscriptions))):
        group.subscriptions[name] = data.draw(st.lists(st.sampled_from(TOPICS), max_size=4, unique=True))
    owners = group.rebalance()
    for place, owner in owners.items():
        for name, topics in group.subscriptions.items():
            if place.topic in topics:
                assert len(group.owned[owner]) - len(group.owned[name]) <= 1


@given(SUBSCRIPTIONS, PARTITIONS)
def test_without_a_change_owners_stay_as_they_are(
    subscriptions: dict[str, list[str]], partitions: dict[str, int]
) -> None:
    group = Group(subscriptions, partitions)
    owners = group.rebalance()
    for _ in range(3):
        assert group.rebalance() == owners


@given(NAMES, PARTITIONS, st.data())
def test_when_a_member_leaves_only_its_partitions_move(
    names: list[str], partitions: dict[str, int], data: st.DataObject
) -> None:
    group = Group({name: list(TOPICS) for name in names}, partitions)
    before = group.rebalance()
    gone = data.draw(st.sampled_from(sorted(names)))
    del group.subscriptions[gone], group.owned[gone]
    after = group.rebalance()
    if group.subscriptions:
        assert set(after) == set(before)
        assert all(after[place] == owner for place, owner in before.items() if owner != gone)


@given(NAMES, PARTITIONS, st.integers(1, 3))
def test_when_members_join_no_more_moves_than_they_get(
    names: list[str], partitions: dict[str, int], joining: int
) -> None:
    group = Group({name: list(TOPICS) for name in names}, partitions)
    before = group.rebalance()
    new = [f"new{number}" for number in range(joining)]
    group.subscriptions |= {name: list(TOPICS) for name in new}
    after = group.rebalance()
    moved = {place for place, owner in after.items() if before[place] != owner}
    assert {after[place] for place in moved} <= set(new)


@given(SUBSCRIPTIONS, PARTITIONS, st.data())
def test_whatever_happens_two_rounds_settle_it_and_nothing_has_two_owners(
    subscriptions: dict[str, list[str]], partitions: dict[str, int], data: st.DataObject
) -> None:
    group = Group(subscriptions, partitions)
    for _ in range(data.draw(st.integers(1, 5))):
        group.rebalance()
        group.partitions = data.draw(PARTITIONS)
        group.subscriptions = data.draw(SUBSCRIPTIONS)
        group.owned = {name: owned for name, owned in group.owned.items() if name in group.subscriptions}
    owners = group.rebalance()
    read = {topic for topics in group.subscriptions.values() for topic in topics}
    assert set(owners) == {place for place in all_of(group.partitions) if place.topic in read}


def test_a_claim_of_an_older_generation_loses() -> None:
    a0, a1 = TopicPartition("a", 0), TopicPartition("a", 1)
    stale = GroupSubscriber("stale", Subscription(("a",), (a0, a1), 4))
    owner = GroupSubscriber("owner", Subscription(("a",), (a0,), 5))
    assert STICKY.assign([stale, owner], {"a": 2}) == {"stale": [a1], "owner": [a0]}
    assert STICKY.assign([owner, stale], {"a": 2}) == {"stale": [a1], "owner": [a0]}


def test_two_claims_of_one_generation_are_both_given_up_first() -> None:
    a0 = TopicPartition("a", 0)
    members = [GroupSubscriber(name, Subscription(("a",), (a0,), 5)) for name in ("m1", "m2")]
    assert STICKY.assign(members, {"a": 1}) == {"m1": [], "m2": []}


def test_more_members_than_partitions_leave_the_rest_idle() -> None:
    for assignor in ASSIGNORS.values():
        assignment = assignor.assign(members_of({f"m{number}": ["a"] for number in range(5)}), {"a": 2})
        assert sorted(map(len, assignment.values())) == [0, 0, 0, 1, 1]


def test_a_large_group_is_assigned_in_a_moment() -> None:
    names = [f"m{number:03}" for number in range(200)]
    topics = {f"t{number}": 128 for number in range(10)}
    group = Group({name: list(topics) for name in names}, topics)
    group.rebalance()
    del group.subscriptions["m007"], group.owned["m007"]
    loads = [len(places) for places in group.owned.values()]
    group.rebalance()
    assert max(loads) - min(loads) <= 1
