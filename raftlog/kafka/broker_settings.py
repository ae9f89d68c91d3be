"""What a broker says of its settings: few, all true, none to be changed here. Pure."""

from __future__ import annotations

from raftlog import limits
from raftlog.kafka.calls import DoorSettings
from raftlog.kafka.cluster import Cluster
from raftlog.kafka.topic_settings import Kind, Source, Value, defaults

_B, _S, _I, _L, _D, _LIST = Kind
_FIXED = (
    ("connections.max.idle.ms", _L, int(limits.KAFKA_IDLE_S * 1000), "An idle connection ends after this time"),
    ("delete.topic.enable", _B, "true", "Topics can be deleted"),
    ("fetch.max.bytes", _I, limits.FETCH_BYTES_MAX, "The most that one answer takes from one partition"),
    ("group.initial.rebalance.delay.ms", _I, int(limits.GROUP_INITIAL_DELAY_S * 1000), "How long a new group waits"),
    ("group.max.session.timeout.ms", _I, limits.SESSION_TIMEOUT_MAX_MS, "The longest session of a group's member"),
    ("group.max.size", _I, limits.GROUP_MEMBERS_MAX, "The members that a group may have"),
    ("group.min.session.timeout.ms", _I, limits.SESSION_TIMEOUT_MIN_MS, "The shortest session of a group's member"),
    ("offset.metadata.max.bytes", _I, limits.OFFSET_METADATA_CHARS_MAX, "The text committed with an offset"),
    (
        "offsets.retention.minutes",
        _I,
        limits.OFFSETS_RETENTION_MS // 60_000,
        "How long the offsets of a group without members are kept",
    ),
    ("producer.id.expiration.ms", _I, limits.PRODUCER_IDLE_MS, "A producer idle for this long is forgotten"),
    ("replica.lag.time.max.ms", _L, int(limits.IN_SYNC_LAG_S * 1000), "A replica behind for this long is out of sync"),
    ("socket.request.max.bytes", _I, limits.KAFKA_REQUEST_BYTES_MAX, "The largest request"),
)


def values(cluster: Cluster, settings: DoorSettings) -> list[Value]:
    """Of the broker whose door this is, sorted by name."""
    node_id = str(settings.node_id)
    own = cluster.nodes.get(settings.node_id)
    factor = min(limits.DEFAULT_REPLICATION_FACTOR, max(len(cluster.nodes), 1))
    found = [
        _static("node.id", _I, node_id, "The node's id"),
        _static("broker.id", _I, node_id, "The node's id"),
        _static("log.dirs", _LIST, settings.data_directory, "The data directory"),
        _static(
            "auto.create.topics.enable",
            _B,
            str(settings.auto_create_topics).lower(),
            "A topic that a client asks for is made",
        ),
        _default("num.partitions", _I, limits.DEFAULT_PARTITIONS, "Of a topic that says nothing"),
        _default("default.replication.factor", _I, factor, "Of a topic that says nothing, where the nodes allow it"),
        *(_default(name, kind, value, text) for name, kind, value, text in _FIXED),
        *defaults(),
    ]
    if own is not None and own.kafka is not None:
        found.append(_static("advertised.listeners", _S, f"PLAINTEXT://{own.kafka}", "Where clients reach the broker"))
    return sorted(found)


def _static(name: str, kind: Kind, value: str, text: str) -> Value:
    return Value(name, kind, text, value, Source.STATIC_BROKER, True, ((name, value, Source.STATIC_BROKER),))


def _default(name: str, kind: Kind, value: int | str, text: str) -> Value:
    shown = str(value)
    return Value(name, kind, text, shown, Source.DEFAULT, True, ((name, shown, Source.DEFAULT),))
