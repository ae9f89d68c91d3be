"""The file system beside a figure is the one that the data lies on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from raftlog_cli import filesystem
from raftlog_cli.filesystem import fdatasync_p50_ms, file_system_type

MOUNTINFO = r"""
22 1 0:21 / / rw,relatime shared:1 - ext4 /dev/vda rw
23 22 0:22 / /tmp rw,nosuid shared:2 - tmpfs tmpfs rw
24 22 0:23 / /data rw shared:3 master:1 - xfs /dev/vdb rw
25 22 0:24 / /data rw - btrfs /dev/vdc rw
26 22 0:25 / /with\040blank rw - zfs pool rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/x", "ext4"),
        ("/tmp/x", "tmpfs"),
        ("/tmpfoo", "ext4"),
        ("/data/x", "btrfs"),
        ("/with blank/x", "zfs"),
    ],
)
def test_the_innermost_and_latest_mount_counts(path: str, kind: str) -> None:
    assert file_system_type(Path(path), MOUNTINFO) == kind


def test_a_machine_without_mounts_is_unknown() -> None:
    assert file_system_type(Path("/x"), "") == "unknown"


def test_this_machine_is_known(tmp_path: Path) -> None:
    assert file_system_type(tmp_path) != "unknown"


@pytest.mark.parametrize(("sync_s", "syncs"), [(0.004, 200), (1.0, 10)])
def test_the_median_sync_of_a_fast_disk_and_of_a_slow_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sync_s: float, syncs: int
) -> None:
    """Nothing but syncs takes time here: each as long as said, but for every third, which takes longer."""
    now_s, synced = 0.0, []

    def sync(descriptor: int) -> None:
        nonlocal now_s
        now_s += sync_s * (1.3 if len(synced) % 3 == 2 else 1)
        synced.append(os.fstat(descriptor).st_size)

    monkeypatch.setattr(filesystem.time, "monotonic", lambda: now_s)
    monkeypatch.setattr(filesystem.time, "perf_counter", lambda: now_s)
    monkeypatch.setattr(filesystem.os, "fdatasync", sync)
    assert fdatasync_p50_ms(tmp_path) == pytest.approx(1000 * sync_s)
    assert synced == [4096 * number for number in range(1, len(synced) + 1)]
    assert len(synced) == pytest.approx(syncs, abs=1)
    assert list(tmp_path.iterdir()) == []
