"""A worker's door for the other doors of its node: who is answered, in how many messages, and what bad bytes do."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator
from typing import Any

import pytest

from raftlog.errors import ErrorCode
from raftlog.network import LocalServer, MessageStream, Poller, connect_local, message_stream
from raftlog.node.dispatch import Dispatch
from raftlog.node.doors import inner
from raftlog.node.doors.door import answer, answer_produces
from raftlog.protocol import apis
from raftlog.protocol.envelope import Request, decode_response, encode_request
from raftlog.protocol.records import FetchRequest, FetchResponse, ProduceRequest, ProduceResult
from raftlog.protocol.session import Session
from tests.node.asking import until

TOPIC_ID = b"t" * 16
FETCH = FetchRequest(offset=7, max_bytes=1000)


class Worker:
    """As much of a worker as stands behind the door: produces are answered at the end of a turn."""

    def __init__(self) -> None:
        self.boot_id = random.SystemRandom().getrandbits(62)
        self.poller = Poller()
        self.door = inner.InnerDoor(self.boot_id, self.poller)
        self.dispatch = Dispatch(self.door, "here", {apis.FETCH: self._fetch, apis.PRODUCE: self._produce})
        self.fetches: list[Request[Any]] = []
        self.produced: dict[Session, list[ProduceResult]] = {}
        self.streams: list[MessageStream] = []

    def _fetch(self, request: Request[Any]) -> None:
        self.fetches.append(request)
        answer(request, FetchResponse(high_watermark=request.body.offset), b"records")

    def _produce(self, request: Request[Any]) -> None:
        result = ProduceResult(correlation_id=request.correlation_id, base_offset=len(request.payload[0]))
        self.produced.setdefault(request.session, []).append(result)

    def turn(self, most: int = 1000) -> None:
        for ready in self.poller.poll(0.0 if self.door.has_arrived else 0.005):
            if isinstance(ready, LocalServer):
                self.door.accept()
            else:
                self.door.receive(ready)
        self.dispatch.serve(most, float("inf"))
        produced, self.produced = self.produced, {}
        for session, results in produced.items():
            answer_produces(session, results)
        self.door.flush()

    def connect(self) -> MessageStream:
        stream = connect_local(self.boot_id, {}.__setitem__)
        assert stream is not None
        self.streams.append(stream)
        self.turn()
        return stream

    def answers(self, stream: MessageStream, count: int) -> list[Any]:
        """(number, body, payload), or the bodies of a produce, as each message has them."""
        found: list[Any] = []

        def come() -> bool:
            self.turn()
            for header, payload in stream.receive():
                api, number, body = decode_response(header)
                found.append(body if api is apis.PRODUCE else (number, body, payload))
            return len(found) >= count

        until(come)
        return found

    def close(self) -> None:
        for stream in self.streams:
            stream.close()
        self.door.server.close()


@pytest.fixture
def worker() -> Iterator[Worker]:
    made = Worker()
    yield made
    made.close()


def ask(stream: MessageStream, number: int, body: Any, payload: bytes | None = None) -> None:
    assert stream.put(encode_request(apis.BY_REQUEST[type(body)], number, body, TOPIC_ID, 3), payload)
    stream.flush()


def test_everybody_gets_the_answers_to_what_he_asked(worker: Worker) -> None:
    one, other = worker.connect(), worker.connect()
    ask(one, 5, FETCH)
    ask(other, 6, FetchRequest(offset=8, max_bytes=1000))
    assert worker.answers(one, 1) == [(5, FetchResponse(high_watermark=7), b"records")]
    assert worker.answers(other, 1) == [(6, FetchResponse(high_watermark=8), b"records")]
    assert [(each.topic_id, each.partition, each.session.address) for each in worker.fetches] == [
        (TOPIC_ID, 3, "this node")
    ] * 2


def test_the_produces_of_a_turn_are_answered_in_one_message(worker: Worker) -> None:
    one, other = worker.connect(), worker.connect()
    for number in range(20):
        ask(one, number, ProduceRequest(acks=-1, timeout_ms=1000), bytes(number + 1))
    ask(other, 99, ProduceRequest(acks=-1, timeout_ms=1000), b"xyz")
    (results,) = worker.answers(one, 1)
    assert [(each.correlation_id, each.base_offset) for each in results] == [(n, n + 1) for n in range(20)]
    ((result,),) = worker.answers(other, 1)
    assert (result.correlation_id, result.base_offset) == (99, 3)


def test_a_body_that_does_not_decode_is_refused_to_the_one_who_waits(worker: Worker) -> None:
    stream = worker.connect()
    assert stream.put(encode_request(apis.FETCH, 9, FETCH, TOPIC_ID, 3)[:-1] + b"\xc1")
    ask(stream, 10, FETCH)
    (refused, served) = worker.answers(stream, 2)
    assert refused[0] == 9 and refused[1].error_code == ErrorCode.INVALID_REQUEST
    assert served[0] == 10 and served[1].error_code == 0


def test_what_is_served_elsewhere_is_refused(worker: Worker) -> None:
    stream = worker.connect()
    assert stream.put(encode_request(apis.METADATA, 4, apis.METADATA.request()))
    stream.flush()
    ((number, body, _),) = worker.answers(stream, 1)
    assert number == 4 and body.error_code == ErrorCode.INVALID_REQUEST


def test_what_is_no_request_ends_its_stream_and_no_other(worker: Worker, caplog: pytest.LogCaptureFixture) -> None:
    stream, other = worker.connect(), worker.connect()
    assert stream.put(b"\xff what is this")
    ask(stream, 1, FETCH)
    with caplog.at_level(logging.ERROR):
        worker.turn()
    assert "a door of this node sent what is no request" in caplog.text
    until(lambda: stream.receive() == [] and stream.closed)
    assert worker.fetches == []
    ask(other, 2, FETCH)
    assert worker.answers(other, 1)[0][0] == 2


def test_damaged_bytes_do_no_harm(worker: Worker) -> None:
    rng = random.Random(11)
    other = worker.connect()
    for number in range(400):
        stream = worker.connect()
        message = bytearray(encode_request(apis.FETCH, number, FETCH, TOPIC_ID, 3))
        for _ in range(rng.randrange(1, 6)):
            message[rng.randrange(len(message))] = rng.choice((0, 0x7F, 0x80, 0xC1, 0xDF, 0xFF, rng.randrange(256)))
        assert stream.put(bytes(message[: rng.randrange(1, len(message) + 1)]), rng.randbytes(rng.randrange(20)))
        stream.flush()
        worker.turn()
        stream.close()
    ask(other, 1, FETCH)
    assert worker.answers(other, 1)[0][0] == 1
    until(lambda: worker.turn() or len(worker.door._sessions) == 1)  # type: ignore[func-returns-value]


def test_a_turn_that_has_no_room_leaves_the_rest_in_the_sockets(worker: Worker) -> None:
    stream = worker.connect()
    for number in range(60):
        ask(stream, number, ProduceRequest(acks=-1, timeout_ms=1000), bytes(500_000))
    most = 0
    for _ in range(200):
        stream.flush()
        worker.turn(1)
        most = max(most, len(worker.door._arrived))
    assert 0 < most < 15, "4 MiB a turn, and no more before they are served"
    done: list[Any] = []
    while len(done) < 60:
        stream.flush()
        done += [result for results in worker.answers(stream, 1) for result in results]
    assert [each.correlation_id for each in done] == list(range(60))


def test_one_that_takes_no_answers_is_ended(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(message_stream, "MESSAGES_WAITING_BYTES_MAX", 3_000_000)
    stream = worker.connect()
    large = Dispatch(
        worker.door, "here", {apis.FETCH: lambda request: answer(request, FetchResponse(), bytes(1_000_000))}
    )
    worker.dispatch = large
    for number in range(20):
        ask(stream, number, FETCH)
    until(lambda: worker.turn() or not worker.door._sessions)  # type: ignore[func-returns-value]


def test_there_are_no_more_streams_than_a_bound(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inner, "LOCAL_STREAMS_MAX", 2)
    first, second, third = (worker.connect() for _ in range(3))
    until(lambda: third.receive() == [] and third.closed)
    for stream in (first, second):
        ask(stream, 1, FETCH)
        assert worker.answers(stream, 1)[0][0] == 1


def test_answers_to_one_that_is_gone_are_dropped(worker: Worker) -> None:
    stream = worker.connect()
    ask(stream, 1, FETCH)
    until(lambda: worker.turn() or worker.fetches)  # type: ignore[func-returns-value]
    stream.close()
    until(lambda: worker.turn() or not worker.door._sessions)  # type: ignore[func-returns-value]
    answer(worker.fetches[0], FetchResponse(), b"late")
    worker.door.flush()
