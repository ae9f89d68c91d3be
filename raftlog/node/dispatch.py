"""From a request to its handler: the one way of all requests, whatever door they came through.

    find the row -> is its sender authorized -> count and time -> handler

A handler never looks at who asks: what is not allowed does not reach it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from raftlog.clock import monotonic_s
from raftlog.errors import ErrorCode
from raftlog.node.doors.door import Door, answer
from raftlog.protocol import apis
from raftlog.protocol.apis import Api
from raftlog.protocol.envelope import Request

Handler = Callable[[Request[Any]], None]


class Route:
    """One API as it is served here, and what was counted of it since the process began.

    `seconds`: from taking a request to the return of its handler. What a handler leaves to the turn (a write, a long
    poll) is not in it.
    """

    __slots__ = ("api", "handler", "received_bytes", "requests", "seconds")

    def __init__(self, api: Api[Any, Any], handler: Handler) -> None:
        self.api = api
        self.handler = handler
        self.requests = 0
        self.received_bytes = 0  # of payload
        self.seconds = 0.0

    def __str__(self) -> str:
        return f"{self.api.name} {self.requests} in {self.seconds:.3f} s"


class Dispatch:
    """The requests of one door. `here` is this address, as an error names it.

    `admit` gives the request that a handler is to have; None: it is answered already. Without it everybody may all.
    """

    def __init__(
        self,
        door: Door,
        here: str,
        handlers: Mapping[Api[Any, Any], Handler],
    ) -> None:
        self._door = door
        self._here = here
        self.admit: Callable[[Request[Any]], Request[Any] | None] | None = None
        self.routes = {api: Route(api, handler) for api, handler in {apis.HANDSHAKE: door.greet, **handlers}.items()}

    def serve(self, most: int, bytes_max: float, spent_bytes: Callable[[], int] = lambda: 0) -> None:
        """Hands out what has come: `most` messages, until payload and `spent_bytes()` together exceed `bytes_max`."""
        routes, admit = self.routes, self.admit
        last: Route | None = None
        began_s = monotonic_s()
        for request in self._door.requests(most):
            route = routes.get(request.api)
            if route is None:
                self._refuse(request)
                continue
            if route is not last:  # what comes in a row is timed together: mostly it is one produce after the other
                began_s = _timed(last, began_s)
                last = route
            route.requests += 1
            admitted = request if admit is None else admit(request)
            if admitted is not None:
                route.handler(admitted)
            payload = request.payload
            if payload:
                size_bytes = len(payload[0])
                route.received_bytes += size_bytes
                bytes_max -= size_bytes
                if bytes_max < spent_bytes():
                    break
        _timed(last, began_s)

    def _refuse(self, request: Request[Any]) -> None:
        request.session.refused += 1
        api = request.api
        self.refuse(request, ErrorCode.INVALID_REQUEST, f"send {api.name} to {api.served.value}, not to {self._here}")

    def refuse(self, request: Request[Any], code: ErrorCode, text: str) -> None:
        answer(request, request.api.refusal(code, text))

    def served(self) -> list[Route]:
        """What was asked for, the most often asked first."""
        return sorted((each for each in self.routes.values() if each.requests), key=lambda each: -each.requests)


def _timed(route: Route | None, began_s: float) -> float:
    """Now; what has passed since `began_s` was spent for the route."""
    now_s = monotonic_s()
    if route is not None:
        route.seconds += now_s - began_s
    return now_s
