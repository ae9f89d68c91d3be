"""The offsets that groups commit. One is read once it is committed in the log, never before."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from raftlog import limits
from raftlog.config import check_topic_name
from raftlog.coordinator.committed import Committed
from raftlog.coordinator.records import OffsetKey, OffsetValue, Record, encode
from raftlog.errors import ErrorCode, InvalidTopicError
from raftlog.machine.result import Now, Outbox, Then
from raftlog.protocol import groups as g
from raftlog.protocol.body import ResponseBody
from raftlog.protocol.envelope import Request
from raftlog.protocol.groups import NO_OFFSET


class Offsets:
    """Commits on their way to the log, and answers about those that are in it."""

    def __init__(
        self,
        committed: Committed,
        outbox: Outbox,
        propose: Callable[[str, list[Record], Then, Request[Any], ResponseBody], None],
    ) -> None:
        self._committed = committed
        self._outbox = outbox
        self._propose = propose
        self._in_flight: dict[str, dict[bytes, int]] = {}  # group id to keys on their way to the log, and how often
        self._latest: dict[bytes, tuple[int, int]] = {}  # of those keys: committer and sequence of the last one

    def has_any(self, group_id: str) -> bool:
        return group_id in self._in_flight or bool(self._committed.offset_keys(group_id))

    def is_writing(self, group_id: str) -> bool:
        return group_id in self._in_flight

    def commit(self, request: g.OffsetCommitRequest, caller: Request[Any], now_ms: int) -> None:
        """All of them, or none. Who may commit has been judged."""
        group_id = request.group_id
        response = g.OffsetCommitResponse()
        records: list[Record] = []
        code, text = _judge(request)
        if code is ErrorCode.NONE:
            records = [_record(request, committed, now_ms) for committed in request.offsets]
            code, text = self._why_late(request, records)
            code, text = (code, text) if code else self._why_no_room(group_id, records)
        if code is not ErrorCode.NONE or not records:
            response.error_code, response.error_text = int(code), text
            self._outbox.answer(caller, response)
            return
        self._write(group_id, records, (request.committer_id, request.sequence), caller, response)

    def delete(
        self, group_id: str, places: list[tuple[str, int]], caller: Request[Any], response: g.OffsetDeleteResponse
    ) -> None:
        """Of these places what is committed, or is about to be. Who may delete has been judged."""
        known = {*self._committed.offset_keys(group_id), *self._in_flight.get(group_id, ())}
        keys = {encode(OffsetKey(group_id, topic, partition)) for topic, partition in places}
        records: list[Record] = [(key, None) for key in sorted(keys & known)]
        if records:
            self._write(group_id, records, (-1, -1), caller, response)
        else:
            self._outbox.answer(caller, response)

    def _write(
        self,
        group_id: str,
        records: list[Record],
        committer: tuple[int, int],
        caller: Request[Any],
        response: ResponseBody,
    ) -> None:
        in_flight = self._in_flight.setdefault(group_id, {})
        for key, _ in records:
            in_flight[key] = in_flight.get(key, 0) + 1
            self._latest[key] = committer
        self._propose(group_id, records, partial(self._written, group_id, records), caller, response)

    def _why_late(self, request: g.OffsetCommitRequest, records: list[Record]) -> tuple[ErrorCode, str]:
        """A frame that was on its way for long must not take back what its own consumer has committed since."""
        if request.committer_id < 0:
            return ErrorCode.NONE, ""
        for key, _ in records:
            latest = self._latest.get(key)
            if latest is None:
                value = self._committed.offset(key)
                latest = (value.committer_id, value.sequence) if value is not None else (-1, -1)
            if latest[0] == request.committer_id and latest[1] > request.sequence:
                return ErrorCode.INVALID_UPDATE_VERSION, "this consumer has committed later than that"
        return ErrorCode.NONE, ""

    def _why_no_room(self, group_id: str, records: list[Record]) -> tuple[ErrorCode, str]:
        known = self._committed.offset_keys(group_id)
        new = {key for key, _ in records}.difference(known)
        if not new:
            return ErrorCode.NONE, ""
        if self._committed.facts >= limits.COMMITTED_OFFSETS_MAX:
            return ErrorCode.THROTTLING_QUOTA_EXCEEDED, "too many offsets are committed in this partition"
        new.update(key for key in self._in_flight.get(group_id, ()) if key not in known)
        if len(known) + len(new) > limits.OFFSETS_PER_GROUP_MAX:
            return ErrorCode.INVALID_REQUEST, f"a group commits at most {limits.OFFSETS_PER_GROUP_MAX} offsets"
        return ErrorCode.NONE, ""

    def _written(self, group_id: str, records: list[Record], _code: ErrorCode, _now: Now) -> None:
        in_flight = self._in_flight[group_id]
        for key, _ in records:
            in_flight[key] -= 1
            if not in_flight[key]:
                del in_flight[key], self._latest[key]
        if not in_flight:
            del self._in_flight[group_id]

    def fetch(self, request: g.OffsetFetchRequest) -> g.OffsetFetchResponse:
        known = self._committed.offset_keys(request.group_id)
        asked = known
        if request.partitions is not None:
            keys = [OffsetKey(request.group_id, topic, partition) for topic, partition in request.partitions]
            asked = {data: key for key in keys if (data := encode(key)) in known}
        found = [(key, value) for data, key in asked.items() if (value := self._committed.offset(data)) is not None]
        offsets = [
            g.CommittedOffset(
                topic=key.topic,
                topic_id=value.topic_id,
                partition=key.partition,
                offset=value.offset,
                leader_epoch=value.leader_epoch,
                metadata=value.metadata,
                begun_partitions=value.begun_partitions,
            )
            for key, value in found
        ]
        return g.OffsetFetchResponse(
            offsets=offsets,
            version=self._committed.version(request.group_id) if request.with_version else b"",
        )

    def tombstones(self, group_id: str) -> list[Record]:
        """For all that the group has committed, and for what is about to be: it stands before these in the log."""
        keys = {*self._committed.offset_keys(group_id), *self._in_flight.get(group_id, ())}
        return [(key, None) for key in sorted(keys)]

    def expired(self, group_id: str, empty_since_ms: int, now_ms: int) -> list[Record]:
        """Tombstones for what a group without members committed too long ago, if it has been without for as long."""
        if group_id in self._in_flight:
            return []
        last_ms = now_ms - limits.OFFSETS_RETENTION_MS
        if empty_since_ms > last_ms:
            return []
        keys = self._committed.offset_keys(group_id)
        values = [(key, self._committed.offset(key)) for key in sorted(keys)]
        return [(key, None) for key, value in values if value is not None and value.committed_ms <= last_ms]


def _record(request: g.OffsetCommitRequest, committed: g.CommittedOffset, now_ms: int) -> Record:
    key = encode(OffsetKey(request.group_id, committed.topic, committed.partition))
    if committed.offset == NO_OFFSET:
        return key, None
    value = OffsetValue(
        topic_id=committed.topic_id,
        offset=committed.offset,
        leader_epoch=committed.leader_epoch,
        metadata=committed.metadata,
        committed_ms=now_ms,
        begun_partitions=committed.begun_partitions,
        committer_id=request.committer_id,
        sequence=request.sequence,
    )
    return key, encode(value)


def _judge(request: g.OffsetCommitRequest) -> tuple[ErrorCode, str]:
    """Outside input: whether this may be written at all."""
    try:
        for committed in request.offsets:
            check_topic_name(committed.topic, internal=True)
    except InvalidTopicError as error:
        return error.code, str(error)
    if not all(-1 <= number < 2**63 for number in (request.committer_id, request.sequence)):
        return ErrorCode.INVALID_REQUEST, "the number of a committer or of its commit is out of bounds"
    if not all(_is_sane(committed) for committed in request.offsets):
        return ErrorCode.INVALID_REQUEST, "an offset, its partition or its metadata is out of bounds"
    return ErrorCode.NONE, ""


def _is_sane(committed: g.CommittedOffset) -> bool:
    return (
        len(committed.topic_id) == 16
        and 0 <= committed.partition < 2**31
        and NO_OFFSET <= committed.offset < 2**63
        and -1 <= committed.leader_epoch <= limits.LEADER_EPOCH_MAX
        and -1 <= committed.begun_partitions < 2**31
        and len(committed.metadata) <= limits.OFFSET_METADATA_CHARS_MAX
    )
