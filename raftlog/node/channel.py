"""Messages between a supervisor and one of its workers or doors, over a socket pair. Never blocks, never pickles.

    length uint32, big-endian | msgpack of one tagged struct

One that does not read is ended by its supervisor once LOCAL_QUEUE_BYTES_MAX wait for it.
"""

from __future__ import annotations

import socket
import struct
from typing import Any, Generic, TypeVar

import msgspec

from raftlog.limits import LOCAL_MESSAGE_BYTES_MAX, LOCAL_QUEUE_BYTES_MAX
from raftlog.node.log_lines import LogStyle
from raftlog.protocol.cluster import MetadataResponse
from raftlog.protocol.report import Figures, NodeReport
from raftlog.security.credentials import Credentials
from raftlog.security.identity import NODE, Identity
from raftlog.security.policy import Access, Security
from raftlog.types import Doubt, Endpoint, Flush, Half, Plan, ReplicaSpec, ReplicaStatus, TopicConfig

_LENGTH = struct.Struct(">I")
_READ_BYTES = 256 * 1024
UNSENT_RETRY_S = 0.01  # the pipe is full: it is tried again after this, since nobody polls it for writing


class _Local(msgspec.Struct, array_like=True, tag=True, kw_only=True):
    pass


class Secured(msgspec.Struct, frozen=True):
    """The directory with this node's certificate, and the name of the cluster in it: read once, by the supervisor."""

    directory: str
    cluster: str
    permissive: bool

    def credentials(self, node_id: int) -> Credentials:
        """Raises ConfigError."""
        identity = Identity(self.cluster, NODE, str(node_id))
        return Credentials(self.directory, identity, permissive=self.permissive)


def secured_by(credentials: Credentials | None) -> Secured | None:
    if credentials is None:
        return None
    assert credentials.identity is not None, "of a node"
    return Secured(credentials.directory, credentials.identity.cluster, credentials.permissive)


# --- what a worker is started with -----------------------------------------------------------
class WorkerConfig(msgspec.Struct, kw_only=True):
    """What a worker is started with. `founders` and the cluster's name matter to the metadata's worker only.

    `remembered`: with whom a replica that has lost all it had may have acknowledged; nobody: with the voters of `spec`.
    """

    node_id: int
    cluster_id: str
    spec: ReplicaSpec
    directory: str
    doubt: Doubt
    flush: Flush
    host: str
    ports: tuple[int, int] | None  # [first, end)
    founders: list[tuple[int, str, Endpoint]]
    log_style: LogStyle
    access: Access
    security: Security
    is_witness: bool
    remembered: Half
    secured: Secured | None = None


class DoorConfig(msgspec.Struct, kw_only=True):
    """What a process of Kafka's door is started with. `node`: where its own supervisor answers."""

    node_id: int
    node: Endpoint
    data: str
    connections_max: int
    connections_per_address: int
    auto_create_topics: bool
    max_reauth_ms: int
    log_style: LogStyle
    access: Access
    secured: Secured | None = None


class HttpConfig(msgspec.Struct, kw_only=True):
    """What the process of the HTTP address is started with. `node`: where its own supervisor answers."""

    node_id: int
    node: Endpoint
    data: str
    read_only: bool
    log_style: LogStyle
    access: Access
    secured: Secured | None = None


# --- supervisor to door --------------------------------------------------------------------------
class ClusterNews(_Local, tag="ClusterNews"):
    """All topics and nodes as they are known now, and (topic id, partition, boot id) of each worker of this node."""

    cluster: MetadataResponse
    workers: list[tuple[bytes, int, int]]


class Told(_Local, tag="Told"):
    """The answer to the question `number`."""

    number: int
    report: NodeReport


# --- supervisor to worker ----------------------------------------------------------------------
class Reachable(_Local, tag="Reachable"):
    """Where the workers of the partition's other replicas take Raft's messages; boot id 0 and None: not running.

    Voters, whoever the metadata names, and whoever says that it hosts the partition: a replica that was away does not
    know who has come meanwhile, and has to hear it. A node that is not listed any more runs none.

    `silent`: nodes of it that the supervisor does not hear, though no connection broke.
    """

    replicas: list[tuple[int, Endpoint | None, int]]
    silent: list[int] = []


class Wish(_Local, tag="Wish"):
    """What the metadata wants of the partition's voters; whoever leads carries it out.

    `expected`: (term, index) of the configuration that the assignment is from. `named`: everyone whom the metadata
    names, once that is known to be newer than what this node may have lost; else nobody.
    """

    plan: Plan | None
    expected: tuple[int, int]
    named: tuple[int, ...]


class Live(_Local, tag="Live"):
    """For the controller: which nodes have been heard from; `able`: which have said that they read all of FEATURES."""

    nodes: list[int]
    able: list[int]


class ClusterNamed(_Local, tag="ClusterNamed"):
    cluster_id: str


class AcceptLoss(_Local, tag="AcceptLoss"):
    """The operator has decided that this replica is the truth."""


class Ping(_Local, tag="Ping"):
    """To one that sleeps: say that you work, and look after your log."""


class Stir(_Local, tag="Stir"):
    """A client gets no answer from the partition's leader: if the group sleeps, it wakes."""


class SetConfig(_Local, tag="SetConfig"):
    """The topic has other settings from now on."""

    config: TopicConfig


class SecurityNews(_Local, tag="SecurityNews"):
    """All users and rules as they are known now; to doors as well."""

    security: Security


class SetLogLevel(_Local, tag="SetLogLevel"):
    level: str


class Stop(_Local, tag="Stop"):
    pass


# --- worker to supervisor ----------------------------------------------------------------------
class Opened(_Local, tag="Opened"):
    """The log is open and the ports are bound; the directory can be told from an empty one now."""

    port: int
    raft_port: int
    boot_id: int


class Report(_Local, tag="Report"):
    status: ReplicaStatus


class Pong(_Local, tag="Pong"):
    """The worker works."""


class Counted(_Local, tag="Counted"):
    """What the process has counted since it began."""

    figures: Figures


class ImageReport(_Local, tag="Image"):
    image: bytes


class Failed(_Local, tag="Failed"):
    """Last words: why the worker could not start or cannot go on."""

    text: str


# --- door to supervisor ------------------------------------------------------------------------
class Asked(_Local, tag="Asked"):
    """What does this node say of itself?"""

    number: int


ToWorker = (
    Reachable | Wish | Live | ClusterNamed | AcceptLoss | Ping | Stir | SetConfig | SecurityNews | SetLogLevel | Stop
)
ToDoor = ClusterNews | SecurityNews | Told | SetLogLevel | Stop
ToSupervisor = Opened | Report | Pong | ImageReport | Failed | Counted | Asked

_Incoming = TypeVar("_Incoming")
_encode = msgspec.msgpack.Encoder().encode

encode_config = _encode
decode_http_config = msgspec.msgpack.Decoder(HttpConfig).decode
decode_door_config = msgspec.msgpack.Decoder(DoorConfig).decode
decode_config = msgspec.msgpack.Decoder(WorkerConfig).decode
# Made where they are imported: in a worker each would read the annotations of all messages anew.
_decoders: dict[object, msgspec.msgpack.Decoder[Any]] = {
    incoming: msgspec.msgpack.Decoder(incoming) for incoming in (ToWorker, ToDoor, ToSupervisor)
}


class Channel(Generic[_Incoming]):
    """One end. `closed` once the other end is gone or does not read."""

    def __init__(self, end: socket.socket, incoming: object) -> None:
        """`incoming`: the type of what arrives, ToWorker or ToSupervisor."""
        end.setblocking(False)
        self._socket = end
        self._decoder: msgspec.msgpack.Decoder[_Incoming] = _decoders[incoming]
        self._received = bytearray()
        self._to_send = bytearray()
        self.closed = False

    def fileno(self) -> int:
        return self._socket.fileno()

    @property
    def pending(self) -> bool:
        """Something waits to be sent: call `flush` again soon."""
        return bool(self._to_send) and not self.closed

    def send(self, message: ToWorker | ToDoor | ToSupervisor) -> None:
        data = _encode(message)
        self._to_send += _LENGTH.pack(len(data))
        self._to_send += data
        self.flush()
        if len(self._to_send) > LOCAL_QUEUE_BYTES_MAX:
            self.closed = True

    def flush(self) -> None:
        while self._to_send and not self.closed:
            try:
                sent = self._socket.send(self._to_send)
            except BlockingIOError:
                return
            except OSError:
                self.closed = True
                return
            del self._to_send[:sent]

    def receive(self) -> list[_Incoming]:
        """All that has arrived. Sets `closed` at the end of the stream."""
        while not self.closed:
            try:
                data = self._socket.recv(_READ_BYTES)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            if not data:
                self.closed = True
            self._received += data
        return self._take_messages()

    def _take_messages(self) -> list[_Incoming]:
        messages = []
        start = 0
        while len(self._received) - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._received, start)
            assert length <= LOCAL_MESSAGE_BYTES_MAX, "both ends are ours"
            end = start + _LENGTH.size + length
            if len(self._received) < end:
                break
            messages.append(self._decoder.decode(self._received[start + _LENGTH.size : end]))
            start = end
        del self._received[:start]
        return messages

    def close(self) -> None:
        self.closed = True
        self._socket.close()
