"""What nodes say to each other and clients never send. No sockets.

    supervisor -> supervisor    NodeState, every GOSSIP_S and when something changed; answered where its
                                sender should know who is here, or is refused
    supervisor -> supervisor    ImageRequest / ImageResponse (payload: the image as bytes)
    supervisor -> controller    RegisterNodeRequest / RegisterNodeResponse
    supervisor -> controller    ReportConfigurationsRequest / ReportConfigurationsResponse (reassignments.py)

Endpoints and boot ids of workers are soft state: they travel here only and are never written to a
log, so that a partition's majority can re-form while the metadata has no quorum.
"""

from __future__ import annotations

import re

import msgspec

from raftlog.protocol.body import Body, ResponseBody
from raftlog.types import Endpoint, ReplicaStatus, parse_ipv6

_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}")  # what ZeroMQ takes without an error


def is_endpoint(endpoint: Endpoint) -> bool:
    """Whether something could listen there: what others claim is checked BEFORE it is connected to."""
    if ":" in endpoint.host:
        try:
            parse_ipv6(endpoint.host)
        except ValueError:
            return False
    elif _HOST.fullmatch(endpoint.host) is None:
        return False
    return 1 <= endpoint.port <= 65535


class WorkerState(msgspec.Struct, array_like=True, kw_only=True):
    """One hosted replica. endpoint None and boot_id 0 while its worker is not running.

    `raft_port`: where, at the endpoint's host, it takes what the other replicas send (raftlog/network/stream.py).
    """

    endpoint: Endpoint | None
    boot_id: int
    status: ReplicaStatus
    raft_port: int = 0

    @property
    def raft_endpoint(self) -> Endpoint | None:
        return Endpoint(self.endpoint.host, self.raft_port) if self.endpoint else None


FEATURES = 1
"""What this version reads beyond the first one; 1: configurations among a partition's entries, and plans."""
UNREGISTERED = -1  # the metadata log does not list the directory yet


class Run(msgspec.Struct, frozen=True, array_like=True):
    """A process that took part with a data directory, counted from 1. `number` 0: none has yet."""

    number: int = 0
    boot_id: int = 0


class KnownRun(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """The newest run that is known of a node, in which data directory.

    `registered_offset`: where the metadata log lists that directory first. `live_boot_id`: of the process that was
    heard from lately, 0 if none was.
    """

    node_id: int
    directory_id: str
    registered_offset: int
    run: Run
    live_boot_id: int = 0

    def supersedes(self, other: KnownRun) -> bool:
        """Whether `other` may not take part beside this one: it is older, or counted the same start, from a copy."""
        if self.directory_id == other.directory_id:
            return self.run.number >= other.run.number and self.run != other.run
        # One that the metadata log does not list yet is no older one: it is new, since a disk was lost.
        return UNREGISTERED < other.registered_offset < self.registered_offset


class NodeState(Body):
    """All that a supervisor says of itself.

    cluster_id is empty until a cluster is formed. `voters` are the nodes of `--peers` or of the
    cluster; `founders` the (node id, directory id) that this node had heard of when it began to form
    the cluster, empty before. A voter that comes with another directory than its founding one has
    lost its disk.

    `boot` counts the starts of the node with this directory, `sequence` what this start has said: of two
    states of one directory the one with the higher (boot, sequence) is newer, whichever arrives last.

    `starting`: it runs no worker yet, and asks what the others know of its node id and directory. `run`: of this
    process, or the one before while it is starting. `known`: what this node remembers of all others
    (raftlog/node/identity.py). `kafka`: where Kafka's clients reach it. `weak_spots`: numbers of Weakness.
    `features`: what its version reads, see FEATURES; a version without the field reads nothing of it.
    """

    node_id: int
    boot_id: int
    cluster_id: str
    directory_id: str
    endpoint: Endpoint
    voters: list[int]
    founders: list[tuple[int, str]]
    image_offset: int
    workers: list[WorkerState]
    leaving: bool = False  # a clean stop: silent from now on
    boot: int = 0
    sequence: int = 0
    starting: bool = False
    registered_offset: int = UNREGISTERED
    run: Run = Run()
    known: list[KnownRun] = []
    kafka: Endpoint | None = None
    weak_spots: list[int] = []
    features: int = 0


class NodeStateResponse(ResponseBody):
    """Why the state does not count, or who is here: the state of the supervisor that was told. None: it is known."""

    state: NodeState | None = None


class ImageRequest(Body):
    """Asks for the metadata image if it reaches beyond `image_offset`."""

    cluster_id: str
    image_offset: int


class ImageResponse(ResponseBody):
    """Payload frame 1: the image. Not answered at all when there is nothing newer."""

    image_offset: int = 0


class RegisterNodeRequest(Body):
    """A node with this data directory is there now: the metadata shall list it, under this address."""

    cluster_id: str
    node_id: int
    directory_id: str
    endpoint: Endpoint
    features: int = 0


class RegisterNodeResponse(ResponseBody):
    pass
