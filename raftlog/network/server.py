"""A bound ROUTER. Never blocks and never fails because of what a peer sends."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from socket import AF_INET6

import zmq

from raftlog.clock import NEVER_S, monotonic_s
from raftlog.errors import ConfigError
from raftlog.limits import FRAME_BYTES_MAX, FRAMES_PER_MESSAGE_MAX
from raftlog.network.addresses import resolve, url_host
from raftlog.network.connections import Connections
from raftlog.network.context import (
    KEPT_FROM_BYTES,
    NOBLOCK,
    NOBLOCK_MORE,
    POLLIN,
    Context,
    Frames,
    raw_recv,
    raw_send,
)
from raftlog.types import Buffer, Endpoint

# Frames of one peer that wait here; TCP then pushes back. Bounds memory, together with FRAME_BYTES_MAX.
RECEIVE_QUEUE_MESSAGES = 1_000
LISTEN_BACKLOG = 512
_SHORT_BYTES = 255  # ZMTP puts 2 bytes before a frame up to this size, and 9 before a longer one
_SRCFD = int(zmq.SRCFD)
_NO_OLD_PEERS = b"raftlog"  # ZeroMQ refuses ZMTP 1 and 2, and whatever looks like them, where this is not empty
_FRAMES_KEPT = FRAMES_PER_MESSAGE_MAX + 2  # with the identity; the last one says that there were too many


class Server:
    """Bound to `host` and the first free one of `ports` (None: any free port).

    Attributes: host, port, dropped (messages thrown away for having too many frames), and what each connection holds.
    Call `tick` when `due_s` has come. Raises ConfigError when no port is free or the host is not an address of this
    machine.
    """

    def __init__(
        self, context: Context, host: str, ports: range | int | None = None, frame_bytes_max: int = FRAME_BYTES_MAX
    ) -> None:
        """Whoever sends a longer frame is disconnected before it is taken in."""
        self.host = host
        self.dropped = 0
        self.socket = context.socket(zmq.ROUTER)
        self.socket.set(zmq.MAXMSGSIZE, frame_bytes_max)  # BEFORE it is bound: one bound for all that connect
        self.socket.set(zmq.RCVHWM, RECEIVE_QUEUE_MESSAGES)
        self.socket.set(zmq.BACKLOG, LISTEN_BACKLOG)
        self.socket.set(zmq.ZAP_DOMAIN, _NO_OLD_PEERS)
        # Without it a frame to a peer that is gone, or whose queue is full, would vanish unseen.
        self.socket.set(zmq.ROUTER_MANDATORY, 1)
        try:
            self.port = self._bind(ports)
        except ConfigError:
            self.socket.close(linger=0)
            raise
        self.connections = Connections(self.port)
        self._clients = self.connections.clients
        self.monitor = self.socket.get_monitor_socket(zmq.EVENT_ACCEPTED)
        """Readable when somebody has connected, which `receive` heeds."""
        self.due_s = NEVER_S  # as long as there is no connection

    def tick(self) -> None:
        """Ends connections that hold too much memory, or have held it for too long."""
        now_s = monotonic_s()
        if now_s >= self.due_s:
            if not int(self.socket.get(zmq.EVENTS)) & POLLIN:
                self.connections.drained = True
            self.connections.tick(now_s - self.due_s)
            self.due_s = now_s + self.connections.tick_s if self.connections.is_any else NEVER_S

    def _heed_monitor(self) -> None:
        """Whoever connects, and may never say anything whole, is looked at from now on."""
        while int(self.monitor.get(zmq.EVENTS)) & POLLIN:
            self.monitor.recv_multipart(NOBLOCK)
            self.due_s = min(self.due_s, monotonic_s() + self.connections.tick_s)

    def _bind(self, ports: range | int | None) -> int:
        if ports is None:
            wanted: Sequence[int] = (0,)
        elif isinstance(ports, int):
            wanted = (ports,)
        else:
            wanted = ports
        family, address = resolve(self.host)
        self.socket.set(zmq.IPV6, int(family == AF_INET6))
        for port in wanted:
            try:
                self.socket.bind(f"tcp://{url_host(address)}:{port or '*'}")
            except zmq.ZMQError as error:
                if error.errno != errno.EADDRINUSE:
                    raise ConfigError(f"cannot listen on {Endpoint(self.host, port)}: {error.strerror}") from None
            else:
                bound = self.socket.get(zmq.LAST_ENDPOINT)
                assert isinstance(bound, bytes)
                return int(bound.rstrip(b"\0").rsplit(b":", 1)[1])
        if len(wanted) == 1:
            raise ConfigError(f"port {wanted[0]} on {self.host} is in use")
        raise ConfigError(f"every port from {wanted[0]} to {wanted[-1]} on {self.host} is in use")

    def receive(self) -> Frames | None:
        """`[identity, frame 0, …]`, one frame at least, or None when nothing waits.

        A frame of KEPT_FROM_BYTES or more is a writable memoryview of ZeroMQ's own memory, which nobody else uses.
        """
        socket = self.socket
        while True:
            try:
                frames: Frames = [raw_recv(socket, NOBLOCK)]
            except zmq.Again:
                self.connections.drained = True
                self._heed_monitor()
                return None
            taken, more = 0, True
            while more:
                frame = raw_recv(socket, NOBLOCK, False)
                size, more = len(frame), frame.more
                taken += size + (2 if size <= _SHORT_BYTES else 9)
                if len(frames) < _FRAMES_KEPT:
                    frames.append(frame.bytes if size < KEPT_FROM_BYTES else frame.buffer)
            client = self._clients.get(frames[0]) or self.connections.meet(frames[0], frame.get(_SRCFD))
            if client is not None:
                client.taken += taken
            if len(frames) < _FRAMES_KEPT:
                return frames
            self.dropped += 1

    def send(self, identity: bytes, frames: Sequence[Buffer]) -> bool:
        """False when the peer is gone or does not take its answers, or too much waits; the frames are dropped then."""
        socket = self.socket
        client = self._clients.get(identity)
        if client is not None:
            handed = 0
            for size in map(len, frames):
                handed += size + (2 if size <= _SHORT_BYTES else 9)
            if not self.connections.has_room(identity, client, handed):
                return False
        last = len(frames) - 1
        try:
            raw_send(socket, identity, NOBLOCK_MORE)
            for frame in frames[:last]:
                raw_send(socket, frame, NOBLOCK_MORE, False)
            raw_send(socket, frames[last], NOBLOCK, False)
        except zmq.ZMQError as error:
            # Only the first frame can be refused: ZeroMQ takes or drops the rest as one message.
            if error.errno in (errno.EAGAIN, errno.EHOSTUNREACH):
                if error.errno == errno.EHOSTUNREACH:
                    self.connections.forget(identity)
                return False
            raise
        return True

    def close(self) -> None:
        """Unregister it from its poller BEFORE. What was not sent yet is dropped."""
        self.socket.disable_monitor()
        self.monitor.close(linger=0)
        self.socket.close(linger=0)
