"""A node takes part only as the newest process with the newest data directory of its id, as far as others know."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from raftlog.controller.image import NodeInfo
from raftlog.errors import ConfigError
from raftlog.limits import IDENTITY_WAIT_S, TWIN_WAIT_S
from raftlog.node.identity import Identity, newest
from raftlog.node.local import LocalCluster
from raftlog.node.meta import Meta
from raftlog.protocol.nodes import UNREGISTERED, KnownRun, Run
from raftlog.types import Doubt, Endpoint
from tests.conftest import ClusterFactory
from tests.node import asking
from tests.node.started import free_port
from tests.patience import WAIT_S

BOOT = 77


def known(number: int = 1, boot_id: int = 11, directory: str = "d", registered: int = 3, live: int = 0) -> KnownRun:
    return KnownRun(
        node_id=3,
        directory_id=directory,
        registered_offset=registered,
        run=Run(number, boot_id),
        live_boot_id=live,
    )


def starting(own: KnownRun | None = None, boot_id: int = BOOT) -> Identity:
    return Identity(own or known(), boot_id, 0.0, asks=True)


def test_all_others_are_waited_for_but_not_for_long() -> None:
    identity = starting()
    assert "other nodes" in identity.why_wait({1, 2}, 0.0)
    identity.hear(1, None, 0.1)
    assert "other nodes" in identity.why_wait({1, 2}, 0.2), "node 2 may know more"
    assert not identity.why_wait({1, 2}, IDENTITY_WAIT_S)
    identity.hear(2, known(), 0.3)
    assert not identity.why_wait({1, 2}, 0.3)


def test_a_node_alone_and_one_without_a_cluster_wait_for_nobody() -> None:
    assert not starting().why_wait(set(), 0.0)
    assert not Identity(known(0, 0, registered=UNREGISTERED), BOOT, 0.0, asks=False).why_wait({1, 2}, 0.0)


@pytest.mark.parametrize(
    ("heard", "text"),
    [
        (known(2, 12), "older copy"),  # a copy of the directory, or one from a backup
        (known(1, 12), "older copy"),  # of two copies one was counted before: the order of boot ids decides
        (known(1, 1, directory="new", registered=9), "another data directory"),
    ],
)
def test_an_older_run_or_directory_ends_with_an_error(heard: KnownRun, text: str) -> None:
    identity = starting()
    identity.hear(1, heard, 0.0)
    with pytest.raises(ConfigError, match=text):
        identity.check()


@pytest.mark.parametrize(
    "heard",
    [
        known(),
        known(0, 0),  # this node was away when it was last started
        known(9, 9, directory="old", registered=1),
        known(9, 9, directory="emptied since", registered=UNREGISTERED),
    ],
)
def test_one_who_knows_nothing_newer_ends_nobody(heard: KnownRun) -> None:
    identity = starting()
    identity.hear(1, heard, 0.0)
    identity.check()
    assert not identity.why_wait({1}, 0.0)


def test_a_new_directory_is_no_old_one() -> None:
    identity = starting(known(0, 0, directory="new", registered=UNREGISTERED))
    identity.hear(1, known(5, 5), 0.0)
    identity.check()


def test_the_process_before_may_be_thought_to_be_alive_for_a_while_but_not_longer() -> None:
    identity = starting()
    identity.hear(1, known(live=11), 0.0)
    assert "another process" in identity.why_wait({1}, 1.0)
    identity.hear(1, known(), 1.1)
    assert not identity.why_wait({1}, 1.1), "its end was noticed"
    identity = starting()
    identity.hear(1, known(live=11), 0.0)
    identity.hear(1, known(live=11), TWIN_WAIT_S)
    with pytest.raises(ConfigError, match="another process runs as node 3"):
        identity.check()


@pytest.mark.parametrize("heard_first", [5, 6])
def test_of_two_running_copies_that_meet_late_the_one_that_was_heard_first_goes_on(heard_first: int) -> None:
    """Both have counted the same start: what one has promised the other does not know, whatever their numbers."""
    first, second = starting(boot_id=heard_first), starting(boot_id=11 - heard_first)
    first.confirm(first.next_run)
    second.confirm(second.next_run)
    remembered = first.own
    first.hear(1, remembered, 1.0)
    second.hear(1, remembered, 1.0)
    first.check()
    with pytest.raises(ConfigError, match=r"older copy.* seen start 2 with it, by another process"):
        second.check()
    assert remembered.supersedes(second.own)
    assert not remembered.supersedes(first.own)


@pytest.mark.parametrize("boot_id", [10, 12])
def test_a_copy_that_has_counted_a_start_of_its_own_is_no_newer_one(boot_id: int) -> None:
    """It did not hear of the other one in time, and ended. Its next start comes after one that others remember."""
    identity = starting(known(2, boot_id))
    identity.hear(1, known(2, 11), 0.0)
    with pytest.raises(ConfigError, match="older copy"):
        identity.check()


def test_the_newest_of_what_was_heard_and_what_the_metadata_lists() -> None:
    listed = NodeInfo(node_id=3, endpoint=Endpoint("h", 1), directory_id="d", registered_offset=3)
    assert newest(None, None) is None
    assert newest(None, listed) == known(0, 0)
    assert newest(known(4, 4, registered=UNREGISTERED), listed) == known(4, 4)
    assert newest(known(4, 4), listed) == known(4, 4)
    assert newest(known(4, 4, directory="old", registered=1), listed) == known(0, 0)
    assert newest(known(4, 4, directory="new", registered=9), listed) == known(4, 4, directory="new", registered=9)


def test_copies_and_superseded_directories_are_refused_and_a_wiped_one_is_made_whole(
    fresh_cluster: ClusterFactory, tmp_path: Path
) -> None:
    cluster = fresh_cluster(3)
    one = cluster.endpoints[1]
    assert asking.create_topic(one, "t", 1, 3).error_code == 0
    asking.until(lambda: len([s for s in asking.statuses(one, "t") if s.worker_pid]) == 3)
    home, aside, copy = cluster.directory / "3", tmp_path / "aside", tmp_path / "copy"

    # A copy beside the original, and one put back from a backup after the original ran again.
    assert cluster.stop(3) == 0
    shutil.copytree(home, copy)
    cluster.start(3)
    # An older copy, or, where node 1 has not heard yet which start this was, a second process.
    assert "another process runs as node 3" in _refused(cluster.endpoints[1], cluster.endpoints[2], copy)
    cluster.stop(3)
    home.rename(aside)
    copy.rename(home)
    assert "older copy" in _ended(cluster, 3)

    # The mount is missing: an empty directory is made whole, and the old one is not trusted any more.
    shutil.rmtree(home)
    cluster.start(3)
    asking.until(lambda: _whole(one, 3))
    cluster.stop(3)
    cluster.kill(2)
    shutil.rmtree(home)
    aside.rename(home)
    cluster.start(2, wait=False)
    assert "another data directory" in _ended(cluster, 3)
    cluster.wait_ready([2])


# Ends the node that finds the file `mark` at the moment in which its start has been counted, and no worker runs yet.
ENDS_ITSELF = """
import os
if os.path.exists({mark!r}):
    from raftlog.node.meta import DataDirectory
    save = DataDirectory.save
    def save_and_end(self, meta):
        counted = meta.run != self.meta.run
        save(self, meta)
        if counted:
            os.remove({mark!r})
            os.kill(os.getpid(), 9)
    DataDirectory.save = save_and_end
"""


def test_a_node_that_is_killed_between_the_count_of_its_start_and_its_workers_comes_back_whole(
    fresh_cluster: ClusterFactory, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    (tmp_path / "sitecustomize.py").write_text(ENDS_ITSELF.format(mark=str(mark)))
    cluster = fresh_cluster(3, environment={"PYTHONPATH": str(tmp_path)})
    one, home, copy = cluster.endpoints[1], cluster.directory / "3", tmp_path / "copy"
    assert asking.create_topic(one, "t", 1, 3).error_code == 0
    asking.until(lambda: _whole(one, 3))
    assert cluster.stop(3) == 0
    shutil.copytree(home, copy)
    mark.touch()
    said = len(cluster.log_text(3))
    cluster.start(3, wait=False)
    asking.until(lambda: 3 not in cluster.pids)
    assert not mark.exists() and ": started, process" not in cluster.log_text(3)[said:]
    assert _run(home) == _run(copy) + 1, "nobody but its own disk knows of this start"
    cluster.start(3)
    assert _run(home) == _run(copy) + 2
    asking.until(lambda: _whole(one, 3))
    assert "another process runs as node 3" in _refused(one, cluster.endpoints[2], copy)


def _run(directory: Path) -> int:
    return msgspec.json.decode((directory / "meta.json").read_bytes(), type=Meta).run.number


def _whole(endpoint: Endpoint, node_id: int) -> bool:
    own = [status for status in asking.statuses(endpoint) if status.node_id == node_id]
    return len(own) == 2 and all(s.worker_pid and s.doubt is Doubt.NONE and s.last_index >= 2 for s in own)


def _ended(cluster: LocalCluster, node_id: int) -> str:
    """What it says when it ends: at its start, or once the others answer, where they take longer than it waits."""
    with contextlib.suppress(ConfigError):
        cluster.start(node_id)
    asking.until(lambda: node_id not in cluster.pids, instead=lambda: cluster.log_text(node_id))
    return cluster.log_text(node_id)


def _refused(first: Endpoint, second: Endpoint, directory: Path) -> str:
    command = [sys.executable, "-P", "-m", "raftlog", "node", "start", "--id", "3", "--data", str(directory)]
    command += ["--peers", f"1@{first},2@{second},3@127.0.0.1:{free_port()}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S).stderr
