"""Frames that a leader stamps where they stand, instead of copying them."""

from __future__ import annotations

import pytest

from raftlog.errors import DiskFullError
from raftlog.record.batch import BatchBuilder, check_batch, check_crc, split
from raftlog.record.compacted import check_keyed
from raftlog.record.compression import COMPRESSIONS
from tests.storage.machine import Machine, append, batch_of, contents, lead


def test_a_writable_frame_is_stamped_where_it_stands_and_is_a_run_itself() -> None:
    machine = Machine()
    log = machine.open()
    lead(log, 7)
    pairs = [batch_of([b"a" * 20, b"b"]), batch_of([b"c" * 500]), batch_of([b"d"]), batch_of([b"e"])]
    frames = [pairs[0][0], memoryview(bytearray(pairs[1][0])), pairs[2][0], pairs[3][0]]
    runs = log.append_as_leader(frames, [header for _, header in pairs], 7)
    assert [(run.first_index, list(run.base_offsets)) for run in runs] == [(3, [0]), (4, [2]), (5, [3, 4])]
    assert runs[1].data is frames[1], "no copy"
    whole = b"".join(bytes(run.data) for run in runs)
    assert [(header.base_offset, header.leader_epoch) for _, header in split(whole)] == [(0, 7), (2, 7), (3, 7), (4, 7)]
    assert all(check_crc(whole, position, header) for position, header in split(whole))
    log.persist()
    assert log.read(0, 10_000, log.log_end_offset) == whole
    assert log.read_entries(3, 10_000).payload == whole
    log.close()
    assert machine.open().read(0, 10_000, 5) == whole


def test_a_full_disk_leaves_the_log_as_it_was_and_the_frame_can_be_appended_later() -> None:
    machine = Machine()
    log = machine.open()
    lead(log, 1)
    append(log, 3)
    log.persist()
    before = contents(log)
    frame = memoryview(bytearray(batch_of([b"x" * 300])[0]))
    machine.disk.full = True
    with pytest.raises(DiskFullError):
        log.append_as_leader([frame], [check_batch(frame)], 1)
    assert contents(log) == before
    machine.disk.full = False
    append(log)
    (run,) = log.append_as_leader([frame], [check_batch(frame)], 1)
    assert list(run.base_offsets) == [4]
    log.persist()
    assert log.read(4, 1000, 5) == frame


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_what_a_leader_looks_into_may_be_such_a_frame(compression: str) -> None:
    builder = BatchBuilder(compression)
    for number in range(300):
        builder.append(1, b"%d" % number, b"abcd" * 100)
    frame = builder.build()
    writable = memoryview(bytearray(frame))
    header = check_batch(writable)
    assert (header, header.compression) == (check_batch(frame), compression)
    assert sum(check_keyed(writable, header)) == sum(check_keyed(frame, header)) > 0
