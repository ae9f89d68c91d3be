"""Questions by time (ListOffsets) that are being answered, a bounded piece of the searches in each turn.

All who ask for the same time share one search: a client whose attempt timed out asks again, and adds no work. No I/O
but the log's reads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice

from raftlog import limits
from raftlog.errors import CorruptLogError, CorruptMessageError, ErrorCode
from raftlog.storage.log import PartitionLog
from raftlog.storage.time_search import NewestSearch, TimeSearch

Found = Callable[[ErrorCode, tuple[int, int] | None], None]


@dataclass(slots=True)
class _Asked:
    search: TimeSearch | NewestSearch
    last_s: float = 0.0
    asking: list[Found] = field(default_factory=list)


class TimeSearches:
    """The first few are under way, each a little in every turn; the others wait for one to end."""

    def __init__(self, log: PartitionLog) -> None:
        self.count = 0  # of those who ask
        self._log = log
        self._asked: dict[int, _Asked] = {}

    def add(self, timestamp_ms: int, found: Found, now_s: float) -> None:
        """`timestamp_ms` as PartitionLog.search_time. `found(code, (offset, timestamp_ms) or None)` is called once."""
        if self.count >= limits.WAITING_FETCHES_MAX:
            found(ErrorCode.THROTTLING_QUOTA_EXCEEDED, None)
            return
        asked = self._asked.get(timestamp_ms)
        if asked is None:
            asked = self._asked[timestamp_ms] = _Asked(self._log.search_time(timestamp_ms))
        asked.asking.append(found)
        asked.last_s = now_s
        self.count += 1

    def step(self, high_watermark: int, now_s: float) -> None:
        """Of a leader: `high_watermark` is at or behind what it was when each was asked."""
        left = limits.SEARCHED_RECORDS_PER_TURN
        while self._asked and left > 0:
            for timestamp_ms in list(islice(self._asked, limits.TIME_SEARCHES_AT_ONCE)):
                left -= self._go_on(timestamp_ms, high_watermark, now_s)

    def refuse_all(self, code: ErrorCode) -> None:
        for timestamp_ms in list(self._asked):
            self._end(timestamp_ms, code)

    def _go_on(self, timestamp_ms: int, high_watermark: int, now_s: float) -> int:
        asked = self._asked[timestamp_ms]
        if asked.last_s + limits.TIME_SEARCH_S <= now_s:
            self._end(timestamp_ms, ErrorCode.REQUEST_TIMED_OUT)
            return 0
        records = limits.SEARCHED_RECORDS_PER_TURN // limits.TIME_SEARCHES_AT_ONCE
        try:
            work = asked.search.step(self._log.state.log_start_offset, high_watermark, records)
        except (CorruptLogError, CorruptMessageError):
            # On the way there; the scrub finds where. To be asked again, of whoever leads once this replica refetches.
            damaged = self._log.damage is not None
            self._end(timestamp_ms, ErrorCode.CORRUPT_MESSAGE if damaged else ErrorCode.KAFKA_STORAGE_ERROR)
            return records
        if asked.search.done:
            self._end(timestamp_ms, ErrorCode.NONE)
        return work

    def _end(self, timestamp_ms: int, code: ErrorCode) -> None:
        asked = self._asked.pop(timestamp_ms)
        self.count -= len(asked.asking)
        for found in asked.asking:
            found(code, asked.search.found)
