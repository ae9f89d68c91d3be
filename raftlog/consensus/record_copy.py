"""A replica's copy of its leader's log: what is here already is skipped, only a conflict truncates (G1).

Compaction (storage/compaction.py) keeps index, term and offsets of every entry, so the rules of log matching stay as
they are. Two things are its own:

    a filler stands for several entries. A log that holds some of them already takes a filler of the rest

    tombstones go for good. What a tombstone says of an older value would be lost on a replica that still has that
    value and not the tombstone. So they go only where every replica with records held them (`held_index`), and a
    replica that has lost them since, or any part of its log below the leader's `purged_index`, is of no use as it is:
    it fills an empty log, under one leader of one term and one purged index. A crash or a new leader starts it over.
    It is in doubt all that while, since it has lost what it held.
"""

from __future__ import annotations

from raftlog.consensus.configuration import configurations_among
from raftlog.consensus.seat import Seat
from raftlog.errors import CorruptMessageError
from raftlog.protocol import raft as r
from raftlog.record.batch import BatchHeader, check_crc, read_header, split
from raftlog.record.compacted import entries_of, filler
from raftlog.storage.log import PartitionLog
from raftlog.storage.producers import Producers
from raftlog.storage.snapshots import decode_snapshot
from raftlog.types import Buffer, Half


class RecordCopy:
    """The log of one follower with records, as the leader of one term fills it."""

    def __init__(self, seat: Seat, log: PartitionLog) -> None:
        self._seat = seat
        self._log = log
        self._filled_for: int | None = None  # the leader's purged index, while an empty log is filled

    def producers_in(self, payload: Buffer) -> Producers:
        """Of a ResetRequest. Raises CorruptMessageError."""
        return decode_snapshot(payload).producers()

    def store(self, m: r.AppendEntries, payload: Buffer) -> None:
        """Raises CorruptMessageError, DiskFullError; CorruptLogError when it would cut what is committed."""
        headers = checked(payload, m.entries - len(m.epoch_starts))
        configurations = configurations_among(m)
        if len(headers) != m.entries - len(m.epoch_starts):
            self._store_compacted(m, payload, headers, configurations)
            return
        index, batch = m.prev_index + 1, 0
        end = m.prev_index + m.entries + 1
        starts = dict(m.epoch_starts)
        while index < end:
            term = starts[index] if index in starts else headers[batch][1].leader_epoch
            if not self._is_present(index, term):
                break
            batch += index not in starts
            index += 1
        if index == end:
            return
        self._make_room(index, m)
        while index < end:
            if index in starts:
                self._append_start(starts[index], configurations.get(index, ()))
                index += 1
                continue
            stop = min((start for start in starts if start > index), default=end)
            group = headers[batch : batch + stop - index]
            first = group[0][0]
            last_position, last_header = group[-1]
            self._log.append_as_follower(
                index,
                memoryview(payload)[first : last_position + last_header.batch_bytes],
                [header for _, header in group],
            )
            batch += stop - index
            index = stop

    def _append_start(self, term: int, halves: tuple[Half, ...]) -> None:
        log = self._log
        if halves and term == log.last_term:
            log.append_configuration(halves)
        elif not halves and log.last_term < term <= log.state.term:
            log.append_epoch_start(term)
        else:
            raise CorruptMessageError(f"an entry without records of term {term} behind one of term {log.last_term}")

    def _is_present(self, index: int, term: int) -> bool:
        if index > self._log.last_index:
            return False
        return index < self._log.state.horizon_index or self._log.term_at(index) == term

    def _make_room(self, index: int, m: r.AppendEntries) -> None:
        """`index` is the first one that is to be appended: what is there instead is cut."""
        if index <= m.purged_index:
            self._require_whole_copy(m)
        if index <= self._log.last_index:
            self._seat.truncate(index)

    def _require_whole_copy(self, m: r.AppendEntries) -> None:
        if not self._log.segment_count:
            self._filled_for = m.purged_index
        elif self._filled_for != m.purged_index:
            self._log.begin_anew(f"the leader of term {m.term} has let tombstones go that were lost here")
        if m.purged_index > self._log.state.purged_index:
            self._log.state.raise_purged(m.purged_index)

    def _store_compacted(
        self,
        m: r.AppendEntries,
        payload: Buffer,
        headers: list[tuple[int, BatchHeader]],
        configurations: dict[int, tuple[Half, ...]],
    ) -> None:
        """G1 with fillers among the entries: what is here is skipped, a conflict truncates, the rest is appended."""
        starts = dict(m.epoch_starts)
        end = m.prev_index + m.entries + 1
        index, pieces = m.prev_index + 1, list[bytes]()
        roomy = False
        following = iter(headers)
        while index < end:
            if index in starts:
                term, entries = starts[index], 1
            else:
                position, header = next(following)
                term, entries = header.leader_epoch, entries_of(header)
            missing = index if roomy else self._first_missing(index, index + entries, term)
            if missing < index + entries and not roomy:
                self._make_room(missing, m)
                roomy = True
            if missing == index + entries:
                pass
            elif index in starts:
                self._append_pieces(pieces)
                self._append_start(term, configurations.get(index, ()))
            elif missing > index:
                left = index + entries - missing
                pieces.append(filler(self._log.log_end_offset, header.next_offset, left, term))
            else:
                pieces.append(bytes(payload[position : position + header.batch_bytes]))
            index += entries
        self._append_pieces(pieces)

    def _append_pieces(self, pieces: list[bytes]) -> None:
        if pieces:
            self._log.append_compacted(b"".join(pieces), [read_header(piece) for piece in pieces])
            pieces.clear()

    def _first_missing(self, index: int, end: int, term: int) -> int:
        """The first of the entries [index, end), all of `term`, that is not here; `end` when all are."""
        log = self._log
        index = min(max(index, log.state.horizon_index), end)
        if index == end or index > log.last_index or log.term_at(index) != term:
            return index
        others = log.epoch_starts_from(index + 1)
        return min(end, log.last_index + 1, others[0].index if others else end)


def checked(payload: Buffer, expected: int) -> list[tuple[int, BatchHeader]]:
    """The batches of an AppendEntries, for `expected` entries. A follower checks each CRC BEFORE it appends."""
    batches = list(split(payload))
    if len(batches) != expected and sum(entries_of(header) for _, header in batches) != expected:
        raise CorruptMessageError(f"{len(batches)} batches where {expected} entries were announced")
    for position, header in batches:
        if not check_crc(payload, position, header):
            raise CorruptMessageError(f"the batch at offset {header.base_offset} does not match its checksum")
    return batches
