"""Quotas at raftlog's own door: clients are told to wait, and refused where they do not."""

from __future__ import annotations

from typing import Any

import pytest

from raftlog.errors import ErrorCode
from raftlog.limits import THROTTLE_GRACE_S
from raftlog.node import quota_gate
from raftlog.node.quota_gate import QuotaGate
from raftlog.protocol import apis
from raftlog.protocol.envelope import NO_TOPIC, Request
from raftlog.protocol.records import FetchRequest, ProduceRequest
from raftlog.protocol.session import Session
from raftlog.protocol.throttles import Throttles
from raftlog.security.quotas import KEYS, Quota, entity_of
from tests.node.gate_requests import Heard

RATE = 1000


class Clock:
    def __init__(self) -> None:
        self.now_s = 50.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(quota_gate, "monotonic_s", lambda: made.now_s)
    return made


class Asker:
    """One session in front of a gate."""

    def __init__(self) -> None:
        self.throttles = Throttles()
        self.throttles.learn([Quota(entity_of(client_id="shop"), key, RATE) for key in KEYS])
        self.gate = QuotaGate(self.throttles, None)
        self.heard = Heard()
        self.session = Session("connection", "10.0.0.7:50000", self.heard)
        self.session.client_id = "shop"

    def admit(self, body: Any, payload: bytes = b"") -> Request[Any] | None:
        api = apis.BY_REQUEST[type(body)]
        return self.gate.admit(Request(self.session, api, 1, NO_TOPIC, 0, body, [payload] if payload else []))

    def produce(self, size_bytes: int, acks: int = -1) -> bool:
        return self.admit(ProduceRequest(acks, 1000), bytes(size_bytes)) is not None


def test_what_was_on_its_way_is_taken_and_what_comes_later_refused(clock: Clock) -> None:
    asker = Asker()
    assert asker.produce(5 * RATE)
    clock.now_s += THROTTLE_GRACE_S
    assert asker.produce(RATE) and asker.session.held_until_s == pytest.approx(clock.now_s + 4)
    clock.now_s += 0.1
    assert not asker.produce(RATE)
    (refusal,) = asker.heard.answers
    assert (refusal.error_code, refusal.throttle_ms) == (ErrorCode.THROTTLING_QUOTA_EXCEEDED, 3900)
    assert asker.admit(FetchRequest(0, 100)) is None
    clock.now_s += 4
    assert asker.produce(RATE // 2)


def test_who_asks_for_no_answer_is_told_and_loses_nothing(clock: Clock) -> None:
    asker = Asker()
    for _ in range(3):
        assert asker.produce(5 * RATE, acks=0)
        clock.now_s += 2 * THROTTLE_GRACE_S
    assert [each.correlation_id for each in asker.heard.answers] == [0, 0, 0]


def test_a_fetch_is_bounded_and_everything_else_goes_by(clock: Clock) -> None:
    asker = Asker()
    admitted = asker.admit(FetchRequest(0, 10_000))
    assert admitted is not None and admitted.body.max_bytes == RATE
    asker.produce(50 * RATE)
    clock.now_s += 2 * THROTTLE_GRACE_S
    assert asker.admit(apis.LIST_OFFSETS.request(timestamp_ms=-1)) is not None


def test_who_may_not_is_not_counted(clock: Clock) -> None:
    asker = Asker()
    asker.gate = QuotaGate(asker.throttles, lambda request: None)
    assert not asker.produce(50 * RATE) and asker.session.held_until_s == 0
