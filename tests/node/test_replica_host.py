"""meta.json, directories and workers stay in step, whatever happens in between."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from raftlog.controller.image import Image, apply
from raftlog.controller.records import (
    AssignmentRecord,
    ClusterRecord,
    MetadataRecord,
    NodeRecord,
    PlanRecord,
    TopicConfigRecord,
    TopicDeletedRecord,
    TopicRecord,
)
from raftlog.errors import DiskFullError
from raftlog.node import channel as ch
from raftlog.node import replica_host
from raftlog.node.gossip import Gossip
from raftlog.node.meta import DataDirectory, Meta
from raftlog.node.replica_host import ReplicaHost
from raftlog.node.settings import parse_settings
from raftlog.types import Doubt, Endpoint, GroupStatus, Half, ReplicaStatus, TopicConfig
from tests.node.twin import TwinChild


class Running:
    """A replica host over a real directory and twins of processes."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.children: dict[str, TwinChild] = {}
        self.configs: list[ch.WorkerConfig] = []
        self.data = DataDirectory(str(path), 1)
        self.current = True
        monkeypatch.setattr(replica_host, "start_worker", self._start)
        self.image = Image()
        self.now_s = 0.0
        self.restart()

    def restart(self) -> None:
        """Another process of the node, with the same directory."""
        self.host = ReplicaHost(parse_settings({"id": "1"}), self.data, lambda image: None, lambda: self.current)

    def _start(self, config: ch.WorkerConfig) -> TwinChild:
        self.configs.append(config)
        os.makedirs(config.directory, exist_ok=True)
        (Path(config.directory) / "state.a").touch()
        self.children[config.spec.name] = TwinChild(len(self.configs))
        return self.children[config.spec.name]

    def log(self, *records: MetadataRecord) -> None:
        for record in records:
            self.image = apply(self.image, self.image.end_offset, record)
        self.host.follow(self.image)
        self.tick()

    def tick(self) -> None:
        for _ in range(3):
            self.now_s += 1.0
            self.host.tick(list(self.host.workers.specs), self.now_s)

    def open(self, name: str) -> None:
        self.children[name].end.send(ch.Opened(port=5000, raft_port=5001, boot_id=7))
        self.tick()

    def address(self, name: str) -> Endpoint | None:
        return {f"{s.status.topic}-{s.status.partition}": s.endpoint for s in self.host.workers.states()}[name]


def topic(name: str, topic_id: bytes = b"a" * 16) -> TopicRecord:
    return TopicRecord(name=name, topic_id=topic_id, replicas=((1,),), config=TopicConfig())


@pytest.fixture
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    running = Running(tmp_path, monkeypatch)
    directory_id = running.data.meta.directory_id
    running.log(
        ClusterRecord(cluster_id="c", voters=(1,)),
        NodeRecord(node_id=1, directory_id=directory_id, endpoint=Endpoint("127.0.0.1", 7071)),
    )
    yield running
    for child in running.children.values():
        child.end.close()
        child.close()
    running.data.close()


def test_a_replica_is_listed_before_it_starts_and_found_after_it_is_listed_as_created(running: Running) -> None:
    running.log(topic("t"))
    (listed,) = running.data.meta.replicas
    assert not listed.created
    assert running.address("t-0") is None
    running.open("t-0")
    assert running.data.meta.replicas[0].created
    assert running.address("t-0") == Endpoint("127.0.0.1", 5000)


def test_a_node_is_ready_only_when_its_replicas_are(running: Running) -> None:
    assert running.host.settled
    running.image = apply(running.image, running.image.end_offset, topic("t"))
    running.host.follow(running.image)
    assert not running.host.settled
    running.tick()
    assert not running.host.settled
    running.open("t-0")
    assert running.host.settled


def test_a_full_disk_delays_and_ends_nothing(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    running.log(topic("first"))
    save = running.data.save

    def full(meta: Meta) -> None:
        raise DiskFullError("no space left")

    monkeypatch.setattr(running.data, "save", full)
    running.open("first-0")
    assert running.address("first-0") is None, "nobody may hear of a replica that could be taken for new"
    running.log(topic("second", b"b" * 16))
    assert "second-0" not in running.children
    monkeypatch.setattr(running.data, "save", save)
    running.tick()
    assert running.address("first-0") == Endpoint("127.0.0.1", 5000)
    assert "second-0" in running.children


def test_a_recreated_topic_starts_once_its_predecessor_is_gone(running: Running) -> None:
    running.log(topic("t"))
    running.open("t-0")
    first = running.children["t-0"]
    running.log(TopicDeletedRecord(name="t", topic_id=b"a" * 16), topic("t", b"b" * 16))
    assert any(isinstance(message, ch.Stop) for message in first.end.receive())
    assert running.children["t-0"] is first
    first.exit(0)
    running.tick()
    assert running.children["t-0"] is not first
    assert running.configs[-1].spec.topic_id == b"b" * 16
    assert running.configs[-1].doubt is Doubt.NONE


def test_a_replica_whose_directory_vanished_is_started_as_lost(running: Running) -> None:
    running.log(topic("t"))
    running.open("t-0")
    (Path(running.configs[-1].directory) / "state.a").unlink()
    running.children["t-0"].exit(-9)
    running.tick()
    assert running.configs[-1].doubt is Doubt.LOST_DISK


def test_nothing_starts_while_the_node_stops(running: Running) -> None:
    running.log(topic("t"))
    running.host.stop(running.now_s)
    running.log(topic("late", b"l" * 16))
    assert "late-0" not in running.children
    running.children["t-0"].exit(0)
    running.tick()
    assert not running.host.workers.specs
    assert [hosted.spec.name for hosted in running.data.meta.replicas] == ["t-0"], "a stopped node forgets nothing"
    assert msgspec.json.decode((Path(running.data.path) / "meta.json").read_bytes())["replicas"]


def test_new_settings_reach_a_running_worker_and_one_that_starts_later(running: Running) -> None:
    running.log(topic("t"))
    running.open("t-0")
    config = TopicConfig(retention_ms=1000)
    running.log(TopicConfigRecord(name="t", topic_id=b"a" * 16, config=config))
    assert ch.SetConfig(config=config) in running.children["t-0"].end.receive()
    assert running.data.meta.replicas[0].spec.config == config
    running.children["t-0"].exit(1)
    running.tick()
    assert len(running.configs) == 2
    assert running.configs[-1].spec.config == config


# --- replicas that move ------------------------------------------------------------------------------
PLAN = PlanRecord(name="t", topic_id=b"a" * 16, partition=0, replicas=(2,))
MOVED = AssignmentRecord(name="t", topic_id=b"a" * 16, partition=0, replicas=(2,), witnesses=(), term=1, index=4)


def say(running: Running, *, newest: tuple[int, int], names: bool) -> None:
    group = GroupStatus(term=1, index=4, halves=(Half((2,)),), newest=newest, names=names)
    status = ReplicaStatus(topic="t", topic_id=b"a" * 16, partition=0, node_id=1, group=group)
    running.children["t-0"].end.send(ch.Report(status=status))
    running.tick()


def stopped(running: Running) -> bool:
    return any(isinstance(message, ch.Stop) for message in running.children["t-0"].end.receive())


def aside(running: Running) -> bool:
    return not (Path(running.data.path) / "t-0").exists()


def test_a_replica_that_has_moved_away_goes_once_its_own_log_says_no_otherwise(running: Running) -> None:
    running.log(topic("t"))
    running.open("t-0")
    running.log(PLAN, MOVED)
    assert not stopped(running), "it has said nothing yet"
    say(running, newest=(1, 5), names=True)
    assert not stopped(running), "a leader goes by a plan that this image does not have"
    say(running, newest=(1, 4), names=False)
    assert stopped(running)
    running.children["t-0"].exit(0)
    running.tick()
    assert (running.data.meta.replicas, aside(running)) == ((), True)
    assert running.data.meta.followed_offset == running.image.end_offset


def test_after_a_crash_while_it_goes_it_goes_all_the_same_and_founds_nothing(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its directory is aside and meta.json lists it still: it comes as one that has lost all, and goes again."""
    running.log(topic("t"))
    created = running.image
    running.open("t-0")
    running.log(PLAN, MOVED)
    say(running, newest=(1, 4), names=False)
    save = running.data.save

    def crash(meta: Meta) -> None:
        raise InterruptedError("power")

    monkeypatch.setattr(running.data, "save", crash)
    running.children["t-0"].exit(0)
    with pytest.raises(InterruptedError):
        running.tick()
    assert aside(running)
    monkeypatch.setattr(running.data, "save", save)

    running.current = False
    running.restart()
    running.host.follow(created)  # the cached image: it is not synced, and says that the replica founds its group
    running.tick()
    assert len(running.configs) == 1, "nobody knows yet with whom it may have acknowledged"
    running.current = True
    running.host.follow(running.image)
    running.tick()
    assert (running.configs[-1].doubt, running.configs[-1].remembered) == (Doubt.LOST_DISK, Half((2,)))
    running.open("t-0")
    say(running, newest=(0, 0), names=False)
    running.children["t-0"].exit(0)
    running.tick()
    assert (running.data.meta.replicas, aside(running)) == ((), True)
    running.current = False
    running.restart()
    running.host.follow(created)
    running.tick()
    assert not running.host.workers.specs, "an image of before makes it no founder"


def test_a_learner_is_listed_before_it_starts_and_remembers_all_whom_the_metadata_names(running: Running) -> None:
    directory_id = "of another"
    elsewhere = msgspec.structs.replace(topic("t"), replicas=((2, 3),))
    running.log(NodeRecord(node_id=2, directory_id=directory_id, endpoint=Endpoint("127.0.0.1", 7072)), elsewhere)
    save, listed = running.data.save, []

    def note(meta: Meta) -> None:
        listed.append((len(meta.replicas), len(running.configs)))
        save(meta)

    running.data.save = note  # type: ignore[method-assign]
    running.log(msgspec.structs.replace(PLAN, replicas=(1, 2)))
    assert listed[0] == (1, 0)
    assert (running.configs[-1].doubt, running.configs[-1].remembered) == (Doubt.LOST_DISK, Half((2, 3, 1)))
    assert not running.configs[-1].is_witness


def test_a_worker_is_told_of_the_plan_whenever_it_opens(running: Running) -> None:
    running.log(topic("t"))
    running.open("t-0")
    running.log(PLAN)
    running.host.tell(Gossip(1), running.now_s, "c")
    (wish,) = [message for message in running.children["t-0"].end.receive() if isinstance(message, ch.Wish)]
    assert wish.plan is not None
    assert (wish.plan.target, wish.expected, wish.named) == (Half((2,)), (0, 0), (1, 2))
    running.children["t-0"].exit(1)
    running.tick()
    running.open("t-0")
    assert wish in running.children["t-0"].end.receive()
