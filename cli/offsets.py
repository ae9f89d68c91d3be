"""Log start and high watermark as the leaders say them now: fresher than what nodes tell each other."""

from __future__ import annotations

from collections.abc import Sequence

from raftlog import Consumer
from raftlog.errors import RaftlogError
from raftlog.protocol.cluster import TopicMetadata
from raftlog.types import TopicPartition

_PATIENCE_MS = 3_000  # a leader that does not answer must not keep the others from being shown


def current_offsets(bootstrap: str, topics: Sequence[TopicMetadata]) -> dict[TopicPartition, tuple[int, int]]:
    """Of every partition that has a leader; of none when one of these does not answer in time."""
    led = [
        TopicPartition(topic.name, each.partition)
        for topic in topics
        for each in topic.partitions
        if each.leader_id >= 0
    ]
    if not led:
        return {}
    with Consumer(bootstrap_servers=bootstrap, request_timeout_ms=_PATIENCE_MS) as consumer:
        try:
            ends = consumer.end_offsets(led)
            starts = consumer.beginning_offsets(led)
        except RaftlogError:
            return {}
    return {partition: (starts[partition], ends[partition]) for partition in led}
