"""The head of a log: what retention lets go, and what it must not."""

from __future__ import annotations

import random

from tests.storage.machine import Machine, append, contents, lead, mixed


def test_an_epoch_start_that_is_not_committed_stays_with_the_segment_in_front_of_it() -> None:
    machine = Machine(segment_bytes=1_000_000)
    log = machine.open()
    lead(log, 1)
    committed = append(log, 3)[-1]
    log.persist()
    start = log.log_end_offset
    lead(log, 2)
    machine.clock.advance(8 * 24 * 3600)
    log.appender.roll_when_old(machine.clock.wall_ms())
    append(log, 1)
    log.persist()
    assert log.segment_count == 2
    log.delete_head(start, committed)
    assert (log.state.log_start_offset, log.state.horizon_index, log.segment_count) == (start, 2, 2)
    log.truncate_from(committed + 1)
    log.persist()
    assert log.term_at(committed) == 1


def test_deleting_the_head_removes_whole_segments_and_never_the_active_one() -> None:
    machine = Machine()
    log = mixed(machine, random.Random(3))
    entries = contents(log)
    log.delete_head(log.log_end_offset)
    assert log.segment_count == 1 and len(machine.segments()) == 1
    assert log.state.log_start_offset == log.log_end_offset
    kept = {index: entry for index, entry in entries.items() if index >= log.state.horizon_index}
    assert contents(log) == kept
    assert log.term_at(log.state.horizon_index - 1) == entries[log.state.horizon_index - 1][0]
    machine.crash(None)
    log = machine.open()
    assert contents(log) == kept and log.state.doubt == 0
    assert log.term_at(log.state.horizon_index - 1) == entries[log.state.horizon_index - 1][0]


def test_a_great_many_segments_go_in_several_turns_and_the_log_start_moves_at_once() -> None:
    machine = Machine(segment_bytes=1024)
    log = machine.open()
    lead(log, 1)
    for _ in range(200):
        append(log, 1, size=900)
    log.persist()
    log.state.note_commit(log.last_index)
    assert log.segment_count == 200
    counts = []
    while log.segment_count > 1:
        log.delete_head(199)
        assert log.state.log_start_offset == 199
        counts.append(log.segment_count)
    assert counts == [200 - 63, 200 - 126, 200 - 189, 1]
    machine.crash(None)
    log = machine.open()
    assert (log.segment_count, log.state.log_start_offset, log.state.doubt) == (1, 199, 0)
