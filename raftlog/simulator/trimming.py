"""A client that deletes records up to offsets of its choice, and looks where the log starts.

What was answered stays: no later leader may start its log below it. (With witnesses an in-sync replica may be alone in
having heard of it; then it holds once all replicas are equal.)
"""

from __future__ import annotations

import random
from collections.abc import Callable

from raftlog.errors import ErrorCode
from raftlog.partition.replica import ClientRequest, ClientResponse
from raftlog.protocol.altering import HIGH_WATERMARK, DeleteRecordsRequest, DeleteRecordsResponse
from raftlog.protocol.messages import ListOffsetsRequest, ListOffsetsResponse
from raftlog.simulator.events import Events
from raftlog.simulator.invariants import Broken
from raftlog.types import EARLIEST_TIMESTAMP, ReplicaSpec

_TIMEOUT_S = 2.0
_FAR = 1_000_000  # an offset that no run reaches

SendRequest = Callable[[int, str, ClientRequest, list[bytes]], None]


class Trimmer:
    """One request at a time. `trimmed` is where the log starts at least, as it was answered last."""

    def __init__(self, *, name: str, spec: ReplicaSpec, events: Events, rng: random.Random, send: SendRequest) -> None:
        self.name = name
        self.stopped = False
        self.trimmed = 0
        self._epoch = 0  # in which that was answered
        self._spec = spec
        self._events = events
        self._rng = rng
        self._send = send
        self._leader = rng.choice(spec.voters)
        self._next_id = 0
        self._asked: DeleteRecordsRequest | ListOffsetsRequest | None = None
        self._start = 0
        events.after(rng.random(), self._next)

    def _next(self) -> None:
        if self.stopped:
            return
        self._next_id += 1
        topic_id, partition = self._spec.topic_id, self._spec.partition
        if self._rng.random() < 0.5:
            self._asked = ListOffsetsRequest(
                correlation_id=self._next_id, topic_id=topic_id, partition=partition, timestamp_ms=EARLIEST_TIMESTAMP
            )
        else:
            offset = self._start + self._rng.randrange(1, 40)
            if self._rng.random() < 0.1:
                offset = self._rng.choice((HIGH_WATERMARK, HIGH_WATERMARK, 0, _FAR))
            self._asked = DeleteRecordsRequest(
                correlation_id=self._next_id,
                topic_id=topic_id,
                partition=partition,
                offset=offset,
                timeout_ms=int(_TIMEOUT_S * 1000),
            )
        self._send(self._leader, self.name, self._asked, [])
        correlation_id = self._next_id
        self._events.after(_TIMEOUT_S, lambda: self._give_up(correlation_id))

    def _give_up(self, correlation_id: int) -> None:
        if self._asked is not None and self._asked.correlation_id == correlation_id:
            self._leader = self._rng.choice(self._spec.voters)
            self._next()

    def on_response(self, response: ClientResponse) -> None:
        asked = self._asked
        assert isinstance(response, (DeleteRecordsResponse, ListOffsetsResponse))
        if asked is None or response.correlation_id != asked.correlation_id:
            return
        self._asked = None
        if response.error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER:
            self._leader = response.leader_id if response.leader_id > 0 else self._rng.choice(self._spec.voters)
        elif response.error_code == ErrorCode.NONE:
            start = response.offset if isinstance(response, ListOffsetsResponse) else response.log_start_offset
            self._on_start(asked, start, response.leader_epoch)
        self._events.after(self._rng.expovariate(1 / 0.2), self._next)

    def _on_start(self, asked: DeleteRecordsRequest | ListOffsetsRequest, start: int, epoch: int) -> None:
        if not self._spec.witnesses and epoch >= self._epoch and start < self.trimmed:
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
