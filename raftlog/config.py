"""Topic settings as users write them. No I/O."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping

import msgspec

from raftlog.errors import InvalidConfigError, InvalidTopicError
from raftlog.limits import NODES_MAX, RECORD_BYTES_MAX, SEGMENT_BYTES_MIN, TOPIC_NAME_MAX_CHARS
from raftlog.types import METADATA_TOPIC, OFFSETS_TOPIC, CleanupPolicy, TopicConfig

_LEGAL_NAME = re.compile(r"[a-zA-Z0-9._-]+")
# Kafka's name for the largest batch differs from ours by more than its dots.
_KAFKA_ALIASES = {"max_message_bytes": "max_record_bytes"}
_BOUNDS = {
    "segment_bytes": (SEGMENT_BYTES_MIN, 2**31 - 1),
    "segment_ms": (1_000, 2**62),
    "retention_ms": (-1, 2**62),
    "retention_bytes": (-1, 2**62),
    "delete_retention_ms": (0, 2**62),
    "max_record_bytes": (1, RECORD_BYTES_MAX),
    "min_insync_replicas": (1, NODES_MAX),
}
_POLICIES = {
    frozenset({"delete"}): CleanupPolicy.DELETE,
    frozenset({"compact"}): CleanupPolicy.COMPACT,
    frozenset({"compact", "delete"}): CleanupPolicy.COMPACT | CleanupPolicy.DELETE,
}


def check_topic_name(name: str, *, internal: bool = False) -> None:
    """Kafka's rule for names. Raises InvalidTopicError."""
    if not name or name in (".", ".."):
        raise InvalidTopicError(f"{name!r} is not a legal topic name: letters, digits, '.', '_' and '-', not only dots")
    if len(name) > TOPIC_NAME_MAX_CHARS:
        raise InvalidTopicError(f"a topic name has at most {TOPIC_NAME_MAX_CHARS} characters, this one {len(name)}")
    if not _LEGAL_NAME.fullmatch(name):
        raise InvalidTopicError(f"{name!r} is not a legal topic name: only letters, digits, '.', '_' and '-'")
    if not internal and name in (METADATA_TOPIC, OFFSETS_TOPIC):
        raise InvalidTopicError(f"{name!r} belongs to raftlog itself")


def parse_topic_config(pairs: dict[str, str]) -> TopicConfig:
    """`{"retention.ms": "1000"}` or `{"retention_ms": "1000"}` to a TopicConfig. Raises InvalidConfigError."""
    return change_topic_config(TopicConfig(), pairs, ())


def change_topic_config(config: TopicConfig, pairs: dict[str, str], reset: Iterable[str]) -> TopicConfig:
    """`config` with these settings, and those named in `reset` at their defaults. Raises InvalidConfigError."""
    values: dict[str, int] = {}
    for written in reset:
        name = _setting(written, values)
        values[name] = getattr(TopicConfig(), name)
    for written, text in pairs.items():
        name = _setting(written, values)
        if name == "cleanup_policy":
            values[name] = _parse_policy(written, text)
            continue
        try:
            value = int(text)
        except ValueError:
            raise InvalidConfigError(f"topic config {written} takes a whole number, not {text!r}") from None
        low, high = _BOUNDS[name]
        if not low <= value <= high:
            raise InvalidConfigError(f"topic config {written} lies between {low} and {high}, not {value}")
        values[name] = value
    return msgspec.structs.replace(config, **values)


def _setting(written: str, taken: Container[str]) -> str:
    name = written.replace(".", "_")
    name = _KAFKA_ALIASES.get(name, name)
    names = {*_BOUNDS, "cleanup_policy"}
    if name not in names:
        known = ", ".join(sorted(names))
        raise InvalidConfigError(f"unknown topic config {written!r}; known are {known}")
    if name in taken:
        raise InvalidConfigError(f"topic config {name} is given twice")
    return name


def config_for_people(config: Mapping[str, int]) -> dict[str, int | str]:
    """Settings as they travel, with the policy by its name."""
    shown: dict[str, int | str] = dict(config)
    if "cleanup_policy" in config:
        flags = CleanupPolicy(config["cleanup_policy"])
        shown["cleanup_policy"] = ",".join(sorted(flag.name.lower() for flag in flags if flag.name))
    return shown


def _parse_policy(written: str, text: str) -> CleanupPolicy:
    policy = _POLICIES.get(frozenset(word.strip() for word in text.split(",")))
    if policy is None:
        raise InvalidConfigError(f"topic config {written} is delete, compact, or compact,delete, not {text!r}")
    return policy
