"""Groups of real members with witnesses: what a witness is sent, keeps, refuses and never does."""

from __future__ import annotations

from typing import Any

import pytest

from raftlog import limits
from raftlog.consensus.in_sync import InSync
from raftlog.consensus.witness_feed import WitnessFeed
from raftlog.errors import ErrorCode
from raftlog.protocol import raft as r
from raftlog.types import Role
from tests.partition.harness import TOPIC_ID, Cluster, Node, batch, fetch, produce


def group_of_three() -> tuple[Cluster, Node, Node, Node]:
    """A leader and a follower with records, and a witness; the no-op is on all three."""
    cluster = Cluster(3, witnesses=1)
    leader = cluster.leader()
    cluster.settle(1.0)
    follower = next(cluster.nodes[n] for n in cluster.spec.replicas if n != leader.node_id)
    return cluster, leader, follower, cluster.nodes[3]


def append(node: Node, *values: bytes) -> None:
    for value in values:
        node.request("c", produce(len(node.results())), [batch(value)])


def gone(cluster: Cluster, node: Node) -> None:
    """Its process ended, and the others know."""
    cluster.away.add(node.node_id)
    for other in cluster.nodes.values():
        if other is not node:
            other.replica.set_peer(node.node_id, 0)


def back(cluster: Cluster, node: Node) -> None:
    cluster.away.discard(node.node_id)
    node.start()
    for other in cluster.nodes.values():
        if other is not node:
            other.replica.set_peer(node.node_id, node.boot_id)
            node.replica.set_peer(other.node_id, other.boot_id if other.node_id not in cluster.away else 0)


def terms(node: Node) -> list[int]:
    return [node.log.term_at(index) for index in range(1, node.log.last_index + 1)]


def test_a_witness_counts_every_entry_and_keeps_no_record() -> None:
    cluster, leader, _, witness = group_of_three()
    append(leader, *(b"x" * 1000 for _ in range(50)))
    cluster.settle(1.0)
    assert terms(witness) == terms(leader)
    assert witness.replica.member.commit_index == leader.log.last_index
    assert sum(len(data) for data in witness.disk.files().values()) < 1000
    assert sum(len(data) for data in leader.disk.files().values()) > 50_000


def test_a_witness_is_sent_no_payload() -> None:
    cluster, leader, _, _ = group_of_three()
    sent: list[tuple[int, Any]] = []
    send = cluster.nodes[leader.node_id].send_raft
    leader.replica.member._links._send = lambda to, m, payload: (sent.append((to, payload)), send(to, m, payload))
    append(leader, b"a", b"b")
    cluster.settle(1.0)
    assert [payload for to, payload in sent if to == 3 and payload is not None] == []
    assert [payload for to, payload in sent if to != 3 and payload is not None]


def test_a_witness_is_not_fed_beyond_a_replica_in_sync() -> None:
    cluster, leader, follower, witness = group_of_three()
    before = leader.log.last_index
    cluster.away.add(follower.node_id)  # nobody knows yet
    append(leader, b"a")
    cluster.settle(0.3)
    assert leader.replica.member.in_sync == (1, 2)
    assert leader.log.last_index == before + 1
    assert witness.log.last_index == before
    assert leader.results() == []


def test_when_a_replica_has_left_the_witness_is_fed_and_makes_the_majority() -> None:
    cluster, leader, follower, witness = group_of_three()
    gone(cluster, follower)
    append(leader, b"a")
    cluster.settle()
    assert leader.replica.member.in_sync == (leader.node_id,)
    assert [result.error_code for result in leader.results()] == [ErrorCode.NONE]
    assert witness.log.last_index == leader.log.last_index


def test_the_no_op_of_a_new_leader_is_held_back_too() -> None:
    cluster, leader, follower, witness = group_of_three()
    before = witness.log.last_index
    cluster.away.add(leader.node_id)
    follower.replica.set_peer(leader.node_id, 0)
    witness.replica.set_peer(leader.node_id, 0)
    while not follower.replica.is_leader:
        cluster.settle(0.05)
    cluster.settle()
    assert witness.log.last_index in (before, before + 1)
    group = follower.replica.member
    assert (witness.log.last_index == before + 1) == (leader.node_id not in group.in_sync)


@pytest.mark.parametrize("acked", [True, False])
def test_a_replica_with_records_is_elected_when_the_leader_dies_right_after_feeding(acked: bool) -> None:
    cluster, leader, follower, witness = group_of_three()
    append(leader, b"a", b"b", b"c")
    cluster.settle(0.5 if acked else 0.0)
    gone(cluster, leader)
    new = cluster.leader()
    assert new is follower
    append(new, b"d")
    cluster.settle()
    assert new.results()[-1].error_code == ErrorCode.NONE
    assert terms(witness) == terms(new)[: witness.log.last_index]


def test_without_the_bound_a_faster_witness_blocks_the_election(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, leader, follower, witness = group_of_three()

    def everything(self: WitnessFeed, held_index: int, **how: Any) -> None:
        self.last_index = leader.log.state.synced_index

    monkeypatch.setattr(WitnessFeed, "advance", everything)
    cluster.away.add(follower.node_id)
    append(leader, b"a")
    cluster.settle(0.3)
    gone(cluster, leader)
    cluster.away.discard(follower.node_id)
    assert (witness.log.last_term, witness.log.last_index) > (follower.log.last_term, follower.log.last_index)
    cluster.settle(10.0)
    assert not follower.replica.is_leader


def test_a_partition_waits_for_the_leader_that_was_in_sync_alone_and_goes_on_when_it_is_back() -> None:
    cluster, leader, follower, _ = group_of_three()
    gone(cluster, follower)
    append(leader, b"a")
    cluster.settle(0.2)
    assert [result.error_code for result in leader.results()] == [ErrorCode.NONE]
    gone(cluster, leader)
    back(cluster, follower)
    cluster.settle(10.0)
    assert not follower.replica.is_leader, "it lacks what was acknowledged"
    back(cluster, leader)
    again = cluster.leader()
    assert again is leader
    cluster.settle(2.0)
    again.request("r", fetch(0), [])
    again.replica.turn()
    assert again.answers[-1][1].high_watermark == 1
    assert follower.log.last_index == leader.log.last_index


def test_a_replica_comes_back_in_sync_only_at_what_the_witness_holds() -> None:
    cluster, leader, follower, witness = group_of_three()
    gone(cluster, follower)
    append(leader, *(b"x" for _ in range(20)))
    cluster.settle(0.2)
    back(cluster, follower)
    for _ in range(200):
        cluster.settle()
        if follower.node_id in leader.replica.member.in_sync:
            break
        cluster.clock.advance(0.01)
    assert follower.node_id in leader.replica.member.in_sync
    assert follower.log.state.synced_index >= witness.log.last_index


def test_what_a_witness_was_sent_and_nobody_acknowledged_is_asked_of_who_comes_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []
    update = InSync.update

    def note(self: InSync, progress: Any, told_index: int, now_s: float) -> None:
        asked.append(told_index)
        update(self, progress, told_index, now_s)

    monkeypatch.setattr(InSync, "update", note)
    cluster, leader, follower, witness = group_of_three()
    gone(cluster, follower)
    witness.replica.member._links._send = lambda *message: None  # its answers are lost
    before = leader.replica.member.acked_index
    append(leader, b"a", b"b")
    cluster.settle()
    leader.replica.turn()
    assert witness.log.last_index == leader.log.last_index > before == leader.replica.member.acked_index
    assert asked[-1] == witness.log.last_index


def test_a_witness_never_stands() -> None:
    cluster, leader, follower, witness = group_of_three()
    term = witness.log.state.term
    for node in (leader, follower):
        gone(cluster, node)
    cluster.settle(10.0)
    assert (witness.log.state.term, witness.replica.status().role) == (term, Role.WITNESS)
    asked = r.TimeoutNow(TOPIC_ID, 0, leader.node_id, leader.boot_id, witness.boot_id, term)
    witness.replica.set_peer(leader.node_id, leader.boot_id)
    witness.replica.on_raft(asked, None)
    cluster.settle(2.0)
    assert witness.log.state.term == term


@pytest.mark.parametrize("request_", [produce(1), fetch(0)], ids=["produce", "fetch"])
def test_a_witness_serves_nobody_and_names_the_leader(request_: Any) -> None:
    _, leader, _, witness = group_of_three()
    witness.request("c", request_, [batch(b"a")])
    [(client, response, _)] = witness.answers
    assert (client, response.error_code) == ("c", ErrorCode.NOT_LEADER_OR_FOLLOWER)
    assert response.leader_id == leader.node_id


def test_a_witness_that_cannot_write_says_nothing_and_goes_on_with_room() -> None:
    cluster, leader, follower, witness = group_of_three()
    gone(cluster, follower)
    witness.disk.full = True
    append(leader, b"a")
    cluster.settle(0.2)
    assert leader.results() == []
    assert "no room" in witness.replica.status().error
    witness.disk.full = False
    cluster.settle(3.0)
    assert [result.error_code for result in leader.results()] == [ErrorCode.NONE]
    assert witness.replica.status().error == ""


def test_a_witness_that_lost_its_disk_counts_again_once_it_was_fed() -> None:
    cluster, leader, _, witness = group_of_three()
    append(leader, b"a")
    cluster.settle(1.0)
    gone(cluster, witness)
    witness.disk.wipe("orders-0")
    back(cluster, witness)
    cluster.settle(5.0)
    assert terms(witness) == terms(leader)


def entries_of(leader: Node, witness: Node, term: int, prev: tuple[int, int], count: int, starts: list[Any]) -> Any:
    """`count` entries behind `prev` (index, term), without their records."""
    head = (TOPIC_ID, 0, leader.node_id, leader.boot_id, witness.boot_id, term)
    return r.AppendEntries(*head, 10**6, prev[0], prev[1], 1, count, starts, 0, prev[0] + count, 0)


def test_g1_a_duplicate_cuts_nothing_and_a_conflict_cuts_from_where_the_terms_part() -> None:
    _, leader, follower, witness = group_of_three()
    term = leader.log.state.term
    end = witness.log.last_index
    for count in (4, 2):
        witness.replica.on_raft(entries_of(leader, witness, term, (end, term), count, []), None)
        witness.replica.turn()
        assert witness.log.last_index == end + 4
    assert witness.log.state.truncations == 0
    newer = entries_of(follower, witness, term + 2, (end, term), 3, [(end + 2, term + 1), (end + 3, term + 2)])
    witness.replica.on_raft(newer, None)
    witness.replica.turn()
    assert terms(witness)[end - 1 :] == [term, term, term + 1, term + 2]
    assert witness.log.state.truncations == 1


@pytest.mark.parametrize("starts", [[(1, 2)], [(99, 2)], [(4, 1)], [(5, 9)], [(5, 3), (4, 4)]])
def test_epoch_starts_that_cannot_be_are_refused(starts: list[Any]) -> None:
    cluster, leader, _, witness = group_of_three()
    term, end = leader.log.state.term, witness.log.last_index
    before = terms(witness)
    cluster.queue.clear()
    witness.replica.on_raft(entries_of(leader, witness, term, (end, term), 3, starts), None)
    witness.replica.turn()
    assert terms(witness) == before
    assert [m for *_, m, _ in cluster.queue if isinstance(m, r.AppendResponse) and m.success] == []


def test_a_witness_behind_the_horizon_starts_over_there() -> None:
    cluster = Cluster(3, witnesses=1, segment_bytes=1024, retention_bytes=2048)
    leader = cluster.leader()
    witness = cluster.nodes[3]
    gone(cluster, witness)
    for _ in range(30):
        append(leader, b"x" * 400)
        cluster.settle(limits.HOUSE_S / 4)
    assert leader.log.state.horizon_index > witness.log.last_index + 1
    back(cluster, witness)
    cluster.settle(3.0)
    assert witness.log.last_index == leader.log.last_index
    assert witness.log.last_term == leader.log.last_term
