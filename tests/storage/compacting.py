"""What a compacted log has to hold: the newest record of each key, and nothing that was not written."""

from __future__ import annotations

from raftlog.record.batch import BatchHeader, Record, check_batch, decode, encode, numbered, read_header
from raftlog.record.compacted import is_filler

Entries = dict[int, tuple[int, bytes | None]]  # Raft index -> (term, the batch as it was appended; None: a no-op)
KeyedRecords = list[tuple[bytes | None, bytes | None]]


def keyed_batch(
    records: KeyedRecords, producer_id: int = -1, sequence: int = 0, *, compression: str = "none"
) -> tuple[bytes, BatchHeader]:
    frame = encode([(1000 + number, key, value) for number, (key, value) in enumerate(records)], compression)
    if producer_id >= 0:
        frame = numbered(frame, producer_id, 0, sequence)
    return frame, check_batch(frame)


def check_compacted(written: Entries, found: Entries) -> None:
    """`found` is `written`, compacted or not. Raises AssertionError."""
    last_index = max(found, default=1)
    left: dict[int, Record] = {}
    for index, (term, batch) in found.items():
        assert written[index][0] == term, f"Raft index {index} has another term"
        original = written[index][1]
        if batch is None or original is None:
            assert batch == original
        elif batch != original:
            _check_rewritten(index, original, batch)
        if batch:
            left |= {record.offset: record for record in decode(batch)}
    all_of: dict[bytes | None, list[Record]] = {}
    for _index, (_, original) in sorted(
        item for item in written.items() if min(found, default=1) <= item[0] <= last_index
    ):
        for record in decode(original or b""):
            all_of.setdefault(record.key, []).append(record)
    for key, records in all_of.items():
        there = [record.offset for record in records if record.offset in left]
        assert all(left[record.offset] == record for record in records if record.offset in left)
        if key is None:
            assert len(there) == len(records), "a record without a key is gone"
        elif records[-1].offset not in there:
            assert records[-1].value is None, f"the newest record of {key!r}, at offset {records[-1].offset}, is gone"
            assert not there, f"{key!r} was deleted, and its value at {there} is back"


def _check_rewritten(index: int, original: bytes, batch: bytes) -> None:
    if not batch:
        return  # a part of a filler that stands at a lower index
    was, header = read_header(original), read_header(batch)
    assert header.base_offset == was.base_offset
    if is_filler(header):
        return
    assert header.last_offset_delta == was.last_offset_delta, f"Raft index {index} has other offsets"
    assert header[9:12] == was[9:12], f"Raft index {index} has another producer"
    assert header.record_count < was.record_count
