"""What compaction makes of batches: offsets, times and producers stay, and anybody's codec reads the result."""

from __future__ import annotations

import pytest

from raftlog.errors import InvalidRecordError
from raftlog.record.batch import (
    HEADER_BYTES,
    BatchBuilder,
    BatchHeader,
    check_batch,
    check_crc,
    decode,
    numbered,
    read_header,
    stamp,
)
from raftlog.record.compacted import check_keyed, entries_of, filler, is_filler, shrunk
from raftlog.record.compression import COMPRESSIONS


def _batch(compression: str = "none", count: int = 5) -> tuple[bytes, BatchHeader]:
    builder = BatchBuilder(compression)
    for number in range(count):
        value = None if number == 3 else bytes(200)
        builder.append(5000 + 7 * number, b"k%d" % number, value, [("h", b"%d" % number)])
    frame = stamp(numbered(builder.build(), 7, 2, 40), 100, 9)
    return frame, read_header(frame)


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_records_that_stay_are_what_they_were(compression: str) -> None:
    frame, header = _batch(compression)
    records = list(decode(frame))
    less = shrunk(header, [records[1], records[3]])
    found = read_header(less)
    assert list(decode(less)) == [records[1], records[3]]
    assert check_crc(less, 0, found)
    assert (found.base_offset, found.next_offset, found.leader_epoch) == (100, 105, 9)
    assert found[9:12] == (7, 2, 40)
    assert found.max_timestamp_ms == records[3].timestamp_ms < header.max_timestamp_ms
    assert found.record_count == 2
    assert less[16] == 2
    assert found.batch_bytes == len(less) <= len(frame)


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_many_records_are_compressed_as_they_were(compression: str) -> None:
    frame, header = _batch(compression, 50)
    less = shrunk(header, list(decode(frame))[::2])
    assert read_header(less).compression == header.compression == compression


def test_an_emptied_batch_keeps_offsets_and_producer() -> None:
    _, header = _batch()
    empty = read_header(batch := shrunk(header, []))
    assert len(batch) == HEADER_BYTES
    assert list(decode(batch)) == []
    assert (empty.base_offset, empty.next_offset, empty[9:12], empty.record_count) == (100, 105, (7, 2, 40), 0)
    assert not is_filler(empty)
    assert entries_of(empty) == 1


def test_a_filler_is_an_empty_batch_that_counts_as_its_entries() -> None:
    batch = filler(100, 350, 17, 9)
    header = read_header(batch)
    assert check_crc(batch, 0, header)
    assert list(decode(batch)) == []
    assert (header.base_offset, header.next_offset, header.leader_epoch) == (100, 350, 9)
    assert is_filler(header)
    assert entries_of(header) == 17
    assert batch.hex() == (
        "0000000000000064" "00000031" "00000009" "02" + batch[17:21].hex() + "0000" "000000f9"
        "ffffffffffffffff" "ffffffffffffffff" "ffffffffffffffff" "ffff" "00000011" "00000000"
    )  # fmt: skip


def test_no_producer_can_send_a_filler() -> None:
    with pytest.raises(InvalidRecordError):
        check_batch(filler(0, 3, 3, -1))


def test_a_record_without_a_key_is_refused() -> None:
    frame, header = _batch()
    assert sum(check_keyed(frame, header)) > 0
    builder = BatchBuilder()
    builder.append(1, b"key", b"value", [])
    builder.append(1, None, b"value", [])
    frame = builder.build()
    with pytest.raises(InvalidRecordError, match="without a key"):
        sum(check_keyed(frame, check_batch(frame)))
