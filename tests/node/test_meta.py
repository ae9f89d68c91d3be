"""The data directory: one node at a time, its own, of a format that is known; and what counts as lost."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from raftlog.controller.decisions import Founder
from raftlog.controller.image import Image
from raftlog.errors import ConfigError
from raftlog.node.meta import FORMAT_VERSION, DataDirectory, HostedReplica
from raftlog.storage.disk import OsDisk
from raftlog.types import Doubt, Endpoint, ReplicaSpec
from tests.patience import WAIT_S

SPEC = ReplicaSpec(topic="orders", topic_id=b"\xff" * 16, partition=3, replicas=(1, 2))


@pytest.fixture
def data(tmp_path: Path) -> Iterator[DataDirectory]:
    opened = DataDirectory(str(tmp_path / "1"), 1)
    yield opened
    opened.close()


def reopen(data: DataDirectory) -> DataDirectory:
    data.close()
    return DataDirectory(data.path, 1)


def test_the_identity_is_made_once(data: DataDirectory) -> None:
    directory_id = data.meta.directory_id
    again = reopen(data)
    assert again.meta.directory_id == directory_id
    data._lock = again._lock


def test_what_was_saved_is_read_back(data: DataDirectory) -> None:
    meta = msgspec.structs.replace(
        data.meta,
        cluster_id="c",
        voters=(1, 2),
        founders=(Founder(1, "d", Endpoint("h", 1)),),
        peers={1: Endpoint("h", 1)},
        replicas=(HostedReplica(spec=SPEC, created_offset=7, created=True, doubt=Doubt.LOST_DISK),),
    )
    data.save(meta)
    again = reopen(data)
    assert again.meta == meta
    data._lock = again._lock


def test_a_second_node_on_the_same_directory_is_refused(data: DataDirectory) -> None:
    with pytest.raises(ConfigError, match=r"in use by a running node \(process \d+\)"):
        DataDirectory(data.path, 1)


def test_another_node_id_is_refused(data: DataDirectory) -> None:
    data.close()
    with pytest.raises(ConfigError, match="belongs to node 1"):
        DataDirectory(data.path, 2)
    data._lock = DataDirectory(data.path, 1)._lock


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "meta.json").write_text(json.dumps({"format_version": FORMAT_VERSION + 1, "shape": "unknown"}))
    with pytest.raises(ConfigError, match="newer raftlog"):
        DataDirectory(str(tmp_path), 1)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format_version": "x"}', '{"format_version": 1}'])
def test_a_damaged_meta_is_refused_and_left_as_it_is(tmp_path: Path, text: str) -> None:
    (tmp_path / "meta.json").write_text(text)
    with pytest.raises(ConfigError, match="damaged"):
        DataDirectory(str(tmp_path), 1)
    assert (tmp_path / "meta.json").read_text() == text


def test_replicas_without_meta_are_not_taken_for_a_new_node(tmp_path: Path) -> None:
    (tmp_path / "orders-0").mkdir()
    (tmp_path / "orders-0" / "state.a").write_bytes(b"x")
    with pytest.raises(ConfigError, match=r"orders-0 but no meta\.json"):
        DataDirectory(str(tmp_path), 1)


def test_a_path_that_cannot_be_a_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot use the data directory"):
        DataDirectory(str(tmp_path / "file"), 1)


def test_a_new_replica_is_new_until_it_is_listed_as_created(data: DataDirectory) -> None:
    new = HostedReplica(spec=SPEC, created_offset=7)
    assert data.doubt_of(new) is Doubt.NONE
    created = msgspec.structs.replace(new, created=True)
    assert data.doubt_of(created) is Doubt.LOST_DISK


def test_what_is_in_the_directory_does_not_change_what_is_known_of_the_replica(data: DataDirectory) -> None:
    created = HostedReplica(spec=SPEC, created_offset=7, created=True)
    (Path(data.replica_path(SPEC)) / "index.lmdb").mkdir(parents=True)
    assert data.doubt_of(created) is Doubt.LOST_DISK


def test_a_doubt_from_the_assignment_holds_until_the_replica_was_created(data: DataDirectory) -> None:
    lost = HostedReplica(spec=SPEC, created_offset=7, doubt=Doubt.LOST_DISK)
    assert data.doubt_of(lost) is Doubt.LOST_DISK


def test_a_deleted_replica_frees_its_name_at_once_and_its_space_later(data: DataDirectory) -> None:
    directory = Path(data.replica_path(SPEC))
    directory.mkdir()
    (directory / "segment").write_bytes(b"x")
    data.set_aside(SPEC)
    assert not directory.exists()
    data.set_aside(SPEC)  # gone already: nothing to do
    data.remove_leftovers()
    assert sorted(path.name for path in Path(data.path).iterdir()) == ["meta.json", "node.lock"]


def test_two_threads_do_not_remove_the_same_leftovers(data: DataDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    (Path(data.path) / "one.deleted").mkdir()
    entered, go_on = threading.Semaphore(0), threading.Event()
    remove = OsDisk.remove_tree

    def removed(disk: OsDisk, path: str) -> None:
        entered.release()
        assert go_on.wait(WAIT_S)
        remove(disk, path)

    monkeypatch.setattr(OsDisk, "remove_tree", removed)
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(data.remove_leftovers)
        assert entered.acquire(timeout=WAIT_S)
        second = threads.submit(data.remove_leftovers)
        assert not entered.acquire(timeout=0.1)
        go_on.set()
        first.result(WAIT_S)
        second.result(WAIT_S)


def test_the_cached_image_is_forgotten_when_it_is_of_another_cluster(data: DataDirectory) -> None:
    data.save(msgspec.structs.replace(data.meta, cluster_id="ours"))
    image = Image(end_offset=5, cluster_id="ours", voters=(1,))
    data.cache_image(image)
    assert data.cached_image() == image
    data.cache_image(msgspec.structs.replace(image, cluster_id="theirs"))
    assert data.cached_image() == Image()
    shutil.rmtree(data.path)
    assert data.cached_image() == Image()
