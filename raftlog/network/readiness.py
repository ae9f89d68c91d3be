"""Several descriptors as one: what a loop waits for where a server or a link has more than one of them.

It is readable while one of them is, or while `more` says that something was taken in and not handed out yet.
"""

from __future__ import annotations

import os
import select


class Readiness:
    def __init__(self) -> None:
        """Raises OSError without descriptors."""
        self._epoll = select.epoll()
        try:
            self._more = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        except OSError:
            self._epoll.close()
            raise
        self._epoll.register(self._more, select.EPOLLIN)
        self._has_more = False

    def fileno(self) -> int:
        return self._epoll.fileno()

    def watch(self, descriptor: int, events: int) -> None:
        """Of one that is there: what is waited for from now on."""
        self._epoll.modify(descriptor, events)

    def add(self, descriptor: int, events: int = select.EPOLLIN) -> None:
        self._epoll.register(descriptor, events)

    def drop(self, descriptor: int) -> None:
        """BEFORE it is closed."""
        self._epoll.unregister(descriptor)

    def ready(self) -> list[tuple[int, int]]:
        """Descriptors and their events, without waiting."""
        return [found for found in self._epoll.poll(0) if found[0] != self._more]

    def more(self, has_more: bool) -> None:
        if has_more == self._has_more:
            return
        self._has_more = has_more
        if has_more:
            os.eventfd_write(self._more, 1)
        else:
            os.eventfd_read(self._more)

    def close(self) -> None:
        self._epoll.close()
        os.close(self._more)
