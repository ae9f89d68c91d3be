"""What producers are made with: checked in the caller's thread, before anything is opened."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from raftlog.client import arguments
from raftlog.client.core.engine import DEFAULT_BOOTSTRAP, parse_bootstrap
from raftlog.client.producer.partitioners import PartitionFunction, partitioner_named
from raftlog.limits import PRODUCER_BATCHES_MAX, RECORD_BYTES_MAX
from raftlog.record.compression import COMPRESSIONS

Serializer = Callable[[Any], bytes | None]
_ACKS = {"all": -1, -1: -1, 0: 0, 1: 1}


class ProducerOptions:
    """What Producer and AsyncProducer take. Of an object of it, times are in seconds and nothing is left to check.

    bootstrap_servers    addresses of some nodes, as "host:port,…" or a list; the others are learned from them
    acks                 "all": committed and on every in-sync replica; 1: durable on the leader; 0: not answered,
                         so that futures have offset -1 and say nothing
    linger_ms            how long a batch waits for more records; full batches never wait
    batch_bytes          the size of a batch before compression; a larger record goes alone
    buffer_bytes         the size of all records that are not acknowledged yet; `send` blocks when it is full
    max_block_ms         how long `send` blocks, for that or for the metadata of its topic
    compression          none, gzip, snappy, lz4, zstd
    partitioner          sticky, round-robin, murmur2 (the default: sticky without a key), crc32, or a function
                         (key, partitions) -> partition; a key is what key_serializer returns
    key_serializer       makes bytes, or None, of what `send` is given as a key, also of None, as kafka-python's does;
                         what it raises comes out of `send`. None: keys are bytes already
    value_serializer     the same of what `send` is given as a value
    retries              how often one batch is sent again, within delivery_timeout_ms; None: as many as fit
    delivery_timeout_ms  when a record fails, however often it was tried; one that was sent may have been written
                         all the same, which the error's `outcome_unknown` tells
    request_timeout_ms   how long one attempt waits for its answer
    max_in_flight        batches of one partition on their way at the same time; with idempotence at most 5
    enable_idempotence   each record is written once and in the order of `send`, however often it is sent; needs
                         acks="all". None: on with acks="all"
    bootstrap_timeout_ms   how long making the producer waits for a node's answer
    client_id            what nodes call this client
    security             the directory of `raftlog security client`, for nodes that run with --security; None: what
                         RAFTLOG_SECURITY says in the environment; "": none
    user                 as whom it asks, where the cluster has users; None: what RAFTLOG_USER says
    password             of that user; None: what RAFTLOG_PASSWORD says
    """

    def __init__(
        self,
        bootstrap_servers: str | Sequence[str] = DEFAULT_BOOTSTRAP,
        *,
        acks: str | int = "all",
        linger_ms: float = 5,
        batch_bytes: int = 64 * 1024,
        buffer_bytes: int = 32 * 1024 * 1024,
        max_block_ms: float = 60_000,
        compression: str | None = None,
        partitioner: str | PartitionFunction = "murmur2",
        key_serializer: Serializer | None = None,
        value_serializer: Serializer | None = None,
        retries: int | None = None,
        delivery_timeout_ms: float = 120_000,
        request_timeout_ms: float = 30_000,
        max_in_flight: int = 5,
        enable_idempotence: bool | None = None,
        bootstrap_timeout_ms: float = 10_000,
        client_id: str = "raftlog-producer",
        security: str | None = None,
        user: str | None = None,
        password: str | None = None,
    ) -> None:
        """Raises TypeError, ValueError; ConfigError for a `security` that cannot be used."""
        if acks not in _ACKS:
            raise ValueError(f"acks is 0, 1 or 'all', not {acks!r}")
        self.acks: Final = _ACKS[acks]
        self.compression: Final = compression or "none"
        if self.compression not in COMPRESSIONS:
            raise ValueError(f"unknown compression {compression!r}; known are {', '.join(COMPRESSIONS)}")
        self.idempotent: Final = self.acks == -1 if enable_idempotence is None else enable_idempotence
        if self.idempotent and self.acks != -1:
            raise ValueError(f"idempotence needs acks='all', not {acks!r}")
        if self.idempotent and max_in_flight > PRODUCER_BATCHES_MAX:
            raise ValueError(f"max_in_flight is at most {PRODUCER_BATCHES_MAX} with idempotence, not {max_in_flight}")
        partitioner_named(partitioner)  # a wrong name is an error now, not at the first send
        arguments.function("key_serializer", key_serializer)
        arguments.function("value_serializer", value_serializer)
        self.bootstrap: Final = parse_bootstrap(bootstrap_servers)
        self.linger_s: Final = arguments.seconds("linger_ms", linger_ms, least_ms=0, finite=False)
        self.batch_bytes: Final = min(arguments.number("batch_bytes", batch_bytes, 1), RECORD_BYTES_MAX)
        self.buffer_bytes: Final = arguments.number("buffer_bytes", buffer_bytes, 1)
        self.max_block_s: Final = arguments.seconds("max_block_ms", max_block_ms, least_ms=0)
        self.partitioner: Final = partitioner
        self.key_serializer: Final = key_serializer
        self.value_serializer: Final = value_serializer
        self.retries: Final = None if retries is None else arguments.number("retries", retries)
        self.delivery_timeout_s: Final = arguments.seconds("delivery_timeout_ms", delivery_timeout_ms, finite=False)
        self.request_timeout_s: Final = arguments.seconds("request_timeout_ms", request_timeout_ms)
        self.max_in_flight: Final = arguments.number("max_in_flight", max_in_flight, 1)
        self.bootstrap_timeout_s: Final = arguments.seconds("bootstrap_timeout_ms", bootstrap_timeout_ms)
        self.client_id: Final = arguments.text(client_id)
        self.credentials: Final = arguments.credentials(security)
        self.who: Final = arguments.who(user, password)
