"""`raftlog doctor` on real clusters and real files: what it finds, says, mends, and what it takes to accept a loss."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from raftlog.types import METADATA_TOPIC, Doubt
from tests.cli.command import COMMAND, run
from tests.conftest import ClusterFactory
from tests.node import asking, damage
from tests.node.story import REPLICA, Story
from tests.patience import WAIT_S

METADATA = f"{METADATA_TOPIC}-0"


def _doctor(*arguments: str, code: int) -> dict[str, Any]:
    """Of a data directory."""
    done = subprocess.run(
        [*COMMAND, "doctor", "--json", *arguments], capture_output=True, timeout=WAIT_S, check=False, text=True
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    found: dict[str, Any] = json.loads(done.stdout) if done.stdout else {"error": done.stderr}
    return found


def _wait_doctor(story: Story, text: str) -> str:
    """Until what it says of the cluster contains `text`."""

    def said() -> str:
        done = subprocess.run(
            [*COMMAND, "doctor", "--bootstrap", story.cluster.bootstrap],
            capture_output=True,
            timeout=WAIT_S,
            check=False,
            text=True,
        )
        return done.stdout if text in done.stdout else ""

    return asking.until(said)


def test_a_healthy_cluster_and_its_files_have_no_problems(fresh_cluster: ClusterFactory) -> None:
    story = Story(fresh_cluster(1), factor=1)
    story.write(100)
    story.wait_whole()
    directory = str(story.cluster.directory / "1")
    assert b"no problems" in run(story.cluster, "doctor").stdout
    assert json.loads(run(story.cluster, "doctor", "--json").stdout)["healthy"] is True
    assert "a node runs" in _doctor("--data", directory, code=2)["error"]
    story.cluster.stop(1)
    found = _doctor("--data", directory, code=0)
    assert (found["problems"], found["replicas"]) == ([], [METADATA, REPLICA])
    assert found["bytes"] > 100 * 300
    run(story.cluster, "doctor", "--bootstrap", "127.0.0.1:1", code=2)


def test_what_cannot_be_looked_at_is_exit_code_2(tmp_path: Path) -> None:
    assert "not the data directory" in _doctor("--data", str(tmp_path), code=2)["error"]
    for wrong in (["--repair"], ["--recover", "a-0"], ["--accept-data-loss"]):
        _doctor(*wrong, code=2)


def test_damage_is_found_in_files_and_repair_does_what_is_safe(fresh_cluster: ClusterFactory) -> None:
    story = Story(fresh_cluster())
    story.write(400)
    story.wait_whole()
    story.wait_bounds()
    cluster, directory = story.cluster, str(story.cluster.directory / "3")
    cluster.stop(3)
    replica = damage.replica_directory(cluster, 3, REPLICA)
    (replica / "state.b").write_bytes(b"not what it was")
    damage.flip(replica / "index.lmdb" / "data.mdb", 16)
    found = _doctor("--data", directory, code=1)["problems"]
    assert [problem["what"] for problem in found] == ["state.b is bad", "its index does not fit its log"]
    assert (replica / "state.b").read_bytes() == b"not what it was"  # nothing is changed without being asked
    repaired = _doctor("--data", directory, "--repair", code=0)["problems"]
    assert [problem["repaired"] for problem in repaired] == ["repaired from the other copy", "removed"]
    assert _doctor("--data", directory, code=0)["problems"] == []
    damage.flip(damage.segments(cluster, 3, REPLICA)[1], 500)
    (problem,) = _doctor("--data", directory, code=1)["problems"]
    assert "the checksum of a batch does not match" in problem["what"]
    assert "fetches" in problem["advice"]
    (problem,) = _doctor("--data", directory, "--repair", code=0)["problems"]
    assert problem["repaired"]
    state = damage.state(cluster, 3, REPLICA)
    assert (state.doubt, state.corruptions, state.damaged_index > 0) == (Doubt.CORRUPT, 1, True)
    cluster.start(3)
    assert story.wait_whole()[3].corruptions == 1
    story.read()
    story.require_equal_disks()


def test_the_records_of_a_sole_replica_are_never_touched(fresh_cluster: ClusterFactory) -> None:
    story = Story(fresh_cluster(1), factor=1)
    story.write(400)
    story.cluster.stop(1)
    damage.flip(damage.segments(story.cluster, 1, REPLICA)[1], 500)
    directory = story.cluster.directory / "1" / REPLICA
    before = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    (problem,) = _doctor("--data", str(story.cluster.directory / "1"), "--repair", code=1)["problems"]
    assert "no other replica" in problem["advice"]
    assert before == {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.mark.parametrize("copy", ["meta.json", f"{REPLICA}/state.?", REPLICA])
def test_what_is_gone_or_bad_is_named_with_the_way_out(fresh_cluster: ClusterFactory, copy: str) -> None:
    story = Story(fresh_cluster())
    story.wait_whole()
    story.cluster.stop(2)
    directory = story.cluster.directory / "2"
    for path in directory.glob(copy):
        shutil.rmtree(path) if path.is_dir() else path.write_bytes(b"{")
    (problem,) = _doctor("--data", str(directory), code=1)["problems"]
    assert problem["place"] == copy.split("/")[0]
    assert "start the node" in problem["advice"]


def test_a_silent_minority_is_told_and_a_missing_majority_is_explained(fresh_cluster: ClusterFactory) -> None:
    story = Story(fresh_cluster())
    story.write(20)
    story.wait_whole()
    story.cluster.kill(3)
    assert "start it" in _wait_doctor(story, "node 3: it does not answer")
    story.cluster.kill(2)
    said = _wait_doctor(story, f"{REPLICA}: no leader: 1 of 3 replicas run and are whole, 2 are needed")
    assert "start nodes 2 and 3" in said


def test_a_lost_majority_is_recovered_when_somebody_accepts_the_loss(fresh_cluster: ClusterFactory) -> None:
    story = Story(fresh_cluster())
    cluster = story.cluster
    story.write(200)
    story.wait_whole()
    story.wait_bounds()
    story.kill_all()
    for node in (2, 3):
        shutil.rmtree(cluster.directory / str(node))
    for node in story.nodes:
        cluster.start(node, wait=False)
    said = _wait_doctor(story, f"{METADATA}: no leader: a majority of its replicas lost records")
    assert f"raftlog doctor --recover {METADATA} --from 1" in said
    assert b"nothing was done" in run(cluster, "doctor", "--recover", METADATA, "--from", "1", code=1).stdout
    worse = run(cluster, "doctor", "--recover", METADATA, "--from", "2", "--accept-data-loss", code=1)
    assert b"node 1 holds more" in worse.stdout
    run(cluster, "doctor", "--recover", METADATA, "--from", "1", "--accept-data-loss")
    # The nodes are registered with their new disks and host what they held: as lost, so this one waits as well.
    said = _wait_doctor(story, f"{REPLICA}: no leader: a majority of its replicas lost records")
    assert f"raftlog doctor --recover {REPLICA} --from 1" in said
    done = run(cluster, "doctor", "--recover", REPLICA, "--from", "1", "--accept-data-loss", "--json")
    answer = json.loads(done.stdout)
    assert answer["recovered"] is True
    assert (answer["loss"]["log_end_offset"], answer["loss"]["lost_offsets"]) == (200, None)
    story.wait_whole()
    story.read()
    story.write(20)
    story.wait_whole()
    story.read()
    story.require_equal_disks()


def test_what_is_gone_is_told_before_it_is_given_up(fresh_cluster: ClusterFactory) -> None:
    """Two replicas lost their last batch, the third its disk: what was in that batch is in nobody's hands."""
    story = Story(fresh_cluster())
    cluster = story.cluster
    story.write(200)
    story.wait_whole()
    story.wait_bounds()
    story.kill_all()
    for node in (1, 2):
        damage.cut(damage.segments(cluster, node, REPLICA)[-1], 3)
    shutil.rmtree(damage.replica_directory(cluster, 3, REPLICA))
    for node in story.nodes:
        cluster.start(node)
    _wait_doctor(story, f"{REPLICA}: no leader: a majority of its replicas lost records")
    said = run(cluster, "doctor", "--recover", REPLICA, "--from", "1", code=1).stdout.decode()
    assert "lost: from offset" in said
    run(cluster, "doctor", "--recover", REPLICA, "--from", "1", "--accept-data-loss")
    end = int(said.split("up to offset ")[1].split()[0])
    assert 150 < end < 200
    story.count = end
    story.wait_whole()
    story.read()
    story.write(20)
    story.wait_whole()
    story.read()
