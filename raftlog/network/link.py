"""A DEALER to one endpoint. It reconnects by itself; it never says what was lost, unless watched."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import zmq
from zmq.constants import Event

from raftlog.errors import ConfigError
from raftlog.limits import RECONNECT_BACKOFF_MAX_S, RECONNECT_BACKOFF_MIN_S, SOCKET_HWM_MESSAGES
from raftlog.network.context import NOBLOCK, NOBLOCK_MORE, Context, Frames, raw_recv, raw_send
from raftlog.types import Buffer, Endpoint

CONNECT_MS = 3_000

_UP = int(Event.HANDSHAKE_SUCCEEDED)
_DOWN = int(Event.DISCONNECTED)
_RETRIED = int(Event.CONNECT_RETRIED)
_NEVER_MS = 3_600_000  # ZeroMQ has no "not again"; whoever wants a connection once closes it long before
_EVENT = struct.Struct("=Hi")  # libzmq's monitor frame: event, value


class Link:
    """One connection, made in the background and made again when it breaks.

    `send` refuses while there is no connection, so nothing is queued for a process that may come back as another. When
    a connection breaks, what was sent and what had arrived but was not received yet is lost.

    watched   the link knows its state: `connected`, and `losses`, which counts established connections that broke
    once      likewise, and it is not made again: `over` says that it broke or was never made. What had arrived before
              is still received; send only while `connected`, since what is sent before is kept for it

    A host name is looked up in the background; what cannot even be one raises ConfigError. Without descriptors for it,
    of which it takes four, OSError is raised.
    """

    def __init__(self, context: Context, endpoint: Endpoint, *, watched: bool = False, once: bool = False) -> None:
        self.endpoint = endpoint
        self.connected = False
        self.over = False
        self.losses = 0
        self._once = once
        self.monitor: zmq.Socket[bytes] | None = None
        try:
            self.socket = context.socket(zmq.DEALER)
        except zmq.ZMQError as error:
            raise OSError(error.errno, error.strerror) from None
        self.socket.set(zmq.RCVHWM, SOCKET_HWM_MESSAGES)
        # IMMEDIATE also throws away what has arrived when the connection breaks, hence not for `once`.
        self.socket.set(zmq.IMMEDIATE, int(not once))
        self.socket.set(zmq.RECONNECT_IVL, _NEVER_MS if once else int(RECONNECT_BACKOFF_MIN_S * 1000))
        self.socket.set(zmq.RECONNECT_IVL_MAX, 0 if once else int(RECONNECT_BACKOFF_MAX_S * 1000))
        self.socket.set(zmq.CONNECT_TIMEOUT, CONNECT_MS)
        if watched or once:
            try:
                self.monitor = self.socket.get_monitor_socket(_UP | _DOWN | (_RETRIED if once else 0))
            except zmq.ZMQError as error:
                self.close()
                raise OSError(error.errno, error.strerror) from None
        try:
            self.socket.set(zmq.IPV6, int(":" in endpoint.host))
            self.socket.connect(f"tcp://{endpoint}")
        except zmq.ZMQError as error:
            self.close()
            raise ConfigError(f"{endpoint} is not an address: {error.strerror}") from None

    def send(self, frames: Sequence[Buffer]) -> bool:
        """False: not connected or the queue is full; the frames are dropped."""
        socket = self.socket
        last = len(frames) - 1
        try:
            for frame in frames[:last]:
                raw_send(socket, frame, NOBLOCK_MORE, False)
            raw_send(socket, frames[last], NOBLOCK, False)
        except zmq.Again:
            return False
        return True

    def receive(self) -> Frames | None:
        """The frames of one message, or None when nothing waits."""
        socket = self.socket
        try:
            frame = raw_recv(socket, NOBLOCK, False)
        except zmq.Again:
            return None
        frames: Frames = [frame.bytes]
        while frame.more:
            frame = raw_recv(socket, NOBLOCK, False)
            frames.append(frame.bytes)
        return frames

    def watch(self) -> None:
        """Brings `connected`, `losses` and `over` up to date. Call it BEFORE the last `receive` of a round.

        Then every answer that came before a loss is received before the loss is acted upon.
        """
        monitor = self.monitor
        assert monitor is not None, "the link is not watched"
        while True:
            try:
                event = monitor.recv_multipart(NOBLOCK)
            except zmq.Again:
                return
            kind, _ = _EVENT.unpack(event[0])
            if kind == _UP:
                self.connected = True
            elif kind == _DOWN:
                self.losses += self.connected
                self.connected = False
            elif kind == _RETRIED:
                # Told after every failure, whatever its kind.
                self.over = self._once

    def close(self, linger_s: float = 0) -> None:
        """Unregister it from its poller BEFORE. What is not sent within `linger_s` is dropped; Context.close waits."""
        self.socket.disable_monitor()
        if self.monitor is not None:
            self.monitor.close(linger=0)
        self.socket.close(linger=int(linger_s * 1000))
