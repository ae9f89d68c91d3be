"""How far groups are behind, in records and in seconds: of all groups that one node coordinates.

A group is behind by the age of the first record that it has not committed. That record is read once, and again after a
while: compaction may have removed it. All leaders are asked at the same time, and whoever does not answer in time keeps
nobody else's lag from being known.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

from raftlog.client.admin.groups import GroupAdmin
from raftlog.client.core.call import Call
from raftlog.client.core.exchange import A, Q
from raftlog.client.core.list_offsets import list_offsets_call
from raftlog.client.fetcher.partition_state import PartitionState, Payload
from raftlog.clock import LONG_AGO_S, monotonic_s
from raftlog.errors import ErrorCode, RaftlogError
from raftlog.limits import LAG_GROUPS_MAX, LAG_RECORD_S
from raftlog.protocol import apis
from raftlog.protocol import groups as g
from raftlog.protocol.cluster import TopicMetadata
from raftlog.protocol.records import FetchRequest, FetchResponse
from raftlog.types import EARLIEST_TIMESTAMP, LATEST_TIMESTAMP, OFFSETS_TOPIC, TopicPartition

K = TypeVar("K")


class PartitionLag(NamedTuple):
    """How far a group is behind in a partition.

    `records`: offsets that are not committed, of those that are still there; None: not known.

    `behind_since_ms`: when the first record among them was written; None: not known, or there is none. `caught_up`:
    there is none, whatever the number of offsets: compaction leaves some without a record.
    """

    topic: str
    partition: int
    committed_offset: int
    records: int | None = None
    behind_since_ms: int | None = None
    caught_up: bool = False

    def seconds(self, now_ms: int) -> float | None:
        if self.caught_up:
            return 0.0
        if self.behind_since_ms is None:
            return None
        return max(0, now_ms - self.behind_since_ms) / 1000


class GroupLag(NamedTuple):
    group: str
    members: int
    partitions: list[PartitionLag]


class _Log(NamedTuple):
    """A topic that was made anew under its name has another id."""

    place: TopicPartition
    topic_id: bytes


class _First(NamedTuple):
    """No record lies from where somebody asked up to `offset`. `time_ms`: of the first one from there on; None: there
    was none when it was read.
    """

    offset: int
    time_ms: int | None
    read_s: float


class LagReader(GroupAdmin):
    """Used by one thread. A whole look takes `look_ms` at most."""

    def __init__(self, node: str, look_ms: float, client_id: str) -> None:
        super().__init__(node, request_timeout_ms=look_ms, bootstrap_timeout_ms=look_ms, client_id=client_id)
        self._deadline_s = LONG_AGO_S
        self._firsts: dict[tuple[_Log, int], _First] = {}  # by where groups wait for them

    def look(self, node_id: int) -> list[GroupLag]:
        """What is not answered in time is left out, or not known. Raises RaftlogError where no node answers."""
        self._deadline_s = monotonic_s() + self._timeout_s
        (coordinators,) = self._metadata([OFFSETS_TOPIC], deadline_s=self._stage_end_s()).topics
        listed = self._groups_of(coordinators, node_id)
        committed = self._committed(coordinators, listed)
        there = self._topics_of(committed.values())
        led = {
            _Log(TopicPartition(topic.name, each.partition), topic.topic_id)
            for topic in there
            for each in topic.partitions
            if each.endpoint
        }
        asked = led & {_log(each) for offsets in committed.values() for each in offsets}
        # The start BEFORE the end: retention that comes in between makes the lag too high, never too low.
        starts = self._bounds(asked, EARLIEST_TIMESTAMP)
        ends = self._bounds(starts, LATEST_TIMESTAMP)
        self._read_firsts(
            {
                (log, max(each.offset, starts[log]))
                for offsets in committed.values()
                for each in offsets
                if (log := _log(each)) in ends and max(each.offset, starts[log]) < ends[log]
            }
        )
        ids = {topic.topic_id for topic in there}
        return [
            GroupLag(
                group.group_id,
                group.members,
                [self._lag(each, starts, ends) for each in committed[group.group_id] if each.topic_id in ids],
            )
            for group in listed
            if group.group_id in committed
        ]

    def _groups_of(self, coordinators: TopicMetadata, node_id: int) -> list[g.ListedGroup]:
        led = [each.partition for each in coordinators.partitions if each.leader_id == node_id]
        calls = {number: self._ask_later(number, apis.LIST_GROUPS, g.ListGroupsRequest()) for number in led}
        found = [group for answer in self._answers(calls).values() for group in answer.groups]
        return sorted(found, key=lambda group: group.group_id)[:LAG_GROUPS_MAX]

    def _committed(
        self, coordinators: TopicMetadata, groups: Iterable[g.ListedGroup]
    ) -> dict[str, list[g.CommittedOffset]]:
        count = len(coordinators.partitions)
        calls = {
            name: self._ask_later(
                g.coordinator_partition(name, count), apis.OFFSET_FETCH, g.OffsetFetchRequest(group_id=name)
            )
            for name in (group.group_id for group in groups)
        }
        return {name: answer.offsets for name, answer in self._answers(calls).items()}

    def _topics_of(self, committed: Iterable[list[g.CommittedOffset]]) -> list[TopicMetadata]:
        """Those that are there as the groups know them."""
        known = {(each.topic, each.topic_id) for offsets in committed for each in offsets}
        if not known:
            return []
        found = self._metadata(sorted({name for name, _ in known}), deadline_s=self._stage_end_s()).topics
        return [
            topic for topic in found if topic.error_code == ErrorCode.NONE and (topic.name, topic.topic_id) in known
        ]

    def _bounds(self, logs: Iterable[_Log], timestamp_ms: int) -> dict[_Log, int]:
        calls = {
            log: list_offsets_call(
                self._engine.cache, log.place, timestamp_ms, deadline_s=self._stage_end_s(), topic_id=log.topic_id
            )
            for log in logs
        }
        return {log: answer.offset for log, answer in self._answers(calls).items()}

    def _read_firsts(self, wanted: set[tuple[_Log, int]]) -> None:
        """The first record from each offset on: of those that were read long ago, or that were not there."""
        now_s = monotonic_s()
        never = {key: _First(key[1], None, now_s) for key in wanted}
        self._firsts = {key: self._firsts.get(key, first) for key, first in never.items()}
        due = {
            key for key, first in self._firsts.items() if first.time_ms is None or now_s - first.read_s >= LAG_RECORD_S
        }
        while due:
            calls = {key: self._fetch(key[0], self._firsts[key].offset) for key in due}
            answers = self._answers(calls)
            due = set()
            for key, (high_watermark, data) in answers.items():
                with suppress(RaftlogError):  # a batch that does not decode: its time is not known
                    before = self._firsts[key]
                    first = self._firsts[key] = _first_in(key[0].place, before.offset, high_watermark, data, now_s)
                    if first.time_ms is None and data:
                        due.add(key)  # compaction has left nothing of this batch

    def _fetch(self, log: _Log, offset: int) -> Call[FetchRequest, FetchResponse]:
        """One batch, whatever its size; the answer does not wait for one."""
        return Call(
            f"read {log.place}",
            log.place,
            apis.FETCH,
            FetchRequest(offset, max_bytes=1, max_wait_ms=0, skip_empty=True),
            deadline_s=self._stage_end_s(),
            attempt_s=self._timeout_s,
            topic_id=log.topic_id,
            read_payload=lambda answer, payload: (answer.high_watermark, payload),
        )

    def _lag(self, committed: g.CommittedOffset, starts: Mapping[_Log, int], ends: Mapping[_Log, int]) -> PartitionLag:
        log, named = _log(committed), (committed.topic, committed.partition, committed.offset)
        if log not in ends:
            return PartitionLag(*named)
        offset, end = max(committed.offset, starts[log]), ends[log]
        if offset >= end:
            return PartitionLag(*named, 0, caught_up=True)
        first = self._firsts[log, offset]
        return PartitionLag(*named, end - offset, first.time_ms, first.time_ms is None and first.offset >= end)

    def _ask_later(self, number: int, api: apis.Api[Q, A], body: Q) -> Call[Q, A]:
        """Of the groups in this partition of `__consumer_offsets`."""
        place = TopicPartition(OFFSETS_TOPIC, number)
        return Call(f"ask {place}", place, api, body, deadline_s=self._stage_end_s(), attempt_s=self._timeout_s)

    def _stage_end_s(self) -> float:
        """Who does not answer leaves half of the time to what is asked of others after it."""
        return (monotonic_s() + self._deadline_s) / 2

    def _answers(self, calls: Mapping[K, Call[Any, Any]]) -> dict[K, Any]:
        """Of those that are answered in time."""
        for call in calls.values():
            self._engine.submit(call)
        answers = {}
        for key, call in calls.items():
            with suppress(RaftlogError):
                answers[key] = call.future.result()
        return answers


def _log(committed: g.CommittedOffset) -> _Log:
    return _Log(TopicPartition(committed.topic, committed.partition), committed.topic_id)


def _first_in(place: TopicPartition, offset: int, high_watermark: int, data: bytes, now_s: float) -> _First:
    """What a fetch of one batch says. Raises CorruptMessageError."""
    if not data:
        return _First(max(offset, high_watermark), None, now_s)
    state = PartitionState(place)
    state.move(offset)
    state.add(Payload(data, offset))
    if state.decode_next():
        return _First(state.records[0].offset, state.records[0].timestamp_ms, now_s)
    assert state.position is not None
    return _First(state.position, None, now_s)
