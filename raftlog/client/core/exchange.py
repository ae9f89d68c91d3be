"""Requests and their answers: who was asked, until when, and who is told. No sockets: a Wire sends.

Every request ends exactly once: with its answer, or with None when its time is up, its connection broke,
or nobody waits for it any more. None says nothing of the outcome. An answer that comes after that is
known by nobody and ignored.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

from raftlog.errors import InvalidRequestError
from raftlog.limits import EXPIRY_SCAN_S, PROTOCOL_VERSION
from raftlog.protocol import codec
from raftlog.protocol.cluster import (
    DescribeReplicasRequest,
    DescribeReplicasResponse,
    ErrorResponse,
    HandshakeRequest,
    HandshakeResponse,
    MetadataRequest,
    MetadataResponse,
    RecoverPartitionRequest,
    RecoverPartitionResponse,
)
from raftlog.protocol.groups import FindCoordinatorRequest, FindCoordinatorResponse, GroupRequest, GroupResponse
from raftlog.protocol.records import (
    DeleteRecordsRequest,
    DeleteRecordsResponse,
    FetchRequest,
    FetchResponse,
    InitProducerIdRequest,
    InitProducerIdResponse,
    ListOffsetsRequest,
    ListOffsetsResponse,
    ProduceRequest,
    ProduceResponse,
    ProduceResult,
)
from raftlog.protocol.topics import (
    CreatePartitionsRequest,
    CreateTopicsRequest,
    DeleteTopicsRequest,
    IncrementalAlterConfigsRequest,
    TopicIdsRequest,
    TopicIdsResponse,
    TopicsResponse,
)
from raftlog.types import Endpoint

LOGGER = logging.getLogger(__name__)

Request = (
    HandshakeRequest
    | MetadataRequest
    | DescribeReplicasRequest
    | RecoverPartitionRequest
    | TopicIdsRequest
    | CreateTopicsRequest
    | DeleteTopicsRequest
    | InitProducerIdRequest
    | IncrementalAlterConfigsRequest
    | CreatePartitionsRequest
    | DeleteRecordsRequest
    | ProduceRequest
    | FetchRequest
    | ListOffsetsRequest
    | FindCoordinatorRequest
    | GroupRequest
)
Answer = (
    ErrorResponse
    | HandshakeResponse
    | MetadataResponse
    | DescribeReplicasResponse
    | RecoverPartitionResponse
    | TopicIdsResponse
    | TopicsResponse
    | InitProducerIdResponse
    | FetchResponse
    | ListOffsetsResponse
    | DeleteRecordsResponse
    | ProduceResult
    | FindCoordinatorResponse
    | GroupResponse
)
Done = Callable[[Answer | None, bytes], None]
"""done(answer, payload): the payload frame, or b"" when there is none."""


class Wire(Protocol):
    """Connections, as a core sees them. The twin for tests is in tests/client/fake_wire.py."""

    def connect(self, endpoint: Endpoint) -> bool:
        """Whether it is connected; begins to connect when it is not."""
        ...

    def send(self, endpoint: Endpoint, frames: list[bytes]) -> bool:
        """False: not connected, or its buffer is full."""
        ...


class _Asked:
    __slots__ = ("deadline_s", "done", "overdue_s")

    def __init__(self, done: Done, deadline_s: float, overdue_s: float) -> None:
        self.done = done
        self.deadline_s = deadline_s
        self.overdue_s = overdue_s


class Exchange:
    """Requests of one client. `late` counts answers that nobody waited for."""

    def __init__(self, wire: Wire, client_id: str) -> None:
        self._wire = wire
        self._client_id = client_id
        self._last_id = 0
        self._asked: dict[Endpoint, dict[int, _Asked]] = {}
        self._greeted: set[Endpoint] = set()
        self._scan_s = float("inf")
        self.late = 0

    def next_id(self) -> int:
        self._last_id += 1
        return self._last_id

    def connect(self, endpoint: Endpoint) -> bool:
        return self._wire.connect(endpoint)

    def ask(
        self,
        endpoint: Endpoint,
        request: Request,
        done: Done | None,
        *,
        now_s: float,
        deadline_s: float,
        overdue_s: float = float("inf"),
        payload: bytes | None = None,
    ) -> bool:
        """False, and `done` is never called, when it cannot be sent now.

        `done` None: no answer is expected. After `overdue_s` `expire` says that someone is silent. Raises
        InvalidRequestError for what no bytes say: a number too large for any field, half a surrogate pair.
        """
        if endpoint not in self._greeted and not self._greet(endpoint):
            return False
        try:
            header = codec.encode(request)
        except OverflowError:
            raise InvalidRequestError("it cannot be encoded: a number does not fit into 64 bits") from None
        except UnicodeEncodeError as error:
            raise InvalidRequestError(f"it cannot be encoded: {error.object!r} is not UTF-8") from None
        except (TypeError, ValueError) as error:
            raise InvalidRequestError(f"it cannot be encoded: {error}") from None
        if not self._wire.send(endpoint, [header] if payload is None else [header, payload]):
            return False
        if done is not None:
            asked = self._asked.setdefault(endpoint, {})
            asked[request.correlation_id] = _Asked(done, deadline_s, overdue_s)
            self._scan_s = min(self._scan_s, deadline_s, overdue_s)
        return True

    def ask_whether_received(self, endpoint: Endpoint, done: Done, *, now_s: float, deadline_s: float) -> bool:
        """As `ask`: what was sent before over the same connection has been received once this is answered."""
        return self.ask(endpoint, self._greeting(), done, now_s=now_s, deadline_s=deadline_s)

    def _greeting(self) -> HandshakeRequest:
        return HandshakeRequest(
            correlation_id=self.next_id(),
            min_version=PROTOCOL_VERSION,
            max_version=PROTOCOL_VERSION,
            client_id=self._client_id,
        )

    def _greet(self, endpoint: Endpoint) -> bool:
        # The answer is not waited for: with one version there is nothing to choose, and a refusal
        # comes before the answers to what follows.
        if not self._wire.send(endpoint, [codec.encode(self._greeting())]):
            return False
        self._greeted.add(endpoint)
        return True

    def answered(self, endpoint: Endpoint, frames: list[bytes]) -> None:
        """A message came. What cannot be read is ignored: its request runs into its time-out."""
        try:
            response = codec.decode_response(frames[0])
        except InvalidRequestError as error:
            LOGGER.warning("%s sent an answer that cannot be read: %s", endpoint, error)
            return
        asked = self._asked.get(endpoint, {})
        if isinstance(response, ProduceResponse):
            for result in response.results:
                self._tell(asked, result.correlation_id, result, b"")
        elif isinstance(response, HandshakeResponse):
            if response.error_code:
                self._refuse(asked, response)
            elif response.correlation_id in asked:
                self._tell(asked, response.correlation_id, response, b"")
        elif isinstance(response, Answer):
            payload = frames[1] if len(frames) > 1 else b""
            self._tell(asked, response.correlation_id, response, payload)

    def _tell(self, asked: dict[int, _Asked], correlation_id: int, answer: Answer, payload: bytes) -> None:
        waiting = asked.pop(correlation_id, None)
        if waiting is None:
            self.late += 1
        else:
            waiting.done(answer, payload)

    def _refuse(self, asked: dict[int, _Asked], response: HandshakeResponse) -> None:
        for correlation_id in list(asked):
            refusal = ErrorResponse(
                correlation_id=correlation_id, error_code=response.error_code, error_text=response.error_text
            )
            self._tell(asked, correlation_id, refusal, b"")

    def lost(self, endpoint: Endpoint) -> None:
        """The connection broke: whatever was asked over it has an unknown outcome."""
        self._greeted.discard(endpoint)
        for waiting in self._asked.pop(endpoint, {}).values():
            waiting.done(None, b"")

    def abandon(self, endpoint: Endpoint, correlation_id: int) -> None:
        """Nobody waits for it any more. Its `done` is called with None."""
        waiting = self._asked.get(endpoint, {}).pop(correlation_id, None)
        if waiting is not None:
            waiting.done(None, b"")

    def expire(self, now_s: float) -> bool:
        """Ends what has run out of time. True when something is overdue: its leader may be gone."""
        if now_s < self._scan_s:
            return False
        overdue = False
        next_s = float("inf")
        for endpoint, asked in list(self._asked.items()):
            expired = [number for number, waiting in asked.items() if waiting.deadline_s <= now_s]
            for number in expired:
                self.abandon(endpoint, number)
            for waiting in asked.values():
                overdue = overdue or waiting.overdue_s <= now_s
                next_s = min(next_s, waiting.deadline_s, max(waiting.overdue_s, now_s))
            if not asked:
                self._asked.pop(endpoint, None)
        self._scan_s = max(next_s, now_s + EXPIRY_SCAN_S)
        return overdue

    def next_wakeup_s(self) -> float:
        return self._scan_s

    def is_asked(self, endpoint: Endpoint) -> bool:
        """Whether an answer of it is waited for."""
        return bool(self._asked.get(endpoint))
