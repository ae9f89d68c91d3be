"""Topic settings as Kafka's clients name and read them: raftlog's own, and those that are what they are. Pure.

A setting of Kafka that has no meaning in raftlog is listed with its one value if that is true of raftlog. Such a
setting may be given with that value, so that scripts which name it work; any other value is refused.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from raftlog.config import config_for_people
from raftlog.errors import InvalidConfigError
from raftlog.types import TopicConfig


class Kind(enum.IntEnum):
    """The type of a setting, with Kafka's numbers."""

    BOOLEAN = 1
    STRING = 2
    INT = 3
    LONG = 5
    DOUBLE = 6
    LIST = 7


class Source(enum.IntEnum):
    """Where a value comes from, with Kafka's numbers."""

    TOPIC = 1
    STATIC_BROKER = 4
    DEFAULT = 5


class TopicSetting(NamedTuple):
    """A setting of a topic, under the name that Kafka has for it.

    `own`: the field of TopicConfig, "" where the value is always `fixed`. `broker`: Kafka's name of the default.
    """

    name: str
    kind: Kind
    own: str
    broker: str
    text: str
    fixed: str = ""


class Value(NamedTuple):
    """One setting of one topic, or of a broker."""

    name: str
    kind: Kind
    text: str
    value: str
    source: Source
    read_only: bool
    synonyms: tuple[tuple[str, str, Source], ...] = ()


_NEVER = str(2**63 - 1)
_B, _S, _I, _L, _D, _LIST = Kind

SETTINGS = (
    TopicSetting("cleanup.policy", _LIST, "cleanup_policy", "log.cleanup.policy", "delete, compact, or both"),
    TopicSetting(
        "compression.type", _S, "", "compression.type", "Batches stay as their producers compressed them", "producer"
    ),
    TopicSetting(
        "delete.retention.ms",
        _L,
        "delete_retention_ms",
        "log.cleaner.delete.retention.ms",
        "How long a compacted log keeps a record without a value at least",
    ),
    TopicSetting(
        "max.compaction.lag.ms",
        _L,
        "",
        "log.cleaner.max.compaction.lag.ms",
        "Compaction is not hurried by the age of records",
        _NEVER,
    ),
    TopicSetting(
        "max.message.bytes", _I, "max_record_bytes", "message.max.bytes", "The largest batch that a producer may send"
    ),
    TopicSetting(
        "message.timestamp.after.max.ms",
        _L,
        "message_timestamp_after_max_ms",
        "log.message.timestamp.after.max.ms",
        "How far ahead of its leader's clock a record may be",
    ),
    TopicSetting(
        "message.timestamp.before.max.ms",
        _L,
        "",
        "log.message.timestamp.before.max.ms",
        "A record may be of any time before now",
        _NEVER,
    ),
    TopicSetting(
        "message.timestamp.type",
        _S,
        "message_timestamp_type",
        "log.message.timestamp.type",
        "Whose clock a record's time is of: CreateTime, its producer's, or LogAppendTime, its leader's",
    ),
    TopicSetting(
        "min.cleanable.dirty.ratio",
        _D,
        "",
        "log.cleaner.min.cleanable.ratio",
        "A pass of compaction begins at this share of the closed segments' bytes",
        "0.5",
    ),
    TopicSetting(
        "min.compaction.lag.ms",
        _L,
        "",
        "log.cleaner.min.compaction.lag.ms",
        "A closed segment is compacted however young it is",
        "0",
    ),
    TopicSetting(
        "min.insync.replicas",
        _I,
        "min_insync_replicas",
        "min.insync.replicas",
        "acks=all is refused while fewer replicas are in sync, the leader among them",
    ),
    TopicSetting("preallocate", _B, "", "log.preallocate", "Segments grow as they are written", "false"),
    TopicSetting(
        "remote.storage.enable", _B, "", "", "All records are on the disks of the partition's replicas", "false"
    ),
    TopicSetting(
        "retention.bytes",
        _L,
        "retention_bytes",
        "log.retention.bytes",
        "Of a partition: the oldest segments go while there is more; -1: no limit",
    ),
    TopicSetting(
        "retention.ms",
        _L,
        "retention_ms",
        "log.retention.ms",
        "Segments whose records are all older than this go; -1: never",
    ),
    TopicSetting("segment.bytes", _I, "segment_bytes", "log.segment.bytes", "A segment is rolled at this size"),
    TopicSetting("segment.jitter.ms", _L, "", "log.roll.jitter.ms", "A segment is rolled at its age", "0"),
    TopicSetting("segment.ms", _L, "segment_ms", "log.roll.ms", "A segment is rolled at this age"),
    TopicSetting(
        "unclean.leader.election.enable",
        _B,
        "",
        "unclean.leader.election.enable",
        "A replica that lacks acknowledged records is never elected by itself",
        "false",
    ),
)
BY_NAME = {setting.name: setting for setting in SETTINGS}


def values(config: Mapping[str, int]) -> list[Value]:
    """All settings of a topic. `config` as Metadata tells it."""
    shown = _shown(config)
    return [_value(setting, shown) for setting in SETTINGS]


def _value(setting: TopicSetting, shown: Mapping[str, str]) -> Value:
    default = _DEFAULTS.get(setting.own, setting.fixed)
    value = shown.get(setting.own, default)
    synonyms = [(setting.broker, default, Source.DEFAULT)] if setting.broker else []
    source = Source.DEFAULT
    if value != default:
        source = Source.TOPIC
        synonyms.insert(0, (setting.name, value, Source.TOPIC))
    return Value(setting.name, setting.kind, setting.text, value, source, not setting.own, tuple(synonyms))


def defaults() -> list[Value]:
    """What a topic has that says nothing, by the names that a broker's settings have."""
    found = [_value(setting, {}) for setting in SETTINGS]
    return [value._replace(name=value.synonyms[0][0], read_only=True) for value in found if value.synonyms]


def own_names() -> list[str]:
    """Kafka's names of those that can be changed."""
    return [setting.name for setting in SETTINGS if setting.own]


def without_fixed(pairs: Iterable[tuple[str, str | None]]) -> dict[str, str]:
    """What is to be set of what a client sends. Raises InvalidConfigError for what cannot be."""
    wanted: dict[str, str] = {}
    for name, value in pairs:
        if value is None:
            raise InvalidConfigError(f"topic config {name} is given without a value")
        if name in wanted:
            raise InvalidConfigError(f"topic config {name} is given twice")
        if not is_fixed(name, value):
            wanted[name] = value
    return wanted


def is_fixed(name: str, value: str | None) -> bool:
    """A setting that cannot be changed, with the value that it has. Raises InvalidConfigError for another value."""
    setting = BY_NAME.get(name)
    if setting is None or setting.own:
        return False
    if value is not None and value.strip().lower() != setting.fixed:
        raise InvalidConfigError(f"topic config {name} is always {setting.fixed} in raftlog, not {value!r}")
    return True


def _shown(config: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in config_for_people(config).items()}


_DEFAULTS = _shown(msgspec.structs.asdict(TopicConfig()))
