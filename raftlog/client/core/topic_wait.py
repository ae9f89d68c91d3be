"""Waiting for a topic that the metadata does not have, for users' threads. Decides nothing about those that it has."""

from __future__ import annotations

from collections.abc import Callable

from raftlog.client.core.engine import Engine
from raftlog.client.core.metadata import Topic
from raftlog.clock import NEVER_S, monotonic_s
from raftlog.errors import NoBrokersAvailableError, UnknownTopicOrPartitionError
from raftlog.limits import TOPIC_UNKNOWN_S


def wait_for_topic(engine: Engine, name: str, timeout_s: float) -> Topic:
    """The topic as soon as some node knows it; at once where one has said so already.

    Raises UnknownTopicOrPartitionError once no confirmed node has known it for TOPIC_UNKNOWN_S of this wait, or at its
    end, and NoBrokersAvailableError when no such node has said anything until then; InconsistentClusterIdError when
    only another cluster's nodes answer; ClosedError.
    """
    cache, refresher = engine.cache, engine.refresher
    refresher.want_topic(name)
    began_s = monotonic_s()

    def decided() -> bool:
        now_s = monotonic_s()
        if name in cache.topics or now_s - refresher.unknown_since_s(name, began_s) >= TOPIC_UNKNOWN_S:
            return True
        if cache.foreign_error(now_s) is not None:
            return True
        refresher.want()
        engine.wake()
        return False

    engine.wait_for(decided, timeout_s)
    topic = cache.topics.get(name)
    if topic is not None:
        return topic
    foreign = cache.foreign_error(monotonic_s())
    if foreign is not None:
        raise foreign
    if refresher.unknown_since_s(name, began_s) < NEVER_S:
        raise UnknownTopicOrPartitionError(f"there is no topic {name}")
    why = f": {cache.doubt}" if cache.doubt else ""
    raise NoBrokersAvailableError(f"nothing certain was heard of topic {name} within {timeout_s:g} s{why}")


def wait_for_partitions(engine: Engine, topic: str, timeout_s: float) -> set[int] | None:
    """None where `wait_for_topic` raises UnknownTopicOrPartitionError."""
    try:
        return set(wait_for_topic(engine, topic, timeout_s).partitions)
    except UnknownTopicOrPartitionError:
        return None


def wait_for_confirmed(engine: Engine, found: Callable[[], bool], asked_s: float, timeout_s: float) -> None:
    """Until `found()`, or until a confirmed node has answered what was asked since `asked_s`.

    Raises NoBrokersAvailableError when none does, ClosedError.
    """

    def decided() -> bool:
        if found() or engine.refresher.answered_s >= asked_s:
            return True
        engine.refresher.want()
        engine.wake()
        return False

    if not engine.wait_for(decided, timeout_s):
        raise NoBrokersAvailableError(engine.cache.doubt or "no node answered in time")
