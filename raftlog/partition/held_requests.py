"""What clients ask of a leader that has just woken, until a majority has said that it leads still.

Nothing of it is answered BEFORE that: who led in the meantime may have been given records, and have told of them.
"""

from __future__ import annotations

from typing import Any

from raftlog import limits
from raftlog.protocol.envelope import Request


class HeldRequests:
    """Of one replica, in the order in which they came."""

    def __init__(self) -> None:
        self._requests: list[Request[Any]] = []
        self._size_bytes = 0

    def __len__(self) -> int:
        return len(self._requests)

    def add(self, request: Request[Any]) -> bool:
        """False: there is no room, as for produces that wait for their answer."""
        size_bytes = sum(map(len, request.payload))
        if (
            len(self._requests) >= limits.UNANSWERED_PRODUCES_MAX
            or self._size_bytes + size_bytes > limits.UNANSWERED_PRODUCE_BYTES_MAX
        ):
            return False
        self._requests.append(request)
        self._size_bytes += size_bytes
        return True

    def take(self) -> list[Request[Any]]:
        requests, self._requests, self._size_bytes = self._requests, [], 0
        return requests
