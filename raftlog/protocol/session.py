"""Who is at the other end of a connection. Data: a door makes sessions out of connections, and ends them."""

from __future__ import annotations

from collections.abc import Hashable

ANONYMOUS = "User:ANONYMOUS"


class Session:
    """One connection of a client, from its first message to its end.

    `connection` is what its door knows it by, `address` its other end, "" where that is gone already. `client_id` and
    `version` are known once it has greeted. `principal` is as whom it asks; nobody has to prove that yet.
    """

    __slots__ = ("address", "client_id", "connection", "principal", "refused", "requests", "version")

    def __init__(self, connection: Hashable, address: str = "") -> None:
        self.connection = connection
        self.address = address
        self.client_id = ""
        self.version = 0
        self.principal = ANONYMOUS
        self.requests = 0  # that could be read
        self.refused = 0  # that made no sense, or are not answered here

    def __repr__(self) -> str:
        return f"Session({self.client_id or self.connection!r}, {self.address})"
