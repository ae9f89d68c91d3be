"""A node for the tests of the engine: one process, one topic, logs in memory, real sockets.

It leads everything itself: supervisor and worker share the address. Tests change `refuse` and `silent`
to make it misbehave. What groups commit is kept, of whoever commits it; members it has none.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from raftlog.errors import ErrorCode
from raftlog.network import Context, Poller, Server
from raftlog.node.doors.native import NativeDoor
from raftlog.protocol import groups as g
from raftlog.protocol.cluster import (
    HandshakeRequest,
    MetadataRequest,
    MetadataResponse,
    NodeMetadata,
    PartitionMetadata,
    TopicMetadata,
)
from raftlog.protocol.envelope import Request
from raftlog.protocol.records import (
    FetchRequest,
    FetchResponse,
    InitProducerIdRequest,
    InitProducerIdResponse,
    ListOffsetsRequest,
    ListOffsetsResponse,
    ProduceRequest,
    ProduceResult,
)
from raftlog.protocol.session import Session
from raftlog.record.batch import check_batch, stamp
from raftlog.types import LATEST_TIMESTAMP, OFFSETS_TOPIC, Endpoint, TopicPartition
from tests.patience import WAIT_S

TOPIC_ID = b"0123456789abcdef"
LEADER_EPOCH = 1


class FakeNode:
    def __init__(self, partitions: int = 1, ports: range | int | None = None) -> None:
        self._context = Context()
        self._server = Server(self._context, "127.0.0.1", ports)
        self.endpoint = Endpoint("127.0.0.1", self._server.port)
        self.bootstrap = str(self.endpoint)
        self.batches: list[list[tuple[int, int, bytes]]] = [[] for _ in range(partitions)]  # [start, end), bytes
        self.refuse = ErrorCode.NONE
        self.silent = False
        self.topic = "t"
        self.topic_id = TOPIC_ID
        self.known = True
        self.cluster_id = "c"
        self.confirmed = True
        self.producer_ids = 0
        self.commits: list[g.OffsetCommitRequest] = []
        self._door = NativeDoor(self._server, 1, lambda: self.cluster_id)
        self._waiting: list[tuple[Request[FetchRequest], float]] = []
        self._stopping = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        poller = Poller()
        poller.register(self._server)
        while not self._stopping:
            poller.poll(0.01)
            produced: dict[Session, list[ProduceResult]] = {}
            for request in self._door.requests(10_000):
                if not self.silent:
                    self._handle(request, produced)
            for session, results in produced.items():
                self._door.answer_produces(session, results)
            waiting, self._waiting = self._waiting, []
            for request, until_s in waiting:
                self._fetch(request, until_s)
        self._server.close()
        self._context.close()

    def _handle(self, request: Request[Any], produced: dict[Session, list[ProduceResult]]) -> None:
        answer = partial(self._door.answer, request)
        match request.body:
            case HandshakeRequest():
                self._door.greet(request)
            case MetadataRequest():
                answer(self._metadata(request.body))
            case InitProducerIdRequest():
                self.producer_ids += 1
                answer(InitProducerIdResponse(producer_id=self.producer_ids, producer_epoch=0))
            case ProduceRequest():
                result = self._produce(request, bytes(request.payload[0]))
                if request.body.acks:
                    produced.setdefault(request.session, []).append(result)
            case FetchRequest():
                self._fetch(request, time.monotonic() + request.body.max_wait_ms / 1000)
            case ListOffsetsRequest():
                end = self.end(request.partition)
                offset = end if request.body.timestamp_ms == LATEST_TIMESTAMP else 0
                answer(ListOffsetsResponse(offset=offset, leader_epoch=LEADER_EPOCH))
            case g.FindCoordinatorRequest():
                answer(g.FindCoordinatorResponse(topic_id=TOPIC_ID, partitions=1))
            case g.OffsetCommitRequest():
                self.commits.append(request.body)
                answer(g.OffsetCommitResponse())
            case g.OffsetFetchRequest():
                answer(g.OffsetFetchResponse(offsets=list(self.committed().values())))

    def committed(self) -> dict[TopicPartition, g.CommittedOffset]:
        return {TopicPartition(each.topic, each.partition): each for made in self.commits for each in made.offsets}

    def _metadata(self, request: MetadataRequest) -> MetadataResponse:
        topics = []
        for name in [self.topic] if request.topics is None else request.topics:
            known = name == OFFSETS_TOPIC or (self.known and name == self.topic)
            partitions = [
                PartitionMetadata(
                    partition=number,
                    leader_id=1,
                    leader_epoch=LEADER_EPOCH,
                    endpoint=self.endpoint,
                    replicas=[1],
                    in_sync=[1],
                )
                for number in range(len(self.batches))
            ]
            topics.append(
                TopicMetadata(
                    name=name,
                    topic_id=self.topic_id if known else b"",
                    error_code=0 if known else int(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
                    partitions=partitions if known else [],
                    config={},
                )
            )
        node = NodeMetadata(node_id=1, endpoint=self.endpoint, alive=True, voter=True)
        return MetadataResponse(
            cluster_id=self.cluster_id,
            nodes=[node],
            topics=topics,
            controller=self.endpoint,
            node_id=1,
            confirmed=self.confirmed,
        )

    def end(self, partition: int) -> int:
        log = self.batches[partition]
        return log[-1][1] if log else 0

    def _produce(self, request: Request[ProduceRequest], batch: bytes) -> ProduceResult:
        if self.refuse:
            return ProduceResult(self.refuse, "", request.correlation_id)
        header = check_batch(batch)
        start = self.end(request.partition)
        stamped = stamp(batch, start, LEADER_EPOCH)
        self.batches[request.partition].append((start, start + header.record_count, stamped))
        return ProduceResult(0, "", request.correlation_id, start)

    def _fetch(self, request: Request[FetchRequest], until_s: float) -> None:
        end = self.end(request.partition)
        code = self.refuse
        found: list[bytes] = []
        if request.body.offset > end:
            code = ErrorCode.OFFSET_OUT_OF_RANGE
        else:
            found = self._batches(request.partition, request.body)
        if not found and not code and time.monotonic() < until_s:
            self._waiting.append((request, until_s))
            return
        response = FetchResponse(error_code=code, high_watermark=end, log_start_offset=0, leader_epoch=LEADER_EPOCH)
        self._door.answer(request, response, b"".join(found) or None)

    def _batches(self, partition: int, request: FetchRequest) -> list[bytes]:
        log = self.batches[partition]
        low, high = 0, len(log)
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if log[middle][1] <= request.offset else (low, middle)
        found: list[bytes] = []
        size = 0
        for _, _, batch in log[low:]:
            if found and size + len(batch) > request.max_bytes:
                break
            found.append(batch)
            size += len(batch)
        return found

    def close(self) -> None:
        self._stopping = True
        self._thread.join(WAIT_S)


@contextmanager
def fake_node(partitions: int = 1) -> Iterator[FakeNode]:
    node = FakeNode(partitions)
    try:
        yield node
    finally:
        node.close()
