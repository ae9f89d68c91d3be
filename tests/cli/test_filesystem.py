"""The file system beside a figure is the one that the data lies on."""

from __future__ import annotations

from pathlib import Path

import pytest

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


def test_this_machine_is_known_and_measured(tmp_path: Path) -> None:
    assert file_system_type(tmp_path) != "unknown"
    assert 0 < fdatasync_p50_ms(tmp_path) < 10_000
    assert list(tmp_path.iterdir()) == []
