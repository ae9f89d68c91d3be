"""Waits for what can be read or written. The only place in the package that blocks."""

from __future__ import annotations

import math
from typing import Any

import zmq

from raftlog.network.context import POLLIN
from raftlog.network.link import Link
from raftlog.network.secure_link import SecureLink
from raftlog.network.secure_server import SecureServer
from raftlog.network.server import Server

Pollable = Server | SecureServer | Link | SecureLink | int


class Poller:
    """Holds servers, links and file descriptors. A broken descriptor counts as ready."""

    def __init__(self) -> None:
        self._events: dict[zmq.Socket[bytes] | int, int] = {}
        self._owners: dict[zmq.Socket[bytes] | int, Any] = {}
        self._items: list[tuple[zmq.Socket[bytes] | int, int]] = []

    @staticmethod
    def _sockets(pollable: Pollable) -> list[zmq.Socket[bytes] | int]:
        if isinstance(pollable, int):
            return [pollable]
        if isinstance(pollable, Link | Server) and pollable.monitor is not None:
            return [pollable.socket, pollable.monitor]
        return [pollable.socket]

    def register(self, pollable: Pollable) -> None:
        for socket in self._sockets(pollable):
            assert socket not in self._owners, "registered twice"
            self._set(socket, pollable, POLLIN)

    def unregister(self, pollable: Pollable) -> None:
        """BEFORE it is closed: the number of its descriptor may soon be another's."""
        for socket in self._sockets(pollable):
            self._drop(socket)

    def watch(self, descriptor: int, owner: object, events: int) -> None:
        """`poll` gives `owner` when one of the events (POLLIN, POLLOUT) is there; those of before do not count more."""
        if self._events.get(descriptor) != events:
            self._set(descriptor, owner, events)

    def _set(self, socket: zmq.Socket[bytes] | int, owner: object, events: int) -> None:
        self._events[socket] = events
        self._owners[socket] = owner
        self._items = list(self._events.items())

    def _drop(self, socket: zmq.Socket[bytes] | int) -> None:
        del self._events[socket]
        del self._owners[socket]
        self._items = list(self._events.items())

    def poll(self, timeout_s: float) -> list[Any]:
        """The owners of what is ready, each once, within `timeout_s` (rounded up to a millisecond; <= 0: look only)."""
        assert self._items, "nothing to wait for"
        timeout_ms = math.ceil(timeout_s * 1000) if timeout_s > 0 else 0
        owners = self._owners
        return list(dict.fromkeys(owners[socket] for socket, _ in zmq.zmq_poll(self._items, timeout_ms)))
