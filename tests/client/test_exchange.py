"""Every request ends exactly once."""

from __future__ import annotations

import msgspec

from raftlog.client.core.exchange import Answer
from raftlog.errors import ErrorCode
from raftlog.protocol import codec
from raftlog.protocol.cluster import ErrorResponse, HandshakeResponse
from raftlog.protocol.records import (
    ListOffsetsRequest,
    ListOffsetsResponse,
    ProduceRequest,
    ProduceResponse,
    ProduceResult,
)
from tests.client.fake_wire import TOPIC_ID, WORKER_A, WORKER_B, Cluster

INFINITY = float("inf")


class Asking:
    def __init__(self) -> None:
        self.cluster = Cluster()
        self.exchange = self.cluster.exchange
        self.outcomes: list[tuple[Answer | None, bytes]] = []

    def ask(self, deadline_s: float = 10.0, overdue_s: float = INFINITY, endpoint: object = WORKER_A) -> int:
        number = self.exchange.next_id()
        request = ListOffsetsRequest(correlation_id=number, topic_id=TOPIC_ID, partition=0, timestamp_ms=-1)
        assert self.exchange.ask(
            endpoint,  # type: ignore[arg-type]
            request,
            lambda answer, payload: self.outcomes.append((answer, payload)),
            now_s=0.0,
            deadline_s=deadline_s,
            overdue_s=overdue_s,
        )
        return number


def test_an_answer_ends_its_request_and_a_second_one_is_ignored() -> None:
    asking = Asking()
    number = asking.ask()
    response = ListOffsetsResponse(correlation_id=number, offset=7)
    for _ in range(2):
        asking.exchange.answered(WORKER_A, [codec.encode(response), b"payload"])
    assert asking.outcomes == [(response, b"payload")]
    assert asking.exchange.late == 1


def test_time_ends_a_request_and_a_late_answer_is_ignored() -> None:
    asking = Asking()
    number = asking.ask(deadline_s=10.0)
    assert asking.exchange.next_wakeup_s() == 10.0
    asking.exchange.expire(9.9)
    assert asking.outcomes == []
    asking.exchange.expire(10.1)
    assert asking.outcomes == [(None, b"")]
    asking.exchange.answered(WORKER_A, [codec.encode(ListOffsetsResponse(correlation_id=number))])
    assert len(asking.outcomes) == 1
    assert asking.exchange.late == 1


def test_an_answer_from_elsewhere_ends_nothing() -> None:
    asking = Asking()
    number = asking.ask()
    asking.exchange.answered(WORKER_B, [codec.encode(ListOffsetsResponse(correlation_id=number))])
    assert asking.outcomes == []


def test_a_lost_connection_ends_its_requests_and_no_others() -> None:
    asking = Asking()
    asking.ask()
    asking.ask()
    asking.ask(endpoint=WORKER_B)
    asking.exchange.lost(WORKER_A)
    assert asking.outcomes == [(None, b""), (None, b"")]
    assert not asking.exchange.is_asked(WORKER_A)
    assert asking.exchange.is_asked(WORKER_B)


def test_abandoning_ends_it_once() -> None:
    asking = Asking()
    number = asking.ask()
    asking.exchange.abandon(WORKER_A, number)
    asking.exchange.abandon(WORKER_A, number)
    asking.exchange.lost(WORKER_A)
    assert asking.outcomes == [(None, b"")]


def test_every_connection_is_greeted_first_and_once() -> None:
    asking = Asking()
    asking.ask()
    asking.ask()
    asking.ask(endpoint=WORKER_B)
    assert asking.cluster.wire.greeted == [WORKER_A, WORKER_B]
    asking.exchange.lost(WORKER_A)
    asking.ask()
    assert asking.cluster.wire.greeted == [WORKER_A, WORKER_B, WORKER_A]


def test_a_refused_greeting_is_the_answer_to_all_that_was_asked() -> None:
    asking = Asking()
    number = asking.ask()
    refusal = HandshakeResponse(
        correlation_id=1, error_code=ErrorCode.UNSUPPORTED_VERSION, error_text="speaks version 9 to 12"
    )
    asking.exchange.answered(WORKER_A, [codec.encode(refusal)])
    ((answer, _),) = asking.outcomes
    assert isinstance(answer, ErrorResponse)
    assert (answer.correlation_id, answer.error_code) == (number, ErrorCode.UNSUPPORTED_VERSION)


def test_results_of_many_produces_come_in_one_message() -> None:
    asking = Asking()
    results: dict[int, ProduceResult] = {}
    numbers = [asking.exchange.next_id() for _ in range(3)]

    def done(answer: Answer | None, _payload: bytes) -> None:
        assert isinstance(answer, ProduceResult)
        results[answer.correlation_id] = answer

    for number in numbers:
        request = ProduceRequest(correlation_id=number, topic_id=TOPIC_ID, partition=0, acks=-1, timeout_ms=1)
        asking.exchange.ask(WORKER_A, request, done, now_s=0.0, deadline_s=1.0, payload=b"batch")
    response = ProduceResponse(results=[ProduceResult(number, 0, number * 10) for number in numbers])
    asking.exchange.answered(WORKER_A, [codec.encode(response)])
    assert [results[number].base_offset for number in numbers] == [number * 10 for number in numbers]


def test_answers_that_cannot_be_read_are_ignored() -> None:
    asking = Asking()
    asking.ask()
    for frame in (b"", b"\xc1", b"not msgpack", msgspec.msgpack.encode(["Produce", 1]), b"\x00" * 1000):
        asking.exchange.answered(WORKER_A, [frame])
    assert asking.outcomes == []


def test_what_is_overdue_is_told_until_it_ends() -> None:
    asking = Asking()
    number = asking.ask(deadline_s=30.0, overdue_s=1.0)
    assert not asking.exchange.expire(0.5)
    assert asking.exchange.expire(1.1)
    assert asking.exchange.expire(1.3)
    asking.exchange.answered(WORKER_A, [codec.encode(ListOffsetsResponse(correlation_id=number))])
    assert not asking.exchange.expire(1.5)


def test_what_cannot_be_sent_is_never_answered() -> None:
    asking = Asking()
    asking.cluster.wire.connected.clear()
    request = ListOffsetsRequest(correlation_id=1, topic_id=TOPIC_ID, partition=0, timestamp_ms=-1)
    assert not asking.exchange.ask(WORKER_A, request, None, now_s=0.0, deadline_s=1.0)
    assert not asking.exchange.is_asked(WORKER_A)
