"""Where the output of a replica's turn goes: sockets in a worker, a simulated network in the simulator."""

from __future__ import annotations

from typing import Any, Protocol

from raftlog.errors import ErrorCode
from raftlog.protocol import apis
from raftlog.protocol.body import ResponseBody
from raftlog.protocol.envelope import Request
from raftlog.protocol.raft import RaftMessage
from raftlog.protocol.records import ProduceResult
from raftlog.protocol.session import Session
from raftlog.types import Buffer


class Outbox(Protocol):
    """What leaves a replica. Nothing is promised: what cannot be sent is dropped."""

    def send_raft(self, node_id: int, message: RaftMessage, payload: Buffer | None, /) -> None: ...

    def answer(self, request: Request[Any], response: ResponseBody, payload: Buffer | None, /) -> None: ...

    def answer_produces(self, session: Session, results: list[ProduceResult], /) -> None:
        """All answers of one turn to one client."""
        ...


def refuse(outbox: Outbox, request: Request[Any], code: ErrorCode, *, leader_id: int, leader_epoch: int) -> None:
    """Answer any request of a client with an error, which names the leader. With acks=0 nobody waits for one."""
    response = request.api.refusal(code, leader_id=leader_id, leader_epoch=leader_epoch)
    if request.api is not apis.PRODUCE:
        outbox.answer(request, response, None)
    elif request.body.acks:
        response.correlation_id = request.correlation_id
        outbox.answer_produces(request.session, [response])
