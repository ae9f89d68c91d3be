"""What a worker's and a supervisor's front door share: decoding, the handshake and refusals.

Whatever arrives from outside ends here as a message, an ErrorResponse, or a count. Nothing raises.
"""

from __future__ import annotations

import logging

from raftlog.errors import ErrorCode, InvalidRequestError
from raftlog.limits import PROTOCOL_VERSION
from raftlog.network import Server
from raftlog.protocol.cluster import ErrorResponse, HandshakeRequest, HandshakeResponse
from raftlog.protocol.codec import Request, decode_raft, decode_request, encode
from raftlog.protocol.raft import RaftMessage

log = logging.getLogger(__name__)

_LOG_S = 10.0


class FrontDoor:
    """`refused` counts what was answered with an error or dropped because it made no sense."""

    def __init__(self, server: Server, node_id: int) -> None:
        self._server = server
        self._node_id = node_id
        self._logged = self._ended = 0
        self._log_due_s = 0.0
        self.refused = 0

    def decode(self, frames: list[bytes]) -> Request | None:
        """`frames` as Server.receive gave them. None: refused already."""
        if len(frames) < 2:
            self.refused += 1
            return None
        try:
            return decode_request(frames[1])
        except InvalidRequestError as error:
            self.refuse(frames[0], -1, str(error))
            return None

    def decode_raft(self, header: bytes) -> RaftMessage | None:
        """What came from a peer. None: it made no sense, and nobody is told."""
        try:
            return decode_raft(header)
        except InvalidRequestError:
            self.refused += 1
            return None

    def refuse(
        self, client: bytes, correlation_id: int, text: str, code: ErrorCode = ErrorCode.INVALID_REQUEST
    ) -> None:
        self.refused += 1
        response = ErrorResponse(correlation_id=correlation_id, error_code=code, error_text=text)
        self._server.send(client, [encode(response)])

    def refuse_message(self, client: bytes, message: Request, here: str) -> None:
        """A message of a kind that is not for this socket. Only requests have an answer."""
        correlation_id = getattr(message, "correlation_id", None)
        if correlation_id is None:
            self.refused += 1
        else:
            kind = type(message).__name__.removesuffix("Request")
            self.refuse(client, correlation_id, f"{kind} is not answered by {here}")

    def log_refused(self, now_s: float) -> None:
        """What a hostile client can make this process write to its log is bounded."""
        ended = self._server.connections.ended
        if ended != self._ended and now_s >= self._log_due_s:
            log.warning("ended %d connections that held too much memory", ended - self._ended)
            self._ended = ended
            self._log_due_s = now_s + _LOG_S
        refused = self.refused + self._server.dropped
        if refused != self._logged and now_s >= self._log_due_s:
            log.warning("refused %d messages that made no sense", refused - self._logged)
            self._logged = refused
            self._log_due_s = now_s + _LOG_S

    def handshake(self, client: bytes, request: HandshakeRequest, cluster_id: str) -> None:
        if not request.min_version <= PROTOCOL_VERSION <= request.max_version:
            text = f"this node speaks protocol version {PROTOCOL_VERSION}"
            self.refuse(client, request.correlation_id, text, ErrorCode.UNSUPPORTED_VERSION)
            return
        response = HandshakeResponse(
            correlation_id=request.correlation_id,
            version=PROTOCOL_VERSION,
            node_id=self._node_id,
            cluster_id=cluster_id,
        )
        self._server.send(client, [encode(response)])
