"""What is written down of refusals and of administrative acts: one line of JSON each. Data.

{"time":"2026-01-31T12:00:00.123Z","node":1,"door":"kafka","outcome":"denied","principal":"User:alice",…}
"""

from __future__ import annotations

import datetime

import msgspec

from raftlog.security.acls import Operation

ASKED, DENIED = "asked", "denied"
NO_RULE = "no rule allows it, or one denies it"
ACTS = (Operation.CREATE, Operation.DELETE, Operation.ALTER, Operation.ALTER_CONFIGS)
"""An API that needs one of these is an administrative act."""


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A line of the audit log.

    `outcome`: DENIED, or ASKED of an administrative act: what is denied of it follows. `names`: on what.
    """

    outcome: str
    principal: str
    host: str
    request: str
    mechanism: str = ""
    client: str = ""
    operation: str = ""
    resource: str = ""
    names: list[str] = []
    why: str = ""


class _Line(msgspec.Struct, kw_only=True):
    time: str
    node: int
    door: str


_encode = msgspec.json.Encoder().encode


def line_of(event: Event, *, wall_ms: int, node_id: int, door: str) -> bytes:
    when = datetime.datetime.fromtimestamp(wall_ms / 1000, datetime.UTC)
    head = _Line(time=when.isoformat(timespec="milliseconds").replace("+00:00", "Z"), node=node_id, door=door)
    return _encode({**msgspec.to_builtins(head), **msgspec.to_builtins(event)}) + b"\n"
