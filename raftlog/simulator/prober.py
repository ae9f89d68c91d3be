"""Fetches by hand: long polls from offset to offset, and now and then a request that a log has to refuse.

It believes every answer, whichever leader gives it: a deposed one must not deny what was read or acknowledged before.
"""

from __future__ import annotations

import random
from typing import Any

from raftlog.errors import CorruptMessageError, ErrorCode
from raftlog.protocol.body import ResponseBody
from raftlog.protocol.envelope import Request
from raftlog.protocol.records import FetchRequest, FetchResponse, ListOffsetsRequest, ListOffsetsResponse
from raftlog.record.batch import decode, split
from raftlog.simulator.asker import Asker, SendRequest
from raftlog.simulator.events import Events
from raftlog.simulator.invariants import Broken
from raftlog.simulator.keyed_records import held
from raftlog.types import EARLIEST_TIMESTAMP, LATEST_TIMESTAMP, ReplicaSpec

_FAR = 1_000_000  # an offset that no run reaches
_UNKNOWN_KIND = -7  # a timestamp that means nothing


class Prober(Asker[FetchRequest | ListOffsetsRequest]):
    """A client that fetches by hand.

    `read` is shared with all consumers of a run: offset -> the value's beginning.
    """

    def __init__(
        self,
        *,
        name: str,
        spec: ReplicaSpec,
        events: Events,
        rng: random.Random,
        send: SendRequest,
        read: dict[int, bytes],
        acked: dict[int, tuple[bytes, int]],
        compacted: bool,
    ) -> None:
        super().__init__(name, spec, events, rng, send)
        self._read = read
        self._acked = acked
        self._compacted = compacted
        self._offset = 0
        self._acked_before = 0
        self._verify = False  # the last answer did not match its checksum: the leader is to look at its disk

    def _choose(self) -> Request[FetchRequest | ListOffsetsRequest]:
        draw = self._rng.random
        odd = draw() < 0.1
        topic_id, partition = self._spec.topic_id, self._spec.partition
        if odd and draw() < 0.3:
            topic_id, partition = (b"another topic!!!", partition) if draw() < 0.5 else (topic_id, partition + 1)
        if draw() < 0.2:
            known = (LATEST_TIMESTAMP, LATEST_TIMESTAMP, EARLIEST_TIMESTAMP, 1_700_000_000_000 + int(draw() * 3000))
            self._acked_before = max(self._acked, default=-1)
            timestamp_ms = _UNKNOWN_KIND if odd else self._rng.choice(known)
            return self._request(ListOffsetsRequest(timestamp_ms=timestamp_ms), topic_id, partition)
        fetch = FetchRequest(
            offset=self._rng.choice((0, _FAR, self._offset // 2)) if odd else self._offset,
            max_bytes=self._rng.choice((1, 5000, 1 << 20)),
            min_bytes=self._rng.choice((1, 1, 20_000)),
            max_wait_ms=self._rng.choice((0, 100, 500)),
            verify=self._verify,
        )
        return self._request(fetch, topic_id, partition)

    def on_response(self, request: Request[Any], response: ResponseBody, payload: bytes | None) -> None:
        assert isinstance(response, (FetchResponse, ListOffsetsResponse))
        if not self._take(request):
            return
        pause_s = self._rng.expovariate(1 / 0.05)
        if response.error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER:
            self._turn_to(response.leader_id)
        elif isinstance(response, FetchResponse):
            self._on_fetched(request, response, payload or b"")
        else:
            self._on_offset(request.body, response)
        self._events.after(pause_s, self._next)

    def _on_fetched(self, request: Request[FetchRequest], response: FetchResponse, payload: bytes) -> None:
        asked = request.body
        if response.error_code == ErrorCode.OFFSET_OUT_OF_RANGE:
            if response.high_watermark < asked.offset < _FAR:
                raise Broken(
                    "lost", f"epoch {response.leader_epoch} does not know offset {asked.offset}, which was read"
                )
            self._offset = max(self._offset, response.log_start_offset)
        if response.error_code != ErrorCode.NONE:
            return
        if (request.topic_id, request.partition) != (self._spec.topic_id, self._spec.partition) or asked.offset == _FAR:
            raise Broken("diverged", f"a fetch of what is not there was answered: {asked}")
        due = asked.offset
        try:
            records = list(decode(payload))
        except CorruptMessageError as error:
            if asked.verify:
                raise Broken("diverged", f"a verified fetch was answered with damage: {error}") from None
            self._verify = True
            return
        self._verify = False
        for record in records:
            if record.offset < due:
                continue
            due = record.offset if self._compacted else due
            if record.offset != due or record.offset >= response.high_watermark:
                raise Broken("lost", f"a fetch from {asked.offset} gave {record.offset} where {due} was due")
            value = held(record).name
            if self._read.setdefault(due, value) != value:
                raise Broken("diverged", f"offset {due} was read as {self._read[due]!r} and as {value!r}")
            due += 1
        following = [header.next_offset for _, header in split(payload)]
        if following and not due <= following[-1] <= response.high_watermark:
            raise Broken("lost", f"a fetch from {asked.offset} ends at {following[-1]}, {due} is due")
        self._offset = max(self._offset, *following, due)

    def _on_offset(self, asked: ListOffsetsRequest, response: ListOffsetsResponse) -> None:
        if response.error_code != ErrorCode.NONE:
            return
        if asked.timestamp_ms == _UNKNOWN_KIND:
            raise Broken("diverged", "a time that means nothing was found")
        if asked.timestamp_ms == LATEST_TIMESTAMP and response.offset <= self._acked_before:
            raise Broken(
                "lost", f"the log ends at {response.offset}, though {self._acked_before} was acknowledged before"
            )
