"""A worker hosts exactly one replica: it owns its port, its peers and its loop.

    poll -> a bounded number of requests to their handlers -> Replica.turn -> Host.after_turn -> report

It sleeps in `poll` until input or until the replica's next wake-up. It ends when its supervisor says
so or is gone, or when its disk fails; nothing that arrives on its port ends it.
"""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from raftlog import limits
from raftlog.clock import NEVER_S, SystemClock, monotonic_s
from raftlog.controller.decisions import Founder
from raftlog.controller.image import Image, encode_image
from raftlog.controller.security_changes import guard_of
from raftlog.errors import ErrorCode
from raftlog.machine.host import Host
from raftlog.network import (
    LocalServer,
    MessageServer,
    MessageStream,
    Poller,
    give_freed_memory_back,
)
from raftlog.node import channel as ch
from raftlog.node import figures
from raftlog.node.dispatch import Dispatch, Handler
from raftlog.node.doors.door import answer, answer_produces
from raftlog.node.doors.inner import InnerDoor
from raftlog.node.doors.native import NativeDoor
from raftlog.node.log_lines import set_log_level
from raftlog.node.machines import MACHINES, Surroundings
from raftlog.node.native_logins import NativeLogins
from raftlog.node.peers import Peers
from raftlog.partition.replica import Replica
from raftlog.partition.witness import Witness
from raftlog.protocol import apis
from raftlog.protocol.apis import Api, Served
from raftlog.protocol.body import ResponseBody
from raftlog.protocol.envelope import Request
from raftlog.protocol.raft import RaftMessage
from raftlog.protocol.records import ProduceResult
from raftlog.protocol.session import Session
from raftlog.storage.disk import OsDisk
from raftlog.storage.lmdb_index import LmdbIndex
from raftlog.storage.log import PartitionLog
from raftlog.storage.witness_log import WitnessLog
from raftlog.types import Buffer, Endpoint, ReplicaStatus, Role, TopicConfig

log = logging.getLogger(__name__)

_IDLE_MAX_S = 5.0  # a wait that is always finite survives a mistake in a deadline
_ASLEEP_MAX_S = 60.0  # likewise while the group sleeps: its supervisor asks for a word before that
_HANDOVER_S = 0.5  # how long a clean stop waits for another leader
_HINTS_S = 0.1  # and how long it tells its clients who that is


class Output(NamedTuple):
    """The outbox of a worker's replica."""

    send_raft: Callable[[int, RaftMessage, Buffer | None], None]
    answer: Callable[[Request[Any], ResponseBody, Buffer | None], None]
    answer_produces: Callable[[Session, list[ProduceResult]], None]


class Worker:
    """The loop around one replica. Raises RaftlogError or OSError when the replica cannot be opened."""

    def __init__(self, config: ch.WorkerConfig, channel: ch.Channel[ch.ToWorker], disk: OsDisk) -> None:
        """`disk`: whose directory of the replica is made, and locked by this process."""
        self._config = config
        self._channel = channel
        self._clock = SystemClock()
        self._boot_id = random.SystemRandom().getrandbits(62) + 1
        credentials = config.secured.credentials(config.node_id) if config.secured else None
        self._poller = Poller()
        ports, host = range(*config.ports) if config.ports else None, config.host
        self._server = MessageServer(host, ports, credentials)
        self._peers = Peers(self._poller, host, self._boot_id, ports, credentials)
        self._door = NativeDoor(self._server, config.node_id, lambda: config.cluster_id)
        self._inner = InnerDoor(self._boot_id, self._poller)
        self._outbox = Output(self._peers.send, answer, answer_produces)
        self._hosted = MACHINES.get(config.spec.topic)
        self._machine: Host | None = None
        self._told: set[int] = set()  # whose places are known
        self._live: frozenset[int] = frozenset()
        self._able: frozenset[int] = frozenset()
        self._replica = self._open_witness(disk) if self._is_witness else self._open_replica(disk)
        here, handlers = f"the worker of {config.spec.name}", self._handlers()
        self._logins = NativeLogins(config.access, config.node_id, self._door, config.spec.topic)
        self._dispatch = Dispatch(self._door, here, {**handlers, apis.AUTHENTICATE: self._logins.authenticate})
        self._logins.secure(config.security, self._dispatch)
        self._inner_dispatch = Dispatch(self._inner, here, handlers)
        self._poller.register(self._server)
        self._poller.register(channel.fileno())
        self._serves = True  # what comes through its own door
        self._stopping = False
        self._reported: tuple[object, ...] = ()
        self._last_status: ReplicaStatus | None = None
        self._mark: tuple[object, ...] = ()
        self._turned = False  # something moved since the last report
        self._report_due_s = 0.0
        self._served = False  # something was asked since the last figures
        self._figures_due_s = 0.0
        self._rest_due_s = NEVER_S

    @property
    def _is_witness(self) -> bool:
        return self._config.is_witness

    def _open_witness(self, disk: OsDisk) -> Replica | Witness:
        config = self._config
        log = WitnessLog.open(
            disk=disk,
            directory=config.directory,
            topic_id=config.spec.topic_id,
            existed=config.doubt,
            remembered=config.remembered,
        )
        return Witness(
            node_id=config.node_id,
            boot_id=self._boot_id,
            spec=config.spec,
            log=log,
            clock=self._clock,
            rng=random.Random(self._boot_id),
            outbox=self._outbox,
        )

    def _open_replica(self, disk: OsDisk) -> Replica | Witness:
        config = self._config
        replica = Replica(
            node_id=config.node_id,
            boot_id=self._boot_id,
            spec=config.spec,
            log=PartitionLog.open(
                disk=disk,
                directory=config.directory,
                topic_id=config.spec.topic_id,
                config=config.spec.config,
                flush=config.flush,
                clock=self._clock,
                index=LmdbIndex,
                existed=config.doubt,
                remembered=config.remembered,
            ),
            clock=self._clock,
            rng=random.Random(self._boot_id),
            outbox=self._outbox,
        )
        if self._hosted is not None:
            surroundings = Surroundings(
                node_id=config.node_id,
                founders=[Founder(*founder) for founder in config.founders],
                live=lambda: self._live,
                able=lambda: self._able,
                publish=self._publish_image,
                now_s=self._clock.monotonic_s(),
                guard=guard_of(config.access),
            )
            machine = self._hosted.make(surroundings)
            self._machine = Host(replica=replica, machine=machine, clock=self._clock, answer=answer)
        return replica

    def _handlers(self) -> dict[Api[Any, Any], Handler]:
        """Of all that is served here, by who serves it."""
        serving: dict[Served, Handler] = {Served.LEADER: self._replica.on_request}
        if self._machine is not None and self._hosted is not None:
            serving[self._hosted.served] = self._machine.on_request
        handlers = {api: serving[api.served] for api in apis.APIS if api.served in serving}
        if self._hosted is not None:
            handlers[apis.PRODUCE] = self._refuse_produce
        return handlers

    def _refuse_produce(self, request: Request[Any]) -> None:
        """Only controller and group coordinator write here: what they did not write, they could not replay."""
        text = f"{self._config.spec.topic} belongs to raftlog itself"
        self._dispatch.refuse(request, ErrorCode.INVALID_TOPIC_EXCEPTION, text)

    def served(self) -> str:
        """What was asked for here, how often, and in how much time."""
        return ", ".join(map(str, [*self._dispatch.served(), *self._inner_dispatch.served()]))

    def _publish_image(self, image: Image) -> None:
        self._channel.send(ch.ImageReport(image=encode_image(image)))

    # --- the loop --------------------------------------------------------------------------------
    def run(self) -> None:
        self._channel.send(ch.Opened(port=self._server.port, raft_port=self._peers.port, boot_id=self._boot_id))
        while not self._stopping:
            self._step()
        self._hand_over()
        self._tell_figures(monotonic_s())
        self._replica.stop()

    def _step(self) -> None:
        now_s = monotonic_s()
        due_s = self._replica.next_wakeup_s()
        if self._machine is not None:
            due_s = min(due_s, self._machine.next_deadline_s())
        if self._turned:
            due_s = min(due_s, self._report_due_s)
        if self._served:
            due_s = min(due_s, self._figures_due_s)
        due_s = min(due_s, self._rest_due_s)
        if self._server.due_s <= now_s:
            self._server.tick()
        due_s = min(due_s, self._peers.tick(now_s), self._server.due_s)
        timeout_s = (
            0.0
            if self._inner.has_arrived
            else min(due_s - now_s, _ASLEEP_MAX_S if self._replica.is_asleep else _IDLE_MAX_S)
        )
        if self._channel.pending:
            timeout_s = min(timeout_s, ch.UNSENT_RETRY_S)
        self._heed_door()
        for ready in self._poller.poll(timeout_s):
            if ready is self._server:
                self._serve(self._dispatch)
            elif isinstance(ready, MessageStream):
                self._inner.receive(ready)
            elif isinstance(ready, int):
                self._take_local()
            elif isinstance(ready, LocalServer):
                self._inner.accept()
            else:
                self._peers.receive(ready, self._replica.on_raft)
        if self._inner.has_arrived:
            self._serve(self._inner_dispatch)
        if self._channel.pending:
            self._channel.flush()
        self._replica.turn()
        if self._machine is not None:
            self._machine.after_turn()
        self._inner.flush()
        mark = self._replica.mark()
        if mark != self._mark:
            self._mark = mark
            self._turned = True
        self._report()

    def _heed_door(self) -> None:
        """A full door is not looked at: what makes room in it are the other replicas' answers, and timers."""
        if self._serves == self._door.is_full:
            self._serves = not self._serves
            (self._poller.register if self._serves else self._poller.unregister)(self._server)

    def _serve(self, dispatch: Dispatch) -> None:
        replica = self._replica
        self._served = True
        dispatch.serve(limits.REQUESTS_PER_TURN, limits.BYTES_PER_TURN, lambda: replica.unpacked_bytes)

    # --- the supervisor ----------------------------------------------------------------------------
    def _take_local(self) -> None:
        for message in self._channel.receive():
            match message:
                case ch.Reachable():
                    for node_id in self._told - {each[0] for each in message.replicas}:
                        self._set_peer(node_id, None, 0)
                    self._told = {each[0] for each in message.replicas}
                    for node_id, endpoint, boot_id in message.replicas:
                        self._set_peer(node_id, endpoint, boot_id)
                    self._replica.set_silent(message.silent)
                case ch.Wish():
                    self._heed(message)
                case ch.Ping():
                    self._channel.send(ch.Pong())
                case ch.Stir():
                    self._replica.stir()
                case ch.Live():
                    self._live, self._able = frozenset(message.nodes), frozenset(message.able)
                case ch.ClusterNamed():
                    self._config.cluster_id = message.cluster_id
                case ch.AcceptLoss():
                    log.warning("this replica is to be the truth, whatever others may have held")
                    self._replica.accept_loss()
                case ch.SetConfig():
                    self._set_config(message.config)
                case ch.SetLogLevel():
                    set_log_level(message.level)
                case ch.SecurityNews():
                    self._logins.secure(message.security, self._dispatch)
                case ch.Stop():
                    self._stopping = True
        if self._channel.closed:
            self._stopping = True

    def stop(self) -> None:
        self._stopping = True

    def _set_config(self, config: TopicConfig) -> None:
        spec = msgspec.structs.replace(self._config.spec, config=config)
        self._config.spec = spec
        if isinstance(self._replica, Replica):  # a witness keeps no records: nothing of it is for a witness
            self._replica.set_config(spec)

    def _heed(self, wish: ch.Wish) -> None:
        if wish.named:
            self._replica.member.narrow(wish.named, self._clock.monotonic_s())
        if isinstance(self._replica, Replica):
            self._replica.heed(wish.plan, wish.expected)

    def _set_peer(self, node_id: int, endpoint: Endpoint | None, boot_id: int) -> None:
        self._peers.set(node_id, endpoint, boot_id)
        self._replica.set_peer(node_id, boot_id)

    def _report(self) -> None:
        """Who leads is told at once, figures every STATUS_S while something goes on."""
        replica = self._replica
        reported = (replica.is_leader, replica.leader_id, replica.leader_epoch, replica.is_asleep)
        now_s = monotonic_s()
        self._door.log_refused(now_s)
        self._peers.log_refused(now_s)
        if self._served and now_s >= self._figures_due_s:
            self._tell_figures(now_s)
        if now_s >= self._rest_due_s:
            self._rest_due_s = NEVER_S
            give_freed_memory_back()
        if reported == self._reported and (now_s < self._report_due_s or not self._turned):
            return
        self._reported = reported
        self._turned = False
        self._served = True
        self._report_due_s = now_s + limits.STATUS_S
        status = replica.status()
        status.worker_pid = os.getpid()
        if status != self._last_status:
            if self._last_status is None or status.role != self._last_status.role:
                log.info("%s in epoch %d", Role(status.role).name.lower(), status.leader_epoch)
            self._last_status = status
            self._channel.send(ch.Report(status=status))

    def _tell_figures(self, now_s: float) -> None:
        """Those of an idle worker stay as they were, and cost nothing."""
        self._served = False
        self._figures_due_s = now_s + limits.FIGURES_S
        self._rest_due_s = now_s + limits.REST_S
        told = figures.door_figures(figures.NATIVE, self._door, self._dispatch)
        figures.add_routes(told, figures.INNER, self._inner_dispatch.served())
        figures.add_errors(told, figures.WORKER, self._inner.errors)
        if isinstance(self._replica, Replica):
            figures.add_replica(told, self._config.spec, self._replica, (self._dispatch, self._inner_dispatch))
        self._channel.send(ch.Counted(figures=told))

    def _hand_over(self) -> None:
        """A leader lets another lead first, and says so to its clients, so that they see hardly a gap."""
        if len(self._replica.member.voters.replicas) == 1 or not self._replica.is_leader:
            return
        deadline_s = monotonic_s() + _HANDOVER_S
        while monotonic_s() < deadline_s and not self._channel.closed:
            self._replica.hand_over()
            self._step()
            if self._replica.leader_id not in (-1, self._config.node_id):
                # Stay a moment longer: an answer that names the new leader is faster than a broken connection.
                deadline_s = min(deadline_s, monotonic_s() + _HINTS_S)
