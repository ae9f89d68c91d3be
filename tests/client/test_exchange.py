"""Every request ends exactly once."""

from __future__ import annotations

from typing import Any

from raftlog.errors import ErrorCode
from raftlog.protocol import apis
from raftlog.protocol.envelope import encode_response
from raftlog.protocol.records import (
    FetchResponse,
    ListOffsetsRequest,
    ListOffsetsResponse,
    ProduceRequest,
    ProduceResult,
)
from tests.client.fake_wire import TOPIC_ID, WORKER_A, WORKER_B, FakeCluster

INFINITY = float("inf")


class Asking:
    def __init__(self) -> None:
        self.cluster = FakeCluster()
        self.exchange = self.cluster.exchange
        self.outcomes: list[tuple[Any, bytes]] = []

    def ask(self, deadline_s: float = 10.0, overdue_s: float = INFINITY, endpoint: object = WORKER_A) -> int:
        number = self.exchange.ask(
            endpoint,  # type: ignore[arg-type]
            apis.LIST_OFFSETS,
            ListOffsetsRequest(timestamp_ms=-1),
            lambda answer, payload: self.outcomes.append((answer, payload)),
            deadline_s=deadline_s,
            overdue_s=overdue_s,
            topic_id=TOPIC_ID,
            partition=0,
        )
        assert number
        return number


def answer(number: int, offset: int = -1) -> bytes:
    return encode_response(apis.LIST_OFFSETS, number, ListOffsetsResponse(offset=offset))


def test_an_answer_ends_its_request_and_a_second_one_is_ignored() -> None:
    asking = Asking()
    number = asking.ask()
    for _ in range(2):
        asking.exchange.answered(WORKER_A, [answer(number, 7), b"payload"])
    assert asking.outcomes == [(ListOffsetsResponse(offset=7), b"payload")]


def test_time_ends_a_request_and_a_late_answer_is_ignored() -> None:
    asking = Asking()
    number = asking.ask(deadline_s=10.0)
    assert asking.exchange.next_wakeup_s() == 10.0
    asking.exchange.expire(9.9)
    assert asking.outcomes == []
    asking.exchange.expire(10.1)
    assert asking.outcomes == [(None, b"")]
    asking.exchange.answered(WORKER_A, [answer(number)])
    assert len(asking.outcomes) == 1


def test_an_answer_from_elsewhere_ends_nothing() -> None:
    asking = Asking()
    number = asking.ask()
    asking.exchange.answered(WORKER_B, [answer(number)])
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


def test_an_answer_of_another_api_ends_nothing() -> None:
    asking = Asking()
    number = asking.ask()
    asking.exchange.answered(WORKER_A, [encode_response(apis.FETCH, number, FetchResponse())])
    assert asking.outcomes == []


def test_a_refused_greeting_is_the_answer_to_all_that_was_asked() -> None:
    asking = Asking()
    asking.ask()
    refusal = apis.HANDSHAKE.refusal(ErrorCode.UNSUPPORTED_VERSION, "speaks version 9 to 12")
    asking.exchange.answered(WORKER_A, [encode_response(apis.HANDSHAKE, 1, refusal)])
    ((refused, _),) = asking.outcomes
    assert isinstance(refused, ListOffsetsResponse)
    assert refused.error_code == ErrorCode.UNSUPPORTED_VERSION and "speaks version 9" in refused.error_text
    assert "speaks version 9 to 12" in asking.exchange.trouble


def test_results_of_many_produces_come_in_one_message() -> None:
    asking = Asking()
    results: dict[int, ProduceResult] = {}

    def done(result: ProduceResult | None, _payload: bytes) -> None:
        assert result is not None
        results[result.correlation_id] = result

    request = ProduceRequest(acks=-1, timeout_ms=1)
    numbers = [
        asking.exchange.ask(WORKER_A, apis.PRODUCE, request, done, deadline_s=1.0, payload=b"batch") for _ in range(3)
    ]
    response = [ProduceResult(0, "", number, number * 10) for number in numbers]
    asking.exchange.answered(WORKER_A, [encode_response(apis.PRODUCE, 0, response)])
    assert [results[number].base_offset for number in numbers] == [number * 10 for number in numbers]


def test_answers_that_cannot_be_read_are_ignored() -> None:
    asking = Asking()
    asking.ask()
    for frame in (b"", b"\x02", b"\x02not msgpack", b"\x02" + b"\xff" * 10, b"\x02" * 1000, answer(1)[:-1]):
        asking.exchange.answered(WORKER_A, [frame])
    assert asking.outcomes == []


def test_what_is_overdue_is_told_until_it_ends() -> None:
    asking = Asking()
    number = asking.ask(deadline_s=30.0, overdue_s=1.0)
    assert not asking.exchange.expire(0.5)
    assert asking.exchange.expire(1.1)
    assert asking.exchange.expire(1.3)
    asking.exchange.answered(WORKER_A, [answer(number)])
    assert not asking.exchange.expire(1.5)


def test_what_cannot_be_sent_is_never_answered() -> None:
    asking = Asking()
    asking.cluster.wire.connected.clear()
    request = ListOffsetsRequest(timestamp_ms=-1)
    assert not asking.exchange.ask(WORKER_A, apis.LIST_OFFSETS, request, None, deadline_s=1.0)
    assert not asking.exchange.is_asked(WORKER_A)
