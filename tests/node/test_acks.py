"""What a producer is told when followers stop, before and after its record was appended."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from raftlog.client import Consumer, Producer
from raftlog.errors import (
    NotEnoughReplicasAfterAppendError,
    NotEnoughReplicasError,
    RaftlogError,
    RequestTimedOutError,
)
from raftlog.limits import REQUESTS_IN_FLIGHT_MAX
from raftlog.network import Context, Link
from raftlog.node.local import LocalCluster
from raftlog.protocol import apis
from raftlog.protocol.envelope import encode_request
from raftlog.protocol.records import ListOffsetsRequest, ProduceRequest
from raftlog.types import LATEST_TIMESTAMP, Role, TopicPartition
from tests.node import asking
from tests.partition.harness import batch
from tests.patience import WAIT_S


def all_in_sync(cluster: LocalCluster, topic: str) -> None:
    """Waits until the leader counts all three: a busy machine may start one worker long after the others."""
    endpoint = cluster.endpoints[1]
    asking.until(lambda: [s for s in asking.statuses(endpoint, topic) if s.role == Role.LEADER and len(s.in_sync) == 3])


@contextmanager
def stopped_followers(cluster: LocalCluster, topic: str, count: int) -> Iterator[None]:
    """SIGSTOP to the workers of so many followers, for as long as the block runs."""
    all_in_sync(cluster, topic)
    replicas = asking.statuses(cluster.endpoints[1], topic)
    followers = [replica.worker_pid for replica in replicas if replica.role != Role.LEADER][:count]
    for pid in followers:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in followers:
            os.kill(pid, signal.SIGCONT)


def error_of(producer: Producer, topic: str, value: bytes) -> RaftlogError:
    """Why the one attempt failed."""
    error = producer.send(topic, value).exception(30)
    assert isinstance(error, RaftlogError)
    return error


@pytest.mark.parametrize("when", ["before", "after"])
def test_too_few_replicas_in_sync_is_said_before_the_append_and_after_it(cluster: LocalCluster, when: str) -> None:
    topic = f"few-{when}"
    asking.create_topic(cluster.endpoints[1], topic, 1, 3, {"min_insync_replicas": "3"})
    with Producer(bootstrap_servers=cluster.bootstrap, retries=0) as producer:
        asking.until(lambda: producer.send(topic, b"all three").exception(30) is None)

        def appended() -> bool:
            """While three are in sync, and answered once one has left: a busy machine may take too long for that."""
            with stopped_followers(cluster, topic, 1):
                error = error_of(producer, topic, b"appended")
                if not isinstance(error, NotEnoughReplicasAfterAppendError):
                    return False
                assert error.outcome_unknown
                if when == "before":
                    refused = error_of(producer, topic, b"refused")
                    assert isinstance(refused, NotEnoughReplicasError)
                    assert not refused.outcome_unknown
            return True

        asking.until(appended)
        asking.until(lambda: producer.send(topic, b"again").exception(30) is None)


def test_without_a_majority_the_time_out_says_that_the_outcome_is_open(cluster: LocalCluster) -> None:
    asking.create_topic(cluster.endpoints[1], "alone", 1, 3)
    with Producer(bootstrap_servers=cluster.bootstrap, retries=0, request_timeout_ms=700) as producer:
        asking.until(lambda: producer.send("alone", b"a majority").exception(30) is None)
        with stopped_followers(cluster, "alone", 2):
            error = error_of(producer, "alone", b"open")
            assert isinstance(error, RequestTimedOutError)
            assert error.outcome_unknown
        asking.until(lambda: producer.send("alone", b"again").exception(30) is None)


def test_more_with_acks_0_than_a_follower_takes_is_taken_later_and_nothing_of_it_is_lost(cluster: LocalCluster) -> None:
    """More than one connection may have under way. Only another leader may lose some."""
    topic, count = "flood", 4 * REQUESTS_IN_FLIGHT_MAX
    created = asking.create_topic(cluster.endpoints[1], topic, 1, 3)
    place = {"topic_id": created.topic_id, "partition": 0}

    def epoch() -> int:
        replicas = asking.until(lambda: asking.statuses(cluster.endpoints[1], topic))
        return max(replica.leader_epoch for replica in replicas)

    all_in_sync(cluster, topic)
    before = epoch()
    frames = [encode_request(apis.PRODUCE, 0, ProduceRequest(acks=0, timeout_ms=1000), **place), batch(b"x")]
    context = Context()
    link = Link(context, asking.until(lambda: asking.leaders(cluster.endpoints[1], topic))[0])
    try:
        with stopped_followers(cluster, topic, 1):
            for _ in range(count):
                asking.until(lambda: link.send(frames))
        asked = encode_request(apis.LIST_OFFSETS, 7, ListOffsetsRequest(timestamp_ms=LATEST_TIMESTAMP), **place)
        asking.until(lambda: link.send([asked]))
        asking.until(link.receive)  # behind all of them
    finally:
        link.close()
        context.close()
    with Producer(bootstrap_servers=cluster.bootstrap) as producer:
        assert producer.send(topic, b"everybody is heard").exception(WAIT_S) is None
    if epoch() == before:
        with Consumer(bootstrap_servers=cluster.bootstrap) as consumer:
            assert consumer.end_offsets([TopicPartition(topic, 0)]) == {TopicPartition(topic, 0): count + 1}
