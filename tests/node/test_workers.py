"""Supervision, with processes that are twins: start, restart with back-off, stop within bounds, say why."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import msgspec
import pytest

from raftlog.clock import NEVER_S
from raftlog.limits import (
    SLEEPER_HANGS_S,
    SLEEPER_WORD_S,
    WORKER_BACKOFF_MAX_S,
    WORKER_BACKOFF_MIN_S,
    WORKER_STABLE_S,
    WORKER_STOP_S,
)
from raftlog.node import channel as ch
from raftlog.node.gossip import ReplicaKey
from raftlog.node.meta import HostedReplica
from raftlog.node.workers import Ended, Failure, Hangs, OpenedReplica, Workers
from raftlog.types import Endpoint, ReplicaSpec, ReplicaStatus, Role
from tests.node.twin import TwinChild

SPEC = ReplicaSpec(topic="orders", topic_id=b"o" * 16, partition=0, replicas=(1, 2))
KEY: ReplicaKey = (SPEC.topic_id, 0)


class Host:
    def __init__(self) -> None:
        self.children: list[TwinChild] = []
        self.workers = Workers(1, "127.0.0.1", self._start)
        self.workers.host(HostedReplica(spec=SPEC, created_offset=1))

    def _start(self, key: ReplicaKey) -> TwinChild:
        assert key == KEY
        self.children.append(TwinChild(100 + len(self.children)))
        return self.children[-1]

    @property
    def child(self) -> TwinChild:
        return self.children[-1]

    def tick(self, now_s: float) -> list[object]:
        return list(self.workers.tick([KEY], now_s))

    def state(self) -> tuple[Endpoint | None, int, str]:
        (state,) = self.workers.states()
        return state.endpoint, state.boot_id, state.status.error

    def open(self, now_s: float) -> None:
        self.child.end.send(ch.Opened(port=5000, raft_port=5001, boot_id=77))
        self.tick(now_s)
        self.workers.announce(KEY)


@pytest.fixture
def host() -> Iterator[Host]:
    host = Host()
    host.tick(0.0)
    yield host
    for child in host.children:
        if child.code is None:
            child.end.close()
        child.close()


def test_an_opened_worker_is_found_only_once_meta_json_knows_it(host: Host) -> None:
    assert host.state() == (None, 0, "starting")
    host.child.end.send(ch.Opened(port=5000, raft_port=5001, boot_id=77))
    assert host.tick(0.1) == [OpenedReplica(KEY)]
    assert host.state() == (None, 0, "")
    host.workers.announce(KEY)
    assert host.state() == (Endpoint("127.0.0.1", 5000), 77, "")


def test_a_killed_worker_is_restarted_after_the_shortest_back_off(host: Host) -> None:
    host.open(0.1)
    host.child.exit(-9)
    assert host.tick(WORKER_STABLE_S + 1) == [
        Failure("orders-0", "its worker was ended by signal 9 (Killed)", WORKER_BACKOFF_MIN_S)
    ]
    assert host.state() == (None, 0, "its worker was ended by signal 9 (Killed)")
    due_s = WORKER_STABLE_S + 1 + WORKER_BACKOFF_MIN_S
    host.tick(due_s - 0.01)
    assert len(host.children) == 1
    assert host.workers.next_due_s() == pytest.approx(due_s)
    host.tick(due_s)
    assert len(host.children) == 2


def test_one_that_cannot_start_says_why_and_is_tried_ever_more_seldom(host: Host) -> None:
    now_s, delays = 0.0, []
    for _ in range(12):
        host.child.exit(1, "the log is corrupt")
        (failure,) = host.tick(now_s)
        assert isinstance(failure, Failure)
        assert failure.text == "the log is corrupt"
        assert host.state()[2] == "the log is corrupt"
        delays.append(failure.again_in_s)
        now_s += failure.again_in_s
        host.tick(now_s)
    assert delays[:3] == [WORKER_BACKOFF_MIN_S, 2 * WORKER_BACKOFF_MIN_S, 4 * WORKER_BACKOFF_MIN_S]
    assert delays[-1] == WORKER_BACKOFF_MAX_S
    assert host.workers.settled


def test_one_that_ran_long_starts_again_without_back_off(host: Host) -> None:
    now_s = 0.0
    for _ in range(5):
        host.child.exit(1)
        (failure,) = host.tick(now_s)
        assert isinstance(failure, Failure)
        now_s += failure.again_in_s
        host.tick(now_s)
    now_s += WORKER_STABLE_S
    host.child.exit(1)
    (failure,) = host.tick(now_s)
    assert isinstance(failure, Failure)
    assert failure.again_in_s == WORKER_BACKOFF_MIN_S


def test_a_worker_that_dies_leads_nothing_any_more(host: Host) -> None:
    host.open(0.1)
    status = ReplicaStatus(topic="orders", topic_id=SPEC.topic_id, partition=0, node_id=1, role=Role.LEADER)
    host.child.end.send(ch.Report(status=status))
    host.tick(0.2)
    assert host.workers.states()[0].status.role is Role.LEADER
    host.child.exit(-9)
    host.tick(0.3)
    assert host.workers.states()[0].status.role is Role.FOLLOWER


def test_others_hear_at_once_who_leads_and_later_how_much_there_is(host: Host) -> None:
    host.open(0.1)
    status = ReplicaStatus(topic="orders", topic_id=SPEC.topic_id, partition=0, node_id=1, leader_epoch=1)
    host.child.end.send(ch.Report(status=status))
    host.tick(0.2)
    host.workers.changed = False
    host.child.end.send(ch.Report(status=msgspec.structs.replace(status, high_watermark=10)))
    host.tick(0.3)
    assert not host.workers.changed
    host.child.end.send(ch.Report(status=msgspec.structs.replace(status, role=Role.LEADER)))
    host.tick(0.4)
    assert host.workers.changed


def test_a_stopped_worker_is_asked_first_and_killed_when_its_time_is_over(host: Host) -> None:
    host.open(0.1)
    host.workers.stop(KEY, 1.0)
    assert any(isinstance(message, ch.Stop) for message in host.child.end.receive())
    host.tick(1.0 + WORKER_STOP_S - 0.1)
    assert not host.child.killed
    host.tick(1.0 + WORKER_STOP_S)
    assert host.child.killed
    host.tick(1.1 + WORKER_STOP_S)
    assert host.tick(1.2 + WORKER_STOP_S) == []
    assert not host.workers.specs


def test_a_deleted_replica_and_a_stopped_node_are_told_apart() -> None:
    for end, deleted in (
        (lambda host: host.workers.stop(KEY, 1.0), True),
        (lambda host: host.workers.stop_all(1.0), False),
    ):
        host = Host()
        host.tick(0.0)
        end(host)
        host.child.exit(0)
        assert host.tick(1.1) == [Ended(KEY, deleted)]
        host.child.close()


def test_a_restarted_worker_is_told_where_the_others_are(host: Host) -> None:
    peers = [(2, Endpoint("127.0.0.1", 6000), 5)]
    host.workers.tell_peers(KEY, list(peers))
    host.open(0.1)
    assert [m.replicas for m in host.child.end.receive() if isinstance(m, ch.Reachable)] == [peers]
    host.workers.tell_peers(KEY, list(peers))
    assert host.child.end.receive() == []
    host.child.exit(-9)
    host.tick(0.2)
    host.tick(1.0)
    host.open(1.1)
    assert [m.replicas for m in host.child.end.receive() if isinstance(m, ch.Reachable)] == [peers]


def _asleep(host: Host, now_s: float, peers: list[tuple[int, Endpoint | None, int]]) -> None:
    """Its worker reports that the group sleeps, and has read all that it was told."""
    host.workers.tell_peers(KEY, peers)
    host.open(now_s)
    status = msgspec.structs.replace(_status(), role=Role.FOLLOWER, leader_id=2, asleep=True)
    host.child.end.send(ch.Report(status=status))
    host.tick(now_s)
    host.child.end.receive()


def _status() -> ReplicaStatus:
    return ReplicaStatus(topic=SPEC.topic, topic_id=SPEC.topic_id, partition=0, node_id=1)


def test_a_sleeper_is_asked_for_a_word_and_one_that_owes_it_is_told_to_be_gone_until_it_says_one(host: Host) -> None:
    _asleep(host, 1.0, [])
    host.tick(1.0 + SLEEPER_WORD_S)
    assert host.child.end.receive() == [ch.Ping()]
    host.tick(1.0 + SLEEPER_WORD_S + SLEEPER_HANGS_S - 0.1)
    assert host.state() == (Endpoint("127.0.0.1", 5000), 77, "")
    assert host.tick(1.1 + SLEEPER_WORD_S + SLEEPER_HANGS_S) == [Hangs("orders-0")]
    assert host.state() == (None, 0, "its worker hangs: it gives no sign of life")
    host.child.end.send(ch.Pong())
    host.tick(20.0)
    assert host.state() == (Endpoint("127.0.0.1", 5000), 77, "")


def test_a_sleeper_that_says_its_word_is_asked_again_after_a_while_and_no_one_that_is_awake(host: Host) -> None:
    _asleep(host, 1.0, [])
    for number in range(1, 4):
        host.tick(1.0 + number * SLEEPER_WORD_S)
        assert host.child.end.receive() == [ch.Ping()]
        host.child.end.send(ch.Pong())
        assert host.tick(1.5 + number * SLEEPER_WORD_S) == []
        assert host.child.end.receive() == []
    host.child.end.send(ch.Report(status=_status()))
    host.tick(45.0)
    host.tick(45.0 + 2 * SLEEPER_WORD_S)
    assert host.child.end.receive() == []
    assert host.workers.next_due_s() == NEVER_S


def test_a_node_that_blinks_wakes_no_sleeper_whose_turn_had_not_come(host: Host) -> None:
    there, gone = [(2, Endpoint("127.0.0.1", 6000), 5)], [(2, None, 0)]
    _asleep(host, 1.0, list(there))
    host.workers.tell_peers(KEY, list(gone))
    assert host.child.end.receive() == []
    host.workers.tell_peers(KEY, list(there))
    host.tick(1.0)
    assert host.child.end.receive() == []
    host.workers.tell_peers(KEY, list(gone), [2])
    host.tick(1.5)
    assert host.child.end.receive() == [ch.Reachable(replicas=gone, silent=[2])]


def test_messages_larger_than_a_socket_s_buffer_arrive_whole() -> None:
    ours, theirs = socket.socketpair()
    sender: ch.Channel[ch.ToWorker] = ch.Channel(ours, ch.ToWorker)
    receiver: ch.Channel[ch.ToSupervisor] = ch.Channel(theirs, ch.ToSupervisor)
    image = os.urandom(3_000_000)
    sender.send(ch.ImageReport(image=image))
    sender.send(ch.Opened(port=1, raft_port=3, boot_id=2))
    received: list[ch.ToSupervisor] = []
    while len(received) < 2:
        sender.flush()
        received += receiver.receive()
    assert received == [ch.ImageReport(image=image), ch.Opened(port=1, raft_port=3, boot_id=2)]
    assert not sender.pending
    sender.close()
    assert receiver.receive() == []
    assert receiver.closed
    receiver.close()
