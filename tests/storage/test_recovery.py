"""What a start finds on a damaged disk: every cut is told, and told BEFORE it is made."""

from __future__ import annotations

import random

import pytest

from raftlog.errors import ConfigError, CorruptLogError, DiskFullError, InconsistentTopicIdError
from raftlog.storage.index import IndexEntry
from raftlog.storage.log import PartitionLog
from raftlog.storage.producers import Producers
from raftlog.storage.state import StateFile, decode_state, worse_doubt
from raftlog.types import Doubt, Flush
from tests.storage.machine import (
    DIRECTORY,
    Machine,
    PowerFailureError,
    append,
    contents,
    lead,
)


def _filled(machine: Machine, batches: int = 30, bound: int = 10) -> dict[int, tuple[int, bytes | None]]:
    """Two epochs, several segments, everything acknowledged, committed up to `bound`; then kill -9."""
    log = machine.open()
    lead(log, 1)
    for _ in range(batches // 3):
        append(log)
        log.persist()
    lead(log, 4)
    while log.last_index < batches + 3:
        append(log)
        log.persist()
    log.state.note_commit(bound)
    log.state.write_commit_bound()
    held = contents(log)
    assert log.segment_count > 2
    machine.kill()
    return held


def _last_segment(machine: Machine) -> tuple[str, bytes]:
    return sorted(machine.segments().items())[-1]


def _assert_prefix(log: PartitionLog, held: dict[int, tuple[int, bytes | None]], last_index: int) -> None:
    assert log.last_index == last_index
    assert contents(log) == {index: entry for index, entry in held.items() if index <= last_index}


def test_a_killed_process_loses_nothing_and_is_not_doubtful() -> None:
    machine = Machine()
    held = _filled(machine)
    log = machine.open()
    _assert_prefix(log, held, 33)
    assert log.state.doubt == Doubt.NONE and log.state.commit_bound == 10
    assert (log.state.term, log.state.voted_for) == (4, 1)
    assert log.state.synced_index == 33


def test_what_a_killed_process_had_only_written_is_synced_before_it_counts() -> None:
    machine = Machine()
    log = machine.open()
    lead(log, 1)
    append(log, 3)
    machine.kill()
    log = machine.open()
    assert log.state.synced_index == log.last_index == 5
    machine.crash(None)
    assert machine.open().last_index == 5


@pytest.mark.parametrize("garbage", [b"\x00" * 50, b"\x00" * 500, b"\xff" * 100, b"x"])
def test_a_torn_tail_is_cut_and_makes_doubtful(garbage: bytes) -> None:
    machine = Machine()
    held = _filled(machine)
    path, data = _last_segment(machine)
    machine.disk.open(path).append(garbage)
    log = machine.open()
    _assert_prefix(log, held, 33)
    assert log.state.doubt == Doubt.CUT_TAIL and (log.state.truncations, log.state.cuts) == (1, 1)
    assert f"cut {len(garbage)} bytes at position {len(data)}" in log.state.doubt_reason
    # Said once, and for good.
    log.close()
    log = machine.open()
    assert log.state.doubt == Doubt.CUT_TAIL and log.state.truncations == 1


def test_a_flip_in_the_last_acknowledged_batch_looks_like_a_torn_tail_and_makes_doubtful() -> None:
    machine = Machine()
    held = _filled(machine)
    path, data = _last_segment(machine)
    machine.disk.flip_bit(path, len(data) - 1, 3)
    log = machine.open()
    _assert_prefix(log, held, 32)
    assert log.state.doubt == Doubt.CUT_TAIL


def test_a_flip_in_front_of_good_batches_is_corruption() -> None:
    machine = Machine()
    held = _filled(machine)
    path, _ = _last_segment(machine)
    machine.disk.flip_bit(path, 70, 3)
    log = machine.open()
    assert log.state.doubt == Doubt.CORRUPT
    _assert_prefix(log, held, log.last_index)
    assert log.last_index < 33


@pytest.mark.parametrize("field", [(0, "offset"), (7, "offset"), (12, "epoch"), (15, "epoch")])
def test_fields_that_no_checksum_covers_are_checked(field: tuple[int, str]) -> None:
    machine = Machine()
    held = _filled(machine)
    path, data = _last_segment(machine)
    size = len(held[33][1] or b"")
    machine.disk.flip_bit(path, len(data) - size + field[0], 0)
    log = machine.open()
    _assert_prefix(log, held, 32)
    assert log.state.doubt == Doubt.CUT_TAIL and field[1] in log.state.doubt_reason


def test_a_log_below_its_commit_bound_is_short() -> None:
    machine = Machine()
    held = _filled(machine, bound=33)
    path, data = _last_segment(machine)
    machine.disk.truncate_durable(path, len(data) - len(held[33][1] or b""))
    log = machine.open()
    _assert_prefix(log, held, 32)
    assert log.state.doubt == Doubt.SHORT and "commit bound 33" in log.state.doubt_reason
    assert log.state.commit_bound == 33


def test_a_cut_at_a_batch_boundary_above_the_bound_cannot_be_told() -> None:
    machine = Machine()
    held = _filled(machine, bound=32)
    path, data = _last_segment(machine)
    machine.disk.truncate_durable(path, len(data) - len(held[33][1] or b""))
    log = machine.open()
    _assert_prefix(log, held, 32)
    assert log.state.doubt == Doubt.NONE


def test_the_doubt_is_durable_before_the_cut() -> None:
    machine = Machine()
    _filled(machine)
    path, _ = _last_segment(machine)
    machine.disk.open(path).append(b"torn")
    before = machine.segments()

    def stop(name: str) -> None:
        if name == "open.doubt-durable":
            raise PowerFailureError(name)

    with pytest.raises(PowerFailureError):
        machine.open(fail_point=stop)
    assert machine.segments() == before
    for copy in "ab":
        state = decode_state(machine.disk.read_whole(f"{DIRECTORY}/state.{copy}"))
        assert state is not None and state.doubt == Doubt.CUT_TAIL
    machine.crash(None)
    assert machine.open().state.doubt == Doubt.CUT_TAIL


def test_without_room_for_the_doubt_nothing_is_cut() -> None:
    machine = Machine()
    _filled(machine)
    path, _ = _last_segment(machine)
    machine.disk.open(path).append(b"torn")
    before = machine.segments()
    machine.disk.full = True
    with pytest.raises(DiskFullError):
        machine.open()
    assert machine.segments() == before
    machine.disk.full = False
    assert machine.open().state.doubt == Doubt.CUT_TAIL


def test_an_epoch_start_that_the_batches_do_not_reach_is_dropped_and_makes_doubtful() -> None:
    machine = Machine()
    log = machine.open()
    lead(log, 1)
    append(log, 3)
    lead(log, 2)
    held = contents(log)
    machine.kill()
    path, data = _last_segment(machine)
    machine.disk.truncate_durable(path, len(data) - len(held[5][1] or b""))
    log = machine.open()
    _assert_prefix(log, held, 4)
    assert log.state.doubt == Doubt.CUT_TAIL and [start.term for start in log.epoch_starts] == [1]
    assert log.last_term == 1 and log.state.term == 2


def test_a_batch_whose_epoch_has_no_start_is_cut_and_makes_doubtful() -> None:
    machine = Machine()
    held = _filled(machine, bound=5)
    file = StateFile(machine.disk, DIRECTORY)
    state = file.load()
    assert state is not None
    state.epoch_starts = state.epoch_starts[:1]
    file.write(state)
    log = machine.open()
    _assert_prefix(log, held, 12)
    assert log.state.doubt == Doubt.CORRUPT and "epoch" in log.state.doubt_reason


def test_a_missing_segment_ends_the_log_in_front_of_it() -> None:
    machine = Machine()
    held = _filled(machine)
    paths = sorted(machine.segments())
    machine.disk.remove(paths[1])
    log = machine.open()
    first_lost = int(paths[1].split(".")[2])
    _assert_prefix(log, held, first_lost - 1)
    assert log.state.doubt == Doubt.CORRUPT and sorted(machine.segments()) == paths[:1]


def test_a_missing_first_segment_leaves_nothing() -> None:
    machine = Machine()
    _filled(machine)
    machine.disk.remove(min(machine.segments()))
    log = machine.open()
    assert log.state.doubt == Doubt.SHORT and log.last_index == 2 and log.log_end_offset == 0
    assert machine.segments() == {}


def test_an_old_segment_that_was_cut_at_a_batch_boundary_is_found_without_reading_all() -> None:
    machine = Machine()
    _filled(machine)
    machine.open().close()  # everything is indexed now
    paths = sorted(machine.segments())
    machine.disk.truncate_durable(paths[0], len(machine.segments()[paths[0]]) // 2)
    log = machine.open()
    assert log.state.doubt in (Doubt.CORRUPT, Doubt.SHORT)
    assert log.last_index < 10


def test_after_a_cut_below_the_index_the_log_goes_on_and_is_found_again() -> None:
    machine = Machine()
    _filled(machine)
    machine.open().close()
    paths = sorted(machine.segments())
    machine.disk.truncate_durable(paths[1], len(machine.segments()[paths[1]]) // 2)
    log = machine.open()
    lead(log, 9)
    append(log, 30, size=700)
    log.close()
    log = machine.open()
    held = contents(log)
    assert contents(log) == held and held[log.last_index][0] == 9


def test_an_empty_last_segment_makes_doubtful() -> None:
    machine = Machine()
    _filled(machine)
    path, _ = _last_segment(machine)
    machine.disk.truncate_durable(path, 0)
    log = machine.open()
    assert log.state.doubt == Doubt.CUT_TAIL
    assert path not in machine.segments()


def test_an_empty_directory_of_a_replica_that_existed_is_a_lost_disk_durably() -> None:
    machine = Machine()
    log = machine.open(existed=Doubt.LOST_DISK)
    assert log.state.doubt == Doubt.LOST_DISK and log.state.doubt_reason
    machine.crash(None)
    log = machine.open()
    assert log.state.doubt == Doubt.LOST_DISK
    log.state.set_doubt(Doubt.NONE, "")
    log.persist()
    machine.crash(None)
    assert machine.open().state.doubt == Doubt.NONE


def test_a_lost_state_keeps_its_segments_aside_until_the_doubt_ends() -> None:
    machine = Machine()
    _filled(machine)
    before = machine.segments()
    for copy in "ab":
        machine.disk.remove(f"{DIRECTORY}/state.{copy}")
    log = machine.open()
    assert log.state.doubt == Doubt.LOST_STATE and log.last_index == 1 and log.state.term == 0
    assert machine.segments(1) == before
    log.reset_to(20, 3, 15, Producers())
    lead(log, 9)
    log.close()
    assert machine.segments(1) == before
    log = machine.open()
    log.state.set_doubt(Doubt.NONE, "")
    log.persist()
    assert machine.segments(1) == {}
    assert machine.open().last_index == 20


def test_two_bad_copies_of_the_state_stop_the_worker() -> None:
    machine = Machine()
    _filled(machine)
    for copy in "ab":
        machine.disk.flip_bit(f"{DIRECTORY}/state.{copy}", 25, 1)
    before = machine.disk.files()
    with pytest.raises(CorruptLogError):
        machine.open()
    assert machine.disk.files() == before


def test_another_topics_directory_is_refused() -> None:
    machine = Machine()
    _filled(machine)
    with pytest.raises(InconsistentTopicIdError):
        machine.open(topic_id=b"another topic id")


def test_a_newer_format_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine()
    _filled(machine)
    file = StateFile(machine.disk, DIRECTORY)
    state = file.load()
    assert state is not None
    monkeypatch.setattr("raftlog.storage.state._WITHOUT_CONFIGURATIONS", 99)
    file.write(state)
    with pytest.raises(ConfigError):
        machine.open()


@pytest.mark.parametrize("seed", range(15))
def test_a_stale_index_is_not_believed(seed: int) -> None:
    machine = Machine()
    held = _filled(machine)
    machine.open().close()
    rng = random.Random(seed)
    committed = machine.indexes.open(f"{DIRECTORY}/index.lmdb")
    committed.truncate(rng.randrange(20))
    last = committed.last_committed()
    offset = last.base_offset if last else 0
    for _ in range(rng.randrange(1, 6)):
        offset += rng.randrange(1, 8)
        committed.add(
            IndexEntry(offset, rng.randrange(2, 60), rng.choice((1, 4)), rng.choice((0, 10)), rng.randrange(2000), 1)
        )
    committed.commit(2**62)
    log = machine.open()
    _assert_prefix(log, held, 33)
    assert log.state.doubt == Doubt.NONE
    for offset in range(log.log_end_offset):
        assert int.from_bytes(log.read(offset, 1, log.log_end_offset)[:8], "big") == offset


def test_a_removal_of_the_head_that_did_not_finish_is_finished_without_doubt() -> None:
    machine = Machine()
    _filled(machine, bound=33)
    log = machine.open()

    def stop(name: str) -> None:
        if name == "head.state-durable":
            raise PowerFailureError(name)

    machine.fail_point = stop
    with pytest.raises(PowerFailureError):
        log.delete_head(20)
    before = len(machine.segments())
    machine.crash(None)
    log = machine.open()
    assert log.state.log_start_offset == 20 and log.state.doubt == Doubt.NONE
    assert len(machine.segments()) == log.segment_count < before


def test_flush_os_leaves_a_power_failure_doubt_and_never_a_hole() -> None:
    shorter = 0
    for seed in range(30):
        machine = Machine(flush=Flush.OS)
        held = _filled(machine, bound=33)
        machine.crash(random.Random(seed))
        log = machine.open()
        _assert_prefix(log, held, log.last_index)
        if log.last_index < 33:
            shorter += 1
            assert log.state.doubt == Doubt.SHORT
    assert shorter > 5


def test_being_short_is_not_hidden_behind_corruption() -> None:
    assert worse_doubt(Doubt.CORRUPT, Doubt.SHORT) == Doubt.SHORT
    assert worse_doubt(Doubt.LOST_DISK, Doubt.SHORT) == Doubt.LOST_DISK
    assert worse_doubt(Doubt.NONE, Doubt.CUT_TAIL) == Doubt.CUT_TAIL
