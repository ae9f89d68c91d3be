"""Runs the controller inside the worker of `__cluster_metadata-0`: replays its log, proposes, answers.

On every replica, leader or not, the committed records are folded into the image, which goes to the
supervisor. On the leader the controller decides as soon as the image holds all of its log. A log whose head is gone
begins with a snapshot: once one is committed the leader lets go what lies in front of it.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Hashable
from functools import partial

from raftlog.clock import Clock
from raftlog.controller.controller import Action, Answer, Controller
from raftlog.controller.decisions import ControllerRequest, ControllerResponse, Founder
from raftlog.controller.image import Image, apply
from raftlog.controller.records import SnapshotRecord, decode_record, encode_record
from raftlog.errors import ErrorCode, OffsetOutOfRangeError
from raftlog.limits import NODE_SILENT_S
from raftlog.partition.replica import Replica
from raftlog.protocol.cluster import ErrorResponse
from raftlog.record.batch import decode, encode

_REPLAY_BYTES = 1024 * 1024


class ControllerHost:
    """`answer` sends to a client, `publish` hands a new image to the supervisor."""

    def __init__(
        self,
        *,
        replica: Replica,
        founders: list[Founder],
        clock: Clock,
        answer: Callable[[Hashable, ControllerResponse | ErrorResponse], None],
        publish: Callable[[Image], None],
    ) -> None:
        self._replica = replica
        self._clock = clock
        self._answer = answer
        self._publish = publish
        self._controller = Controller(
            founders=founders, mint_id=lambda: uuid.uuid4().bytes, mint_cluster_id=lambda: uuid.uuid4().hex
        )
        self._image = Image()
        self._replayed_offset = 0
        self._outcome: tuple[ErrorCode, int] | None = None
        self.live: frozenset[int] = frozenset()
        self._turned_s = clock.monotonic_s()
        self._listened_s = self._turned_s + NODE_SILENT_S

    def on_request(self, client: Hashable, request: ControllerRequest) -> None:
        self._act(self._controller.on_request(client, request, self._clock.monotonic_s()))

    def after_turn(self) -> None:
        """What the turn committed is in the image BEFORE anyone is told that it was done."""
        began_s, self._turned_s = self._turned_s, self._clock.monotonic_s()
        if self._turned_s - began_s >= NODE_SILENT_S:
            # It stood still, and its supervisor most likely too: what the others said meanwhile is not read yet.
            self._listened_s = self._turned_s + NODE_SILENT_S
        if self._replica.high_watermark > self._replayed_offset:
            self._replay()
            if self._image.snapshot_offset and self._replica.leader_ready:
                self._replica.delete_head(self._image.snapshot_offset)
        while self._take_outcome():
            now_s = self._clock.monotonic_s()
            actions = self._controller.step(
                self._image,
                leads=self._leads(),
                live=self.live,
                listened=now_s >= self._listened_s,
                now_s=now_s,
            )
            if not actions:
                return
            self._act(actions)

    def _leads(self) -> bool:
        """An own batch of open outcome may stand behind the high watermark: nothing is decided before its fate."""
        replica = self._replica
        return (
            replica.leader_ready and self._image.end_offset == replica.high_watermark == replica.status().log_end_offset
        )

    def _act(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, Answer):
                if action.statement:
                    # A majority has said that this replica leads still BEFORE "there is none" or "there is one" leaves.
                    self._replica.confirm(partial(self._confirmed, action))
                else:
                    self._answer(action.client, action.response)
                continue
            now_ms = self._clock.wall_ms()
            batch = encode([(now_ms, None, encode_record(record)) for record in action.records])
            self._replica.propose(batch, self._done_with(len(action.records)))

    def _confirmed(self, answer: Answer, code: ErrorCode) -> None:
        response = answer.response
        if code is not ErrorCode.NONE:
            response = ErrorResponse(
                correlation_id=response.correlation_id,
                error_code=int(ErrorCode.NOT_CONTROLLER),
                error_text="not the controller",
            )
        self._answer(answer.client, response)

    def _done_with(self, records: int) -> Callable[[ErrorCode, int], None]:
        def done(code: ErrorCode, base_offset: int) -> None:
            self._outcome = (code, base_offset + records)

        return done

    def _take_outcome(self) -> bool:
        """False when a proposal failed: what is refused at once may be so again, so the next waits for another turn."""
        if self._outcome is None:
            return True
        (code, end_offset), self._outcome = self._outcome, None
        self._act(self._controller.on_outcome(code, end_offset))
        return code is ErrorCode.NONE

    def _replay(self) -> None:
        image, offset = self._image, self._replayed_offset
        while offset < self._replica.high_watermark:
            try:
                data = self._replica.read_committed(offset, _REPLAY_BYTES)
            except OffsetOutOfRangeError:
                image, offset = Image(), self._replica.status().log_start_offset
                continue
            for record in decode(data):
                if record.offset < offset:
                    continue
                assert record.value is not None, "the controller writes values"
                found = decode_record(record.value)
                # What lies between the start of a log and its first snapshot is in that snapshot.
                if image.end_offset or record.offset == 0 or isinstance(found, SnapshotRecord):
                    image = apply(image, record.offset, found)
                offset = record.offset + 1
        self._image, self._replayed_offset = image, offset
        self._publish(image)
