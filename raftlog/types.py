"""The nouns that every layer shares. Data only; nothing here does I/O.

Ranges are [start, end). Times are milliseconds since the epoch (`…_ms`) or seconds of a
monotonic clock (`…_s`). A topic id is 16 bytes (a uuid4); a boot id is a random 63-bit integer
chosen by a process when it starts.
"""

from __future__ import annotations

import enum
import ipaddress
from typing import NamedTuple

import msgspec

METADATA_TOPIC = "__cluster_metadata"
OFFSETS_TOPIC = "__consumer_offsets"
INTERNAL_TOPICS = frozenset((METADATA_TOPIC, OFFSETS_TOPIC))  # only raftlog writes there
# The metadata partition exists before there is a log that could name its id.
METADATA_TOPIC_ID = b"raftlog-metadata"

NOBODY = -1
"""In the place of a node id: nobody leads, nobody was voted for."""

LATEST_TIMESTAMP = -1
"""ListOffsets: the high watermark (KIP-79)."""
EARLIEST_TIMESTAMP = -2
"""ListOffsets: the log start offset (KIP-79)."""
NEWEST_TIMESTAMP = -3
"""ListOffsets: the record with the largest timestamp, the first one of several (KIP-734)."""
EARLIEST_LOCAL_TIMESTAMP = -4
"""ListOffsets: as EARLIEST_TIMESTAMP, since no record lies elsewhere than on the replicas' disks (KIP-405)."""


Buffer = bytes | bytearray | memoryview


class TopicPartition(NamedTuple):
    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition}"


class Endpoint(NamedTuple):
    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def split_host_port(text: str) -> tuple[str, str]:
    """`host:port`, `[IPv6 address]:port`, or either without `:port`, which then is "". Raises ValueError."""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError(f"{text!r} is not [ADDRESS]:PORT")
        return parse_ipv6(host), rest[1:]
    host, _, port = text.partition(":")
    if ":" in port:
        raise ValueError(f"{text!r} is ambiguous: an IPv6 address is written in brackets, as [::1]:7071")
    return host, port


def parse_ipv6(host: str) -> str:
    """In its one canonical form. Raises ValueError. One with a zone (`%eth0`) means something else on each machine."""
    if "%" in host:
        raise ValueError(f"{host} has a zone, which means something else on each machine: use an address without one")
    try:
        return str(ipaddress.IPv6Address(host))
    except ValueError:
        raise ValueError(f"{host!r} is not an IPv6 address") from None


class Role(enum.IntEnum):
    FOLLOWER = 0
    CANDIDATE = 1
    LEADER = 2
    WITNESS = 3  # votes and counts entries, holds no records, never stands


class Flush(enum.StrEnum):
    """When an append counts as durable: after fdatasync, or once the page cache has it."""

    ALWAYS = "always"
    OS = "os"


class Doubt(enum.IntEnum):
    """Why a replica may lack records that it once acknowledged (design page, section 3)."""

    NONE = 0
    CUT_TAIL = 1  # a damaged tail was cut at recovery
    SHORT = 2  # the log ends below its own commit bound
    CORRUPT = 3  # a batch below the end does not match its checksum
    LOST_DISK = 4  # the directory is gone, though this replica existed
    LOST_STATE = 5  # both copies of `state` are gone: even the term is unknown


class CleanupPolicy(enum.IntFlag):
    """What becomes of closed segments: deleted by age and size, compacted to the last record of each key, or both."""

    DELETE = 1
    COMPACT = 2


class TimestampType(enum.IntEnum):
    """Whose clock a record's time is of: its producer's, or its leader's when it is appended."""

    CREATE_TIME = 0
    LOG_APPEND_TIME = 1


class TopicConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of one topic. Kafka's spelling (`retention.ms`) is accepted where users write them."""

    segment_bytes: int = 128 * 1024 * 1024  # a segment is rolled at this size
    segment_ms: int = 7 * 24 * 3600 * 1000  # or at this age
    retention_ms: int = 7 * 24 * 3600 * 1000  # whole segments whose records are all older go; -1: never
    retention_bytes: int = -1  # of a partition: the oldest segments go while there is more; -1: no limit
    max_record_bytes: int = 1024 * 1024  # the largest batch that a producer may send; Kafka's `max.message.bytes`
    # `delete`: segments go by age and size; `compact`: the last record of each key stays; `compact,delete`: both
    cleanup_policy: CleanupPolicy = CleanupPolicy.DELETE
    delete_retention_ms: int = 24 * 3600 * 1000  # how long a compacted log keeps a record without a value at least
    message_timestamp_type: TimestampType = TimestampType.CREATE_TIME  # `LogAppendTime`: all times are the leader's
    message_timestamp_after_max_ms: int = 3600 * 1000  # how far ahead of its leader's clock a record may be (KIP-937)
    min_insync_replicas: int = 1  # acks=all is refused while fewer replicas are in sync, the leader among them


class Half(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A set of voters that needs a majority of its own. A group has one, or two while its voters change."""

    replicas: tuple[int, ...]  # node ids, the preferred leader first
    witnesses: tuple[int, ...] = ()

    @property
    def ids(self) -> tuple[int, ...]:
        return self.replicas + self.witnesses


NO_VOTERS = Half(())


class Plan(msgspec.Struct, array_like=True, frozen=True, kw_only=True):
    """What the metadata wants of one partition's voters; its leader carries it out.

    `number`: where the metadata log says it, so a later plan has a higher one. `called_off`: back to the old voters.
    `bytes_per_s`: how fast new replicas are fed; 0: LEARNER_BYTES_PER_S. `then`: what to go on with once `target` has
    the partition, since in one change no node becomes another kind. `witnesses_before`: how many there were, if so.
    """

    number: int
    target: Half
    called_off: bool = False
    bytes_per_s: int = 0
    then: tuple[Half, ...] = ()
    witnesses_before: int = 0

    @property
    def wish(self) -> Half:
        """What it comes to in the end."""
        return self.then[-1] if self.then else self.target


class ReplicaSpec(msgspec.Struct, frozen=True, kw_only=True):
    """All that a worker has to know of the one replica that it hosts.

    `replicas` are the nodes that hold the records, the preferred leader first; with the `witnesses` they are the voters
    of the Raft group. `doubt` is what the node already knows when it starts the replica (LOST_DISK, or NONE).
    """

    topic: str
    topic_id: bytes
    partition: int
    replicas: tuple[int, ...]
    witnesses: tuple[int, ...] = ()
    config: TopicConfig = TopicConfig()

    @property
    def half(self) -> Half:
        return Half(self.replicas, self.witnesses)

    @property
    def voters(self) -> tuple[int, ...]:
        return self.half.ids

    @property
    def name(self) -> str:
        return f"{self.topic}-{self.partition}"


class GroupStatus(msgspec.Struct, array_like=True, frozen=True, kw_only=True):
    """What one member knows of its group's voters, once they have changed or are to change.

    `term`, `index`: of the configuration `halves`, the newest one that is known here to be committed; 0, 0 and no
    halves: the group is as it was founded. `newest`: (term, index) of the newest one of its log, committed or not, and
    `names`: that one names this member. Of a leader that was told of a plan: its number, why it has not begun with it,
    and up to which Raft index each learner holds the log.
    """

    term: int
    index: int
    halves: tuple[Half, ...]
    newest: tuple[int, int]
    names: bool
    plan: int = -1
    why_not: str = ""
    learners: tuple[tuple[int, int], ...] = ()


class ReplicaStatus(msgspec.Struct, kw_only=True, array_like=True):
    """What one replica says of itself; soft state, gossiped between supervisors."""

    topic: str
    topic_id: bytes
    partition: int
    node_id: int
    role: Role = Role.FOLLOWER
    leader_id: int = -1
    leader_epoch: int = 0
    log_start_offset: int = 0
    high_watermark: int = 0
    log_end_offset: int = 0
    size_bytes: int = 0
    segments: int = 0
    doubt: Doubt = Doubt.NONE
    doubt_reason: str = ""
    in_sync: tuple[int, ...] = ()  # node ids, as the leader sees them; empty on followers
    error: str = ""  # why the worker refuses writes or cannot start; empty when healthy
    fsyncs: int = 0
    truncations: int = 0  # of the tail since this directory was made, damaged or in conflict with the leader
    worker_pid: int = 0  # the process that hosts this replica, and no other
    last_index: int = 0  # Raft index and term of its last entry: who may lead, and who may not
    last_term: int = 0
    corruptions: int = 0  # how often damage was found since this directory was made
    commit_bound: int = 0  # Raft index up to which it has known entries to be committed and held them
    cuts: int = 0  # damaged tails that a start cut since this directory was made
    group: GroupStatus | None = None  # None: as it was founded, and nothing else is wanted
    asleep: bool = False  # nothing happens in its group, which has agreed to be silent until something does
