"""Waits for what can be read or written. The only place in the package that blocks."""

from __future__ import annotations

import math
import select
from typing import Any

import zmq

from raftlog.network.link import Link
from raftlog.network.message_server import MessageServer
from raftlog.network.secure_link import SecureLink
from raftlog.network.server import Server

Pollable = Server | MessageServer | Link | SecureLink | int

# The numbers of select.poll, which ZeroMQ does not share.
_ZMQ_EVENTS = {
    0: 0,
    select.POLLIN: int(zmq.POLLIN),
    select.POLLOUT: int(zmq.POLLOUT),
    select.POLLIN | select.POLLOUT: int(zmq.POLLIN) | int(zmq.POLLOUT),
}


class Poller:
    """Holds servers, links and file descriptors. A broken descriptor counts as ready.

    Where none of them is ZeroMQ's, as in a worker, its poll is left out.
    """

    def __init__(self) -> None:
        self._plain = select.poll()
        self._owners: dict[zmq.Socket[bytes] | int, Any] = {}
        self._events: dict[zmq.Socket[bytes] | int, int] = {}  # as of select.poll
        self._items: list[tuple[zmq.Socket[bytes] | int, int]] = []  # for ZeroMQ, if it has to be asked

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
            self._set(socket, pollable, select.POLLIN)

    def unregister(self, pollable: Pollable) -> None:
        """BEFORE it is closed: the number of its descriptor may soon be another's."""
        for socket in self._sockets(pollable):
            self._drop(socket)

    def watch(self, descriptor: int, owner: object, events: int) -> None:
        """`poll` gives `owner` when one of the events is there; those of before do not count more.

        `events`: POLLIN and POLLOUT of select.
        """
        if self._events.get(descriptor) != events:
            self._set(descriptor, owner, events)

    def _set(self, socket: zmq.Socket[bytes] | int, owner: object, events: int) -> None:
        self._owners[socket] = owner
        self._events[socket] = events
        if isinstance(socket, int):
            self._plain.register(socket, events)
        self._list()

    def _drop(self, socket: zmq.Socket[bytes] | int) -> None:
        del self._owners[socket], self._events[socket]
        if isinstance(socket, int):
            self._plain.unregister(socket)
        self._list()

    def _list(self) -> None:
        mixed = not all(isinstance(socket, int) for socket in self._events)
        self._items = [(socket, _ZMQ_EVENTS[events]) for socket, events in self._events.items()] if mixed else []

    def poll(self, timeout_s: float) -> list[Any]:
        """The owners of what is ready, each once, within `timeout_s` (rounded up to a millisecond; <= 0: look only)."""
        assert self._owners, "nothing to wait for"
        timeout_ms = math.ceil(timeout_s * 1000) if timeout_s > 0 else 0
        owners = self._owners
        if self._items:
            return list(dict.fromkeys(owners[socket] for socket, _ in zmq.zmq_poll(self._items, timeout_ms)))
        return list(dict.fromkeys(owners[descriptor] for descriptor, _ in self._plain.poll(timeout_ms)))
