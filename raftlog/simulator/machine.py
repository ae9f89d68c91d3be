"""One simulated machine: a disk that outlives its process, and the real replica while the process runs."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec

from raftlog.errors import DiskFullError, StorageError
from raftlog.machine.host import FAIL_POINTS as HOST_FAIL_POINTS
from raftlog.machine.host import Host
from raftlog.partition.replica import FAIL_POINTS as TURN_FAIL_POINTS
from raftlog.partition.replica import Replica
from raftlog.partition.witness import Witness
from raftlog.protocol.apis import Served
from raftlog.protocol.body import ResponseBody
from raftlog.protocol.envelope import Request
from raftlog.protocol.raft import RaftMessage
from raftlog.protocol.records import ProduceResult
from raftlog.protocol.session import Session
from raftlog.simulator.events import DriftingClock
from raftlog.simulator.group_ledger import WatchedCoordinator
from raftlog.storage.fail_points import FAIL_POINTS as LOG_FAIL_POINTS
from raftlog.storage.index import MemoryIndexStore
from raftlog.storage.log import PartitionLog
from raftlog.storage.simulated_disk import SimulatedDisk
from raftlog.storage.witness_log import WitnessLog
from raftlog.types import NO_VOTERS, Buffer, Doubt, Flush, Half, ReplicaSpec

FAIL_POINTS = TURN_FAIL_POINTS + LOG_FAIL_POINTS
DIRECTORY = "data/orders-0"
_INBOX_MESSAGES = 20_000
_TAKEN_PER_TURN = 500
_LARGE_FRAME_BYTES = 300  # among those of simulated clients


class SimulatedCrash(Exception):
    """Raised at a fail point: the process is gone between two steps."""


class Machine:
    """Holds what a node keeps across restarts (disk, whether the replica was hosted) and the running replica."""

    def __init__(
        self,
        *,
        node_id: int,
        spec: ReplicaSpec,
        clock: DriftingClock,
        rng: random.Random,
        send: Callable[[int, int, RaftMessage, bytes | None], None],
        answer: Callable[[int, Request[Any], ResponseBody, bytes | None], None],
        answer_produces: Callable[[int, Session, list[ProduceResult]], None],
        flush: Flush,
        served: Callable[[Machine], None],
        make_coordinator: Callable[[], WatchedCoordinator] | None,
    ) -> None:
        self.node_id = node_id
        self.clock = clock
        self.disk = SimulatedDisk(clock.wall_ms)
        # LMDB does its own I/O; its twin loses what LMDB may lose.
        self.index_store = MemoryIndexStore(is_full=lambda: self.disk.full)
        self.replica: Replica | Witness | None = None
        self.coordinator: WatchedCoordinator | None = None
        self.host: Host | None = None
        self.boot_id = 0
        self.paused = False
        self.stopped_because = ""
        self.armed_fail_point = ""
        self.busy_until_s = 0.0
        self.turn_at_s = -1.0  # when the next turn is scheduled; below 0: none
        self.disk_slowness = 1.0
        self.boots = 0
        self.spec = spec
        self.is_witness = node_id in spec.witnesses
        self.hosts = True  # the metadata, or what it has left here, has a replica of the partition on this machine
        self.named: Callable[[], Half] = lambda: NO_VOTERS  # whom the metadata names, when it is asked now
        self._founds = node_id in spec.voters
        self._rng = rng
        self._send = send
        self._answer = answer
        self._answer_produces = answer_produces
        self._flush = flush
        self._served = served
        self._make_coordinator = make_coordinator
        self._hosted = False
        self._inbox: deque[tuple[Any, ...]] = deque()

    # --- Outbox ------------------------------------------------------------------------------
    def send_raft(self, node_id: int, message: RaftMessage, payload: Any) -> None:
        self._send(self.node_id, node_id, message, None if payload is None else bytes(payload))

    def answer(self, request: Request[Any], response: ResponseBody, payload: Any) -> None:
        self._answer(self.node_id, request, response, None if payload is None else bytes(payload))

    def answer_produces(self, session: Session, results: list[ProduceResult]) -> None:
        self._answer_produces(self.node_id, session, results)

    # --- life ----------------------------------------------------------------------------------
    @property
    def running(self) -> bool:
        return self.replica is not None

    @property
    def log(self) -> PartitionLog | WitnessLog:
        assert self.replica is not None
        return self.replica._log

    def start(self) -> None:
        """Open the log, with recovery, as a worker does. A StorageError leaves the machine stopped."""
        assert self.replica is None
        self._inbox.clear()
        self.boots += 1
        # Whether the directory is there says nothing: a start that failed may have made it anew.
        existed = Doubt.LOST_DISK if self._hosted or not self._founds else Doubt.NONE
        try:
            log = self._open_log(existed)
        except SimulatedCrash as crash:
            self.stopped_because = f"crashed while opening, at {crash}"
            self.lose_power(self._rng)
            return
        except StorageError as error:
            self.stopped_because = str(error)
            self.disk.restart()
            return
        # A node notes that it hosts the replica once its state is durable, BEFORE the first message.
        self._hosted = True
        self.boot_id = self._rng.randrange(1, 2**62)
        self.stopped_because = ""
        if isinstance(log, WitnessLog):
            self.replica = Witness(
                node_id=self.node_id,
                boot_id=self.boot_id,
                spec=self.spec,
                log=log,
                clock=self.clock,
                rng=self._rng,
                outbox=self,
                fail_point=self._on_fail_point,
            )
            return
        self.replica = Replica(
            node_id=self.node_id,
            boot_id=self.boot_id,
            spec=self.spec,
            log=log,
            clock=self.clock,
            rng=self._rng,
            outbox=self,
            fail_point=self._on_fail_point,
        )
        if self._make_coordinator is not None:
            self.coordinator = self._make_coordinator()
            self.host = Host(
                replica=self.replica,
                machine=self.coordinator,
                clock=self.clock,
                answer=self._answer_group,
                fail_point=self._on_fail_point,
            )

    def _answer_group(self, request: Request[Any], response: ResponseBody) -> None:
        self._answer(self.node_id, request, response, None)

    @property
    def fail_points(self) -> tuple[str, ...]:
        return FAIL_POINTS if self.host is None else FAIL_POINTS + HOST_FAIL_POINTS

    def next_wakeup_s(self) -> float:
        """By its own clock."""
        assert self.replica is not None
        due_s = self.replica.next_wakeup_s()
        return due_s if self.host is None else min(due_s, self.host.next_deadline_s())

    def _open_log(self, existed: Doubt) -> PartitionLog | WitnessLog:
        if self.is_witness:
            return WitnessLog.open(
                disk=self.disk,
                directory=DIRECTORY,
                topic_id=self.spec.topic_id,
                existed=existed,
                remembered=self.named(),
                fail_point=self._on_fail_point,
            )
        return PartitionLog.open(
            disk=self.disk,
            directory=DIRECTORY,
            topic_id=self.spec.topic_id,
            config=self.spec.config,
            flush=self._flush,
            clock=self.clock,
            index=self.index_store.open,
            existed=existed,
            remembered=self.named(),
            fail_point=self._on_fail_point,
        )

    def lose_power(self, rng: random.Random) -> None:
        """What was not synced is kept, lost or torn; the index keeps some prefix of its commits."""
        self.disk.crash(rng)
        self.index_store.crash(rng)

    def forget_index(self) -> None:
        """As when its file is gone: the next start reads every batch again."""
        self.index_store.wipe(f"{DIRECTORY}/index.lmdb")

    def set_aside(self) -> None:
        """The node has taken the replica's directory away, on purpose: it was told to."""
        assert self.replica is None
        self.disk.wipe("data")
        self.forget_index()
        self.hosts = self._founds = self._hosted = False

    def die(self, why: str) -> None:
        """The process is gone; what its disk keeps is decided by the caller (restart or crash of the disk)."""
        self.replica = self.coordinator = self.host = None
        self.boot_id = 0
        self.paused = False
        self.turn_at_s = -1.0
        self.armed_fail_point = ""
        self.stopped_because = why
        self._inbox.clear()

    def _on_fail_point(self, name: str) -> None:
        if name == "turn: served":
            self._served(self)  # BEFORE retention may take what was just committed
        if name == self.armed_fail_point:
            self.armed_fail_point = ""
            raise SimulatedCrash(name)

    def shuffle_inbox(self) -> None:
        """What came while it hung is taken as its sockets are polled: clients' requests may come first."""
        requests = [item for item in self._inbox if item[0] == "request"]
        others = [item for item in self._inbox if item[0] != "request"]
        self._inbox = deque(requests + others)

    # --- work ------------------------------------------------------------------------------------
    def hand_in(self, *item: Any) -> None:
        if len(self._inbox) < _INBOX_MESSAGES:
            self._inbox.append(item)

    def work(self) -> int:
        """One turn over what has arrived. Returns how many inputs it took. Raises SimulatedCrash or StorageError."""
        replica = self.replica
        assert replica is not None
        taken = 0
        while self._inbox and taken < _TAKEN_PER_TURN:
            kind, *arguments = self._inbox.popleft()
            if kind == "raft":
                replica.on_raft(*arguments)
            elif kind == "peer":
                replica.set_peer(*arguments)
            elif kind == "silent":
                replica.set_silent(*arguments)
            elif kind == "word":
                pass  # the turn that follows is what it is for
            elif kind == "configure":
                if isinstance(self.log, PartitionLog) and replica.is_leader:
                    replica.stir()
                    with suppress(DiskFullError):  # a leader without room appends none
                        self.log.append_configuration(*arguments)
            elif kind == "heed":
                if isinstance(replica, Replica):
                    replica.heed(*arguments)
            elif kind == "named":
                (named,) = arguments
                replica.member.narrow(named, self.clock.monotonic_s())
            else:
                (request,) = arguments
                if self.host is not None and request.api.served is Served.COORDINATOR:
                    self.host.on_request(request)
                else:
                    received = [_as_received(frame) for frame in request.payload]
                    replica.on_request(msgspec.structs.replace(request, payload=received))
            taken += 1
        replica.turn()
        if self.host is not None:
            self.host.after_turn()
        return taken

    @property
    def backlog(self) -> int:
        return len(self._inbox)


def _as_received(frame: bytes) -> Buffer:
    """As a worker gets it: a large frame is memory of its own, which the log stamps in place."""
    return memoryview(bytearray(frame)) if len(frame) >= _LARGE_FRAME_BYTES else frame
