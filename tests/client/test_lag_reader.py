"""How far groups of a real node are behind: of logs that are compacted, trimmed, made anew, or whose leader hangs."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator

import pytest

from raftlog import Admin, NewTopic, Producer, TopicPartition
from raftlog.client.admin import lag_reader
from raftlog.client.admin.lag_reader import LagReader, PartitionLag
from raftlog.limits import HTTP_LAGS_S
from raftlog.node.local import LocalCluster
from tests.cli.command import unique
from tests.node.asking import until

pytestmark = pytest.mark.cluster
WAIT_S = 60.0
COMPACTED = {"cleanup.policy": "compact", "segment.bytes": "20000", "delete.retention.ms": "0"}


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    with LocalCluster(nodes=1, directory=tmp_path_factory.mktemp("lags")) as cluster:
        yield cluster


@pytest.fixture
def admin(node: LocalCluster) -> Iterator[Admin]:
    with Admin(node.bootstrap) as admin:
        yield admin


Look = Callable[[str], dict[str, PartitionLag]]


@pytest.fixture
def look(node: LocalCluster) -> Iterator[Look]:
    """By topic, of a group."""
    with LagReader(node.bootstrap, HTTP_LAGS_S * 1000, "test") as reader:

        def look(group: str) -> dict[str, PartitionLag]:
            found = [each for each in reader.look(1) if each.group == group]
            return {each.topic: each for group_lag in found for each in group_lag.partitions}

        yield look


def _topic(admin: Admin, **config: str) -> TopicPartition:
    name = unique("lag")
    admin.create_topics([NewTopic(name=name, config=config)])
    return TopicPartition(name, 0)


def _write(node: LocalCluster, place: TopicPartition, keys: str, age_s: float) -> None:
    """One batch, that old."""
    at_ms = round((time.time() - age_s) * 1000)
    with Producer(node.bootstrap, linger_ms=1000) as producer:
        for key in keys:
            producer.send(place.topic, b"x" * 1000, key=key.encode(), timestamp_ms=at_ms)
        producer.flush(WAIT_S)


def _shows(look: Look, group: str, place: TopicPartition, records: int, seconds: float) -> None:
    def shown() -> bool:
        lag = look(group).get(place.topic)
        found = None if lag is None else lag.seconds(time.time_ns() // 1_000_000)
        return found is not None and lag is not None and lag.records == records and abs(found - seconds) < WAIT_S

    until(shown, instead=lambda: str(look(group)))


def test_compaction_moves_the_lag_to_the_first_record_that_is_left(
    node: LocalCluster, admin: Admin, look: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lag_reader, "LAG_RECORD_S", 0.0)
    place = _topic(admin, **COMPACTED)
    _write(node, place, "abc", 9000)
    admin.set_group_offsets("compacted", {place: 1})
    _shows(look, "compacted", place, 2, 9000)
    for _ in range(20):
        _write(node, place, "bc", 6000)
    _write(node, place, "d" * 20, 3000)  # a segment of its own: those before are compacted
    # Of the first batch `a` is left, which the group has read; the next records are those of the last of the twenty.
    _shows(look, "compacted", place, 62, 6000)
    admin.set_group_offsets("compacted", {place: 43})
    _shows(look, "compacted", place, 20, 3000)


def test_a_group_with_nothing_left_to_read_is_behind_by_no_second(node: LocalCluster, admin: Admin, look: Look) -> None:
    trimmed, empty = _topic(admin), _topic(admin)
    _write(node, trimmed, "abc", 9000)
    admin.set_group_offsets("read", {trimmed: 0, empty: 0})
    _shows(look, "read", trimmed, 3, 9000)
    admin.delete_records({trimmed: 3})
    _shows(look, "read", trimmed, 0, 0)
    _shows(look, "read", empty, 0, 0)


def test_a_topic_made_anew_has_no_lag_of_the_one_before(node: LocalCluster, admin: Admin, look: Look) -> None:
    place = _topic(admin)
    _write(node, place, "ab", 9000)
    admin.set_group_offsets("anew", {place: 1})
    _shows(look, "anew", place, 1, 9000)
    admin.delete_topics([place.topic])
    admin.create_topics([NewTopic(name=place.topic)])
    _write(node, place, "ab", 3000)
    assert look("anew") == {}
    admin.set_group_offsets("anew", {place: 1})
    _shows(look, "anew", place, 1, 3000)


def test_a_leader_that_hangs_hides_its_own_lag_only(node: LocalCluster, admin: Admin, look: Look) -> None:
    hung, other = _topic(admin), _topic(admin)
    for place in (hung, other):
        _write(node, place, "ab", 9000)
    admin.set_group_offsets("beside", {hung: 1, other: 1})
    for place in (hung, other):
        _shows(look, "beside", place, 1, 9000)
    worker = until(lambda: next((each.worker_pid for each in admin.describe_replicas([hung.topic])), 0))
    os.kill(worker, signal.SIGSTOP)
    try:
        _shows(look, "beside", other, 1, 9000)
        until(lambda: look("beside").get(hung.topic) == PartitionLag(hung.topic, 0, 1))
    finally:
        os.kill(worker, signal.SIGCONT)
    _shows(look, "beside", hung, 1, 9000)


def test_what_is_not_known_has_no_seconds() -> None:
    lag = PartitionLag("orders", 0, committed_offset=3, records=7)
    assert lag.seconds(1_000) is None
    assert lag._replace(behind_since_ms=400).seconds(1_000) == 0.6
    assert lag._replace(behind_since_ms=1_400).seconds(1_000) == 0, "a clock that is ahead"
    assert lag._replace(caught_up=True).seconds(1_000) == 0, "offsets without a record"
