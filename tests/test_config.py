"""Topic settings as users write them."""

from __future__ import annotations

import msgspec
import pytest

from raftlog.config import change_topic_config, check_in_sync, config_for_people, parse_topic_config
from raftlog.errors import InvalidConfigError
from raftlog.types import TimestampType, TopicConfig


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("3600000", 3_600_000),
        ("90s", 90_000),
        ("10m", 600_000),
        ("10min", 600_000),
        ("1h", 3_600_000),
        ("7d", 604_800_000),
    ],
)
def test_a_time_may_have_a_unit(text: str, milliseconds: int) -> None:
    assert parse_topic_config({"retention.ms": text}).retention_ms == milliseconds


@pytest.mark.parametrize(
    ("text", "size"),
    [("1048576", 2**20), ("512MiB", 512 * 2**20), ("512 mib", 512 * 2**20), ("1GB", 10**9), ("64kB", 64_000)],
)
def test_a_size_may_have_a_unit(text: str, size: int) -> None:
    assert parse_topic_config({"retention.bytes": text}).retention_bytes == size


def test_minus_one_is_without_limit() -> None:
    config = parse_topic_config({"retention.ms": "-1", "retention.bytes": "-1"})
    assert (config.retention_ms, config.retention_bytes) == (-1, -1)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("retention.ms", "soon"),
        ("retention.ms", "1 MiB"),
        ("retention.ms", "1.5h"),
        ("retention.ms", "h"),
        ("retention.ms", ""),
        ("retention.ms", "9" * 40),
        ("retention.bytes", "1h"),
        ("min.insync.replicas", "2s"),
        ("min.insync.replicas", "²"),
    ],
)
def test_what_is_no_number_is_refused_with_what_would_be(name: str, text: str) -> None:
    with pytest.raises(InvalidConfigError, match=f"topic config {name} takes a whole number"):
        parse_topic_config({name: text})


def test_more_in_sync_than_there_are_replicas_is_refused() -> None:
    check_in_sync(TopicConfig(min_insync_replicas=2), 2)
    with pytest.raises(InvalidConfigError, match="min_insync_replicas 3 is above the replication factor 2"):
        check_in_sync(TopicConfig(min_insync_replicas=3), 2)


@pytest.mark.parametrize("name", ["message_timestamp_type", "message.timestamp.type"])
def test_the_type_of_time_is_one_of_kafkas_two(name: str) -> None:
    config = parse_topic_config({name: "LogAppendTime"})
    assert config.message_timestamp_type is TimestampType.LOG_APPEND_TIME
    assert config_for_people(msgspec.structs.asdict(config))["message_timestamp_type"] == "LogAppendTime"
    assert change_topic_config(config, {}, [name]) == TopicConfig()
    with pytest.raises(InvalidConfigError, match="is CreateTime or LogAppendTime, not 'logappendtime'"):
        parse_topic_config({name: "logappendtime"})
