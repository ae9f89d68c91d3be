"""The Wire's in-memory twin: who is connected is said by the test, and what was sent is kept."""

from __future__ import annotations

import random
from typing import Any, NamedTuple

from raftlog.client.core.exchange import Exchange
from raftlog.client.core.metadata import MetadataCache
from raftlog.client.core.metadata_refresh import Refresher
from raftlog.errors import ErrorCode
from raftlog.protocol import apis
from raftlog.protocol.apis import Api
from raftlog.protocol.cluster import (
    MetadataResponse,
    NodeMetadata,
    PartitionMetadata,
    TopicMetadata,
)
from raftlog.protocol.envelope import encode_response
from raftlog.protocol.records import (
    FetchResponse,
    InitProducerIdResponse,
    ListOffsetsResponse,
    ProduceResult,
)
from raftlog.types import Endpoint
from tests.requests import read

NODE = Endpoint("node", 1)
WORKER_A = Endpoint("worker", 11)
WORKER_B = Endpoint("worker", 12)
TOPIC_ID = b"0123456789abcdef"


class Sent(NamedTuple):
    """A request as it went out: its body, and what its envelope says."""

    endpoint: Endpoint
    request: Any
    payload: bytes
    api: Api[Any, Any]
    number: int
    topic_id: bytes
    partition: int


class FakeWire:
    """`sent` holds requests that no test has taken yet, greetings left out."""

    def __init__(self, *connected: Endpoint) -> None:
        self.connected = set(connected)
        self.wanted: set[Endpoint] = set()
        self.full: set[Endpoint] = set()
        self.greeted: list[Endpoint] = []
        self.sent: list[Sent] = []

    def connect(self, endpoint: Endpoint) -> bool:
        self.wanted.add(endpoint)
        return endpoint in self.connected

    def send(self, endpoint: Endpoint, frames: list[bytes]) -> bool:
        if endpoint not in self.connected or endpoint in self.full:
            return False
        request = read(frames[0])
        if request.api is apis.HANDSHAKE:
            self.greeted.append(endpoint)
        else:
            payload = frames[1] if len(frames) > 1 else b""
            place = request.topic_id, request.partition
            self.sent.append(Sent(endpoint, request.body, payload, request.api, request.correlation_id, *place))
        return True

    def take(self, kind: type | None = None) -> list[Sent]:
        """What was sent since, of one kind."""
        taken = [one for one in self.sent if kind is None or isinstance(one.request, kind)]
        self.sent = [one for one in self.sent if one not in taken]
        return taken


class FakeCluster:
    """One topic, and the pieces of a client around a FakeWire, for the tests of cores."""

    def __init__(self, *connected: Endpoint, topics: frozenset[str] | None = frozenset({"t"})) -> None:
        self.wire = FakeWire(*(connected or (NODE, WORKER_A, WORKER_B)))
        self.exchange = Exchange(self.wire, "test")
        self.cache = MetadataCache()
        self.refresher = Refresher(self.exchange, self.cache, [NODE], topics, random.Random(1))
        self.now_s = 1000.0

    def know(
        self,
        leader: Endpoint | None = WORKER_A,
        epoch: int = 1,
        *,
        partitions: int = 1,
        topic_id: bytes = TOPIC_ID,
        max_record_bytes: int = 1024 * 1024,
    ) -> None:
        """A node has answered: one leader leads all partitions of topic t."""
        self.cache.update(metadata(leader, epoch, partitions, topic_id, max_record_bytes), self.now_s)

    def know_nothing(self) -> None:
        """A node has answered that it knows no topic t."""
        gone = TopicMetadata(name="t", topic_id=b"", error_code=3, partitions=[], config={})
        self.cache.update(MetadataResponse(topics=[gone], confirmed=True), self.now_s)
        self.refresher.answered_s = self.now_s

    def lose(self, endpoint: Endpoint) -> None:
        self.exchange.lost(endpoint)

    def answer(self, sent: Sent, response: Any, payload: bytes = b"") -> None:
        """`response`: a body, or a list of them to a Produce."""
        header = encode_response(sent.api, sent.number, response)
        self.exchange.answered(sent.endpoint, [header, *([payload] if payload else [])])

    def answer_produce(self, sent: Sent, code: int = 0, base_offset: int = -1, *, epoch: int = -1) -> None:
        self.answer(sent, [ProduceResult(code, "", sent.number, base_offset, -1, epoch)])

    def answer_fetch(
        self, sent: Sent, payload: bytes = b"", code: int = 0, high_watermark: int = 0, *, epoch: int = 1
    ) -> None:
        response = FetchResponse(error_code=code, high_watermark=high_watermark, log_start_offset=0, leader_epoch=epoch)
        self.answer(sent, response, payload)

    def answer_offsets(self, sent: Sent, offset: int, *, epoch: int = 1) -> None:
        self.answer(sent, ListOffsetsResponse(offset=offset, leader_epoch=epoch))

    def answer_producer_id(self, sent: Sent, producer_id: int) -> None:
        self.answer(sent, InitProducerIdResponse(producer_id=producer_id, producer_epoch=0))

    def answer_error(self, sent: Sent, code: ErrorCode) -> None:
        refusal = sent.api.refusal(code, "no")
        if isinstance(refusal, ProduceResult):
            refusal.correlation_id = sent.number
            self.answer(sent, [refusal])
        else:
            self.answer(sent, refusal)


def metadata(
    leader: Endpoint | None,
    epoch: int,
    partitions: int = 1,
    topic_id: bytes = TOPIC_ID,
    max_record_bytes: int = 1024 * 1024,
    image_offset: int = 0,
    confirmed: bool = True,
) -> MetadataResponse:
    return MetadataResponse(
        cluster_id="c",
        controller=NODE,
        nodes=[NodeMetadata(node_id=1, endpoint=NODE, alive=True, voter=True)],
        topics=[
            TopicMetadata(
                name="t",
                topic_id=topic_id,
                error_code=0,
                partitions=[
                    PartitionMetadata(
                        partition=number,
                        leader_id=-1 if leader is None else leader.port,
                        leader_epoch=epoch,
                        endpoint=leader,
                        replicas=[1, 2, 3],
                        in_sync=[1, 2, 3],
                    )
                    for number in range(partitions)
                ],
                config={"max_record_bytes": max_record_bytes},
            )
        ],
        node_id=1,
        image_offset=image_offset,
        confirmed=confirmed,
    )
