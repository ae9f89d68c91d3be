"""Changes of the metadata, which the controller makes once, however often it is asked (controller/mutations.py)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

from raftlog.errors import ErrorCode
from raftlog.kafka.calls import Call, Controller, Node, together
from raftlog.kafka.cluster import Cluster
from raftlog.limits import ADMIN_TIMEOUT_MS, TOPIC_SETTLE_S, TOPICS_PER_REQUEST_MAX
from raftlog.protocol import apis
from raftlog.protocol.apis import Api
from raftlog.protocol.cluster import MetadataRequest
from raftlog.protocol.topics import MutationBody, TopicIdsRequest, TopicIdsResponse, TopicResult, TopicsResponse

_SETTLE_AGAIN_S = 0.02  # gossip between nodes takes some ten milliseconds


class Attempt(NamedTuple):
    """What makes a change one that is carried out once: `end_offset` is where the metadata ended before it."""

    mutation_id: bytes
    end_offset: int
    topic_ids: list[bytes]


FORGOTTEN = "too many changes are made at once: whether this one is among them is not known"


def patience_ms(timeout_ms: int) -> int:
    """How long a client waits; without a time of its own as long as is waited at most."""
    return min(timeout_ms, ADMIN_TIMEOUT_MS) if timeout_ms > 0 else ADMIN_TIMEOUT_MS


async def change(
    call: Call,
    names: Sequence[str],
    api: Api[Any, TopicsResponse],
    build: Callable[[slice, Attempt], MutationBody],
    deadline_s: float,
) -> list[TopicResult]:
    """One result of each name; as many are asked for at once as one request may name.

    `build(part, attempt)`: the request for this part of the names.
    """
    results: list[TopicResult] = []
    for at in range(0, len(names), TOPICS_PER_REQUEST_MAX):
        part = slice(at, at + TOPICS_PER_REQUEST_MAX)
        found = await look_up(call, names[part], deadline_s)
        if found.error_code:
            results += [refusal(name, found.error_code, found.error_text) for name in names[part]]
            continue
        body = build(part, Attempt(call.mint_id(), found.end_offset, found.topic_ids))
        answer, _ = await call.ask(Controller(), api, body, timeout_s=max(deadline_s - call.now_s, 0.0))
        results += _results(names[part], answer)
    return results


async def change_each(
    call: Call,
    names: Sequence[str],
    api: Api[Any, TopicsResponse],
    build: Callable[[int, Attempt], MutationBody],
    deadline_s: float,
) -> list[TopicResult]:
    """Likewise, with a request for each: `build(place, attempt)`, where the attempt has one topic id."""
    if not names:
        return []
    found = await look_up(call, names, deadline_s)
    if found.error_code:
        return [refusal(name, found.error_code, found.error_text) for name in names]
    left_s = max(deadline_s - call.now_s, 0.0)
    asks = [
        call.ask(
            Controller(), api, build(place, Attempt(call.mint_id(), found.end_offset, [topic_id])), timeout_s=left_s
        )
        for place, topic_id in enumerate(found.topic_ids)
    ]
    answers = await together(asks)
    return [_results([name], answer)[0] for name, (answer, _) in zip(names, answers, strict=True)]


async def change_once(call: Call, api: Api[Any, Any], build: Callable[[bytes, int], MutationBody]) -> Any:
    """Of what is no topic, in ADMIN_TIMEOUT_MS: `build(mutation id, where the metadata ends before it)`."""
    deadline_s = call.now_s + ADMIN_TIMEOUT_MS / 1000
    found = await look_up(call, [], deadline_s)
    if found.error_code:
        return api.refusal(found.error_code, found.error_text)
    body = build(call.mint_id(), found.end_offset)
    answer, _ = await call.ask(Controller(), api, body, timeout_s=max(deadline_s - call.now_s, 0.0))
    return answer


async def look_up(call: Call, names: Sequence[str], deadline_s: float) -> TopicIdsResponse:
    """Ids BEFORE the change, so that each of its attempts means the same topics."""
    left_s = max(deadline_s - call.now_s, 0.0)
    found: TopicIdsResponse
    found, _ = await call.ask(Controller(), apis.TOPIC_IDS, TopicIdsRequest(list(names)), timeout_s=left_s)
    return found


def _results(names: Sequence[str], answer: TopicsResponse) -> list[TopicResult]:
    if answer.error_code == ErrorCode.INVALID_UPDATE_VERSION:
        answer = TopicsResponse(ErrorCode.REQUEST_TIMED_OUT, FORGOTTEN)
    if answer.error_code:
        return [refusal(name, answer.error_code, answer.error_text) for name in names]
    return answer.results


async def settle(call: Call, deadline_s: float, names: Collection[str], known: Callable[[Cluster], bool]) -> None:
    """Waits a moment until this door, and every living node, knows of a change of these topics.

    Clients ask any broker next, and with acks=0 they would not notice that one has not heard of a leader yet.
    """
    if not names:
        return
    deadline_s = min(deadline_s, call.now_s + TOPIC_SETTLE_S)
    await wait_until(call, deadline_s, known)
    own = call.settings.node_id
    behind = [node.endpoint for node in call.cluster.nodes.values() if node.alive and node.node_id != own]
    request = MetadataRequest(list(names))
    while behind and call.now_s < deadline_s:
        asks = [
            call.ask(Node(endpoint), apis.METADATA, request, timeout_s=deadline_s - call.now_s) for endpoint in behind
        ]
        answers = await together(asks)
        behind = [
            endpoint
            for endpoint, (answer, _) in zip(behind, answers, strict=True)
            if answer.error_code or not known(Cluster(answer))
        ]
        if behind:
            await call.sleep(_SETTLE_AGAIN_S)


async def wait_until(call: Call, deadline_s: float, known: Callable[[Cluster], bool]) -> None:
    while not known(call.cluster) and await call.changed(deadline_s):
        pass


def is_led(cluster: Cluster, name: str, topic_id: bytes) -> bool:
    """The topic is there, with that id if one is given, and all of its partitions have a leader."""
    topic = cluster.topics.get(name)
    if topic is None or topic_id not in (b"", topic.topic_id):
        return False
    return all(partition.leader_id >= 0 for partition in topic.partitions)


def refusal(name: str, code: int, text: str) -> TopicResult:
    return TopicResult(name=name, error_code=ErrorCode(code), error_text=text)


def error_fields(code: int, text: str) -> dict[str, Any]:
    """An error as most of Kafka's answers have it."""
    return {"error_code": int(code), "error_message": text or None if code else None}
