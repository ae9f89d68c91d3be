"""PartitionLog: appending, cutting, housekeeping."""

from __future__ import annotations

import random

import pytest

from raftlog import limits
from raftlog.errors import CorruptLogError, CorruptMessageError, DiskFullError, StorageError
from raftlog.limits import INDEX_COMMIT_BYTES
from raftlog.record.batch import decode, split
from raftlog.storage.producers import Producers
from raftlog.storage.simulated_disk import SimulatedFile
from raftlog.types import Flush, TopicConfig
from tests.storage.machine import Machine, append, batch_of, contents, first_not_older, lead, mixed


def test_a_new_log_has_the_sentinel_only() -> None:
    log = Machine().open()
    state = log.state
    assert (log.last_index, log.last_term, state.horizon_index, state.horizon_prev_term) == (1, 0, 2, 0)
    assert (state.log_start_offset, log.log_end_offset, state.synced_index, state.commit_bound) == (0, 0, 1, 1)
    assert log.term_at(1) == 0 and log.term_at(0) is None and log.term_at(2) is None
    assert log.offset_after(1) == 0
    assert log.read(0, 100, 10) == b""
    assert first_not_older(log, 0, 10) is None


def test_the_no_ops_have_an_index_and_no_offset() -> None:
    log = Machine().open()
    lead(log, 3)
    append(log, 2)
    lead(log, 5)
    append(log, 1)
    assert [log.term_at(index) for index in range(1, 7)] == [0, 3, 3, 3, 5, 5]
    assert [log.offset_after(index) for index in range(1, 7)] == [0, 0, 1, 2, 2, 3]
    assert [(start.term, start.index, start.base_offset) for start in log.epoch_starts] == [(3, 2, 0), (5, 5, 2)]
    assert log.first_index_of_term(4) == 2 and log.first_index_of_term(6) == 5
    assert log.first_index_of_term(1) == 2


def test_an_epoch_start_is_durable_with_all_in_front_of_it() -> None:
    machine = Machine()
    log = machine.open()
    lead(log, 1)
    append(log, 2)
    lead(log, 2)
    assert log.state.synced_index == 5
    machine.crash(None)
    assert machine.open().last_index == 5


def test_what_is_not_persisted_does_not_count_as_synced() -> None:
    log = Machine().open()
    lead(log, 1)
    append(log, 3)
    assert (log.last_index, log.state.synced_index, log.synced_end_offset) == (5, 2, 0)
    log.state.note_commit(5)
    assert log.state.commit_bound == 2
    log.persist()
    assert (log.state.synced_index, log.synced_end_offset) == (5, 3)
    log.state.note_commit(4)
    assert log.state.commit_bound == 4


def test_nothing_is_synced_twice_and_an_idle_persist_syncs_nothing() -> None:
    machine = Machine(segment_bytes=1_000_000)
    log = machine.open()
    lead(log, 1)
    append(log)
    log.persist()
    before = machine.disk.syncs
    append(log, 5)
    log.persist()
    assert machine.disk.syncs - before == 1
    log.persist()
    assert machine.disk.syncs - before == 1


def test_a_turn_that_spans_a_roll_syncs_both_segments_and_the_directory() -> None:
    machine = Machine(segment_bytes=1024)
    log = machine.open()
    lead(log, 1)
    append(log, 3)
    log.persist()
    append(log, 1, size=200)
    append(log, 3, size=200)
    assert log.segment_count == 2
    before = machine.disk.syncs
    log.persist()
    assert machine.disk.syncs - before == 3
    machine.crash(None)
    assert machine.open().last_index == 9


def test_flush_os_syncs_closed_segments_only_and_state_always() -> None:
    machine = Machine(flush=Flush.OS, segment_bytes=1024)
    log = machine.open()
    lead(log, 1)
    for _ in range(30):
        append(log)
        log.persist()
    assert log.state.synced_index == log.last_index
    machine.crash(None)
    again = machine.open()
    assert again.state.term == 1
    assert 2 < again.last_index < 32
    log = machine.open()
    append(log, 3)
    log.close()
    machine.crash(None)
    assert machine.open().last_index == again.last_index + 3


def test_a_leader_stamps_offset_and_epoch_and_leaves_the_rest() -> None:
    log = Machine().open()
    lead(log, 7)
    append(log)
    frames = [batch_of([b"a", b"b"]), batch_of([b"c" * 5000])]
    (run,) = log.append_as_leader([frame for frame, _ in frames], [header for _, header in frames], 7)
    assert (run.first_index, run.count, run.term, list(run.base_offsets)) == (4, 2, 7, [1, 3])
    for (position, header), place in zip(split(run.data), range(2), strict=True):
        assert (header.base_offset, header.leader_epoch) == (run.base_offsets[place], 7)
        assert position == run.positions[place]
        assert run.data[position + 16 : position + header.batch_bytes] == frames[place][0][16:]


def test_a_follower_ends_with_the_leaders_bytes() -> None:
    leader, follower = Machine(), Machine()
    log = mixed(leader, random.Random(1))
    copy = follower.open()
    for index, (term, data) in contents(log).items():
        if data is None:
            copy.state.set_term(term, -1)
            assert copy.append_epoch_start(term) == index
        else:
            copy.append_as_follower(index, data, [next(split(data))[1]])
    copy.persist()
    assert contents(copy) == contents(log)
    follower.crash(None)
    assert contents(follower.open()) == contents(log)


def test_a_follower_writes_many_pieces_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    leader, follower = Machine(), Machine()
    log = leader.open()
    lead(log, 1)
    pieces = [bytes(log.read_entries(append(log, 2)[0], 10_000).payload) for _ in range(5)]
    copy = follower.open()
    copy.state.set_term(1, -1)
    copy.append_epoch_start(1)
    writes: list[int] = []
    really = SimulatedFile.append

    def counted(self: SimulatedFile, data: object) -> None:
        writes.append(1)
        really(self, data)  # type: ignore[arg-type]

    monkeypatch.setattr(SimulatedFile, "append", counted)
    copy.append_as_follower(3, pieces, [header for piece in pieces for _, header in split(piece)])
    assert len(writes) == 1
    assert contents(copy) == contents(log)


@pytest.mark.parametrize("wrong", ["offset", "epoch", "missing header", "half a batch"])
def test_a_follower_takes_nothing_that_does_not_go_on_from_its_end(wrong: str) -> None:
    leader, follower = Machine(), Machine()
    log = leader.open()
    lead(log, 1)
    append(log, 3)
    payload = bytes(log.read_entries(3, 10_000).payload)
    headers = [header for _, header in split(payload)]
    copy = follower.open()
    copy.state.set_term(2, -1)
    copy.append_epoch_start(2 if wrong == "epoch" else 1)
    if wrong == "offset":
        payload, headers = payload[headers[0].batch_bytes :], headers[1:]
    elif wrong == "missing header":
        headers = headers[:-1]
    elif wrong == "half a batch":
        payload = payload[:-1]
    with pytest.raises(CorruptMessageError):
        copy.append_as_follower(3, payload, headers)
    assert copy.last_index == 2 and follower.segments() == {}


# --- cutting -------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_a_truncation_leaves_what_is_in_front_of_it(seed: int) -> None:
    machine = Machine()
    rng = random.Random(seed)
    log = mixed(machine, rng)
    entries = contents(log)
    index = rng.randrange(2, log.last_index + 1)
    log.truncate_from(index)
    kept = {each: entry for each, entry in entries.items() if each < index}
    assert contents(log) == kept and (log.state.truncations, log.state.cuts) == (1, 0), "a conflict is no damage"
    machine.crash(None)
    log = machine.open()
    assert contents(log) == kept and log.state.doubt == 0
    lead(log, log.state.term + 1)
    append(log, 3)
    log.persist()
    machine.crash(None)
    assert list(contents(machine.open()))[-1] == index + 3


def test_a_reader_that_went_on_before_a_truncation_does_not_use_its_old_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "TAIL_CACHE_BYTES", 0)
    machine = Machine(segment_bytes=100_000)
    log = machine.open()
    lead(log, 1)
    append(log, 20)
    log.persist()
    for offset in range(10, 15):
        log.read(offset, 1, 20)
        log.read_entries(offset, 1)
    log.truncate_from(5)
    append(log, 20, size=130)
    log.persist()
    for offset in reversed(range(10, 16)):
        assert log.read(offset, 1, 20)[:8] == offset.to_bytes(8, "big")
        assert bytes(log.read_entries(offset, 1).payload)[:8] == (offset - 3).to_bytes(8, "big")


def test_a_truncation_at_or_below_the_commit_bound_fails_the_log() -> None:
    machine = Machine()
    log = machine.open()
    lead(log, 1)
    append(log, 5)
    log.persist()
    log.state.note_commit(5)
    log.truncate_from(6)
    with pytest.raises(CorruptLogError):
        log.truncate_from(5)
    with pytest.raises(StorageError):
        log.persist()
    assert machine.open().last_index == 5


def test_a_truncation_above_the_end_does_nothing() -> None:
    log = Machine().open()
    lead(log, 1)
    log.truncate_from(3)
    assert log.state.truncations == 0


def test_a_reset_begins_anew_behind_the_horizon() -> None:
    machine = Machine()
    log = mixed(machine, random.Random(4))
    log.state.set_term(50, 2)
    log.reset_to(1000, 40, 7000, Producers())
    assert (log.state.horizon_index, log.last_index, log.last_term) == (1000, 999, 40)
    assert (log.state.log_start_offset, log.log_end_offset, log.segment_count) == (7000, 7000, 0)
    assert log.term_at(999) == 40 and log.offset_after(999) == 7000
    assert (log.state.term, log.state.voted_for) == (50, 2)
    frame, header = batch_of([b"x"])
    assert log.append_as_leader([frame], [header], 40)[0].first_index == 1000
    log.persist()
    machine.crash(None)
    log = machine.open()
    assert (log.last_index, log.log_end_offset, log.state.doubt) == (1000, 7001, 0)
    assert [record.offset for record in decode(log.read(7000, 100, 7001))] == [7000]
    assert machine.segments(1) == {}


def test_a_reset_that_contradicts_what_is_committed_fails_the_log() -> None:
    log = Machine().open()
    lead(log, 1)
    append(log, 5)
    log.persist()
    log.state.note_commit(6)
    with pytest.raises(CorruptLogError):
        log.reset_to(5, 9, 100, Producers())
    with pytest.raises(StorageError):
        append(log)


# --- housekeeping --------------------------------------------------------------------------


def test_retention_by_time_and_by_size_keeps_whole_segments() -> None:
    machine = Machine(segment_bytes=1024)
    log = machine.open()
    lead(log, 1)
    for number in range(40):
        append(log, timestamp_ms=1000 + number)
        log.persist()
    bases = [segment.base_offset for segment in log.segments.in_order]
    log.set_config(TopicConfig(retention_ms=-1))
    assert log.retention_start(10**9) == 0
    log.set_config(TopicConfig(retention_ms=100))
    assert log.retention_start(1000) == 0
    assert log.retention_start(1000 + bases[2] + 100) == bases[2]
    assert log.retention_start(10**9) == bases[-1]
    log.set_config(TopicConfig(retention_ms=-1, retention_bytes=2500))
    start = log.retention_start(0)
    log.delete_head(start)
    assert 2500 <= log.size_bytes < 2500 + 1024
    assert log.retention_start(0) == start


def test_segments_roll_by_age() -> None:
    machine = Machine(segment_bytes=10**6)
    machine.config = TopicConfig(segment_ms=5000)
    log = machine.open()
    lead(log, 1)
    append(log)
    log.appender.roll_when_old(machine.clock.wall_ms() + 4000)
    append(log)
    assert log.segment_count == 1
    log.appender.roll_when_old(machine.clock.wall_ms() + 5000)
    append(log)
    assert log.segment_count == 2


def test_the_commit_bound_is_written_with_each_roll_and_at_a_clean_stop() -> None:
    machine = Machine(segment_bytes=1024)
    log = machine.open()
    lead(log, 1)
    append(log, 7)
    log.persist()
    log.state.note_commit(9)
    append(log, 3, size=300)
    assert log.segment_count == 2
    machine.crash(None)
    assert machine.open().state.commit_bound == 9
    log = machine.open()
    append(log)
    log.persist()
    log.state.note_commit(10)
    log.close()
    assert machine.open().state.commit_bound == 10


def test_the_index_is_committed_every_few_megabytes_of_synced_log() -> None:
    machine = Machine(segment_bytes=10**9)
    log = machine.open()
    lead(log, 1)
    frame, header = batch_of([bytes(64 * 1024)])
    batches = INDEX_COMMIT_BYTES // len(frame) + 1
    log.append_as_leader([frame] * batches, [header] * batches, 1)
    assert log.segments.index.last_committed() is None
    log.persist()
    assert log.segments.index.last_committed() is not None
    assert log.segments.index.pending() == 0


def test_the_index_commits_nothing_that_is_not_really_synced() -> None:
    machine = Machine(flush=Flush.OS, segment_bytes=2 * INDEX_COMMIT_BYTES)
    log = machine.open()
    lead(log, 1)
    frame, header = batch_of([bytes(64 * 1024)])
    batches = INDEX_COMMIT_BYTES // len(frame) + 1
    log.append_as_leader([frame] * batches, [header] * batches, 1)
    log.persist()
    assert log.segments.index.last_committed() is None
    log.append_as_leader([frame] * batches, [header] * batches, 1)
    log.persist()
    last = log.segments.index.last_committed()
    assert last is not None and last.base_offset == batches - 1


def test_after_a_failed_sync_the_log_refuses_everything() -> None:
    machine = Machine()
    log = machine.open()
    lead(log, 1)
    append(log)
    machine.disk.fail_sync = True
    with pytest.raises(StorageError) as failed:
        log.persist()
    assert not isinstance(failed.value, DiskFullError)
    machine.disk.fail_sync = False
    for use in (log.persist, lambda: append(log), lambda: log.truncate_from(2), lambda: log.append_epoch_start(1)):
        with pytest.raises((StorageError, AssertionError)):
            use()
    assert log.state.failed is not None
    log.close()
