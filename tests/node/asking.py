"""A client of one request, straight on a link: what a test says to a node or a worker, and hears back."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any, TypeVar

from raftlog.network import Context, Link, Poller
from raftlog.protocol import apis
from raftlog.protocol.body import Body
from raftlog.protocol.cluster import (
    DescribeReplicasRequest,
    DescribeReplicasResponse,
    MetadataRequest,
    MetadataResponse,
)
from raftlog.protocol.envelope import decode_response, encode_request
from raftlog.protocol.topics import (
    MUTATION_ID_BYTES,
    CreateTopicsRequest,
    DeleteTopicsRequest,
    NewTopic,
    TopicIdsRequest,
    TopicIdsResponse,
    TopicResult,
    TopicsResponse,
)
from raftlog.types import Endpoint, ReplicaStatus
from tests.patience import WAIT_S

T = TypeVar("T")


def exchange(endpoint: Endpoint, frames: list[bytes], timeout_s: float = 5.0) -> list[bytes]:
    """The frames of the first answer; [] when there was none in time."""
    context = Context()
    link = Link(context, endpoint)
    poller = Poller()
    poller.register(link)
    deadline_s = time.monotonic() + timeout_s
    sent = False
    try:
        while (left_s := deadline_s - time.monotonic()) > 0:
            sent = sent or link.send(frames)
            poller.poll(min(left_s, 5.0 if sent else 0.01))
            answer = link.receive()
            if answer is not None:
                return answer
        return []
    finally:
        link.close()
        context.close()


def ask(endpoint: Endpoint, body: Body, timeout_s: float = 5.0, **place: Any) -> Any:
    """The body of the answer; None: there was none in time."""
    answer = exchange(endpoint, [encode_request(apis.BY_REQUEST[type(body)], 1, body, **place)], timeout_s)
    return decode_response(answer[0])[2] if answer else None


def until(find: Callable[[], T | None], timeout_s: float = WAIT_S, *, instead: Callable[[], str] = str) -> T:
    """The first thing found that is true. `instead`: what there is where it does not come."""
    deadline_s = time.monotonic() + timeout_s
    while True:
        found = find()
        if found:
            return found
        assert time.monotonic() < deadline_s, f"waited {timeout_s} s in vain for {find} {instead()}"
        time.sleep(0.02)


def metadata(endpoint: Endpoint, topics: list[str] | None = None) -> MetadataResponse | None:
    """None while the node has none to give."""
    answer = ask(endpoint, MetadataRequest(topics=topics))
    return answer if isinstance(answer, MetadataResponse) and not answer.error_code else None


def controller(endpoint: Endpoint) -> Endpoint:
    return until(lambda: (found := metadata(endpoint)) and found.controller)


def create_topic(
    endpoint: Endpoint, name: str, partitions: int = 1, factor: int = -1, config: dict[str, str] | None = None
) -> TopicResult:
    new = NewTopic(name=name, partitions=partitions, replication_factor=factor, config=config or {})
    return _change(endpoint, name, lambda found: CreateTopicsRequest(**mutation(found), topics=[new]))


def delete_topic(endpoint: Endpoint, name: str) -> TopicResult:
    return _change(
        endpoint,
        name,
        lambda found: DeleteTopicsRequest(**mutation(found), topics=[(name, found.topic_ids[0])]),
    )


def mutation(found: TopicIdsResponse) -> dict[str, Any]:
    return {"mutation_id": os.urandom(MUTATION_ID_BYTES), "since_offset": found.end_offset}


def look_up(endpoint: Endpoint, name: str) -> TopicIdsResponse:
    def attempt() -> TopicIdsResponse | None:
        answer = ask(controller(endpoint), TopicIdsRequest(names=[name]), 10.0)
        return answer if isinstance(answer, TopicIdsResponse) else None

    return until(attempt)


def _change(endpoint: Endpoint, name: str, build: Callable[[TopicIdsResponse], Body]) -> TopicResult:
    """Asks the controller; asks again while leadership moves."""
    request = build(look_up(endpoint, name))

    def attempt() -> TopicResult | None:
        answer = ask(controller(endpoint), request, 10.0)
        return answer.results[0] if isinstance(answer, TopicsResponse) and answer.results else None

    return until(attempt)


def statuses(endpoint: Endpoint, topic: str | None = None) -> list[ReplicaStatus]:
    answer = ask(endpoint, DescribeReplicasRequest(topics=[topic] if topic else None))
    return answer.replicas if isinstance(answer, DescribeReplicasResponse) else []


def leaders(endpoint: Endpoint, topic: str) -> dict[int, Endpoint]:
    """Partition to the endpoint of its leader; empty until every partition has one."""
    found = metadata(endpoint, [topic])
    if found is None or not found.topics[0].partitions:
        return {}
    partitions = found.topics[0].partitions
    known = {p.partition: p.endpoint for p in partitions if p.endpoint is not None}
    return known if len(known) == len(partitions) else {}
