"""ListOffsets as a call: where a partition begins and ends, and what came at a time."""

from __future__ import annotations

import operator

from raftlog.client import given
from raftlog.client.calls import Call
from raftlog.client.exchange import Answer, Request
from raftlog.errors import InvalidRequestError
from raftlog.limits import OFFSETS_ATTEMPT_S
from raftlog.protocol.messages import ListOffsetsRequest, ListOffsetsResponse
from raftlog.types import TopicPartition


def list_offsets_call(
    place: TopicPartition, timestamp_ms: int, *, deadline_s: float, linearizable: bool = False
) -> Call:
    """Its result is a ListOffsetsResponse. `timestamp_ms` and `linearizable` as in ListOffsetsRequest.

    Raises TypeError, ValueError.
    """

    place, timestamp_ms = given.place(place), operator.index(timestamp_ms)

    def request(correlation_id: int, topic_id: bytes) -> Request:
        return ListOffsetsRequest(
            correlation_id=correlation_id,
            topic_id=topic_id,
            partition=place.partition,
            timestamp_ms=timestamp_ms,
            linearizable=linearizable,
        )

    return Call(f"offsets of {place}", place, request, _read, deadline_s=deadline_s, attempt_s=OFFSETS_ATTEMPT_S)


def _read(answer: Answer, _payload: bytes, _maybe_done: bool) -> ListOffsetsResponse:
    if not isinstance(answer, ListOffsetsResponse):
        raise InvalidRequestError(f"an answer of another kind: {type(answer).__name__}")
    return answer
