"""A disk that takes nothing more: a change ends, and names the node that needs room."""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from raftlog.limits import TOPIC_NAME_MAX_CHARS
from raftlog.node.local import LocalCluster
from tests.cli.command import COMMAND, run
from tests.node.asking import until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts need root")
_DISK = "64m"  # of memory


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small one."""
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_DISK}", "raftlog-test", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def _fill(file: Path) -> None:
    with contextlib.suppress(OSError), open(file, "ab", buffering=0) as filled:
        for piece in (b"." * 1_000_000, b"."):
            while filled.write(piece) == len(piece):
                pass


def test_a_change_on_a_full_disk_names_the_node_and_goes_on_when_there_is_room(disk: Path) -> None:
    filling, numbers = disk / "filling", itertools.count()
    with LocalCluster(nodes=1, directory=disk / "cluster") as cluster:

        def refused_one() -> str:
            """What was begun still takes its part of the last blocks: a few topics may find room."""
            _fill(filling)
            name = f"{next(numbers)}-".ljust(TOPIC_NAME_MAX_CHARS, "x")
            command = [*COMMAND, "topic", "create", name, "--bootstrap", cluster.bootstrap]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            return done.stderr if done.returncode == 1 else ""

        refused = until(refused_one)
        assert "no room on the disk of node 1, which is the controller" in refused
        assert "make room there" in refused
        assert refused.count("\n") == 1
        filling.unlink()
        run(cluster, "topic", "create", "orders")
