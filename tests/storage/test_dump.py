"""The dump of a segment says what is in it, and where it stops being one."""

from __future__ import annotations

from pathlib import Path

import pytest

from raftlog.errors import StorageError
from raftlog.record.batch import encode, stamp
from raftlog.storage.dump import SegmentDump
from raftlog.storage.segment import SegmentName


def _segment(directory: Path, batches: list[bytes], base_offset: int = 100) -> Path:
    path = directory / str(SegmentName(base_offset, 7))
    path.write_bytes(b"".join(batches))
    return path


def _batches(base_offset: int = 100) -> list[bytes]:
    return [
        stamp(encode([(1000 + n, b"k", b"%d" % n), (1001 + n, None, None)]), base_offset + 2 * n, 5) for n in range(4)
    ]


def test_a_good_segment_has_no_bad_byte(tmp_path: Path) -> None:
    dump = SegmentDump(str(_segment(tmp_path, _batches())))
    batches = list(dump.batches())
    assert [batch.header.base_offset for batch in batches] == [100, 102, 104, 106]
    assert all(batch.crc_ok and not batch.problem for batch in batches)
    assert [record.value for batch in batches for record in batch.records()][:3] == [b"0", None, b"1"]
    assert dump.first_bad_position is None and dump.name == (100, 7)
    assert dump.size == sum(len(batch.data) for batch in batches)


def test_a_wrong_checksum_is_told_and_the_batches_behind_it_are_still_shown(tmp_path: Path) -> None:
    good = _batches()
    damaged = bytearray(good[1])
    damaged[-1] ^= 1
    dump = SegmentDump(str(_segment(tmp_path, [good[0], bytes(damaged), *good[2:]])))
    batches = list(dump.batches())
    assert [batch.crc_ok for batch in batches] == [True, False, True, True]
    assert batches[1].records() == []
    assert dump.first_bad_position == len(good[0]) and "checksum" in dump.reason


@pytest.mark.parametrize("torn", [b"x", b"\x00" * 100, encode([(1, None, b"x")])[:-1]])
def test_a_torn_tail_is_told_with_its_position(tmp_path: Path, torn: bytes) -> None:
    good = _batches()
    dump = SegmentDump(str(_segment(tmp_path, [*good, torn])))
    assert len(list(dump.batches())) == 4
    assert dump.first_bad_position == sum(map(len, good)) and dump.reason


def test_a_gap_in_the_offsets_is_told(tmp_path: Path) -> None:
    good = _batches()
    dump = SegmentDump(str(_segment(tmp_path, [good[0], *good[2:]])))
    problems = [batch.problem for batch in dump.batches()]
    assert problems[0] == "" and "102" in problems[1]
    assert dump.first_bad_position == len(good[0])


def test_what_cannot_be_read_is_a_storage_error(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(StorageError):
            list(SegmentDump(str(path)).batches())
    assert list(SegmentDump(str(_segment(tmp_path, []))).batches()) == []
