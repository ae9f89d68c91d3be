"""What dispatch and replicas need of a door, whatever is spoken in front of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from raftlog.protocol.body import ResponseBody
from raftlog.protocol.envelope import Request
from raftlog.protocol.records import ProduceResult
from raftlog.protocol.session import Session
from raftlog.types import Buffer


class Door(Protocol):
    """Where requests come in and their answers leave.

    What arrives from outside ends here as a request, a refusal, or a count. Nothing of it raises.
    """

    def requests(self, most: int) -> Iterator[Request[Any]]:
        """What has come, of `most` messages. It may be left before its end."""
        ...

    def greet(self, request: Request[Any]) -> None:
        """The handler of the request with which a session says who it is."""
        ...

    def answer(self, request: Request[Any], response: ResponseBody, payload: Buffer | None = None) -> None: ...

    def answer_produces(self, session: Session, results: list[ProduceResult]) -> None: ...


def answer(request: Request[Any], response: ResponseBody, payload: Buffer | None = None) -> None:
    """Through the door that the request came through."""
    door = request.session.door
    if door is not None:
        door.answer(request, response, payload)


def answer_produces(session: Session, results: list[ProduceResult]) -> None:
    if session.door is not None:
        session.door.answer_produces(session, results)
