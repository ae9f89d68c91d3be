"""A replica whose own copy is damaged learns of it, gives it up, and comes back whole from the others."""

from __future__ import annotations

import random
from unittest import mock

import pytest

from raftlog.errors import CorruptLogError, ErrorCode
from raftlog.partition.replica import Replica
from raftlog.protocol.records import FetchResponse, ListOffsetsRequest
from raftlog.record.batch import decode, split
from raftlog.types import Doubt, ReplicaSpec
from tests.partition.harness import PLACE, Cluster, Node, batch, fetch, produce
from tests.requests import request_of
from tests.storage.machine import TOPIC_ID, Machine, append, lead

_RECORDS = 120


def _filled(nodes: int = 3) -> tuple[Cluster, Node]:
    cluster = Cluster(nodes, segment_bytes=2048)
    leader = cluster.leader()
    for number in range(_RECORDS):
        leader.request("c", produce(number), [batch(b"%03d" % number + bytes(60))])
        cluster.settle()
    cluster.settle(2.0)  # the bounds are written, the index knows everything
    for node in cluster.nodes.values():
        node.log.appender.commit_index()
        node.log.segments.tail.clear()
    return cluster, leader


def _flip(node: Node, segment: int, position: int = 90) -> None:
    paths = sorted(path for path in node.disk.files() if path.endswith(".log"))
    node.disk.flip_bit(paths[segment], position, 1)


def _assert_whole(cluster: Cluster) -> None:
    cluster.settle(8.0)
    for node in cluster.nodes.values():
        assert node.log.state.doubt is Doubt.NONE
        assert node.replica.high_watermark == _RECORDS
        values = [
            record.value[:3] if record.value else b""
            for offset in range(_RECORDS)
            for record in decode(node.replica.read_committed(offset, 1))
        ]
        assert values == [b"%03d" % number for number in range(_RECORDS)]


def _last_fetch(node: Node) -> FetchResponse:
    return next(answer for _, answer, _ in reversed(node.answers) if isinstance(answer, FetchResponse))


@pytest.mark.parametrize("segment", [0, 2, -1])
def test_the_scrub_of_a_follower_finds_it_and_the_leader_has_it(segment: int) -> None:
    cluster, leader = _filled()
    victim = next(node for node in cluster.nodes.values() if node is not leader)
    _flip(victim, segment)
    with pytest.raises(CorruptLogError, match="damaged from offset"):
        cluster.settle(60.0)
    cluster.restart(victim)
    assert victim.log.state.doubt in (Doubt.SHORT, Doubt.CORRUPT)
    _assert_whole(cluster)
    assert (victim.replica.status().corruptions, victim.replica.status().truncations) == (1, 1)


def test_a_follower_that_cannot_read_a_batch_makes_the_leader_look_at_its_disk() -> None:
    cluster, leader = _filled()
    victim = next(node for node in cluster.nodes.values() if node is not leader)
    victim.disk.wipe("orders-0")
    _flip(leader, 2)
    with pytest.raises(CorruptLogError, match="checksum"):
        cluster.restart(victim)
        cluster.settle(3.0)
    assert leader.log.state.doubt is Doubt.CORRUPT
    cluster.restart(leader)
    _assert_whole(cluster)


def test_a_bad_wire_is_no_reason_to_doubt_a_good_disk() -> None:
    cluster, leader = _filled()
    leader.log.verify_entries(3, leader.log.last_index)
    cluster.settle(5.0)
    assert leader.log.state.doubt is Doubt.NONE


def test_a_consumer_s_question_makes_the_leader_look_and_is_answered_first() -> None:
    cluster, leader = _filled()
    _flip(leader, 1)
    offset = leader.log.segments.in_order[1].base_offset
    leader.request("c", fetch(offset), [])
    leader.replica.turn()
    assert _last_fetch(leader).error_code == ErrorCode.NONE  # never decoded on its way
    leader.request("c", fetch(offset, verify=True), [])
    with pytest.raises(CorruptLogError):
        leader.replica.turn()
    answer = _last_fetch(leader)
    assert answer.error_code == ErrorCode.KAFKA_STORAGE_ERROR
    assert "checksum" in answer.error_text
    cluster.restart(leader)
    _assert_whole(cluster)


def test_the_only_replica_keeps_what_is_whole_and_says_what_is_not() -> None:
    cluster, leader = _filled(1)
    _flip(leader, 1)
    offset = leader.log.segments.in_order[1].base_offset
    for _ in range(2):
        leader.request("c", fetch(offset, verify=True), [])
        leader.replica.turn()
    assert _last_fetch(leader).error_code == ErrorCode.CORRUPT_MESSAGE
    assert f"damaged from offset {offset}" in leader.replica.status().error
    leader.request("c", fetch(_RECORDS - 1, verify=True), [])
    leader.request("c", produce(1), [batch(b"more")])
    cluster.settle()
    assert leader.results()[-1].error_code == ErrorCode.NONE


def test_a_time_that_leads_through_damage_is_an_error_and_ends_no_worker() -> None:
    _, leader = _filled(1)
    _flip(leader, 0, 9)
    request = request_of(ListOffsetsRequest(timestamp_ms=5), 1, **PLACE)
    leader.answers.clear()
    leader.request("c", request, [])
    leader.replica.turn()
    assert leader.answers[-1][1].error_code == ErrorCode.KAFKA_STORAGE_ERROR


def test_damage_that_raftlog_itself_reads_is_noted_so_that_the_next_start_refetches_it() -> None:
    """A group coordinator replays its log at each start: its worker would end at the same batch for ever."""
    machine = Machine()
    log = machine.open()
    lead(log, 1)
    for _ in range(_RECORDS):
        append(log)
        log.persist()
    log.appender.commit_index()
    log.state.note_commit(log.last_index)
    log.close()
    machine.disk.flip_bit(sorted(machine.segments())[1], 90, 1)
    spec = ReplicaSpec(topic="orders", topic_id=TOPIC_ID, partition=0, replicas=(1, 2, 3), config=machine.config)
    log = machine.open()
    assert log.state.doubt is Doubt.NONE, "the start trusts what the index knows"
    replica = Replica(
        node_id=1, boot_id=5, spec=spec, log=log, clock=machine.clock, rng=random.Random(1), outbox=mock.Mock()
    )
    offset = 0
    with pytest.raises(CorruptLogError):
        while data := replica.read_committed(offset, 500):
            *_, (_, last) = split(data)
            offset = last.next_offset
    assert 0 < offset < _RECORDS
    machine.kill()
    log = machine.open()
    found = (log.state.doubt, log.log_end_offset, log.state.corruptions)
    assert found == (Doubt.SHORT, offset, 1), "it says that it lacks them"
