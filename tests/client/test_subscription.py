"""Which topics a member reads: names, patterns, and metadata that flutters."""

from __future__ import annotations

import pytest

from raftlog.client.fetcher.beginnings import Beginnings
from raftlog.client.group.subscription import TopicSubscription
from raftlog.limits import TOPIC_UNKNOWN_S
from raftlog.protocol.cluster import MetadataRequest, MetadataResponse, TopicMetadata
from raftlog.types import OFFSETS_TOPIC
from tests.client.fake_wire import NODE, WORKER_A, FakeCluster, metadata


class Knowing(FakeCluster):
    def __init__(self) -> None:
        super().__init__(topics=frozenset())
        self.subscribed = TopicSubscription(self.cache, self.refresher, Beginnings(self.cache, self.refresher))

    def counts(self, *topics: str) -> dict[str, int] | None:
        return self.subscribed.counts(topics, self.now_s)

    def answer_all(self, *names: str) -> None:
        """A node has answered which topics there are."""
        self.refresher.step(self.now_s)
        self.now_s += 1.0
        self.refresher.step(self.now_s)
        (sent,) = self.wire.take(MetadataRequest)
        assert sent.request.topics is None  # type: ignore[union-attr]
        (topic,) = metadata(WORKER_A, 1).topics
        topics = [
            TopicMetadata(name=name, topic_id=topic.topic_id, error_code=0, partitions=topic.partitions, config={})
            for name in names
        ]
        self.answer(sent, MetadataResponse(topics=topics, controller=NODE, confirmed=True))


def test_partitions_never_become_fewer_and_a_topic_made_anew_may_have_fewer() -> None:
    cluster = Knowing()
    assert cluster.counts("t") is None
    cluster.know(partitions=3)
    assert cluster.counts("t") == {"t": 3}
    cluster.know(partitions=2)  # of a node that is behind
    assert cluster.counts("t") == {"t": 3}
    cluster.know(partitions=2, topic_id=b"another-topic-id")
    assert cluster.counts("t") == {"t": 2}


def test_a_topic_is_gone_once_nobody_has_known_it_for_a_while() -> None:
    cluster = Knowing()
    cluster.know(partitions=3)
    assert cluster.counts("t") == {"t": 3}
    cluster.know_nothing()
    assert cluster.counts("t") == {"t": 3}
    cluster.now_s += TOPIC_UNKNOWN_S
    assert cluster.counts("t") == {"t": 0}
    cluster.know(partitions=1)
    assert cluster.counts("t") == {"t": 1}


def test_a_pattern_follows_topics_that_come_and_go_and_leaves_internal_ones_out() -> None:
    cluster = Knowing()
    cluster.subscribed.choose((), "orders-.*|__.*")
    assert cluster.subscribed.topics(cluster.now_s) is None, "nothing is known yet"
    cluster.answer_all("orders-1", "old-orders-1", OFFSETS_TOPIC)
    assert cluster.subscribed.topics(cluster.now_s) == ("orders-1",)
    cluster.refresher.want()
    cluster.answer_all("orders-1", "orders-2")
    assert cluster.subscribed.topics(cluster.now_s) == ("orders-1", "orders-2")
    cluster.refresher.want()
    cluster.answer_all("orders-2")
    assert cluster.subscribed.topics(cluster.now_s) == ("orders-1", "orders-2")
    assert cluster.subscribed.topics(cluster.now_s + TOPIC_UNKNOWN_S) == ("orders-2",)


def test_a_pattern_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="not a pattern"):
        Knowing().subscribed.choose((), "orders-(")
