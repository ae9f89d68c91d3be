"""The client's one background thread: it moves frames and time into the cores, and nothing else.

Producers, consumers and admins each own an Engine and put their core (a Part) into it. Users' threads
change what the cores share under the cores' locks and then call `wake`. Whatever ends the thread, every
part is aborted BEFORE it ends, so that nobody waits for an outcome that cannot come.
"""

from __future__ import annotations

import os
import random
import re
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Protocol, TypeVar

from raftlog.client import given
from raftlog.client.calls import Call, Calls
from raftlog.client.exchange import Exchange
from raftlog.client.links import Links
from raftlog.client.metadata import MetadataCache
from raftlog.client.refresher import Refresher
from raftlog.errors import ClosedError, NoBrokersAvailableError, RaftlogError
from raftlog.types import Endpoint, split_host_port

T = TypeVar("T")
DEFAULT_BOOTSTRAP = "127.0.0.1:7071"
DEFAULT_PORT = 7071
_HOST = re.compile(r"[A-Za-z0-9._-]+")
# A thread that nobody wakes looks at the time this often; bounds the harm of a wakeup that is missed.
_IDLE_S = 5.0


class Part(Protocol):
    def step(self, now_s: float) -> float:
        """Does what can be done now; returns the monotonic time of the next call at the latest."""
        ...

    def abort(self) -> None:
        """Ends everything that is waited for. Called once, when the thread ends."""
        ...


def parse_bootstrap(servers: str | Sequence[str]) -> list[Endpoint]:
    """`"host:port,host:port"` or a list of `"host:port"`; port 7071 when left out. Raises ValueError."""
    written = servers.split(",") if isinstance(servers, str) else list(servers)
    endpoints = []
    for one in written:
        host, port = split_host_port(one.strip())
        if not port and not one.strip().endswith(":"):
            port = str(DEFAULT_PORT)
        number = int(port) if port.isascii() and port.isdigit() else 0
        if not (":" in host or _HOST.fullmatch(host)) or not 0 < number < 65536:
            raise ValueError(f"{one!r} is not an address of the form host:port")
        endpoints.append(Endpoint(host, number))
    if not endpoints:
        raise ValueError("bootstrap_servers is empty")
    return list(dict.fromkeys(endpoints))


class Engine:
    """`topics`: those whose metadata is kept fresh (None: all). Start it once the parts are in."""

    def __init__(self, bootstrap_servers: str | Sequence[str], client_id: str, topics: frozenset[str] | None) -> None:
        """Raises TypeError, ValueError."""
        self.bootstrap = parse_bootstrap(bootstrap_servers)
        given.text(client_id)
        self._wakeup_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._links = Links(self._wakeup_fd)
        self.cache = MetadataCache()
        self.exchange = Exchange(self._links, client_id)
        self.refresher = Refresher(self.exchange, self.cache, self.bootstrap, topics, random.Random())
        self.calls = Calls(self.exchange, self.cache, self.refresher)
        self._parts: list[Part] = [self.refresher, self.calls]
        self.metadata_changed = threading.Condition()
        self._woken = False
        self._wake_lock = threading.Lock()
        self._stopping = False
        self._bug: BaseException | None = None  # what ended the thread, if nobody asked for its end
        self._ended = False
        self._thread = threading.Thread(target=self._run, name=f"{client_id}-network", daemon=True)

    def start(self, *parts: Part) -> None:
        self._parts += parts
        self._thread.start()

    def wake(self) -> None:
        """From any thread, AFTER the change that the thread shall see."""
        if self._woken:
            return
        with self._wake_lock:
            if not self._ended:
                self._woken = True
                os.eventfd_write(self._wakeup_fd, 1)

    def _run(self) -> None:
        seen_version = 0
        try:
            while not self._stopping:
                now_s = time.monotonic()
                self._links.sweep(now_s, self.exchange.is_asked, self.exchange.lost)
                if self.exchange.expire(now_s):
                    self.refresher.want()
                # The parts first: what they want of the metadata is asked for in the same round.
                next_s = min(part.step(now_s) for part in reversed(self._parts))
                next_s = min(next_s, self.exchange.next_wakeup_s(), self._links.next_wakeup_s(), now_s + _IDLE_S)
                if self._links.poll(next_s - time.monotonic(), self.exchange.answered, self.exchange.lost):
                    self._woken = False
                if self.cache.version != seen_version:
                    seen_version = self.cache.version
                    with self.metadata_changed:
                        self.metadata_changed.notify_all()
        except BaseException as bug:
            self._bug = bug
            raise
        finally:
            self._end()

    def _end(self) -> None:
        self._stopping = True  # BEFORE anybody is told: who looks shall see it
        for part in self._parts:
            part.abort()
        with self.metadata_changed:
            self.metadata_changed.notify_all()
        self._links.close()
        with self._wake_lock:
            self._ended = True
            os.close(self._wakeup_fd)

    def stop(self) -> None:
        """Ends the thread and waits for it. Safe to call twice, and from a callback."""
        self._stopping = True
        self._woken = False
        self.wake()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join()

    # --- waiting, for users' threads ---------------------------------------------------------
    @property
    def ends(self) -> bool:
        """Nothing comes any more."""
        return self._stopping

    def check_open(self) -> None:
        """Raises ClosedError."""
        if self._bug is not None:
            raise ClosedError(f"the client's thread has ended: {self._bug!r}")
        if self._stopping:
            raise ClosedError("the client is closed")

    def wait_for(self, found: Callable[[], bool], timeout_s: float) -> bool:
        """Until the metadata is such that `found()`; False after `timeout_s`. Raises ClosedError."""
        with self.metadata_changed:
            self.metadata_changed.wait_for(lambda: self._stopping or found(), timeout_s)
            if found():
                return True
            self.check_open()
            return False

    def wait_for_cluster(self, timeout_s: float) -> None:
        """Until some node has answered. Raises NoBrokersAvailableError."""
        if not self.wait_for(lambda: self.cache.version > 0, timeout_s):
            addresses = ", ".join(map(str, self.bootstrap))
            raise NoBrokersAvailableError(f"no node of a cluster answered at {addresses} within {timeout_s:g} s")

    def now_s(self) -> float:
        return time.monotonic()

    def result(self, future: Future[T]) -> T:
        """Of what was asked, whenever it comes: every question ends within its own time. Raises what it ended with."""
        try:
            return future.result()
        except RaftlogError as error:
            raise error.with_traceback(None) from None

    def wait_until(self, changed: threading.Condition, found: Callable[[], bool], timeout_s: float) -> None:
        with changed:
            changed.wait_for(found, timeout_s)

    def submit(self, call: Call) -> None:
        self.calls.add(call)
        self.wake()
