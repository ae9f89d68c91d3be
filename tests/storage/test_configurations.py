"""Configurations as entries of a log: an index, no offset, and nothing that a crash, a cut or a deletion takes back."""

from __future__ import annotations

import pytest

from raftlog.storage.producers import Producers
from raftlog.storage.simulated_disk import SimulatedDisk
from raftlog.storage.state import EpochStart
from raftlog.storage.witness_log import WitnessLog
from raftlog.types import CleanupPolicy, Doubt, Half
from tests.storage.compacting import keyed_batch
from tests.storage.machine import DIRECTORY, TOPIC_ID, Machine, PowerFailureError, append, contents, lead

OLD = (Half((1, 2)),)
JOINT = (Half((1, 2)), Half((1, 3), (4,)))
NEW = (Half((1, 3), (4,)),)


def witness(disk: SimulatedDisk) -> WitnessLog:
    return WitnessLog.open(disk=disk, directory=DIRECTORY, topic_id=TOPIC_ID)


def test_a_configuration_has_an_index_and_no_offset() -> None:
    machine = Machine()
    log = machine.open()
    lead(log, 1)
    append(log, 2)
    assert log.append_configuration(JOINT) == 5
    assert (log.last_index, log.log_end_offset, log.last_term, log.halves) == (5, 2, 1, JOINT)
    assert append(log) == [6]
    assert log.append_configuration(NEW) == 7
    lead(log, 2)
    append(log)
    log.persist()
    held = contents(log)
    assert [index for index, (_, data) in held.items() if data is None] == [2, 5, 7, 8]
    machine.crash(None)
    log = machine.open()
    assert contents(log) == held and log.state.doubt is Doubt.NONE
    assert (log.halves, log.configuration_at(6), log.configuration_at(4)) == (NEW, EpochStart(1, 5, 2, JOINT), None)


def test_the_term_of_a_configuration_begins_where_its_epoch_does() -> None:
    log = Machine().open()
    lead(log, 1)
    append(log, 2)
    lead(log, 3)
    append(log)
    log.append_configuration(JOINT)
    append(log)
    assert [log.first_index_of_term(index) for index in (3, 5, 7, 8)] == [2, 5, 5, 5]
    assert log.epoch_before(1) == (1, 2) and log.epoch_before(3) == (3, None)


@pytest.mark.parametrize("point", ["epoch.batches-durable", "state.a.renamed", "state.b.renamed", "state.b.durable"])
def test_power_fails_while_a_configuration_is_appended_and_indexes_stay_what_they_were(point: str) -> None:
    """No batch behind it is written BEFORE it is durable: such a batch would be counted one index too low."""
    machine = Machine()
    log = machine.open()
    lead(log, 1)
    append(log, 3)
    log.persist()
    held = contents(log)
    append(log)

    def fail(name: str) -> None:
        if name == point:
            raise PowerFailureError(name)

    machine.fail_point = fail
    with pytest.raises(PowerFailureError):
        log.append_configuration(JOINT)
    machine.crash(None)
    log = machine.open()
    found = contents(log)
    assert {index: entry for index, entry in found.items() if index in held} == held
    assert found.pop(7, (1, None)) == (1, None)
    assert log.halves == (JOINT if log.last_index == 7 else ())
    assert log.state.doubt is Doubt.NONE


def test_a_truncation_gives_the_configuration_before_it_back() -> None:
    machine = Machine()
    log = machine.open()
    lead(log, 1)
    log.append_configuration(OLD)
    append(log)
    log.append_configuration(JOINT)
    append(log)
    log.truncate_from(5)
    assert log.halves == OLD
    log.append_configuration(NEW)
    machine.crash(None)
    log = machine.open()
    assert (log.halves, log.last_index, log.state.remembered) == (NEW, 5, Half(()))


@pytest.mark.parametrize("point", ["truncate.data-durable", "state.a.durable"])
def test_power_fails_within_a_truncation_and_whom_it_took_back_is_remembered(point: str) -> None:
    """The segment is cut and synced BEFORE `state` forgets what stood behind."""
    machine = Machine()
    log = machine.open()
    lead(log, 1)
    append(log, 3)
    log.append_configuration(JOINT)
    append(log)
    log.persist()

    def fail(name: str) -> None:
        if name == point:
            raise PowerFailureError(name)

    machine.fail_point = fail
    with pytest.raises(PowerFailureError):
        log.truncate_from(4)
    machine.crash(None)
    log = machine.open()
    assert (log.last_index, log.halves) == (3, ())
    assert log.state.remembered == (Half(()) if point == "state.a.durable" else Half((1, 2, 3), (4,)))


def _torn(machine: Machine) -> None:
    """Records and a configuration behind them, then a machine that comes back without the last bytes."""
    log = machine.open()
    lead(log, 1)
    append(log, 3)
    log.append_configuration(JOINT)
    log.persist()
    machine.kill()
    (path,) = machine.segments()
    machine.disk.truncate_durable(path, len(machine.segments()[path]) - 10)


def test_a_torn_tail_takes_no_configuration_back() -> None:
    machine = Machine()
    _torn(machine)
    log = machine.open()
    assert (log.last_index, log.halves, log.state.doubt) == (4, (), Doubt.CUT_TAIL)
    assert log.state.remembered == Half((1, 2, 3), (4,))
    assert "in front of the configuration at 6" in log.state.doubt_reason
    machine.crash(None)
    log = machine.open()
    assert log.state.remembered == Half((1, 2, 3), (4,)), "at the next start too"
    log.state.set_doubt(Doubt.NONE, "")
    log.persist()
    assert log.state.remembered == Half(())
    log.state.note_damage(3, "a wrong byte")
    assert log.state.remembered == Half(()), "a doubt that begins remembers nobody of an earlier one"


def test_members_are_remembered_before_the_tail_is_cut() -> None:
    machine = Machine()
    _torn(machine)

    def fail(name: str) -> None:
        if name == "open.tail-cut":
            raise PowerFailureError(name)

    with pytest.raises(PowerFailureError):
        machine.open(fail_point=fail)
    machine.crash(None)
    assert machine.open().state.remembered == Half((1, 2, 3), (4,))


def test_retention_keeps_the_configuration_that_holds_at_the_horizon() -> None:
    machine = Machine(segment_bytes=300)
    log = machine.open()
    lead(log, 1)
    log.append_configuration(OLD)
    append(log, 4)
    log.append_configuration(JOINT)
    for _ in range(6):
        append(log, 2)
        log.persist()
    log.delete_head(log.log_end_offset)
    assert log.state.horizon_index > 8 and not log.configurations_in(0, 99)
    assert log.configuration_at(log.state.horizon_index - 1) == EpochStart(1, 8, 4, JOINT)
    machine.crash(None)
    assert machine.open().halves == JOINT


def test_a_reset_begins_with_the_configuration_of_its_leader() -> None:
    machine = Machine()
    log = machine.open()
    lead(log, 1)
    log.append_configuration(OLD)
    log.reset_to(100, 1, 50, Producers(), EpochStart(1, 70, 40, NEW))
    assert log.halves == NEW
    machine.crash(None)
    assert machine.open().halves == NEW


def test_damage_at_the_head_does_not_take_what_holds_at_the_horizon() -> None:
    machine = Machine()
    log = machine.open()
    log.state.set_term(1, 1)
    log.reset_to(100, 1, 50, Producers(), EpochStart(1, 70, 40, NEW))
    append(log)
    log.append_configuration(JOINT)
    append(log)
    log.persist()
    log.state.note_damage(100, "all of it")
    machine.kill()
    log = machine.open()
    assert (log.last_index, log.halves, log.state.remembered) == (99, NEW, Half((1, 2, 3), (4,)))


def test_no_filler_reaches_over_a_configuration() -> None:
    machine = Machine(cleanup_policy=CleanupPolicy.COMPACT, segment_bytes=400)
    log = machine.open()
    lead(log, 1)
    for number in range(20):
        if number % 3 == 0:
            log.append_configuration(JOINT)
        frame, header = keyed_batch([(b"one key", b"%d" % number)], -1, 0)
        log.append_as_leader([frame], [header], 1)
        log.persist()
    log.state.note_commit(log.last_index)
    before = {start.index for start in log.configurations_in(0, 99)}
    terms = [log.term_at(index) for index in range(2, log.last_index + 1)]
    log.cleaner.begin(log.last_index, machine.clock.wall_ms())
    while log.cleaner.is_compacting:
        log.cleaner.step(10_000, machine.clock.wall_ms())
    assert log.segments.swaps > 0
    held = contents(log)
    assert {index for index, (_, data) in held.items() if data is None} == before | {2}
    machine.crash(None)
    log = machine.open()
    assert contents(log) == held and log.state.doubt is Doubt.NONE
    assert [log.term_at(index) for index in range(2, log.last_index + 1)] == terms


def test_a_witness_keeps_configurations_and_a_truncation_takes_them() -> None:
    disk = SimulatedDisk()
    log = witness(disk)
    log.state.set_term(2, 1)
    log.append(9, [(2, 1), (5, 1), (8, 2)], {5: JOINT})
    log.append(11, [(11, 2)], {11: NEW})
    log.persist()
    disk.crash(None)
    log = witness(disk)
    assert [log.term_at(index) for index in range(1, 12)] == [0, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2]
    assert (log.halves, log.first_index_of_term(6), log.first_index_of_term(11)) == (NEW, 2, 8)
    log.truncate_from(9)
    assert log.halves == JOINT


def test_a_witness_keeps_the_configuration_in_front_of_what_it_forgets() -> None:
    """Also when all of its many starts are configurations of one term."""
    disk = SimulatedDisk()
    log = witness(disk)
    log.state.set_term(1, 1)
    log.append(2, [(2, 1)])
    for index in range(3, 400):
        log.append(index, [(index, 1)], {index: (Half((index,)),)})
        log.state.note_commit(index)
        log.persist()
    assert len(log.epoch_starts) < 100
    assert log.configuration_at(log.state.horizon_index - 1) is not None
    disk.crash(None)
    assert witness(disk).halves == (Half((399,)),)


def test_a_witness_is_reset_with_a_configuration() -> None:
    log = witness(SimulatedDisk())
    log.state.set_term(4, 1)
    log.reset_to(20, 4, 0, Producers(), EpochStart(3, 12, -1, JOINT))
    assert log.halves == JOINT
