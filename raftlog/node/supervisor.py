"""The node process: owns the node's one address, starts and watches workers, speaks for the node.

    poll -> clients, supervisors, workers -> form, follow the image -> tell workers -> gossip

It holds no record of any topic and takes no part in consensus: when it is busy, partitions go on.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable

from raftlog import limits
from raftlog.clock import NEVER_S, monotonic_s
from raftlog.controller.image import decode_image, encode_image
from raftlog.errors import ErrorCode
from raftlog.network import Context, MessageServer, Poller, Server
from raftlog.node import channel as ch
from raftlog.node.dispatch import Dispatch
from raftlog.node.door_host import DoorHost, http_address, kafka_door
from raftlog.node.doors.door import answer
from raftlog.node.doors.native import NativeDoor
from raftlog.node.figures import NODE, SUPERUSER_PLAIN_LOGINS, door_figures
from raftlog.node.gossip import ReplicaKey
from raftlog.node.links import NodeLinks
from raftlog.node.log_lines import LOG_LEVELS, set_log_level
from raftlog.node.membership import Membership
from raftlog.node.meta import DataDirectory
from raftlog.node.metadata_answers import as_member, describe_replicas_response, metadata_response
from raftlog.node.native_logins import NativeLogins
from raftlog.node.processes import Child
from raftlog.node.replica_host import ReplicaHost
from raftlog.node.service import Service
from raftlog.node.settings import NodeSettings
from raftlog.node.weak_spots import weak_spots
from raftlog.protocol import apis
from raftlog.protocol.cluster import (
    DescribeReplicasRequest,
    DescribeThrottledRequest,
    DescribeThrottledResponse,
    MetadataRequest,
    MetadataResponse,
    RecoverPartitionRequest,
    RecoverPartitionResponse,
)
from raftlog.protocol.envelope import Request
from raftlog.protocol.nodes import ImageRequest, ImageResponse, NodeState, NodeStateResponse
from raftlog.protocol.report import Figures, NodeReport
from raftlog.security.credentials import Credentials
from raftlog.security.policy import Security
from raftlog.types import Endpoint, ReplicaStatus

log = logging.getLogger(__name__)

_REQUESTS_PER_ROUND = 200
_GOSSIP_MIN_S = 0.01  # many workers that start at once are one piece of news
_ASK_S = 0.05
_LEAVING_S = 0.05  # the last gossip leaves through a thread that does not say when it is done


class Supervisor:
    """Raises ConfigError for every reason not to start, from `__init__` and from `run`."""

    def __init__(
        self,
        settings: NodeSettings,
        data: DataDirectory,
        on_ready: Callable[[str, Endpoint | None, Endpoint | None], None],
    ) -> None:
        """`on_ready` is told, once, that the cluster knows this node: its id, where Kafka's door is, and HTTP."""
        self._settings = settings
        self._on_ready = on_ready
        credentials = None
        if settings.security:
            credentials = Credentials.of_node(settings.security, settings.node_id, permissive=settings.permissive)
        self._credentials = credentials
        self._context: Context | None = None
        self._server: Server | MessageServer
        if credentials is None:
            self._context = Context()
            self._server = Server(self._context, *settings.listen, limits.NODE_FRAME_BYTES_MAX)
        else:
            self._server = MessageServer(*settings.listen, credentials)
        self._door = NativeDoor(self._server, settings.node_id, lambda: self._membership.cluster_id)
        self._logins = NativeLogins(settings.access, settings.node_id, self._door)
        self._dispatch = Dispatch(
            self._door,
            "a node's address",
            {
                apis.METADATA: self._metadata,
                apis.DESCRIBE_REPLICAS: self._describe_replicas,
                apis.DESCRIBE_THROTTLED: self._describe_throttled,
                apis.RECOVER_PARTITION: self._recover,
                apis.NODE_STATE: self._hear,
                apis.IMAGE: self._give_image,
                apis.AUTHENTICATE: self._logins.authenticate,
            },
        )
        self._logins.secure(Security(), self._dispatch)
        self._poller = Poller()
        self._poller.register(self._server)
        links = NodeLinks(self._context, self._poller, credentials)
        self._links = links
        self._membership = Membership(settings, data, links, monotonic_s())
        secured = ch.secured_by(credentials)
        self._host = ReplicaHost(settings, data, self._on_image, lambda: self._membership.is_current, secured)
        self._workers = self._host.workers
        self._kafka = DoorHost(kafka_door(settings, secured), self._hear_kafka)
        # It asks with the node's certificate for who has said who he is: not where plain HTTP asks nobody.
        self._http = DoorHost(http_address(settings, None if settings.permissive else secured), self._hear_http)
        self._doors = (self._kafka, self._http)
        self._membership.kafka = self._kafka.endpoint
        self._kafka_knows: tuple[object, ...] = ()
        self._secured_offset = -1
        self._watched: dict[int, ReplicaKey] = {}
        self._watched_doors: set[int] = set()
        self._gossip_due_s = self._said_s = 0.0
        self._ready = False
        self._stopping = False
        self._leash = -1
        self._wakeup = -1
        self._log_level = LOG_LEVELS.index(settings.log_style.level)
        self._log_level_wanted = self._log_level
        self._service = Service(monotonic_s())

    def run(self, wakeup: int, leash: int | None = None) -> None:
        """Until `stop`. `wakeup` is a descriptor that becomes readable when a signal came.

        `leash`, too, becomes readable when it is time to stop: whoever held it is gone.
        """
        self._poller.register(wakeup)
        self._wakeup = wakeup
        if leash is not None:
            self._leash = leash
            self._poller.register(leash)
        try:
            while not self._stopping:
                self._advance()
                self._step()
        finally:
            self._poller.unregister(wakeup)
            if leash is not None:
                self._poller.unregister(leash)
            self._end()

    def stop(self) -> None:
        """From a signal handler. The second time nothing is waited for."""
        if self._stopping:
            self._workers.kill_all()
            for door in self._doors:
                door.kill_all()
        self._stopping = True

    def change_log_level(self, steps: int) -> None:
        """From a signal handler. Below 0: say more."""
        self._log_level_wanted = min(max(self._log_level_wanted + steps, 0), len(LOG_LEVELS) - 1)

    def _take_log_level(self) -> None:
        self._log_level = self._log_level_wanted
        level = LOG_LEVELS[self._log_level]
        set_log_level(level)
        for told in (self._workers, *self._doors):
            told.set_log_level(level)
        log.log(logging.getLogger().level, "the log says what is of level %s from now on", level)

    # --- the loop ----------------------------------------------------------------------------------
    def _step(self) -> None:
        """Wait for input and take it in."""
        if self._workers.processes_changed:
            self._watch_workers()
        if any(door.processes_changed for door in self._doors):
            self._watch_doors()
        now_s = monotonic_s()
        self._server.tick()
        doors_due_s = min(door.next_due_s for door in self._doors)
        due_s = min(self._gossip_due_s, self._workers.next_due_s(), doors_due_s)
        due_s = min(due_s, self._server.due_s, self._links.due_s, self._service.due_s)
        if self._workers.pending or any(door.pending for door in self._doors):
            due_s = min(due_s, now_s + ch.UNSENT_RETRY_S)
        ready = self._poller.poll(due_s - now_s)
        keys = {self._watched[item] for item in ready if isinstance(item, int) and item in self._watched}
        if self._leash in ready:
            self._stopping = True
        if self._wakeup in ready:
            os.read(self._wakeup, 64)  # a number for each signal; their handlers have said what they mean
        if self._log_level_wanted != self._log_level:
            self._take_log_level()
        self._service.tick(monotonic_s())
        if self._server in ready:
            self._dispatch.serve(_REQUESTS_PER_ROUND, NEVER_S)
        lost = self._links.lost()
        for node_id, told, payload in self._links.receive():
            self._membership.on_answer(node_id, told, payload, monotonic_s())
        for node_id in lost:
            self._membership.gossip.lose(node_id)
        self._host.tick(keys, monotonic_s())
        for door in self._doors:
            door.tick(ready, monotonic_s())

    def _advance(self) -> None:
        """Whatever follows from what came in."""
        membership, now_s = self._membership, monotonic_s()
        membership.advance(now_s, ready=self._ready)
        if membership.changed and membership.identity.confirmed:
            membership.changed = False
            self._workers.changed = True
            self._host.follow(membership.image)
        if self._workers.changed:
            self._gossip_due_s = min(self._gossip_due_s, self._said_s + _GOSSIP_MIN_S)
        if now_s >= self._gossip_due_s:
            self._say(now_s)
        self._host.tell(membership.gossip, now_s, membership.cluster_id)
        self._secure()
        self._tell_door(now_s)
        if not self._ready and membership.is_registered and self._host.settled:
            self._ready = True
            self._on_ready(membership.cluster_id, self._kafka.endpoint, self._http.endpoint)
            self._service.say_ready()

    def _say(self, now_s: float) -> None:
        self._links.send_all(self._own_state(now_s))
        self._door.log_refused(now_s)
        if self._credentials is not None:
            self._credentials.tend()
        self._said_s = now_s
        # Until the others have answered it starts no worker, so it asks again as soon as a connection may be there.
        self._gossip_due_s = now_s + (limits.GOSSIP_S if self._membership.identity.confirmed else _ASK_S)
        self._workers.changed = False

    def _own_state(self, now_s: float) -> NodeState:
        """What is told to the other nodes.

        The own door of Kafka's clients knows it BEFORE they do: a client that another node sends here because a worker
        of this one leads finds it. With acks=0 it would not notice that it was turned away.
        """
        self._membership.weak_spots = weak_spots(
            self._settings,
            self._credentials,
            self._membership.image.security,
            superusers_plain=self._workers.figures.has_counted(SUPERUSER_PLAIN_LOGINS),
        )
        state = self._membership.own_state(self._workers.states())
        if self._membership.gossip.hear(state, now_s):
            self._tell_door(now_s)
            self._kafka.hurry(now_s)
        return state

    def _watch_workers(self) -> None:
        wanted = self._workers.descriptors()
        for descriptor in self._watched.keys() - wanted.keys():
            self._poller.unregister(descriptor)
        for descriptor in wanted.keys() - self._watched.keys():
            self._poller.register(descriptor)
        self._watched = wanted
        self._workers.processes_changed = False

    def _watch_doors(self) -> None:
        wanted = set[int]().union(*(door.descriptors() for door in self._doors))
        for descriptor in self._watched_doors - wanted:
            self._poller.unregister(descriptor)
        for descriptor in wanted - self._watched_doors:
            self._poller.register(descriptor)
        self._watched_doors = wanted
        for door in self._doors:
            door.processes_changed = False

    def _secure(self) -> None:
        """Users and rules have changed: whoever serves somebody is told."""
        image = self._membership.image
        if not image.cluster_id or image.security.offset == self._secured_offset:
            return
        security = image.security
        self._secured_offset = security.offset
        self._logins.secure(security, self._dispatch)
        self._host.secure(security)
        for door in self._doors:
            door.secure(security)
        if security.is_empty:
            log.warning("there is no user and no rule: everybody who reaches this node may do everything")
        elif self._settings.access.enforced:
            log.info("%d users, %d rules: nobody may do what no rule allows", len(security.users), len(security.acls))
        else:
            log.warning("--authorization off: everybody may do everything, whatever users and rules there are")

    def _tell_door(self, now_s: float) -> None:
        """Kafka's door serves what this supervisor knows: it is told when something of that has changed."""
        membership = self._membership
        knows = (membership.image.end_offset, membership.gossip.news, frozenset(membership.gossip.live(now_s)))
        if self._kafka.endpoint is None or not membership.image.cluster_id or knows == self._kafka_knows:
            return
        self._kafka_knows = knows
        workers = [
            (worker.status.topic_id, worker.status.partition, worker.boot_id)
            for worker in self._workers.states()
            if worker.boot_id
        ]
        cluster = self._metadata_of(MetadataRequest(), now_s)
        self._kafka.tell(ch.ClusterNews(cluster=cluster, workers=workers), now_s)

    def _hear_kafka(self, child: Child, message: ch.ToSupervisor | None) -> None:
        if isinstance(message, ch.Counted):
            self._workers.figures.take(child.pid, message.figures)
        elif message is None:
            self._workers.figures.forget(child.pid)

    def _hear_http(self, child: Child, message: ch.ToSupervisor | None) -> None:
        """The HTTP address asks for all that this node says of itself."""
        if isinstance(message, ch.Asked):
            child.channel.send(ch.Told(number=message.number, report=self._report()))

    def _report(self) -> NodeReport:
        obstacles = self._membership.obstacles(monotonic_s())
        if not obstacles and not self._ready:
            obstacles = ["it is starting its replicas"]
        if self._stopping:
            obstacles.append("it is being stopped")
        membership, now_s = self._membership, monotonic_s()
        replicas = [as_member(worker.status, membership.image) for worker in self._workers.states()]
        return NodeReport(
            node_id=self._settings.node_id,
            cluster_id=self._membership.cluster_id,
            obstacles=obstacles,
            replicas=replicas,
            sizes=[self._size_of(status) for status in replicas],
            lags=[membership.gossip.lag_of(status) for status in replicas],
            nodes_alive=len(membership.gossip.live(now_s) & membership.image.nodes.keys()),
            nodes_known=len(membership.image.nodes),
            processes={
                "supervisor": [os.getpid()],
                "worker": self._workers.pids,
                "kafka": self._kafka.pids,
                "http": self._http.pids,
            },
            figures=self._figures(),
        )

    def _size_of(self, status: ReplicaStatus) -> int:
        """How many replicas its partition has."""
        topic = self._membership.image.topics.get(status.topic)
        if topic is not None and topic.topic_id == status.topic_id and status.partition < len(topic.replicas):
            return len(topic.replicas[status.partition])
        return len(self._workers.specs[status.topic_id, status.partition].replicas)

    def _figures(self) -> Figures:
        """Of all processes of this node."""
        own = door_figures(NODE, self._door, self._dispatch)
        if self._credentials is not None:
            own.levels["certificate_end_timestamp_seconds",] = self._credentials.ends_ms / 1000
        self._workers.figures.take("supervisor", own)
        return self._workers.figures.whole()

    def _on_image(self, data: bytes) -> None:
        self._membership.adopt(decode_image(data))

    # --- handlers ----------------------------------------------------------------------------------
    def _hear(self, request: Request[NodeState]) -> None:
        told = self._membership.on_state(request.body, monotonic_s())
        if told is True:
            told = NodeStateResponse(state=self._own_state(monotonic_s()))
        if isinstance(told, NodeStateResponse):
            answer(request, told)

    def _describe_replicas(self, request: Request[DescribeReplicasRequest]) -> None:
        membership = self._membership
        described = describe_replicas_response(
            request.body,
            node_id=self._settings.node_id,
            image=membership.image,
            gossip=membership.gossip,
            now_s=monotonic_s(),
        )
        answer(request, described)

    def _describe_throttled(self, request: Request[DescribeThrottledRequest]) -> None:
        answer(request, DescribeThrottledResponse(throttled=self._figures().throttled()))

    def _give_image(self, request: Request[ImageRequest]) -> None:
        image = self._membership.image
        if request.body.cluster_id == image.cluster_id and request.body.image_offset < image.end_offset:
            answer(request, ImageResponse(image_offset=image.end_offset), encode_image(image))

    def _recover(self, request: Request[RecoverPartitionRequest]) -> None:
        if self._workers.tell((request.body.topic_id, request.body.partition), ch.AcceptLoss()):
            answer(request, RecoverPartitionResponse())
        else:
            text = f"node {self._settings.node_id} runs no replica of this partition"
            self._dispatch.refuse(request, ErrorCode.INVALID_REQUEST, text)

    def _metadata(self, request: Request[MetadataRequest]) -> None:
        membership = self._membership
        if not membership.image.cluster_id:
            text = membership.waiting_for or "the cluster is being formed"
            self._dispatch.refuse(request, ErrorCode.LEADER_NOT_AVAILABLE, text)
            return
        for key in request.body.silent[: limits.SILENT_LEADERS_MAX]:
            self._workers.tell(key, ch.Stir())
        answer(request, self._metadata_of(request.body, monotonic_s()))

    def _metadata_of(self, request: MetadataRequest, now_s: float) -> MetadataResponse:
        return metadata_response(
            request,
            node_id=self._settings.node_id,
            image=self._membership.image,
            gossip=self._membership.gossip,
            now_s=now_s,
            flush=self._settings.flush,
        )

    # --- the end ---------------------------------------------------------------------------------------
    def _end(self) -> None:
        """Bounded: every worker has WORKER_STOP_S before it is killed."""
        self._stopping = True
        self._service.say_stopping()
        self._host.stop(monotonic_s())
        for door in self._doors:
            door.stop(monotonic_s())
        while self._workers.specs or not all(door.ended for door in self._doors):
            self._step()
            if self._workers.changed:
                now_s = monotonic_s()
                self._say(now_s)
                self._host.tell(self._membership.gossip, now_s, self._membership.cluster_id)
        self._links.send_all(self._membership.own_state([], leaving=True))
        time.sleep(_LEAVING_S)
        if self._context is not None:
            self._context.close()
