"""Groups in virtual time: one owner at any time, everything is read, and without a change nothing moves."""

from __future__ import annotations

import pytest

from raftlog.errors import RaftlogError
from raftlog.types import TopicPartition
from tests.client.group_member import MAX_POLL_S, SESSION_S
from tests.client.group_world import World

HOUR_S = 3600.0


def settled(world: World) -> bool:
    """Every partition is owned by a living member."""
    alive = {place for member in world.members if not member.dead for place in member.membership.owned}
    return alive == {TopicPartition(topic, n) for topic, count in world.topics.items() for n in range(count)}


@pytest.mark.parametrize("strategy", ["cooperative-sticky", "range", "round-robin"])
def test_an_hour_without_a_change_moves_nothing(strategy: str) -> None:
    world = World(1, {"a": 5, "b": 4})
    for name in ("m1", "m2", "m3"):
        world.join(name, strategy=strategy, poll_s=2.0)
    world.produce_every(60.0)
    world.run(30.0)
    owners, generations = world.owners(), [member.membership.owned_generation for member in world.members]
    assert settled(world)
    assert sorted(len(member.membership.owned) for member in world.members) in ([3, 3, 3], [2, 3, 4])
    world.run(HOUR_S)
    assert world.owners() == owners
    assert [member.membership.owned_generation for member in world.members] == generations
    world.run(60.0)
    assert not {place: missing for place, missing in world.missed().items() if missing[0] < 60}
    for place, reads in world.read.items():
        assert [offset for offset, _ in reads] == list(range(len(reads))), f"{place} was not read in order, once"


def test_who_leaves_first_waits_for_the_commits_that_are_under_way() -> None:
    world = World(1, {"a": 2}, delay_s=0.5)
    member = world.join("m")
    world.produce_every(1.0)
    world.run(30.0)
    told: list[RaftlogError | None] = []
    member.reader.commit_async(None, lambda _, error: told.append(error))
    member.reader.close(commit=False)
    assert told == [None]


class Trouble:
    """Things that happen to a group, at random: one every few seconds."""

    def __init__(self, world: World, strategy: str, until_s: float) -> None:
        self.world = world
        self.strategy = strategy
        self.until_s = until_s
        self.names = 0
        self.happened: list[str] = []
        for _ in range(3):
            self.join()
        world.at(world.now_s + 20.0, self.next)

    def join(self) -> None:
        self.names += 1
        rng = self.world.rng
        instance = f"static{self.names}" if rng.random() < 0.2 else None
        topics = list(self.world.topics) if rng.random() < 0.7 else [rng.choice(list(self.world.topics))]
        poll_s = rng.choice([0.2, 1.0, 5.0])
        strategy = self.strategy
        if strategy == "mixed":  # a group that is on its way from one assignor to another
            strategy = rng.choice(["cooperative-sticky", "cooperative-sticky range"])
        self.world.join(f"m{self.names}", topics, strategy=strategy, instance=instance, poll_s=poll_s)

    def next(self) -> None:
        world = self.world
        if world.now_s > self.until_s:
            return
        living = [member for member in world.members if not member.dead]
        what = world.rng.choice(["join", "join", "kill", "leave", "pause", "hang", "depose", "cut", "partitions"])
        self.happened.append(f"{world.now_s:.1f} {what}")
        if what == "join" or len(living) < 2:
            if len(living) < 8:
                self.join()
        elif what == "kill":
            world.rng.choice(living).kill()
        elif what == "leave":
            world.rng.choice(living).leave()
        elif what == "pause":
            world.rng.choice(living).pause(world.rng.uniform(0.2, 3.0) * SESSION_S)
        elif what == "hang":
            world.rng.choice(living).busy_s = world.rng.uniform(0.2, 2.0) * MAX_POLL_S
        elif what == "depose":
            if world.coordinator is not None:
                world.depose()
        elif what == "cut":
            world.rng.choice(living).cut(world.rng.uniform(0.1, 2.0) * SESSION_S)
        elif world.topics["b"] < 12:
            world.topics["b"] += 1
        world.at(world.now_s + world.rng.uniform(0.0, 30.0), self.next)


@pytest.mark.parametrize("strategy", ["cooperative-sticky", "range", "mixed"])
@pytest.mark.parametrize("seed", range(3))
def test_whatever_happens_a_partition_has_one_owner_and_everything_is_read(seed: int, strategy: str) -> None:
    """World.check looks after every event; here is looked whether it all comes to rest."""
    world = World(seed, {"a": 5, "b": 4}, loss=0.01)
    go_through_trouble(world, strategy)


@pytest.mark.parametrize("strategy", ["cooperative-sticky", "range", "mixed"])
@pytest.mark.parametrize("seed", range(3))
def test_callbacks_that_raise_are_all_called_and_members_go_on(seed: int, strategy: str) -> None:
    """Members look after each attend whether what they were told is what they read."""
    world = World(seed, {"a": 5, "b": 4}, loss=0.01)
    world.raising = 0.3
    go_through_trouble(world, strategy)


@pytest.mark.parametrize("strategy", ["cooperative-sticky", "range", "mixed"])
@pytest.mark.parametrize("seed", range(3))
def test_with_latest_everything_that_comes_after_the_group_began_is_read(seed: int, strategy: str) -> None:
    """In partitions that were there as in those that are added, whoever of the group ends, and whenever."""
    world = World(seed, {"a": 5, "b": 4}, loss=0.01)
    world.reset_policy = "latest"
    world.join("first", strategy="range" if strategy == "range" else "cooperative-sticky")
    world.run(20.0)
    go_through_trouble(world, strategy)


def go_through_trouble(world: World, strategy: str) -> None:
    trouble = Trouble(world, strategy, world.now_s + 600.0)
    world.produce_every(3.0)
    world.run(600.0)
    world.loss = 0.0
    while not {topic for member in world.members if not member.dead for topic in member.topics} >= set(world.topics):
        trouble.join()
    world.producing = False
    for _ in range(100):
        world.run(MAX_POLL_S / 10)
        if settled(world) and not world.missed():
            return
    raise AssertionError(f"{settled(world)=}, missed {world.missed()} after {trouble.happened}")
