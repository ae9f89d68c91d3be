"""Each guard of docs/consensus.md by itself: a test that holds with it, and does not without it.

G9 and G10 are overrides of pysyncobj, so what is taken out there are the overrides. The others go as the simulator
takes them out (`raftlog.simulator.sabotage`), and tests/simulator/test_guards.py shows what happens then.
"""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from pysyncobj import SyncObj

from raftlog import limits
from raftlog.consensus import elections
from raftlog.consensus.progress import Mode
from raftlog.errors import RaftlogError
from raftlog.protocol import raft as r
from raftlog.simulator.sabotage import GUARDS, without
from raftlog.storage.simulated_disk import SimulatedDisk
from raftlog.storage.witness_log import WitnessLog
from raftlog.types import Doubt, Role
from tests.consensus.messages import appended, cluster_with_leader, entries_of, head, sent_to
from tests.partition.harness import TOPIC_ID, Cluster, batch, produce

_opened: list[str] = []


def g1_a_duplicate_does_not_cut_what_came_after_it() -> None:
    cluster, leader, follower = cluster_with_leader()
    appended(cluster, leader, b"a", b"b", b"c")
    before = follower.log.last_index
    first = leader.log.read_entries(3, 10)
    old = entries_of(cluster, leader, follower, after=(2, 1), count=first.count, starts=first.epoch_starts)
    follower.replica.on_raft(old, bytes(first.payload))
    follower.replica.turn()
    assert follower.log.last_index == before
    assert follower.log.state.truncations == 0


def g2_a_tail_that_the_message_did_not_show_is_not_committed() -> None:
    """The follower has an entry of the last leader; the new one has not compared it and commits its own up to there."""
    cluster, leader, follower = cluster_with_leader()
    leader.request("c", produce(1), [batch(b"only here")])
    leader.replica.turn()
    tail = leader.log.last_index
    [sent] = [item for item in cluster.queue if item[1] == follower.node_id and item[2].entries]
    follower.replica.on_raft(sent[2], sent[3])
    assert (follower.log.last_index, follower.replica.member.commit_index) == (tail, tail - 1)
    heartbeat = entries_of(cluster, leader, follower, after=(tail - 1, 1), count=0, commit=tail + 5, term=2)
    follower.replica.on_raft(heartbeat, None)
    assert follower.replica.member.commit_index == tail - 1


def g3_an_answer_of_an_older_term_counts_for_nothing() -> None:
    cluster, leader, _ = cluster_with_leader()
    cluster.away = set(cluster.nodes) - {leader.node_id}
    leader.request("c", produce(1), [batch(b"a")])
    cluster.settle()
    term = leader.log.state.term
    for source in cluster.away:
        stale = head(cluster, source, leader.node_id, term - 1)
        leader.replica.on_raft(r.AppendResponse(*stale, 10**6, True, leader.log.last_index, 0, Doubt.NONE), None)
    leader.replica.turn()
    assert leader.results() == []
    for source in cluster.away:
        fresh = head(cluster, source, leader.node_id, term)
        leader.replica.on_raft(r.AppendResponse(*fresh, 10**6, True, leader.log.last_index, 0, Doubt.NONE), None)
    leader.replica.turn()
    assert [result.error_code for result in leader.results()] == [0]


def g4_what_is_in_flight_is_bounded_and_not_sent_again() -> None:
    cluster, leader, follower = cluster_with_leader()
    cluster.away = set(cluster.nodes) - {leader.node_id}
    assert leader.replica.member.role._progress[follower.node_id].mode is Mode.REPLICATE
    for number in range(limits.APPEND_WINDOW_MESSAGES + 6):
        leader.request("c", produce(number), [batch(b"a")])
        leader.replica.turn()
    carried = [m.prev_index + 1 for m in sent_to(cluster, follower.node_id, r.AppendEntries) if m.entries]
    assert len(carried) == len(set(carried)) == limits.APPEND_WINDOW_MESSAGES


def g5_what_was_acknowledged_outlives_a_power_failure_of_all() -> None:
    cluster, leader, _ = cluster_with_leader()
    appended(cluster, leader, b"a")
    assert [result.error_code for result in leader.results()] == [0]
    acknowledged = leader.log.last_index
    cluster.power_failure(None)
    assert [node.log.last_index for node in cluster.nodes.values()] == [acknowledged] * 3


def g6_a_vote_outlives_its_process() -> None:
    cluster = Cluster(3)
    node = cluster.nodes[1]
    node.replica.on_raft(r.VoteRequest(*head(cluster, 2, 1, 7), 1, 0, False), None)
    node.replica.turn()
    assert [m.granted for m in sent_to(cluster, 2, r.VoteResponse)] == [True]
    cluster.power_failure(None)
    node.replica.on_raft(r.VoteRequest(*head(cluster, 3, 1, 7), 1, 0, False), None)
    node.replica.turn()
    assert [m.granted for m in sent_to(cluster, 3, r.VoteResponse)] == [False]


def g7_a_doubtful_vote_makes_no_majority() -> None:
    cluster = Cluster(3)
    node = cluster.nodes[1]
    cluster.away = {2, 3}
    group = node.replica.member
    group._elections.expire()
    node.replica.turn()
    assert group.role.kind is Role.CANDIDATE
    node.replica.on_raft(r.VoteResponse(*head(cluster, 2, 1, group.term), True, Doubt.CUT_TAIL, 1), None)
    assert group.role.kind is Role.CANDIDATE


def g8_a_log_that_ends_below_its_commit_bound_is_doubtful() -> None:
    cluster, leader, follower = cluster_with_leader()
    appended(cluster, leader, b"a", b"b")
    cluster.settle(2.0)  # the commit bound is written
    path, data = next(item for item in sorted(follower.disk.files().items()) if item[0].endswith(".log"))
    follower.disk.truncate_durable(path, len(data) // 2)  # between the two batches: nothing is torn
    follower.disk.restart()
    follower.start()
    assert follower.log.state.commit_bound > follower.log.last_index
    assert follower.log.state.doubt is Doubt.SHORT


def g9_pysyncobj_deletes_nothing() -> None:
    core = _core()
    with pytest.raises(AssertionError):
        core._SyncObj__raftLog.deleteEntriesTo(5)
    with pytest.raises(AssertionError):
        core._SyncObj__deleteEntriesTo(5)


def g10_no_byte_of_an_entry_is_unpickled() -> None:
    core = _core()
    _opened.clear()
    with suppress(KeyError):  # of what was unpickled: no such command
        core._SyncObj__doApplyCommand(b"\0" + pickle.dumps(_Pickled()))
    assert _opened == []


def g11_followers_of_a_living_leader_refuse_a_prevote_and_ignore_a_vote() -> None:
    cluster, leader, follower = cluster_with_leader()
    other = next(n for n in cluster.nodes.values() if n not in (leader, follower))
    term = follower.log.state.term
    cluster.settle(0.4)
    cluster.queue.clear()
    last = (other.log.last_index, other.log.last_term)
    asked = r.PreVoteRequest(*head(cluster, other.node_id, follower.node_id, term), term + 1, *last)
    follower.replica.on_raft(asked, None)
    vote = r.VoteRequest(*head(cluster, other.node_id, follower.node_id, term + 1), *last, False)
    follower.replica.on_raft(vote, None)
    follower.replica.turn()
    [answer] = sent_to(cluster, other.node_id, r.PreVoteResponse)
    assert not answer.granted
    assert sent_to(cluster, other.node_id, r.VoteResponse) == []
    assert follower.log.state.term == term


CLAIMS: dict[str, Callable[[], None]] = {
    "G1": g1_a_duplicate_does_not_cut_what_came_after_it,
    "G2": g2_a_tail_that_the_message_did_not_show_is_not_committed,
    "G3": g3_an_answer_of_an_older_term_counts_for_nothing,
    "G4": g4_what_is_in_flight_is_bounded_and_not_sent_again,
    "G5": g5_what_was_acknowledged_outlives_a_power_failure_of_all,
    "G6": g6_a_vote_outlives_its_process,
    "G7": g7_a_doubtful_vote_makes_no_majority,
    "G8": g8_a_log_that_ends_below_its_commit_bound_is_doubtful,
    "G9": g9_pysyncobj_deletes_nothing,
    "G10": g10_no_byte_of_an_entry_is_unpickled,
    "G11": g11_followers_of_a_living_leader_refuse_a_prevote_and_ignore_a_vote,
}
# What pysyncobj does of itself, where raftlog overrides it.
OVERRIDES = {
    "G9": [(elections._Core, "_SyncObj__deleteEntriesTo"), (elections._Journal, "deleteEntriesTo")],
    "G10": [(elections._Core, "_SyncObj__doApplyCommand")],
}


def test_each_guard_has_a_claim() -> None:
    assert list(CLAIMS) == [f"G{number}" for number in range(1, 12)]
    assert set(CLAIMS) == {*OVERRIDES, *(guard for guard in GUARDS if guard.startswith("G"))}  # H: of hosts


@pytest.mark.parametrize("guard", CLAIMS)
def test_it_holds(guard: str) -> None:
    CLAIMS[guard]()


@pytest.mark.parametrize("guard", CLAIMS)
def test_it_does_not_hold_without_the_guard(guard: str) -> None:
    with _without(guard), pytest.raises((AssertionError, RaftlogError, pytest.fail.Exception)):
        CLAIMS[guard]()


@contextmanager
def _without(guard: str) -> Iterator[None]:
    if guard in GUARDS:
        with without(guard):
            yield
        return
    with pytest.MonkeyPatch.context() as patch:
        for owner, name in OVERRIDES[guard]:
            patch.setattr(owner, name, getattr(SyncObj, name, lambda self, index: None))
        yield


def _core() -> Any:
    log = WitnessLog.open(disk=SimulatedDisk(), directory="orders-0", topic_id=TOPIC_ID)
    return elections.Elections(1, log, random.Random(1), 5.0)._core


class _Pickled:
    def __reduce__(self) -> Any:
        return _note_opened, ()


def _note_opened() -> None:
    _opened.append("unpickled")
