"""Appending what another log has compacted: batches of which some stand for several entries (record/compacted.py).

As durable, and as seldom on the disk, as any append; but such batches are not kept in memory, where the place of a
batch in its run tells its Raft index. Only a follower that comes from far behind gets any.
"""

from __future__ import annotations

from collections.abc import Sequence

from raftlog.errors import CorruptMessageError, DiskFullError, StorageError
from raftlog.limits import INDEX_INTERVAL_BYTES
from raftlog.record.batch import BatchHeader
from raftlog.record.compacted import entries_of
from raftlog.storage.appending import AppendingLog
from raftlog.storage.index import IndexEntry


class TakingLog(AppendingLog):
    def append_compacted(self, data: bytes, headers: Sequence[BatchHeader]) -> None:
        """Batches and fillers of one epoch behind the log's end, checksums checked, in one write.

        Raises CorruptMessageError, with nothing appended, when offsets or epochs do not go on from here.
        DiskFullError leaves the log as it was.
        """
        self._check_usable()
        offset = self.log_end_offset
        for header in headers:
            if header.base_offset != offset or header.leader_epoch != self.last_term or entries_of(header) < 1:
                raise CorruptMessageError(f"a batch that does not follow offset {offset} of epoch {self.last_term}")
            offset = header.next_offset
        if self._index_error is not None:
            self._check_index_room()
        segment = self._writable_segment(len(data))
        try:
            segment.file.append(data)
        except StorageError as error:
            self._fail(error)
            if isinstance(error, DiskFullError):
                self._mark_dirty(segment)  # as in `_append`
                self._forget_empty(segment)
            raise
        self._fail_point("append.written")
        self._mark_dirty(segment)
        position, now_ms = segment.size, self._clock.wall_ms()
        for header in headers:
            index = self.last_index + 1
            if position == 0 or position >= self._indexed_position + INDEX_INTERVAL_BYTES:
                self._index.add(
                    IndexEntry(
                        header.base_offset, index, self.last_term, segment.base_offset, position,
                        segment.max_timestamp_ms,
                    )
                )  # fmt: skip
                self._indexed_position = position
            if header.producer_id >= 0:
                self.producers.note(header, header.base_offset, index, now_ms)
            segment.max_timestamp_ms = max(segment.max_timestamp_ms, header.max_timestamp_ms)
            position += header.batch_bytes
            self.last_index += entries_of(header)
        self.log_end_offset = offset
        segment.size = position
        self._index_due_bytes += len(data)
        self._snapshot_due_bytes += len(data)
