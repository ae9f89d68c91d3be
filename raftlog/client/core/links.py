"""The real Wire: links by endpoint, made when asked for, closed when broken or idle.

A connection that breaks is not made again by itself: whoever needs the endpoint asks anew, and by then
the metadata may name another one. After a failure the same endpoint is left alone for a moment, longer each
time. All calls come from one thread.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

from raftlog.clock import NEVER_S, monotonic_s
from raftlog.errors import ConfigError
from raftlog.limits import (
    ANSWERS_PER_ROUND,
    CLOSE_LINGER_S,
    LINK_IDLE_S,
    RECONNECT_BACKOFF_MAX_S,
    RECONNECT_BACKOFF_MIN_S,
)
from raftlog.network import SHARED_CONTEXT, Link, Poller, SecureLink
from raftlog.security.credentials import Credentials
from raftlog.types import Endpoint

LOGGER = logging.getLogger(__name__)


class Links:
    """The connections of one client, by endpoint: the Wire of its Exchange."""

    def __init__(self, wakeup_fd: int, credentials: Credentials | None = None) -> None:
        """With `credentials` under TLS."""
        self._credentials = credentials
        self._context = SHARED_CONTEXT.lease() if credentials is None else None
        self._poller = Poller()
        self._wakeup_fd = wakeup_fd
        self._poller.register(wakeup_fd)
        self._links: dict[Endpoint, Link | SecureLink] = {}
        self._used_s: dict[Endpoint, float] = {}
        self._retry_s: dict[Endpoint, float] = {}
        self._backoff_s: dict[Endpoint, float] = {}
        self._now_s = 0.0
        self._sweep_s = 0.0
        self.trouble = ""  # why the process itself cannot open connections; empty: it can

    def connect(self, endpoint: Endpoint) -> bool:
        link = self._links.get(endpoint)
        if link is None:
            if self._now_s < self._retry_s.get(endpoint, 0.0):
                return False
            try:
                link = self._open(endpoint)
            except ConfigError as error:
                LOGGER.warning("an address that a node gave cannot be used: %s", error)
                self._failed(endpoint)
                return False
            except OSError as error:
                self._cannot_open(endpoint, error)
                self._failed(endpoint)
                return False
            self._links[endpoint] = link
            self._poller.register(link)
        self._used_s[endpoint] = self._now_s
        return link.connected

    def _open(self, endpoint: Endpoint) -> Link | SecureLink:
        """Raises ConfigError, OSError."""
        if self._credentials is not None:
            return SecureLink(endpoint, self._credentials, once=True)
        assert self._context is not None, "there are no credentials"
        return Link(self._context, endpoint, once=True)

    def _cannot_open(self, endpoint: Endpoint, error: OSError) -> None:
        known, self.trouble = self.trouble, f"no connection to {endpoint} can be opened: {error.strerror}"
        if not known:
            LOGGER.warning("%s; it is tried again", self.trouble)  # once, not with every attempt

    def _look_for_descriptors(self, endpoint: Endpoint) -> None:
        """ZeroMQ does not say why it could not connect."""
        try:
            os.close(os.dup(self._wakeup_fd))
        except OSError as error:
            self._cannot_open(endpoint, error)

    def send(self, endpoint: Endpoint, frames: list[bytes]) -> bool:
        link = self._links.get(endpoint)
        return link is not None and link.connected and link.send(frames)

    def poll(
        self,
        timeout_s: float,
        answered: Callable[[Endpoint, list[bytes]], None],
        lost: Callable[[Endpoint], None],
    ) -> bool:
        """Waits, then hands out what came. True when the wakeup descriptor was written to."""
        woken = False
        for ready in self._poller.poll(timeout_s):
            if isinstance(ready, int):
                os.eventfd_read(self._wakeup_fd)
                woken = True
            else:
                self._receive(ready, answered, lost)
        if self._credentials is not None:
            now_s = monotonic_s()
            for link in [link for link in self._links.values() if isinstance(link, SecureLink) and link.due_s <= now_s]:
                self._receive(link, answered, lost)
        return woken

    def _receive(
        self,
        link: Link | SecureLink,
        answered: Callable[[Endpoint, list[bytes]], None],
        lost: Callable[[Endpoint], None],
    ) -> None:
        # The state BEFORE the answers: what came before a loss is received before the loss is told.
        link.watch()
        for _ in range(ANSWERS_PER_ROUND):
            frames = link.receive()
            if frames is None:
                break
            answered(link.endpoint, frames)
        else:
            return
        if link.connected:
            self._backoff_s.pop(link.endpoint, None)
            self.trouble = ""
        if link.over:
            if isinstance(link, SecureLink) and not link.losses:
                self.trouble = f"{link.endpoint}: {link.why}"
            self._look_for_descriptors(link.endpoint)
            self._failed(link.endpoint)
            self._close(link.endpoint)
            lost(link.endpoint)

    def _failed(self, endpoint: Endpoint) -> None:
        backoff_s = self._backoff_s.get(endpoint, RECONNECT_BACKOFF_MIN_S)
        self._retry_s[endpoint] = self._now_s + backoff_s
        self._backoff_s[endpoint] = min(backoff_s * 2, RECONNECT_BACKOFF_MAX_S)

    def next_wakeup_s(self) -> float:
        """When an endpoint that failed may be asked for again."""
        due_s = min((retry_s for retry_s in self._retry_s.values() if retry_s > self._now_s), default=NEVER_S)
        if self._credentials is not None:
            links = [link for link in self._links.values() if isinstance(link, SecureLink)]
            due_s = min([due_s, *(link.due_s for link in links)])
        return due_s

    def sweep(self, now_s: float, busy: Callable[[Endpoint], bool], lost: Callable[[Endpoint], None]) -> None:
        """Closes what nobody has asked for in a while. Also tells the links what time it is."""
        self._now_s = now_s
        if now_s < self._sweep_s:
            return
        self._sweep_s = now_s + LINK_IDLE_S / 4
        for endpoint, retry_s in list(self._retry_s.items()):
            if now_s - retry_s > LINK_IDLE_S:
                del self._retry_s[endpoint]
                self._backoff_s.pop(endpoint, None)
        for endpoint in list(self._links):
            if now_s - self._used_s[endpoint] > LINK_IDLE_S and not busy(endpoint):
                self._close(endpoint)
                lost(endpoint)

    def _close(self, endpoint: Endpoint) -> None:
        link = self._links.pop(endpoint)
        del self._used_s[endpoint]
        self._poller.unregister(link)
        link.close(CLOSE_LINGER_S)

    def close(self) -> None:
        """Sends what was taken and not sent yet, which with acks=0 nobody else waits for: CLOSE_LINGER_S at most.

        Safe to call twice. Where other clients are open in this process, that goes on in the background.
        """
        for endpoint in list(self._links):
            self._close(endpoint)
        if self._context is not None:
            self._context = None
            SHARED_CONTEXT.give_back()
