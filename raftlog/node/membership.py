"""What a node is to its cluster: forms or joins it, follows its metadata image, is registered with it.

Other supervisors are heard here. A node that starts among strangers ends with an error; one that runs
is not brought down by them.
"""

from __future__ import annotations

import contextlib
import logging
import random

import msgspec

from raftlog import limits
from raftlog.clock import monotonic_s
from raftlog.controller.decisions import Founder
from raftlog.controller.image import Image, decode_image
from raftlog.errors import (
    ConfigError,
    CorruptLogError,
    DiskFullError,
    ErrorCode,
    InconsistentClusterIdError,
    StorageError,
)
from raftlog.node.formation import Form, Join, Wait, check_peers, decide_forming
from raftlog.node.gossip import Gossip
from raftlog.node.hosting_plan import METADATA_KEY, metadata_replica
from raftlog.node.identity import Identity, is_superseded, newest
from raftlog.node.links import NodeLinks
from raftlog.node.meta import DataDirectory
from raftlog.node.reports import reports_for
from raftlog.node.settings import NodeSettings
from raftlog.protocol import apis
from raftlog.protocol import nodes as n
from raftlog.protocol.body import ResponseBody
from raftlog.protocol.nodes import WorkerState
from raftlog.protocol.reassignments import ReportConfigurationsRequest
from raftlog.types import Endpoint

log = logging.getLogger(__name__)

_ASK_AGAIN_S = 0.3  # for an image, or to be registered


class Membership:
    """What a node knows of its cluster, and keeps in meta.json.

    `image` is the newest one seen. `changed` says that `image` or meta.json is not what it was. `is_current`: it holds
    all that the metadata had committed when this process began.
    """

    def __init__(self, settings: NodeSettings, data: DataDirectory, links: NodeLinks, now_s: float) -> None:
        meta = data.meta
        check_peers(node_id=settings.node_id, voters=meta.voters, peers=settings.peers)
        self._settings = settings
        self._data = data
        self._links = links
        self._node_id = settings.node_id
        self._boot_id = random.SystemRandom().getrandbits(62) + 1
        self.kafka: Endpoint | None = None  # where Kafka's clients reach this node
        self.weak_spots: list[int] = []  # of this node
        self._peers = settings.peers or meta.peers or {self._node_id: settings.advertise}
        self._sequence = 0
        try:
            # Counted durably BEFORE anything is said: what the process before it said is known to be older.
            data.save(msgspec.structs.replace(meta, peers=self._peers, boots=meta.boots + 1))
        except DiskFullError:
            if self._peers != meta.peers:
                raise  # without it old news may count for a moment; that is no reason not to start
        self._strangers: dict[int, str] = {}
        self._started_s = now_s
        self._ask_due_s = self._report_due_s = 0.0
        self._known = dict(data.meta.known_runs)
        self.identity = Identity(self._own_run(), self._boot_id, now_s, asks=bool(meta.cluster_id or meta.replicas))
        self.gossip = Gossip(self._node_id)
        self.image = data.cached_image()
        self.is_current = False
        self.waiting_for = ""
        self.changed = True
        self._note_registered()
        self._link_nodes()

    @property
    def cluster_id(self) -> str:
        return self._data.meta.cluster_id

    @property
    def is_registered(self) -> bool:
        """The image lists this node as it is."""
        known = self.image.nodes.get(self._node_id)
        own = (self._data.meta.directory_id, self._settings.advertise)
        return known is not None and (known.directory_id, known.endpoint) == own

    def obstacles(self, now_s: float) -> list[str]:
        """Why this node is not in step with the metadata; none: it is."""
        image = self.image
        if not image.cluster_id:
            return [self.waiting_for or "the cluster is being formed"]
        found = []
        if not self.is_registered:
            found.append("the metadata does not list this node yet")
        if not self.gossip.confirms(image.end_offset, image.voters, now_s):
            found.append("it hears no majority of the metadata's voters, or one of the nodes knows newer metadata")
        return found

    def own_state(self, workers: list[WorkerState], *, leaving: bool = False) -> n.NodeState:
        meta = self._data.meta
        self._sequence += 1
        return n.NodeState(
            node_id=self._node_id,
            boot_id=self._boot_id,
            cluster_id=meta.cluster_id,
            directory_id=meta.directory_id,
            endpoint=self._settings.advertise,
            voters=sorted(meta.voters or self._peers),
            founders=[(founder.node_id, founder.directory_id) for founder in meta.founders],
            image_offset=self.image.end_offset,
            workers=workers,
            leaving=leaving,
            boot=meta.boots,
            sequence=self._sequence,
            starting=not self.identity.confirmed,
            registered_offset=meta.registered_offset,
            run=self.identity.own.run,
            known=self._known_runs(),
            kafka=self.kafka,
            weak_spots=self.weak_spots,
            features=n.FEATURES,
        )

    def _own_run(self) -> n.KnownRun:
        meta = self._data.meta
        return n.KnownRun(
            node_id=self._node_id,
            directory_id=meta.directory_id,
            registered_offset=meta.registered_offset,
            run=meta.run,
        )

    def _known_runs(self) -> list[n.KnownRun]:
        """For all others, who look for themselves in it."""
        now_s, known = monotonic_s(), []
        for node_id in sorted((self._known.keys() | self.image.nodes.keys()) - {self._node_id}):
            run = newest(self._known.get(node_id), self.image.nodes.get(node_id))
            state = self.gossip.state_of(node_id) if self.gossip.is_live(node_id, now_s) else None
            if run is not None:
                known.append(msgspec.structs.replace(run, live_boot_id=state.boot_id if state else 0))
        return known

    # --- other supervisors -------------------------------------------------------------------------
    def on_state(self, state: n.NodeState, now_s: float) -> n.NodeStateResponse | bool:
        """An error to be answered, or whether the sender should be told who is here."""
        refusal = self._why_not_hear(state, now_s)
        if refusal is not None:
            return n.NodeStateResponse(*refusal)
        if not self._counts(state, now_s):
            self._learn(state, now_s)
            return True  # what is known here of its node decides what it does next
        previous = self.gossip.state_of(state.node_id)
        self._hear(state, now_s)
        return previous is None or previous.boot_id != state.boot_id or state.node_id not in self._links

    def on_answer(self, node_id: int, answer: ResponseBody, payload: list[bytes], now_s: float) -> None:
        """Something came over the link to a node."""
        if answer.error_code:
            self._stranger(node_id, f"says: {answer.error_text}")
        elif isinstance(answer, n.NodeStateResponse) and answer.state is not None:
            self._on_state_of(node_id, answer.state, now_s)
        elif isinstance(answer, n.ImageResponse) and len(payload) == 1:
            try:
                self.adopt(decode_image(payload[0]))
            except CorruptLogError as error:
                log.warning("node %d sent no image: %s", node_id, error)

    def _on_state_of(self, node_id: int, state: n.NodeState, now_s: float) -> None:
        refusal = self._why_not_hear(state, now_s)
        if refusal is None and not self._counts(state, now_s):
            self._learn(state, now_s)
        elif refusal is None:
            self._hear(state, now_s)
        elif refusal[0] == InconsistentClusterIdError.code:
            self._stranger(node_id, f"belongs to cluster {state.cluster_id}")

    def _why_not_hear(self, state: n.NodeState, now_s: float) -> tuple[ErrorCode, str] | None:
        own = self.cluster_id
        endpoints = [state.endpoint, *([state.kafka] if state.kafka else [])]
        for worker in state.workers:
            endpoints += [each for each in (worker.endpoint, worker.raft_endpoint) if each]
        if not 1 <= state.node_id <= limits.NODE_ID_MAX or not all(map(n.is_endpoint, endpoints)):
            return ErrorCode.INVALID_REQUEST, "no such node id or address"
        if own and state.cluster_id and state.cluster_id != own:
            return InconsistentClusterIdError.code, f"this is cluster {own}, not {state.cluster_id}"
        if state.node_id == self._node_id:
            return ErrorCode.INVALID_REQUEST, f"node id {self._node_id} is in use by {self._settings.advertise}"
        conflict = self.gossip.conflict(state, now_s)
        if conflict and not self._has_known_directory(state):
            return ErrorCode.INVALID_REQUEST, conflict
        if self.gossip.state_of(state.node_id) is None and len(self.gossip.states()) >= limits.NODES_MAX:
            return ErrorCode.INVALID_REQUEST, "too many nodes"
        return None

    def _has_known_directory(self, state: n.NodeState) -> bool:
        """Of a node that lives already: then its copies are told what is known, and not only refused."""
        living = self.gossip.state_of(state.node_id)
        return state.starting or (living is not None and living.directory_id == state.directory_id)

    def _counts(self, state: n.NodeState, now_s: float) -> bool:
        """Not of a process that takes no part yet, of an older run, or of a copy beside the process that lives."""
        known = newest(self._known.get(state.node_id), self.image.nodes.get(state.node_id))
        return not (state.starting or is_superseded(known, state) or self.gossip.conflict(state, now_s))

    def _learn(self, state: n.NodeState, now_s: float) -> None:
        """What another node knows of this one."""
        known = next((each for each in state.known if each.node_id == self._node_id), None)
        self.identity.hear(state.node_id, known, now_s)

    def _remember(self, state: n.NodeState) -> None:
        """Durable BEFORE a message of its workers is taken: who has a promise of a run also remembers the run."""
        run = n.KnownRun(
            node_id=state.node_id,
            directory_id=state.directory_id,
            registered_offset=state.registered_offset,
            run=state.run,
        )
        if not self.cluster_id or state.cluster_id != self.cluster_id or self._known.get(state.node_id) == run:
            return
        self._known[state.node_id] = run
        with contextlib.suppress(DiskFullError):  # then only this process remembers it
            self._data.save(msgspec.structs.replace(self._data.meta, known_runs=dict(self._known)))

    def _hear(self, state: n.NodeState, now_s: float) -> None:
        self._learn(state, now_s)
        self._remember(state)
        if self.gossip.hear(state, now_s):
            self._link_nodes()
            self._strangers.pop(state.node_id, None)

    def _stranger(self, node_id: int, text: str) -> None:
        if node_id not in self._strangers:
            log.warning("node %d %s", node_id, text)
            self._strangers[node_id] = text

    def _link_nodes(self) -> None:
        """Where a node was heard last, else what the user says now, else what the image says."""
        addresses = dict(self._peers)
        addresses.update({node_id: info.endpoint for node_id, info in self.image.nodes.items()})
        addresses.update(self._settings.peers)
        for node_id, state in self.gossip.states().items():
            if node_id in addresses:
                addresses[node_id] = state.endpoint
        addresses.pop(self._node_id, None)
        self._links.set_addresses(addresses)

    # --- what this node is ---------------------------------------------------------------------------
    def advance(self, now_s: float, *, ready: bool) -> None:
        """Whatever follows from what was heard. Raises ConfigError when this node cannot take part."""
        self.identity.check()
        if not self.is_current and self.image.cluster_id:
            image = self.image
            self.is_current = self.gossip.has_all(image.end_offset, METADATA_KEY, image.voters, now_s)
        if self._data.meta.directory_id in self.image.removed:
            raise ConfigError(
                f"node {self._node_id} was removed from the cluster: this data directory is of no use any more; "
                "with an empty one the node joins as a new one"
            )
        if not self.identity.confirmed:
            self._confirm(now_s)
        elif not self.cluster_id:
            self._form()
        elif now_s >= self._ask_due_s:
            self._catch_up(now_s)
        if not ready and self._strangers and now_s - self._started_s >= limits.FOREIGN_WAIT_S:
            self._check_strangers(now_s)

    def _confirm(self, now_s: float) -> None:
        """Nothing of this node counts before: no worker runs, and nobody takes it for alive."""
        reason = self.identity.why_wait(self._links.node_ids, now_s)
        if reason:
            self._wait_for(reason)
            return
        run = self.identity.next_run
        try:
            # Counted durably BEFORE the first worker starts: a copy of this directory from now on is an older one.
            self._data.save(msgspec.structs.replace(self._data.meta, run=run))
        except DiskFullError as error:
            log.error("this start is not counted, so a copy of the data directory may go unnoticed: %s", error)
            run = self._data.meta.run
        self.identity.confirm(run)
        self._wait_for("")
        self.changed = True

    def _note_registered(self) -> None:
        """Before anything is hosted that the metadata log gives this directory."""
        known, meta = self.image.nodes.get(self._node_id), self._data.meta
        if known is None or (known.directory_id, known.registered_offset) == (
            meta.directory_id,
            meta.registered_offset,
        ):
            return
        if known.directory_id == meta.directory_id:
            with contextlib.suppress(DiskFullError):  # the next image says it again
                self._data.save(msgspec.structs.replace(meta, registered_offset=known.registered_offset))

    def _check_strangers(self, now_s: float) -> None:
        if len(self.gossip.live(now_s)) > 1:
            return
        node_id, text = next(iter(self._strangers.items()))
        belongs = f"; this directory belongs to cluster {self.cluster_id}" if self.cluster_id else ""
        raise ConfigError(f"node {node_id} {text}{belongs}")

    def _form(self) -> None:
        meta = self._data.meta
        if meta.founders:
            self._wait_for("waiting for the cluster to elect its first leader")
            return
        decision = decide_forming(
            node_id=self._node_id,
            directory_id=meta.directory_id,
            peers=self._peers,
            heard=self.gossip.states(),
        )
        match decision:
            case Wait():
                self._wait_for(decision.reason)
            case Form():
                self._found(decision)
            case Join():
                log.info("joining cluster %s", decision.cluster_id)
                self._data.save(msgspec.structs.replace(meta, cluster_id=decision.cluster_id, voters=decision.voters))
                self.changed = True

    def _found(self, decision: Form) -> None:
        if decision.lost_disk:
            log.warning("the cluster knew this node with another directory: its disk counts as lost")
        voters = tuple(sorted(self._peers))
        self._data.save(
            msgspec.structs.replace(
                self._data.meta,
                cluster_id=decision.cluster_id,
                voters=voters,
                founders=tuple(
                    Founder(node_id, directory_id, self._peers[node_id])
                    for node_id, directory_id in sorted(decision.founders.items())
                ),
                # Listed BEFORE the worker starts, so that a crash in between is no loss.
                replicas=(metadata_replica(voters, lost_disk=decision.lost_disk),),
            )
        )
        self.changed = True

    def _wait_for(self, reason: str) -> None:
        if reason != self.waiting_for:
            self.waiting_for = reason
            if reason:
                log.info("%s", reason)

    def adopt(self, image: Image) -> None:
        """Take an image that reaches further than the present one."""
        meta = self._data.meta
        if image.end_offset <= self.image.end_offset or not image.cluster_id:
            return
        if meta.cluster_id and image.cluster_id != meta.cluster_id:
            log.error("an image of cluster %s was dropped", image.cluster_id)
            return
        if not meta.cluster_id:
            self._data.save(msgspec.structs.replace(meta, cluster_id=image.cluster_id, voters=image.voters))
        self.image = image
        with contextlib.suppress(StorageError):  # only a cache
            self._data.cache_image(image)
        self._note_registered()
        self.changed = True
        self._link_nodes()

    def _catch_up(self, now_s: float) -> None:
        """Ask whoever has a newer image, and the controller to list this node as it is."""
        for node_id, state in self.gossip.states().items():
            if state.image_offset > self.image.end_offset and self.gossip.is_live(node_id, now_s):
                self._ask_due_s = now_s + _ASK_AGAIN_S
                request = n.ImageRequest(cluster_id=self.cluster_id, image_offset=self.image.end_offset)
                if self._links.send(node_id, apis.IMAGE, request):
                    return
        if not self.image.cluster_id:
            return
        if not self.is_registered:
            self._ask_due_s = now_s + _ASK_AGAIN_S
            self._register(now_s)
        elif now_s >= self._report_due_s:
            self._report_due_s = now_s + _ASK_AGAIN_S
            self._report(now_s)

    def _report(self, now_s: float) -> None:
        """What leaders of this node know to be committed, and the image does not say yet."""
        reports = reports_for(self.image, self.gossip.state_of(self._node_id))[: limits.REASSIGNMENTS_PER_REQUEST_MAX]
        if not reports:
            self._links.leave_controller()
            return
        leader = self.gossip.leader_of(METADATA_KEY, self.image.voters, now_s)
        if leader is not None and leader.worker.endpoint is not None:
            request = ReportConfigurationsRequest(cluster_id=self.cluster_id, reports=reports)
            self._links.ask_controller(leader.node_id, leader.worker.endpoint, apis.REPORT_CONFIGURATIONS, request)

    def _register(self, now_s: float) -> None:
        leader = self.gossip.leader_of(METADATA_KEY, self.image.voters, now_s)
        endpoint = leader.worker.endpoint if leader else None
        if leader is None or endpoint is None:
            self._wait_for("waiting for a controller to be registered with")
            return
        request = n.RegisterNodeRequest(
            cluster_id=self.cluster_id,
            node_id=self._node_id,
            directory_id=self._data.meta.directory_id,
            endpoint=self._settings.advertise,
            features=n.FEATURES,
        )
        # Not read: the image says when it is done, and until then it is asked again.
        self._links.ask_controller(leader.node_id, endpoint, apis.REGISTER_NODE, request)
