"""What a service manager is told: that the node is ready, that its main process goes on, that it stops.

systemd's protocol (sd_notify): a datagram of text to the socket that the environment names. Elsewhere nobody is told.
"""

from __future__ import annotations

import contextlib
import os
import socket

from raftlog.clock import NEVER_S

_SOCKET, _WATCHDOG, _WATCHDOG_PID = "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"


class Service:
    """The service manager, which is told how the node is.

    `due_s`: when `tick` has something to say. Its variables leave the environment: they are for nobody else.
    """

    def __init__(self, now_s: float) -> None:
        self._address = os.environ.pop(_SOCKET, "")
        watchdog_us = os.environ.pop(_WATCHDOG, "")
        asked = os.environ.pop(_WATCHDOG_PID, "") in ("", str(os.getpid()))
        on = bool(self._address) and asked and watchdog_us.isdecimal() and int(watchdog_us) > 0
        # Half of what is allowed, as systemd advises.
        self._interval_s = int(watchdog_us) / 2_000_000 if on else NEVER_S
        self.due_s = now_s + self._interval_s

    def say_ready(self) -> None:
        self._send("READY=1")

    def say_stopping(self) -> None:
        self._send("STOPPING=1")

    def tick(self, now_s: float) -> None:
        if now_s >= self.due_s:
            self.due_s = now_s + self._interval_s
            self._send("WATCHDOG=1")

    def _send(self, text: str) -> None:
        """A manager that does not listen is no reason to end: it will say so itself."""
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as said:
            said.setblocking(False)
            said.sendto(text.encode(), address)
