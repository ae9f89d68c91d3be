"""Quotas at raftlog's own door: who has used up one is told to wait, and refused once it does not.

ZeroMQ reads from all clients or from none, so nobody's connection can be left alone for a while as at Kafka's door. A
client of raftlog's waits when it is told to; what it had sent before is taken. Another one's requests are refused.
There is no such gate while there is no quota (raftlog/node/dispatch.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from raftlog.clock import monotonic_s
from raftlog.errors import ErrorCode
from raftlog.limits import THROTTLE_GRACE_S
from raftlog.node.doors.door import answer
from raftlog.protocol import apis
from raftlog.protocol.envelope import Request
from raftlog.protocol.throttles import Throttles, held_ms
from raftlog.security.quotas import CONSUMER_BYTE_RATE, PRODUCER_BYTE_RATE

Admit = Callable[[Request[Any]], Request[Any] | None]


class QuotaGate:
    """Behind the gate that says who may do what, if there is one."""

    def __init__(self, throttles: Throttles, admit: Admit | None) -> None:
        self._throttles = throttles
        self._admit = admit

    def admit(self, request: Request[Any]) -> Request[Any] | None:
        """The request for its handler; None: it is answered."""
        if self._admit is not None:
            admitted = self._admit(request)
            if admitted is None:
                return None
            request = admitted
        if request.api is apis.PRODUCE or request.api is apis.FETCH:
            return self._measure(request, monotonic_s())
        return request

    def _measure(self, request: Request[Any], now_s: float) -> Request[Any] | None:
        session, body = request.session, request.body
        tells = request.api is apis.FETCH or body.acks
        if tells and now_s < session.held_until_s and now_s - session.held_since_s > THROTTLE_GRACE_S:
            text = f"a quota is used up: wait for {held_ms(session, now_s)} ms, as earlier answers said"
            refusal = request.api.refusal(ErrorCode.THROTTLING_QUOTA_EXCEEDED, text)
            refusal.throttle_ms = held_ms(session, now_s)
            answer(request, refusal)
            return None
        if request.api is apis.FETCH:
            most = self._throttles.burst_bytes(session, CONSUMER_BYTE_RATE)
            body.max_bytes = min(body.max_bytes, most or body.max_bytes)
        else:
            size_bytes = sum(map(len, request.payload))
            is_held = self._throttles.charge(session, PRODUCER_BYTE_RATE, size_bytes, now_s)
            if is_held and not tells:
                answer(request, request.api.response())  # it asks for no answer, and has to hear of it
        return request
