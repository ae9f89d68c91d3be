"""The group coordinator over real replicas: who answers, what goes into one entry, and what a failover finds."""

from __future__ import annotations

from typing import Any

import pytest

from raftlog import limits
from raftlog.coordinator.coordinator import Coordinator
from raftlog.coordinator.records import OffsetKey, OffsetValue, encode
from raftlog.errors import ErrorCode
from raftlog.machine.host import Host
from raftlog.protocol import groups as g
from raftlog.protocol.envelope import Request
from tests.partition.harness import PLACE, TOPIC_ID, Cluster, Node
from tests.requests import request_of


class Hosts:
    """A coordinator's host beside each replica of a cluster."""

    def __init__(self, nodes: int = 1, **config: int) -> None:
        self.cluster = Cluster(nodes, **config)
        self.answers: list[tuple[Request[Any], Any]] = []
        self.coordinators: dict[int, Coordinator] = {}
        self.hosts = {node_id: self._host(node) for node_id, node in self.cluster.nodes.items()}
        self._last_id = 0

    def _host(self, node: Node) -> Host:
        self.coordinators[node.node_id] = Coordinator(lambda name: f"{name}-{self.cluster.rng.getrandbits(64)}")
        return Host(
            replica=node.replica,
            machine=self.coordinators[node.node_id],
            clock=self.cluster.clock,
            answer=lambda request, response: self.answers.append((request, response)),
        )

    def restart(self, node_id: int) -> None:
        self.cluster.nodes[node_id].start()
        self.hosts[node_id] = self._host(self.cluster.nodes[node_id])

    def turns(self, seconds: float = 0.3) -> None:
        end_s = self.cluster.clock.monotonic_s() + seconds
        while self.cluster.clock.monotonic_s() <= end_s:
            self.cluster.settle(0.05)
            for node_id, host in self.hosts.items():
                if node_id not in self.cluster.away:
                    host.after_turn()

    def leader(self) -> int:
        node_id = self.cluster.leader().node_id
        self.turns()
        return node_id

    def send(self, node_id: int, make: Any, **fields: Any) -> int:
        self._last_id += 1
        place = {**PLACE, **{name: fields.pop(name) for name in tuple(fields) if name in PLACE}}
        body = make(**{"group_id": "readers", **fields})
        self.hosts[node_id].on_request(request_of(body, self._last_id, **place))
        return self._last_id

    def ask_for_groups(self, node_id: int) -> int:
        self._last_id += 1
        self.hosts[node_id].on_request(request_of(g.ListGroupsRequest(), self._last_id, **PLACE))
        return self._last_id

    def commit(self, node_id: int, offset: int, partition: int = 0) -> int:
        committed = g.CommittedOffset(topic="orders", topic_id=TOPIC_ID, partition=partition, offset=offset)
        return self.send(node_id, g.OffsetCommitRequest, offsets=[committed])

    def answer(self, correlation_id: int) -> Any:
        """The only one."""
        found = [response for request, response in self.answers if request.correlation_id == correlation_id]
        assert len(found) == 1, found
        return found[0]

    def fetched(self, node_id: int) -> dict[int, int]:
        sent = self.send(node_id, g.OffsetFetchRequest)
        self.turns()
        answer = self.answer(sent)
        assert not answer.error_code, answer
        return {committed.partition: committed.offset for committed in answer.offsets}


def test_what_comes_in_one_turn_is_one_entry_and_more_may_be_in_flight() -> None:
    hosts = Hosts(3)
    leader = hosts.leader()
    log = hosts.cluster.nodes[leader].log
    before = log.last_index
    hosts.cluster.away = {1, 2, 3} - {leader}
    for turn in range(3):
        sent = [hosts.commit(leader, 10 * turn + partition, partition) for partition in range(20)]
        hosts.hosts[leader].after_turn()
        hosts.cluster.settle()
        hosts.hosts[leader].after_turn()
    assert log.last_index - before == 3
    assert not [response for request, response in hosts.answers if request.correlation_id in sent]
    hosts.cluster.away = set()
    hosts.turns()
    assert hosts.answer(sent[-1]).error_code == 0
    assert hosts.fetched(leader) == {partition: 20 + partition for partition in range(20)}


def test_a_large_heap_of_commits_is_divided_between_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PROPOSED_BATCH_BYTES", 300)
    hosts = Hosts()
    leader = hosts.leader()
    before = hosts.cluster.nodes[leader].log.last_index
    sent = [hosts.commit(leader, 1, partition) for partition in range(12)]
    hosts.turns()
    assert 3 <= hosts.cluster.nodes[leader].log.last_index - before <= 6
    assert [hosts.answer(number).error_code for number in sent] == [0] * 12


def test_only_a_leader_with_its_whole_log_applied_coordinates() -> None:
    hosts = Hosts(3)
    leader = hosts.cluster.leader().node_id
    other = leader % 3 + 1
    refused, loading = hosts.commit(other, 1), hosts.commit(leader, 1)
    assert hosts.answer(refused).error_code == ErrorCode.NOT_COORDINATOR
    assert hosts.answer(loading).error_code == ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
    hosts.turns()
    taken = hosts.commit(leader, 1)
    hosts.turns()
    assert hosts.answer(taken).error_code == 0
    foreign = hosts.send(leader, g.HeartbeatRequest, topic_id=b"another's id    ", generation_id=1, member_id="m")
    assert hosts.answer(foreign).error_code == ErrorCode.INCONSISTENT_TOPIC_ID
    foreign = hosts.send(leader, g.HeartbeatRequest, partition=5, generation_id=1, member_id="m")
    assert hosts.answer(foreign).error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


def test_a_long_log_is_applied_over_many_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    hosts = Hosts()
    leader = hosts.leader()
    for offset in range(50):
        hosts.commit(leader, offset, offset % 5)
        hosts.turns(0)
    hosts.turns()
    monkeypatch.setattr(limits, "REPLAY_BYTES", 300)
    hosts.restart(leader)
    assert hosts.cluster.leader().node_id == leader
    hosts.hosts[leader].after_turn()
    assert hosts.answer(hosts.commit(leader, 1)).error_code == ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
    turns = 0
    while hosts.hosts[leader].next_deadline_s() == 0:
        hosts.hosts[leader].after_turn()
        turns += 1
    assert turns > 5
    assert hosts.fetched(leader) == {partition: 45 + partition for partition in range(5)}


def test_a_new_leader_goes_on_with_what_was_committed_and_the_old_one_answers_what_waits() -> None:
    hosts = Hosts(3)
    old = hosts.leader()
    hosts.commit(old, 5)
    hosts.turns()
    others = {1, 2, 3} - {old}
    # Cut off, it takes a commit that nobody else will ever see.
    hosts.cluster.away = others
    lost, joining = hosts.commit(old, 6), _join(hosts, old)
    hosts.hosts[old].after_turn()
    hosts.cluster.settle(0.1)
    hosts.cluster.away = {old}
    new = hosts.leader()
    assert new != old
    assert hosts.fetched(new) == {0: 5}
    hosts.cluster.away = set()
    hosts.turns(2)
    assert hosts.answer(lost).error_code == ErrorCode.REQUEST_TIMED_OUT
    assert hosts.answer(joining).error_code == ErrorCode.MEMBER_ID_REQUIRED
    assert hosts.answer(hosts.commit(old, 7)).error_code == ErrorCode.NOT_COORDINATOR
    assert hosts.fetched(new) == {0: 5}


def _join(hosts: Hosts, node_id: int) -> int:
    options = {"session_timeout_ms": 10_000, "rebalance_timeout_ms": 10_000, "protocol_type": "consumer"}
    return hosts.send(node_id, g.JoinGroupRequest, member_id="", protocols=[("range", b"")], **options)


def test_a_leader_that_was_replaced_without_knowing_tells_no_old_offsets() -> None:
    hosts = Hosts(3)
    old = hosts.leader()
    hosts.commit(old, 5)
    hosts.turns()
    hosts.cluster.away = {old}
    new = hosts.leader()
    hosts.commit(new, 6)
    hosts.turns()
    # The old one wakes up, and believes in itself for another moment.
    asked = hosts.send(old, g.OffsetFetchRequest)
    hosts.hosts[old].after_turn()
    hosts.cluster.away = {1, 2, 3} - {old}
    hosts.turns(0.2)
    hosts.cluster.away = set()
    hosts.turns(2)
    assert hosts.answer(asked).error_code == ErrorCode.NOT_COORDINATOR
    assert hosts.fetched(new) == {0: 6}


@pytest.mark.parametrize(
    ("make", "fields"),
    [
        (g.DescribeGroupRequest, {"group_id": "newer"}),
        (g.ListGroupsRequest, {}),
        (g.DeleteGroupRequest, {"group_id": "newer", "version": b""}),
        (g.HeartbeatRequest, {"member_id": "m", "generation_id": 1}),
        (g.SyncGroupRequest, {"member_id": "m", "generation_id": 1}),
        (g.LeaveGroupRequest, {"members": [g.LeavingMember(member_id="m")]}),
        (g.OffsetCommitRequest, {"member_id": "m", "generation_id": 1, "offsets": []}),
    ],
    ids=lambda found: found.__name__ if isinstance(found, type) else "",
)
def test_a_leader_that_was_replaced_without_knowing_denies_nothing(make: Any, fields: dict[str, Any]) -> None:
    """A member that is told that it is none gives its share up, and a group that is denied begins anew."""
    hosts = Hosts(3)
    old = hosts.leader()
    hosts.cluster.away = {old}
    new = hosts.leader()
    committed = g.CommittedOffset(topic="orders", topic_id=TOPIC_ID, partition=0, offset=1)
    hosts.send(new, g.OffsetCommitRequest, group_id="newer", offsets=[committed])
    hosts.turns()
    if make is g.ListGroupsRequest:
        asked = hosts.ask_for_groups(old)
    else:
        asked = hosts.send(old, make, **fields)
    hosts.hosts[old].after_turn()
    assert not [response for request, response in hosts.answers if request.correlation_id == asked]
    hosts.cluster.away = set()
    hosts.turns(2)
    assert hosts.answer(asked).error_code == ErrorCode.NOT_COORDINATOR


def test_what_a_coordinator_denies_is_said_once_a_majority_has_answered() -> None:
    hosts = Hosts(3)
    leader = hosts.leader()
    described = hosts.send(leader, g.DescribeGroupRequest)
    deleted = hosts.send(leader, g.DeleteGroupRequest, version=b"")
    beat = hosts.send(leader, g.HeartbeatRequest, member_id="m", generation_id=1)
    hosts.turns()
    assert hosts.answer(described).state == "Dead"
    assert hosts.answer(deleted).error_code == ErrorCode.GROUP_ID_NOT_FOUND
    assert hosts.answer(beat).error_code == ErrorCode.UNKNOWN_MEMBER_ID


def test_a_disk_without_room_refuses_commits_and_takes_them_again_when_there_is_some() -> None:
    hosts = Hosts()
    leader = hosts.leader()
    hosts.cluster.nodes[leader].disk.full = True
    refused = hosts.commit(leader, 5)
    hosts.turns()
    assert hosts.answer(refused).error_code == ErrorCode.COORDINATOR_NOT_AVAILABLE
    assert hosts.fetched(leader) == {}
    hosts.cluster.nodes[leader].disk.full = False
    hosts.turns(limits.DISK_RETRY_S)
    taken = hosts.commit(leader, 6)
    hosts.turns()
    assert hosts.answer(taken).error_code == 0
    assert hosts.fetched(leader) == {0: 6}


def test_the_worker_may_sleep_until_the_next_session_ends_and_no_longer() -> None:
    hosts = Hosts()
    leader = hosts.leader()
    assert hosts.hosts[leader].next_deadline_s() > hosts.cluster.clock.monotonic_s() + 500
    asked_s = hosts.cluster.clock.monotonic_s()
    _join(hosts, leader)
    assert hosts.hosts[leader].next_deadline_s() == asked_s + 10


def test_a_log_whose_head_is_gone_is_applied_from_its_start() -> None:
    hosts = Hosts(segment_bytes=1024)
    leader = hosts.leader()
    for offset in range(40):
        hosts.commit(leader, offset, offset % 5)
        hosts.turns(0)
    hosts.turns()
    log = hosts.cluster.nodes[leader].log
    log.state.write_commit_bound()
    log.delete_head(30)
    assert log.state.log_start_offset > 5
    hosts.restart(leader)
    hosts.leader()
    assert hosts.fetched(leader) == {partition: 35 + partition for partition in range(5)}


def test_a_log_that_was_cut_is_applied_again_from_its_start() -> None:
    """An accepted loss may take back what was committed; what it took must not be remembered."""
    hosts = Hosts(3)
    old = hosts.leader()
    hosts.commit(old, 5)
    hosts.turns()
    stale = (
        encode(OffsetKey("readers", "orders", 1)),
        encode(OffsetValue(topic_id=TOPIC_ID, offset=9, leader_epoch=-1, metadata="", committed_ms=0)),
    )
    hosts.coordinators[old].committed.apply(*stale)
    hosts.cluster.away = {1, 2, 3} - {old}
    hosts.commit(old, 6)
    hosts.turns(0.1)
    hosts.cluster.away = {old}
    new = hosts.leader()
    hosts.commit(new, 7)
    hosts.turns()
    hosts.cluster.away = set()
    hosts.turns(2)
    assert hosts.cluster.nodes[old].log.state.truncations > 0
    assert hosts.fetched(hosts.leader()) == {0: 7}
    assert hosts.coordinators[old].committed.facts == 1
