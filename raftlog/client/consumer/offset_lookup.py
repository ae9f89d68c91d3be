"""The bounds of partitions and offsets by time: asked of their leaders, as often as it takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from typing import Any, NamedTuple

from raftlog.client import arguments
from raftlog.client.core.engine import Engine
from raftlog.client.core.list_offsets import list_offsets_call
from raftlog.clock import monotonic_s
from raftlog.protocol.records import ListOffsetsResponse
from raftlog.types import EARLIEST_TIMESTAMP, LATEST_TIMESTAMP, TopicPartition


class OffsetAndTimestamp(NamedTuple):
    """The first record at or after a time that was looked up."""

    offset: int
    timestamp_ms: int


class OffsetLookup:
    """Questions for offsets, which wait for the answers of the leaders.

    Each method raises UnknownTopicOrPartitionError, or RequestTimedOutError after `timeout_s`.
    """

    def __init__(self, engine: Engine, timeout_s: float) -> None:
        self._engine = engine
        self._timeout_s = timeout_s

    def beginning_offsets(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        found = self._list_offsets(dict.fromkeys(partitions, EARLIEST_TIMESTAMP))
        return {place: answer.offset for place, answer in found.items()}

    def end_offsets(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        found = self._list_offsets(dict.fromkeys(partitions, LATEST_TIMESTAMP))
        return {place: answer.offset for place, answer in found.items()}

    def offsets_for_times(
        self, timestamps_ms: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, OffsetAndTimestamp | None]:
        for timestamp_ms in timestamps_ms.values():
            if arguments.number("a timestamp", timestamp_ms, -(2**63), 2**63 - 1) < 0:
                raise ValueError(
                    f"times in front of 1970 cannot be looked up, and {timestamp_ms} is one, though records may have "
                    "them: look from 0 on, or read from beginning_offsets"
                )
        found = self._list_offsets(timestamps_ms)
        return {
            place: None if answer.offset < 0 else OffsetAndTimestamp(answer.offset, answer.timestamp_ms)
            for place, answer in found.items()
        }

    def _list_offsets(self, timestamps_ms: Mapping[TopicPartition, int]) -> dict[TopicPartition, ListOffsetsResponse]:
        deadline_s = monotonic_s() + self._timeout_s
        calls: dict[TopicPartition, Future[Any]] = {}
        for place, timestamp_ms in timestamps_ms.items():
            call = list_offsets_call(self._engine.cache, place, timestamp_ms, deadline_s=deadline_s)
            self._engine.submit(call)
            calls[place] = call.future
        return {place: self._engine.result(future) for place, future in calls.items()}
