"""A door of one node, seen from its supervisor: the socket it listens at, its processes, and what they are told.

There are two: for Kafka's clients, and the HTTP address.

The supervisor binds the socket and keeps it: a taken port is known before the node is ready, the processes share the
one queue of connections, and clients that come while one starts again are served by it. A socket of each process with
SO_REUSEPORT would let two nodes of one user share a port by mistake.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Collection
from typing import NamedTuple

from raftlog.clock import NEVER_S
from raftlog.errors import ConfigError
from raftlog.limits import WORKER_BACKOFF_MAX_S, WORKER_BACKOFF_MIN_S, WORKER_STABLE_S, WORKER_STOP_S
from raftlog.network.addresses import resolve
from raftlog.node import channel as ch
from raftlog.node.processes import Child, start_door, start_http
from raftlog.node.settings import NodeSettings
from raftlog.security.policy import Security
from raftlog.types import Endpoint

log = logging.getLogger(__name__)

_BACKLOG = 1024
_NEWS_MIN_S = 0.01  # many changes at once are one piece of news


class _Door:
    """One process, and when it is to be started."""

    def __init__(self) -> None:
        self.child: Child | None = None
        self.started_s = 0.0
        self.start_due_s = 0.0
        self.failures = 0


class DoorPlan(NamedTuple):
    """What a door is, as its node was told. `listen` None: there is none. `asked`: its address is no default."""

    name: str
    flag: str
    listen: Endpoint | None
    advertise: Endpoint | None
    asked: bool
    processes: int
    start: Callable[[socket.socket], Child]


def kafka_door(
    settings: NodeSettings,
    secured: ch.Secured | None = None,
    start: Callable[[ch.DoorConfig, socket.socket], Child] = start_door,
) -> DoorPlan:
    config = ch.DoorConfig(
        node_id=settings.node_id,
        node=settings.listen,
        data=settings.data,
        connections_max=settings.kafka_connections,
        connections_per_address=settings.kafka_connections_per_address,
        auto_create_topics=settings.auto_create_topics,
        max_reauth_ms=settings.max_reauth_ms,
        log_style=settings.log_style,
        access=settings.access,
        secured=secured,
    )
    return DoorPlan(
        name="Kafka's door",
        flag="--kafka-listen",
        listen=settings.kafka_listen,
        advertise=settings.kafka_advertise,
        asked=settings.kafka_asked,
        processes=settings.kafka_processes,
        start=lambda listener: start(config, listener),
    )


def http_address(settings: NodeSettings, secured: ch.Secured | None = None) -> DoorPlan:
    config = ch.HttpConfig(
        node_id=settings.node_id,
        node=settings.listen,
        data=settings.data,
        read_only=settings.http_read_only,
        log_style=settings.log_style,
        access=settings.access,
        secured=secured,
    )
    return DoorPlan(
        name="the HTTP address",
        flag="--http-listen",
        listen=settings.http_listen,
        advertise=settings.http_listen,
        asked=settings.http_asked,
        processes=1,
        start=lambda listener: start_http(config, listener),
    )


class DoorHost:
    """The processes of a door, started again when one ends. `endpoint`: where clients reach it; None: it is closed."""

    def __init__(self, plan: DoorPlan, hear: Callable[[Child, ch.ToSupervisor | None], None] = lambda *_: None) -> None:
        """`hear` is given what its processes say; None: this one has ended.

        Raises ConfigError when the address asked for cannot be used.
        """
        self._plan = plan
        self._hear = hear
        self._listener = _open(plan)
        self.endpoint: Endpoint | None = plan.advertise if self._listener else None
        self._doors = [_Door() for _ in range(plan.processes if self._listener else 0)]
        self._log_level = ""  # told at run time, also to those that start later
        self._news: ch.ClusterNews | None = None
        self._security: ch.SecurityNews | None = None
        self._news_due_s = NEVER_S
        self._said_s = 0.0
        self._stopping = False
        self._kill_due_s = NEVER_S
        self.processes_changed = True  # `descriptors` gives another answer than before

    def descriptors(self) -> set[int]:
        """What the poller should watch."""
        children = [door.child for door in self._doors if door.child is not None]
        return {child.channel.fileno() for child in children} | {child.sentinel() for child in children}

    @property
    def pids(self) -> list[int]:
        return [door.child.pid for door in self._doors if door.child is not None]

    @property
    def ended(self) -> bool:
        return all(door.child is None for door in self._doors)

    @property
    def pending(self) -> bool:
        return any(door.child is not None and door.child.channel.pending for door in self._doors)

    @property
    def next_due_s(self) -> float:
        starts = [door.start_due_s for door in self._doors if door.child is None and not self._stopping]
        return min([self._news_due_s, self._kill_due_s, *starts])

    def set_log_level(self, level: str) -> None:
        self._log_level = level
        for door in self._doors:
            if door.child is not None:
                door.child.channel.send(ch.SetLogLevel(level=level))

    def tell(self, news: ch.ClusterNews, now_s: float) -> None:
        """To all of them, in a moment."""
        if self._doors and news != self._news:
            self._news = news
            self._news_due_s = min(self._news_due_s, max(now_s, self._said_s + _NEWS_MIN_S))

    def secure(self, security: Security) -> None:
        """At once, and first of all to those that start later."""
        self._security = ch.SecurityNews(security=security)
        for door in self._doors:
            if door.child is not None:
                door.child.channel.send(self._security)

    def hurry(self, now_s: float) -> None:
        """What is to be told leaves at once."""
        if self._news_due_s < NEVER_S:
            self._news_due_s = NEVER_S
            self._said_s = now_s
            for door in self._doors:
                self._say(door)

    def tick(self, ready: Collection[int], now_s: float) -> None:
        """Starts, ends and tells what is due."""
        for door in self._doors:
            child = door.child
            if child is None:
                if not self._stopping and now_s >= door.start_due_s:
                    self._start_door(door, now_s)
                continue
            if child.channel.fileno() in ready or child.sentinel() in ready:
                for message in child.channel.receive():
                    self._hear(child, message)
                exit_code = child.exit_code()
                if exit_code is not None:
                    self._hear(child, None)
                    child.close()
                    self._count_end(door, exit_code, now_s)
                    continue
                if child.channel.closed:
                    child.kill()
            if child.channel.pending:
                child.channel.flush()
            if now_s >= self._kill_due_s:
                child.kill()
        if now_s >= self._kill_due_s:
            self._kill_due_s = NEVER_S
        if now_s >= self._news_due_s:
            self.hurry(now_s)

    def _start_door(self, door: _Door, now_s: float) -> None:
        assert self._listener is not None, "a closed door has no process"
        door.child = self._plan.start(self._listener)
        if self._log_level:
            door.child.channel.send(ch.SetLogLevel(level=self._log_level))
        door.started_s = now_s
        self.processes_changed = True
        if self._security is not None:
            door.child.channel.send(self._security)
        self._say(door)

    def _say(self, door: _Door) -> None:
        if door.child is not None and self._news is not None:
            door.child.channel.send(self._news)

    def _count_end(self, door: _Door, exit_code: int, now_s: float) -> None:
        door.child = None
        self.processes_changed = True
        if self._stopping:
            return
        if now_s - door.started_s >= WORKER_STABLE_S:
            door.failures = 0
        delay_s = min(WORKER_BACKOFF_MIN_S * 2**door.failures, WORKER_BACKOFF_MAX_S)
        door.failures = min(door.failures + 1, 16)
        door.start_due_s = now_s + delay_s
        log.error("a process of %s ended (%d); starting again in %.1f s", self._plan.name, exit_code, delay_s)

    def stop(self, now_s: float) -> None:
        """The node ends: no client is served any more."""
        self._stopping = True
        self._kill_due_s = now_s + WORKER_STOP_S
        for door in self._doors:
            if door.child is not None:
                door.child.channel.send(ch.Stop())
        if self._listener is not None:
            self._listener.close()

    def kill_all(self) -> None:
        """The next tick does."""
        self._kill_due_s = 0.0


def _open(plan: DoorPlan) -> socket.socket | None:
    """Raises ConfigError; where nobody has asked for the address, the node goes on without this door."""
    if plan.listen is None:
        return None
    try:
        return _listen(plan.listen)
    except ConfigError as error:
        if plan.asked:
            raise
        log.warning("%s is closed: %s; open it elsewhere with %s HOST:PORT", plan.name, error, plan.flag)
        return None


def _listen(endpoint: Endpoint) -> socket.socket:
    family, address = resolve(endpoint.host)
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)  # [::] is IPv4 too, as for the first door
        listener.bind((address, endpoint.port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise ConfigError(f"cannot listen on {endpoint}: {error.strerror or error}") from None
    listener.setblocking(False)
    return listener
