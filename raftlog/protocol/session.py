"""Who is at the other end of a connection. Data: a door makes sessions out of connections, and ends them."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Protocol

from raftlog.clock import NEVER_S
from raftlog.types import Buffer

ANONYMOUS = "User:ANONYMOUS"
CERTIFICATE = "CERTIFICATE"


class Answering(Protocol):
    """The door that a session came through, as those see it who answer."""

    def answer(self, request: Any, response: Any, payload: Buffer | None = None) -> None:
        """Dropped where the session has ended, or does not take its answers."""
        ...

    def answer_produces(self, session: Session, results: Any) -> None: ...


class Session:
    """One connection of a client, from its first message to its end.

    `connection` is what its `door` knows it by, `address` its other end, "" where that is gone already. `client_id` and
    `version` are known once it has greeted. `principal` is as whom it asks, `mechanism` how that was
    proved; "": it was not. `encrypted`: nobody else can read what passes. A session is over at `expires_s`, or when its
    user has another `epoch`; below 0 it has none that could change. A quota holds it back until `held_until_s`, since
    `held_since_s`.
    """

    __slots__ = (
        *(
            "address",
            "client_id",
            "connection",
            "door",
            "encrypted",
            "epoch",
            "expires_s",
            "held_since_s",
            "held_until_s",
            "host",
        ),
        *("mechanism", "of_node", "principal", "refused", "requests", "software", "software_version"),
        *("unacknowledged", "unacknowledged_bytes", "version", "waiting"),
    )

    def __init__(self, connection: Hashable, address: str = "", door: Answering | None = None) -> None:
        """`door` None: nobody can be answered, as when the connection is gone already."""
        self.connection = connection
        self.door = door
        self.address = address
        self.client_id = ""
        self.version = 0
        self.host = address.rpartition(":")[0].strip("[]")
        self.software = self.software_version = ""  # of the client, where it has said so (KIP-511)
        self.principal = ANONYMOUS
        self.mechanism = ""
        self.of_node = False  # it says what only nodes say; without TLS no node proves that it is one
        self.encrypted = False
        self.expires_s = NEVER_S
        self.epoch = -1
        self.held_since_s = self.held_until_s = 0.0
        self.requests = 0  # that could be read
        self.refused = 0  # that made no sense, or are not answered here
        self.unacknowledged = self.unacknowledged_bytes = (
            0  # produces with acks=0 that are not on every in-sync replica yet
        )
        self.waiting = 0  # produces and fetches that raftlog's own door has not answered yet

    def secure(self, principal: str) -> None:
        """It is under TLS, and the other end's certificate names `principal`; "": it has shown none."""
        self.encrypted = True
        if principal:
            self.principal, self.mechanism = principal, CERTIFICATE

    def __repr__(self) -> str:
        return f"Session({self.client_id or self.connection!r}, {self.address})"
