"""What a follower does with entries that its leader has compacted.

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

from raftlog.consensus.member import Payload
from raftlog.consensus.voting import Voting
from raftlog.errors import CorruptLogError, CorruptMessageError
from raftlog.protocol import raft as r
from raftlog.record.batch import BatchHeader, check_crc, read_header, split
from raftlog.record.compacted import entries_of, filler


class StoringCompacted(Voting):
    def _is_present(self, index: int, term: int) -> bool:
        if index > self.log.last_index:
            return False
        return index < self.log.horizon_index or self.log.term_at(index) == term

    def _make_room(self, index: int, m: r.AppendEntries) -> None:
        """`index` is the first one that is to be appended: what is there instead is cut."""
        if index <= m.purged_index:
            self._require_whole_copy(m)
        if index <= self.log.last_index:
            self._truncate(index)

    def _require_whole_copy(self, m: r.AppendEntries) -> None:
        copied = (m.term, m.purged_index)
        if not self.log.segment_count:
            self._copied = copied
        elif self._copied != copied:
            self.log.begin_anew(f"the leader of term {m.term} has let tombstones go that were lost here")
        if m.purged_index > self.log.purged_index:
            self.log.raise_purged(m.purged_index)

    def _truncate(self, index: int) -> None:
        self._check_not_committed(index)
        self.log.truncate_from(index)

    def _check_not_committed(self, index: int) -> None:
        """The leader has another entry there. What was committed is not its to take back: never silently refused."""
        if index <= self.commit_index:
            raise CorruptLogError(
                f"the leader of term {self.term} contradicts the committed entry {index} "
                f"(committed up to {self.commit_index}); nothing was cut"
            )

    def _store_compacted(self, m: r.AppendEntries, payload: Payload, headers: list[tuple[int, BatchHeader]]) -> None:
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
                assert term <= m.term
                self._append_pieces(pieces)
                self.log.append_epoch_start(term)
            elif missing > index:
                left = index + entries - missing
                pieces.append(filler(self.log.log_end_offset, header.next_offset, left, term))
            else:
                pieces.append(bytes(payload[position : position + header.batch_bytes]))
            index += entries
        self._append_pieces(pieces)

    def _append_pieces(self, pieces: list[bytes]) -> None:
        if pieces:
            self.log.append_compacted(b"".join(pieces), [read_header(piece) for piece in pieces])
            pieces.clear()

    def _first_missing(self, index: int, end: int, term: int) -> int:
        """The first of the entries [index, end), all of `term`, that is not here; `end` when all are."""
        log = self.log
        index = min(max(index, log.horizon_index), end)
        if index == end or index > log.last_index or log.term_at(index) != term:
            return index
        others = log.epoch_starts_from(index + 1)
        return min(end, log.last_index + 1, others[0].index if others else end)


def checked(payload: Payload, expected: int) -> list[tuple[int, BatchHeader]]:
    """The batches of an AppendEntries, for `expected` entries. A follower checks each CRC BEFORE it appends."""
    batches = list(split(payload))
    if len(batches) != expected and sum(entries_of(header) for _, header in batches) != expected:
        raise CorruptMessageError(f"{len(batches)} batches where {expected} entries were announced")
    for position, header in batches:
        if not check_crc(payload, position, header):
            raise CorruptMessageError(f"the batch at offset {header.base_offset} does not match its checksum")
    return batches
