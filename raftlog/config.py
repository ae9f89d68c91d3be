"""Topic settings as users write them. No I/O."""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable, Mapping

import msgspec

from raftlog.errors import InvalidConfigError, InvalidTopicError
from raftlog.limits import NODES_MAX, RECORD_BYTES_MAX, SEGMENT_BYTES_MIN, TOPIC_NAME_MAX_CHARS
from raftlog.types import INTERNAL_TOPICS, CleanupPolicy, TimestampType, TopicConfig

_LEGAL_NAME = re.compile(r"[a-zA-Z0-9._-]+")
# Kafka's name for the largest batch differs from ours by more than its dots.
_KAFKA_ALIASES = {"max_message_bytes": "max_record_bytes"}
BOUNDS = {
    "segment_bytes": (SEGMENT_BYTES_MIN, 2**31 - 1),
    "segment_ms": (1_000, 2**63 - 1),
    "retention_ms": (-1, 2**63 - 1),
    "retention_bytes": (-1, 2**63 - 1),
    "delete_retention_ms": (0, 2**63 - 1),
    "max_record_bytes": (1, RECORD_BYTES_MAX),
    "message_timestamp_after_max_ms": (0, 2**63 - 1),
    "min_insync_replicas": (1, NODES_MAX),
}
_NUMBER = re.compile(r"(-?[0-9]{1,30})\s*([A-Za-z]*)")
# By the ending of a setting's name; "kB" is a thousand bytes and "KiB" 1024, as IEC 80000-13 says.
_UNITS = {
    "_ms": {"ms": 1, "s": 1_000, "m": 60_000, "min": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000},
    "_bytes": {"b": 1}
    | {f"{letter}b": 1000**power for power, letter in enumerate("kmgt", 1)}
    | {f"{letter}ib": 1024**power for power, letter in enumerate("kmgt", 1)},
}
_EXAMPLES = {"_ms": "3600000 (milliseconds), 90s, 1h or 7d", "_bytes": "1048576, 512MiB or 1GB"}
_POLICIES = {
    frozenset({"delete"}): CleanupPolicy.DELETE,
    frozenset({"compact"}): CleanupPolicy.COMPACT,
    frozenset({"compact", "delete"}): CleanupPolicy.COMPACT | CleanupPolicy.DELETE,
}
_TIMESTAMP_TYPES = {"CreateTime": TimestampType.CREATE_TIME, "LogAppendTime": TimestampType.LOG_APPEND_TIME}


def check_topic_name(name: str, *, internal: bool = False) -> None:
    """Kafka's rule for names. Raises InvalidTopicError."""
    if not name or name in (".", ".."):
        raise InvalidTopicError(f"{name!r} is not a legal topic name: letters, digits, '.', '_' and '-', not only dots")
    if len(name) > TOPIC_NAME_MAX_CHARS:
        raise InvalidTopicError(f"a topic name has at most {TOPIC_NAME_MAX_CHARS} characters, this one {len(name)}")
    if not _LEGAL_NAME.fullmatch(name):
        raise InvalidTopicError(f"{name!r} is not a legal topic name: only letters, digits, '.', '_' and '-'")
    if not internal and name in INTERNAL_TOPICS:
        raise InvalidTopicError(f"{name!r} belongs to raftlog itself")


def parse_topic_config(pairs: dict[str, str]) -> TopicConfig:
    """`{"retention.ms": "1h"}` or `{"retention_ms": "3600000"}` to a TopicConfig. Raises InvalidConfigError."""
    return change_topic_config(TopicConfig(), pairs, ())


def change_topic_config(config: TopicConfig, pairs: dict[str, str], reset: Iterable[str]) -> TopicConfig:
    """`config` with these settings, and those named in `reset` at their defaults. Raises InvalidConfigError."""
    values: dict[str, int] = {}
    for written in reset:
        name = _setting(written, values)
        values[name] = getattr(TopicConfig(), name)
    for written, text in pairs.items():
        name = _setting(written, values)
        if name in WORDS:
            values[name] = WORDS[name](written, text)
            continue
        value = _parse_number(written, name, text)
        low, high = BOUNDS[name]
        if not low <= value <= high:
            raise InvalidConfigError(f"topic config {written} lies between {low} and {high}, not {value}")
        values[name] = value
    return msgspec.structs.replace(config, **values)


def check_in_sync(config: TopicConfig, replication_factor: int) -> None:
    """A topic whose every acks=all were refused is a slip. Raises InvalidConfigError."""
    if config.min_insync_replicas > replication_factor:
        raise InvalidConfigError(
            f"min_insync_replicas {config.min_insync_replicas} is above the replication factor {replication_factor}: "
            "no record with acks=all could be written"
        )


def _parse_number(written: str, name: str, text: str) -> int:
    """A whole number in the setting's unit, or one with a unit of its own: `1h`, `512MiB`."""
    units = next((units for ending, units in _UNITS.items() if name.endswith(ending)), {})
    match = _NUMBER.fullmatch(text.strip())
    factor = units.get(match[2].lower()) if match and match[2] else 1
    if match is None or factor is None:
        example = f", such as {_EXAMPLES[name[name.rindex('_') :]]}" if units else ""
        raise InvalidConfigError(f"topic config {written} takes a whole number{example}, not {text!r}")
    return int(match[1]) * factor


def is_topic_setting(written: str) -> bool:
    return _own_name(written) in _NAMES


def _own_name(written: str) -> str:
    name = written.replace(".", "_")
    return _KAFKA_ALIASES.get(name, name)


def _setting(written: str, taken: Container[str]) -> str:
    name = _own_name(written)
    if name not in _NAMES:
        known = ", ".join(sorted(_NAMES))
        raise InvalidConfigError(f"unknown topic config {written!r}; known are {known}")
    if name in taken:
        raise InvalidConfigError(f"topic config {name} is given twice")
    return name


def config_for_people(config: Mapping[str, int]) -> dict[str, int | str]:
    """Settings as they travel, with the words that users write."""
    shown: dict[str, int | str] = dict(config)
    if "cleanup_policy" in config:
        flags = CleanupPolicy(config["cleanup_policy"])
        shown["cleanup_policy"] = ",".join(sorted(flag.name.lower() for flag in flags if flag.name))
    if "message_timestamp_type" in config:
        names = {value: name for name, value in _TIMESTAMP_TYPES.items()}
        shown["message_timestamp_type"] = names[TimestampType(config["message_timestamp_type"])]
    return shown


def _parse_timestamp_type(written: str, text: str) -> TimestampType:
    kind = _TIMESTAMP_TYPES.get(text.strip())
    if kind is None:
        raise InvalidConfigError(f"topic config {written} is {' or '.join(_TIMESTAMP_TYPES)}, not {text!r}")
    return kind


def _parse_policy(written: str, text: str) -> CleanupPolicy:
    policy = _POLICIES.get(frozenset(word.strip() for word in text.split(",")))
    if policy is None:
        raise InvalidConfigError(f"topic config {written} is delete, compact, or compact,delete, not {text!r}")
    return policy


WORDS: dict[str, Callable[[str, str], int]] = {
    "cleanup_policy": _parse_policy,
    "message_timestamp_type": _parse_timestamp_type,
}
_NAMES = {*BOUNDS, *WORDS}
