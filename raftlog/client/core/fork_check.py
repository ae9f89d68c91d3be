"""Clients in a forked child: the thread that does their work lives in the parent only, so every use raises.

A fork copies the objects of a client, but not its thread, and its locks as they happened to be. Python calls
`_after_fork` in each child BEFORE any code of the user's runs there, which changes the class of every client that
was copied. So no call has to compare process ids, and none is forgotten.
"""

from __future__ import annotations

import os
import weakref

from raftlog.errors import ForkedClientError

_clients: weakref.WeakSet[Client] = weakref.WeakSet()
_pid = os.getpid()


class Client:
    """Belongs to the process that made it. In a forked child whatever is asked of it raises ForkedClientError."""

    def __init__(self) -> None:
        _clients.add(self)

    def abandon_in_child(self, error: ForkedClientError) -> None:
        """In the child, before the first use: ends what would be waited for. No lock may be taken."""


def _after_fork() -> None:
    global _pid
    parent, _pid = _pid, os.getpid()
    for client in list(_clients):
        kind = type(client)
        text = f"this {kind.__name__} belongs to process {parent}, of which {_pid} is a fork: make one here"
        client.abandon_in_child(ForkedClientError(text))
        client.__class__ = _forked(kind, text)
    _clients.clear()


def _forked(kind: type[Client], text: str) -> type[Client]:
    def refuse(self: object, name: str) -> object:
        if name.startswith("__"):
            return object.__getattribute__(self, name)  # what the interpreter asks for, and what a debugger shows
        raise ForkedClientError(text)

    return type(kind.__name__, (kind,), {"__getattribute__": refuse})


os.register_at_fork(after_in_child=_after_fork)
