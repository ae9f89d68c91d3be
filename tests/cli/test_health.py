"""What is said of a partition follows from what leader and replicas report."""

from __future__ import annotations

from raftlog.protocol.cluster import NodeMetadata, PartitionMetadata, TopicMetadata
from raftlog.types import Doubt, Endpoint, ReplicaStatus, Role, TopicPartition
from raftlog.view.diagnosis import diagnose
from raftlog.view.partitions import PartitionView, view_nodes, view_topic

TOPIC_ID = b"0123456789abcdef"
SURVIVES_NONE = "it survives no failure now, and 1 when all of its replicas and witnesses are there"


def _topic(leader_id: int, in_sync: list[int], replicas: list[int], witnesses: tuple[int, ...] = ()) -> TopicMetadata:
    partition = PartitionMetadata(
        partition=0,
        leader_id=leader_id,
        leader_epoch=7,
        endpoint=Endpoint("h", 1) if leader_id >= 0 else None,
        replicas=replicas,
        in_sync=in_sync,
        witnesses=list(witnesses),
    )
    return TopicMetadata(name="orders", topic_id=TOPIC_ID, error_code=0, partitions=[partition], config={})


def _status(node_id: int, **values: object) -> ReplicaStatus:
    return ReplicaStatus(topic="orders", topic_id=TOPIC_ID, partition=0, node_id=node_id, **values)  # type: ignore[arg-type]


def _view(
    leader_id: int,
    in_sync: list[int],
    statuses: list[ReplicaStatus],
    replicas: list[int] | None = None,
    witnesses: tuple[int, ...] = (),
) -> PartitionView:
    (view,) = view_topic(_topic(leader_id, in_sync, replicas or [1, 2, 3], witnesses), statuses).partitions
    return view


def test_a_partition_without_its_witnesses_says_that_nobody_may_fail_any_more() -> None:
    gone = [_status(node, role=Role.WITNESS, error=f"node {node} has not been heard from") for node in (4, 5)]
    view = _view(1, [1, 2, 3], gone, replicas=[1, 2, 3], witnesses=(4, 5))
    assert view.survives_failures == 0
    assert view.problems[-1] == "it survives no failure now, and 2 when all of its replicas and witnesses are there"
    diagnoses = diagnose("orders-0", 1, [1, 2, 3], [_status(1), _status(2), _status(3), *gone])
    assert diagnoses[-1].what == view.problems[-1]
    assert "start nodes 4 and 5" in diagnoses[-1].advice


def test_a_replica_that_does_not_run_is_no_copy_although_its_leader_waits_for_it() -> None:
    stopped = _status(3, error="node 3 was stopped")
    assert _view(1, [1, 2, 3], [stopped]).survives_failures == 0


def test_a_partition_sleeps_when_its_leader_says_so() -> None:
    assert _view(2, [1, 2, 3], [_status(2, role=Role.LEADER, asleep=True), _status(1)]).asleep
    assert not _view(2, [1, 2, 3], [_status(2, role=Role.LEADER), _status(1, asleep=True)]).asleep


def test_a_healthy_partition_survives_a_minority_and_has_no_problems() -> None:
    view = _view(2, [1, 2, 3], [_status(2, role=Role.LEADER, high_watermark=10, size_bytes=500), _status(1)])
    assert (view.leader, view.leader_epoch, view.isr, view.survives_failures) == (2, 7, [1, 2, 3], 1)
    assert (view.high_watermark, view.size_bytes, view.problems) == (10, 500, [])


def test_how_many_failures_are_survived_depends_on_who_is_in_sync() -> None:
    assert _view(2, [1, 2], []).survives_failures == 0
    assert _view(1, [1], [], replicas=[1]).survives_failures == 0
    assert _view(1, [1, 2], [], replicas=[1, 2]).survives_failures == 0
    assert _view(1, [1, 2, 3, 4, 5], [], replicas=[1, 2, 3, 4, 5]).survives_failures == 2
    assert _view(1, [1, 2, 3, 4], [], replicas=[1, 2, 3, 4]).survives_failures == 1


def test_a_doubtful_replica_counts_for_nothing_and_is_named_with_the_reason() -> None:
    doubtful = _status(3, doubt=Doubt.LOST_DISK, doubt_reason="empty directory", truncations=3, cuts=2)
    view = _view(2, [1, 2, 3], [doubtful])
    assert (view.survives_failures, view.cuts) == (0, 2)
    assert view.problems == ["node 3 is doubtful: it lost its disk (empty directory)", SURVIVES_NONE]


def test_a_partition_without_leader_shows_the_furthest_that_was_reported() -> None:
    view = _view(-1, [2], [_status(1, high_watermark=5), _status(3, high_watermark=9, size_bytes=90)])
    assert (view.leader, view.isr, view.survives_failures) == (None, [], None)
    assert (view.high_watermark, view.size_bytes) == (9, 90)
    assert view.problems == ["no leader"]


def test_a_worker_that_cannot_start_says_why() -> None:
    view = _view(2, [1, 2], [_status(3, error="worker ended 4 times: both copies of state are bad")])
    assert view.problems == ["node 3: worker ended 4 times: both copies of state are bad", SURVIVES_NONE]


def test_a_replica_behind_is_named() -> None:
    assert _view(2, [2, 3], []).problems == ["node 1 is not in sync", SURVIVES_NONE]


def test_reports_of_a_deleted_topic_of_the_same_name_do_not_count() -> None:
    old = ReplicaStatus(topic="orders", topic_id=b"x" * 16, partition=0, node_id=2, high_watermark=99)
    assert _view(2, [1, 2, 3], [old]).high_watermark == 0


def test_offsets_that_were_asked_for_just_now_win() -> None:
    fresh = {TopicPartition("orders", 0): (3, 12)}
    (view,) = view_topic(_topic(2, [2], [1, 2, 3]), [_status(2, high_watermark=10)], fresh).partitions
    assert (view.log_start_offset, view.high_watermark) == (3, 12)


def test_nodes_are_shown_with_what_they_lead_and_hold() -> None:
    nodes = [
        NodeMetadata(node_id=2, endpoint=Endpoint("b", 2), alive=False, voter=True),
        NodeMetadata(node_id=1, endpoint=Endpoint("a", 1), alive=True, voter=False),
    ]
    first, second = view_nodes(nodes, [_topic(1, [1], [1, 2])], [_status(1, size_bytes=10)])
    assert (first.node, first.address, first.leads, first.replicas, first.size_bytes) == (1, "a:1", 1, 1, 10)
    assert (second.node, second.alive, second.leads, second.replicas) == (2, False, 0, 1)


def test_witnesses_count_for_the_majority_and_hold_no_copy() -> None:
    assert _view(1, [1, 2], [], replicas=[1, 2], witnesses=(3,)).survives_failures == 1
    assert _view(1, [1, 2, 3], [], replicas=[1, 2, 3], witnesses=(4, 5)).survives_failures == 2
    # The last copy may not fail, however many witnesses there are.
    assert _view(1, [1], [], replicas=[1, 2], witnesses=(3,)).survives_failures == 0
    assert _view(1, [1, 2], [], replicas=[1, 2, 3], witnesses=(4, 5)).survives_failures == 1


def test_a_witness_that_is_gone_or_doubtful_counts_for_nothing_and_is_named() -> None:
    silent = _view(1, [1, 2], [_status(3, error="node 3 has been silent for 9 s")], replicas=[1, 2], witnesses=(3,))
    assert (silent.survives_failures, silent.problems) == (0, ["node 3 has been silent for 9 s", SURVIVES_NONE])
    lost = _view(1, [1, 2], [_status(3, role=Role.WITNESS, doubt=Doubt.LOST_DISK)], replicas=[1, 2], witnesses=(3,))
    assert (lost.survives_failures, lost.problems) == (0, ["node 3 is doubtful: it lost its disk", SURVIVES_NONE])


def test_a_partition_that_waits_for_a_replica_says_for_which() -> None:
    witness = _status(3, role=Role.WITNESS, last_index=90, last_term=4)
    gone = _status(1, error="node 1 has been silent for 9 s", last_index=90, last_term=4)
    behind = _view(-1, [], [gone, _status(2, last_index=99, last_term=3), witness], replicas=[1, 2], witnesses=(3,))
    assert behind.problems[0] == ("no leader: the running replicas lack what was in sync last, so it waits for node 1")
    level = _view(-1, [], [gone, _status(2, last_index=90, last_term=4), witness], replicas=[1, 2], witnesses=(3,))
    assert level.problems[0] == "no leader"
