"""The data directory of a node: its lock, its identity and the list of replicas that it hosts.

    node.lock     flock'ed while a node runs here; holds its process id for the error message
    meta.json     the Meta below, replaced whole: tmp, fsync, rename, fsync of the directory
    image.cache   the newest metadata image seen; derived, not synced, may be missing
    <replica>/    one directory per hosted replica, the worker's own
    *.deleted     what is being removed

meta.json tells a replica that is new from one that was lost:

    listed with created=false   BEFORE the worker starts for the first time: a missing directory is new
    listed with created=true    BEFORE others learn where the worker is: a missing directory is a loss

So nothing that a replica ever acknowledged can be forgotten by finding its directory empty.
"""

from __future__ import annotations

import fcntl
import os
import threading
import uuid

import msgspec

from raftlog.controller.decisions import Founder
from raftlog.controller.image import Image, decode_image, encode_image
from raftlog.errors import ConfigError, CorruptLogError, StorageError
from raftlog.protocol.nodes import UNREGISTERED, KnownRun, Run
from raftlog.storage.disk import OsDisk
from raftlog.types import Doubt, Endpoint, ReplicaSpec

FORMAT_VERSION = 1
DELETED_SUFFIX = ".deleted"


class HostedReplica(msgspec.Struct, frozen=True, kw_only=True):
    """A replica that the node hosts, as meta.json lists it. `spec` has the voters of when it was listed first.

    `created_offset`: where the metadata log creates the topic, or names this node for it last; -1 for the metadata.

    `doubt` is what was known when it was assigned; it counts until the worker has it in its `state`.
    `config_offset`: where the metadata log sets the topic's settings as `spec` has them. `witness`: it came to be one
    by a plan; where the partition was made with it, `spec` says so.
    """

    spec: ReplicaSpec
    created_offset: int
    created: bool = False
    doubt: Doubt = Doubt.NONE
    config_offset: int = -1
    witness: bool = False

    def is_witness(self, node_id: int) -> bool:
        return self.witness or node_id in self.spec.witnesses


class Meta(msgspec.Struct, frozen=True, kw_only=True):
    """The contents of meta.json.

    `voters` and `founders` are empty until the node knows its cluster; `peers` are addresses last used.

    `boots`: how often the node was started with this directory. `run`: the newest process that took part with it.
    `registered_offset`: where the metadata log lists this directory. `known_runs`: the newest run of each other node.
    `followed_offset`: the end of the newest image by which replicas were listed or unlisted; none older is followed.
    """

    format_version: int
    node_id: int
    directory_id: str
    cluster_id: str = ""
    voters: tuple[int, ...] = ()
    founders: tuple[Founder, ...] = ()
    peers: dict[int, Endpoint] = {}
    replicas: tuple[HostedReplica, ...] = ()
    boots: int = 0
    run: Run = Run()
    registered_offset: int = UNREGISTERED
    known_runs: dict[int, KnownRun] = {}
    followed_offset: int = 0


_ADVICE = "put a copy of it back, or start with an empty data directory, as after a lost disk"


class _Format(msgspec.Struct):
    format_version: int


class DataDirectory:
    """Holds the lock until `close`. Raises ConfigError for every reason not to start here."""

    def __init__(self, path: str, node_id: int) -> None:
        self.path = os.path.abspath(path)
        self._disk = OsDisk()
        self._removing = threading.Lock()
        try:
            self._disk.make_dir(self.path)
            self._lock = self._take_lock()
        except StorageError as error:
            raise ConfigError(f"cannot use the data directory: {error}") from None
        except OSError as error:
            raise ConfigError(f"cannot use the data directory {path}: {error.strerror}") from None
        try:
            self.meta = self._load(node_id)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        os.close(self._lock)

    # --- meta.json -----------------------------------------------------------------------------
    def save(self, meta: Meta) -> None:
        """Durable when this returns."""
        target = os.path.join(self.path, "meta.json")
        self._replace(target, msgspec.json.format(msgspec.json.encode(meta), indent=1), sync=True)
        self._disk.sync_dir(self.path)
        self.meta = meta

    def _load(self, node_id: int) -> Meta:
        path = os.path.join(self.path, "meta.json")
        if not self._disk.exists(path):
            leftover = [name for name in self._disk.list(self.path) if self._is_replica(name)]
            if leftover:
                raise ConfigError(
                    f"{self.path} holds {leftover[0]} but no meta.json: it is damaged, or not a node's; {_ADVICE}"
                )
            meta = Meta(format_version=FORMAT_VERSION, node_id=node_id, directory_id=uuid.uuid4().hex)
            # The identity is durable BEFORE anyone hears of it.
            self.save(meta)
            return meta
        try:
            data = self._disk.read_whole(path)
            version = msgspec.json.decode(data, type=_Format).format_version
            if version > FORMAT_VERSION:
                raise ConfigError(
                    f"{self.path} was written by a newer raftlog (format {version}; this one reads {FORMAT_VERSION})"
                )
            meta = msgspec.json.decode(data, type=Meta)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path} is damaged: {error}; {_ADVICE}") from None
        except StorageError as error:
            raise ConfigError(f"cannot use the data directory: {error}") from None
        if meta.node_id != node_id:
            raise ConfigError(f"{self.path} belongs to node {meta.node_id}, not to node {node_id}")
        return meta

    def _is_replica(self, name: str) -> bool:
        directory = os.path.join(self.path, name)
        return os.path.exists(os.path.join(directory, "state.a")) or os.path.exists(os.path.join(directory, "state.b"))

    # --- replicas' directories -----------------------------------------------------------------
    def replica_path(self, spec: ReplicaSpec) -> str:
        return os.path.join(self.path, spec.name)

    def doubt_of(self, hosted: HostedReplica) -> Doubt:
        """What its worker has to be told when it opens the directory."""
        # Only a directory without `state` asks for it. Whether the directory is there says nothing: a start
        # that failed for want of room may have made it anew.
        return Doubt.LOST_DISK if hosted.created else hosted.doubt

    def has_lost(self, hosted: HostedReplica) -> bool:
        """Whether a replica that was there has nothing left of what it must never forget."""
        return hosted.created and not self._is_replica(hosted.spec.name)

    def set_aside(self, spec: ReplicaSpec) -> None:
        """Rename a replica's directory, so that its name is free at once. `remove_leftovers` ends it."""
        path = self.replica_path(spec)
        if self._disk.exists(path):
            self._disk.rename(path, os.path.join(self.path, f"{uuid.uuid4().hex}{DELETED_SUFFIX}"))
            self._disk.sync_dir(self.path)

    def remove_leftovers(self) -> None:
        """From any thread: one at a time, or two would remove the same."""
        with self._removing:
            for name in self._disk.list(self.path):
                if name.endswith(DELETED_SUFFIX):
                    self._disk.remove_tree(os.path.join(self.path, name))

    # --- the cached image ------------------------------------------------------------------------
    def cache_image(self, image: Image) -> None:
        """So that clients find their partitions while the metadata has no quorum. Losing it costs nothing."""
        self._replace(os.path.join(self.path, "image.cache"), encode_image(image), sync=False)

    def cached_image(self) -> Image:
        path = os.path.join(self.path, "image.cache")
        try:
            image = decode_image(self._disk.read_whole(path))
        except (StorageError, CorruptLogError):
            return Image()
        return image if image.cluster_id == self.meta.cluster_id != "" else Image()

    # --- files -----------------------------------------------------------------------------------
    def _replace(self, target: str, data: bytes, *, sync: bool) -> None:
        temporary = f"{target}.tmp"
        if self._disk.exists(temporary):
            self._disk.remove(temporary)
        file = self._disk.open(temporary, create=True)
        try:
            file.append(data)
            if sync:
                file.sync()
        finally:
            file.close()
        self._disk.rename(temporary, target)

    def _take_lock(self) -> int:
        descriptor = os.open(os.path.join(self.path, "node.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 32).decode(errors="replace").strip() or "another process"
            os.close(descriptor)
            raise ConfigError(f"{self.path} is in use by a running node (process {holder})") from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        return descriptor
