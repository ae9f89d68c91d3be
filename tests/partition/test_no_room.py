"""A leader whose disk is full: what was committed is read all the same, whatever has to be written and cannot be."""

from __future__ import annotations

import msgspec

from raftlog.errors import ErrorCode
from raftlog.protocol.records import FetchResponse
from tests.partition.harness import Cluster, Node, batch, fetch, produce
from tests.partition.head_deletion import answers, ask


def _filled() -> tuple[Cluster, Node]:
    cluster = Cluster(3, segment_bytes=1024, retention_ms=1_000_000_000)
    leader = cluster.leader()
    for number in range(40):
        leader.request("p", produce(number), [batch(bytes(100))])
        cluster.settle()
    cluster.settle(3)
    leader.disk.full = True
    return cluster, leader


def _read(cluster: Cluster, leader: Node) -> list[tuple[int, bool]]:
    leader.answers.clear()
    leader.request("c", fetch(39), [])
    cluster.settle(0.2)
    return [(a.error_code, bool(data)) for _, a, data in leader.answers if isinstance(a, FetchResponse)]


def test_retention_that_cannot_be_written_does_not_keep_readers_waiting() -> None:
    cluster, leader = _filled()
    config = msgspec.structs.replace(cluster.spec.config, retention_ms=1)
    leader.replica.set_config(msgspec.structs.replace(cluster.spec, config=config))
    for _ in range(10):
        assert _read(cluster, leader) == [(ErrorCode.NONE, True)]
        cluster.settle(1.0)
    leader.disk.full = False
    cluster.settle(3.0)
    assert leader.log.state.log_start_offset > 30
    leader.request("p", produce(99), [batch(b"there is room")])
    cluster.settle()
    assert leader.results()[-1].error_code == ErrorCode.NONE


def test_delete_records_without_room_ends_in_its_time_and_readers_do_not_wait() -> None:
    cluster, leader = _filled()
    ask(leader, 20, timeout_ms=2000)
    for _ in range(5):
        assert _read(cluster, leader) == [(ErrorCode.NONE, True)]
        if found := answers(leader):
            break
        cluster.settle(0.5)
        found = answers(leader)
        if found:
            break
    assert found == [(ErrorCode.REQUEST_TIMED_OUT, -1)]
    assert leader.log.state.log_start_offset == 0


def test_a_state_that_stays_unwritten_does_not_keep_readers_waiting() -> None:
    """Half of it is on the disk: it is owed, and every sync fails until there is room."""
    cluster, leader = _filled()
    leader.log.state.is_dirty = True
    for _ in range(10):
        assert _read(cluster, leader) == [(ErrorCode.NONE, True)]
        cluster.settle(1.0)
    leader.disk.full = False
    cluster.settle(1.0)
    assert not leader.log.state.is_dirty
