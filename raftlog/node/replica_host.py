"""The replicas of one node: keeps meta.json, the directories and the running workers in step with the image."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection

import msgspec

from raftlog import limits
from raftlog.clock import monotonic_s
from raftlog.controller.image import Image
from raftlog.errors import DiskFullError
from raftlog.node import channel as ch
from raftlog.node.gossip import Gossip, ReplicaKey
from raftlog.node.hosting_plan import METADATA_KEY, key_of, plan_hosting, with_settings
from raftlog.node.meta import DataDirectory, HostedReplica
from raftlog.node.processes import Child, start_worker
from raftlog.node.settings import NodeSettings
from raftlog.node.workers import Ended, Failure, OpenedReplica, Peers, Published, Workers
from raftlog.security.policy import Security
from raftlog.types import ReplicaSpec

log = logging.getLogger(__name__)


class ReplicaHost:
    """The replicas of a node: each is started, changed and deleted as the metadata says.

    `on_image` takes the bytes of an image that the metadata's worker has replayed.
    """

    def __init__(
        self,
        settings: NodeSettings,
        data: DataDirectory,
        on_image: Callable[[bytes], None],
        secured: ch.Secured | None = None,
    ) -> None:
        self._settings = settings
        self._secured = secured
        self._data = data
        self._on_image = on_image
        self._live: list[int] = []
        self._able: list[int] = []
        self._cluster_id = ""
        self._news_told = -1
        self._image = Image()
        self._followed = self._stopping = False
        self._may_start = False  # nothing is started before `follow`
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
        self._may_start = True
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
                case Failure():
                    log.error("%s: %s; starting again in %.1f s", event.name, event.text, event.again_in_s)
                case Ended(key, deleted=True):
                    self._deleted.add(key)
        if now_s < self._retry_s:
            return
        try:
            self._list_created()
            self._remove_deleted()
            self._follow()
        except DiskFullError as error:
            log.error("%s; trying again in %.0f s", error, limits.DISK_RETRY_S)
            self._retry_s = now_s + limits.DISK_RETRY_S

    def _follow(self) -> None:
        """Start what is listed, list what the image adds, stop what it deletes."""
        if self._followed or self._stopping or not self._may_start:
            return
        plan = plan_hosting(self._data.meta, self._image)
        if plan.add:
            meta = self._data.meta
            # Listed BEFORE the workers start, so that a crash in between is no loss.
            self._data.save(msgspec.structs.replace(meta, replicas=(*meta.replicas, *plan.add)))
        self._take_settings()
        known = self.workers.specs
        for hosted in self._data.meta.replicas:
            if key_of(hosted) not in known:
                self.workers.host(hosted)
        for hosted in plan.remove:
            if not self.workers.is_stopping(key_of(hosted)):
                log.info("%s was deleted", hosted.spec.name)
                self.workers.stop(key_of(hosted), monotonic_s())
        self._followed = True

    def _take_settings(self) -> None:
        meta = self._data.meta
        replicas = tuple(with_settings(hosted, self._image) for hosted in meta.replicas)
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
        self._data.save(msgspec.structs.replace(meta, replicas=replicas))
        self._deleted.clear()
        self._remove_leftovers()
        self._followed = False  # a topic of the same name may have waited for it

    def tell(self, gossip: Gossip, now_s: float, cluster_id: str) -> None:
        """Where the other replicas are, to the workers that do not know yet."""
        if gossip.news != self._news_told:
            self._news_told = gossip.news
            for key, spec in self.workers.specs.items():
                self.workers.tell_peers(key, self._peers_of(key, spec, gossip))
        if cluster_id != self._cluster_id:
            self._cluster_id = cluster_id
            for key in self.workers.specs:
                self.workers.tell(key, ch.ClusterNamed(cluster_id=cluster_id))
        live, able = sorted(gossip.live(now_s)), sorted(gossip.able())
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

    def _peers_of(self, key: ReplicaKey, spec: ReplicaSpec, gossip: Gossip) -> Peers:
        peers: Peers = []
        for node_id in spec.voters:
            if node_id != self._settings.node_id:
                worker = gossip.worker_of(node_id, key)
                peers.append((node_id, worker.raft_endpoint, worker.boot_id) if worker else (node_id, None, 0))
        return peers

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
                secured=self._secured,
            )
        )

    def _remove_leftovers(self) -> None:
        """In a thread of its own: unlinking gigabytes takes longer than the others want to wait."""
        threading.Thread(target=self._data.remove_leftovers, daemon=True).start()
