"""A topic that is not there is an error, and no longer one once it is there."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from raftlog import Admin, Consumer, Producer, TopicPartition
from raftlog.client.group.offsets import OffsetAndMetadata
from raftlog.errors import (
    DeliveryTimeoutError,
    ErrorCode,
    InconsistentClusterIdError,
    NoBrokersAvailableError,
    UnknownTopicOrPartitionError,
)
from raftlog.types import LATEST_TIMESTAMP
from tests.client.fake_node import fake_node
from tests.patience import WAIT_S

PLACE = TopicPartition("t", 0)


def ask_all(*asks: Callable[[], object]) -> list[object]:
    """At the same time, since each takes seconds. Results, or the kind of the error."""
    with ThreadPoolExecutor() as threads:
        asked = [threads.submit(ask) for ask in asks]
        return [type(one.exception(20)) if one.exception(20) else one.result() for one in asked]


def test_a_topic_made_after_it_was_unknown_is_known_to_the_next_call() -> None:
    """What was heard before a call began is no answer to it."""
    with (
        fake_node(3) as node,
        Producer(node.bootstrap) as producer,
        Admin(node.bootstrap) as admin,
        Consumer(bootstrap_servers=node.bootstrap) as consumer,
    ):
        asks: list[Callable[[], object]] = [
            lambda: producer.send("t", b"x", partition=0).result(WAIT_S).partition,
            lambda: set(admin.list_offsets({PLACE: LATEST_TIMESTAMP})),
            lambda: consumer.partitions_for_topic("t"),
        ]
        node.known = False
        assert ask_all(*asks) == [UnknownTopicOrPartitionError, UnknownTopicOrPartitionError, None]
        node.known = True
        assert ask_all(*asks) == [0, {PLACE}, {0, 1, 2}]


def test_a_cluster_made_anew_at_the_same_address_ends_every_call_with_the_reason() -> None:
    """Its topics are not those of the old one, though they may have the same names and offsets."""
    with (
        fake_node() as node,
        Producer(node.bootstrap, delivery_timeout_ms=6000) as producer,
        Admin(node.bootstrap) as admin,
        Consumer(bootstrap_servers=node.bootstrap) as consumer,
    ):
        consumer.assign([PLACE])
        consumer.seek_to_beginning(PLACE)
        producer.send("t", b"x", partition=0).result(WAIT_S)
        assert consumer.position(PLACE) == 0
        node.cluster_id, node.refuse = "made-anew", ErrorCode.INCONSISTENT_TOPIC_ID

        def poll() -> None:
            deadline_s = time.monotonic() + WAIT_S
            while time.monotonic() < deadline_s:
                consumer.poll(100)

        asks: list[Callable[[], object]] = [
            poll,
            lambda: admin.describe_topics(["t"]),
            lambda: admin.list_offsets({TopicPartition("other", 0): LATEST_TIMESTAMP}),
            lambda: producer.partitions_for("other"),
        ]
        assert ask_all(*asks) == [InconsistentClusterIdError] * 4
        with pytest.raises(DeliveryTimeoutError, match="belong to cluster made-anew now, this client was one of"):
            producer.send("t", b"y", partition=0).result(WAIT_S)
        with Admin(node.bootstrap) as another:
            assert another.describe_cluster().cluster_id == "made-anew"


def test_a_node_that_hears_no_majority_is_believed_in_what_it_knows_and_not_in_what_it_does_not_know() -> None:
    with fake_node() as node:
        node.confirmed = False
        with Producer(node.bootstrap, max_block_ms=3000) as producer:
            producer.send("t", b"x", partition=0).result(WAIT_S)
            with pytest.raises(NoBrokersAvailableError, match="node 1 hears no majority of the voters"):
                producer.partitions_for("other")
            with pytest.raises(NoBrokersAvailableError, match="node 1 hears no majority of the voters"):
                producer.send("t", b"x", partition=7)


def test_what_was_committed_in_a_topic_made_anew_is_not_nothing() -> None:
    """The consumer has not heard yet that the topic was made anew."""
    with (
        fake_node() as node,
        Consumer(bootstrap_servers=node.bootstrap, group_id="g", enable_auto_commit=False) as consumer,
        Admin(node.bootstrap) as admin,
    ):
        consumer.assign([PLACE])
        assert consumer.position(PLACE) == 0
        node.topic_id = b"made-anew-since-"
        admin.set_group_offsets("g", {PLACE: 5})
        assert consumer.committed([PLACE])[PLACE] == OffsetAndMetadata(5)
