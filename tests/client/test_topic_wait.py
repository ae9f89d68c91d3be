"""A topic that is not there is an error, and no longer one once it is there."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from raftlog import Admin, Consumer, Producer, TopicPartition
from raftlog.errors import UnknownTopicOrPartitionError
from raftlog.types import LATEST_TIMESTAMP
from tests.client.fake_node import fake_node

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
            lambda: producer.send("t", b"x", partition=0).result(5).partition,
            lambda: set(admin.list_offsets({PLACE: LATEST_TIMESTAMP})),
            lambda: consumer.partitions_for_topic("t"),
        ]
        node.known = False
        assert ask_all(*asks) == [UnknownTopicOrPartitionError, UnknownTopicOrPartitionError, None]
        node.known = True
        assert ask_all(*asks) == [0, {PLACE}, {0, 1, 2}]
