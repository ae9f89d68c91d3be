"""Watches the workers of one node: starts them, restarts them with back-off, says why one cannot start.

One worker never waits for another: a start is a message to the fork server, a stop is a message to the
worker and a deadline. Time and processes are passed in.
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from raftlog.clock import NEVER_S
from raftlog.limits import (
    SLEEPER_HANGS_S,
    SLEEPER_WORD_S,
    WORKER_BACKOFF_MAX_S,
    WORKER_BACKOFF_MIN_S,
    WORKER_STABLE_S,
    WORKER_STOP_S,
)
from raftlog.node import channel as ch
from raftlog.node.figure_book import FigureBook
from raftlog.node.gossip import ReplicaKey
from raftlog.node.hosting_plan import NO_CONFIGURATION, Word
from raftlog.node.meta import HostedReplica
from raftlog.node.processes import Child
from raftlog.node.wake_ups import WakeUps
from raftlog.protocol.nodes import WorkerState
from raftlog.types import Endpoint, GroupStatus, ReplicaSpec, ReplicaStatus, Role

_STARTS_PER_TICK = 4  # each takes some milliseconds, in which the node hears nothing
Peers = list[tuple[int, Endpoint | None, int]]


class OpenedReplica(NamedTuple):
    """A worker that has opened its directory: nobody else hears of it BEFORE meta.json says so."""

    key: ReplicaKey


class Published(NamedTuple):
    """The metadata's worker replayed its log."""

    image: bytes


class Ended(NamedTuple):
    """The worker of a replica that was to be stopped is gone. `deleted`: the replica itself should follow."""

    key: ReplicaKey
    deleted: bool


class Hangs(NamedTuple):
    """A worker that sleeps owes its word: the others are told that it is gone, until it says one."""

    name: str


class Failure(NamedTuple):
    """A worker ended by itself, or could not start."""

    name: str
    text: str
    again_in_s: float


Event = OpenedReplica | Published | Ended | Hangs | Failure


@dataclass
class _Worker:
    spec: ReplicaSpec
    status: ReplicaStatus
    child: Child | None = None
    started_s: float = 0.0
    start_due_s: float = 0.0
    failures: int = 0
    last_words: str = ""
    opened: ch.Opened | None = None
    announced: bool = False  # meta.json knows that its directory exists
    reported: bool = False  # `status` is what this process has said
    peers: Peers = field(default_factory=list)
    wish: ch.Wish | None = None
    silent: list[int] = field(default_factory=list)
    told: ch.Reachable | None = None  # last, to the present process
    word_due_s: float = NEVER_S  # when it is asked for a word; only while it sleeps
    hangs_s: float = NEVER_S  # when it will have owed one for too long
    hangs: bool = False
    kill_due_s: float = NEVER_S
    stopping: bool = False
    deleted: bool = True  # matters when stopping


class Workers:
    """The worker processes of a node, restarted when they end.

    `start(key)` makes the process of a replica; it is called again for every restart.
    """

    def __init__(self, node_id: int, host: str, start: Callable[[ReplicaKey], Child]) -> None:
        self._node_id = node_id
        self._host = host
        self._start = start
        self._workers: dict[ReplicaKey, _Worker] = {}
        self._wake_ups = WakeUps()
        self.figures = FigureBook(time.time)
        self._log_level = ""  # told at run time, also to those that start later
        self.changed = True  # something that others should hear of at once
        self.processes_changed = True  # `descriptors` gives another answer than before

    # --- what the supervisor wants -------------------------------------------------------------
    def host(self, hosted: HostedReplica) -> None:
        """Start it at the next `tick` and keep it running."""
        spec = hosted.spec
        status = ReplicaStatus(
            topic=spec.topic,
            topic_id=spec.topic_id,
            partition=spec.partition,
            node_id=self._node_id,
            role=Role.WITNESS if hosted.is_witness(self._node_id) else Role.FOLLOWER,
            error="starting",
        )
        worker = _Worker(spec=spec, status=status, announced=hosted.created)
        self._workers[spec.topic_id, spec.partition] = worker
        self.changed = True

    def stop(self, key: ReplicaKey, now_s: float) -> None:
        """Ask it to end; `Ended` follows from `tick`, after WORKER_STOP_S at the latest."""
        worker = self._workers[key]
        if not worker.stopping:
            worker.stopping = True
            worker.kill_due_s = now_s + WORKER_STOP_S
            self.changed = True
            if worker.child is not None:
                worker.child.channel.send(ch.Stop())

    def stop_all(self, now_s: float) -> None:
        """The node ends: their directories stay."""
        for key, worker in self._workers.items():
            if not worker.stopping:
                self.stop(key, now_s)
                worker.deleted = False

    def kill_all(self) -> None:
        for worker in self._workers.values():
            worker.kill_due_s = 0.0

    def announce(self, key: ReplicaKey) -> None:
        """meta.json lists it as created: others may know where it is."""
        self._workers[key].announced = True
        self.changed = True

    def set_spec(self, key: ReplicaKey, spec: ReplicaSpec) -> None:
        """Its topic has other settings: a running worker is told, a later one is started with them."""
        self._workers[key].spec = spec
        self.tell(key, ch.SetConfig(config=spec.config))

    def tell_peers(self, key: ReplicaKey, peers: Peers, silent: Sequence[int] = ()) -> None:
        """One that sleeps is told in its turn, since that wakes it."""
        worker, silent = self._workers[key], list(silent)
        if (peers, silent) == (worker.peers, worker.silent):
            return
        worker.peers, worker.silent = peers, silent
        if worker.status.asleep and not worker.hangs:
            leader_id = worker.status.leader_id
            gone = leader_id in silent or any(node_id == leader_id and not boot_id for node_id, _, boot_id in peers)
            self._wake_ups.add(key, urgent=gone)
        elif worker.opened is not None:
            self._tell_of_peers(worker)

    def _tell_of_peers(self, worker: _Worker) -> None:
        told = ch.Reachable(replicas=worker.peers, silent=worker.silent)
        if worker.child is not None and told != worker.told:
            worker.told = told
            worker.child.channel.send(told)

    def tell_wish(self, key: ReplicaKey, wish: ch.Wish) -> None:
        worker = self._workers[key]
        if wish != worker.wish:
            worker.wish = wish
            if worker.opened is not None and worker.child is not None:
                worker.child.channel.send(wish)

    def set_log_level(self, level: str) -> None:
        self._log_level = level
        for key in self._workers:
            self.tell(key, ch.SetLogLevel(level=level))

    def tell(self, key: ReplicaKey, message: ch.ToWorker) -> bool:
        """False when it does not run."""
        worker = self._workers.get(key)
        if worker is None or worker.child is None:
            return False
        worker.child.channel.send(message)
        return True

    # --- what there is ---------------------------------------------------------------------------
    @property
    def specs(self) -> Mapping[ReplicaKey, ReplicaSpec]:
        return {key: worker.spec for key, worker in self._workers.items()}

    def words(self) -> dict[ReplicaKey, Word]:
        """What those that run have said of the newest configuration of their logs."""
        told = {}
        for key, worker in self._workers.items():
            if worker.reported and worker.child is not None:
                group = worker.status.group
                told[key] = Word(group.newest, group.names) if group is not None else NO_CONFIGURATION
        return told

    def is_stopping(self, key: ReplicaKey) -> bool:
        return key in self._workers and self._workers[key].stopping

    def states(self) -> list[WorkerState]:
        """For the gossip. A worker that is not announced has no address yet."""
        states = []
        for worker in self._workers.values():
            there = worker.announced and not worker.stopping and not worker.hangs
            opened = worker.opened if there else None
            states.append(
                WorkerState(
                    endpoint=Endpoint(self._host, opened.port) if opened else None,
                    boot_id=opened.boot_id if opened else 0,
                    raft_port=opened.raft_port if opened else 0,
                    status=worker.status,
                )
            )
        return states

    def descriptors(self) -> dict[int, ReplicaKey]:
        """What the poller should watch: every channel and every sentinel."""
        watched = {}
        for key, worker in self._workers.items():
            if worker.child is not None:
                watched[worker.child.channel.fileno()] = key
                watched[worker.child.sentinel()] = key
        return watched

    @property
    def pending(self) -> bool:
        """Some worker has not read all that it was sent."""
        return any(worker.child.channel.pending for worker in self._workers.values() if worker.child)

    @property
    def pids(self) -> list[int]:
        return [worker.child.pid for worker in self._workers.values() if worker.child is not None]

    @property
    def settled(self) -> bool:
        """Every worker has opened its log, or failed to."""
        return all(worker.opened or worker.failures for worker in self._workers.values())

    def next_due_s(self) -> float:
        due_s = self._wake_ups.next_due_s
        for worker in self._workers.values():
            if worker.child is None:
                due_s = min(due_s, worker.start_due_s)
            else:
                due_s = min(due_s, worker.kill_due_s, worker.word_due_s, worker.hangs_s)
        return due_s

    # --- the loop ----------------------------------------------------------------------------------
    def tick(self, ready: Iterable[ReplicaKey], now_s: float) -> list[Event]:
        """Read those that are `ready`, start and end what is due."""
        events: list[Event] = []
        for key in ready:
            if key in self._workers:
                self._read(key, events, now_s)
        starts = 0
        for key, worker in list(self._workers.items()):
            if worker.child is None:
                if worker.stopping:
                    del self._workers[key]
                    self.figures.forget(key)
                    self._wake_ups.forget(key)
                    events.append(Ended(key, worker.deleted))
                elif now_s >= worker.start_due_s and starts < _STARTS_PER_TICK:
                    starts += 1
                    worker.child = self._start(key)
                    if self._log_level:
                        worker.child.channel.send(ch.SetLogLevel(level=self._log_level))
                    self.processes_changed = True
                    worker.started_s = now_s
                continue
            if worker.child.channel.pending:
                worker.child.channel.flush()
            if now_s >= worker.kill_due_s:
                worker.child.kill()
                worker.kill_due_s = NEVER_S
            self._look_after(worker, worker.child, events, now_s)
        while (woken := self._wake_ups.take(now_s)) is not None:
            self._tell_of_peers(self._workers[woken])
        return events

    def _look_after(self, worker: _Worker, child: Child, events: list[Event], now_s: float) -> None:
        """While it sleeps nobody else would notice that it hangs. The turn that it takes also looks after its log."""
        if now_s >= worker.word_due_s:
            worker.word_due_s = now_s + SLEEPER_WORD_S
            worker.hangs_s = min(worker.hangs_s, now_s + SLEEPER_HANGS_S)
            if not worker.hangs:
                child.channel.send(ch.Ping())
        if now_s >= worker.hangs_s and not worker.hangs:
            worker.hangs_s = NEVER_S
            worker.hangs = self.changed = True
            worker.status = msgspec.structs.replace(worker.status, error="its worker hangs: it gives no sign of life")
            events.append(Hangs(worker.spec.name))

    def _hear_from(self, worker: _Worker) -> None:
        worker.hangs_s = NEVER_S
        if worker.hangs:
            worker.hangs, self.changed = False, True
            worker.status = msgspec.structs.replace(worker.status, error="")

    def _read(self, key: ReplicaKey, events: list[Event], now_s: float) -> None:
        worker = self._workers[key]
        child = worker.child
        if child is None:
            return
        for message in child.channel.receive():
            match message:
                case ch.Opened():
                    worker.opened = message
                    worker.status = msgspec.structs.replace(worker.status, error="", worker_pid=child.pid)
                    self._tell_of_peers(worker)
                    if worker.wish is not None:
                        child.channel.send(worker.wish)
                    self.changed = True
                    events.append(OpenedReplica(key))
                case ch.Report():
                    self._hear_from(worker)
                    self._take_status(key, message.status, now_s)
                case ch.Pong():
                    self._hear_from(worker)
                case ch.Counted():
                    self.figures.take(key, message.figures)
                case ch.ImageReport():
                    events.append(Published(message.image))
                case ch.Failed():
                    worker.last_words = message.text
        exit_code = child.exit_code()
        if exit_code is not None:
            self.figures.end(key)
            self._reap(worker, exit_code, events, now_s)
        elif child.channel.closed:
            child.kill()

    def _take_status(self, key: ReplicaKey, status: ReplicaStatus, now_s: float) -> None:
        worker = self._workers[key]
        old = worker.status
        if status.asleep != old.asleep:
            # Spread out, or all that fall asleep together would be asked together.
            worker.word_due_s = now_s + random.random() * SLEEPER_WORD_S if status.asleep else NEVER_S
        if (old.role, old.leader_epoch, old.in_sync, old.doubt, old.error) != (
            status.role,
            status.leader_epoch,
            status.in_sync,
            status.doubt,
            status.error,
        ):
            self.changed = True
        if _configurations(old.group) != _configurations(status.group):
            self.changed = True
        worker.status, worker.reported = status, True
        if not status.asleep:
            self._wake_ups.forget(key)
            self._tell_of_peers(worker)

    def _reap(self, worker: _Worker, exit_code: int, events: list[Event], now_s: float) -> None:
        assert worker.child is not None
        worker.child.close()
        text = worker.last_words or _describe_exit(exit_code)
        if now_s - worker.started_s >= WORKER_STABLE_S:
            worker.failures = 0
        delay_s = min(WORKER_BACKOFF_MIN_S * 2**worker.failures, WORKER_BACKOFF_MAX_S)
        worker.child = worker.opened = worker.told = None
        worker.hangs, worker.hangs_s, worker.word_due_s = False, NEVER_S, NEVER_S
        worker.reported = False
        self.processes_changed = True
        worker.last_words = ""
        worker.failures = min(worker.failures + 1, 16)
        worker.start_due_s = now_s + delay_s
        worker.kill_due_s = NEVER_S
        role = Role.WITNESS if worker.status.role is Role.WITNESS else Role.FOLLOWER
        worker.status = msgspec.structs.replace(
            worker.status, role=role, in_sync=(), error=text, worker_pid=0, asleep=False
        )
        self.changed = True
        if not worker.stopping:
            events.append(Failure(worker.spec.name, text, delay_s))


def _configurations(group: GroupStatus | None) -> tuple[object, ...]:
    return () if group is None else (group.term, group.index, group.newest)


def _describe_exit(exit_code: int) -> str:
    if exit_code < 0:
        return f"its worker was ended by signal {-exit_code} ({signal.strsignal(-exit_code)})"
    return f"its worker ended with exit code {exit_code}"
