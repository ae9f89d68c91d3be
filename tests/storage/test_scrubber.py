"""Damage of a running log: found, noted BEFORE anything is cut, and cut by the next start, wherever power fails."""

from __future__ import annotations

import random

import pytest

from raftlog import limits
from raftlog.errors import CorruptLogError
from raftlog.record.batch import BatchBuilder, check_batch
from raftlog.storage.fail_points import FAIL_POINTS
from raftlog.storage.log import PartitionLog
from raftlog.storage.scrubber import inspect
from raftlog.storage.state import decode_state
from raftlog.types import Doubt
from tests.storage.machine import DIRECTORY, Machine, PowerFailureError, append, contents, lead

_BATCHES = 60
_STEP = 4096


def _filled(machine: Machine, refetchable: bool = True) -> PartitionLog:
    """Two epochs, several segments; the index knows all of it, so that a start would not read most of it again."""
    log = machine.open()
    for term in (1, 4):
        lead(log, term)
        for _ in range(_BATCHES // 2):
            append(log)
            log.persist()
    log.appender.commit_index()
    log.state.note_commit(10)
    log.state.write_commit_bound()
    log.scrubber.refetchable = lambda: refetchable
    assert log.segment_count > 3
    return log


def _scrub_all(log: PartitionLog) -> None:
    for _ in range(2 * (log.size_bytes // _STEP + log.segment_count)):
        log.scrubber.scrub(_STEP)


def _flip(machine: Machine, segment: int, position: int) -> None:
    path = sorted(machine.segments())[segment]
    machine.disk.flip_bit(path, position, 2)


def _assert_given_up(log: PartitionLog) -> None:
    assert (log.state.doubt, log.state.corruptions) == (Doubt.CORRUPT, 1)
    assert log.state.failed is not None  # nothing is written any more


def test_a_whole_log_is_scrubbed_again_and_again_without_a_complaint() -> None:
    machine = Machine()
    log = _filled(machine)
    for _ in range(3):
        _scrub_all(log)
        append(log)
        log.truncate_from(log.last_index - 2)
        append(log, 5)
        log.persist()
    assert (log.state.doubt, log.state.corruptions) == (Doubt.NONE, 0)


# The base offset and the epoch lie outside the checksum; the length leads astray; the rest is the body.
@pytest.mark.parametrize("position", [0, 7, 9, 11, 15, 16, 18, 30, 90, 400])
@pytest.mark.parametrize("segment", [0, 1, -1])
def test_a_flipped_bit_anywhere_is_found_by_the_scrub_and_cut_by_the_next_start(segment: int, position: int) -> None:
    machine = Machine()
    log = _filled(machine)
    held = contents(log)
    _flip(machine, segment, position)
    with pytest.raises(CorruptLogError, match="refetches"):
        _scrub_all(log)
    machine.kill()
    log = machine.open()
    assert contents(log) == {index: entry for index, entry in held.items() if index <= log.last_index}
    assert log.last_index < max(held)
    assert log.state.doubt in (Doubt.CORRUPT, Doubt.SHORT) and "damaged from offset" in log.state.doubt_reason
    assert (log.state.corruptions, log.state.truncations) == (1, 1)
    machine.kill()
    log = machine.open()
    assert (log.state.doubt is Doubt.NONE, log.state.corruptions) == (False, 1)
    _scrub_all(log)


def test_a_start_alone_does_not_read_what_the_index_knows() -> None:
    machine = Machine()
    _filled(machine)
    _flip(machine, 1, 90)
    machine.kill()
    assert machine.open().state.doubt is Doubt.NONE


def test_a_file_that_became_shorter_is_found() -> None:
    machine = Machine()
    log = _filled(machine)
    path = sorted(machine.segments())[1]
    machine.disk.truncate_durable(path, 500)
    with pytest.raises(CorruptLogError):
        _scrub_all(log)


def test_the_largest_batch_that_a_replica_takes_is_not_damage() -> None:
    """A record at the limit with a header of its own: taken, so every reader of the disk has to take it too."""
    machine = Machine(segment_bytes=2**31 - 1)
    log = machine.open()
    lead(log, 1)
    builder = BatchBuilder(max_bytes=2 * limits.RECORD_BYTES_MAX)
    assert builder.append(1, b"key", bytes(limits.RECORD_BYTES_MAX), [("header", bytes(3900))])
    frame = builder.build()
    assert limits.BATCH_BYTES_MAX - 200 < len(frame) <= limits.BATCH_BYTES_MAX
    for _ in range(2):
        log.append_as_leader([frame], [check_batch(frame)], 1)
    log.persist()
    log.state.note_commit(log.last_index)
    log.scrubber.refetchable = lambda: True
    for _ in range(4):
        log.scrubber.scrub(_STEP)
    assert len(log.read(1, 1, log.log_end_offset)) == len(frame)
    log.state.write_commit_bound()
    machine.kill()
    again = machine.open()
    assert (again.last_index, again.state.doubt) == (log.last_index, Doubt.NONE)


def test_a_follower_s_complaint_is_confirmed_by_the_disk() -> None:
    machine = Machine()
    log = _filled(machine)
    log.verify_entries(3, log.last_index)
    assert log.state.doubt is Doubt.NONE  # it was the wire
    _flip(machine, 0, 90)
    with pytest.raises(CorruptLogError):
        log.verify_entries(3, 4)
    _assert_given_up(log)


def test_entries_whose_header_is_gone_are_damage_and_no_crash_for_ever() -> None:
    machine = Machine()
    log = _filled(machine)
    log.segments.tail.clear()
    _flip(machine, 1, 9)
    with pytest.raises(CorruptLogError):
        contents(log)
    assert log.state.doubt is Doubt.CORRUPT


def test_a_checked_read_tells_damage_that_a_plain_one_hands_out() -> None:
    machine = Machine()
    log = _filled(machine)
    _flip(machine, 0, 90)
    assert log.read(0, 50, log.log_end_offset)
    with pytest.raises(CorruptLogError):
        log.read(0, 50, log.log_end_offset, verify=True)
    assert log.state.doubt is Doubt.NONE  # a suspicion; confirmed by:
    with pytest.raises(CorruptLogError):
        log.verify_offset(0)
    _assert_given_up(log)


def test_a_log_that_nobody_else_holds_cuts_nothing_and_says_what_is_damaged() -> None:
    machine = Machine()
    log = _filled(machine, refetchable=False)
    end = log.log_end_offset
    _flip(machine, 1, 90)
    _scrub_all(log)
    assert log.damage is not None and "checksum" in str(log.damage)
    assert (log.state.doubt, log.log_end_offset) == (Doubt.NONE, end)
    append(log)
    log.persist()
    machine.kill()
    assert machine.open().log_end_offset == end + 1


def test_inspect_names_the_batch() -> None:
    machine = Machine()
    log = _filled(machine)
    segment = log.segments.in_order[1]
    following = log.segments.in_order[2].base_offset
    assert inspect(segment, log.segments.epochs, following) is None
    _flip(machine, 1, segment.size - 1)
    damage = inspect(segment, log.segments.epochs, following)
    assert damage is not None
    assert damage.offset == following - 1


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("point", [p for p in FAIL_POINTS if p.startswith(("state.", "open.")) and "created" not in p])
def test_power_may_fail_anywhere_between_the_finding_and_the_cut(point: str, seed: int) -> None:
    """Whatever is on the disk then, the log either holds no damaged batch or still knows of it, and doubts itself."""
    rng = random.Random(f"{seed} {point}")
    machine = Machine()
    patience = rng.randrange(1, 4)

    def fail_point(name: str) -> None:
        nonlocal patience
        patience -= name == point
        if patience <= 0 and name == point:
            raise PowerFailureError(name)

    log = _filled(machine)
    held = contents(log)
    _flip(machine, rng.randrange(3), rng.randrange(200))
    machine.fail_point = fail_point
    try:
        try:
            _scrub_all(log)
        except CorruptLogError:
            machine.kill()
            machine.open(fail_point=fail_point)
    except PowerFailureError:
        pass
    machine.crash(rng)
    log = machine.open()
    log.scrubber.refetchable = lambda: True
    state = decode_state(machine.disk.read_whole(f"{DIRECTORY}/state.a"))
    assert state is not None and state.damaged_index == 0
    try:
        _scrub_all(log)
    except CorruptLogError:
        assert log.state.corruptions == 1  # power failed before the first finding was durable
        return
    assert log.state.doubt is not Doubt.NONE
    assert contents(log) == {index: entry for index, entry in held.items() if index <= log.last_index}
