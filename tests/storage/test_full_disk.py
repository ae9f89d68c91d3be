"""No room: the log says so, loses nothing, and goes on when there is room."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from raftlog.errors import DiskFullError
from raftlog.limits import INDEX_COMMIT_BYTES, INDEX_PENDING_MAX
from raftlog.storage.fail_points import no_fail_point
from raftlog.storage.index import MemoryIndex
from raftlog.storage.log import PartitionLog
from raftlog.storage.producers import Producers
from tests.storage.machine import Machine, append, batch_of, contents, lead, values_of


def _begun(machine: Machine) -> PartitionLog:
    log = machine.open()
    lead(log, 1)
    append(log, 5)
    log.persist()
    return log


def test_an_append_without_room_leaves_the_log_as_it_was_and_resumes() -> None:
    machine = Machine()
    log = _begun(machine)
    held = contents(log)
    machine.disk.full = True
    for _ in range(3):
        with pytest.raises(DiskFullError):
            append(log, 3)
        assert (log.last_index, log.log_end_offset, log.state.failed) == (7, 5, None)
        log.persist()
    assert contents(log) == held
    machine.disk.full = False
    append(log, 3)
    log.persist()
    machine.crash(None)
    log = machine.open()
    assert log.last_index == 10 and log.state.doubt == 0
    assert {index: entry for index, entry in contents(log).items() if index <= 7} == held


@pytest.mark.parametrize("seed", range(40))
def test_a_write_that_was_put_back_does_not_come_back_under_a_later_segment(seed: int) -> None:
    """The short write and its removal are unsynced, too: were they left so, a power failure could bring half a
    batch back into a closed segment, and everything synced behind it would be cut."""
    machine = Machine(segment_bytes=1024)
    log = _begun(machine)
    machine.disk.full = True
    with pytest.raises(DiskFullError):
        append(log, 1)
    assert log.segment_count == 1, "the failed write has to fit the open segment"
    machine.disk.full = False
    append(log, 4, size=300)
    log.persist()
    assert log.segment_count == 2
    held = contents(log)
    machine.crash(random.Random(seed))
    log = machine.open()
    assert (log.state.doubt, contents(log)) == (0, held)


def test_no_room_for_a_new_segment_leaves_no_empty_one() -> None:
    machine = Machine(segment_bytes=1024)
    log = _begun(machine)
    machine.disk.full = True
    for _ in range(2):
        with pytest.raises(DiskFullError):
            append(log, 4, size=300)
        assert log.segment_count == len(machine.segments()) == 1
    machine.disk.full = False
    append(log, 4, size=300)
    log.persist()
    assert log.segment_count == 2
    machine.crash(None)
    assert machine.open().state.doubt == 0


@pytest.mark.parametrize(
    "change",
    [
        lambda log: log.append_epoch_start(log.state.term),
        lambda log: log.delete_head(3),
        lambda log: log.reset_to(100, 1, 50, Producers()),
    ],
)
def test_no_room_for_the_state_leaves_the_log_as_it_was(change: Callable[[PartitionLog], object]) -> None:
    for seed in range(6):
        machine = Machine(segment_bytes=1024)
        log = _begun(machine)
        append(log, 4, size=300)
        log.state.set_term(2, 1)
        log.persist()
        log.close()

        def room_ends(name: str, machine: Machine = machine, after_one_copy: bool = bool(seed % 2)) -> None:
            if after_one_copy and name == "state.a.durable":
                machine.disk.full = True

        log = machine.open(fail_point=room_ends)
        held = contents(log)
        before = (log.last_index, log.segment_count, log.last_term, values_of(log.state))
        machine.disk.full = not seed % 2
        with pytest.raises(DiskFullError):
            change(log)
        assert before == (log.last_index, log.segment_count, log.last_term, values_of(log.state))
        assert contents(log) == held
        machine.fail_point = no_fail_point
        machine.disk.full = False
        log.persist()
        machine.crash(random.Random(seed))
        log = machine.open()
        assert contents(log) == held and log.state.doubt == 0
        change(log)
        machine.crash(None)
        assert machine.open().state.doubt == 0


def test_a_vote_without_room_is_not_durable_until_it_is_said_to_be() -> None:
    machine = Machine()
    log = _begun(machine)
    log.state.set_term(9, 3)
    machine.disk.full = True
    with pytest.raises(DiskFullError):
        log.persist()
    machine.disk.full = False
    log.persist()
    machine.crash(None)
    log = machine.open()
    assert (log.state.term, log.state.voted_for) == (9, 3)


def test_no_room_for_the_commit_bound_is_no_failure() -> None:
    machine = Machine()
    log = _begun(machine)
    log.state.note_commit(6)
    machine.disk.full = True
    with pytest.raises(DiskFullError):
        log.state.write_commit_bound()
    machine.disk.full = False
    log.state.write_commit_bound()
    machine.crash(None)
    assert machine.open().state.commit_bound == 6


def test_with_an_index_that_has_no_room_the_log_goes_on_then_refuses_and_resumes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = Machine(segment_bytes=2**31)
    log = _begun(machine)

    def refuse(self: MemoryIndex, end_offset: int) -> None:
        raise DiskFullError("MDB_MAP_FULL")

    frame, header = batch_of([bytes(20 * 1024)])
    count = INDEX_COMMIT_BYTES // len(frame) + 1
    with monkeypatch.context() as patch:
        patch.setattr(MemoryIndex, "commit", refuse)
        for _ in range(3):
            log.append_as_leader([frame] * count, [header] * count, 1)
            log.persist()
        held = log.last_index
        patch.setattr(MemoryIndex, "pending", lambda self: INDEX_PENDING_MAX)
        with pytest.raises(DiskFullError, match="MDB_MAP_FULL"):
            append(log)
        log.persist()
        assert log.last_index == log.state.synced_index == held
        assert log.read(3, 1, log.log_end_offset)
    append(log)
    log.persist()
    machine.crash(random.Random(1))
    log = machine.open()
    assert log.last_index == held + 1 and log.state.doubt == 0
