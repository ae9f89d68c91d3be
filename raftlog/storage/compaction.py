"""One pass of compaction over closed segments: which records stay, and the segments that hold them. Reads segments,
writes new files beside them, and changes nothing of the log; cleaner.py puts a finished segment in its place.

    the newest record of each key stays, and a record without a key
    a tombstone (value None) stays until it has been there for delete_retention_ms since everything older of its key was
    gone, and every replica with records has held it
    offsets, Raft indexes and their order never change: a batch shrinks, and one with nothing left becomes a part of a
    filler (record/compacted.py), which stands for its entries
    the last batches of each producer stay, empty if need be: what is known of producers follows from the headers in
    the log, and a batch that is gone could be taken a second time

Why each replica may do this by itself, when it likes, and nobody agrees on anything (no horizon moves): entries are
rewritten only where they are committed and synced here, so no leader can take them back, and index, term, base offset
and count of every entry stay, so elections, log matching and truncation see the log that they saw before. What a
follower is sent of it are the same entries with fewer records. A record goes only when a newer one of its key is
committed as well, so whoever can be elected holds that one. Tombstones are the exception, and consensus/record_copy.py
says what is done about them. (The first design was to move the horizon and to copy whole segments to whoever is below
it: every follower that was away for a while would have copied everything.)

A pass reads the part that was not cleaned yet into a map of key digest -> newest offset, as much of it as a bounded map
takes, then rewrites everything up to there. It works in slices of some bytes, each of which is a part of a turn.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterator
from typing import Any, NamedTuple

from raftlog.errors import CorruptMessageError
from raftlog.limits import (
    BATCH_BYTES_MAX,
    COMPACTION_BATCH_BYTES,
    COMPACTION_RECORD_BYTES,
    COMPACTION_SYNC_BYTES,
    INDEX_INTERVAL_BYTES,
)
from raftlog.record.batch import HEADER_BYTES, MAGIC, BatchHeader, Record, check_crc, each_record, read_header
from raftlog.record.compacted import FILLER_ENTRIES_MAX, entries_of, filler, is_filler, shrunk
from raftlog.storage.disk import Disk, File
from raftlog.storage.epochs import Epochs
from raftlog.storage.index import IndexEntry
from raftlog.storage.segment import BadBatchError, Segment

CLEANED = ".cleaned"  # behind the name of a segment: the one that is to take its place


class Plan(NamedTuple):
    """What a pass may do. `segments` are closed, committed and synced as a whole."""

    segments: list[Segment]
    end_offset: int  # behind the last of them
    clean_offset: int  # in front of it each key stands once already
    purge_offset: int  # tombstones in front of it have been kept for long enough ...
    held_index: int  # ... and those up to here are held by every replica
    kept_indexes: frozenset[int]  # the last batches of each producer
    segment_bytes: int
    keys_max: int


class Rewritten(NamedTuple):
    """The file `path`, not synced yet, can take the place of `sources`, consecutive segments."""

    sources: list[Segment]
    end_offset: int
    path: str
    file: File
    size_bytes: int
    entries: list[IndexEntry]
    max_timestamp_ms: int
    purged_index: int  # of the last tombstone that went with it; 0: none did


class DamagedError(Exception):
    """A batch of `segment` is not as it was written."""

    def __init__(self, segment: Segment) -> None:
        self.segment = segment


class Compaction:
    """One pass. `step` until `done`; each Rewritten that it returns is to be put in place BEFORE the next step."""

    def __init__(self, plan: Plan, disk: Disk, epochs: Epochs) -> None:
        self.plan = plan
        self.segments = list(plan.segments)  # as the log has them, while no other hand changes them
        self.done = False
        self.clean_offset = plan.clean_offset  # once done
        self.kept_tombstones = False  # likewise, in front of clean_offset
        self.kept_ripe_tombstones = False  # likewise, in front of purge_offset
        self._disk = disk
        self._epochs = epochs
        self._newest: dict[bytes, int] = {}
        self._work = self._run()
        self._budget = self._at_once = 0
        self._output: _Output | None = None

    def step(self, budget_bytes: int) -> Rewritten | None:
        """Goes on for about so many bytes of the log. Raises StorageError, DamagedError."""
        assert not self.done
        self._budget = self._at_once = budget_bytes
        try:
            return next(self._work)
        except StopIteration:
            self.done = True
            return None

    def abandon(self) -> None:
        """Leaves nothing behind."""
        self.done = True
        if self._output is not None:
            self._output.discard()
            self._output = None

    def _run(self) -> Iterator[Rewritten | None]:
        yield from self._map()
        for group in self._groups():
            yield from self._rewrite(group)

    def _spend(self, batch_bytes: int, paid_bytes: int) -> bool:
        """For a batch, of which so much was paid for record by record. Whether the slice is used up."""
        self._budget -= max(0, batch_bytes - paid_bytes) + COMPACTION_BATCH_BYTES
        return self._budget <= 0

    def _spend_record(self) -> bool:
        """Few bytes may unpack to millions of records, and they are no part of one slice."""
        self._budget -= COMPACTION_RECORD_BYTES
        return self._budget <= 0

    # --- which record of a key is the newest ----------------------------------------------------
    def _map(self) -> Iterator[None]:
        plan = self.plan
        for number, segment in enumerate(plan.segments):
            if self._end_of(number) <= plan.clean_offset:
                continue
            for header, _, batch in self._batches(segment):
                paid_bytes = 0
                if header.next_offset > plan.clean_offset and header.record_count:
                    paid_bytes = yield from self._note_keys(batch, header)
                self.clean_offset = max(self.clean_offset, header.next_offset)
                full = len(self._newest) >= plan.keys_max
                if self._spend(len(batch), paid_bytes):
                    yield None
                if full:
                    return

    def _note_keys(self, batch: bytes, header: BatchHeader) -> Generator[None, None, int]:
        """Returns what was paid. None of a batch that does not decode, which is not known before its end."""
        newest: dict[bytes, int] = {}
        seen = 0
        try:
            for record in each_record(batch, 0, header):
                seen += 1
                if record.key is not None:
                    newest[_digest(record.key)] = record.offset
                if self._spend_record():
                    yield None
            self._newest.update(newest)
        except CorruptMessageError:
            pass
        return seen * COMPACTION_RECORD_BYTES

    # --- rewriting -------------------------------------------------------------------------------
    def _groups(self) -> Iterator[list[Segment]]:
        """Neighbours that fit one segment together become one."""
        group: list[Segment] = []
        size = 0
        for segment in self.plan.segments:
            if segment.base_offset >= self.clean_offset:
                break
            if group and size + segment.size > self.plan.segment_bytes:
                yield group
                group, size = [], 0
            group.append(segment)
            size += segment.size
        if group:
            yield group

    def _rewrite(self, group: list[Segment]) -> Iterator[Rewritten | None]:
        output = self._output = _Output(self._disk, group[0])
        changed = len(group) > 1
        purged_index = 0
        for segment in group:
            for header, index, batch in self._batches(segment):
                records: list[Record] | None = None
                paid_bytes = 0
                if header.record_count:
                    records, purged, paid_bytes = yield from self._kept(batch, header, index)
                    purged_index = index if purged else purged_index
                empty = not (header.record_count if records is None else records)
                if empty and index not in self.plan.kept_indexes:
                    changed = changed or not is_filler(header)
                    output.add_gap(header, index)
                elif records is None:
                    output.add(header, index, batch)
                else:
                    changed = True
                    less = shrunk(header, records)
                    output.add(read_header(less), index, less)
                if self._spend(header.batch_bytes, paid_bytes):
                    output.write()
                    yield None
        output.end()
        self._output = None
        if changed:
            number = self.plan.segments.index(group[-1])
            yield Rewritten(
                group,
                self._end_of(number),
                output.path,
                output.file,
                output.size_bytes,
                output.entries,
                output.max_timestamp_ms,
                purged_index,
            )
        else:
            output.discard()

    def _kept(
        self, batch: bytes, header: BatchHeader, index: int
    ) -> Generator[None, None, tuple[list[Record] | None, bool, int]]:
        """The records that stay, None: all of them; whether a tombstone goes that no newer record stands for; what was
        paid.
        """
        kept: list[Record] = []
        purged = False
        seen = 0
        try:
            for each in each_record(batch, 0, header):
                seen += 1
                stays, ripe = self._judge(each, index)
                purged = purged or ripe
                if stays:
                    kept.append(Record(each.offset, each.timestamp, each.key, each.value, each.headers))
                if self._spend_record():
                    yield None
        except CorruptMessageError:
            return None, False, seen * COMPACTION_RECORD_BYTES  # as its producer sent it: the topic was not compacted
        return None if len(kept) == seen else kept, purged, seen * COMPACTION_RECORD_BYTES

    def _judge(self, record: Any, index: int) -> tuple[bool, bool]:
        """(it stays, it is a tombstone that goes without a newer record)."""
        plan = self.plan
        if record.key is None:
            return True, False
        if record.offset < self._newest.get(_digest(record.key), -1):
            return False, False
        if record.value is None and record.offset < self.clean_offset:
            ripe = record.offset < plan.purge_offset
            if ripe and index <= plan.held_index:
                return False, True
            self.kept_tombstones = True
            self.kept_ripe_tombstones = self.kept_ripe_tombstones or ripe
        return True, False

    # --- reading ---------------------------------------------------------------------------------
    def _end_of(self, number: int) -> int:
        segments = self.plan.segments
        return segments[number + 1].base_offset if number + 1 < len(segments) else self.plan.end_offset

    def _batches(self, segment: Segment) -> Iterator[tuple[BatchHeader, int, bytes]]:
        """(header, Raft index, bytes) of each batch, all of it checked: damage must not get a good checksum."""
        try:
            offset, index = segment.base_offset, segment.first_index
            for header, batch in _read_batches(segment, max(self._at_once, HEADER_BYTES)):
                index = self._epochs.next_batch_index(index)
                whole = header.base_offset == offset and header.leader_epoch == self._epochs.term_at(index)
                if not whole or not check_crc(batch, 0, header):
                    raise DamagedError(segment)
                yield header, index, batch
                offset, index = header.next_offset, index + entries_of(header)
        except (BadBatchError, CorruptMessageError):
            raise DamagedError(segment) from None


class _Output:
    """A segment in the making. Batches are collected and written once per slice."""

    def __init__(self, disk: Disk, first: Segment) -> None:
        self.path = first.path + CLEANED
        self.file = disk.open(self.path, create=True)
        self.file.truncate(0)
        self.size_bytes = 0
        self.entries: list[IndexEntry] = []
        self.max_timestamp_ms = -1
        self._disk = disk
        self._segment = first.base_offset
        self._parts: list[bytes] = []
        self._gap: tuple[int, int, int, int, int] | None = None  # base and next offset, index, entries, term
        self._index_due = self._unsynced_bytes = 0

    def add(self, header: BatchHeader, index: int, batch: bytes) -> None:
        self._fill_gap()
        self._append(header, index, batch)

    def add_gap(self, header: BatchHeader, index: int) -> None:
        """Entries of which nothing is left: a part of the filler that is open, if it goes on and is of one term."""
        entries = entries_of(header)
        if self._gap is not None:
            base, _, first, count, term = self._gap
            room = count + entries <= FILLER_ENTRIES_MAX and header.next_offset - base <= FILLER_ENTRIES_MAX
            if room and term == header.leader_epoch and first + count == index:
                self._gap = (base, header.next_offset, first, count + entries, term)
                return
        self._fill_gap()
        self._gap = (header.base_offset, header.next_offset, index, entries, header.leader_epoch)

    def _fill_gap(self) -> None:
        if self._gap is not None:
            base, following, first, count, term = self._gap
            self._gap = None
            batch = filler(base, following, count, term)
            self._append(read_header(batch), first, batch)

    def _append(self, header: BatchHeader, index: int, batch: bytes) -> None:
        if self.size_bytes >= self._index_due:
            self.entries.append(
                IndexEntry(
                    header.base_offset,
                    index,
                    header.leader_epoch,
                    self._segment,
                    self.size_bytes,
                    self.max_timestamp_ms,
                )
            )
            self._index_due = self.size_bytes + INDEX_INTERVAL_BYTES
        self._parts.append(batch)
        self.size_bytes += len(batch)
        self.max_timestamp_ms = max(self.max_timestamp_ms, header.max_timestamp_ms)

    def write(self) -> None:
        if self._parts:
            data = b"".join(self._parts)
            self._parts.clear()
            self.file.append(data)
            self._unsynced_bytes += len(data)
            if self._unsynced_bytes >= COMPACTION_SYNC_BYTES:
                self.file.sync()
                self._unsynced_bytes = 0

    def end(self) -> None:
        self._fill_gap()
        self.write()

    def discard(self) -> None:
        self.file.close()
        self._disk.remove(self.path)


def _read_batches(segment: Segment, at_once: int) -> Iterator[tuple[BatchHeader, bytes]]:
    position, size = 0, segment.size
    data, at = b"", 0
    while position < size:
        header = read_header(data, at) if at + HEADER_BYTES <= len(data) else None
        if header is None or at + header.batch_bytes > len(data):
            data, at = segment.file.read(position, min(at_once, size - position)), 0
            header = read_header(data)
            need = header.batch_bytes
            if need > min(size - position, BATCH_BYTES_MAX):
                raise BadBatchError(position, f"a batch of {need} bytes leaves its segment")
            if need > len(data):
                data = segment.file.read(position, need)
        if header.magic != MAGIC or header.last_offset_delta < 0:
            raise BadBatchError(position, "the bytes are not a batch header")
        end = at + header.batch_bytes
        yield header, data[at:end]
        position += header.batch_bytes
        at = end


def _digest(key: bytes) -> bytes:
    """Always of the digest, never the key itself, which could be made to look like the digest of another."""
    return hashlib.blake2b(key, digest_size=16).digest()
