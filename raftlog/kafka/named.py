"""What a request of Kafka's names, and whether an answer refuses something for want of a rule: for the audit log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from raftlog.errors import ErrorCode
from raftlog.kafka.codes import KafkaCode
from raftlog.security.quotas import text_of

_REFUSED = {
    ErrorCode.TOPIC_AUTHORIZATION_FAILED,
    ErrorCode.GROUP_AUTHORIZATION_FAILED,
    ErrorCode.CLUSTER_AUTHORIZATION_FAILED,
    KafkaCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
}
_LISTS = (
    *("topics", "topic_names", "groups_names", "resources", "creations", "filters"),
    *("upsertions", "deletions", "topic_partitions", "entries"),
)
_NAMES = ("name", "topic", "resource_name", "resource_name_filter")


def named_in(request: Any) -> list[str]:
    """In the order of the request, each once."""
    return list(dict.fromkeys(_names(request)))


def _names(request: Any) -> Iterator[str]:
    for key in _LISTS:
        for each in getattr(request, key, None) or ():
            if isinstance(each, str):
                yield each
                continue
            if hasattr(each, "entity"):
                yield text_of(tuple((part.entity_type, part.entity_name) for part in each.entity))
            for name in _NAMES:
                found = getattr(each, name, None)
                if isinstance(found, str):
                    yield found


def is_refused(value: Any) -> bool:
    """Whether an answer has such an error anywhere."""
    if isinstance(value, Mapping):
        return any(
            (each in _REFUSED if str(key).endswith("error_code") else is_refused(each)) for key, each in value.items()
        )
    return isinstance(value, list) and any(map(is_refused, value))
