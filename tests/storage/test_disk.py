"""OsDisk and SimulatedDisk do the same; what SimulatedDisk loses is what was not synced."""

from __future__ import annotations

import errno
import os
import random
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftlog.errors import DiskFullError, StorageError
from raftlog.storage.disk import Disk, File, OsDisk
from raftlog.storage.simulated_disk import SimulatedDisk

_NAMES = ("a", "b", "dir/a", "dir/b", "dir", "other", "dir/deep")
_names = st.sampled_from(_NAMES)
_operations = st.lists(
    st.one_of(
        st.tuples(st.just("append"), _names, st.lists(st.binary(max_size=20), max_size=3)),
        st.tuples(st.just("append"), _names, st.binary(max_size=20)),
        st.tuples(st.just("truncate"), _names, st.integers(0, 40)),
        st.tuples(st.just("read"), _names, st.tuples(st.integers(0, 40), st.integers(0, 40))),
        st.tuples(st.just("sync"), _names, st.none()),
        st.tuples(st.just("rename"), st.sampled_from(("a", "b", "other")), st.sampled_from(("a", "b", "other"))),
        st.tuples(st.just("remove"), _names, st.none()),
        st.tuples(st.just("remove_tree"), st.sampled_from(("dir", "dir/deep")), st.none()),
        st.tuples(st.just("make_dir"), st.sampled_from(("dir", "dir/deep", "other")), st.none()),
        st.tuples(st.just("sync_dir"), st.sampled_from(("dir", "dir/deep")), st.none()),
        st.tuples(st.just("look"), _names, st.none()),
    ),
    max_size=25,
)


def _do(disk: Disk, root: str, what: str, name: str, argument: Any) -> Any:
    """The outcome of one operation, in a form that both disks share."""
    path = f"{root}/{name}"
    if what in ("append", "truncate", "read", "sync"):
        file: File = disk.open(path, create=what == "append")
        try:
            if what == "append":
                return file.append(argument), file.size()
            if what == "truncate":
                return file.truncate(argument), file.size()
            return file.read(*argument) if what == "read" else file.sync()
        finally:
            file.close()
    if what == "rename":
        return disk.rename(path, f"{root}/{argument}")
    if what == "look":
        is_dir = disk.is_dir(path)
        listed = disk.list(path) if is_dir else None
        return is_dir, disk.exists(path), listed, None if is_dir else disk.read_whole(path)
    return getattr(disk, what)(path)


@given(_operations)
@settings(max_examples=200, deadline=None)
def test_the_simulated_disk_does_what_the_real_one_does(operations: list[tuple[str, str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        real, simulated = OsDisk(), SimulatedDisk()
        simulated.make_dir("/root")
        for operation in operations:
            outcomes = []
            for disk, root in ((real, directory), (simulated, "/root")):
                try:
                    outcomes.append(_do(disk, root, *operation))
                except StorageError as error:
                    outcomes.append(type(error))
            assert outcomes[0] == outcomes[1], operation


def _written(disk: SimulatedDisk, *pieces: bytes) -> File:
    disk.make_dir("/d")
    file = disk.open("/d/f", create=True)
    for piece in pieces:
        file.append(piece)
    return file


def test_a_power_failure_keeps_what_was_synced_and_may_lose_the_rest() -> None:
    outcomes = set()
    for seed in range(60):
        disk = SimulatedDisk()
        file = _written(disk, b"synced")
        file.sync()
        disk.sync_dir("/d")
        file.append(b"ONE")
        file.append(b"TWO")
        disk.crash(random.Random(seed))
        data = disk.read_whole("/d/f")
        assert data.startswith(b"synced")
        outcomes.add(data)
    assert b"synced" in outcomes and b"syncedONETWO" in outcomes
    assert b"synced\0\0\0TWO" in outcomes  # a later piece may survive an earlier one
    assert any(data[6:] not in (b"", b"ONE", b"ONETWO", b"\0\0\0TWO") for data in outcomes)  # torn


def test_a_name_is_durable_only_after_its_directory_was_synced() -> None:
    kept = set()
    for seed in range(30):
        disk = SimulatedDisk()
        _written(disk, b"x").sync()
        disk.crash(random.Random(seed))
        kept.add(disk.exists("/d/f"))
    assert kept == {True, False}
    disk = SimulatedDisk()
    _written(disk, b"x").sync()
    disk.sync_dir("/d")
    disk.remove("/d/f")
    disk.crash(None)
    assert disk.read_whole("/d/f") == b"x"


def test_a_handle_does_not_outlive_the_crash() -> None:
    disk = SimulatedDisk()
    file = _written(disk, b"x")
    disk.restart()
    with pytest.raises(AssertionError):
        file.read(0, 1)
    assert disk.read_whole("/d/f") == b"x"


@pytest.mark.parametrize("fault", ["full", "capacity"])
def test_an_append_without_room_changes_nothing(fault: str) -> None:
    disk = SimulatedDisk()
    file = _written(disk, b"1234")
    if fault == "full":
        disk.full = True
    else:
        disk.capacity_bytes = 6
    with pytest.raises(DiskFullError):
        file.append(b"5678")
    assert disk.read_whole("/d/f") == b"1234"
    disk.full = False
    disk.capacity_bytes = None
    file.append(b"5678")
    assert disk.read_whole("/d/f") == b"12345678"


@pytest.mark.parametrize("simulated", [True, False])
def test_a_failed_sync_is_never_tried_again(simulated: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk: OsDisk | SimulatedDisk = SimulatedDisk() if simulated else OsDisk()
    disk.make_dir(str(tmp_path))
    file = disk.open(f"{tmp_path}/f", create=True)
    file.append(b"x")

    def failing(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        if isinstance(disk, SimulatedDisk):
            disk.fail_sync = True
        else:
            patch.setattr(os, "fdatasync", failing)
        with pytest.raises(StorageError) as first:
            file.sync()
    assert not isinstance(first.value, DiskFullError)
    if isinstance(disk, SimulatedDisk):
        disk.fail_sync = False
    with pytest.raises(StorageError):
        file.sync()


def test_a_short_write_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    really = os.pwrite

    def short(descriptor: int, data: bytes, position: int) -> int:
        return really(descriptor, bytes(data)[:3], position)

    def short_vector(descriptor: int, buffers: list[bytes], position: int) -> int:
        return really(descriptor, b"".join(buffers)[:2], position)

    monkeypatch.setattr(os, "pwrite", short)
    monkeypatch.setattr(os, "pwritev", short_vector)
    file = OsDisk().open(f"{tmp_path}/f", create=True)
    file.append(b"0123456789")
    file.append([b"abc", b"", b"defgh"])
    assert file.read(0, 100) == b"0123456789abcdefgh"
    assert file.size() == 18


def test_a_write_that_fails_half_way_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = OsDisk().open(f"{tmp_path}/f", create=True)
    file.append(b"before")
    really = os.pwrite

    def half(descriptor: int, data: bytes, position: int) -> int:
        if position > 6:
            raise OSError(errno.ENOSPC, "No space left on device")
        return really(descriptor, bytes(data)[:2], position)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", half)
        with pytest.raises(DiskFullError):
            file.append(b"behind")
    assert (tmp_path / "f").read_bytes() == b"before"
    file.append(b" after")
    assert (tmp_path / "f").read_bytes() == b"before after"


def test_more_buffers_than_one_write_takes(tmp_path: Path) -> None:
    file = OsDisk().open(f"{tmp_path}/f", create=True)
    file.append([b"%04d" % number for number in range(3000)])
    assert file.read(4 * 2999, 4) == b"2999"
    assert OsDisk().free_bytes(str(tmp_path)) > 0
