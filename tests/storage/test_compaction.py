"""Compaction: the newest record of each key stays, and everybody who counts batches still finds his way."""

from __future__ import annotations

import random
from unittest import mock

import pytest

from raftlog import limits
from raftlog.record.batch import decode, split
from raftlog.record.compacted import entries_of, is_filler
from raftlog.storage import compaction
from raftlog.storage.log import PartitionLog
from raftlog.types import CleanupPolicy, Doubt
from tests.storage.compacting import KeyedRecords, check_compacted, keyed_batch
from tests.storage.machine import Machine, contents, first_not_older, known, lead

_END = 10**9


def _machine(segment_bytes: int = 2048) -> Machine:
    return Machine(segment_bytes=segment_bytes, cleanup_policy=CleanupPolicy.COMPACT)


def _write(log: PartitionLog, *batches: KeyedRecords, producer_id: int = -1) -> None:
    if log.last_term == 0:
        lead(log, 1)
    for batch in batches:
        frame, header = keyed_batch(batch, producer_id, log.log_end_offset)
        log.append_as_leader([frame], [header], log.last_term)
    log.persist()
    log.state.note_commit(log.last_index)


def _roll(log: PartitionLog) -> None:
    """The next append goes to a new segment, as it would after segment_ms."""
    log.appender.roll_when_old(2**62)
    _write(log, [(b"the active segment", b"")])


def _compact(machine: Machine, log: PartitionLog, held_index: int = _END) -> None:
    log.cleaner.begin(held_index, machine.clock.wall_ms())
    while log.cleaner.is_compacting:
        log.cleaner.step(500, machine.clock.wall_ms())


def _records(log: PartitionLog) -> dict[int, tuple[bytes | None, bytes | None]]:
    found = {}
    offset = log.state.log_start_offset
    while data := log.read(offset, 300, log.log_end_offset):
        found |= {record.offset: (record.key, record.value) for record in decode(data) if record.offset >= offset}
        *_, (_, header) = split(data)
        offset = header.next_offset
    return found


def test_the_newest_record_of_each_key_stays_at_its_offset() -> None:
    machine = _machine()
    log = machine.open()
    _write(log, [(b"a", b"1"), (b"b", b"1")], [(b"a", b"2"), (b"c", b"1")], [(b"a", b"3")])
    _roll(log)
    _compact(machine, log)
    assert _records(log) == {1: (b"b", b"1"), 3: (b"c", b"1"), 4: (b"a", b"3"), 5: (b"the active segment", b"")}
    assert (log.last_index, log.log_end_offset, log.state.log_start_offset) == (6, 6, 0)


def test_the_active_segment_is_left_alone() -> None:
    machine = _machine()
    log = machine.open()
    _write(log, [(b"a", b"1")], [(b"a", b"2")])
    _compact(machine, log)
    assert len(_records(log)) == 2


def test_what_is_not_committed_is_left_alone() -> None:
    machine = _machine()
    log = machine.open()
    lead(log, 1)
    log.append_as_leader(*zip(*[keyed_batch([(b"a", b"%d" % n)]) for n in range(5)], strict=True), 1)
    log.appender.roll_when_old(2**62)
    log.append_as_leader(*zip(*[keyed_batch([(b"a", b"6")])], strict=True), 1)
    log.persist()
    log.state.note_commit(4)
    _compact(machine, log)
    assert len(_records(log)) == 6


def test_what_is_gone_is_one_filler_and_indexes_and_epochs_stay() -> None:
    machine = _machine(100_000)
    log = machine.open()
    for term in (1, 2, 4):
        lead(log, term)
        _write(log, *([(b"k%d" % (n % 3), b"%d" % n)] for n in range(20)))
    _roll(log)
    before = contents(log)
    size = log.size_bytes
    _compact(machine, log)
    found = contents(log)
    check_compacted(before, found)
    assert log.size_bytes < size / 5
    batches = [header for _, header in split(b"".join(data or b"" for _, data in found.values()))]
    assert [entries_of(header) for header in batches if is_filler(header)] == [20, 20, 17]
    # A lookup within a filler gives the filler, and the first index that it stands for.
    assert log.read_entries(10, 1).first_index == 3
    assert (log.read_entries(10, 1).count, log.read_entries(10, 1).epoch_starts) == (21, [(23, 2)])
    assert log.offset_after(22) == 20
    log = machine.open()
    assert contents(log) == found
    assert log.state.doubt is Doubt.NONE


def test_a_keyless_record_of_earlier_days_stays() -> None:
    machine = _machine()
    log = machine.open()
    _write(log, [(None, b"1"), (b"a", b"1")], [(None, b"2")], [(b"a", b"2")])
    _roll(log)
    _compact(machine, log)
    assert [key for key, _ in _records(log).values()] == [None, None, b"a", b"the active segment"]


def test_tombstones_go_after_their_time_and_only_where_all_replicas_held_them() -> None:
    machine = _machine()
    log = machine.open()
    _write(log, [(b"a", b"1")], [(b"b", b"1")], [(b"a", None)])
    _roll(log)
    _compact(machine, log)
    assert _records(log)[2] == (b"a", None)
    assert 0 not in _records(log)
    machine.clock.advance(1.9)
    _compact(machine, log)
    assert 2 in _records(log)
    machine.clock.advance(0.2)
    _compact(machine, log, held_index=4)
    assert 2 in _records(log)
    assert log.state.purged_index == 0
    _compact(machine, log)
    assert _records(log) == {1: (b"b", b"1"), 3: (b"the active segment", b"")}
    assert log.state.purged_index == 5
    assert machine.open().state.purged_index == 5


def test_small_segments_become_one() -> None:
    machine = _machine(1500)
    log = machine.open()
    for _ in range(3):
        _write(log, *([(b"k%d" % (n % 4), bytes(200))] for n in range(60)))
        assert log.segment_count > 10
        _compact(machine, log)
    _write(log, *([(b"k%d" % (n % 4), b"")] for n in range(20)))
    _roll(log)
    _compact(machine, log)
    assert log.segment_count <= 6
    assert len(machine.segments()) == log.segment_count
    assert len(_records(log)) == 5


def test_few_keys_fit_the_map_and_more_take_more_passes() -> None:
    machine = _machine(1500)
    log = machine.open()
    rng = random.Random(3)
    _write(log, *([(b"k%d" % rng.randrange(50), bytes(rng.randrange(100)))] for n in range(400)))
    _roll(log)
    before = contents(log)
    with mock.patch.object(limits, "COMPACTION_KEYS_MAX", 10):
        for _ in range(40):
            _compact(machine, log)
    check_compacted(before, contents(log))
    with mock.patch.object(limits, "COMPACTION_DIRTY_RATIO", 0.0):
        _compact(machine, log)
    keys = [key for key, _ in _records(log).values()]
    assert len(keys) == len(set(keys)) == 51


def test_a_pass_is_made_when_half_is_dirty() -> None:
    machine = _machine(1000)
    log = machine.open()
    _write(log, *([(b"k%d" % n, bytes(200))] for n in range(20)))
    _compact(machine, log)
    assert log.cleaner.passes == 1
    _compact(machine, log)
    assert log.cleaner.passes == 1
    _write(log, *([(b"k%d" % n, bytes(200))] for n in range(8)))
    _compact(machine, log)
    assert log.cleaner.passes == 1
    _write(log, *([(b"k%d" % n, bytes(200))] for n in range(20)))
    _compact(machine, log)
    assert log.cleaner.passes == 2


def test_what_is_known_of_producers_survives_the_loss_of_every_snapshot() -> None:
    machine = _machine(1000)
    log = machine.open()
    for number in range(60):
        _write(log, [(b"k", b"%d" % number)], producer_id=number % 3)
    _roll(log)
    before = known(log.producers)
    _compact(machine, log)
    assert len(_records(log)) == 2
    log.close()
    for path in machine.disk.files():
        if path.endswith(".producers"):
            machine.disk.remove(path)
    assert known(machine.open().producers) == before


def test_lookups_by_time_and_offset_find_the_next_record_that_stays() -> None:
    machine = _machine()
    log = machine.open()
    _write(log, *([(b"a", b"%d" % n)] for n in range(10)), [(b"b", b"")])
    _roll(log)
    _compact(machine, log)
    assert next(iter(decode(log.read(3, 10_000, 12)))).offset == 9
    assert first_not_older(log, 1000, 12) == (9, 1000)


def test_damage_is_found_and_gets_no_good_checksum() -> None:
    machine = _machine()
    log = machine.open()
    log.scrubber.refetchable = lambda: False
    _write(log, *([(b"k%d" % n, b"%d" % n)] for n in range(10)), [(b"k1", b"")])
    _roll(log)
    path = next(iter(machine.segments()))
    machine.disk.flip_bit(path, 70, 3)
    _compact(machine, log)
    assert log.damage is not None
    assert not [path for path in machine.disk.files() if path.endswith(compaction.CLEANED)]


def test_a_pass_without_room_changes_nothing_and_is_made_later() -> None:
    machine = _machine()
    log = machine.open()
    _write(log, *([(b"a", bytes(100))] for n in range(10)))
    _roll(log)
    before = contents(log)
    machine.disk.full = True
    _compact(machine, log)
    assert contents(log) == before
    machine.disk.full = False
    _compact(machine, log)
    assert contents(log) == before
    machine.clock.advance(limits.COMPACTION_RETRY_S)
    _compact(machine, log)
    assert len(_records(log)) == 2


def test_a_pass_ends_when_its_segments_are_deleted_or_left_behind() -> None:
    machine = _machine(1000)
    log = machine.open()
    _write(log, *([(b"k%d" % n, bytes(100))] for n in range(40)), *([(b"k%d" % n, bytes(100))] for n in range(40)))
    log.cleaner.begin(_END, 0)
    log.cleaner.step(500, 0)
    log.delete_head(20)
    log.cleaner.step(500, 0)
    assert not log.cleaner.is_compacting
    log.cleaner.begin(_END, 0)
    log.cleaner.step(5000, 0)
    log.reset_to(log.last_index + 5, log.last_term, 1000, log.producers)
    log.cleaner.step(500, 0)
    assert not log.cleaner.is_compacting
    assert not [path for path in machine.disk.files() if path.endswith(compaction.CLEANED)]


@pytest.mark.parametrize("slices", range(12))
def test_a_closed_segment_that_a_truncation_makes_active_again_keeps_what_is_appended_to_it(slices: int) -> None:
    """An isolated leader rolls and appends, compacts what is committed, and then meets the leader of a newer term."""
    machine = _machine(4096)
    log = machine.open()
    _write(log, *([(b"k%d" % (n % 3), b"%d" % n + bytes(50))] for n in range(12)))
    committed = log.last_index
    log.appender.roll_when_old(2**62)
    frame, header = keyed_batch([(b"not committed", b"x")])
    log.append_as_leader([frame], [header], log.last_term)
    log.persist()
    log.cleaner.begin(_END, machine.clock.wall_ms())
    assert log.cleaner.is_compacting
    for _ in range(slices):
        log.cleaner.step(500, machine.clock.wall_ms())
    log.state.set_term(2, -1)
    log.truncate_from(committed + 1)
    log.append_epoch_start(2)
    frame, header = keyed_batch([(b"acknowledged", b"in term 2")])
    log.append_as_leader([frame], [header], 2)
    log.persist()
    acknowledged = log.last_index
    while log.cleaner.is_compacting:
        log.cleaner.step(500, machine.clock.wall_ms())
    machine.kill()
    log = machine.open()
    assert (log.last_index, log.state.doubt) == (acknowledged, Doubt.NONE)
    assert _records(log)[log.log_end_offset - 1] == (b"acknowledged", b"in term 2")


def test_a_topic_that_only_deletes_is_never_compacted() -> None:
    machine = Machine()
    log = machine.open()
    _write(log, *([(b"a", bytes(100))] for n in range(50)))
    _compact(machine, log)
    assert log.cleaner.passes == 0
    assert len(_records(log)) == 50


def test_a_compacted_topic_deletes_by_age_only_if_told() -> None:
    for policy, goes in ((CleanupPolicy.COMPACT, False), (CleanupPolicy.COMPACT | CleanupPolicy.DELETE, True)):
        machine = Machine(cleanup_policy=policy)
        log = machine.open()
        _write(log, *([(b"a", bytes(100))] for n in range(50)))
        assert (log.retention_start(machine.clock.wall_ms()) > 0) is goes


@pytest.mark.parametrize("seed", range(20))
def test_a_follower_takes_any_part_of_a_compacted_log(seed: int) -> None:
    """Whatever a follower holds already, and however much it is sent at once."""
    rng = random.Random(seed)
    machine = _machine(1500)
    log = machine.open()
    for number in range(80):
        if number % 30 == 0:
            lead(log, log.state.term + rng.randrange(1, 3))
        _write(
            log, [(b"k%d" % rng.randrange(6), rng.randbytes(rng.randrange(120))) for _ in range(rng.randrange(1, 4))]
        )
    before = contents(log)
    _compact(machine, log)
    index = rng.randrange(2, log.last_index)
    while index <= log.last_index:
        entries = log.read_entries(index, rng.choice((1, 500, 5000)))
        assert entries.first_index <= index < entries.first_index + entries.count
        for each in range(max(entries.first_index, index), entries.first_index + entries.count):
            assert log.term_at(each) == before[each][0]
        index = entries.first_index + entries.count


def test_a_slice_decodes_a_bounded_count_of_records_however_little_they_take(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = _machine(1 << 20)
    log = machine.open()
    lead(log, 1)
    frame, header = keyed_batch([(b"k%d" % (number % 7), b"") for number in range(30_000)], compression="zstd")
    assert len(frame) < 30_000 * 4
    for _ in range(3):
        log.append_as_leader([frame], [header], 1)
    log.persist()
    _roll(log)
    digests = []
    digest = compaction._digest

    def counting(key: bytes) -> bytes:
        digests[-1] += 1
        return digest(key)

    monkeypatch.setattr(compaction, "_digest", counting)
    log.cleaner.begin(_END, machine.clock.wall_ms())
    while log.cleaner.is_compacting:
        digests.append(0)
        log.cleaner.step(limits.COMPACTION_SLICE_BYTES, machine.clock.wall_ms())
    assert sum(digests) == 180_000
    assert max(digests) <= limits.COMPACTION_SLICE_BYTES // limits.COMPACTION_RECORD_BYTES + 1
    assert len(_records(log)) == 8
