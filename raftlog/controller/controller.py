"""One mutation of the metadata at a time, in the order asked for. Pure: data and a time in, actions out.

A request is decided on an image that holds everything decided before it, proposed as one batch, and
answered once that batch is committed and in the image: whoever was told "created" finds the topic.
The controller works only while its replica leads and the image has reached the high watermark;
on loss of leadership all that waits is answered NOT_CONTROLLER, and what was proposed
REQUEST_TIMED_OUT, since its outcome is open.

Producer ids are given out from a block that one record has taken from the metadata log. A block is this process's
own once its record is committed; whoever is controller next begins with a new one, so no id is given out twice. A
request that comes again gets another id, and the first one is never used, which is no loss. FindCoordinator that comes
again finds the topic that it has made, which is never deleted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Hashable
from typing import NamedTuple

from raftlog.controller.decisions import (
    ControllerRequest,
    ControllerResponse,
    Founder,
    decide,
    found_cluster,
    needs_nodes,
)
from raftlog.controller.image import Image, encode_image
from raftlog.controller.records import MetadataRecord, ProducerIdsRecord, SnapshotRecord
from raftlog.errors import ErrorCode
from raftlog.limits import (
    ADMIN_TIMEOUT_MS,
    METADATA_SNAPSHOT_RECORDS,
    PRODUCER_ID_BLOCK,
    WAITING_ADMIN_REQUESTS_MAX,
)
from raftlog.protocol.cluster import ErrorResponse
from raftlog.protocol.records import InitProducerIdRequest, InitProducerIdResponse
from raftlog.protocol.topics import CreateTopicsRequest


class Answer(NamedTuple):
    """`statement`: no record was committed for it, so one that was replaced without noticing must not give it."""

    client: Hashable
    response: ControllerResponse | ErrorResponse
    statement: bool = False


class Propose(NamedTuple):
    """To be appended as one record batch; the outcome comes back through `on_outcome`."""

    records: list[MetadataRecord]


Action = Answer | Propose


class _Waiting(NamedTuple):
    client: Hashable
    request: ControllerRequest
    deadline_s: float


class _Proposed(NamedTuple):
    """`answer` None: nobody asked (the founding, a snapshot). `producer_ids`: the rest of a block."""

    answer: Answer | None
    correlation_id: int
    producer_ids: range = range(0)


class Controller:
    """Call `step` after each input until it returns nothing."""

    def __init__(
        self,
        *,
        founders: Collection[Founder],
        mint_id: Callable[[], bytes],
        mint_cluster_id: Callable[[], str],
    ) -> None:
        self._founders = founders
        self._mint_id = mint_id
        self._mint_cluster_id = mint_cluster_id
        self._waiting: deque[_Waiting] = deque()
        self._proposed: _Proposed | None = None
        self._committed_end: int | None = None  # the image must reach this before the answer leaves
        self._producer_ids = range(0)
        self._snapshot_due_offset = 0  # what was refused, as larger than a batch may be, is not tried again at once

    def on_request(self, client: Hashable, request: ControllerRequest, now_s: float) -> list[Action]:
        if len(self._waiting) >= WAITING_ADMIN_REQUESTS_MAX:
            return [
                _error(
                    client,
                    request.correlation_id,
                    ErrorCode.THROTTLING_QUOTA_EXCEEDED,
                    "too many requests wait for the controller",
                )
            ]
        asked_ms = ADMIN_TIMEOUT_MS
        if isinstance(request, CreateTopicsRequest):
            asked_ms = min(max(request.timeout_ms, 0), ADMIN_TIMEOUT_MS)
        self._waiting.append(_Waiting(client, request, now_s + asked_ms / 1000))
        return []

    def on_outcome(self, code: ErrorCode, end_offset: int) -> list[Action]:
        """Of the last Propose: committed up to `end_offset`, or an error, after which its fate is open."""
        proposed = self._proposed
        assert proposed is not None and self._committed_end is None
        if code is ErrorCode.NONE:
            self._committed_end = end_offset
            return []
        self._proposed = None
        if proposed.answer is None:
            return []
        client = proposed.answer.client
        if code is ErrorCode.NOT_LEADER_OR_FOLLOWER:
            return [_error(client, proposed.correlation_id, ErrorCode.NOT_CONTROLLER, "leadership moved")]
        if code is ErrorCode.REQUEST_TIMED_OUT:
            text = "leadership moved; whether it was done is not known"
            return [_error(client, proposed.correlation_id, ErrorCode.REQUEST_TIMED_OUT, text)]
        return [_error(client, proposed.correlation_id, code, f"the metadata log refused it: {code.name}")]

    def step(self, image: Image, *, leads: bool, live: Collection[int], listened: bool, now_s: float) -> list[Action]:
        """`leads`: this replica leads, its own epoch start is committed and `image` holds all of the log.

        `live`: the nodes heard from of late. `listened`: for so long that a node which is not among them is not alive.
        """
        if self._proposed is not None:
            if self._committed_end is None or image.end_offset < self._committed_end:
                return []
            proposed, self._proposed, self._committed_end = self._proposed, None, None
            if proposed.producer_ids:
                self._producer_ids = proposed.producer_ids
            if proposed.answer is not None:
                return [proposed.answer]
        if not leads:
            return self._refuse_all()
        if not image.cluster_id:
            if not self._founders:
                return []
            self._proposed = _Proposed(None, -1)
            return [Propose(found_cluster(self._mint_cluster_id(), self._founders))]
        if image.end_offset >= max(self._snapshot_due_offset, image.snapshot_offset + METADATA_SNAPSHOT_RECORDS):
            self._snapshot_due_offset = image.end_offset + METADATA_SNAPSHOT_RECORDS
            self._proposed = _Proposed(None, -1)
            return [Propose([SnapshotRecord(image=encode_image(image))])]
        if not self._waiting:
            return []
        waiting = self._waiting.popleft()
        if now_s >= waiting.deadline_s:
            text = "the controller had too much else to do"
            return [_error(waiting.client, waiting.request.correlation_id, ErrorCode.REQUEST_TIMED_OUT, text)]
        if isinstance(waiting.request, InitProducerIdRequest):
            return self._give_producer_id(image, waiting)
        if ((not listened and image.nodes.keys() - live) or not live) and needs_nodes(image, waiting.request):
            text = "the controller has just begun to listen for the other nodes"
            correlation_id = waiting.request.correlation_id
            return [_error(waiting.client, correlation_id, ErrorCode.LEADER_NOT_AVAILABLE, text)]
        decision = decide(image, waiting.request, live=live, mint_id=self._mint_id)
        answer = Answer(waiting.client, decision.response)
        if not decision.records:
            return [answer._replace(statement=True)]
        self._proposed = _Proposed(answer, waiting.request.correlation_id)
        return [Propose(decision.records)]

    def _give_producer_id(self, image: Image, waiting: _Waiting) -> list[Action]:
        first = image.next_producer_id
        block = self._producer_ids or range(first, first + PRODUCER_ID_BLOCK)
        correlation_id = waiting.request.correlation_id
        response = InitProducerIdResponse(correlation_id=correlation_id, producer_id=block[0], producer_epoch=0)
        answer = Answer(waiting.client, response)
        if self._producer_ids:
            self._producer_ids = block[1:]
            return [answer]
        self._proposed = _Proposed(answer, correlation_id, block[1:])
        return [Propose([ProducerIdsRecord(next_producer_id=block.stop)])]

    def _refuse_all(self) -> list[Action]:
        refused: list[Action] = [
            _error(waiting.client, waiting.request.correlation_id, ErrorCode.NOT_CONTROLLER, "not the controller")
            for waiting in self._waiting
        ]
        self._waiting.clear()
        return refused


def _error(client: Hashable, correlation_id: int, code: ErrorCode, text: str) -> Answer:
    return Answer(client, ErrorResponse(correlation_id=correlation_id, error_code=code, error_text=text))
