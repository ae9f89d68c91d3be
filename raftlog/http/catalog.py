"""The metrics that a node exports: name, kind, labels and meaning. The reference page is made of this table.

Names follow Prometheus' conventions: base units, `_total` for what only grows. Labels are bounded: they name what the
node hosts, APIs and codes of the protocols, and client names up to a limit.
"""

from __future__ import annotations

from typing import NamedTuple

COUNTER, GAUGE, HISTOGRAM = "counter", "gauge", "histogram"
PREFIX = "raftlog_"
PLACE = ("topic", "partition")
GROUP = ("group", "topic", "partition")


class Metric(NamedTuple):
    """A metric: its name, kind, labels and meaning. `name` without prefix, and without `_total`."""

    name: str
    kind: str
    labels: tuple[str, ...]
    meaning: str

    @property
    def full_name(self) -> str:
        return f"{PREFIX}{self.name}{'_total' if self.kind == COUNTER else ''}"


METRICS = (
    # The node
    Metric("build_info", GAUGE, ("version",), "1; the version of raftlog that runs"),
    Metric("node_ready", GAUGE, (), "1 when the node should get work: what `/health/ready` says"),
    Metric("nodes", GAUGE, (), "nodes that the metadata lists"),
    Metric("nodes_alive", GAUGE, (), "of these, those that this node hears, itself included"),
    Metric("replicas", GAUGE, ("role",), "replicas hosted here: leader, follower, candidate, witness"),
    Metric("replicas_failed", GAUGE, (), "replicas whose worker does not run or refuses writes"),
    Metric("replicas_doubtful", GAUGE, (), "replicas that may lack what they acknowledged, and count for nothing"),
    Metric("superuser_plain_logins", COUNTER, (), "logins of superusers with PLAIN, which sends the password itself"),
    # Requests
    Metric(
        "requests",
        COUNTER,
        ("door", "api"),
        "requests taken. `door`: `native` (a worker's own port), `inner` (a "
        "worker, from Kafka's door), `node` (the node's address), `kafka`",
    ),
    Metric(
        "request_handling_seconds",
        COUNTER,
        ("door", "api"),
        "time in handlers, without what waits for a disk or for other nodes",
    ),
    Metric(
        "errors",
        COUNTER,
        ("door", "code"),
        "answers with an error, by its name in Kafka's protocol. `door`: "
        "`worker`, `node`, `kafka`; an error of one partition in an answer of Kafka's door is its worker's",
    ),
    Metric(
        "refused_messages",
        COUNTER,
        ("door",),
        "messages that made no sense; of Kafka's door: connections that it had to end",
    ),
    Metric("connections", GAUGE, ("door",), "open connections of clients"),
    Metric("plain_connections", GAUGE, ("door",), "those of them that are not encrypted"),
    Metric(
        "refused_connections",
        COUNTER,
        ("door", "reason"),
        "connections that were not taken, or ended. `reason`: `connections` (there were too many), `address` (of this "
        "one), `handshakes` (too many were under way, or it took too long), `descriptors` (none was left); at the own "
        "doors also `identity` (no TLS, or no good certificate), `login` (not in time), `answers` (it took none), "
        "`unfinished` (too many bytes of messages that were half there)",
    ),
    Metric("failed_logins", COUNTER, ("door",), "logins that failed; each is answered late"),
    Metric(
        "throttles",
        COUNTER,
        ("door", "user", "client"),
        "how often a quota has held a client back, by user and client id; `others` beyond 50 of them",
    ),
    Metric("throttle_seconds", COUNTER, ("door", "user", "client"), "for how long, in all"),
    Metric(
        "sessions",
        GAUGE,
        ("door", "client", "version"),
        "open connections by the client's software, or its client "
        "id where it does not name one; `others` beyond 50 names",
    ),
    Metric(
        "kafka_request_seconds",
        HISTOGRAM,
        ("api",),
        "from a request at Kafka's door to its answer; a fetch may wait for records",
    ),
    Metric(
        "produce_stage_seconds",
        HISTOGRAM,
        ("stage",),
        "stages of each turn of a leader that appends: `queue` "
        "(until the append), `append` (to the page cache), `sync` (fdatasync), `replicate` (until a majority and "
        "every in-sync replica hold it), `answer` (to the connections)",
    ),
    # Partitions
    Metric("partition_leader", GAUGE, PLACE, "1 where the replica here leads"),
    Metric("partition_leader_epoch", GAUGE, PLACE, "the newest epoch that is known here: it rises with each election"),
    Metric("partition_asleep", GAUGE, PLACE, "1 where the replica here sleeps, since nothing happens in the partition"),
    Metric("partition_elections", COUNTER, PLACE, "elections that the replica here has won"),
    Metric("partition_elected_timestamp_seconds", GAUGE, PLACE, "when the replica here was elected last"),
    Metric("partition_replicas", GAUGE, PLACE, "of a leader: replicas that keep the records"),
    Metric("partition_in_sync_replicas", GAUGE, PLACE, "of a leader: those of them that are in sync, itself included"),
    Metric("partition_log_start_offset", GAUGE, PLACE, "first offset that is still there"),
    Metric("partition_high_watermark", GAUGE, PLACE, "one past the last committed record; its rate is that of records"),
    Metric("partition_size_bytes", GAUGE, PLACE, "of the replica here, on its disk"),
    Metric(
        "partition_replica_lag_records",
        GAUGE,
        PLACE,
        "of a follower: records that its leader holds and it does not, by what both said last",
    ),
    Metric("partition_produced_bytes", COUNTER, PLACE, "record batches received from clients, refused ones included"),
    Metric("partition_fetched_bytes", COUNTER, PLACE, "record batches sent to clients"),
    Metric(
        "partition_cuts", COUNTER, PLACE, "damaged ends of the log that starts have cut, since its directory was made"
    ),
    Metric("partition_corruptions", COUNTER, PLACE, "how often damage was found, since the directory was made"),
    Metric(
        "partition_index_map_bytes",
        GAUGE,
        PLACE,
        "of the replica's index, an LMDB environment: what its map can hold before it grows",
    ),
    Metric(
        "partition_index_used_bytes",
        GAUGE,
        PLACE,
        "of that map, what was needed at most. There is no reader table: one thread of one process uses it",
    ),
    # Groups
    Metric("group_members", GAUGE, ("group",), "members; of the groups that this node coordinates, as all of these"),
    Metric("group_committed_offset", GAUGE, GROUP, "the next offset that the group wants to read"),
    Metric("group_lag_records", GAUGE, GROUP, "offsets that are not committed yet, of those that are still there"),
    Metric("group_lag_seconds", GAUGE, GROUP, "how long ago the first of these was written, by its timestamp; 0: none"),
    # The machine
    Metric("sync_seconds", HISTOGRAM, (), "how long fdatasync took, on leaders and followers"),
    Metric(
        "certificate_end_timestamp_seconds",
        GAUGE,
        (),
        "when the certificate ends that this node shows, as a Unix time; nothing without `--security`",
    ),
    Metric("disk_free_bytes", GAUGE, (), "of the volume of the data directory, what an unprivileged user may take"),
    Metric("disk_size_bytes", GAUGE, (), "of that volume"),
    Metric(
        "process_cpu_seconds",
        COUNTER,
        ("process",),
        "CPU time. `process`: `supervisor`, `worker` (all together), `kafka`, `http`",
    ),
    Metric(
        "process_resident_memory_bytes",
        GAUGE,
        ("process",),
        "memory, with what several processes share counted for each",
    ),
    Metric(
        "process_proportional_memory_bytes",
        GAUGE,
        ("process",),
        "memory, with what is shared divided (PSS). Each scrape looks at five processes of a kind, in turn; "
        "those that were not looked at yet are taken to be like the others",
    ),
    Metric("process_open_fds", GAUGE, ("process",), "open descriptors"),
    Metric("process_threads", GAUGE, ("process",), "threads"),
    Metric("processes", GAUGE, ("process",), "processes that run"),
)
