"""Waits for what can be read. The only place in the package that blocks."""

from __future__ import annotations

import math

import zmq

from raftlog.network.context import POLLIN
from raftlog.network.link import Link
from raftlog.network.server import Server

Pollable = Server | Link | int


class Poller:
    """Holds servers, links and file descriptors. A broken descriptor counts as ready."""

    def __init__(self) -> None:
        self._items: list[tuple[zmq.Socket[bytes] | int, int]] = []
        self._owners: dict[zmq.Socket[bytes] | int, Pollable] = {}

    @staticmethod
    def _sockets(pollable: Pollable) -> list[zmq.Socket[bytes] | int]:
        if isinstance(pollable, int):
            return [pollable]
        if isinstance(pollable, Link) and pollable.monitor is not None:
            return [pollable.socket, pollable.monitor]
        return [pollable.socket]

    def register(self, pollable: Pollable) -> None:
        for socket in self._sockets(pollable):
            assert socket not in self._owners, "registered twice"
            self._owners[socket] = pollable
            self._items.append((socket, POLLIN))

    def unregister(self, pollable: Pollable) -> None:
        for socket in self._sockets(pollable):
            del self._owners[socket]
            self._items.remove((socket, POLLIN))

    def poll(self, timeout_s: float) -> list[Pollable]:
        """What is ready, each once, within `timeout_s` (rounded up to a millisecond; <= 0: look only)."""
        assert self._items, "nothing to wait for"
        timeout_ms = math.ceil(timeout_s * 1000) if timeout_s > 0 else 0
        owners = self._owners
        return list(dict.fromkeys(owners[socket] for socket, _ in zmq.zmq_poll(self._items, timeout_ms)))
