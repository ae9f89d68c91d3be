"""The acks table of docs/architecture.md, a row at a time, each with the fault that would break it."""

from __future__ import annotations

from raftlog.errors import ErrorCode
from raftlog.protocol.records import ListOffsetsRequest, ListOffsetsResponse
from raftlog.record.batch import numbered
from raftlog.types import LATEST_TIMESTAMP
from tests.partition.harness import PLACE, Cluster, Node, batch, produce
from tests.requests import request_of, session_of


def followers_of(cluster: Cluster, leader: Node) -> list[Node]:
    return [node for node in cluster.nodes.values() if node is not leader]


def ask(leader: Node, correlation_id: int, acks: int = -1, timeout_ms: int = 10_000) -> None:
    leader.request("c", produce(correlation_id, acks, timeout_ms=timeout_ms), [batch(b"x")])


def answer_to(leader: Node, correlation_id: int) -> ErrorCode | None:
    """None while it is not answered."""
    codes = [ErrorCode(r.error_code) for r in leader.results() if r.correlation_id == correlation_id]
    assert len(codes) <= 1, "one answer a request"
    return codes[0] if codes else None


def test_acks_0_is_answered_only_where_it_is_refused() -> None:
    cluster = Cluster(3)
    leader = cluster.leader()
    ask(leader, 1, acks=0)
    cluster.settle(0.5)
    assert (leader.log.log_end_offset, leader.results()) == (1, [])
    leader.disk.full = True
    ask(leader, 2, acks=0)
    cluster.settle(0.5)
    assert [result.error_code for result in leader.results()] == [ErrorCode.KAFKA_STORAGE_ERROR]


def test_acks_1_is_answered_once_durable_here_though_nobody_else_has_it() -> None:
    cluster = Cluster(3)
    leader = cluster.leader()
    cluster.away = {node.node_id for node in followers_of(cluster, leader)}
    ask(leader, 1, acks=1)
    leader.replica.turn()
    assert answer_to(leader, 1) is ErrorCode.NONE
    assert leader.log.state.synced_index == leader.log.last_index


def test_acks_all_waits_for_every_in_sync_replica_though_a_majority_has_committed() -> None:
    cluster = Cluster(3)
    leader = cluster.leader()
    slow = followers_of(cluster, leader)[0]
    cluster.away = {slow.node_id}
    ask(leader, 1)
    cluster.settle(0.2)
    assert leader.replica.high_watermark == 1, "committed by Raft"
    assert answer_to(leader, 1) is None
    cluster.away = set()
    cluster.settle(1.2)  # the lost message is sent again
    assert answer_to(leader, 1) is ErrorCode.NONE
    assert slow.log.log_end_offset == 1


def test_acks_all_goes_on_without_a_follower_that_left_the_isr_and_waits_for_it_again_once_it_is_back() -> None:
    cluster = Cluster(3)
    leader = cluster.leader()
    slow = followers_of(cluster, leader)[0]
    cluster.away = {slow.node_id}
    ask(leader, 1)
    cluster.settle(0.7)
    assert answer_to(leader, 1) is ErrorCode.NONE
    assert slow.node_id not in leader.replica.status().in_sync
    cluster.away = set()
    cluster.settle(2.0)
    assert leader.replica.status().in_sync == (1, 2, 3)
    cluster.away = {slow.node_id}
    ask(leader, 2)
    cluster.settle(0.2)
    assert answer_to(leader, 2) is None


def test_too_few_in_sync_before_the_append_refuses_and_appends_nothing() -> None:
    cluster = Cluster(3, min_insync_replicas=3)
    leader = cluster.leader()
    cluster.away = {followers_of(cluster, leader)[0].node_id}
    cluster.settle(1.0)
    ask(leader, 1)
    ask(leader, 2, acks=1)
    cluster.settle(0.1)
    assert answer_to(leader, 1) is ErrorCode.NOT_ENOUGH_REPLICAS
    assert answer_to(leader, 2) is ErrorCode.NONE, "min_insync_replicas binds acks=all only"
    assert leader.log.log_end_offset == 1


def test_too_few_in_sync_after_the_append_is_an_open_outcome() -> None:
    cluster = Cluster(3, min_insync_replicas=3)
    leader = cluster.leader()
    cluster.away = {followers_of(cluster, leader)[0].node_id}
    ask(leader, 1)
    cluster.settle(1.0)
    assert answer_to(leader, 1) is ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND
    assert leader.log.log_end_offset == 1


def test_a_follower_whose_process_is_gone_leaves_at_once() -> None:
    cluster = Cluster(3)
    leader = cluster.leader()
    gone = followers_of(cluster, leader)[0]
    cluster.away = {gone.node_id}
    leader.replica.set_peer(gone.node_id, 0)
    ask(leader, 1)
    cluster.settle()
    assert answer_to(leader, 1) is ErrorCode.NONE
    assert gone.node_id not in leader.replica.status().in_sync


def test_without_a_majority_acks_all_times_out_and_says_that_the_outcome_is_open() -> None:
    cluster = Cluster(3)
    leader = cluster.leader()
    cluster.away = {node.node_id for node in followers_of(cluster, leader)}
    ask(leader, 1, timeout_ms=500)
    cluster.settle(1.0)
    assert answer_to(leader, 1) is ErrorCode.REQUEST_TIMED_OUT


# --- leadership ------------------------------------------------------------------------------
def test_the_preferred_replica_leads_again_once_it_is_back_and_in_sync() -> None:
    cluster = Cluster(3)
    preferred = cluster.nodes[1]
    assert cluster.leader() is preferred
    cluster.away = {1}
    assert cluster.leader() is not preferred
    cluster.away = set()
    cluster.settle(8.0)
    assert preferred.replica.leader_ready


def test_what_is_sent_during_a_move_is_not_refused_until_the_leader_has_changed() -> None:
    cluster = Cluster(3)
    leader = cluster.leader()
    leader.replica.hand_over()
    cluster.away = {node.node_id for node in followers_of(cluster, leader)}  # nobody takes over
    ask(leader, 1, acks=1)
    cluster.settle(0.05)
    assert answer_to(leader, 1) is None
    cluster.settle(0.2)
    assert answer_to(leader, 1) is ErrorCode.NONE, "the move failed, and appends go on"


def latest(leader: Node) -> None:
    request = request_of(ListOffsetsRequest(timestamp_ms=LATEST_TIMESTAMP), 7, **PLACE)
    leader.request("c", request, [])


def offsets_answers(leader: Node) -> list[ListOffsetsResponse]:
    return [response for _, response, _ in leader.answers if isinstance(response, ListOffsetsResponse)]


def test_the_end_of_the_log_waits_for_a_majority_to_answer() -> None:
    cluster = Cluster(3)
    leader = cluster.leader()
    latest(leader)
    leader.replica.turn()
    assert offsets_answers(leader) == []
    cluster.settle()
    assert offsets_answers(leader)[-1].error_code == 0


def test_a_single_replica_confirms_itself() -> None:
    cluster = Cluster(1)
    leader = cluster.leader()
    latest(leader)
    leader.replica.turn()
    assert offsets_answers(leader)[-1].error_code == 0


def test_a_new_leader_does_not_wait_for_the_old_one_when_that_is_known_to_be_gone() -> None:
    cluster = Cluster(3)
    old = cluster.leader()
    cluster.away = {old.node_id}
    rest = followers_of(cluster, old)
    for node in rest:
        node.replica.set_peer(old.node_id, 0)
    while not any(node.replica.is_leader for node in rest):
        cluster.settle(0.01)
    new = next(node for node in rest if node.replica.is_leader)
    ask(new, 1)
    cluster.settle(0.05)
    assert answer_to(new, 1) is ErrorCode.NONE
    assert old.node_id not in new.replica.status().in_sync


# --- what is under way of a connection with acks=0 -------------------------------------------------
def under_way(client: str) -> tuple[int, int]:
    session = session_of(client)
    return session.unacknowledged, session.unacknowledged_bytes


def silently(leader: Node, client: str, *frames: bytes) -> int:
    """Bytes of what was sent."""
    for frame in frames:
        leader.request(client, produce(1, 0), [frame])
    return sum(map(len, frames))


def test_acks_0_is_under_way_until_every_in_sync_replica_has_it() -> None:
    cluster = Cluster(3)
    leader = cluster.leader()
    slow = followers_of(cluster, leader)[0]
    cluster.away = {slow.node_id}
    sent = silently(leader, "zero", batch(b"x"), batch(b"yy"))
    assert under_way("zero") == (2, sent)
    cluster.settle(0.2)
    assert leader.replica.high_watermark == 2 and under_way("zero") == (2, sent)
    cluster.away = set()
    cluster.settle(1.2)  # the lost message is sent again
    assert under_way("zero") == (0, 0)


def test_acks_0_is_under_way_no_longer_once_leadership_is_lost() -> None:
    cluster = Cluster(3)
    leader = cluster.leader()
    cluster.away = {node.node_id for node in followers_of(cluster, leader)}
    silently(leader, "deposed", batch(b"x"))
    cluster.settle(0.2)
    silently(leader, "deposed", batch(b"taken and not appended"))
    assert under_way("deposed")[0] == 2
    cluster.settle(3.0)
    assert not leader.replica.is_leader and under_way("deposed") == (0, 0)


def test_acks_0_that_is_refused_is_not_under_way() -> None:
    cluster = Cluster(3)
    leader = cluster.leader()
    silently(leader, "refused", b"no batch", batch(b"x")[:-1])
    silently(followers_of(cluster, leader)[0], "refused", batch(b"x"))
    assert under_way("refused") == (0, 0)
    leader.disk.full = True
    silently(leader, "refused", batch(b"no room"))
    cluster.settle(0.5)
    assert under_way("refused") == (0, 0)


def test_acks_0_that_repeats_a_batch_is_not_under_way() -> None:
    cluster = Cluster(3)
    leader = cluster.leader()
    whose = numbered(batch(b"x"), 7, 0, 0)
    silently(leader, "twice", whose, whose, whose)
    cluster.settle(0.5)
    assert (leader.log.log_end_offset, under_way("twice")) == (1, (0, 0))


def test_acks_1_and_all_are_not_counted_as_acks_0() -> None:
    cluster = Cluster(3, min_insync_replicas=2)
    leader = cluster.leader()
    for acks in (1, -1):
        leader.request("other acks", produce(1, acks), [batch(b"x")])
    cluster.settle(0.5)
    cluster.away = {node.node_id for node in followers_of(cluster, leader)}
    leader.request("other acks", produce(1, -1, timeout_ms=100), [batch(b"too few")])
    silently(leader, "other acks", batch(b"x"))
    cluster.settle(3.0)
    assert under_way("other acks") == (0, 0)
