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
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Protocol, TypeVar

from raftlog.client.core.call import Call, Calls
from raftlog.client.core.exchange import Exchange, Who
from raftlog.client.core.links import Links
from raftlog.client.core.metadata import MetadataCache
from raftlog.client.core.metadata_refresh import Refresher
from raftlog.clock import NEVER_S, monotonic_s
from raftlog.errors import ClosedError, NoBrokersAvailableError, RaftlogError, SaslAuthenticationFailedError
from raftlog.security.credentials import Credentials
from raftlog.types import Endpoint, split_host_port

T = TypeVar("T")
DEFAULT_BOOTSTRAP = "127.0.0.1:7071"
DEFAULT_PORT = 7071
_HOST = re.compile(r"[A-Za-z0-9._-]+")
# A thread that nobody wakes looks at the time this often; bounds the harm of a wakeup that is missed.
_IDLE_S = 5.0


class Part(Protocol):
    """A core of a client, as the thread that steps it sees it."""

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
    """A client's thread, its links and its metadata. Start it with the parts that it steps.

    `topics`: those whose metadata is kept fresh (None: all).
    """

    def __init__(
        self,
        bootstrap: list[Endpoint],
        client_id: str,
        topics: frozenset[str] | None,
        credentials: Credentials | None = None,
        who: Who = None,
    ) -> None:
        """Raises OSError when the process may not open enough descriptors."""
        self.bootstrap = bootstrap
        self._wakeup_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        try:
            self._links = Links(self._wakeup_fd, credentials)
        except OSError:
            os.close(self._wakeup_fd)
            raise
        self.cache = MetadataCache()
        self.exchange = Exchange(self._links, client_id, who)
        self.refresher = Refresher(self.exchange, self.cache, self.bootstrap, topics, random.Random())
        self.calls = Calls(self.exchange, self.cache, self.refresher)
        self._parts: list[Part] = [self.refresher, self.calls]
        self.metadata_changed = threading.Condition()
        self._woken = False
        self._wake_lock = threading.Lock()
        self._stopping = False
        self._bug: BaseException | None = None  # what ended the thread, if nobody asked for its end
        self._ended = False
        self._seen_version = 0
        self._callbacks: deque[Callable[[], object]] = deque()
        self._calling_back = False
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
        try:
            while not self._stopping:
                self._turn(NEVER_S)
                self._call_back()
        finally:
            self._end()

    def _turn(self, until_s: float) -> None:
        """One round, which waits until `until_s` at most. A bug in it ends the client, wherever it is called."""
        try:
            now_s = monotonic_s()
            self._links.sweep(now_s, self.exchange.is_asked, self.exchange.lost)
            if silent := self.exchange.expire(now_s):
                self.refresher.want(silent)
            # The parts first: what they want of the metadata is asked for in the same round.
            next_s = min(part.step(now_s) for part in reversed(self._parts))
            next_s = min(next_s, self.exchange.next_wakeup_s(), self._links.next_wakeup_s(), now_s + _IDLE_S, until_s)
            if self._callbacks and not self._calling_back:
                next_s = now_s
            if self._links.poll(next_s - monotonic_s(), self.exchange.answered, self.exchange.lost):
                self._woken = False
            if self.cache.version != self._seen_version or self.exchange.refused:
                self._seen_version = self.cache.version
                with self.metadata_changed:
                    self.metadata_changed.notify_all()
        except BaseException as bug:
            self._bug = bug
            self._stopping = True
            raise

    def _call_back(self) -> None:
        # One after the other: what waits in one of them takes turns, but runs no others within itself.
        self._calling_back = True
        while self._callbacks:
            self._callbacks.popleft()()
        self._calling_back = False

    def _end(self) -> None:
        self._stopping = True  # BEFORE anybody is told: who looks shall see it
        for part in self._parts:
            part.abort()
        with self.metadata_changed:
            self.metadata_changed.notify_all()
        self._call_back()
        self._links.close()
        with self._wake_lock:
            self._ended = True
            os.close(self._wakeup_fd)

    # --- for who is in the client's thread: callbacks of the user's (a ClientThread) -----------
    def is_current(self) -> bool:
        return self._thread is threading.current_thread()

    def work_until(self, done: Callable[[], bool], timeout_s: float | None) -> bool:
        """As ClientThread says: a callback that waits would otherwise wait for its own thread."""
        until_s = NEVER_S if timeout_s is None else monotonic_s() + timeout_s
        while not done():
            self.check_open()
            if monotonic_s() >= until_s:
                return False
            self._turn(until_s)
        return True

    def call_later(self, callback: Callable[[], object]) -> None:
        self._callbacks.append(callback)

    def stop(self, timeout_s: float | None = None) -> bool:
        """Ends the thread and waits for it. Safe to call twice, and from a callback, after which it ends.

        False: it runs on after `timeout_s`, because a callback of the user's does.
        """
        self._stopping = True
        self._woken = False
        self.wake()
        if self._thread.is_alive() and not self.is_current():
            self._thread.join(timeout_s)
            return not self._thread.is_alive()
        return True

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
        if self.is_current():
            return self.work_until(found, timeout_s)
        with self.metadata_changed:
            self.metadata_changed.wait_for(lambda: self._stopping or found(), timeout_s)
            if found():
                return True
            self.check_open()
            return False

    def wait_for_cluster(self, timeout_s: float) -> None:
        """Until some node has answered. Raises NoBrokersAvailableError, SaslAuthenticationFailedError."""
        answered = self.wait_for(lambda: self.cache.version > 0 or bool(self.exchange.refused), timeout_s)
        if not self.cache.version and self.exchange.refused:
            raise SaslAuthenticationFailedError(self.exchange.refused)
        if not answered:
            addresses = ", ".join(map(str, self.bootstrap))
            trouble = self._links.trouble or self.exchange.trouble
            why = f": {trouble}" if trouble else "; with --security it answers only certificates of its cluster"
            raise NoBrokersAvailableError(f"no node of a cluster answered at {addresses} within {timeout_s:g} s{why}")

    def now_s(self) -> float:
        return monotonic_s()

    def result(self, future: Future[T]) -> T:
        """Of what was asked, whenever it comes: every question ends within its own time. Raises what it ended with."""
        try:
            return future.result()
        except RaftlogError as error:
            raise error.with_traceback(None) from None

    def wait_until(self, changed: threading.Condition, found: Callable[[], bool], timeout_s: float) -> None:
        with changed:
            changed.wait_for(found, timeout_s)

    def submit(self, call: Call[Any, Any]) -> None:
        self.calls.add(call)
        self.wake()
