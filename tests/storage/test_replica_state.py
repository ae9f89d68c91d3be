"""ReplicaState: what is set and durable at once, or not at all."""

from __future__ import annotations

import pytest

from raftlog.errors import DiskFullError, StorageError
from raftlog.storage.replica_state import ReplicaState
from raftlog.storage.simulated_disk import SimulatedDisk
from raftlog.storage.state import CleanMark, EpochStart, State, StateFile, Swap
from tests.storage.machine import DIRECTORY, TOPIC_ID, values_of


class _Disk:
    """Full once `state.<copy>` has come to `ends_at`."""

    def __init__(self, ends_at: str = "") -> None:
        self.disk = SimulatedDisk()
        self.disk.make_dir(DIRECTORY)
        self.ends_at = ends_at
        self.state = ReplicaState(State(topic_id=TOPIC_ID), StateFile(self.disk, DIRECTORY, self._fail_point))
        self.state.write()

    def _fail_point(self, name: str) -> None:
        if name == self.ends_at:
            self.disk.full = True

    def written(self) -> ReplicaState:
        file = StateFile(self.disk, DIRECTORY)
        found = file.load()
        assert found is not None
        return ReplicaState(found, file)


def _change_everything(state: ReplicaState) -> None:
    with state.change() as values:
        values.generation, values.term, values.voted_for = 2, 7, 3
        values.doubt, values.doubt_reason = 1, "a reason"
        values.log_start_offset, values.horizon_index, values.horizon_offset = 5, 9, 4
        values.horizon_prev_term = 6
        values.epoch_starts = [*values.epoch_starts, EpochStart(7, 9, 4)]
        values.clean_offset, values.clean_marks = 3, [*values.clean_marks, CleanMark(3, 1)]
        values.purged_index, values.swap = 8, Swap(0, 2, 4, 100)


def test_a_change_is_durable_when_it_ends() -> None:
    node = _Disk()
    _change_everything(node.state)
    node.disk.crash(None)
    assert values_of(node.written()) == values_of(node.state)
    assert node.state.values.term == 7 and not node.state.is_dirty


@pytest.mark.parametrize("ends_at", ["", "state.a.durable"])
def test_a_change_without_room_is_as_if_it_had_not_been_tried(ends_at: str) -> None:
    """Also where one copy has it: that is dirty until both say again what counts."""
    node = _Disk()
    state = node.state
    before = values_of(state)
    node.ends_at = ends_at
    node.disk.full = not ends_at
    with pytest.raises(DiskFullError):
        _change_everything(state)
    assert values_of(state) == before and state.failed is None
    assert state.is_dirty == bool(ends_at)
    node.disk.full, node.ends_at = False, ""
    state.synced_index = 20
    state.note_commit(20)
    state.write_commit_bound()
    assert values_of(node.written()) == {**before, "commit_bound": 20}


def test_what_was_set_before_a_change_without_room_still_waits_to_be_written() -> None:
    node = _Disk()
    node.state.set_term(1, 2)
    node.disk.full = True
    with pytest.raises(DiskFullError):
        _change_everything(node.state)
    assert (node.state.term, node.state.voted_for, node.state.is_dirty) == (1, 2, True)


def test_a_change_that_the_disk_fails_ends_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    node = _Disk()

    def fail(path: str) -> None:
        raise StorageError(f"cannot sync {path}")

    monkeypatch.setattr(node.disk, "sync_dir", fail)
    with pytest.raises(StorageError):
        _change_everything(node.state)
    assert node.state.failed is not None
    with pytest.raises(StorageError, match="the log has failed"):
        node.state.raise_purged(4)
    assert node.state.purged_index == 0
