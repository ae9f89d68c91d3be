"""The newest leader wins, and old news of slow nodes does not bring an old one back."""

from __future__ import annotations

import itertools
import random

from raftlog.client.refresher import Refresher
from raftlog.limits import (
    CONNECT_PATIENCE_S,
    LEADER_EPOCH_MEMORY_S,
    METADATA_ANSWER_S,
    METADATA_BACKOFF_MAX_S,
    METADATA_MAX_AGE_S,
)
from raftlog.protocol import codec
from raftlog.protocol.messages import MetadataRequest, MetadataResponse, NodeMetadata
from raftlog.types import Endpoint
from tests.client.fake_wire import NODE, TOPIC_ID, WORKER_A, WORKER_B, Cluster, Sent, metadata


def test_a_higher_epoch_replaces_the_leader_and_a_lower_one_does_not() -> None:
    cluster = Cluster()
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
    cluster = Cluster()
    cluster.know(WORKER_A, 5)
    cluster.now_s += LEADER_EPOCH_MEMORY_S + 1
    cluster.know(WORKER_B, 4)
    leader = cluster.cache.leader("t", 0)
    assert leader is not None
    assert leader.endpoint == WORKER_B


def test_a_restarted_worker_on_a_new_port_is_found_in_the_same_epoch() -> None:
    cluster = Cluster()
    cluster.know(WORKER_A, 5)
    cluster.know(WORKER_B, 5)
    leader = cluster.cache.leader("t", 0)
    assert leader is not None
    assert leader.endpoint == WORKER_B


def test_a_refused_leader_is_not_asked_before_it_is_named_again() -> None:
    cluster = Cluster()
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
    cluster = Cluster()
    cluster.know(WORKER_A, 5)
    cluster.know(None, 5)
    assert cluster.cache.leader("t", 0) is not None


def test_a_topic_made_anew_forgets_the_epochs_of_the_old_one() -> None:
    cluster = Cluster()
    cluster.know(WORKER_A, 50)
    cluster.know(WORKER_B, 1, topic_id=b"another topic id")
    leader = cluster.cache.leader("t", 0)
    assert leader is not None
    assert (leader.endpoint, leader.topic_id) == (WORKER_B, b"another topic id")


def test_an_unknown_topic_is_known_to_be_unknown_since_when() -> None:
    cluster = Cluster()
    cluster.know_nothing()
    cluster.now_s += 2
    cluster.know_nothing()
    assert cluster.cache.unknown_since_s == {"t": 1000.0}
    cluster.know()
    assert cluster.cache.unknown_since_s == {}
    assert cluster.cache.leader("t", 7) is None
    assert cluster.cache.leader("other", 0) is None


def asked(cluster: Cluster) -> list[Sent]:
    return cluster.wire.take(MetadataRequest)


def answer(cluster: Cluster, sent: Sent, response: MetadataResponse | None = None) -> None:
    response = response or metadata(WORKER_A, 1)
    response.correlation_id = sent.request.correlation_id
    cluster.exchange.answered(sent.endpoint, [codec.encode(response)])


def test_metadata_is_asked_for_at_once_and_then_only_when_it_is_old() -> None:
    cluster = Cluster()
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
    cluster = Cluster()
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
    cluster = Cluster()
    cluster.refresher.step(cluster.now_s)
    answer(cluster, asked(cluster)[0])
    cluster.refresher.want_topic("new")
    cluster.refresher.step(cluster.now_s + 0.001)
    (sent,) = asked(cluster)
    assert isinstance(sent.request, MetadataRequest)
    assert sent.request.topics == ["new", "t"]


def test_a_silent_node_is_passed_over_for_the_next() -> None:
    nodes = [Endpoint("node", port) for port in (1, 2, 3)]
    cluster = Cluster(*nodes)
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
    cluster = Cluster(nodes[8])
    refresher = Refresher(cluster.exchange, cluster.cache, nodes, frozenset(), random.Random(3))
    now_s = cluster.now_s
    while not asked(cluster):
        refresher.step(now_s)
        now_s += CONNECT_PATIENCE_S / 3
        assert now_s < cluster.now_s + 10


def test_living_nodes_come_first_and_bootstrap_addresses_stay() -> None:
    cluster = Cluster()
    alive, silent = Endpoint("alive", 1), Endpoint("silent", 1)
    cluster.cache.nodes = [
        NodeMetadata(node_id=1, endpoint=silent, alive=False, voter=True),
        NodeMetadata(node_id=2, endpoint=alive, alive=True, voter=True),
    ]
    assert cluster.refresher.endpoints() == [alive, NODE, silent]


def test_a_topic_id_is_kept_with_its_leader() -> None:
    cluster = Cluster()
    cluster.know(WORKER_A, 1)
    leader = cluster.cache.leader("t", 0)
    assert leader is not None
    assert leader.topic_id == TOPIC_ID


def test_a_node_that_has_not_heard_of_all_partitions_takes_none_away() -> None:
    cluster = Cluster()
    cluster.cache.update(metadata(WORKER_A, 5, partitions=3), 0.0)
    cluster.cache.update(metadata(WORKER_A, 5, partitions=1), 1.0)
    topic = cluster.cache.topics["t"]
    assert [leader is not None for leader in topic.leaders] == [True] * 3
    cluster.cache.update(metadata(WORKER_A, 5, partitions=1, topic_id=b"n" * 16), 2.0)
    assert len(cluster.cache.topics["t"].leaders) == 1
