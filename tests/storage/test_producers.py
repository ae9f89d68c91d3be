"""What a log knows of idempotent producers: verdicts, and how it is known again after restarts, cuts and retention."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftlog.errors import CorruptMessageError, DiskFullError, ErrorCode
from raftlog.limits import (
    PRODUCER_BATCHES_MAX,
    PRODUCER_CROWDED_IDLE_MS,
    PRODUCER_IDLE_MS,
    PRODUCER_SNAPSHOTS_MAX,
    PRODUCERS_MAX,
)
from raftlog.record.batch import BatchHeader
from raftlog.storage import appender
from raftlog.storage.appender import Appender
from raftlog.storage.log import PartitionLog
from raftlog.storage.producers import KnownBatch, Producers, judge
from raftlog.storage.snapshots import decode_snapshot, encode_snapshot
from tests.storage.machine import DIRECTORY, Machine, append, known, lead, numbered_batch

LAST = 2**31 - 1


def header(sequence: int, count: int = 1, *, producer_id: int = 7, epoch: int = 0) -> BatchHeader:
    return BatchHeader(0, 70, 0, 2, 0, 0, count - 1, 0, 0, producer_id, epoch, sequence, count)


def table(*headers: BatchHeader) -> Producers:
    producers = Producers()
    for place, each in enumerate(headers):
        producers.note(each, 100 + place, 3 + place, 0)
    return producers


# --- verdicts --------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("written", "asked", "verdict"),
    [
        ([], header(0), ErrorCode.NONE),
        ([], header(1), ErrorCode.UNKNOWN_PRODUCER_ID),
        ([], header(0, epoch=4), ErrorCode.NONE),
        ([header(0, 3)], header(3), ErrorCode.NONE),
        ([header(0, 3)], header(4), ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER),
        ([header(0, 3)], header(0, 3), KnownBatch(0, 2, 100, 3)),
        ([header(0, 3)], header(0, 2), ErrorCode.DUPLICATE_SEQUENCE_NUMBER),
        ([header(0, 3)], header(2, 2), ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER),  # half of it is not in the log
        ([header(n) for n in range(6)], header(1), KnownBatch(1, 1, 101, 4)),
        ([header(n) for n in range(6)], header(0), ErrorCode.DUPLICATE_SEQUENCE_NUMBER),
        ([header(0, epoch=2)], header(1, epoch=1), ErrorCode.INVALID_PRODUCER_EPOCH),
        ([header(0, epoch=2)], header(0, epoch=3), ErrorCode.NONE),
        ([header(0, epoch=2)], header(1, epoch=3), ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER),
        ([header(LAST - 1, 2)], header(0), ErrorCode.NONE),
        ([header(LAST, 3)], header(2), ErrorCode.NONE),
        ([header(LAST, 3)], header(LAST, 3), KnownBatch(LAST, 1, 100, 3)),
        ([header(LAST, 3)], header(LAST - 1), ErrorCode.DUPLICATE_SEQUENCE_NUMBER),
        ([header(0)], header(-1), ErrorCode.INVALID_RECORD),
        ([], header(0, epoch=-1), ErrorCode.INVALID_RECORD),
    ],
)
def test_the_verdict_on_a_batch(written: list[BatchHeader], asked: BatchHeader, verdict: object) -> None:
    assert judge(table(*written).get(7), asked) == verdict


@dataclass
class _Model:
    """Which sequences are in the log; everything said of them is worked out from the whole list."""

    batches: list[tuple[int, int]] = field(default_factory=list)

    def verdict(self, first: int, count: int) -> ErrorCode | int:
        """An int: the place of the batch that stands there already."""
        if not self.batches:
            return ErrorCode.NONE if first == 0 else ErrorCode.UNKNOWN_PRODUCER_ID
        end = self.batches[-1][0] + self.batches[-1][1]
        if first == end:
            return ErrorCode.NONE
        if (first, count) in self.batches[-PRODUCER_BATCHES_MAX:]:
            return self.batches.index((first, count))
        return ErrorCode.DUPLICATE_SEQUENCE_NUMBER if first + count <= end else ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 4)), max_size=40), st.integers(0, LAST))
def test_no_sequence_is_ever_taken_twice_nor_with_a_gap(asked: list[tuple[int, int]], shift: int) -> None:
    """The same asked anywhere on the ring of sequences, so across its end too."""
    model, producers = _Model(), Producers()
    if shift:  # the log's memory begins behind `shift`, as behind a deleted head
        producers.note(header((shift - 1) % 2**31), 0, 2, 0)
    for place, (first, count) in enumerate(asked):
        verdict = judge(producers.get(7), header((first + shift) % 2**31, count))
        expected = model.verdict(first, count)
        if shift and not model.batches:
            expected = ErrorCode.NONE if first == 0 else ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
        if isinstance(expected, ErrorCode):
            assert verdict == expected
        else:
            assert isinstance(verdict, KnownBatch) and verdict.first_sequence == (first + shift) % 2**31
        if verdict is ErrorCode.NONE:
            producers.note(header((first + shift) % 2**31, count), place, 3 + place, 0)
            model.batches.append((first, count))


# --- bounds ----------------------------------------------------------------------------------
def test_producers_that_were_idle_for_a_week_are_forgotten() -> None:
    producers = Producers()
    producers.note(header(0, producer_id=1), 0, 3, 1000)
    producers.note(header(0, producer_id=2), 1, 4, 2000)
    producers.expire(1000 + PRODUCER_IDLE_MS)
    assert list(producers.states) == [2]


def test_a_crowd_pushes_out_only_those_who_are_long_idle() -> None:
    producers = Producers()
    for number in range(PRODUCERS_MAX):
        producers.note(header(0, producer_id=number), number, 3 + number, number)
    assert not producers.has_room(0, PRODUCER_CROWDED_IDLE_MS - 1)
    assert producers.has_room(0, PRODUCER_CROWDED_IDLE_MS)
    assert not producers.has_room(1, PRODUCER_CROWDED_IDLE_MS)
    producers.note(header(0, producer_id=-2 + 2**40), 0, 9, PRODUCER_CROWDED_IDLE_MS)
    assert len(producers.states) == PRODUCERS_MAX and 0 not in producers.states


# --- snapshots -------------------------------------------------------------------------------
def test_a_snapshot_has_the_bytes_that_the_page_draws() -> None:
    producers = table(header(5, 2, producer_id=9, epoch=1))
    data = encode_snapshot(3, 2, 102, producers)
    body = b"\x95\x03\x02\x66\xc3\x81\x09\x93\x01\x00\x91\x94\x05\x06\x64\x03"
    assert data[:8] == b"RAFTLOGP" and data[12:16] == len(body).to_bytes(4, "big") and data[16:] == body
    snapshot = decode_snapshot(data)
    assert known(snapshot.producers()) == known(producers)
    assert (snapshot.last_index, snapshot.last_term, snapshot.base_offset) == (3, 2, 102)


def test_a_snapshot_that_is_not_as_it_was_written_is_none() -> None:
    data = encode_snapshot(3, 2, 101, table(header(0)))
    for end in range(len(data)):
        with pytest.raises(CorruptMessageError):
            decode_snapshot(data[:end])
    for place in range(len(data)):
        with pytest.raises(CorruptMessageError):
            decode_snapshot(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])


# --- a log -----------------------------------------------------------------------------------
def _write(log: PartitionLog, numbers: list[tuple[int, int]], size: int = 100) -> None:
    """A batch of one record for each (producer id, sequence)."""
    pairs = [numbered_batch([bytes(size)], producer_id, sequence) for producer_id, sequence in numbers]
    log.append_as_leader([frame for frame, _ in pairs], [each for _, each in pairs], log.last_term)
    log.persist()


def _written(segment_bytes: int = 1024) -> tuple[Machine, PartitionLog]:
    """Three producers, many segments, several epochs, batches without a producer in between."""
    machine = Machine(segment_bytes=segment_bytes)
    log = machine.open()
    for sequence in range(20):
        if sequence % 8 == 0:
            lead(log, log.state.term + 1)
        _write(log, [(1, sequence), (2, sequence)])
        append(log)
        if sequence < 3:
            _write(log, [(3, sequence)])
    return machine, log


def _snapshots(machine: Machine) -> list[str]:
    return sorted(path for path in machine.disk.files() if path.endswith(".producers"))


def test_a_restart_knows_what_the_log_knew() -> None:
    for power in (None, False, True):
        machine, log = _written()
        before = known(log.producers)
        if power is None:
            log.close()
        elif power:
            machine.crash(None)
        else:
            machine.kill()
        assert known(machine.open().producers) == before


def test_a_restart_reads_only_the_batches_behind_the_newest_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    machine, log = _written(segment_bytes=1 << 20)
    log.close()
    noted: list[int] = []
    really = Producers.note

    def counted(self: Producers, *arguments: object) -> None:
        noted.append(1)
        really(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Producers, "note", counted)
    log = machine.open()
    assert noted == []
    monkeypatch.setattr(appender, "PRODUCER_SNAPSHOT_BYTES", 2000)
    for sequence in range(20, 50):
        _write(log, [(1, sequence)])
    machine.kill()
    del noted[:]
    assert known(machine.open().producers) == known(log.producers)
    assert 0 < len(noted) <= 2000 // 160 + 1


def test_snapshots_between_segments_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(appender, "PRODUCER_SNAPSHOT_BYTES", 300)
    machine, log = _written(segment_bytes=4096)
    assert log.segment_count > 2
    assert len(_snapshots(machine)) <= log.segment_count + PRODUCER_SNAPSHOTS_MAX


@pytest.mark.parametrize("damage", ["none", "torn", "gone"])
def test_a_truncation_takes_the_knowledge_back(damage: str) -> None:
    for cut_off in range(2, 40):
        machine, log = _written()
        index = log.last_index - cut_off
        expected = Producers()
        for each in range(log.state.horizon_index, index):
            if not log.segments.epochs.is_start(each):
                (segment, position), _ = log.segments.lookup.of_index(each)
                found = segment.header_at(position)
                assert found is not None
                if found.producer_id >= 0:
                    expected.note(found, found.base_offset, each, 0)
        for path in _snapshots(machine)[::2] if damage != "none" else ():
            if damage == "gone":
                snapshots = log.segments.snapshots
                snapshots._remove([name for name in snapshots.names if f"{name}"[:41] in path])
            else:
                machine.disk.flip_bit(path, 20, 3)
        log.truncate_from(index)
        assert known(log.producers) == known(expected)
        assert all(name.first_index <= index for name in log.segments.snapshots.names)
        machine.crash(random.Random(cut_off))
        assert known(machine.open().producers) == known(expected)


def test_a_truncation_above_the_newest_numbered_batch_reads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    _, log = _written()
    append(log, 5)
    monkeypatch.setattr(Appender, "recall", lambda self: pytest.fail("it was read again"))
    log.truncate_from(log.last_index - 3)


@pytest.mark.parametrize("damage", ["none", "horizon torn", "restart"])
def test_retention_keeps_what_was_known(damage: str) -> None:
    """Producer 3 wrote only where the head goes."""
    machine, log = _written()
    before = known(log.producers)
    if damage == "horizon torn":
        for path in _snapshots(machine)[1:]:
            machine.disk.flip_bit(path, 30, 1)
    if damage == "restart":
        machine.crash(None)  # the snapshots were never synced
        assert not any(machine.disk.files()[path] for path in _snapshots(machine))
        log = machine.open()
    log.delete_head(log.synced_end_offset)
    assert log.segment_count == 1 and log.state.horizon_index > 40
    machine.crash(None)
    log = machine.open()
    assert known(log.producers) == before and log.producers.complete
    assert judge(log.producers.get(3), header(1, producer_id=3)) == KnownBatch(1, 1, 7, 10)


def test_what_retention_and_damage_lost_is_refused_and_not_taken_for_new() -> None:
    machine, log = _written()
    log.delete_head(log.synced_end_offset)
    for path in _snapshots(machine):
        machine.disk.flip_bit(path, 30, 1)
    log.close()
    for path in _snapshots(machine):
        machine.disk.remove(path)
    log = machine.open()
    assert not log.producers.complete
    assert judge(log.producers.get(3), header(3, producer_id=3)) is ErrorCode.UNKNOWN_PRODUCER_ID
    assert judge(log.producers.get(1), header(20, producer_id=1)) is ErrorCode.NONE  # its newest batch is still there
    assert judge(log.producers.get(1), header(2, producer_id=1)) is ErrorCode.DUPLICATE_SEQUENCE_NUMBER


def test_a_header_that_cannot_be_read_makes_no_older_batch_the_newest() -> None:
    """Producer 1's newest batches lie behind the damage, which hides where: what was known in front of it goes."""
    machine, log = _written(segment_bytes=1 << 20)
    _write(log, [(5, 0)])
    [path] = machine.segments()
    for name in _snapshots(machine):
        machine.disk.remove(name)
    place = log.segments.lookup.of_index(31)[0].position
    machine.kill()
    machine.disk.flip_bit(path, place + 8, 6)  # its length; the index says that it was synced, so nobody cuts it
    log = machine.open()
    if log.state.doubt == 0:
        assert not log.producers.complete
    assert judge(log.producers.get(1), header(19, producer_id=1)) != ErrorCode.NONE


def test_a_reset_brings_the_knowledge_of_the_horizon_and_keeps_it() -> None:
    _, log = _written()
    log.delete_head(log.log_end_offset)
    payload = log.snapshot_at_horizon()
    _write(log, [(1, 20), (2, 20)])
    assert log.snapshot_at_horizon() == payload  # never of what came later
    other = Machine()
    copy = other.open()
    copy.state.set_term(log.state.term, -1)
    snapshot = decode_snapshot(payload)
    values = log.state.values
    copy.reset_to(values.horizon_index, values.horizon_prev_term, values.horizon_offset, snapshot.producers())
    assert known(copy.producers) == known(snapshot.producers()) != known(log.producers)
    for crash in range(3):
        other.crash(random.Random(crash))
        copy = other.open()
        assert known(copy.producers) == known(snapshot.producers())
        assert decode_snapshot(copy.snapshot_at_horizon()).states.keys() == snapshot.states.keys()
    lead(copy, copy.state.term + 1)
    for sequence in range(19, 60):
        _write(copy, [(1, sequence)])
    copy.close()
    assert decode_snapshot(copy.snapshot_at_horizon()).states.keys() == snapshot.states.keys()


def test_a_full_disk_leaves_the_knowledge_as_it_was() -> None:
    machine, log = _written()
    before, last_index = known(log.producers), log.last_index
    machine.disk.full = True
    with pytest.raises(DiskFullError):
        _write(log, [(1, 20), (8, 0)])
    assert (known(log.producers), log.last_index) == (before, last_index)
    machine.disk.full = False
    _write(log, [(1, 20), (8, 0)])
    log.close()
    assert known(machine.open().producers) == known(log.producers)


def test_a_full_disk_can_do_without_a_snapshot() -> None:
    machine, log = _written()
    log.segments.snapshots._remove(list(log.segments.snapshots.names))
    machine.disk.capacity_bytes = machine.disk.used_bytes + 20
    log.appender.write_snapshot()
    assert _snapshots(machine) == [] and log.state.failed is None
    machine.disk.capacity_bytes = None
    assert DIRECTORY and known(machine.open().producers) == known(log.producers)
