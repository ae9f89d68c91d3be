"""Bounds that a short run would never reach, made small: caches are full, the index is written, queues overflow.

For the simulator only. No guarantee may depend on how large a bound is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import ModuleType
from unittest import mock

from raftlog import limits
from raftlog.storage import appender, compaction, lookup, recovery

BOUNDS: list[tuple[ModuleType, str, float]] = [
    (limits, "TAIL_CACHE_BYTES", 20_000),
    (limits, "FOLLOWER_TAIL_BYTES", 5_000),
    (limits, "APPEND_WINDOW_BYTES", 30_000),
    (limits, "APPEND_WINDOW_MESSAGES", 4),
    (limits, "APPEND_MESSAGE_BYTES", 10_000),
    (limits, "UNANSWERED_PRODUCES_MAX", 10),
    (limits, "UNANSWERED_PRODUCE_BYTES_MAX", 30_000),
    (limits, "WAITING_FETCHES_MAX", 2),
    (appender, "PRODUCER_SNAPSHOT_BYTES", 20_000),
    (limits, "COMPACTION_KEYS_MAX", 5),
    (limits, "COMPACTION_SLICE_BYTES", 1500),
    (appender, "INDEX_COMMIT_BYTES", 10_000),
    (appender, "INDEX_INTERVAL_BYTES", 3_000),
    (compaction, "INDEX_INTERVAL_BYTES", 3_000),
    (lookup, "INDEX_INTERVAL_BYTES", 3_000),
    (recovery, "INDEX_INTERVAL_BYTES", 3_000),
    (appender, "INDEX_PENDING_MAX", 5),
    (lookup, "READER_PLACES_MAX", 1),
    (lookup, "OPEN_SEGMENTS_MAX", 1),
]
# A group sleeps soon: whenever its clients think.
SLEEP_BOUNDS: list[tuple[ModuleType, str, float]] = [
    (limits, "SLEEP_AFTER_S", 0.05),
    (limits, "AWAKE_S", 0.03),
    (limits, "PREFERRED_LEADER_S", 0.1),
    (limits, "PREFERRED_LEADER_AGAIN_S", 0.3),
]


@contextmanager
def tight_bounds(wanted: bool, bounds: list[tuple[ModuleType, str, float]] = BOUNDS) -> Iterator[None]:
    with ExitStack() as stack:
        for module, name, value in bounds if wanted else ():
            stack.enter_context(mock.patch.object(module, name, value))
        yield
