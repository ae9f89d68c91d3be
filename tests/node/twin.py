"""A twin of a process of a worker or a door, for tests of its supervision."""

from __future__ import annotations

import os
import socket
from typing import Any

from raftlog.node import channel as ch


class TwinChild:
    """A process that does what the test says."""

    def __init__(self, pid: int, hears: object = ch.ToWorker) -> None:
        """`hears`: the type of what its supervisor tells it."""
        ours, theirs = socket.socketpair()
        self.pid = pid
        self.channel: ch.Channel[ch.ToSupervisor] = ch.Channel(ours, ch.ToSupervisor)
        self.end: ch.Channel[Any] = ch.Channel(theirs, hears)
        self._sentinel, self._alive = os.pipe()
        self.code: int | None = None
        self.killed = False

    def exit(self, code: int, last_words: str = "") -> None:
        if last_words:
            self.end.send(ch.Failed(text=last_words))
        self.code = code
        self.end.close()

    def exit_code(self) -> int | None:
        assert self._alive >= 0, "a process that is closed is not asked, as in multiprocessing"
        return self.code

    def sentinel(self) -> int:
        return self._sentinel

    def kill(self) -> None:
        self.killed = True
        if self.code is None:
            self.exit(-9)

    def close(self) -> None:
        self.channel.close()
        if self._alive >= 0:
            os.close(self._sentinel)
            os.close(self._alive)
            self._alive = -1
