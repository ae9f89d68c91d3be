"""The ZeroMQ context and the plain numbers of its options.

pyzmq turns options and flags into enums at every use; on the hot path that is 5 to 8 % of a leader's
time (measured, docs/architecture.md), so the integers are taken once, here, and the compiled
`send` and `recv` are called without the Python layer above them.
"""

from __future__ import annotations

import os
import threading
from typing import Any

import zmq
import zmq.backend

from raftlog.limits import FRAME_BYTES_MAX, SOCKET_HWM_MESSAGES

Frames = list[Any]  # bytes, or a memoryview of a large one

NOBLOCK = int(zmq.DONTWAIT)
NOBLOCK_MORE = int(zmq.DONTWAIT) | int(zmq.SNDMORE)
POLLIN = int(zmq.POLLIN)

raw_send = zmq.backend.Socket.send
raw_recv = zmq.backend.Socket.recv

# A frame above this goes out without a copy. Below it the copy is cheaper, since pyzmq hands every frame that it
# did not copy to a thread of its own to be freed (measured per frame: 64 KB 50 µs copied, 60 not; 128 KB 96 and 75).
COPY_BELOW_BYTES = 96 * 1024
# A received frame from this size on stays where ZeroMQ put it. Copies of 256 KB were a third of a worker's time, and
# small objects that came to lie between them kept freed memory from being used again: 930 MB in 20 s, now 290.
KEPT_FROM_BYTES = 64 * 1024
# Sockets of one process: a supervisor of hundreds of nodes and workers stays far below.
SOCKETS_MAX = 4096
# Of all clients of one process: three for each connection, so some thousand clients. libzmq takes no more.
SHARED_SOCKETS_MAX = 65_535
# A peer that connects and does not finish its greeting is dropped after this.
GREETING_MS = 5_000
# Heartbeats notice a machine that vanished without closing its connections. A process that died on
# a living machine is noticed at once by TCP, so this may be slow and cheap.
HEARTBEAT_MS = 3_000
SILENCE_MS = 9_000
# What libzmq opens for its threads and its first socket, five, and some for what other threads open meanwhile.
_SPARE_DESCRIPTORS = 16


class Context:
    """Owns the I/O threads. Sockets are used by the one thread that made them."""

    def __init__(self, io_threads: int = 1, sockets_max: int = SOCKETS_MAX) -> None:
        """Raises OSError when the process may not open enough descriptors."""
        # BEFORE the threads begin, which is with the first socket: libzmq ends the process if it has none for them.
        _check_descriptors()
        self._zmq = zmq.Context(io_threads)
        self._zmq.set(zmq.MAX_SOCKETS, sockets_max)
        self._zmq.socket(zmq.PAIR).close()

    def socket(self, kind: int) -> zmq.Socket[bytes]:
        """A socket with the options that servers and links share."""
        socket = self._zmq.socket(kind)
        socket.set(zmq.LINGER, 0)
        socket.set(zmq.MAXMSGSIZE, FRAME_BYTES_MAX)
        socket.set(zmq.SNDHWM, SOCKET_HWM_MESSAGES)
        socket.set(zmq.HANDSHAKE_IVL, GREETING_MS)
        socket.set(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
        socket.set(zmq.HEARTBEAT_TIMEOUT, SILENCE_MS)
        socket.set(zmq.HEARTBEAT_TTL, SILENCE_MS)
        socket.copy_threshold = COPY_BELOW_BYTES
        return socket

    def close(self) -> None:
        """Closes every socket that is still open, unsent frames included; waits for those closed with a linger."""
        self._zmq.destroy(linger=0)


def _check_descriptors() -> None:
    opened: list[int] = []
    try:
        for _ in range(_SPARE_DESCRIPTORS):
            opened.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror}: {_SPARE_DESCRIPTORS} are needed to begin with") from None
    finally:
        for descriptor in opened:
            os.close(descriptor)


class SharedContext:
    """One Context for all clients of a process: its threads are two in all, instead of two for each client.

    It is made for the first that leases it and closed by the last that gives it back. A forked child has none of its
    parent's: the threads stayed there, and pyzmq touches nothing that another process made.
    """

    def __init__(self) -> None:
        self._forget()
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._context: Context | None = None
        self._leases = 0

    def lease(self) -> Context:
        """Raises OSError as Context does."""
        with self._lock:
            if self._context is None:
                self._context = Context(sockets_max=SHARED_SOCKETS_MAX)
            self._leases += 1
            return self._context

    def give_back(self) -> None:
        """Close the sockets BEFORE. The last one waits for what was closed with a linger."""
        with self._lock:
            self._leases -= 1
            if self._leases:
                return
            context, self._context = self._context, None
        assert context is not None, "nobody leased it"
        context.close()  # without the lock: who comes meanwhile gets a new one
