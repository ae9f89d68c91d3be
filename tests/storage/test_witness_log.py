"""The log of a witness: terms of indexes, durable as a whole, cut only above what is committed."""

from __future__ import annotations

import random

import pytest

from raftlog.errors import CorruptLogError, DiskFullError
from raftlog.limits import WITNESS_EPOCHS_MAX
from raftlog.storage.fail_points import FAIL_POINTS, FailPoint, no_fail_point
from raftlog.storage.producers import Producers
from raftlog.storage.simulated_disk import SimulatedDisk
from raftlog.storage.witness_log import WitnessLog
from raftlog.types import Doubt

DIRECTORY = "/data/orders-0"
TOPIC_ID = b"0123456789abcdef"
WRITE_POINTS = [point for point in FAIL_POINTS if point.startswith("state.")]


class PowerFailureError(Exception):
    """Raised by a fail point: the process is gone."""


def opened(disk: SimulatedDisk, fail_point: FailPoint = no_fail_point, existed: Doubt = Doubt.NONE) -> WitnessLog:
    return WitnessLog.open(disk=disk, directory=DIRECTORY, topic_id=TOPIC_ID, existed=existed, fail_point=fail_point)


def content(log: WitnessLog) -> list[int | None]:
    return [log.term_at(index) for index in range(log.state.horizon_index - 1, log.last_index + 1)]


def with_three_terms(disk: SimulatedDisk) -> WitnessLog:
    """Indexes 2 to 10: terms 1 1 1 3 3 3 3 4 4, behind the sentinel of term 0."""
    log = opened(disk)
    log.state.set_term(4, 2)
    log.append(4, [(2, 1)])
    log.append(10, [(5, 3), (9, 4)])
    log.persist()
    return log


def test_a_new_witness_holds_the_sentinel_alone() -> None:
    log = opened(SimulatedDisk())
    assert (log.last_index, log.last_term) == (1, 0)
    assert (log.state.term, log.state.voted_for, log.state.doubt) == (0, -1, Doubt.NONE)


def test_the_term_of_each_entry_is_kept_across_a_power_failure() -> None:
    disk = SimulatedDisk()
    log = with_three_terms(disk)
    assert content(log) == [0, 1, 1, 1, 3, 3, 3, 3, 4, 4]
    assert (log.first_index_of_term(7), log.state.synced_index) == (5, 10)
    disk.crash(None)
    again = opened(disk)
    assert content(again) == content(log)
    assert (again.state.term, again.state.voted_for, again.last_term, again.state.synced_index) == (4, 2, 4, 10)


def test_what_was_not_persisted_does_not_count_as_synced() -> None:
    disk = SimulatedDisk()
    log = with_three_terms(disk)
    log.append(12, [])
    assert (log.last_index, log.state.synced_index) == (12, 10)
    disk.crash(None)
    assert opened(disk).last_index == 10


def test_a_truncation_drops_the_terms_above_it_and_what_follows_takes_their_place() -> None:
    disk = SimulatedDisk()
    log = with_three_terms(disk)
    log.truncate_from(7)
    assert (log.last_index, log.last_term, log.state.synced_index) == (6, 3, 6)
    log.state.set_term(5, -1)
    log.append(8, [(8, 5)])
    log.persist()
    disk.crash(None)
    again = opened(disk)
    assert content(again) == [0, 1, 1, 1, 3, 3, 3, 5]
    assert again.state.truncations == 1


def test_nothing_committed_is_cut() -> None:
    cut, anew = with_three_terms(SimulatedDisk()), with_three_terms(SimulatedDisk())
    for log in (cut, anew):
        log.state.note_commit(6)
    with pytest.raises(CorruptLogError):
        cut.truncate_from(6)
    with pytest.raises(CorruptLogError):
        anew.reset_to(6, 2, 0, Producers())
    assert cut.state.failed is not None and anew.state.failed is not None


def test_a_reset_begins_anew_behind_the_horizon() -> None:
    disk = SimulatedDisk()
    log = with_three_terms(disk)
    log.reset_to(20, 4, 700, Producers())
    log.persist()
    disk.crash(None)
    again = opened(disk)
    assert (again.last_index, again.last_term, again.state.horizon_index, content(again)) == (19, 4, 20, [4])


def test_many_terms_do_not_grow_the_state_without_bound() -> None:
    disk = SimulatedDisk()
    log = opened(disk)
    for term in range(1, 5 * WITNESS_EPOCHS_MAX):
        log.state.set_term(term, 1)
        log.append(log.last_index + 2, [(log.last_index + 1, term)])
        log.state.note_commit(log.last_index - 2)
        log.persist()
    assert len(log.epoch_starts) <= WITNESS_EPOCHS_MAX + 1
    assert content(log) == content(opened(disk))
    assert log.term_at(log.last_index) == 5 * WITNESS_EPOCHS_MAX - 1
    assert log.state.horizon_index <= log.state.commit_bound


def test_a_lost_directory_makes_doubtful_before_anything_is_said() -> None:
    disk = SimulatedDisk()
    assert opened(disk, existed=Doubt.LOST_DISK).state.doubt is Doubt.LOST_DISK
    disk.crash(None)
    assert opened(disk).state.doubt is Doubt.LOST_DISK


def test_one_damaged_copy_is_mended_and_two_stop_the_witness() -> None:
    disk = SimulatedDisk()
    log = with_three_terms(disk)
    disk.flip_bit(f"{DIRECTORY}/state.a", 40, 1)
    assert content(opened(disk)) == content(log)
    for copy in "ab":
        disk.flip_bit(f"{DIRECTORY}/state.{copy}", 40, 1)
    with pytest.raises(CorruptLogError):
        opened(disk)


def test_without_room_nothing_counts_as_synced_and_it_is_tried_again() -> None:
    disk = SimulatedDisk()
    log = with_three_terms(disk)
    log.append(12, [])
    disk.full = True
    with pytest.raises(DiskFullError):
        log.persist()
    assert log.state.synced_index == 10
    disk.full = False
    log.persist()
    assert log.state.synced_index == 12
    assert opened(disk).last_index == 12


@pytest.mark.parametrize("point", WRITE_POINTS)
def test_a_power_failure_leaves_all_of_a_change_or_none(point: str) -> None:
    """Entries, truncation, term and vote of one turn; whatever persist() had returned from is there."""
    for seed in range(20):
        rng = random.Random(seed)
        disk = SimulatedDisk()
        with_three_terms(disk)
        armed = [point]

        def fail_point(name: str, armed: list[str] = armed) -> None:
            if name in armed:
                armed.clear()
                raise PowerFailureError(name)

        log = opened(disk, fail_point)
        before, after = content(log), [0, 1, 1, 1, 3, 3, 5, 5]
        log.truncate_from(7)
        log.state.set_term(5, 1)
        log.append(8, [(7, 5)])
        with pytest.raises(PowerFailureError):
            log.persist()
        disk.crash(rng)
        found = opened(disk)
        assert (content(found), found.state.term, found.state.voted_for) in [(before, 4, 2), (after, 5, 1)]
        if point == "state.b.durable":
            assert content(found) == after
