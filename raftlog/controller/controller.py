"""One mutation of the metadata at a time, in the order asked for, as a state machine: its host is machine/host.py.

On every replica, leader or not, the committed records add up to the image, which is published. The replica that leads
decides a request on an image that holds everything decided before it, so it does not pipeline; the answer leaves once
the request's records are in the image: whoever was told "created" finds the topic. A log whose head is gone begins with
a snapshot: once one is committed, what lies in front of it is not needed.

Producer ids are given out from a block that one record has taken from the metadata log. A block is this process's
own once its record is committed; whoever is controller next begins with a new one, so no id is given out twice. A
request that comes again gets another id, and the first one is never used, which is no loss. FindCoordinator that comes
again finds the topic that it has made, which is never deleted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

from raftlog.clock import NEVER_S
from raftlog.controller.decisions import ControllerRequest, Founder, decide, found_cluster, needs_nodes
from raftlog.controller.image import Image, apply, encode_image
from raftlog.controller.records import (
    MetadataRecord,
    ProducerIdsRecord,
    SnapshotRecord,
    decode_record,
    encode_record,
)
from raftlog.controller.security_changes import UNGUARDED, Guard
from raftlog.errors import ErrorCode, error_for
from raftlog.limits import (
    ADMIN_TIMEOUT_MS,
    DISK_RETRY_S,
    METADATA_SNAPSHOT_RECORDS,
    NODE_SILENT_S,
    PRODUCER_ID_BLOCK,
    WAITING_ADMIN_REQUESTS_MAX,
)
from raftlog.machine.result import Now, Outbox, Then
from raftlog.protocol.body import ResponseBody
from raftlog.protocol.envelope import Request
from raftlog.protocol.records import InitProducerIdRequest, InitProducerIdResponse
from raftlog.protocol.topics import CreateTopicsRequest
from raftlog.types import ReplicaSpec


class _Waiting(NamedTuple):
    """A request that has not been decided."""

    caller: Request[Any]
    deadline_s: float


class Controller:
    """The metadata image, and the decisions of the replica that leads.

    `live()`: the nodes heard from recently. `able()`: see decisions.decide. `publish` takes each new image.
    """

    pipelines = False

    def __init__(
        self,
        *,
        node_id: int,
        founders: Collection[Founder],
        mint_id: Callable[[], bytes],
        mint_cluster_id: Callable[[], str],
        live: Callable[[], Collection[int]],
        publish: Callable[[Image], None],
        now_s: float,
        guard: Guard = UNGUARDED,
        able: Callable[[], Collection[int]] = tuple,
    ) -> None:
        self.outbox = Outbox()
        self.image = Image()
        self._node_id = node_id
        self._founders = founders
        self._mint_id = mint_id
        self._mint_cluster_id = mint_cluster_id
        self._live = live
        self._able = able
        self._publish = publish
        self._guard = guard
        self._leads = False
        self._waiting: deque[_Waiting] = deque()
        self._producer_ids = range(0)
        self._found_due_s = NEVER_S  # what was refused, for want of room on the disk, is not tried again at once
        self._snapshot_due_offset = 0  # likewise what was larger than a batch may be
        self._ticked_s = now_s
        self._listened_s = now_s + NODE_SILENT_S  # from then on a node that is not heard from is not alive

    @property
    def next_deadline_s(self) -> float:
        return self._found_due_s

    # --- every replica -------------------------------------------------------------------------
    def apply(self, offset: int, _key: bytes | None, value: bytes | None) -> None:
        assert value is not None, "the controller writes values"
        record = decode_record(value)
        # What lies between the start of a log and its first snapshot is in that snapshot.
        if self.image.end_offset or offset == 0 or isinstance(record, SnapshotRecord):
            self.image = apply(self.image, offset, record)

    def applied_all(self) -> int:
        self._publish(self.image)
        return self.image.snapshot_offset

    def clear(self) -> None:
        self.image = Image()

    def tick(self, now: Now) -> None:
        if now.s - self._ticked_s >= NODE_SILENT_S:
            # It stood still, and its supervisor most likely too: what the others said meanwhile is not read yet.
            self._listened_s = now.s + NODE_SILENT_S
        self._ticked_s = now.s
        while self._leads and not self.outbox.unfinished and self._decide(now):
            pass

    # --- the replica that leads ----------------------------------------------------------------
    def load(self, now: Now) -> None:
        self._leads = True
        self._found_due_s = now.s if self._founders and not self.image.cluster_id else NEVER_S

    def unload(self, _now: Now) -> None:
        self._leads = False
        self._found_due_s = NEVER_S
        for waiting in self._waiting:
            self.outbox.answer(waiting.caller, self.refusal(waiting.caller, ErrorCode.NOT_LEADER_OR_FOLLOWER))
        self._waiting.clear()

    def on_request(self, caller: Request[Any], now: Now) -> None:
        request: ControllerRequest = caller.body
        if len(self._waiting) >= WAITING_ADMIN_REQUESTS_MAX:
            text = "too many requests wait for the controller"
            self.outbox.answer(caller, _error(caller, ErrorCode.THROTTLING_QUOTA_EXCEEDED, text))
            return
        asked_ms = ADMIN_TIMEOUT_MS
        if isinstance(request, CreateTopicsRequest):
            asked_ms = min(max(request.timeout_ms, 0), ADMIN_TIMEOUT_MS)
        self._waiting.append(_Waiting(caller, now.s + asked_ms / 1000))

    def _decide(self, now: Now) -> bool:
        """The next thing to do, if there is one; an image that holds all of the log is the ground."""
        image = self.image
        if not image.cluster_id:
            return self._found(now)
        if image.end_offset >= max(self._snapshot_due_offset, image.snapshot_offset + METADATA_SNAPSHOT_RECORDS):
            self._snapshot_due_offset = image.end_offset + METADATA_SNAPSHOT_RECORDS
            self._propose([SnapshotRecord(image=encode_image(image))])
            return True
        if not self._waiting:
            return False
        caller, deadline_s = self._waiting.popleft()
        request: ControllerRequest = caller.body
        live = self._live()
        if now.s >= deadline_s:
            text = "the controller had too much else to do"
            self.outbox.answer(caller, _error(caller, ErrorCode.REQUEST_TIMED_OUT, text))
        elif isinstance(request, InitProducerIdRequest):
            self._give_producer_id(caller)
        elif (not live or (now.s < self._listened_s and image.nodes.keys() - live)) and needs_nodes(image, request):
            text = "the controller has just begun to listen for the other nodes"
            self.outbox.answer(caller, _error(caller, ErrorCode.LEADER_NOT_AVAILABLE, text))
        else:
            decision = decide(image, request, live=live, mint_id=self._mint_id, guard=self._guard, able=self._able())
            if decision.records:
                self._propose(decision.records, caller=caller, response=decision.response)
            else:
                self.outbox.answer(caller, decision.response)
        return True

    def _found(self, now: Now) -> bool:
        if now.s < self._found_due_s:
            return False
        self._found_due_s = NEVER_S
        self._propose(found_cluster(self._mint_cluster_id(), self._founders), self._founded)
        return True

    def _founded(self, code: ErrorCode, now: Now) -> None:
        if code is not ErrorCode.NONE:
            self._found_due_s = now.s + DISK_RETRY_S

    def _give_producer_id(self, caller: Request[Any]) -> None:
        first = self.image.next_producer_id
        block = self._producer_ids or range(first, first + PRODUCER_ID_BLOCK)
        response = InitProducerIdResponse(producer_id=block[0], producer_epoch=0)
        if self._producer_ids:
            self._producer_ids = block[1:]
            self.outbox.answer(caller, response)
            return

        def taken(code: ErrorCode, _now: Now) -> None:
            if code is ErrorCode.NONE:
                self._producer_ids = block[1:]

        self._propose([ProducerIdsRecord(next_producer_id=block.stop)], taken, caller=caller, response=response)

    def _propose(
        self,
        records: list[MetadataRecord],
        then: Then | None = None,
        *,
        caller: Request[Any] | None = None,
        response: ResponseBody | None = None,
    ) -> None:
        encoded = [(None, encode_record(record)) for record in records]
        self.outbox.propose(encoded, then, caller=caller, response=response)

    # --- answers -------------------------------------------------------------------------------
    def misdirected(self, _request: Request[Any], _spec: ReplicaSpec) -> ErrorCode:
        return ErrorCode.NONE  # there is one metadata log, and requests to it name no partition

    def refusal(self, request: Request[Any], code: ErrorCode) -> ResponseBody:
        if code in (ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.OFFSET_NOT_AVAILABLE):
            return _error(request, ErrorCode.NOT_CONTROLLER, "not the controller")
        if code is ErrorCode.REQUEST_TIMED_OUT:
            text = "leadership moved, or too few nodes confirmed it in time; whether it was done is not known"
            return _error(request, code, text)
        if code is ErrorCode.KAFKA_STORAGE_ERROR:
            text = f"no room on the disk of node {self._node_id}, which is the controller"
            return _error(request, code, text)
        return _error(request, code, f"the metadata log refused it: {code.name}")

    def is_statement(self, response: ResponseBody) -> bool:
        if response.error_code:
            return not error_for(response.error_code).retriable
        return not isinstance(response, InitProducerIdResponse)


def _error(request: Request[Any], code: ErrorCode, text: str) -> ResponseBody:
    refusal: ResponseBody = request.api.refusal(code, text)
    return refusal
