"""Which partitions were there when a consumer subscribed, and which came later."""

from __future__ import annotations

from raftlog.client.fetcher.beginnings import Beginnings
from raftlog.protocol.cluster import MetadataResponse
from raftlog.types import TopicPartition
from tests.client.fake_wire import TOPIC_ID, FakeCluster

T0, T1 = TopicPartition("t", 0), TopicPartition("t", 1)
ANOTHER_ID = b"another-topic-id"


class Beginning(FakeCluster):
    def __init__(self) -> None:
        super().__init__()
        self.beginnings = Beginnings(self.cache, self.refresher)

    def later(self, topic_id: bytes = TOPIC_ID) -> list[int]:
        """Those of the first three partitions that came later."""
        self.beginnings.look()
        return [number for number in range(3) if self.beginnings.came_later(TopicPartition("t", number), topic_id)]


def test_what_is_known_at_the_subscription_was_there() -> None:
    cluster = Beginning()
    cluster.know(partitions=2)
    cluster.beginnings.choose(["t"])
    assert cluster.later() == [2]
    cluster.know(partitions=3)
    assert cluster.later() == [2]
    assert cluster.later(ANOTHER_ID) == [0, 1, 2], "made anew under its name"


def test_the_first_answer_about_a_topic_says_what_was_there() -> None:
    cluster = Beginning()
    cluster.beginnings.choose(["t"])
    assert cluster.beginnings.awaits("t")
    cluster.cache.update(MetadataResponse(), cluster.now_s)  # to a question that did not name it
    assert cluster.later() == [] and cluster.beginnings.awaits("t")
    cluster.know(partitions=1)
    assert cluster.later() == [1, 2]
    assert not cluster.beginnings.awaits("t")


def test_of_a_topic_that_was_not_there_everything_came_later() -> None:
    cluster = Beginning()
    cluster.beginnings.choose(["t"])
    cluster.know_nothing()
    cluster.beginnings.look()
    cluster.know(partitions=2)
    assert cluster.later() == [0, 1, 2]


def test_with_a_pattern_every_topic_that_no_earlier_answer_named_came_later() -> None:
    cluster = Beginning()
    cluster.beginnings.choose_all()
    cluster.know(partitions=2)
    assert cluster.later() == [] and cluster.beginnings.awaits("t"), "that answer did not name all topics"
    cluster.refresher.all_answered = True
    assert cluster.later() == [2]
    assert cluster.beginnings.came_later(TopicPartition("u", 0), ANOTHER_ID)
    assert cluster.beginnings.partitions("u", ANOTHER_ID) == 0


def test_choosing_again_keeps_what_was_chosen_before_and_forgets_the_rest() -> None:
    cluster = Beginning()
    cluster.know(partitions=1)
    cluster.beginnings.choose(["t"])
    cluster.know(partitions=2)
    cluster.beginnings.choose(["t", "u"])
    assert cluster.later() == [1, 2]
    cluster.beginnings.choose(["u"])
    assert cluster.later() == [] and cluster.beginnings.partitions("t", TOPIC_ID) == -1
    cluster.beginnings.choose(["t"])
    assert cluster.later() == [2]


def test_what_the_group_began_with_counts_more_than_what_a_member_saw() -> None:
    cluster = Beginning()
    cluster.know(partitions=2)
    cluster.beginnings.choose(["t"])
    cluster.beginnings.learn("t", TOPIC_ID, 1)
    assert cluster.later() == [1, 2]
    assert cluster.beginnings.partitions("t", TOPIC_ID) == 1
    assert cluster.beginnings.partitions("t", ANOTHER_ID) == 0
