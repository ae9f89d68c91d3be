"""Groups that sleep: who agrees, what wakes, and that time stands still meanwhile. One test for each rule."""

from __future__ import annotations

from typing import Any

import pytest

from raftlog import limits
from raftlog.consensus.hibernation import Hibernation
from raftlog.errors import ErrorCode
from raftlog.protocol import raft as r
from tests.partition.harness import Cluster, Node, batch, fetch, produce


def all_asleep(nodes: int = 3, **settings: int) -> tuple[Cluster, Node, list[Node]]:
    """A group with a record, which has fallen asleep: the leader and the others."""
    cluster = Cluster(nodes, **settings)
    leader = cluster.leader()
    leader.request("c", produce(1), [batch(b"one")])
    cluster.settle(limits.SLEEP_AFTER_S + 6.0)
    assert {node_id: node.replica.is_asleep for node_id, node in cluster.nodes.items()} == dict.fromkeys(
        cluster.nodes, True
    )
    leader.answers.clear()
    return cluster, leader, [node for node in cluster.nodes.values() if node is not leader]


@pytest.mark.parametrize("settings", [{"nodes": 1}, {"nodes": 3}, {"nodes": 3, "witnesses": 1}, {"nodes": 5}])
def test_a_group_in_which_nothing_happens_falls_silent(settings: dict[str, int]) -> None:
    cluster, leader, _ = all_asleep(**settings)
    assert all(node.replica.next_wakeup_s() == float("inf") for node in cluster.nodes.values())
    cluster.clock.advance(3600)
    cluster.settle(1.0)
    assert not cluster.queue
    assert all(node.replica.is_asleep for node in cluster.nodes.values())
    assert leader.replica.status().asleep


def test_the_first_record_after_an_hour_is_acknowledged_and_nobody_left_the_isr() -> None:
    cluster, leader, others = all_asleep(min_insync_replicas=3)
    term = leader.replica.leader_epoch
    cluster.clock.advance(3600)
    leader.request("c", produce(2), [batch(b"two")])
    cluster.settle()
    assert [result.error_code for result in leader.results()] == [ErrorCode.NONE]
    assert leader.replica.member.in_sync == (1, 2, 3)
    cluster.settle(3.0)
    assert {node.replica.leader_epoch for node in [leader, *others]} == {term}


def test_a_leader_that_slept_answers_nothing_before_a_majority_has() -> None:
    cluster, leader, others = all_asleep()
    cluster.away = {node.node_id for node in others}
    leader.request("c", fetch(0), [])
    leader.request("c", fetch(1), [])
    leader.request("c", produce(2, acks=1), [batch(b"two")])
    leader.request("c", produce(3, acks=0), [batch(b"three")])
    end = leader.log.last_index
    cluster.settle(0.5)
    assert leader.replica.is_leader
    assert not leader.replica.leader_ready
    assert leader.answers == []
    cluster.settle(limits.LEADER_FALLBACK_S)
    assert not leader.replica.is_leader
    assert leader.log.last_index == end
    codes = {response.error_code for _, response, _ in leader.answers}
    assert codes == {ErrorCode.NOT_LEADER_OR_FOLLOWER}
    assert len(leader.answers) == 4


def test_requests_that_wait_for_a_majority_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, leader, others = all_asleep()
    monkeypatch.setattr(limits, "UNANSWERED_PRODUCES_MAX", 2)
    cluster.away = {node.node_id for node in others}
    for number in range(3):
        leader.request("c", produce(number), [batch(b"more")])
    assert [result.error_code for result in leader.results()] == [ErrorCode.THROTTLING_QUOTA_EXCEEDED]
    cluster.away.clear()
    cluster.settle(1.0)
    assert [result.error_code for result in leader.results()[1:]] == [ErrorCode.NONE] * 2


def test_a_follower_that_is_asked_wakes_all_and_the_leader_leads_on() -> None:
    cluster, leader, others = all_asleep()
    term = leader.replica.leader_epoch
    others[0].request("c", produce(2), [batch(b"two")])
    cluster.settle()
    assert not any(node.replica.is_asleep for node in cluster.nodes.values())
    cluster.settle(3.0)
    assert {node.replica.leader_epoch for node in cluster.nodes.values()} == {term}
    assert others[0].results()[0].leader_id == leader.node_id


@pytest.mark.parametrize("boot_id", [0, 4711])
def test_any_change_of_a_members_process_wakes(boot_id: int) -> None:
    _, leader, others = all_asleep()
    others[0].replica.set_peer(leader.node_id, boot_id)
    assert not others[0].replica.is_asleep
    leader.replica.set_peer(others[0].node_id, boot_id)
    assert not leader.replica.is_asleep


def test_a_silent_node_wakes_and_nobody_sleeps_until_it_is_heard() -> None:
    cluster, leader, others = all_asleep()
    others[0].replica.set_silent([others[1].node_id])
    cluster.settle(20.0)
    assert not others[0].replica.is_asleep
    assert not leader.replica.is_asleep
    others[0].replica.set_silent([])
    cluster.settle(20.0)
    assert all(node.replica.is_asleep for node in cluster.nodes.values())


def test_a_silent_node_of_another_group_wakes_nobody() -> None:
    _, leader, _ = all_asleep()
    leader.replica.set_silent([77])
    assert leader.replica.is_asleep


def test_nobody_sleeps_while_one_member_does_not_agree() -> None:
    cluster = Cluster(3)
    leader = cluster.leader()
    others = [node for node in cluster.nodes.values() if node is not leader]
    cluster.settle(7.0)
    cluster.away = {others[1].node_id}
    leader.request("c", produce(1), [batch(b"one")])
    cluster.settle(30.0)
    assert not leader.replica.is_asleep
    assert not others[0].replica.is_asleep


def test_a_waiting_fetch_keeps_its_group_awake() -> None:
    cluster = Cluster(3)
    leader = cluster.leader()
    for _ in range(4):
        leader.request("c", fetch(0, max_wait_ms=5000), [])
        cluster.settle(5.0)
        assert not leader.replica.is_asleep


def test_the_answer_of_an_older_round_counts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """W5b: it arrives after new entries were appended."""
    cluster = Cluster(3)
    leader = cluster.leader()
    held: list[tuple[int, r.SleepRequest]] = []
    send = leader.send_raft

    def keep(node_id: int, message: Any, payload: Any) -> None:
        if isinstance(message, r.SleepRequest):
            held.append((node_id, message))
        else:
            send(node_id, message, payload)

    monkeypatch.setattr(leader.replica.member._links, "_send", keep)
    cluster.settle(limits.SLEEP_AFTER_S + 0.1)
    assert len(held) == 2
    agreed = [
        r.SleepResponse(
            m.topic_id, m.partition, target, m.addressee_boot_id, m.sender_boot_id, m.term, m.sequence, True
        )
        for target, m in held
    ]
    leader.request("c", produce(1), [batch(b"one")])
    for message in agreed:
        leader.replica.on_raft(message, None)
    assert not leader.replica.is_asleep
    cluster.settle(0.1)
    assert [result.error_code for result in leader.results()] == [ErrorCode.NONE]


def test_who_knows_another_process_of_a_member_does_not_agree() -> None:
    cluster = Cluster(3)
    leader = cluster.leader()
    follower, third = [node for node in cluster.nodes.values() if node is not leader]
    follower.replica.set_peer(third.node_id, 4711)
    cluster.settle(30.0)
    assert not leader.replica.is_asleep
    follower.replica.set_peer(third.node_id, third.boot_id)
    cluster.settle(30.0)
    assert leader.replica.is_asleep


def test_what_belongs_to_raftlog_itself_never_sleeps() -> None:
    cluster = Cluster(3)
    for node in cluster.nodes.values():
        node.replica.spec = node.replica.spec.__class__(
            topic="__consumer_offsets",
            topic_id=cluster.spec.topic_id,
            partition=0,
            replicas=cluster.spec.replicas,
        )
    cluster.leader()
    cluster.settle(20.0)
    assert not any(node.replica.is_asleep for node in cluster.nodes.values())


def test_who_was_woken_stays_awake_for_two_election_time_outs() -> None:
    sleep = Hibernation(0.0)
    assert limits.AWAKE_S >= 2 * limits.ELECTION_TIMEOUT_MAX_S
    assert limits.SLEEP_AFTER_S > limits.AWAKE_S
    assert not sleep.may_agree(limits.AWAKE_S - 0.1, [2])
    assert sleep.may_agree(limits.AWAKE_S, [2])
    sleep.fall_asleep(limits.AWAKE_S)
    assert sleep.stir(100.0)
    assert not sleep.may_agree(100.0 + limits.AWAKE_S - 0.1, [2])
    assert not sleep.may_ask(100.0 + limits.SLEEP_AFTER_S - 0.1, [2])


def test_time_stands_still_for_a_sleeper() -> None:
    sleep = Hibernation(0.0)
    sleep.fall_asleep(10.0)
    assert sleep.group_s(3610.0) == 10.0
    sleep.stir(3610.0)
    assert sleep.group_s(3611.0) == 11.0
    assert sleep.clock_s(12.0) == 3612.0
