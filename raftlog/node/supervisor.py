"""The node process: owns the node's one address, starts and watches workers, speaks for the node.

    poll -> clients, supervisors, workers -> form, follow the image -> tell workers -> gossip

It holds no record of any topic and takes no part in consensus: when it is busy, partitions go on.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from raftlog import limits
from raftlog.clock import NEVER_S, monotonic_s
from raftlog.controller.image import decode_image, encode_image
from raftlog.errors import ErrorCode
from raftlog.network import Context, Poller, Server
from raftlog.node import channel as ch
from raftlog.node.dispatch import Dispatch
from raftlog.node.doors.native import NativeDoor
from raftlog.node.gossip import ReplicaKey
from raftlog.node.links import NodeLinks
from raftlog.node.membership import Membership
from raftlog.node.meta import DataDirectory
from raftlog.node.metadata_answers import describe_replicas_response, metadata_response
from raftlog.node.replica_host import ReplicaHost
from raftlog.node.settings import NodeSettings
from raftlog.protocol import apis
from raftlog.protocol.cluster import (
    DescribeReplicasRequest,
    MetadataRequest,
    RecoverPartitionRequest,
    RecoverPartitionResponse,
)
from raftlog.protocol.envelope import Request
from raftlog.protocol.nodes import ImageRequest, ImageResponse, NodeState, NodeStateResponse

_REQUESTS_PER_ROUND = 200
_GOSSIP_MIN_S = 0.01  # many workers that start at once are one piece of news
_ASK_S = 0.05
_LEAVING_S = 0.05  # the last gossip leaves through a thread that does not say when it is done


class Supervisor:
    """Raises ConfigError for every reason not to start, from `__init__` and from `run`."""

    def __init__(self, settings: NodeSettings, data: DataDirectory, on_ready: Callable[[str], None]) -> None:
        """`on_ready` is told the cluster id, once: the cluster is formed and knows this node."""
        self._settings = settings
        self._on_ready = on_ready
        self._context = Context()
        self._server = Server(self._context, settings.listen.host, settings.listen.port)
        self._door = NativeDoor(self._server, settings.node_id, lambda: self._membership.cluster_id)
        self._dispatch = Dispatch(
            self._door,
            "a node's address",
            {
                apis.METADATA: self._metadata,
                apis.DESCRIBE_REPLICAS: self._describe_replicas,
                apis.RECOVER_PARTITION: self._recover,
                apis.NODE_STATE: self._hear,
                apis.IMAGE: self._give_image,
            },
        )
        self._poller = Poller()
        self._poller.register(self._server)
        links = NodeLinks(self._context, self._poller)
        self._links = links
        self._membership = Membership(settings, data, self._context, links, monotonic_s())
        self._host = ReplicaHost(settings, data, self._on_image)
        self._workers = self._host.workers
        self._watched: dict[int, ReplicaKey] = {}
        self._gossip_due_s = self._said_s = 0.0
        self._ready = False
        self._stopping = False
        self._leash = -1

    def run(self, wakeup: int, leash: int | None = None) -> None:
        """Until `stop`. `wakeup` is a descriptor that becomes readable when a signal came.

        `leash`, too, becomes readable when it is time to stop: whoever held it is gone.
        """
        self._poller.register(wakeup)
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
        self._stopping = True

    # --- the loop ----------------------------------------------------------------------------------
    def _step(self) -> None:
        """Wait for input and take it in."""
        if self._workers.processes_changed:
            self._watch_workers()
        now_s = monotonic_s()
        self._server.tick()
        due_s = min(self._gossip_due_s, self._workers.next_due_s(), self._server.due_s)
        if self._workers.pending:
            due_s = min(due_s, now_s + 0.01)
        ready = self._poller.poll(due_s - now_s)
        keys = {self._watched[item] for item in ready if isinstance(item, int) and item in self._watched}
        if self._leash in ready:
            self._stopping = True
        if self._server in ready:
            self._dispatch.serve(_REQUESTS_PER_ROUND, NEVER_S)
        lost = self._links.lost()
        for node_id, answer, payload in self._links.receive():
            self._membership.on_answer(node_id, answer, payload, monotonic_s())
        for node_id in lost:
            self._membership.gossip.lose(node_id)
        self._host.tick(keys, monotonic_s())

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
        if not self._ready and membership.is_registered and self._host.settled:
            self._ready = True
            self._on_ready(membership.cluster_id)

    def _say(self, now_s: float) -> None:
        state = self._membership.own_state(self._workers.states())
        self._membership.gossip.hear(state, now_s)
        self._links.send_all(state)
        self._door.log_refused(now_s)
        self._said_s = now_s
        # Until the others have answered it starts no worker, so it asks again as soon as a connection may be there.
        self._gossip_due_s = now_s + (limits.GOSSIP_S if self._membership.identity.confirmed else _ASK_S)
        self._workers.changed = False

    def _watch_workers(self) -> None:
        wanted = self._workers.descriptors()
        for descriptor in self._watched.keys() - wanted.keys():
            self._poller.unregister(descriptor)
        for descriptor in wanted.keys() - self._watched.keys():
            self._poller.register(descriptor)
        self._watched = wanted
        self._workers.processes_changed = False

    def _on_image(self, data: bytes) -> None:
        self._membership.adopt(decode_image(data))

    # --- handlers ----------------------------------------------------------------------------------
    def _hear(self, request: Request[NodeState]) -> None:
        answer = self._membership.on_state(request.body, monotonic_s())
        if answer is True:
            answer = NodeStateResponse(state=self._membership.own_state(self._workers.states()))
        if isinstance(answer, NodeStateResponse):
            self._door.answer(request, answer)

    def _describe_replicas(self, request: Request[DescribeReplicasRequest]) -> None:
        membership = self._membership
        described = describe_replicas_response(
            request.body,
            node_id=self._settings.node_id,
            image=membership.image,
            gossip=membership.gossip,
            now_s=monotonic_s(),
        )
        self._door.answer(request, described)

    def _give_image(self, request: Request[ImageRequest]) -> None:
        image = self._membership.image
        if request.body.cluster_id == image.cluster_id and request.body.image_offset < image.end_offset:
            self._door.answer(request, ImageResponse(image_offset=image.end_offset), encode_image(image))

    def _recover(self, request: Request[RecoverPartitionRequest]) -> None:
        if self._workers.tell((request.body.topic_id, request.body.partition), ch.AcceptLoss()):
            self._door.answer(request, RecoverPartitionResponse())
        else:
            text = f"node {self._settings.node_id} runs no replica of this partition"
            self._dispatch.refuse(request, ErrorCode.INVALID_REQUEST, text)

    def _metadata(self, request: Request[MetadataRequest]) -> None:
        membership = self._membership
        if not membership.image.cluster_id:
            text = membership.waiting_for or "the cluster is being formed"
            self._dispatch.refuse(request, ErrorCode.LEADER_NOT_AVAILABLE, text)
            return
        response = metadata_response(
            request.body,
            node_id=self._settings.node_id,
            image=membership.image,
            gossip=membership.gossip,
            now_s=monotonic_s(),
            flush=self._settings.flush,
        )
        self._door.answer(request, response)

    # --- the end ---------------------------------------------------------------------------------------
    def _end(self) -> None:
        """Bounded: every worker has WORKER_STOP_S before it is killed."""
        self._stopping = True
        self._host.stop(monotonic_s())
        while self._workers.specs:
            self._step()
            if self._workers.changed:
                now_s = monotonic_s()
                self._say(now_s)
                self._host.tell(self._membership.gossip, now_s, self._membership.cluster_id)
        self._links.send_all(self._membership.own_state([], leaving=True))
        time.sleep(_LEAVING_S)
        self._context.close()
