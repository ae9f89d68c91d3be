"""Records from a consumer to stdout: where they begin, and when there are enough."""

from __future__ import annotations

import contextlib
import select
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from raftlog.errors import OffsetOutOfRangeError, RaftlogError
from raftlog.types import TopicPartition

from .ending import as_a_whole
from .record_format import Formatter

if TYPE_CHECKING:
    from raftlog import Consumer
    from raftlog.client import ConsumerRecord

_POLL_MS = 200  # how soon a reader that has gone is noticed
_POLL_RECORDS = 5_000  # bounds what is held before it is written
_STALLED_S = 30.0  # with --exit-at-end, the longest wait for records that are known to be there

Offsets = Mapping[TopicPartition, int]


class Start(NamedTuple):
    """Where reading begins, as the command line says it.

    `text` is "beginning", "end" or an offset, unless `since_ms` is a time or `tail` a number of records.
    """

    text: str
    since_ms: int | None
    tail: int | None = None

    def offsets(self, consumer: Consumer, partitions: Sequence[TopicPartition], ends: Offsets) -> Offsets:
        """Raises OffsetOutOfRangeError for an offset that is not there."""
        if self.text == "end" and self.tail is None:
            return {partition: ends[partition] for partition in partitions}
        if self.since_ms is not None:
            found = consumer.offsets_for_times(dict.fromkeys(partitions, self.since_ms))
            return {place: ends[place] if first is None else first.offset for place, first in found.items()}
        beginnings = consumer.beginning_offsets(partitions)
        if self.tail is not None:
            return {place: max(beginning, ends[place] - self.tail) for place, beginning in beginnings.items()}
        if self.text == "beginning":
            return beginnings
        offset = int(self.text)
        for partition, beginning in beginnings.items():
            if not beginning <= offset <= ends[partition]:
                raise OffsetOutOfRangeError(
                    f"{partition} has offsets {beginning} to {ends[partition]} (exclusive), not {offset}"
                )
        return dict.fromkeys(partitions, offset)


class Reading:
    """By one who reads all that is assigned. `ends` None: without end."""

    def __init__(self, consumer: Consumer, ends: Offsets | None) -> None:
        self.consumer = consumer
        self.ends = ends

    def behind(self) -> list[TopicPartition]:
        """Those whose end has not been reached."""
        return [each for each, end in (self.ends or {}).items() if self.consumer.position(each) < end]

    def written(self, positions: Offsets) -> None:
        """All in front of these has gone to stdout."""


def copy_records(reading: Reading, formatter: Formatter, max_records: int | None) -> None:
    """Until `max_records` are written, or every partition is at its end; without end with neither.

    Raises BrokenPipeError when the reader has gone, also while there is nothing to write.
    """
    out = sys.stdout.buffer
    reader = _Reader()
    ends = reading.ends
    left = max_records
    progress_s = time.monotonic()
    while left != 0 and (ends is None or reading.behind()):
        polled = reading.consumer.poll(timeout_ms=_POLL_MS, max_records=min(left or _POLL_RECORDS, _POLL_RECORDS))
        wanted = {partition: _in_front_of(ends, partition, records) for partition, records in polled.items()}
        with as_a_whole():  # or lines are cut, and what was written is not known to be
            for records in wanted.values():
                out.write(b"".join(map(formatter, records)))
            out.flush()
            reading.written({partition: records[-1].offset + 1 for partition, records in wanted.items() if records})
        if left is not None:
            left -= sum(map(len, wanted.values()))
        now_s = time.monotonic()
        if polled:
            progress_s = now_s
        elif ends is not None and now_s - progress_s > _STALLED_S:
            behind = ", ".join(map(str, reading.behind()))
            raise RaftlogError(f"no records of {behind} for {_STALLED_S:.0f} s; `raftlog cluster status` may say why")
        reader.check()


def _in_front_of(
    ends: Offsets | None, partition: TopicPartition, records: Sequence[ConsumerRecord]
) -> Sequence[ConsumerRecord]:
    """The last batch may reach past what was the end when the command started."""
    end = records[-1].offset + 1 if ends is None else ends.get(partition, 0)
    return [record for record in records if record.offset < end]


class _Reader:
    """Notices that the reader of our pipe has gone although nothing is written to it."""

    def __init__(self) -> None:
        self._poll = select.poll()
        with contextlib.suppress(OSError):  # a stdout that is no file, as in tests
            self._poll.register(sys.stdout.fileno(), 0)

    def check(self) -> None:
        if any(event & select.POLLERR for _, event in self._poll.poll(0)):
            raise BrokenPipeError
