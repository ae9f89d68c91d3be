"""What consumers are made with: checked in the caller's thread, before anything is opened."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from raftlog.client import arguments
from raftlog.client.core.engine import DEFAULT_BOOTSTRAP, parse_bootstrap
from raftlog.client.fetcher.partition_state import EARLIEST, LATEST
from raftlog.client.group.assignors import ASSIGNORS, Assignor
from raftlog.limits import FETCH_BYTES_MAX, FETCH_WAIT_MAX_MS
from raftlog.protocol.security import Behalf

Deserializer = Callable[[Any], Any]


class ConsumerOptions:
    """What Consumer and AsyncConsumer take. Of an object of it, times are in seconds and nothing is left to check.

    topics                     to subscribe to
    bootstrap_servers          addresses of some nodes, as "host:port,…" or a list; the others are learned from them
    auto_offset_reset          where to start, and where to go when the position is out of range: "earliest",
                               "latest", or "none", which raises OffsetOutOfRangeError. With "latest", partitions that
                               were not there when it subscribed start at their first record
    fetch_min_bytes            a fetch is answered when this much is there, or after fetch_max_wait_ms
    fetch_max_wait_ms          how long a fetch waits for fetch_min_bytes
    max_partition_fetch_bytes  what one fetch takes of one partition
    fetch_max_bytes            what is fetched and not handed out yet, all partitions together; more only by batches
                               that are themselves larger than their partition's share
    max_poll_records           what `poll` returns at most
    consumer_timeout_ms        iteration ends when no record came for this long; None: never
    key_deserializer           makes of the bytes, or None, of a record what its `key` shall be. It runs where records
                               are asked for; what it raises is the cause of a DeserializationError. None: bytes
    value_deserializer         the same for its `value`
    request_timeout_ms         how long what waits for an answer waits, such as `position` and `commit`
    bootstrap_timeout_ms       how long making the consumer waits for a node's answer
    client_id                  what nodes call this client
    security                   the directory of `raftlog security client`, for nodes that run with --security;
                               None: what RAFTLOG_SECURITY says in the environment; "": none
    user                       as whom it asks, where the cluster has users; None: what RAFTLOG_USER says
    password                   of that user; None: what RAFTLOG_PASSWORD says

    In a group (docs/consumers.md):

    group_id                   the group that shares the partitions; reading begins at its committed offsets
    group_instance_id          a static member: one that comes back under it before its session ends has its share back
    enable_auto_commit         what was handed out is committed by later polls, every auto_commit_interval_ms,
                               before partitions are given up, and by `close`
    auto_commit_interval_ms    how often polls commit; 0: each of them does
    session_timeout_ms         a member that was not heard of for this long is replaced
    heartbeat_interval_ms      how often it says that it lives, and hears of a rebalance
    max_poll_interval_ms       a member that does not poll for this long leaves the group
    partition_assignment_strategy   of "cooperative-sticky", "range", "round-robin"; the group takes one that all offer
    """

    def __init__(
        self,
        *topics: str,
        bootstrap_servers: str | Sequence[str] = DEFAULT_BOOTSTRAP,
        group_id: str | None = None,
        group_instance_id: str | None = None,
        enable_auto_commit: bool = True,
        auto_commit_interval_ms: float = 5_000,
        session_timeout_ms: float = 45_000,
        heartbeat_interval_ms: float = 1_000,
        max_poll_interval_ms: float = 300_000,
        partition_assignment_strategy: Sequence[str] = ("cooperative-sticky",),
        auto_offset_reset: str = LATEST,
        fetch_min_bytes: int = 1,
        fetch_max_wait_ms: int = 500,
        max_partition_fetch_bytes: int = 1024 * 1024,
        fetch_max_bytes: int = 32 * 1024 * 1024,
        max_poll_records: int = 500,
        consumer_timeout_ms: float | None = None,
        key_deserializer: Deserializer | None = None,
        value_deserializer: Deserializer | None = None,
        request_timeout_ms: float = 30_000,
        bootstrap_timeout_ms: float = 10_000,
        client_id: str = "raftlog-consumer",
        security: str | None = None,
        user: str | Behalf | None = None,
        password: str | None = None,
    ) -> None:
        """Raises TypeError, ValueError; ConfigError for a `security` that cannot be used."""
        number, seconds = arguments.number, arguments.seconds
        if auto_offset_reset not in (EARLIEST, LATEST, "none"):
            raise ValueError(f"auto_offset_reset is earliest, latest or none, not {auto_offset_reset!r}")
        if not heartbeat_interval_ms < session_timeout_ms:
            raise ValueError("heartbeat_interval_ms must be less than session_timeout_ms")
        arguments.function("key_deserializer", key_deserializer)
        arguments.function("value_deserializer", value_deserializer)
        self.topics: Final = tuple(map(arguments.text, topics))
        self.bootstrap: Final = parse_bootstrap(bootstrap_servers)
        self.group_id: Final = None if group_id is None else arguments.text(group_id)
        self.group_instance_id: Final = None if group_instance_id is None else arguments.text(group_instance_id)
        interval_s = seconds("auto_commit_interval_ms", auto_commit_interval_ms, least_ms=0)
        self.auto_commit_interval_s: Final = interval_s if enable_auto_commit else None
        self.session_timeout_s: Final = seconds("session_timeout_ms", session_timeout_ms)
        self.heartbeat_interval_s: Final = seconds("heartbeat_interval_ms", heartbeat_interval_ms)
        self.max_poll_interval_s: Final = seconds("max_poll_interval_ms", max_poll_interval_ms, least_ms=1)
        self.assignors: Final = _assignors(partition_assignment_strategy)
        self.auto_offset_reset: Final = auto_offset_reset
        self.fetch_min_bytes: Final = min(number("fetch_min_bytes", fetch_min_bytes, 1), FETCH_BYTES_MAX)
        self.fetch_max_wait_ms: Final = min(number("fetch_max_wait_ms", fetch_max_wait_ms), FETCH_WAIT_MAX_MS)
        partition_bytes = number("max_partition_fetch_bytes", max_partition_fetch_bytes, 1)
        self.max_partition_fetch_bytes: Final = min(partition_bytes, FETCH_BYTES_MAX)
        self.fetch_max_bytes: Final = number("fetch_max_bytes", fetch_max_bytes, 1)
        self.max_poll_records: Final = number("max_poll_records", max_poll_records, 1)
        patience_ms = float("inf") if consumer_timeout_ms is None else consumer_timeout_ms
        self.consumer_timeout_s: Final = seconds("consumer_timeout_ms", patience_ms, least_ms=0, finite=False)
        self.key_deserializer: Final = key_deserializer
        self.value_deserializer: Final = value_deserializer
        self.request_timeout_s: Final = seconds("request_timeout_ms", request_timeout_ms)
        self.bootstrap_timeout_s: Final = seconds("bootstrap_timeout_ms", bootstrap_timeout_ms)
        self.client_id: Final = arguments.text(client_id)
        self.credentials: Final = arguments.credentials(security)
        self.who: Final = arguments.who(user, password)


def _assignors(strategies: Sequence[str]) -> list[Assignor]:
    if isinstance(strategies, str) or not strategies or any(name not in ASSIGNORS for name in strategies):
        raise ValueError(f"partition_assignment_strategy is a list of {', '.join(ASSIGNORS)}, not {strategies!r}")
    return [ASSIGNORS[name] for name in strategies]
