"""What a consumer holds of one partition: its position, and fetched bytes that are not decoded yet.

The client's thread adds payloads, the user's thread decodes them, one batch at a time and only when
records are asked for. Whoever calls holds the fetcher's lock, except for `decode_next`, which works on
what the user's thread has taken out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from functools import partial
from typing import Any

import msgspec

from raftlog.client.core.metadata import Leader
from raftlog.clock import LONG_AGO_S
from raftlog.errors import CorruptMessageError, RaftlogError
from raftlog.limits import RETRY_BACKOFF_MIN_S
from raftlog.record.batch import BatchHeader, decode_batch, split
from raftlog.types import TopicPartition

EARLIEST = "earliest"
LATEST = "latest"


class ConsumerRecord(msgspec.Struct, gc=False):
    """One record. headers are (name, value) pairs.

    key and value are bytes, or None when null; with a deserializer, what that made of them.
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: Any
    value: Any
    headers: list[tuple[str, bytes | None]]


class Payload:
    """The answer to one fetch: whole batches. The first may begin below `offset`, which was asked for."""

    __slots__ = ("batches", "data", "next_offset", "size_bytes")

    def __init__(self, data: bytes, offset: int) -> None:
        """Raises CorruptMessageError when the batches are not whole or do not lead on from `offset`."""
        headers = list(split(data))
        next_offset = offset
        for _, header in headers:
            if header.next_offset <= next_offset:
                raise CorruptMessageError(f"a batch that ends at {header.next_offset} follows offset {next_offset}")
            next_offset = header.next_offset
        self.data = data
        self.size_bytes = len(data)
        self.batches: Iterator[tuple[int, BatchHeader]] = iter(headers)
        self.next_offset = next_offset


class PartitionState:
    """One partition of a consumer: where it reads, and what was fetched and not handed out.

    `version` grows with every seek, so that what was asked before it is known to be stale.

    position      the next offset to hand out; None until a reset has found it
    fetch_offset  the next offset to ask for; runs ahead of the position
    position_epoch  the leader epoch of the batch in front of the position, or of the leader who gave it (KIP-320); -1:
                  not known
    read_epoch    the newest leader epoch that has answered for this position, or that it was committed with; -1: none
    reset         where to start when the position is None: EARLIEST or LATEST
    begins        it has no position yet because it was assigned; nobody asked for `reset`
    """

    def __init__(self, place: TopicPartition) -> None:
        self.place = place
        self.version = 0
        self.position: int | None = None
        self.fetch_offset: int | None = None
        self.read_epoch = -1
        self.reset: str | None = None
        self.begins = False
        self.topic_id: bytes | None = None
        self.high_watermark = -1
        self.assigned = True
        self.assigned_s = LONG_AGO_S  # when the client's thread last looked before it was assigned
        self.paused = False
        # Fetched, not handed out.
        self.payloads: deque[Payload] = deque()
        self.buffered_bytes = 0
        self.records: list[ConsumerRecord] = []
        self.index = 0  # of the next one in `records`
        self.after_records = 0  # the position once `records` is used up
        self._records_epoch = -1  # of the batch that `records` are of
        self._epoch_before = -1  # of what is in front of `records`
        # The one request that may be under way.
        self.asked: tuple[Leader, int] | None = None  # whom, and its correlation id
        self.moved_s: float | None = None  # since when another leader is known than the one asked
        self.connecting_s: float | None = None
        self.retry_s = 0.0
        self.backoff_s = RETRY_BACKOFF_MIN_S
        self.corrupt_fetches = 0
        self.error: RaftlogError | None = None

    @property
    def position_epoch(self) -> int:
        # Told apart here, since the position moves with each record.
        return self._records_epoch if self.index else self._epoch_before

    def move(self, offset: int | None, reset: str | None = None, *, epoch: int = -1) -> None:
        """Forgets what was fetched and goes on at `offset`, read in `epoch`, or where `reset` leads."""
        self.version += 1
        self.position = self.fetch_offset = offset
        self.reset = reset
        self.begins = False
        self.payloads.clear()
        self.buffered_bytes = 0
        self.records = []
        self.index = 0
        self._epoch_before = self.read_epoch = epoch
        self.asked = None
        self.moved_s = None
        self.retry_s = 0.0
        self.backoff_s = RETRY_BACKOFF_MIN_S
        self.error = None

    def found(self, offset: int, epoch: int) -> None:
        """Where the reset leads, as the leader of `epoch` has said."""
        self.position = self.fetch_offset = offset
        self._epoch_before = self.read_epoch = epoch
        self.reset = None

    @property
    def unplaced(self) -> bool:
        """Waits to be told where to begin."""
        return self.position is None and self.reset is None and self.error is None

    def add(self, payload: Payload) -> None:
        self.payloads.append(payload)
        self.buffered_bytes += payload.size_bytes
        self.fetch_offset = payload.next_offset

    def has_records(self) -> bool:
        return self.index < len(self.records) or bool(self.payloads)

    def decode_next(self) -> bool:
        """Fills `records` from the next batch; False when there is none. Raises CorruptMessageError.

        Records below the position are dropped: a fetch answers with whole batches.
        """
        assert self.index >= len(self.records), "records are left"
        assert self.position is not None
        self._epoch_before = self.position_epoch
        self.records = []
        self.index = 0
        while self.payloads:
            payload = self.payloads[0]
            found = next(payload.batches, None)
            if found is None:
                self.payloads.popleft()
                self.buffered_bytes -= payload.size_bytes
                continue
            start, header = found
            records = decode_batch(payload.data, start, header, partial(ConsumerRecord, *self.place))
            if header.base_offset < self.position:
                records = [record for record in records if record.offset >= self.position]
            self.after_records = header.next_offset
            if records:
                self.records = records
                self._records_epoch = header.leader_epoch
                return True
            self.position = header.next_offset
            self._epoch_before = header.leader_epoch
        return False

    def take(self, most: int) -> list[ConsumerRecord]:
        """Up to `most` of `records`; the position moves behind them."""
        taken = self.records[self.index : self.index + most]
        self.index += len(taken)
        self.position = taken[-1].offset + 1 if self.index < len(self.records) else self.after_records
        return taken
