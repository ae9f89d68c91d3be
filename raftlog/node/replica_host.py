"""The replicas of one node: keeps meta.json, the directories and the running workers in step with the image."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection

import msgspec

from raftlog import limits
from raftlog.clock import NEVER_S, monotonic_s
from raftlog.controller.image import Image
from raftlog.errors import DiskFullError
from raftlog.node import channel as ch
from raftlog.node.gossip import Gossip, ReplicaKey
from raftlog.node.hosting_plan import METADATA_KEY, key_of, plan_hosting, with_naming, with_settings
from raftlog.node.meta import DataDirectory, HostedReplica
from raftlog.node.processes import Child, start_worker
from raftlog.node.settings import NodeSettings
from raftlog.node.workers import Ended, Failure, Hangs, OpenedReplica, Peers, Published, Workers
from raftlog.security.policy import Security
from raftlog.types import NO_VOTERS, Half, ReplicaSpec

log = logging.getLogger(__name__)

_FOLLOW_AGAIN_S = 0.3  # while something waits for the word of a replica, or for a newer image


class ReplicaHost:
    """The replicas of a node: each is started, changed and deleted as the metadata says.

    `on_image` takes the bytes of an image that the metadata's worker has replayed. `is_current()`: the image that is
    followed is newer than this process; once it is, it stays so.
    """

    def __init__(
        self,
        settings: NodeSettings,
        data: DataDirectory,
        on_image: Callable[[bytes], None],
        is_current: Callable[[], bool],
        secured: ch.Secured | None = None,
    ) -> None:
        self._settings = settings
        self._secured = secured
        self._data = data
        self._on_image = on_image
        self._is_current = is_current
        self._wishes_told: tuple[int, bool] | None = None
        self._live: list[int] = []
        self._able: list[int] = []
        self._cluster_id = ""
        self._news_told: tuple[int, int, list[int]] | None = None
        self._image = Image()
        self._followed = self._stopping = False
        self._follow_due_s = NEVER_S  # nothing is started before `follow`
        self._opened: set[ReplicaKey] = set()
        self._deleted: set[ReplicaKey] = set()
        self._retry_s = 0.0
        self.workers = Workers(settings.node_id, settings.advertise.host, self._start)
        self._remove_leftovers()

    @property
    def settled(self) -> bool:
        """Every replica of the image has been started, and has opened its log or failed to."""
        return self._followed and not self._opened and self.workers.settled

    def follow(self, image: Image) -> None:
        """Bring everything in step with `image`, at the next `tick`."""
        self._image = image
        self._follow_due_s = 0.0
        self._followed = False

    def stop(self, now_s: float) -> None:
        """The node ends: nothing new is started, and what runs is told to stop."""
        self._stopping = True
        self.workers.stop_all(now_s)

    def tick(self, ready: Collection[ReplicaKey], now_s: float) -> None:
        """Read the workers that are `ready`, and do whatever is due. A full disk delays, it ends nothing."""
        for event in self.workers.tick(ready, now_s):
            match event:
                case OpenedReplica():
                    self._opened.add(event.key)
                case Published():
                    self._on_image(event.image)
                case Hangs():
                    log.error("%s: its worker hangs; the other replicas are told that it is gone", event.name)
                case Failure():
                    log.error("%s: %s; starting again in %.1f s", event.name, event.text, event.again_in_s)
                case Ended(key, deleted=True):
                    self._deleted.add(key)
        if now_s < self._retry_s:
            return
        try:
            self._list_created()
            self._remove_deleted()
            self._follow(now_s)
        except DiskFullError as error:
            log.error("%s; trying again in %.0f s", error, limits.DISK_RETRY_S)
            self._retry_s = now_s + limits.DISK_RETRY_S

    def _follow(self, now_s: float) -> None:
        """Start what is listed, list what the image adds, stop what it deletes."""
        if now_s < self._follow_due_s or self._stopping:
            return
        current = self._is_current()
        plan = plan_hosting(self._data.meta, self._image, self.workers.words(), current=current)
        if plan.add:
            # Listed BEFORE the workers start, so that a crash in between is no loss.
            self._list((*self._data.meta.replicas, *plan.add))
        self._take_changes()
        known, held = self.workers.specs, False
        for hosted in self._data.meta.replicas:
            if key_of(hosted) not in known:
                if key_of(hosted) != METADATA_KEY and not current and self._data.has_lost(hosted):
                    held = True  # whom it may have acknowledged with only an image says that is newer than the loss
                else:
                    self.workers.host(hosted)
                    self._news_told = self._wishes_told = None  # it was told nothing yet
        for hosted in plan.remove:
            if not self.workers.is_stopping(key_of(hosted)):
                log.info("%s is not of this node any more", hosted.spec.name)
                self.workers.stop(key_of(hosted), monotonic_s())
        self._followed = not held
        self._follow_due_s = now_s + _FOLLOW_AGAIN_S if held or plan.waits else NEVER_S

    def _list(self, replicas: tuple[HostedReplica, ...]) -> None:
        """With how far the image reached: none that is older has a say in it from then on."""
        meta = self._data.meta
        reached = self._image.end_offset
        followed_offset = reached if self._is_current() else max(meta.followed_offset, reached)
        self._data.save(msgspec.structs.replace(meta, replicas=replicas, followed_offset=followed_offset))

    def _take_changes(self) -> None:
        """Settings of topics, and that a later record names this node again."""
        meta = self._data.meta
        replicas = tuple(
            with_naming(with_settings(hosted, self._image), self._image, meta.node_id) for hosted in meta.replicas
        )
        if replicas == meta.replicas:
            return
        # Listed BEFORE the workers hear of it: one that starts later takes what is listed.
        self._data.save(msgspec.structs.replace(meta, replicas=replicas))
        for before, hosted in zip(meta.replicas, replicas, strict=True):
            if hosted.spec != before.spec and key_of(hosted) in self.workers.specs:
                log.info("%s has new settings", hosted.spec.name)
                self.workers.set_spec(key_of(hosted), hosted.spec)

    def _list_created(self) -> None:
        if not self._opened:
            return
        meta = self._data.meta
        replicas = tuple(
            msgspec.structs.replace(hosted, created=True) if key_of(hosted) in self._opened else hosted
            for hosted in meta.replicas
        )
        if replicas != meta.replicas:
            # Listed as created BEFORE anyone learns where the workers are.
            self._data.save(msgspec.structs.replace(meta, replicas=replicas))
        for key in self._opened & self.workers.specs.keys():
            self.workers.announce(key)
        if METADATA_KEY in self._opened:
            self.workers.tell(METADATA_KEY, ch.Live(nodes=self._live, able=self._able))
        self._opened.clear()

    def _remove_deleted(self) -> None:
        if not self._deleted:
            return
        meta = self._data.meta
        for hosted in meta.replicas:
            if key_of(hosted) in self._deleted:
                # Its name is free BEFORE it is unlisted: a crash in between finds a replica to be deleted again.
                self._data.set_aside(hosted.spec)
        replicas = tuple(hosted for hosted in meta.replicas if key_of(hosted) not in self._deleted)
        self._list(replicas)
        self._deleted.clear()
        self._remove_leftovers()
        self._follow_due_s = 0.0  # a topic of the same name may have waited for it

    def tell(self, gossip: Gossip, now_s: float, cluster_id: str) -> None:
        """Where the other replicas are, to the workers that do not know yet."""
        live, able = sorted(gossip.live(now_s)), sorted(gossip.able())
        if (gossip.news, self._image.end_offset, live) != self._news_told:
            self._news_told = gossip.news, self._image.end_offset, live
            for key, spec in self.workers.specs.items():
                peers = self._peers_of(key, spec, gossip)
                self.workers.tell_peers(key, peers, [node_id for node_id, *_ in peers if node_id not in live])
        current = self._is_current()
        if (self._image.end_offset, current) != self._wishes_told:
            self._wishes_told = self._image.end_offset, current
            self._tell_wishes(current)
        if cluster_id != self._cluster_id:
            self._cluster_id = cluster_id
            for key in self.workers.specs:
                self.workers.tell(key, ch.ClusterNamed(cluster_id=cluster_id))
        if (live, able) != (self._live, self._able):
            for node_id in set(live) - set(self._live):
                log.info("node %d is there", node_id)
            for node_id in set(self._live) - set(live):
                log.warning("node %d is silent", node_id)
            self._live, self._able = live, able
            self.workers.tell(METADATA_KEY, ch.Live(nodes=live, able=able))

    def secure(self, security: Security) -> None:
        """Those that start later are started with it."""
        for key in self.workers.specs:
            self.workers.tell(key, ch.SecurityNews(security=security))

    def _tell_wishes(self, current: bool) -> None:
        """Of partitions with a plan, or that have moved."""
        for key, spec in self.workers.specs.items():
            topic = self._image.topics.get(spec.topic)
            if topic is None or topic.topic_id != spec.topic_id or spec.partition not in topic.moves:
                continue
            moves = topic.moves[spec.partition]
            named = topic.named_of(spec.partition).ids if current else ()
            self.workers.tell_wish(key, ch.Wish(plan=moves.plan, expected=moves.configuration, named=named))

    def _peers_of(self, key: ReplicaKey, spec: ReplicaSpec, gossip: Gossip) -> Peers:
        peers: Peers = []
        for node_id in sorted({*spec.voters, *self._named(spec).ids, *gossip.hosts_of(key)}):
            if node_id != self._settings.node_id:
                worker = gossip.worker_of(node_id, key)
                peers.append((node_id, worker.raft_endpoint, worker.boot_id) if worker else (node_id, None, 0))
        return peers

    def _named(self, spec: ReplicaSpec) -> Half:
        """Everyone whom the metadata names for a partition that has moved, or shall; nobody for another."""
        topic = self._image.topics.get(spec.topic)
        if topic is None or topic.topic_id != spec.topic_id or spec.partition not in topic.moves:
            return NO_VOTERS
        return topic.named_of(spec.partition)

    def _hosted(self, key: ReplicaKey) -> HostedReplica:
        return next(hosted for hosted in self._data.meta.replicas if key_of(hosted) == key)

    def _start(self, key: ReplicaKey) -> Child:
        hosted, ports = self._hosted(key), self._settings.worker_ports
        return start_worker(
            ch.WorkerConfig(
                node_id=self._settings.node_id,
                cluster_id=self._data.meta.cluster_id,
                spec=hosted.spec,
                directory=self._data.replica_path(hosted.spec),
                doubt=self._data.doubt_of(hosted),
                flush=self._settings.flush,
                host=self._settings.listen.host,
                ports=(ports.start, ports.stop) if ports else None,
                founders=list(self._data.meta.founders),
                log_style=self._settings.log_style,
                access=self._settings.access,
                security=self._image.security,
                is_witness=hosted.is_witness(self._settings.node_id),
                remembered=self._named(hosted.spec),
                secured=self._secured,
            )
        )

    def _remove_leftovers(self) -> None:
        """In a thread of its own: unlinking gigabytes takes longer than the others want to wait."""
        threading.Thread(target=self._data.remove_leftovers, daemon=True).start()
