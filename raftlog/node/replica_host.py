"""The replicas of one node: keeps meta.json, the directories and the running workers in step with the image."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection

import msgspec

from raftlog.controller.image import Image
from raftlog.node import channel as ch
from raftlog.node.gossip import Gossip, ReplicaKey
from raftlog.node.hosting import METADATA_KEY, key_of, plan_hosting
from raftlog.node.meta import DataDirectory, HostedReplica
from raftlog.node.processes import Child, start_worker
from raftlog.node.settings import NodeSettings
from raftlog.node.workers import Ended, Failure, OpenedReplica, Peers, Published, Workers

log = logging.getLogger(__name__)


class ReplicaHost:
    """`on_image` takes the bytes of an image that the metadata's worker has replayed."""

    def __init__(self, settings: NodeSettings, data: DataDirectory, on_image: Callable[[bytes], None]) -> None:
        self._settings = settings
        self._data = data
        self._on_image = on_image
        self._live: list[int] = []
        self._cluster_id = ""
        self.workers = Workers(settings.node_id, settings.advertise.host, self._start)
        self._remove_leftovers()

    def follow(self, image: Image) -> None:
        """Start what is listed, list what the image adds, stop what it deletes."""
        plan = plan_hosting(self._data.meta, image)
        if plan.add:
            meta = self._data.meta
            # Listed BEFORE the workers start, so that a crash in between is no loss.
            self._data.save(msgspec.structs.replace(meta, replicas=(*meta.replicas, *plan.add)))
        known = self.workers.specs
        for hosted in self._data.meta.replicas:
            if key_of(hosted) not in known:
                self.workers.host(hosted)
        for hosted in plan.remove:
            if not self.workers.is_stopping(key_of(hosted)):
                log.info("%s was deleted", hosted.spec.name)
                self.workers.stop(key_of(hosted), time.monotonic())

    def tick(self, ready: Collection[ReplicaKey]) -> bool:
        """True when a replica is gone, so that its name is free for the next."""
        gone = False
        for event in self.workers.tick(ready, time.monotonic()):
            match event:
                case OpenedReplica():
                    self._on_opened(event.key)
                case Published():
                    self._on_image(event.image)
                case Failure():
                    log.error("%s: %s; starting again in %.1f s", event.name, event.text, event.again_in_s)
                case Ended(key, deleted=True):
                    self._on_deleted(key)
                    gone = True
        return gone

    def tell(self, gossip: Gossip, now_s: float, cluster_id: str) -> None:
        """Where the other replicas are, to the workers that do not know yet."""
        for key, spec in self.workers.specs.items():
            peers: Peers = []
            for node_id in spec.replicas:
                if node_id != self._settings.node_id:
                    worker = gossip.worker_of(node_id, key)
                    peers.append((node_id, worker.endpoint, worker.boot_id) if worker else (node_id, None, 0))
            self.workers.tell_peers(key, peers)
            if cluster_id != self._cluster_id:
                self.workers.tell(key, ch.ClusterNamed(cluster_id=cluster_id))
        self._cluster_id = cluster_id
        live = sorted(gossip.live(now_s))
        if live != self._live:
            for node_id in set(live) - set(self._live):
                log.info("node %d is there", node_id)
            for node_id in set(self._live) - set(live):
                log.warning("node %d is silent", node_id)
            self._live = live
            self.workers.tell(METADATA_KEY, ch.Live(nodes=live))

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
                log_level=self._settings.log_level,
            )
        )

    def _on_opened(self, key: ReplicaKey) -> None:
        meta = self._data.meta
        if not self._hosted(key).created:
            replicas = tuple(
                msgspec.structs.replace(hosted, created=True) if key_of(hosted) == key else hosted
                for hosted in meta.replicas
            )
            # Listed as created BEFORE anyone learns where the worker is.
            self._data.save(msgspec.structs.replace(meta, replicas=replicas))
        self.workers.announce(key)
        if key == METADATA_KEY:
            self.workers.tell(key, ch.Live(nodes=self._live))

    def _on_deleted(self, key: ReplicaKey) -> None:
        # Its name is free BEFORE it is unlisted: a crash in between finds a replica to be deleted again.
        self._data.set_aside(self._hosted(key).spec)
        meta = self._data.meta
        replicas = tuple(hosted for hosted in meta.replicas if key_of(hosted) != key)
        self._data.save(msgspec.structs.replace(meta, replicas=replicas))
        self._remove_leftovers()

    def _remove_leftovers(self) -> None:
        """In a thread of its own: unlinking gigabytes takes longer than the others want to wait."""
        threading.Thread(target=self._data.remove_leftovers, daemon=True).start()
