"""What is asked of many partitions at once: of the worker that leads each of them, all at the same time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from raftlog.errors import ErrorCode
from raftlog.kafka.calls import Call, Leader, together
from raftlog.limits import ADMIN_TIMEOUT_MS
from raftlog.protocol.apis import Api
from raftlog.protocol.body import Body


class Question(NamedTuple):
    topic: str
    partition: int
    body: Body


async def ask_leaders(
    call: Call, questions: Sequence[Question], api: Api[Any, Any], timeout_s: float = ADMIN_TIMEOUT_MS / 1000
) -> list[Any]:
    """One answer for each question, in their order."""
    asks = {}
    for place, (topic, partition, body) in enumerate(questions):
        if call.cluster.partition(topic, partition) is not None:
            target = Leader(call.cluster.topics[topic].topic_id, partition)
            asks[place] = call.ask(target, api, body, timeout_s=timeout_s)
    told = dict(zip(asks, await together(list(asks.values())), strict=True))
    unknown = api.refusal(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "there is no such partition")
    return [told[place][0] if place in told else unknown for place in range(len(questions))]


def grouped(topics: Sequence[Sequence[Any]], answers: Sequence[Any], fields: Callable[[Any, Any], Any]) -> list[Any]:
    """`topics`: the partitions of each, as they were asked for; `fields(partition, answer)` for each of them."""
    left = iter(answers)
    return [[fields(partition, next(left)) for partition in partitions] for partitions in topics]
