"""A client that deletes records up to offsets of its choice, and looks where the log starts.

What was answered stays: no later leader may start its log below it.
"""

from __future__ import annotations

import random
from typing import Any

from raftlog.errors import ErrorCode
from raftlog.protocol.body import ResponseBody
from raftlog.protocol.envelope import Request
from raftlog.protocol.records import (
    HIGH_WATERMARK,
    DeleteRecordsRequest,
    DeleteRecordsResponse,
    ListOffsetsRequest,
    ListOffsetsResponse,
)
from raftlog.simulator.asker import TIMEOUT_S, Asker, SendRequest
from raftlog.simulator.events import Events
from raftlog.simulator.invariants import Broken
from raftlog.types import EARLIEST_TIMESTAMP, ReplicaSpec

_FAR = 1_000_000  # an offset that no run reaches


class Trimmer(Asker[DeleteRecordsRequest | ListOffsetsRequest]):
    """A client that deletes records, and looks where the log starts.

    `trimmed` is where the log starts at least, as it was answered last.
    """

    def __init__(self, *, name: str, spec: ReplicaSpec, events: Events, rng: random.Random, send: SendRequest) -> None:
        super().__init__(name, spec, events, rng, send)
        self.trimmed = 0
        self._epoch = 0  # in which that was answered
        self._start = 0

    def _choose(self) -> Request[DeleteRecordsRequest | ListOffsetsRequest]:
        if self._rng.random() < 0.5:
            return self._request(ListOffsetsRequest(timestamp_ms=EARLIEST_TIMESTAMP))
        offset = self._start + self._rng.randrange(1, 40)
        if self._rng.random() < 0.1:
            offset = self._rng.choice((HIGH_WATERMARK, HIGH_WATERMARK, 0, _FAR))
        return self._request(DeleteRecordsRequest(offset=offset, timeout_ms=int(TIMEOUT_S * 1000)))

    def on_response(self, request: Request[Any], response: ResponseBody, _payload: bytes | None) -> None:
        assert isinstance(response, (DeleteRecordsResponse, ListOffsetsResponse))
        if not self._take(request):
            return
        if response.error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER:
            self._turn_to(response.leader_id)
        elif response.error_code == ErrorCode.NONE:
            start = response.offset if isinstance(response, ListOffsetsResponse) else response.log_start_offset
            self._on_start(request.body, start, response.leader_epoch)
        self._events.after(self._rng.expovariate(1 / 0.2), self._next)

    def _on_start(self, asked: DeleteRecordsRequest | ListOffsetsRequest, start: int, epoch: int) -> None:
        if epoch >= self._epoch and start < self.trimmed:
            raise Broken(
                "diverged", f"epoch {epoch} starts its log at {start}; {self.trimmed} was answered in {self._epoch}"
            )
        self._start = max(self._start, start)
        if isinstance(asked, DeleteRecordsRequest):
            if start < asked.offset or asked.offset == _FAR:
                raise Broken("diverged", f"records up to {asked.offset} were to go, and the log starts at {start}")
            if start > self.trimmed:
                self.trimmed, self._epoch = start, max(self._epoch, epoch)

    def judge(self, log_start_offset: int) -> None:
        """Of every replica, once they are equal."""
        if log_start_offset < self.trimmed:
            raise Broken("diverged", f"the log starts at {log_start_offset}; {self.trimmed} was answered")
