"""What users hand in, checked in their own thread: the client's would end by what it cannot encode or compare."""

from __future__ import annotations

import operator

from raftlog.limits import OFFSET_MAX
from raftlog.types import TopicPartition


def text(value: str) -> str:
    """Raises TypeError, and ValueError for what UTF-8 cannot say."""
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not text")
    value.encode()
    return value


def number(what: str, value: int, least: int = 0, most: int = OFFSET_MAX) -> int:
    """Raises TypeError for what is no whole number, and ValueError outside of [least, most]."""
    try:
        found = operator.index(value)
    except TypeError:
        raise TypeError(f"{what} is a whole number, not {value!r}") from None
    if not least <= found <= most:
        raise ValueError(f"{what} is between {least} and {most}, not {found}")
    return found


def offset(value: int) -> int:
    """Raises as `number`."""
    return number("an offset", value)


def place(value: TopicPartition) -> TopicPartition:
    """Raises TypeError, ValueError."""
    topic, partition = value
    return TopicPartition(text(topic), number("a partition", partition, most=2**31 - 1))


def seconds(what: str, value_ms: float) -> float:
    """Of a time to wait, which ends. Raises ValueError."""
    if not 0 < value_ms < float("inf"):
        raise ValueError(f"{what} is above 0 and ends, unlike {value_ms}")
    return value_ms / 1000
