"""Connections between processes of one node: a door asks this node's workers over them.

A worker listens at an abstract Unix address made of its boot id, which only its supervisor knows: it is gone with the
process, and no file is left.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Callable

from raftlog.limits import LOCAL_STREAMS_MAX
from raftlog.network.message_stream import MessageStream

_SOCKET_BYTES = 1024 * 1024  # a large batch goes with few wakeups
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid of SO_PEERCRED


def _address(boot_id: int) -> bytes:
    return b"\0raftlog-%016x" % boot_id


def _is_ours(connected: socket.socket) -> bool:
    """Of a process of the same user, or of root."""
    data = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return _CREDENTIALS.unpack(data)[1] in (0, os.geteuid())


def connect_local(boot_id: int, watch: Callable[[int, int], None]) -> MessageStream | None:
    """To the worker of this boot; None: there is none, or too many wait to be taken by it."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    made.setblocking(False)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BYTES)
    try:
        made.connect(_address(boot_id))
        if not _is_ours(made):  # an abstract address that is free again is anybody's
            raise PermissionError
    except OSError:
        made.close()
        return None
    return MessageStream(made, watch)


class LocalServer:
    """Where the doors of a node connect to one of its workers."""

    def __init__(self, boot_id: int) -> None:
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(_address(boot_id))
        self._listener.listen(LOCAL_STREAMS_MAX)
        self._listener.setblocking(False)

    def fileno(self) -> int:
        return self._listener.fileno()

    def accept(self) -> socket.socket | None:
        """A process of the same user, or of root, that has connected. None: nobody, or somebody else."""
        with contextlib.suppress(OSError):
            connected, _ = self._listener.accept()
            if _is_ours(connected):
                connected.setblocking(False)
                connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BYTES)
                return connected
            connected.close()
        return None

    def close(self) -> None:
        self._listener.close()
