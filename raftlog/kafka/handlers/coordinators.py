"""What is asked of the coordinators of groups, and how Kafka's clients are told what went wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from raftlog.errors import ErrorCode
from raftlog.kafka.calls import Call, Leader, together
from raftlog.kafka.cluster import Cluster
from raftlog.limits import KAFKA_COORDINATOR_S
from raftlog.protocol.apis import Api
from raftlog.protocol.body import ResponseBody
from raftlog.protocol.groups import GroupBody, coordinator_partition
from raftlog.types import OFFSETS_TOPIC

A = TypeVar("A", bound=ResponseBody)
Words = Mapping[int, int]

# Clients take an error that they do not expect here for one that ends them. So what passes has one of these names.
_WORDS: Words = {
    ErrorCode.REQUEST_TIMED_OUT: ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.THROTTLING_QUOTA_EXCEEDED: ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.INCONSISTENT_TOPIC_ID: ErrorCode.NOT_COORDINATOR,
    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION: ErrorCode.NOT_COORDINATOR,
    ErrorCode.NOT_LEADER_OR_FOLLOWER: ErrorCode.NOT_COORDINATOR,
}


def coordinator_of(cluster: Cluster, group_id: str) -> Leader | None:
    """The partition that the group lives in, whoever leads it; None while there are no groups at all."""
    topic = cluster.topics.get(OFFSETS_TOPIC)
    if topic is None:
        return None
    return Leader(topic.topic_id, coordinator_partition(group_id, len(topic.partitions)))


async def ask_coordinators(
    call: Call,
    api: Api[Any, A],
    bodies: Sequence[GroupBody],
    *,
    timeout_s: float = KAFKA_COORDINATOR_S,
    words: Words | None = None,
) -> list[A]:
    """One answer for each, in their order. `words`: what this API's clients expect in place of what others do."""
    places = [coordinator_of(call.cluster, body.group_id) for body in bodies]
    asks = [
        call.ask(place, api, body, timeout_s=timeout_s)
        for place, body in zip(places, bodies, strict=True)
        if place is not None
    ]
    told = iter(await together(asks))
    answers = []
    for place in places:
        answer: A
        if place is None:
            answer = api.refusal(ErrorCode.NOT_COORDINATOR, "there are no groups yet")
        else:
            answer, _ = next(told)
        code = _WORDS.get(answer.error_code, answer.error_code)
        answer.error_code = int(code if words is None else words.get(code, code))
        answers.append(answer)
    return answers


async def ask_coordinator(
    call: Call,
    api: Api[Any, A],
    body: GroupBody,
    *,
    timeout_s: float = KAFKA_COORDINATOR_S,
    words: Words | None = None,
) -> A:
    (answer,) = await ask_coordinators(call, api, [body], timeout_s=timeout_s, words=words)
    return answer
