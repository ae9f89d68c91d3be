"""What each connection of a Server holds in this process's memory, and the end of those that hold too much.

ZeroMQ queues answers for a client that does not read, and keeps the parts of a message whose end never comes; it bounds
neither in bytes, counts neither for us, and closes no connection that we name. The kernel counts what each connection
has received and what its other end has acknowledged (TCP_INFO), so

    bytes that wait for a client  = bytes that were handed to ZeroMQ for it  - bytes that were acknowledged
    bytes of unfinished messages  = bytes that came                          - bytes that ZeroMQ has handed out

and a connection is ended by a shutdown of its descriptor, at which ZeroMQ drops all that it held for it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import socket
import struct
from collections import Counter
from collections.abc import Callable

from raftlog.clock import monotonic_s
from raftlog.limits import (
    CLIENT_SILENT_S,
    CLIENT_WAITING_BYTES_MAX,
    CLIENTS_WAITING_BYTES_MAX,
    CONNECTIONS_MAX,
    CONNECTIONS_PER_ADDRESS_MAX,
    FRAME_BYTES_MAX,
    LOGIN_S,
    UNFINISHED_BYTES_MAX,
)
from raftlog.network.refusals import ADDRESS, ANSWERS, CONNECTIONS, LOGIN, NO_LOGIN, UNFINISHED, Refusals

TICK_S = 1.0
_HURRY_S = 0.1  # while the process grows: a stranger may be sending a message without an end
_GREW_BYTES = 16 * 1024 * 1024  # since the last tick; large requests do so too, and a tick costs next to nothing
_LOOK_BYTES = 1024 * 1024  # handed over since the kernel was asked last
_LOOK_AT_ALL_S = 0.05  # above the bound, all are asked no more often than this
_UNFINISHED_ONE_BYTES_MAX = 2 * FRAME_BYTES_MAX  # a message is a header, a payload, and what the kernel holds
_SCAN_FROM_BYTES = 256 * 1024 * 1024  # a process below it holds nothing for strangers that would matter
_IDLE_LOOKS = 200  # system calls of some microseconds each, in each tick
SPARE_DESCRIPTORS = 512  # of the process's limit: segments, peers, the index
_STRANGERS_S = 5.0  # how often those are looked for that say nothing: two system calls for each descriptor
_NOT_TAKEN = "it does not take its answers"
_COUNTS = struct.Struct("QQ")  # of Linux' struct tcp_info: tcpi_bytes_acked, tcpi_bytes_received
_COUNTS_AT = 120
_INFO_BYTES = _COUNTS_AT + _COUNTS.size
_ESTABLISHED = 1
_Place = tuple[str, int]
_libc = ctypes.CDLL(None)


class Client:
    """One connection that has sent a message. Bytes since the connection began."""

    __slots__ = (
        "acknowledged",
        "begun_s",
        "descriptor",
        "handed",
        "idle_since_s",
        "mark_bytes",
        "mark_s",
        "place",
        "seen_taken",
        "taken",
    )

    def __init__(self, descriptor: int, place: _Place, acknowledged: int, now_s: float) -> None:
        self.descriptor = descriptor
        self.place = place
        self.begun_s = now_s
        self.handed = self.acknowledged = acknowledged
        self.idle_since_s = now_s  # when its other end last acknowledged anything, or nothing waited
        self.mark_bytes = acknowledged  # handed over at
        self.mark_s = now_s  # this time, and not all acknowledged since: the oldest byte waits at most as long
        self.taken = 0  # received from it, by us
        self.seen_taken = -1  # at the last tick

    @property
    def waiting_bytes(self) -> int:
        return max(0, self.handed - self.acknowledged)


class Connections:
    """Of the server at `port`. `refusals`: those that were ended.

    Call `tick` each `tick_s`.
    """

    def __init__(self, port: int) -> None:
        self.clients: dict[bytes, Client] = {}
        self.on_gone: Callable[[bytes], None] = lambda identity: None  # told of each that ended
        self.refusals = Refusals()
        self.drained = True  # everything that was whole has been handed out at some time since the last tick
        self.tick_s = TICK_S
        self._port = port
        self._seen_bytes = _resident_bytes()  # at the last tick
        self._waiting_bytes = 0
        self._looked_s = 0.0
        self._by_host: Counter[str] = Counter()  # how many of `clients`
        self._recounted_s = 0.0
        self._silent: set[_Place] = set()  # connections without a message, at the last look
        self._is_known: Callable[[bytes], bool] | None = None
        self._dumb_since_s: dict[_Place, float] = {}  # connections without a message, while all have to log in
        self._strangers_due_s = 0.0
        self._unlooked: list[bytes] = []  # whether these are there still is asked next
        self._info = ctypes.create_string_buffer(_INFO_BYTES)
        self._info_bytes = ctypes.c_uint(_INFO_BYTES)
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._connections_max = max(1, min(CONNECTIONS_MAX, limit - SPARE_DESCRIPTORS))

    def demand_login(self, is_known: Callable[[bytes], bool] | None) -> None:
        """From now on each connection has LOGIN_S until `is_known` of it; None: nobody has to log in."""
        if (is_known is None) != (self._is_known is None):
            now_s = monotonic_s()
            for client in self.clients.values():
                client.begun_s = now_s
            self._dumb_since_s.clear()
        self._is_known = is_known

    # --- what the server says on its way ---------------------------------------------------------
    def meet(self, identity: bytes, descriptor: int) -> Client | None:
        """The first message of a connection. None: it is gone already, or ended here since its host has too many."""
        place, counts = self._place(descriptor), self._counts(descriptor)
        if place is None or counts is None:
            return None
        if not self._has_place(place[0]):
            self._end(descriptor, place, ADDRESS, f"it has {CONNECTIONS_PER_ADDRESS_MAX} connections")
            return None
        self._by_host[place[0]] += 1
        client = self.clients[identity] = Client(descriptor, place, counts[0], monotonic_s())
        return client

    def _has_place(self, host: str) -> bool:
        """Those that ended are noticed late: they are looked for BEFORE anybody is refused."""
        now_s = monotonic_s()
        if self._by_host[host] >= CONNECTIONS_PER_ADDRESS_MAX and now_s - self._recounted_s > TICK_S:
            self._recounted_s = now_s
            for identity, client in list(self.clients.items()):
                if client.place[0] == host and self._place(client.descriptor) != client.place:
                    self.forget(identity)
        return self._by_host[host] < CONNECTIONS_PER_ADDRESS_MAX

    def has_room(self, identity: bytes, client: Client, size: int) -> bool:
        """Counts an answer of `size` bytes. False: too much waits for a large one, or the client has been ended."""
        if client.handed - client.acknowledged + size > _LOOK_BYTES and not self._makes_room(identity, client, size):
            return False
        client.handed += size
        self._waiting_bytes += size
        return True

    def _makes_room(self, identity: bytes, client: Client, size: int) -> bool:
        if not self._look(identity, client):
            return False
        if size > _LOOK_BYTES:
            return client.waiting_bytes + size <= CLIENT_WAITING_BYTES_MAX and not self._is_full(size)
        if client.waiting_bytes + size > CLIENT_WAITING_BYTES_MAX + _LOOK_BYTES:
            # Not even what is refused is taken off.
            self._end_client(identity, client, ANSWERS, _NOT_TAKEN)
            return False
        return True

    def forget(self, identity: bytes) -> None:
        client = self.clients.pop(identity, None)
        if client is not None:
            self._waiting_bytes -= client.waiting_bytes
            self._by_host[client.place[0]] -= 1
            if not self._by_host[client.place[0]]:
                del self._by_host[client.place[0]]
            self.on_gone(identity)

    # --- bytes that wait for clients -------------------------------------------------------------
    def _is_full(self, size: int) -> bool:
        if self._waiting_bytes + size <= CLIENTS_WAITING_BYTES_MAX:
            return False
        now_s = monotonic_s()
        if now_s - self._looked_s > _LOOK_AT_ALL_S:
            self._looked_s = now_s
            for identity, client in list(self.clients.items()):
                if client.waiting_bytes:
                    self._look(identity, client)
            self._end_slowest(now_s)
        return self._waiting_bytes + size > CLIENTS_WAITING_BYTES_MAX

    def _end_slowest(self, now_s: float) -> None:
        """Above the bound the client goes that has let its answers wait for longest, if that is long."""
        waiting = {identity: client for identity, client in self.clients.items() if client.waiting_bytes}
        if self._waiting_bytes <= CLIENTS_WAITING_BYTES_MAX * 3 // 4 or not waiting:
            return
        identity = min(waiting, key=lambda each: waiting[each].mark_s)
        if now_s - waiting[identity].mark_s > CLIENT_SILENT_S:
            self._end_client(identity, waiting[identity], ANSWERS, _NOT_TAKEN)

    def _look(self, identity: bytes, client: Client) -> bool:
        """False: the connection is gone."""
        counts = self._counts(client.descriptor)
        if counts is None:
            self.forget(identity)
            return False
        acknowledged, now_s = counts[0], monotonic_s()
        self._waiting_bytes -= client.waiting_bytes
        if acknowledged != client.acknowledged or acknowledged >= client.handed:
            client.acknowledged = acknowledged
            client.handed = max(client.handed, acknowledged)  # heartbeats are handed over by ZeroMQ itself
            client.idle_since_s = now_s
        if acknowledged >= client.mark_bytes:
            client.mark_bytes, client.mark_s = client.handed, now_s
        self._waiting_bytes += client.waiting_bytes
        return True

    def _end_client(self, identity: bytes, client: Client, reason: str, why: str) -> None:
        self.forget(identity)
        self._end(client.descriptor, client.place, reason, why)

    @property
    def is_any(self) -> bool:
        """Somebody is connected, though he may have said nothing yet."""
        return bool(self.clients) or any(self._place(each) is not None for each in self._descriptors())

    # --- once in a while -------------------------------------------------------------------------
    def tick(self, late_s: float) -> None:
        """`late_s` is how long this process did not look: nobody's fault."""
        now_s = monotonic_s()
        for identity, client in list(self.clients.items()):
            if client.handed != client.acknowledged:
                client.idle_since_s += late_s
                client.mark_s += late_s
                self._look(identity, client)
                if client.waiting_bytes and now_s - client.idle_since_s > CLIENT_SILENT_S:
                    self._end_client(identity, client, ANSWERS, _NOT_TAKEN)
        self._look_at_idle()
        resident_bytes = _resident_bytes()
        self.tick_s = _HURRY_S if resident_bytes > self._seen_bytes + _GREW_BYTES else TICK_S
        self._seen_bytes = resident_bytes
        descriptors = self._descriptors()
        if len(descriptors) > self._connections_max or resident_bytes > _SCAN_FROM_BYTES or self._has_many_gone():
            self._scan(descriptors)
        else:
            self._silent.clear()
        for client in self.clients.values():
            client.seen_taken = client.taken
        self.drained = False
        if self._is_known is not None:
            self._end_strangers(self._is_known, descriptors, late_s)

    def _look_at_idle(self) -> None:
        """ZeroMQ does not say that a connection ended: those that said nothing are looked at, a few each time."""
        self._unlooked = self._unlooked or list(self.clients)
        looked, self._unlooked = self._unlooked[:_IDLE_LOOKS], self._unlooked[_IDLE_LOOKS:]
        for identity in looked:
            client = self.clients.get(identity)
            idle = client is not None and client.taken == client.seen_taken
            if client is not None and idle and self._place(client.descriptor) != client.place:
                self.forget(identity)

    def _has_many_gone(self) -> bool:
        return len(self.clients) > self._connections_max

    def _scan(self, descriptors: list[int]) -> None:
        """All connections, those that never sent a whole message as well."""
        there: dict[_Place, tuple[int, int]] = {}  # descriptor, bytes received
        for descriptor in descriptors:
            place = self._place(descriptor)
            counts = self._counts(descriptor) if place else None
            if place and counts:
                there[place] = (descriptor, counts[1])
        known = {}
        for identity, client in list(self.clients.items()):
            if client.place in there:
                known[client.place] = client
            else:
                self.forget(identity)
        if self.drained:
            self._end_unfinished(there, known)
        surplus = len(there) - self._connections_max
        if surplus > 0:
            strangers = [place for place in there if place not in known]
            longest_first = sorted(strangers, key=lambda place: place not in self._silent)
            for place in [*longest_first, *reversed(known)][:surplus]:
                self._end(there[place][0], place, CONNECTIONS, f"there are {self._connections_max} connections")
        self._silent = {place for place in there if place not in known}

    def _end_unfinished(self, there: dict[_Place, tuple[int, int]], known: dict[_Place, Client]) -> None:
        """A connection's last message only can be unfinished, and it is if none came since the last tick."""
        unfinished = []
        for place, (descriptor, received) in there.items():
            client = known.get(place)
            if client is None:
                unfinished.append((received, descriptor, place))
            elif client.taken == client.seen_taken:
                unfinished.append((received - client.taken, descriptor, place))
        total = sum(held for held, _, _ in unfinished)
        for held, descriptor, place in sorted(unfinished, reverse=True):
            if held <= _UNFINISHED_ONE_BYTES_MAX and total <= UNFINISHED_BYTES_MAX:
                return
            self._end(descriptor, place, UNFINISHED, "too many bytes of messages that are half there")
            total -= held

    def _end_strangers(self, is_known: Callable[[bytes], bool], descriptors: list[int], late_s: float) -> None:
        """Who has not logged in by then; also who says nothing at all, whom ZeroMQ does not name."""
        now_s = monotonic_s()
        for identity, client in list(self.clients.items()):
            client.begun_s += late_s
            if now_s - client.begun_s > LOGIN_S and not is_known(identity):
                self._end_client(identity, client, LOGIN, NO_LOGIN)
        self._strangers_due_s += late_s
        if now_s < self._strangers_due_s:
            return
        self._strangers_due_s = now_s + _STRANGERS_S
        known = {client.place for client in self.clients.values()}
        before, self._dumb_since_s = self._dumb_since_s, {}
        for descriptor in descriptors:
            place = self._place(descriptor)
            if place is None or place in known:
                continue
            since_s = self._dumb_since_s[place] = before.get(place, now_s) + late_s
            if now_s - since_s > LOGIN_S:
                self._end(descriptor, place, LOGIN, NO_LOGIN)

    # --- descriptors of ZeroMQ -------------------------------------------------------------------
    def _counts(self, descriptor: int) -> tuple[int, int] | None:
        """Bytes that the other end has acknowledged, and bytes that came. None: no connection."""
        self._info_bytes.value = _INFO_BYTES
        failed = _libc.getsockopt(
            descriptor, socket.IPPROTO_TCP, socket.TCP_INFO, self._info, ctypes.byref(self._info_bytes)
        )
        if failed or self._info_bytes.value < _INFO_BYTES or self._info.raw[0] != _ESTABLISHED:
            return None
        acknowledged, received = _COUNTS.unpack_from(self._info, _COUNTS_AT)
        return acknowledged, received

    def _place(self, descriptor: int) -> _Place | None:
        """The other end of a connection of this server. None: the descriptor is something else by now."""
        try:
            connection = socket.socket(fileno=descriptor)
        except OSError:
            return None
        try:
            if connection.getsockname()[1] != self._port:
                return None
            host, port = connection.getpeername()[:2]
        except (OSError, IndexError):
            return None
        else:
            return host, port
        finally:
            connection.detach()  # it is ZeroMQ's

    def _end(self, descriptor: int, place: _Place, reason: str, why: str) -> None:
        if self._place(descriptor) == place:
            _libc.shutdown(descriptor, socket.SHUT_RDWR)
            self.refusals.add(reason, place[0], why)

    def _descriptors(self) -> list[int]:
        with contextlib.suppress(OSError):
            return [int(name) for name in os.listdir("/proc/self/fd")]
        return list(range(resource.getrlimit(resource.RLIMIT_NOFILE)[0]))  # none is left to list them with


def _resident_bytes() -> int:
    with contextlib.suppress(OSError):
        descriptor = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return int(os.read(descriptor, 256).split()[1]) * resource.getpagesize()
        finally:
            os.close(descriptor)
    return _SCAN_FROM_BYTES + 1
