"""DeleteRecords as a client asks for it, and what it is answered."""

from __future__ import annotations

from typing import Any

from raftlog.protocol.records import DeleteRecordsRequest, DeleteRecordsResponse
from tests.partition.harness import PLACE, Node
from tests.requests import request_of


def ask(node: Node, offset: int, **changes: Any) -> None:
    place = {**PLACE, **{name: changes.pop(name) for name in tuple(changes) if name in PLACE}}
    body = DeleteRecordsRequest(**{"offset": offset, "timeout_ms": 3000, **changes})
    node.request("admin", request_of(body, 5, **place), [])


def answers(node: Node) -> list[tuple[int, int]]:
    return [
        (response.error_code, response.log_start_offset)
        for _, response, _ in node.answers
        if isinstance(response, DeleteRecordsResponse)
    ]
