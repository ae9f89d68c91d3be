"""ListOffsets as a call: where a partition begins and ends, and what came at a time."""

from __future__ import annotations

import operator

from raftlog.client import arguments
from raftlog.client.core.call import Call
from raftlog.client.core.metadata import MetadataCache
from raftlog.errors import UnknownLeaderEpochError
from raftlog.limits import OFFSETS_ATTEMPT_S
from raftlog.protocol import apis
from raftlog.protocol.records import ListOffsetsRequest, ListOffsetsResponse
from raftlog.types import TopicPartition


def list_offsets_call(
    cache: MetadataCache, place: TopicPartition, timestamp_ms: int, *, deadline_s: float, topic_id: bytes = b""
) -> Call[ListOffsetsRequest, ListOffsetsResponse]:
    """Its result is a ListOffsetsResponse. `timestamp_ms` as in ListOffsetsRequest, `topic_id` as in Call.

    Raises TypeError, ValueError.
    """
    question = _Question(cache, arguments.place(place), operator.index(timestamp_ms))
    return Call(
        f"offsets of {place}",
        question.place,
        apis.LIST_OFFSETS,
        question.body,
        question.read,
        deadline_s=deadline_s,
        attempt_s=OFFSETS_ATTEMPT_S,
        topic_id=topic_id,
    )


class _Question:
    """Of a leader that is of no older epoch than this client has read from, unless a majority knows nothing of that."""

    def __init__(self, cache: MetadataCache, place: TopicPartition, timestamp_ms: int) -> None:
        self.place = place
        self._cache = cache
        self._timestamp_ms = timestamp_ms
        self._topic_id = b""  # of the topic that was asked last
        self._doubted = -1  # the epoch that was in doubt then

    def body(self, topic_id: bytes) -> ListOffsetsRequest:
        self._topic_id = topic_id
        partition = self.place.partition
        self._doubted = self._cache.doubted_epoch(topic_id, partition)
        return ListOffsetsRequest(
            timestamp_ms=self._timestamp_ms,
            leader_epoch=self._cache.read_epoch(topic_id, partition) if self._doubted < 0 else -1,
        )

    def read(self, answer: ListOffsetsResponse, _maybe_done: bool) -> ListOffsetsResponse:
        asked = (self._topic_id, self.place.partition)
        self._cache.judge_doubted(*asked, self._doubted, answer.leader_epoch)
        if not self._cache.note_read(*asked, answer.leader_epoch):
            raise UnknownLeaderEpochError(f"{self.place}: an answer of epoch {answer.leader_epoch}, which is over")
        return answer
