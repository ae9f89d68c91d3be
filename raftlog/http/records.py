"""Records for people who look: some from a place on, those that hold a text, one whole. A Consumer reads them."""

from __future__ import annotations

import base64
import contextlib
import queue
from collections.abc import Iterator, Mapping

import msgspec

from raftlog import Admin, Consumer, ConsumerRecord
from raftlog.clock import monotonic_s
from raftlog.errors import InvalidRequestError, OffsetOutOfRangeError, UnknownTopicOrPartitionError
from raftlog.limits import (
    HTTP_ANSWER_S,
    HTTP_CONSUMERS_IDLE_MAX,
    HTTP_PREVIEW_BYTES,
    HTTP_PREVIEW_HEADERS,
    HTTP_RECORDS_MAX,
    HTTP_SEARCH_S,
    HTTP_SEARCHED_RECORDS_MAX,
    OFFSET_MAX,
)
from raftlog.protocol.security import Behalf
from raftlog.types import EARLIEST_TIMESTAMP, LATEST_TIMESTAMP, Endpoint, TopicPartition

_POLL_MS = 100.0
_RECORDS_DEFAULT = 50


class RecordsWanted(msgspec.Struct, frozen=True, kw_only=True):
    """What a page asks for. At most one of `offset`, `time_ms` and `at` says where it begins; else with the newest.

    `partition` None: all. `at`: `partition:offset,…`, as an answer's `next`. `search`: only records whose key, value or
    headers hold it. `key`: only records with this key. Both are UTF-8, and compared byte by byte.
    """

    partition: int | None = None
    offset: int | None = None
    time_ms: int | None = None
    at: str = ""
    limit: int = _RECORDS_DEFAULT
    search: str = ""
    key: str | None = None


class ShownBytes(msgspec.Struct, frozen=True, kw_only=True):
    """The first bytes of a key, a value or a header. `size_bytes`: of the whole."""

    size_bytes: int
    base64: str


class ShownHeader(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    value: ShownBytes | None


class ShownRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A record, as the console shows it. `header_count`: of all; only the first are in `headers`."""

    partition: int
    offset: int
    timestamp_ms: int
    key: ShownBytes | None
    value: ShownBytes | None
    headers: list[ShownHeader]
    header_count: int


class RecordsFound(msgspec.Struct, frozen=True, kw_only=True):
    """The records that a search has found so far.

    `next`: where each partition is read on. `start`, `end`: [start, end) of what can be read.

    `complete`: everything up to `end` has been looked at.
    """

    topic: str
    records: list[ShownRecord]
    next: dict[int, int]
    start: dict[int, int]
    end: dict[int, int]
    without_leader: list[int]
    looked_at: int
    complete: bool


class RecordReader:
    """Blocking, for any thread. Each method raises RaftlogError."""

    def __init__(self, node: Endpoint, behalf: Behalf | None = None) -> None:
        """`behalf`: for whom records are read; None: for the node."""
        self._node = str(node)
        self._behalf = behalf
        self._idle: queue.LifoQueue[Consumer] = queue.LifoQueue(HTTP_CONSUMERS_IDLE_MAX)

    def find(self, admin: Admin, topic: str, wanted: RecordsWanted) -> RecordsFound:
        if not 1 <= wanted.limit <= HTTP_RECORDS_MAX:
            raise InvalidRequestError(f"limit lies between 1 and {HTTP_RECORDS_MAX}")
        led = _led(admin, topic)
        chosen = list(led) if wanted.partition is None else [_known(led, topic, wanted.partition)]
        places = [TopicPartition(topic, number) for number in chosen if led[number]]
        # The start BEFORE the end: retention that comes in between moves none below it.
        start = admin.list_offsets(dict.fromkeys(places, EARLIEST_TIMESTAMP))
        end = admin.list_offsets(dict.fromkeys(places, LATEST_TIMESTAMP))
        begin = _begin(admin, wanted, start, end)
        with self._consumer() as consumer:
            search = _Search(consumer, wanted, begin, end)
            search.run()
        return RecordsFound(
            topic=topic,
            records=[_shown(record) for record in search.found],
            next=_by_number(search.next),
            start=_by_number(start),
            end=_by_number(end),
            without_leader=[number for number in chosen if not led[number]],
            looked_at=search.looked_at,
            complete=not search.unread(),
        )

    def one(self, admin: Admin, place: TopicPartition, offset: int) -> ConsumerRecord:
        """Raises OffsetOutOfRangeError where there is no such record, or none any more."""
        _known(_led(admin, place.topic), place.topic, place.partition)
        (start,) = admin.list_offsets({place: EARLIEST_TIMESTAMP}).values()
        (end,) = admin.list_offsets({place: LATEST_TIMESTAMP}).values()
        if start <= offset < end:
            with self._consumer() as consumer:
                consumer.assign([place])
                consumer.seek(place, offset)
                deadline_s = monotonic_s() + HTTP_ANSWER_S
                while monotonic_s() < deadline_s and consumer.position(place) <= offset:
                    for record in consumer.poll(_POLL_MS, 1).get(place, ()):
                        if record.offset == offset:
                            return record
        raise OffsetOutOfRangeError(f"{place} has no record at offset {offset}; it has {start} to {end - 1}")

    @contextlib.contextmanager
    def _consumer(self) -> Iterator[Consumer]:
        """One that nobody uses. It is kept for the next who asks, unless something went wrong with it."""
        try:
            consumer = self._idle.get_nowait()
        except queue.Empty:
            timeout_ms = HTTP_ANSWER_S * 1000
            consumer = Consumer(
                bootstrap_servers=self._node,
                auto_offset_reset="earliest",
                request_timeout_ms=timeout_ms,
                bootstrap_timeout_ms=timeout_ms,
                client_id="raftlog-http",
                user=self._behalf,
            )
        kept = False
        try:
            yield consumer
            consumer.assign([])
            with contextlib.suppress(queue.Full):
                self._idle.put_nowait(consumer)
                kept = True
        finally:
            if not kept:
                consumer.close()

    def close(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                self._idle.get_nowait().close()


class _Search:
    """Looks at records from `begin` on, until `end`, or enough are found, or it took too long."""

    def __init__(
        self,
        consumer: Consumer,
        wanted: RecordsWanted,
        begin: Mapping[TopicPartition, int],
        end: Mapping[TopicPartition, int],
    ) -> None:
        self._consumer = consumer
        self._limit = wanted.limit
        self._needle = wanted.search.encode()
        self._key = None if wanted.key is None else wanted.key.encode()
        self._end = end
        self.next = dict(begin)
        self.found: list[ConsumerRecord] = []
        self.looked_at = 0

    def run(self) -> None:
        unread = self.unread()
        self._consumer.assign(unread)
        for place in unread:
            self._consumer.seek(place, self.next[place])
        deadline_s = monotonic_s() + HTTP_SEARCH_S
        while self.unread() and self._goes_on() and monotonic_s() < deadline_s:
            self._look(self._consumer.poll(_POLL_MS))
        self.found.sort(key=lambda record: (record.timestamp_ms, record.partition, record.offset))

    def unread(self) -> list[TopicPartition]:
        return [place for place, offset in self.next.items() if offset < self._end[place]]

    def _goes_on(self) -> bool:
        return len(self.found) < self._limit and self.looked_at < HTTP_SEARCHED_RECORDS_MAX

    def _look(self, polled: Mapping[TopicPartition, list[ConsumerRecord]]) -> None:
        for place, records in polled.items():
            for record in records:
                if not self._goes_on():
                    return
                if record.offset < self._end[place]:
                    self.next[place] = record.offset + 1
                    self.looked_at += 1
                    if self._matches(record):
                        self.found.append(record)
        # Behind the last record there may be offsets that compaction has emptied.
        for place in self.unread():
            self.next[place] = min(max(self.next[place], self._consumer.position(place)), self._end[place])

    def _matches(self, record: ConsumerRecord) -> bool:
        if self._key is not None and record.key != self._key:
            return False
        if not self._needle:
            return True
        texts = [record.key, record.value]
        for name, value in record.headers:
            texts += [name.encode("utf-8", "surrogateescape"), value]
        return any(self._needle in text for text in texts if text is not None)


def _led(admin: Admin, topic: str) -> dict[int, bool]:
    """Of each partition whether it has a leader. Raises UnknownTopicOrPartitionError."""
    (found,) = admin.describe_topics([topic])
    return {each.partition: each.leader_id >= 0 for each in sorted(found.partitions, key=lambda each: each.partition)}


def _known(led: Mapping[int, bool], topic: str, partition: int) -> int:
    """Raises UnknownTopicOrPartitionError."""
    if partition not in led:
        raise UnknownTopicOrPartitionError(f"topic {topic} has no partition {partition}")
    return partition


def _by_number(offsets: Mapping[TopicPartition, int]) -> dict[int, int]:
    return {place.partition: offset for place, offset in offsets.items()}


def _begin(
    admin: Admin, wanted: RecordsWanted, start: Mapping[TopicPartition, int], end: Mapping[TopicPartition, int]
) -> dict[TopicPartition, int]:
    """Within what there is. Raises InvalidRequestError."""
    if sum((wanted.offset is not None, wanted.time_ms is not None, bool(wanted.at))) > 1:
        raise InvalidRequestError("only one of offset, time_ms and at says where to begin")
    if wanted.at:
        begin = {**end, **_parse_at(wanted.at, start)}
    elif wanted.offset is not None:
        begin = dict.fromkeys(start, wanted.offset)
    elif wanted.time_ms is not None:
        found = admin.list_offsets(dict.fromkeys(start, max(0, wanted.time_ms)))
        begin = {place: end[place] if offset < 0 else offset for place, offset in found.items()}
    elif wanted.search or wanted.key is not None:
        begin = dict(start)
    else:
        share = max(1, wanted.limit // max(1, len(start)))
        begin = {place: offset - share for place, offset in end.items()}
    return {place: min(max(offset, start[place]), max(end[place], start[place])) for place, offset in begin.items()}


def _parse_at(text: str, places: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
    numbers = {place.partition: place for place in places}
    begin = {}
    for part in text.split(","):
        partition, _, offset = part.partition(":")
        if not (partition.isdecimal() and offset.isdecimal() and int(offset) <= OFFSET_MAX):
            raise InvalidRequestError("at is a list of partition:offset, separated by commas")
        if int(partition) in numbers:
            begin[numbers[int(partition)]] = int(offset)
    return begin


def _shown(record: ConsumerRecord) -> ShownRecord:
    headers = [
        ShownHeader(name=name.encode("utf-8", "surrogateescape").decode("utf-8", "replace"), value=_shown_bytes(value))
        for name, value in record.headers[:HTTP_PREVIEW_HEADERS]
    ]
    return ShownRecord(
        partition=record.partition,
        offset=record.offset,
        timestamp_ms=record.timestamp_ms,
        key=_shown_bytes(record.key),
        value=_shown_bytes(record.value),
        headers=headers,
        header_count=len(record.headers),
    )


def _shown_bytes(value: bytes | None) -> ShownBytes | None:
    if value is None:
        return None
    return ShownBytes(size_bytes=len(value), base64=base64.b64encode(value[:HTTP_PREVIEW_BYTES]).decode())
