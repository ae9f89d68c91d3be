"""Configurations travel with the entries among which they stand, to replicas and witnesses, and by reset."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from raftlog import limits
from raftlog.consensus.voters import VoterSet
from raftlog.protocol import codec
from raftlog.protocol import raft as r
from raftlog.storage.state import EpochStart
from raftlog.types import Half
from tests.consensus.messages import appended, cluster_with_leader, entries_of, sent_to
from tests.partition.harness import Cluster, Node

THREE = (Half((1, 2, 3)),)
SAME_TWICE = (Half((1, 2, 3)), Half((3, 2, 1)))


def configured(cluster: Cluster, leader: Node, *halves: Half) -> int:
    index: int = leader.log.append_configuration(halves)
    cluster.settle(1.0)
    return index


def test_everyone_gets_it_and_counts_by_it_and_batches_behind_it_keep_their_index() -> None:
    cluster, leader, _ = cluster_with_leader()
    appended(cluster, leader, b"a")
    index = configured(cluster, leader, *THREE)
    appended(cluster, leader, b"b")
    cluster.settle(0.5)
    for node in cluster.nodes.values():
        assert node.log.configurations_in(0, 99) == [EpochStart(leader.log.last_term, index, 1, THREE)]
        assert (node.log.last_index, node.log.log_end_offset) == (index + 1, 2)
        assert node.log.halves == THREE
        assert node.replica.member.commit_index == index + 1


def test_a_witness_gets_it_too() -> None:
    cluster = Cluster(3, witnesses=1)
    leader = cluster.leader()
    halves = (Half((1, 2), (3,)),)
    index = configured(cluster, leader, *halves)
    witness = cluster.nodes[3]
    assert (witness.log.last_index, witness.log.halves) == (index, halves)
    assert witness.replica.member.voters == VoterSet(*halves)


def test_a_leaders_conflicting_entry_ends_it() -> None:
    cluster, leader, follower = cluster_with_leader()
    term, end = leader.log.last_term, follower.log.last_index
    follower.log.append_configuration(SAME_TWICE)
    message = entries_of(cluster, leader, follower, after=(end, term), count=1, starts=[(end + 1, term + 1)])
    message.term = term + 1
    follower.replica.on_raft(message, None)
    follower.replica.turn()
    assert (follower.log.last_term, follower.log.halves) == (term + 1, ())
    assert follower.replica.member.voters == VoterSet(*THREE)


def test_one_that_is_there_already_is_skipped() -> None:
    cluster, leader, follower = cluster_with_leader()
    term, end = leader.log.last_term, leader.log.last_index
    index = configured(cluster, leader, *THREE)
    appended(cluster, leader, b"a")
    again = entries_of(cluster, leader, follower, after=(end, term), count=1, starts=[(index, term)])
    again.configurations = [(index, THREE)]
    cluster.queue.clear()
    follower.replica.on_raft(again, None)
    follower.replica.turn()
    assert (follower.log.last_index, follower.log.state.truncations) == (index + 1, 0)
    [answer] = [m for m in sent_to(cluster, leader.node_id, r.AppendResponse) if m.sender_id == follower.node_id]
    assert (answer.success, answer.match_index) == (True, index)


BAD: list[list[Any]] = [
    [(9, THREE)],  # not among the entries
    [(3, ())],
    [(3, (*THREE, *THREE, *THREE))],
    [(3, (Half(()),))],
    [(3, (Half((1, 1)),))],
    [(3, (Half((1, 2), (2,)),))],
    [(3, (Half((1, 2)), Half((1,), (2,))))],  # a replica in one half, a witness in the other
    [(3, (Half(tuple(range(limits.VOTERS_MAX + 1))),))],
]


@pytest.mark.parametrize("configurations", BAD)
@pytest.mark.parametrize("witnesses", [0, 1])
def test_what_no_leader_sends_is_refused(configurations: list[Any], witnesses: int) -> None:
    cluster = Cluster(3, witnesses=witnesses)
    leader, target = cluster.leader(), cluster.nodes[3]
    if target is leader:
        target = cluster.nodes[2]
    cluster.settle(1.0)
    cluster.queue.clear()
    term, end = leader.log.last_term, leader.log.last_index
    assert end == 2
    message = entries_of(cluster, leader, target, after=(end, term), count=1, starts=[(3, term)])
    message.configurations = configurations
    target.replica.on_raft(msgspec.convert(msgspec.to_builtins(message), r.AppendEntries), None)
    target.replica.turn()
    assert (target.log.last_index, target.log.halves) == (end, ())
    assert [m for m in sent_to(cluster, leader.node_id, r.AppendResponse) if m.success] == []


@pytest.mark.parametrize(("starts", "configurations"), [([(3, 0)], []), ([(3, 2)], [(3, THREE)])])
def test_a_configuration_has_the_term_in_front_of_it_and_a_no_op_a_newer_one(
    starts: list[Any], configurations: list[Any]
) -> None:
    cluster, leader, follower = cluster_with_leader()
    term, end = leader.log.last_term, leader.log.last_index
    assert (term, end) == (1, 2)
    message = entries_of(cluster, leader, follower, after=(end, term), count=1, starts=starts, term=2)
    message.configurations = configurations
    follower.replica.on_raft(message, None)
    follower.replica.turn()
    assert follower.log.last_index == end


def test_whoever_is_behind_the_horizon_learns_it_by_reset() -> None:
    for witnesses in (0, 1):
        cluster = Cluster(3, witnesses=witnesses, segment_bytes=1024, retention_bytes=2048)
        leader = cluster.leader()
        away = cluster.nodes[3] if leader is not cluster.nodes[3] else cluster.nodes[2]
        halves = (Half(cluster.spec.replicas, cluster.spec.witnesses),)
        cluster.away.add(away.node_id)
        for node in cluster.nodes.values():
            node.replica.set_peer(away.node_id, 0)
        leader.log.append_configuration(halves)
        for _ in range(12):
            appended(cluster, leader, b"x" * 400)
        cluster.settle(2 * limits.HOUSE_S)
        assert leader.log.state.horizon_index > max(away.log.last_index, 4)
        cluster.away.clear()
        for node in cluster.nodes.values():
            node.replica.set_peer(away.node_id, away.boot_id)
        cluster.settle(3.0)
        assert away.log.last_index == leader.log.last_index
        assert away.log.halves == leader.log.halves == halves


def test_messages_without_configurations_are_read_as_those_of_older_versions() -> None:
    cluster, leader, follower = cluster_with_leader()
    message = entries_of(cluster, leader, follower, after=(2, 1), count=1, starts=[(3, 1)])
    message.configurations = [(3, SAME_TWICE)]
    assert codec.decode_raft(codec.encode(message)) == message
    shorter = msgspec.msgpack.encode(msgspec.msgpack.decode(msgspec.msgpack.encode(message))[:-2])
    assert msgspec.msgpack.decode(shorter, type=r.AppendEntries).configurations == []
