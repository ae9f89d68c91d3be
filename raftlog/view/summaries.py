"""All topics at a glance: one line each, of what nodes tell each other. Pure: metadata and statuses in, lines out."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import msgspec

from raftlog.protocol.cluster import TopicMetadata
from raftlog.types import ReplicaStatus
from raftlog.view.partitions import PartitionView, view_topic


class TopicSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A topic in one line.

    `end_offsets`: of all partitions added up, by whose growth a rate is known. `records`: at most, if compacted.

    `leads`: how many partitions each node leads. `survives_failures`: of the weakest partition.
    """

    topic: str
    partitions: int
    replication_factor: int
    records: int
    end_offsets: int
    size_bytes: int
    leads: dict[int, int]
    without_leader: int
    under_replicated: int
    survives_failures: int | None
    problems: list[str]


class TopicSummaries(msgspec.Struct, frozen=True, kw_only=True):
    confirmed: bool
    topics: list[TopicSummary]


_PROBLEMS_MAX = 3


def summarize_topics(topics: Sequence[TopicMetadata], statuses: Sequence[ReplicaStatus]) -> list[TopicSummary]:
    by_topic = defaultdict(list)
    for status in statuses:
        by_topic[status.topic_id].append(status)
    return [
        _summary(topic.name, view_topic(topic, by_topic[topic.topic_id]).partitions)
        for topic in sorted(topics, key=lambda topic: topic.name)
    ]


def _summary(topic: str, partitions: Sequence[PartitionView]) -> TopicSummary:
    survives = [each.survives_failures for each in partitions]
    problems = [f"partition {each.partition}: {text}" for each in partitions for text in each.problems]
    return TopicSummary(
        topic=topic,
        partitions=len(partitions),
        replication_factor=max((len(each.replicas) for each in partitions), default=0),
        records=sum(max(0, each.high_watermark - each.log_start_offset) for each in partitions),
        end_offsets=sum(each.high_watermark for each in partitions),
        size_bytes=sum(each.size_bytes for each in partitions),
        leads=dict(Counter(each.leader for each in partitions if each.leader is not None)),
        without_leader=sum(each.leader is None for each in partitions),
        under_replicated=sum(len(each.isr) < len(each.replicas) for each in partitions),
        survives_failures=None if None in survives else min((each for each in survives if each is not None), default=0),
        problems=problems[:_PROBLEMS_MAX]
        + [f"and {len(problems) - _PROBLEMS_MAX} more"] * (len(problems) > _PROBLEMS_MAX),
    )
