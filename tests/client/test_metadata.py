"""The newest leader wins, and old news of slow nodes does not bring an old one back."""

from __future__ import annotations

import itertools
import random

import msgspec
import pytest

from raftlog.client.core.metadata_refresh import Refresher
from raftlog.errors import ErrorCode
from raftlog.limits import (
    CONNECT_PATIENCE_S,
    FOREIGN_CLUSTER_S,
    IMAGE_MEMORY_S,
    LEADER_EPOCH_MEMORY_S,
    METADATA_ANSWER_S,
    METADATA_BACKOFF_MAX_S,
    METADATA_MAX_AGE_S,
    UNCONFIRMED_S,
)
from raftlog.protocol.cluster import MetadataRequest, MetadataResponse, NodeMetadata, TopicMetadata
from raftlog.types import Endpoint
from tests.client.fake_wire import NODE, TOPIC_ID, WORKER_A, WORKER_B, FakeCluster, Sent, metadata


def test_a_higher_epoch_replaces_the_leader_and_a_lower_one_does_not() -> None:
    cluster = FakeCluster()
    cluster.know(WORKER_A, 5)
    cluster.know(WORKER_B, 4)
    leader = cluster.cache.leader("t", 0)
    assert leader is not None
    assert leader.endpoint == WORKER_A
    cluster.know(WORKER_B, 6)
    leader = cluster.cache.leader("t", 0)
    assert leader is not None
    assert (leader.endpoint, leader.epoch) == (WORKER_B, 6)


def test_an_older_epoch_is_believed_once_the_newer_is_long_gone() -> None:
    cluster = FakeCluster()
    cluster.know(WORKER_A, 5)
    cluster.now_s += LEADER_EPOCH_MEMORY_S + 1
    cluster.know(WORKER_B, 4)
    leader = cluster.cache.leader("t", 0)
    assert leader is not None
    assert leader.endpoint == WORKER_B


def test_an_epoch_in_which_records_were_read_is_never_forgotten() -> None:
    """Unlike one that was only heard of: somebody led in it, so a leader of an older one is none."""
    cluster = FakeCluster()
    cluster.know(WORKER_A, 5)
    assert cluster.cache.note_read(TOPIC_ID, 0, 5)
    cluster.now_s += LEADER_EPOCH_MEMORY_S + 1
    cluster.know(WORKER_B, 4)
    leader = cluster.cache.leader("t", 0)
    assert leader is not None
    assert leader.endpoint == WORKER_A, "what a node that is behind names does not take its place"
    assert cluster.cache.note_read(TOPIC_ID, 0, 7)
    assert cluster.cache.leader("t", 0) is None
    assert not cluster.cache.note_read(TOPIC_ID, 0, 6)
    cluster.know(WORKER_B, 1, topic_id=b"another topic id")
    assert cluster.cache.leader("t", 0) is not None, "a topic made anew has epochs of its own"


def test_a_restarted_worker_on_a_new_port_is_found_in_the_same_epoch() -> None:
    cluster = FakeCluster()
    cluster.know(WORKER_A, 5)
    cluster.know(WORKER_B, 5)
    leader = cluster.cache.leader("t", 0)
    assert leader is not None
    assert leader.endpoint == WORKER_B


def test_a_refused_leader_is_not_asked_before_it_is_named_again() -> None:
    cluster = FakeCluster()
    cluster.know(WORKER_A, 5)
    leader = cluster.cache.leader("t", 0)
    assert leader is not None
    cluster.cache.refused("t", 0, leader, 7, cluster.now_s)
    assert cluster.cache.leader("t", 0) is None
    cluster.know(WORKER_A, 5)  # a node that has not heard of epoch 7, which the answer hinted at
    assert cluster.cache.leader("t", 0) is None
    cluster.know(WORKER_B, 7)
    assert cluster.cache.leader("t", 0) is not None


def test_no_leader_in_an_answer_does_not_forget_the_one_that_is_known() -> None:
    cluster = FakeCluster()
    cluster.know(WORKER_A, 5)
    cluster.know(None, 5)
    assert cluster.cache.leader("t", 0) is not None


def test_a_topic_made_anew_forgets_the_epochs_of_the_old_one() -> None:
    cluster = FakeCluster()
    cluster.know(WORKER_A, 50)
    cluster.know(WORKER_B, 1, topic_id=b"another topic id")
    leader = cluster.cache.leader("t", 0)
    assert leader is not None
    assert (leader.endpoint, leader.topic_id) == (WORKER_B, b"another topic id")


def test_an_unknown_topic_is_known_to_be_unknown_since_when() -> None:
    cluster = FakeCluster()
    cluster.know_nothing()
    cluster.now_s += 2
    cluster.know_nothing()
    assert cluster.cache.unknown_since_s == {"t": 1000.0}
    cluster.know()
    assert cluster.cache.unknown_since_s == {}
    assert cluster.cache.leader("t", 7) is None
    assert cluster.cache.leader("other", 0) is None


def asked(cluster: FakeCluster) -> list[Sent]:
    return cluster.wire.take(MetadataRequest)


def answer(cluster: FakeCluster, sent: Sent, response: MetadataResponse | None = None) -> None:
    cluster.answer(sent, response or metadata(WORKER_A, 1))


def test_metadata_is_asked_for_at_once_and_then_only_when_it_is_old() -> None:
    cluster = FakeCluster()
    cluster.refresher.step(cluster.now_s)
    (sent,) = asked(cluster)
    assert isinstance(sent.request, MetadataRequest)
    assert sent.request.topics == ["t"]
    answer(cluster, sent)
    due_s = cluster.refresher.step(cluster.now_s + 1)
    assert due_s == cluster.now_s + METADATA_MAX_AGE_S
    assert asked(cluster) == []
    cluster.refresher.step(due_s)
    assert len(asked(cluster)) == 1


def test_questions_back_off_while_nothing_changes_and_never_stop() -> None:
    cluster = FakeCluster()
    now_s = cluster.now_s
    times = []
    while now_s < cluster.now_s + 30:
        cluster.refresher.want()
        cluster.refresher.step(now_s)
        for sent in asked(cluster):
            times.append(now_s)
            answer(cluster, sent)
        now_s += 0.005
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert gaps[0] < 0.05
    assert max(gaps[:20]) <= 0.21  # as long as an election may be under way
    assert METADATA_BACKOFF_MAX_S * 0.9 < gaps[-1] <= METADATA_BACKOFF_MAX_S + 0.01


def test_a_new_topic_does_not_wait_for_the_back_off() -> None:
    cluster = FakeCluster()
    cluster.refresher.step(cluster.now_s)
    answer(cluster, asked(cluster)[0])
    cluster.refresher.want_topic("new")
    cluster.refresher.step(cluster.now_s + 0.001)
    (sent,) = asked(cluster)
    assert isinstance(sent.request, MetadataRequest)
    assert sent.request.topics == ["new", "t"]


def test_a_silent_node_is_passed_over_for_the_next() -> None:
    nodes = [Endpoint("node", port) for port in (1, 2, 3)]
    cluster = FakeCluster(*nodes)
    refresher = Refresher(cluster.exchange, cluster.cache, nodes, frozenset(), random.Random(3))
    seen = []
    now_s = cluster.now_s
    for _ in range(3):
        while not (sent := asked(cluster)):
            refresher.step(now_s)
            now_s += 0.01
        seen.append(sent[0].endpoint)
        now_s += METADATA_ANSWER_S
        cluster.exchange.expire(now_s)
    assert set(seen) == set(nodes)


def test_nodes_that_cannot_be_connected_are_passed_over() -> None:
    nodes = [Endpoint("node", port) for port in range(1, 11)]
    cluster = FakeCluster(nodes[8])
    refresher = Refresher(cluster.exchange, cluster.cache, nodes, frozenset(), random.Random(3))
    now_s = cluster.now_s
    while not asked(cluster):
        refresher.step(now_s)
        now_s += CONNECT_PATIENCE_S / 3
        assert now_s < cluster.now_s + 10


def test_living_nodes_come_first_and_bootstrap_addresses_stay() -> None:
    cluster = FakeCluster()
    alive, silent = Endpoint("alive", 1), Endpoint("silent", 1)
    cluster.cache.nodes = [
        NodeMetadata(node_id=1, endpoint=silent, alive=False, voter=True),
        NodeMetadata(node_id=2, endpoint=alive, alive=True, voter=True),
    ]
    assert cluster.refresher.endpoints() == [alive, NODE, silent]


def test_a_topic_id_is_kept_with_its_leader() -> None:
    cluster = FakeCluster()
    cluster.know(WORKER_A, 1)
    leader = cluster.cache.leader("t", 0)
    assert leader is not None
    assert leader.topic_id == TOPIC_ID


def test_a_node_that_has_not_heard_of_all_partitions_takes_none_away() -> None:
    cluster = FakeCluster()
    cluster.cache.update(metadata(WORKER_A, 5, partitions=3, image_offset=8), 0.0)
    cluster.cache.update(metadata(WORKER_A, 5, partitions=1, image_offset=7), 1.0)
    topic = cluster.cache.topics["t"]
    assert [leader is not None for leader in topic.leaders] == [True] * 3
    cluster.cache.update(metadata(WORKER_A, 5, partitions=1, topic_id=NEW_ID, image_offset=9), 2.0)
    assert len(cluster.cache.topics["t"].leaders) == 1


# --- metadata images have an order -----------------------------------------------------------------
NEW_ID = b"n" * 16


def old_news(**changes: object) -> MetadataResponse:
    """Of a node that is cut off: the topic as it was before it was deleted and made anew."""
    return msgspec.structs.replace(
        metadata(WORKER_A, 90, image_offset=5, confirmed=False), node_id=3, controller=WORKER_A, nodes=[], **changes
    )


def gone(image_offset: int, *, confirmed: bool) -> MetadataResponse:
    topic = TopicMetadata(name="t", topic_id=b"", error_code=3, partitions=[], config={})
    return msgspec.structs.replace(
        metadata(None, 0, image_offset=image_offset, confirmed=confirmed), node_id=3, topics=[topic]
    )


@pytest.mark.parametrize("confirmed", [False, True])
def test_an_older_image_brings_no_old_topic_back(confirmed: bool) -> None:
    cluster = FakeCluster()
    cache, now_s = cluster.cache, cluster.now_s
    assert cache.update(metadata(WORKER_B, 1, topic_id=NEW_ID, image_offset=7), now_s)
    for answer_s in range(100):
        assert not cache.update(old_news(confirmed=confirmed), now_s + answer_s / 20)
    leader = cache.leader("t", 0)
    assert leader is not None
    assert (leader.topic_id, leader.endpoint) == (NEW_ID, WORKER_B)
    assert (cache.controller, len(cache.nodes)) == (NODE, 1)
    for answer_s in range(1000):
        assert not cache.update(gone(6, confirmed=False), now_s + answer_s)
    assert cache.topics["t"].topic_id == NEW_ID
    assert "node 3" in cache.doubt


def test_a_cut_off_node_may_still_tell_of_a_newer_leader() -> None:
    """Endpoints are soft state beside the image, and have an order of their own."""
    cluster = FakeCluster()
    cluster.cache.update(metadata(WORKER_A, 5, image_offset=7), cluster.now_s)
    assert not cluster.cache.update(metadata(WORKER_B, 6, image_offset=6, confirmed=False), cluster.now_s)
    leader = cluster.cache.leader("t", 0)
    assert leader is not None
    assert (leader.endpoint, leader.epoch) == (WORKER_B, 6)
    cluster.cache.update(metadata(WORKER_A, 5, image_offset=7, confirmed=False), cluster.now_s + 1000)
    assert cluster.cache.leader("t", 0) == leader, "an old epoch is never believed of a node that nobody confirms"


def test_what_no_confirmed_node_says_is_not_gone() -> None:
    cluster = FakeCluster()
    cluster.cache.update(metadata(WORKER_A, 5, image_offset=7), cluster.now_s)
    for answer_s in range(1000):
        cluster.cache.update(gone(8, confirmed=False), cluster.now_s + answer_s)
    assert set(cluster.cache.topics) == {"t"}
    assert not cluster.cache.unknown_since_s
    assert cluster.cache.doubt == "node 3 hears no majority of the voters"
    assert cluster.cache.update(gone(8, confirmed=True), cluster.now_s)
    assert not cluster.cache.topics
    assert not cluster.cache.doubt


def test_what_was_unknown_is_in_doubt_again_once_no_confirmed_node_answers() -> None:
    cluster = FakeCluster()
    cluster.cache.update(gone(7, confirmed=True), cluster.now_s)
    assert cluster.cache.unknown_since_s == {"t": cluster.now_s}
    for answer_s in (0.1, UNCONFIRMED_S + 0.2):
        cluster.cache.update(gone(7, confirmed=False), cluster.now_s + answer_s)
    assert not cluster.cache.unknown_since_s


def test_the_first_topics_come_of_a_confirmed_node_or_of_nobody_for_a_while() -> None:
    """With the metadata's majority gone clients have to find their leaders all the same."""
    cluster = FakeCluster()
    assert not cluster.cache.update(old_news(), cluster.now_s)
    assert not cluster.cache.topics
    assert cluster.cache.version == 1, "some node of the cluster has answered"
    assert cluster.cache.update(old_news(), cluster.now_s + UNCONFIRMED_S)
    assert cluster.cache.leader("t", 0) is not None
    assert cluster.cache.update(metadata(WORKER_B, 1, topic_id=NEW_ID, image_offset=7), cluster.now_s + UNCONFIRMED_S)
    assert cluster.cache.topics["t"].topic_id == NEW_ID


def test_a_metadata_log_that_lost_history_is_believed_in_the_end() -> None:
    cluster = FakeCluster()
    cluster.cache.update(metadata(WORKER_A, 5, image_offset=20), cluster.now_s)

    def told(image_offset: int, after_s: float) -> bool:
        recovered = metadata(WORKER_B, 6, topic_id=NEW_ID, image_offset=image_offset)
        return cluster.cache.update(recovered, cluster.now_s + after_s)

    assert not told(15, 1.0)
    assert not told(15, IMAGE_MEMORY_S + 0.9)
    assert cluster.cache.topics["t"].topic_id == TOPIC_ID
    assert told(15, IMAGE_MEMORY_S + 1.1)
    assert cluster.cache.topics["t"].topic_id == NEW_ID


def test_an_older_image_is_not_believed_while_a_newer_one_is_named_or_nobody_controls() -> None:
    cluster = FakeCluster()
    for answer_s in range(0, 100, 5):
        assert cluster.cache.update(metadata(WORKER_A, 5, image_offset=20), cluster.now_s + answer_s)
        assert not cluster.cache.update(metadata(WORKER_A, 5, image_offset=15), cluster.now_s + answer_s + 1)
    without = msgspec.structs.replace(metadata(WORKER_A, 5, image_offset=15), controller=None)
    for answer_s in range(100, 200):
        assert not cluster.cache.update(without, cluster.now_s + answer_s)


def test_the_newest_controller_stays() -> None:
    cluster = FakeCluster()
    for endpoint, epoch in ((WORKER_B, 4), (WORKER_A, 3)):
        named = msgspec.structs.replace(metadata(WORKER_A, 1), controller=endpoint, controller_epoch=epoch)
        assert cluster.cache.update(named, cluster.now_s)
    assert cluster.cache.controller == WORKER_B


def test_another_cluster_is_refused_and_said_to_be_one() -> None:
    """A cluster that was wiped and made anew at the same addresses."""
    cluster = FakeCluster()
    cache, now_s = cluster.cache, cluster.now_s
    cache.update(metadata(WORKER_A, 5, image_offset=20), now_s)
    foreign = msgspec.structs.replace(metadata(WORKER_B, 9, topic_id=NEW_ID, image_offset=99), cluster_id="other")
    assert not cache.update(foreign, now_s)
    assert cache.foreign_error(now_s) is None
    error = cache.foreign_error(now_s + FOREIGN_CLUSTER_S)
    assert error is not None
    assert "belong to cluster other now, this client was one of cluster c" in str(error)
    assert cache.topics["t"].topic_id == TOPIC_ID
    cache.update(metadata(WORKER_A, 5, image_offset=20), now_s)
    assert cache.foreign_error(now_s + FOREIGN_CLUSTER_S) is None, "one address of the list was the other cluster's"


def test_an_answer_that_does_not_count_is_followed_by_the_next_question() -> None:
    cluster = FakeCluster()
    cluster.refresher.step(cluster.now_s)
    (first,) = asked(cluster)
    answer(cluster, first, old_news())
    assert cluster.refresher.unknown_since_s("t", cluster.now_s) == float("inf")
    due_s = cluster.refresher.step(cluster.now_s)
    assert due_s < cluster.now_s + 0.1
    cluster.refresher.step(due_s)
    (second,) = asked(cluster)
    answer(cluster, second, metadata(WORKER_A, 1, image_offset=6))
    assert cluster.refresher.step(due_s) == due_s + METADATA_MAX_AGE_S


# --- whom the periodic refresh asks ----------------------------------------------------------------
NODES = [Endpoint("node", port) for port in (1, 2, 3)]


def of_three(image_offset: int = 7, *, confirmed: bool = True) -> MetadataResponse:
    nodes = [NodeMetadata(node_id=each.port, endpoint=each, alive=True, voter=True) for each in NODES]
    named = metadata(WORKER_A, 1, image_offset=image_offset, confirmed=confirmed)
    return msgspec.structs.replace(named, nodes=nodes)


class Steady:
    """A client of three nodes that has been answered a few times, with nothing wrong."""

    def __init__(self) -> None:
        self.cluster = FakeCluster(*NODES)
        self.refresher = Refresher(self.cluster.exchange, self.cluster.cache, NODES, frozenset({"t"}), random.Random(3))
        self.now_s = self.cluster.now_s
        self.node = self.ask()
        for _ in range(5):
            self.answer()
            assert self.ask() == self.node

    def ask(self) -> Endpoint:
        """Whom the next question goes to."""
        while True:
            due_s = self.refresher.step(self.now_s)
            if self.cluster.wire.sent:
                (self.sent,) = asked(self.cluster)
                return self.sent.endpoint
            assert due_s <= self.now_s + METADATA_MAX_AGE_S
            self.now_s = max(due_s, self.now_s + 0.001)

    def answer(self, response: MetadataResponse | None = None) -> None:
        answer(self.cluster, self.sent, response or of_three())


def test_while_nothing_is_wrong_the_same_node_is_asked_and_no_other_connected_to() -> None:
    steady = Steady()
    steady.cluster.wire.wanted.clear()
    for _ in range(20):
        steady.answer()
        assert steady.ask() == steady.node
    assert steady.cluster.wire.wanted == {steady.node}


def test_a_wish_a_bad_answer_or_silence_turns_to_another_node() -> None:
    steady = Steady()
    for trouble in ("wish", "unconfirmed", "old", "refused", "silent", "lost", "removed"):
        before = steady.sent.endpoint
        if trouble == "wish":
            steady.answer()
            steady.refresher.want()
        elif trouble == "unconfirmed":
            steady.answer(of_three(confirmed=False))
        elif trouble == "old":
            steady.answer(of_three(6))
        elif trouble == "refused":
            steady.cluster.answer_error(steady.sent, ErrorCode.INVALID_REQUEST)
        elif trouble == "silent":
            steady.now_s += METADATA_ANSWER_S
            steady.cluster.exchange.expire(steady.now_s)
        elif trouble == "lost":
            steady.answer()
            steady.cluster.wire.connected.discard(before)
        else:
            steady.answer(msgspec.structs.replace(of_three(), nodes=[]))
            steady.refresher._bootstrap = [each for each in NODES if each != before]
        assert steady.ask() != before, trouble
        steady.cluster.wire.connected |= set(NODES)
        node = steady.sent.endpoint
        steady.answer()
        assert steady.ask() == node, f"the next one is stayed with after {trouble}"


def test_calls_to_any_node_go_to_another_one_each_time() -> None:
    steady = Steady()
    assert {steady.refresher.connected_node(steady.now_s) for _ in range(3)} == set(NODES)
