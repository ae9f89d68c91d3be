"""Connections of a Server that were not taken, or that it has ended."""

from __future__ import annotations

from collections import Counter

from raftlog.limits import LOGIN_S

# What the metrics page names them.
ADDRESS = "address"  # of this one there are enough
ANSWERS = "answers"  # it does not take them
CONNECTIONS = "connections"  # there are enough
DESCRIPTORS = "descriptors"  # none is left
HANDSHAKES = "handshakes"  # too many are under way, or this one takes too long
IDENTITY = "identity"  # it does not speak TLS, or shows no certificate that is good here
LOGIN = "login"  # it has not logged in in time
NO_LOGIN = f"it has not logged in for {LOGIN_S:.0f} s"
UNFINISHED = "unfinished"  # messages of which only a half has come


class Refusals:
    """What a server has refused. `ended`: how many; `last`: why the last one was."""

    def __init__(self) -> None:
        self.ended = 0
        self.last = ""
        self.by_reason: Counter[str] = Counter()

    def add(self, reason: str, host: str, why: str) -> None:
        """`reason`: one of the above."""
        self.ended += 1
        self.by_reason[reason] += 1
        self.last = f"{host}: {why}"
