"""How far groups are behind, in records and in seconds: of the groups that this node coordinates.

A group is behind by the age of the first record that it has not committed. That record is read, once for each committed
offset; its time is known then as long as the group stays there.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import NamedTuple

from raftlog import Admin, Consumer, TopicPartition
from raftlog.clock import monotonic_s
from raftlog.errors import RaftlogError
from raftlog.limits import HTTP_ANSWER_S, HTTP_GROUPS_MAX
from raftlog.view.answers import described_group
from raftlog.view.groups import GroupPartitionView, GroupView

_READ_S = 1.0
_POLL_MS = 100


class PartitionLag(NamedTuple):
    """`behind_since_ms`: when the first record that is not committed was written. None: there is none, or not known."""

    topic: str
    partition: int
    committed_offset: int
    records: int | None
    behind_since_ms: int | None

    def seconds(self, now_ms: int) -> float | None:
        if self.records == 0:
            return 0.0
        if self.behind_since_ms is None:
            return None
        return max(0, now_ms - self.behind_since_ms) / 1000


class GroupLag(NamedTuple):
    group: str
    members: int
    partitions: list[PartitionLag]


class Lags:
    """Used by one thread. Raises RaftlogError while the cluster does not answer."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._reader: Consumer | None = None
        self._times_ms: dict[tuple[TopicPartition, int], int] = {}  # of the first record at or behind an offset

    def look(self, admin: Admin, node_id: int) -> list[GroupLag]:
        views: list[GroupView] = []
        for listed in admin.list_groups(coordinator=node_id)[:HTTP_GROUPS_MAX]:
            try:
                views.append(described_group(admin, listed.group_id))
            except RaftlogError:
                continue  # it was deleted since, or its coordinator moves
        wanted = {
            (TopicPartition(each.topic, each.partition), max(each.committed_offset or 0, each.log_start_offset or 0))
            for view in views
            for each in view.partitions
            if each.lag and each.committed_offset is not None
        }
        self._times_ms = {known: at_ms for known, at_ms in self._times_ms.items() if known in wanted}
        self._read({*wanted} - self._times_ms.keys())
        return [
            GroupLag(
                view.group,
                len(view.members),
                [_lag(each, self._times_ms) for each in view.partitions if each.committed_offset is not None],
            )
            for view in views
        ]

    def _read(self, wanted: set[tuple[TopicPartition, int]]) -> None:
        """The first record of each. Two groups may wait at different offsets of one partition: one round for each."""
        while wanted:
            round_of: dict[TopicPartition, int] = {}
            for place, offset in sorted(wanted):
                round_of.setdefault(place, offset)
            wanted -= set(round_of.items())
            self._read_round(round_of)

    def _read_round(self, offsets: Mapping[TopicPartition, int]) -> None:
        if self._reader is None:
            self._reader = Consumer(
                bootstrap_servers=self._node,
                auto_offset_reset="earliest",
                max_partition_fetch_bytes=1,  # one batch
                request_timeout_ms=HTTP_ANSWER_S * 1000,
                bootstrap_timeout_ms=HTTP_ANSWER_S * 1000,
                client_id="raftlog-http",
            )
        reader = self._reader
        reader.assign(list(offsets))
        for place, offset in offsets.items():
            reader.seek(place, offset)
        missing = dict(offsets)
        deadline_s = monotonic_s() + _READ_S
        while missing and monotonic_s() < deadline_s:
            for place, records in reader.poll(_POLL_MS).items():
                if place in missing and records:
                    self._times_ms[place, missing.pop(place)] = records[0].timestamp_ms
                    reader.pause(place)
        reader.assign([])

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()


def _lag(view: GroupPartitionView, times_ms: Mapping[tuple[TopicPartition, int], int]) -> PartitionLag:
    assert view.committed_offset is not None
    offset = max(view.committed_offset, view.log_start_offset or 0)
    behind_since_ms = times_ms.get((TopicPartition(view.topic, view.partition), offset)) if view.lag else None
    return PartitionLag(view.topic, view.partition, view.committed_offset, view.lag, behind_since_ms)


def now_ms() -> int:
    return time.time_ns() // 1_000_000
