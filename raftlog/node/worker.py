"""A worker: the process that hosts exactly one replica. Owns its directory, its port and its links.

    poll -> receive a bounded number of messages -> Replica.turn -> Host.after_turn, if it hosts a machine -> report

It sleeps in `poll` until input or until the replica's next wake-up. It ends when its supervisor says
so or is gone, or when its disk fails; nothing that arrives on its port ends it.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import random
import signal
import socket
import sys
import time
from collections.abc import Hashable

import msgspec

from raftlog import limits
from raftlog.clock import SystemClock, monotonic_s
from raftlog.controller.decisions import Founder
from raftlog.controller.image import Image, encode_image
from raftlog.errors import ErrorCode, RaftlogError, StorageError
from raftlog.machine.host import Host
from raftlog.network import Context, Poller, Server, StreamConnection, StreamLink, StreamServer
from raftlog.node import channel as ch
from raftlog.node.incoming import FrontDoor
from raftlog.node.log_lines import configure_log_lines
from raftlog.node.machines import MACHINES, Surroundings
from raftlog.node.processes import die_with_parent
from raftlog.partition.replica import ClientRequest, ClientResponse, Replica
from raftlog.partition.witness import Witness
from raftlog.protocol.cluster import HandshakeRequest
from raftlog.protocol.codec import Request, Response, encode
from raftlog.protocol.raft import RaftMessage
from raftlog.protocol.records import FetchResponse, ProduceRequest
from raftlog.storage.disk import OsDisk
from raftlog.storage.lmdb_index import LmdbIndex
from raftlog.storage.log import PartitionLog
from raftlog.storage.witness_log import WitnessLog
from raftlog.types import Endpoint, ReplicaStatus, Role, TopicConfig

log = logging.getLogger(__name__)

Payload = bytes | bytearray | memoryview
_LOCK_WAIT_S = 5.0  # a predecessor that was killed may still be ending
_IDLE_MAX_S = 5.0  # a sleep that is always finite survives a mistake in a deadline
_HANDOVER_S = 0.5  # a clean stop waits so long for another leader
_HINTS_S = 0.1  # and tells its clients so long who it is


class Worker:
    """Raises RaftlogError or OSError from `__init__` when the replica cannot be opened."""

    def __init__(self, config: ch.WorkerConfig, channel: ch.Channel[ch.ToWorker]) -> None:
        self._config = config
        self._channel = channel
        self._clock = SystemClock()
        self._boot_id = random.SystemRandom().getrandbits(62) + 1
        disk = OsDisk()
        disk.make_dir(config.directory)
        self._directory_lock = _lock_directory(config.directory)
        self._context = Context()
        self._poller = Poller()
        ports = range(*config.ports) if config.ports else None
        self._server = Server(self._context, config.host, ports)
        self._peers = StreamServer(self._poller, config.host, self._boot_id, ports)
        self._door = FrontDoor(self._server, config.node_id)
        self._links: dict[int, StreamLink] = {}
        self._hosted = MACHINES.get(config.spec.topic)
        self._machine: Host | None = None
        self._live: frozenset[int] = frozenset()
        self._replica = self._open_witness(disk) if self._is_witness else self._open_replica(disk)
        self._poller.register(self._server)
        self._poller.register(channel.fileno())
        self._stopping = False
        self._reported: tuple[object, ...] = ()
        self._last_status: ReplicaStatus | None = None
        self._mark: tuple[object, ...] = ()
        self._turned = False  # something moved since the last report
        self._report_due_s = 0.0

    @property
    def _is_witness(self) -> bool:
        return self._config.node_id in self._config.spec.witnesses

    def _open_witness(self, disk: OsDisk) -> Replica | Witness:
        config = self._config
        log = WitnessLog.open(
            disk=disk, directory=config.directory, topic_id=config.spec.topic_id, existed=config.doubt
        )
        return Witness(
            node_id=config.node_id,
            boot_id=self._boot_id,
            spec=config.spec,
            log=log,
            clock=self._clock,
            rng=random.Random(self._boot_id),
            outbox=self,
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
            ),
            clock=self._clock,
            rng=random.Random(self._boot_id),
            outbox=self,
        )
        if self._hosted is not None:
            surroundings = Surroundings(
                founders=[Founder(*founder) for founder in config.founders],
                live=lambda: self._live,
                publish=self._publish_image,
                now_s=self._clock.monotonic_s(),
            )
            machine = self._hosted.make(surroundings)
            self._machine = Host(replica=replica, machine=machine, clock=self._clock, answer=self._answer_machine)
        return replica

    # --- the replica's outbox ------------------------------------------------------------------
    def send_raft(self, node_id: int, message: RaftMessage, payload: Payload | None) -> None:
        link = self._links.get(node_id)
        if link is not None:
            link.send(encode(message), payload)

    def answer(self, client: Hashable, response: ClientResponse, payload: Payload | None) -> None:
        assert isinstance(client, bytes)
        header = encode(response)
        if self._server.send(client, [header] if payload is None else [header, payload]) or payload is None:
            return
        assert isinstance(response, FetchResponse), "only records are a payload"
        # Gone, or too many bytes wait for all clients together: a client that is there asks again in a moment.
        text = "too many bytes wait for the clients of this partition"
        refusal = FetchResponse(
            correlation_id=response.correlation_id, error_code=ErrorCode.THROTTLING_QUOTA_EXCEEDED, error_text=text
        )
        self._server.send(client, [encode(refusal)])

    def _answer_machine(self, client: Hashable, response: Response) -> None:
        assert isinstance(client, bytes)
        self._server.send(client, [encode(response)])

    def _publish_image(self, image: Image) -> None:
        self._channel.send(ch.ImageReport(image=encode_image(image)))

    # --- the loop --------------------------------------------------------------------------------
    def run(self) -> None:
        self._channel.send(ch.Opened(port=self._server.port, raft_port=self._peers.port, boot_id=self._boot_id))
        while not self._stopping:
            self._step()
        self._hand_over()
        self._replica.stop()
        self._context.close()

    def _step(self) -> None:
        now_s = monotonic_s()
        due_s = self._replica.next_wakeup_s()
        if self._machine is not None:
            due_s = min(due_s, self._machine.next_deadline_s())
        if self._turned:
            due_s = min(due_s, self._report_due_s)
        for link in self._links.values():
            if link.due_s <= now_s:
                link.tick()
            due_s = min(due_s, link.due_s)
        if self._peers.due_s <= now_s:
            self._peers.tick()
        if self._server.due_s <= now_s:
            self._server.tick()
        due_s = min(due_s, self._peers.due_s, self._server.due_s)
        timeout_s = min(due_s - now_s, _IDLE_MAX_S)
        if self._channel.pending:
            timeout_s = min(timeout_s, 0.01)
        for ready in self._poller.poll(timeout_s):
            if ready is self._server:
                self._receive()
            elif isinstance(ready, int):
                self._take_local()
            else:
                self._take_raft(ready)
        if self._channel.pending:
            self._channel.flush()
        self._replica.turn()
        if self._machine is not None:
            self._machine.after_turn()
        mark = self._replica.mark()
        if mark != self._mark:
            self._mark = mark
            self._turned = True
        self._report()

    def _take_raft(self, peer: StreamConnection | StreamLink | StreamServer) -> None:
        for header, payload in peer.on_ready():
            message = self._door.decode_raft(header)
            if message is not None:
                self._replica.on_raft(message, payload)

    def _receive(self) -> None:
        receive, decode, replica = self._server.receive, self._door.decode, self._replica
        left_bytes = limits.BYTES_PER_TURN
        for _ in range(limits.REQUESTS_PER_TURN):
            frames = receive()
            if frames is None:
                return
            message = decode(frames)
            if message is None:
                continue
            if isinstance(message, ProduceRequest) and self._hosted is not None:
                self._on_other(frames[0], message)
            elif isinstance(message, ClientRequest):
                replica.on_request(frames[0], message, frames[2:])
            else:
                self._on_other(frames[0], message)
            if len(frames) > 2:
                left_bytes -= len(frames[2])
                if left_bytes < replica.unpacked_bytes:
                    return

    def _on_other(self, client: bytes, message: Request) -> None:
        match message:
            case HandshakeRequest():
                self._door.handshake(client, message, self._config.cluster_id)
            case _ if self._machine and self._hosted and isinstance(message, self._hosted.requests):
                self._machine.on_request(client, message)
            case ProduceRequest(correlation_id=correlation_id):
                # Only the machine hosted here writes: what it did not write, it could not apply.
                text = f"{self._config.spec.topic} belongs to raftlog itself"
                self._door.refuse(client, correlation_id, text, ErrorCode.INVALID_TOPIC_EXCEPTION)
            case _:
                self._door.refuse_message(client, message, f"the worker of {self._config.spec.name}")

    # --- the supervisor ----------------------------------------------------------------------------
    def _take_local(self) -> None:
        for message in self._channel.receive():
            match message:
                case ch.Reachable():
                    for node_id, endpoint, boot_id in message.replicas:
                        self._set_peer(node_id, endpoint, boot_id)
                case ch.Live():
                    self._live = frozenset(message.nodes)
                case ch.ClusterNamed():
                    self._config.cluster_id = message.cluster_id
                case ch.AcceptLoss():
                    log.warning("this replica is to be the truth, whatever others may have held")
                    self._replica.accept_loss()
                case ch.SetConfig():
                    self._set_config(message.config)
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

    def _set_peer(self, node_id: int, endpoint: Endpoint | None, boot_id: int) -> None:
        link = self._links.get(node_id)
        if link is not None and (link.endpoint, link.boot_id) != (endpoint, boot_id):
            del self._links[node_id]
            link.close()
            link = None
        if link is None and endpoint is not None:
            self._links[node_id] = StreamLink(self._poller, endpoint, boot_id)
        self._replica.set_peer(node_id, boot_id)

    def _report(self) -> None:
        """Who leads is told at once, figures every STATUS_S while something goes on."""
        replica = self._replica
        reported = (replica.is_leader, replica.leader_id, replica.leader_epoch)
        now_s = monotonic_s()
        self._door.log_refused(now_s)
        if reported == self._reported and (now_s < self._report_due_s or not self._turned):
            return
        self._reported = reported
        self._turned = False
        self._report_due_s = now_s + limits.STATUS_S
        status = replica.status()
        status.worker_pid = os.getpid()
        if status != self._last_status:
            if self._last_status is None or status.role != self._last_status.role:
                log.info("%s in epoch %d", Role(status.role).name.lower(), status.leader_epoch)
            self._last_status = status
            self._channel.send(ch.Report(status=status))

    def _hand_over(self) -> None:
        """A leader lets another lead first, and says so to its clients, so that they see hardly a gap."""
        if len(self._config.spec.replicas) == 1 or not self._replica.is_leader:
            return
        deadline_s = monotonic_s() + _HANDOVER_S
        while monotonic_s() < deadline_s and not self._channel.closed:
            self._replica.hand_over()
            self._step()
            if self._replica.leader_id not in (-1, self._config.node_id):
                # Stay a moment longer: an answer that names the new leader is faster than a broken connection.
                deadline_s = min(deadline_s, monotonic_s() + _HINTS_S)


def run_worker(config_bytes: bytes, end: socket.socket) -> None:
    """The process's entry. Every end that was not asked for is one line, to the log and to the supervisor."""
    die_with_parent()
    config = ch.decode_config(config_bytes)
    configure_log_lines(f"node {config.node_id} {config.spec.name}", config.log_level)
    channel: ch.Channel[ch.ToWorker] = ch.Channel(end, ch.ToWorker)
    # Ctrl-C reaches every process of the terminal; the supervisor says when it is time.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        worker = Worker(config, channel)
        signal.signal(signal.SIGTERM, lambda *_: worker.stop())
        log.info("started, process %d", os.getpid())
        worker.run()
    except (RaftlogError, OSError) as error:
        text = str(error) or type(error).__name__
        log.error("%s", text)
        channel.send(ch.Failed(text=text))
        sys.exit(1)
    log.info("stopped")


def _lock_directory(directory: str) -> int:
    """A predecessor that hangs in a write must never share the log with its successor."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    deadline_s = monotonic_s() + _LOCK_WAIT_S
    while True:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        if monotonic_s() > deadline_s:
            os.close(descriptor)
            raise StorageError(f"{directory} is still in use by another process")
        time.sleep(0.02)
