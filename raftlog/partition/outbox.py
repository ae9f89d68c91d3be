"""Where the output of a replica's turn goes: sockets in a worker, a simulated network in the simulator."""

from __future__ import annotations

from typing import Any, Protocol

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
