"""Reading a log: whole batches, the same from memory and from files, by offset, Raft index and time."""

from __future__ import annotations

import random

import google_crc32c
import pytest

from raftlog import limits
from raftlog.errors import OffsetOutOfRangeError
from raftlog.record.batch import check_batch, encode, split
from raftlog.storage.log import PartitionLog
from raftlog.storage.time_search import TimeSearch
from tests.storage.machine import Machine, append, batch_of, contents, first_not_older, lead, mixed


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("seed", range(6))
def test_every_reader_sees_the_same_log(seed: int, cached: bool) -> None:
    machine = Machine(segment_bytes=4096)
    rng = random.Random(seed)
    log = mixed(machine, rng)
    entries = contents(log)
    if not cached:
        log.close()
        log = machine.open()
    for max_bytes in (1, 300, 1000, 100_000):
        assert contents(log, max_bytes) == entries
    for index in rng.sample(sorted(entries), 30):
        got = log.read_entries(index, rng.randrange(1, 3000))
        assert 0 < got.count <= len(entries)
    batches = [data for _, (_, data) in sorted(entries.items()) if data is not None]
    whole = b"".join(batches)
    for max_bytes in (1, 250, 1000, 100_000):
        offset, parts = 0, []
        while offset < log.log_end_offset:
            part = log.read(offset, max_bytes, log.log_end_offset)
            assert len(part) <= max(max_bytes, len(batches[0]) + 10_000)
            *_, (_, header) = split(part)
            offset = header.next_offset
            parts.append(part)
        assert b"".join(parts) == whole
    for batch in rng.sample(batches, 20):
        (header,) = (header for _, header in split(batch))
        for offset in range(header.base_offset, header.next_offset):
            assert log.read(offset, 1, log.log_end_offset) == batch
            assert log.read(offset, 10**6, header.next_offset) == batch
        assert log.read(header.base_offset, 10**6, header.next_offset - 1) == b""
    after = 0
    for index in range(2, log.last_index + 1):
        data = entries[index][1]
        if data is not None:
            after = next(split(data))[1].next_offset
        assert log.offset_after(index) == after


def test_a_reader_goes_on_without_a_lookup(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(segment_bytes=5000)
    log = machine.open()
    lead(log, 1)
    for _ in range(20):
        append(log, 10)
    log.close()
    log = machine.open()
    index = 2 + log.read_entries(2, 2000).count
    *_, (_, header) = split(log.read(0, 2000, log.log_end_offset))
    monkeypatch.setattr(type(log.segments.index), "floor_offset", None)
    monkeypatch.setattr(type(log.segments.index), "floor_index", None)
    while header.next_offset < log.log_end_offset:
        *_, (_, header) = split(log.read(header.next_offset, 2000, log.log_end_offset))
    while index <= log.last_index:
        index += log.read_entries(index, 2000).count


def test_a_follower_that_keeps_up_is_sent_the_run_itself() -> None:
    log = Machine().open()
    lead(log, 1)
    pairs = [batch_of([b"x"]) for _ in range(5)]
    (run,) = log.append_as_leader([frame for frame, _ in pairs], [header for _, header in pairs], 1)
    assert log.read_entries(run.first_index, 10_000).payload is run.data
    assert log.read_entries(run.first_index, 10_000).count == 5


def test_a_large_run_is_sent_alone_and_not_copied() -> None:
    log = Machine(segment_bytes=10**7).open()
    lead(log, 1)
    small, large = batch_of([b"x"]), batch_of([bytes(200_000)])
    frames = [small[0], memoryview(bytearray(large[0])), memoryview(bytearray(large[0])), small[0], small[0]]
    runs = log.append_as_leader(frames, [small[1], large[1], large[1], small[1], small[1]], 1)
    index, counts = runs[0].first_index, []
    while index <= log.last_index:
        entries = log.read_entries(index, 10**6)
        counts.append(entries.count)
        assert len(entries.payload) < 200_000 or any(entries.payload is run.data for run in runs)
        index += entries.count
    assert counts == [1, 1, 1, 2]


def test_the_tail_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "TAIL_CACHE_BYTES", 20_000)
    machine = Machine(segment_bytes=10**6)
    log = machine.open()
    lead(log, 1)
    for _ in range(5000):
        append(log)
        assert log.segments.tail._bytes <= 20_000
    assert len(log.segments.tail._runs) < 3000
    log.persist()
    assert len(contents(log, 50_000)) == 5001


def test_offsets_outside_the_log_are_out_of_range() -> None:
    log = Machine().open()
    lead(log, 1)
    append(log, 20, size=300)
    append(log, 20, size=300)
    log.persist()
    log.delete_head(25)
    for offset in (-1, 0, 24, 41, 10**9):
        with pytest.raises(OffsetOutOfRangeError):
            log.read(offset, 100, 40)
    assert log.read(40, 100, 40) == b""
    assert log.read(25, 1, 40)


@pytest.mark.parametrize("reopened", [True, False])
def test_the_offset_of_a_time_is_that_of_the_first_record_that_is_not_older(reopened: bool) -> None:
    machine = Machine(segment_bytes=3000)
    log = machine.open()
    lead(log, 1)
    rng = random.Random(5)
    records = []
    for number in range(150):
        stamps = [1000 + number * 10 + rng.randrange(-40, 40) for _ in range(rng.randrange(1, 4))]
        frame = encode([(stamp, None, bytes(60)) for stamp in stamps], rng.choice(("none", "gzip")))
        log.append_as_leader([frame], [next(split(frame))[1]], 1)
        records += stamps
    log.persist()
    if reopened:
        log.close()
        log = machine.open()
    log.delete_head(50)
    for timestamp_ms in range(900, 2700, 7):
        expected = next(
            ((offset, stamp) for offset, stamp in enumerate(records) if offset >= 50 and stamp >= timestamp_ms), None
        )
        assert first_not_older(log, timestamp_ms, log.log_end_offset) == expected
        if expected is not None:
            assert first_not_older(log, timestamp_ms, expected[0]) is None


def _searched(log: PartitionLog, timestamp_ms: int, records: int) -> tuple[TimeSearch, list[int]]:
    search = log.search_time(timestamp_ms)
    works = []
    while not search.done:
        works.append(search.step(log.state.log_start_offset, log.log_end_offset, records))
    return search, works


def test_the_search_of_a_time_does_a_bounded_piece_of_work_in_each_step() -> None:
    """Also where a record is unpacked from little, and where a header promises a time that no record has."""
    log = Machine(segment_bytes=10_000_000).open()
    lead(log, 1)
    frames = [encode([(n, None, b"") for n in range(20_000)], "zstd")]
    for _ in range(3_000):
        lying = bytearray(encode([(1, None, b"x")]))
        lying[35:43] = (50_000).to_bytes(8, "big")
        lying[17:21] = google_crc32c.value(bytes(lying[21:])).to_bytes(4, "big")
        frames.append(bytes(lying))
    frames += [encode([(1, None, b"x")]) for _ in range(3_000)] + [encode([(50_000, None, b"y")])]
    log.append_as_leader(frames, [check_batch(frame) for frame in frames], 1)
    log.persist()
    for timestamp_ms, expected in ((19_999, (19_999, 19_999)), (50_000, (26_000, 50_000)), (50_001, None)):
        search, works = _searched(log, timestamp_ms, 1000)
        assert search.found == expected
        assert max(works) < 2_500
        assert timestamp_ms > 50_000 or len(works) > 15


def test_the_log_may_change_while_a_time_is_searched_for() -> None:
    machine = Machine(segment_bytes=3000)
    log = machine.open()
    lead(log, 1)
    for number in range(60):
        frame = encode([(number * 10 + n, None, bytes(60)) for n in range(10)])
        log.append_as_leader([frame], [check_batch(frame)], 1)
    log.persist()
    before = log.segment_count
    search = log.search_time(255)
    search.step(0, log.log_end_offset, 203)
    assert not search.done
    log.delete_head(300)
    assert log.segment_count < before
    while not search.done:
        search.step(log.state.log_start_offset, log.log_end_offset, 3)
    assert search.found == (300, 300)


def test_a_batch_whose_records_cannot_be_read_is_where_a_search_by_time_ends() -> None:
    """Everybody would be told of damage without an end, or what is in it would be skipped without a word."""
    log = Machine().open()
    lead(log, 1)
    bad = bytearray(encode([(1_000, None, bytes(500))], "zstd"))
    bad[61:65] = b"\0\0\0\0"
    bad[17:21] = google_crc32c.value(bytes(bad[21:])).to_bytes(4, "big")
    frames = [encode([(500, None, b"x")]), bytes(bad), encode([(2_000, None, b"x")])]
    log.append_as_leader(frames, [check_batch(frame) for frame in frames], 1)
    log.persist()
    assert first_not_older(log, 500, 3) == (0, 500)
    assert first_not_older(log, 900, 3) == (1, 900)
    assert first_not_older(log, 1_500, 3) == (2, 2_000)
