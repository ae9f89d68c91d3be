"""From a session and what it has asked for to a line of the audit log."""

from __future__ import annotations

from collections.abc import Iterable

from raftlog.protocol.session import Session
from raftlog.security.acls import Operation, ResourceType, title
from raftlog.security.audit import Event

_NAMES_MAX = 20  # of one line


def event_of(
    session: Session,
    request: str,
    outcome: str,
    operation: Operation = Operation.NONE,
    kind: ResourceType | None = None,
    names: Iterable[str] = (),
    why: str = "",
) -> Event:
    """`kind` None: what it is about is said by the request's name."""
    return Event(
        outcome=outcome,
        principal=session.principal,
        host=session.host,
        request=request,
        mechanism=session.mechanism,
        client=session.client_id[:100],
        operation=title(operation) if operation else "",
        resource="" if kind is None else title(kind),
        names=list(names)[:_NAMES_MAX],
        why=why,
    )
