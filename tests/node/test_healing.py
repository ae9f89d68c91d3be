"""Three real nodes and damaged files: nothing is lost, the replica comes back by itself, and counters tell of it."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator

import pytest

from raftlog.client import Admin
from raftlog.protocol.topics import NewTopic
from raftlog.types import METADATA_TOPIC, Doubt
from tests.conftest import ClusterFactory
from tests.node import asking, damage
from tests.node.story import HEAL_S, REPLICA, TOPIC, Story


@pytest.fixture
def story(fresh_cluster: ClusterFactory) -> Iterator[Story]:
    yield Story(fresh_cluster())


def test_a_flipped_bit_under_a_running_follower_is_found_by_its_scrub(story: Story) -> None:
    story.write(400)
    story.wait_whole()
    victim = next(node for node in story.nodes if node != story.leader())
    closed, active = damage.segments(story.cluster, victim, REPLICA)[1], 500
    damage.flip(closed, active)
    asking.until(lambda: story.statuses()[victim].corruptions == 1, HEAL_S)
    story.wait_whole()
    assert "damaged from offset" in story.cluster.log_text(victim)
    story.read()
    story.require_equal_disks()


@pytest.mark.parametrize("segment", [0, -1], ids=["closed", "active"])
def test_a_consumer_that_meets_a_flipped_bit_gets_the_record_from_another_replica(story: Story, segment: int) -> None:
    story.write(400)
    story.wait_whole()
    leader = story.leader()
    damage.flip(damage.segments(story.cluster, leader, REPLICA)[segment], 700)
    story.read()
    asking.until(lambda: story.statuses()[leader].corruptions == 1, HEAL_S)
    story.write(50)
    story.wait_whole()
    story.require_equal_disks()


DAMAGES = ["closed", "active", "truncated", "shorter", "segment gone", "directory gone", "disk gone"]


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_node_that_comes_back_damaged_heals_by_itself(story: Story, kind: str) -> None:
    story.write(400)
    story.wait_whole()
    story.wait_bounds()
    cluster, victim = story.cluster, story.nodes[-1]
    cluster.kill(victim)
    files = damage.segments(cluster, victim, REPLICA)
    match kind:
        case "closed":
            damage.flip(files[1], 500)
        case "active":
            damage.flip(files[-1], 500)
        case "truncated":
            damage.cut(files[-1], 5)
        case "shorter":
            files[-1].unlink()
        case "segment gone":
            files[1].unlink()
        case "directory gone":
            shutil.rmtree(damage.replica_directory(cluster, victim, REPLICA))
        case "disk gone":
            shutil.rmtree(cluster.directory / str(victim))
    story.write(50)
    cluster.start(victim)

    def counted() -> bool:
        status = story.statuses()[victim]
        return status.corruptions + status.truncations > 0

    asking.until(counted, HEAL_S)
    story.wait_whole()
    story.read()
    story.require_equal_disks()


def test_the_last_acknowledged_batch_survives_damage_on_one_replica_while_another_lags(story: Story) -> None:
    """The power fails for all; they come back in every order."""
    cluster = story.cluster
    story.write(30)
    for number, order in enumerate(itertools.permutations(story.nodes)):
        story.wait_whole()
        lagging, victim, _ = order[1], order[2], order[0]
        cluster.kill(lagging)
        story.write(20)
        story.wait_bounds()
        story.kill_all()
        last = damage.segments(cluster, victim, REPLICA)[-1]
        if number % 2:
            damage.flip(last, last.stat().st_size - 3)
        else:
            damage.cut(last, 3)
        for node in order:
            cluster.start(node)
    found = story.wait_whole()
    assert sum(status.truncations for status in found.values()) >= 6
    story.read()
    story.require_equal_disks()


def test_doubt_survives_restarts_until_the_others_are_back(story: Story) -> None:
    cluster, victim = story.cluster, story.nodes[0]
    story.write(50)
    story.wait_whole()
    story.wait_bounds()
    story.kill_all()
    damage.cut(damage.segments(cluster, victim, REPLICA)[-1], 5)
    for _ in range(2):
        cluster.start(victim)
        assert damage.state(cluster, victim, REPLICA).doubt == Doubt.SHORT
        cluster.kill(victim)
    for node in story.nodes:
        cluster.start(node)
    assert story.wait_whole()[victim].truncations == 1
    story.read()


def test_a_single_replica_with_a_torn_tail_comes_back_by_itself(fresh_cluster: ClusterFactory) -> None:
    story = Story(fresh_cluster(1), factor=1)
    story.write(50)
    story.cluster.kill(1)
    damage.tear(damage.segments(story.cluster, 1, REPLICA)[-1])
    story.cluster.start(1)
    assert story.wait_whole()[1].truncations == 1
    story.read()
    story.write(10)
    story.read()


def test_the_only_replica_of_a_record_never_cuts_it_and_says_what_is_damaged(fresh_cluster: ClusterFactory) -> None:
    story = Story(fresh_cluster(1), factor=1)
    story.write(400)
    before = damage.records_bytes(story.cluster, 1, REPLICA)
    damage.flip(damage.segments(story.cluster, 1, REPLICA)[1], 500)
    asking.until(lambda: "no other replica has it" in story.statuses()[1].error, HEAL_S)
    story.write(10)
    assert len(damage.records_bytes(story.cluster, 1, REPLICA)) > len(before)


def test_three_replicas_of_which_two_have_torn_tails_come_back_by_themselves(story: Story) -> None:
    cluster = story.cluster
    story.write(50)
    story.wait_whole()
    story.wait_bounds()
    story.kill_all()
    for victim in story.nodes[:2]:
        damage.tear(damage.segments(cluster, victim, REPLICA)[-1])
    for node in story.nodes:
        cluster.start(node)
    found = story.wait_whole()
    assert [found[node].truncations for node in story.nodes] == [1, 1, 0]
    story.read()
    story.require_equal_disks()


def test_a_majority_that_is_shorter_than_it_was_does_not_lead_in_silence(story: Story) -> None:
    """The third has everything, but how would it know? What the two may have acknowledged together is gone."""
    cluster = story.cluster
    story.write(50)
    story.wait_whole()
    story.wait_bounds()
    story.kill_all()
    for victim in story.nodes[:2]:
        damage.cut(damage.segments(cluster, victim, REPLICA)[-1], 5)
    for node in story.nodes:
        cluster.start(node)

    def told() -> bool:
        found = story.statuses()
        return all(found[node].doubt == Doubt.SHORT for node in story.nodes[:2])

    asking.until(told)
    endpoint = cluster.endpoints[1]
    # The metadata's group, which is whole, has elected meanwhile: this one had the time to.
    asking.until(lambda: asking.controller(endpoint))
    with Admin(cluster.bootstrap) as admin:
        admin.create_topics([NewTopic(name="later", replication_factor=3)])
    asking.until(lambda: asking.leaders(endpoint, "later"))
    assert asking.leaders(endpoint, TOPIC) == {}
    assert all(status.role != 2 for status in story.statuses().values())
    assert (cluster.directory / "1" / f"{METADATA_TOPIC}-0").exists()
