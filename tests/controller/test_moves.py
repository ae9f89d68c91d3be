"""Replicas that shall move, as the controller decides on them: plans, and assignments that leaders report."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from raftlog.controller.image import Image, TopicInfo, apply, decode_image, encode_image
from raftlog.controller.records import (
    AssignmentRecord,
    MetadataRecord,
    PlanCalledOffRecord,
    PlanRecord,
    SnapshotRecord,
    decode_record,
    encode_record,
)
from raftlog.errors import CorruptLogError, ErrorCode
from raftlog.protocol.groups import FindCoordinatorRequest
from raftlog.protocol.nodes import FEATURES, RegisterNodeRequest, RegisterNodeResponse
from raftlog.protocol.reassignments import (
    AlterReassignmentsRequest,
    AlterReassignmentsResponse,
    ConfigurationReport,
    ListReassignmentsRequest,
    OngoingReassignment,
    Reassignment,
    ReassignmentResult,
    ReportConfigurationsRequest,
)
from raftlog.protocol.topics import CreateTopicsRequest, NewTopic
from raftlog.types import OFFSETS_TOPIC, Half
from tests.controller.test_controller import Log, delete, mutation
from tests.controller.test_node_changes import register, remove

NODES = 6


@pytest.fixture
def log() -> Log:
    """Six nodes, topic t of partition 0 on 1, 2 and 3, and topic w on 1 and 2 with the witness 3."""
    log = Log()
    log.live = {1, 2, 3}
    log.run()
    topics = [NewTopic(name="w", replicas=[(1, 2)]), NewTopic(name="t", replicas=[(1, 2, 3)])]
    log.ask(CreateTopicsRequest(**mutation(), topics=topics))
    log.live = set(range(1, NODES + 1))
    for node_id in range(4, NODES + 1):
        assert register(log, f"directory-{node_id}", node_id).error_code == 0
    assert topic(log).half_of(0) == Half((1, 2, 3))
    assert topic(log, "w").half_of(0) == Half((1, 2), (3,))
    return log


def topic(log: Log, name: str = "t") -> TopicInfo:
    return log.image.topics[name]


def change(log: Log, replicas: tuple[int, ...] | None, name: str = "t", **more: Any) -> Reassignment:
    known = log.image.topics.get(name)
    return Reassignment(
        topic=name, topic_id=known.topic_id if known else b"?" * 16, partition=0, replicas=replicas, **more
    )


def answer(log: Log, *changes: Reassignment, **more: Any) -> AlterReassignmentsResponse:
    log.request(AlterReassignmentsRequest(**{**mutation(), **more}, changes=list(changes)))
    log.run()
    response = log.answers.pop().response
    assert isinstance(response, AlterReassignmentsResponse)
    return response


def move(log: Log, replicas: tuple[int, ...] | None, name: str = "t", **more: Any) -> ReassignmentResult:
    """Topic t goes without witnesses, if nothing else is said."""
    if name == "t" and replicas is not None:
        more.setdefault("witnesses", ())
    (result,) = answer(log, change(log, replicas, name, **more)).results
    return result


def report(log: Log, half: Half, term: int, index: int, name: str = "t") -> None:
    told = ConfigurationReport(
        topic=name, topic_id=topic(log, name).topic_id, partition=0, term=term, index=index, half=half
    )
    log.request(ReportConfigurationsRequest(cluster_id=log.image.cluster_id, reports=[told]))
    log.run()
    assert log.answers.pop().response.error_code == 0


def ongoing(log: Log, *topics: str) -> list[OngoingReassignment]:
    log.request(ListReassignmentsRequest(list(topics) or None))
    log.run()
    found: list[OngoingReassignment] = log.answers.pop().response.ongoing
    return found


def test_a_plan_names_its_nodes_and_leaves_the_assignment_as_it_is(log: Log) -> None:
    assert move(log, (1, 2, 4)) == ReassignmentResult(topic="t", partition=0)
    assert topic(log).half_of(0) == Half((1, 2, 3))
    assert topic(log).named_of(0) == Half((1, 2, 3, 4))
    assert [(found.name, partition) for found, partition in log.image.hosted_by(4)] == [("t", 0)]
    (found,) = ongoing(log)
    plan = topic(log).plan_of(0)
    assert plan is not None and found.number == plan.number < log.image.end_offset
    assert (found.replicas, found.target_replicas, found.adding, found.removing) == ((1, 2, 3), (1, 2, 4), (4,), (3,))
    assert ongoing(log, "w") == []
    assert remove(log, 4).error_text.startswith("node 4 holds 1 replica (t-0)")


def test_the_assignment_follows_what_the_leader_reports_and_the_plan_ends_with_it(log: Log) -> None:
    move(log, (1, 2, 4))
    report(log, Half((1, 2, 4)), 3, 17)
    assert topic(log).half_of(0) == topic(log).named_of(0) == Half((1, 2, 4))
    assert topic(log).moves[0].configuration == (3, 17)
    assert ongoing(log) == []
    assert ("t", 0) not in [(found.name, partition) for found, partition in log.image.hosted_by(3)]


@pytest.mark.parametrize(("term", "index"), [(3, 17), (3, 16), (2, 99), (0, 0)])
def test_a_report_that_is_no_newer_changes_nothing(log: Log, term: int, index: int) -> None:
    move(log, (1, 2, 4))
    report(log, Half((1, 2, 4)), 3, 17)
    before = log.image
    report(log, Half((1, 2, 3)), term, index)
    assert log.image == before


def test_a_plan_stays_while_the_leader_reports_the_old_nodes_again(log: Log) -> None:
    """The new ones did not keep up: the leader tries again, from the configuration that there is now."""
    move(log, (1, 2, 4))
    report(log, Half((1, 2, 3)), 3, 17)
    assert topic(log).moves[0].configuration == (3, 17)
    assert [each.target_replicas for each in ongoing(log)] == [(1, 2, 4)]


def test_a_plan_that_is_called_off_names_its_nodes_until_the_leader_has_gone_back(log: Log) -> None:
    move(log, (1, 2, 4))
    assert move(log, None).error_code == 0
    assert [each.called_off for each in ongoing(log)] == [True]
    assert topic(log).named_of(0) == Half((1, 2, 3, 4))
    assert move(log, None).error_code == 0, "asked for again by somebody else"
    report(log, Half((1, 2, 3)), 3, 17)
    assert ongoing(log) == []
    assert topic(log).named_of(0) == Half((1, 2, 3))


def test_to_ask_for_the_present_nodes_calls_a_plan_off_and_does_nothing_without_one(log: Log) -> None:
    before = log.image
    assert move(log, (1, 2, 3)).error_code == 0
    assert topic(log) == before.topics["t"]
    move(log, (1, 2, 4))
    move(log, (1, 2, 3))
    assert [each.called_off for each in ongoing(log)] == [True]


def test_another_wish_replaces_a_plan_and_whom_that_named_may_count_still(log: Log) -> None:
    move(log, (1, 2, 4))
    first = topic(log).plan_of(0)
    move(log, (1, 2, 5))
    second = topic(log).plan_of(0)
    assert first is not None and second is not None and second.number > first.number
    assert topic(log).named_of(0) == Half((1, 2, 3, 5, 4))
    report(log, Half((1, 2, 4)), 3, 17)
    assert topic(log).plan_of(0) == second
    assert topic(log).named_of(0) == Half((1, 2, 4, 5))


def test_the_rate_changes_with_the_same_nodes(log: Log) -> None:
    answer(log, change(log, (1, 2, 4)), bytes_per_s=1000)
    before = topic(log).plan_of(0)
    answer(log, change(log, (1, 2, 4)), bytes_per_s=1000)
    assert topic(log).plan_of(0) == before
    answer(log, change(log, (1, 2, 4)), bytes_per_s=2000)
    assert [each.bytes_per_s for each in ongoing(log)] == [2000]
    assert answer(log, change(log, (1, 2, 4)), bytes_per_s=-1).error_code == ErrorCode.INVALID_REQUEST


@pytest.mark.parametrize(
    ("replicas", "text"),
    [
        ((), "t-0 needs a replica"),
        ((1, 1, 2), "t-0 names a node twice: [1, 1, 2]"),
        ((1, 2, 9), "t-0 names node 9, which the cluster does not have"),
        ((1, 2, 6), "t-0 shall move to node 6, which is not alive: start it first"),
    ],
)
def test_nodes_that_cannot_be_had_are_refused(log: Log, replicas: tuple[int, ...], text: str) -> None:
    log.live.discard(6)
    refused = move(log, replicas)
    assert (refused.error_code, refused.error_text) == (ErrorCode.INVALID_REPLICA_ASSIGNMENT, text)
    assert topic(log).moves == {}


def test_a_dead_replica_may_be_replaced_and_stay_and_no_majority_may_be_dead(log: Log) -> None:
    log.live = {1, 2, 4, 5}
    assert move(log, (1, 2, 3, 4)).error_code == 0
    log.live = {1, 2, 3}
    assert answer(log, change(log, (1, 2, 3, 4), witnesses=()), bytes_per_s=9).results[0].error_code == 0, "as planned"
    log.live = {1, 4, 5}
    assert "no majority is alive" in move(log, (2, 3, 4)).error_text


def test_what_is_not_there_or_does_not_move_is_said(log: Log) -> None:
    assert move(log, (1,), "nothing").error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    beyond = msgspec.structs.replace(change(log, (1,)), partition=1)
    assert answer(log, beyond).results[0].error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    anew = msgspec.structs.replace(change(log, (1,)), topic_id=b"x" * 16)
    assert answer(log, anew).results[0].error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert move(log, None).error_code == ErrorCode.NO_REASSIGNMENT_IN_PROGRESS
    assert move(log, (1,), "__cluster_metadata").error_code == ErrorCode.INVALID_TOPIC_EXCEPTION


def test_each_partition_stands_or_falls_alone(log: Log) -> None:
    results = answer(log, change(log, (1, 9)), change(log, (4, 5), "w")).results
    assert [each.error_code for each in results] == [ErrorCode.INVALID_REPLICA_ASSIGNMENT, ErrorCode.NONE]
    assert [each.topic for each in ongoing(log)] == ["w"]


def test_fewer_replicas_than_have_to_be_in_sync_are_refused(log: Log) -> None:
    log.ask(
        CreateTopicsRequest(
            **mutation(), topics=[NewTopic(name="s", replicas=[(1, 2, 3)], config={"min_insync_replicas": "2"})]
        )
    )
    assert move(log, (1,), "s").error_code == ErrorCode.INVALID_CONFIG
    assert move(log, (1, 4), "s").error_code == 0


def test_only_validated_nothing_is_planned(log: Log) -> None:
    before = log.image
    found = answer(log, change(log, (1, 2, 4)), change(log, ()), validate_only=True).results
    assert [each.error_code for each in found] == [ErrorCode.NONE, ErrorCode.INVALID_REPLICA_ASSIGNMENT]
    assert log.image == before


def test_a_repetition_is_answered_as_the_first_was(log: Log) -> None:
    once = mutation()
    answer(log, change(log, (1, 2, 4)), change(log, None, "w"), **once)
    report(log, Half((1, 2, 4)), 3, 17)
    after = log.image
    again = answer(log, change(log, (1, 2, 4)), change(log, None, "w"), **once).results
    assert [each.error_code for each in again] == [ErrorCode.NONE, ErrorCode.NO_REASSIGNMENT_IN_PROGRESS]
    assert log.image == after


# --- witnesses ---------------------------------------------------------------------------------------
def test_the_witness_stays_where_it_can(log: Log) -> None:
    assert move(log, (1, 4), "w").error_code == 0
    assert [(each.target_replicas, each.target_witnesses) for each in ongoing(log)] == [((1, 4), (3,))]


def test_a_witness_becomes_a_replica_in_steps_and_its_place_is_taken_in_the_last(log: Log) -> None:
    log.live = {1, 2, 3}
    assert move(log, (1, 3), "w").error_code == 0
    (found,) = ongoing(log)
    assert (found.target_replicas, found.target_witnesses) == ((1, 3), (2,))
    for index, half in enumerate([Half((1, 2)), Half((1, 3)), Half((1, 3), (2,))]):
        plan = topic(log, "w").plan_of(0)
        assert plan is not None and plan.target == half
        named = topic(log, "w").named_of(0)
        assert not {*named.replicas} & {*named.witnesses}
        report(log, half, 2, 9 + index, "w")
    assert ongoing(log) == []
    assert topic(log, "w").half_of(0) == Half((1, 3), (2,))


def test_a_node_that_a_later_step_needs_is_not_removed(log: Log) -> None:
    assert move(log, (1, 3), "w", witnesses=(5,)).error_code == 0
    assert 5 not in topic(log, "w").named_of(0).ids
    assert "node 5 holds 1 replica (w-0)" in remove(log, 5).error_text


def test_called_off_between_steps_it_gets_its_witness_back(log: Log) -> None:
    log.live = {1, 2, 3}
    move(log, (1, 3), "w")
    report(log, Half((1, 2)), 2, 9, "w")
    assert move(log, None, "w").error_code == 0
    report(log, Half((1, 2)), 2, 11, "w")
    plan = topic(log, "w").plan_of(0)
    assert plan is not None and plan.target == Half((1, 2), (3,))
    report(log, Half((1, 2), (3,)), 2, 12, "w")
    assert ongoing(log) == []


def test_called_off_while_its_first_step_ends_it_gets_its_witness_back_too(log: Log) -> None:
    log.live = {1, 2, 3}
    move(log, (1, 3), "w")
    assert move(log, None, "w").error_code == 0
    report(log, Half((1, 2)), 2, 9, "w")
    plan = topic(log, "w").plan_of(0)
    assert plan is not None and plan.target == Half((1, 2), (3,))
    assert not plan.called_off
    report(log, Half((1, 2), (3,)), 2, 12, "w")
    assert ongoing(log) == []


def test_called_off_before_its_first_step_begins_nothing_is_left_to_do(log: Log) -> None:
    log.live = {1, 2, 3}
    move(log, (1, 3), "w")
    move(log, None, "w")
    report(log, Half((1, 2), (3,)), 2, 9, "w")
    assert ongoing(log) == []


def test_a_step_that_ended_before_it_was_called_off_has_no_witness_to_give_back(log: Log) -> None:
    log.live = {1, 2, 3}
    move(log, (1, 3), "w")
    report(log, Half((1, 2)), 2, 9, "w")
    move(log, None, "w")
    report(log, Half((1, 3)), 2, 11, "w")
    assert ongoing(log) == []
    assert topic(log, "w").half_of(0) == Half((1, 3))


def test_while_a_plan_may_be_under_way_its_nodes_become_no_other_kind(log: Log) -> None:
    move(log, (1, 4), "w")
    assert "call it off first" in move(log, (1, 2, 5), "w", witnesses=(4,)).error_text


def test_a_topic_of_raftlogs_own_moves_without_witnesses(log: Log) -> None:
    log.request(FindCoordinatorRequest())
    log.run()
    log.answers.clear()
    assert move(log, (4, 5), OFFSETS_TOPIC).error_code == 0
    assert [(each.target_replicas, each.target_witnesses) for each in ongoing(log)] == [((4, 5), ())]


def test_a_new_factor_gets_the_witnesses_that_it_shall_have_from_nodes_without_records(log: Log) -> None:
    move(log, (1, 2), witnesses=None)
    (found,) = ongoing(log)
    assert len(found.target_witnesses) == 1 and found.target_witnesses[0] in (4, 5, 6)
    report(log, Half((1, 2), found.target_witnesses), 2, 9)
    assert topic(log).witnesses_of(0) == found.target_witnesses
    move(log, (1,), witnesses=None)
    assert [each.target_witnesses for each in ongoing(log)] == [()]


# --- the log -----------------------------------------------------------------------------------------
RECORDS: list[MetadataRecord] = [
    PlanRecord(name="t", topic_id=b"t" * 16, partition=0, replicas=(1, 2), witnesses=(3,), bytes_per_s=5),
    PlanCalledOffRecord(name="t", topic_id=b"t" * 16, partition=0, number=4),
    AssignmentRecord(name="t", topic_id=b"t" * 16, partition=0, replicas=(1,), witnesses=(), term=1, index=2),
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_a_record_survives_its_bytes(record: MetadataRecord) -> None:
    assert decode_record(encode_record(record)) == record


def test_a_snapshot_holds_plans_and_assignments(log: Log) -> None:
    move(log, (1, 2, 4))
    move(log, (1, 5), "w")
    report(log, Half((1, 4), (3,)), 2, 9, "w")
    image = log.image
    assert decode_image(encode_image(image)) == image
    alone = apply(Image(), image.end_offset, SnapshotRecord(image=encode_image(image)))
    assert alone.topics == image.topics


def test_an_image_of_before_has_no_plans() -> None:
    fields = msgspec.msgpack.decode(encode_image(Image(end_offset=3, cluster_id="c")))
    old = decode_image(msgspec.msgpack.encode(fields[:-1]))
    assert (old.end_offset, old.features) == (3, 0)


def test_what_contradicts_the_log_is_corrupt(log: Log) -> None:
    off = PlanCalledOffRecord(name="t", topic_id=topic(log).topic_id, partition=0, number=1)
    with pytest.raises(CorruptLogError):
        apply(log.image, log.image.end_offset, off)
    beyond = PlanRecord(name="t", topic_id=topic(log).topic_id, partition=7, replicas=(1,))
    with pytest.raises(CorruptLogError):
        apply(log.image, log.image.end_offset, beyond)


def test_a_deleted_topic_takes_its_plans_along(log: Log) -> None:
    move(log, (1, 2, 4))
    log.ask(delete(log, "t"))
    assert ongoing(log) == []
    assert ("t", 0) not in [(found.name, partition) for found, partition in log.image.hosted_by(4)]


def test_the_next_controller_goes_on_from_plan_and_report(log: Log) -> None:
    move(log, (1, 2, 4))
    log.take_over(log.image)
    log.listen()
    log.run()
    report(log, Half((1, 2, 4)), 3, 17)
    assert ongoing(log) == []


# --- versions ----------------------------------------------------------------------------------------
def test_in_a_cluster_of_before_nothing_moves_until_every_node_has_said_that_it_reads_it(log: Log) -> None:
    log.controller.image = msgspec.structs.replace(log.image, features=0)
    log.able = {1, 2, 3, 4, 5}
    refused = answer(log, change(log, (1, 2, 4)))
    assert refused.error_code == ErrorCode.UNSUPPORTED_VERSION and "node 6 has not said" in refused.error_text
    log.able.add(6)
    assert answer(log, change(log, (1, 2, 9))).results[0].error_code == ErrorCode.INVALID_REPLICA_ASSIGNMENT
    assert log.image.features == 0, "a refusal writes nothing"
    assert move(log, (1, 2, 4)).error_code == 0
    assert log.image.features == FEATURES
    log.able.clear()
    assert move(log, (1, 2, 5)).error_code == 0, "asked once"


def test_then_an_older_node_is_not_let_in(log: Log) -> None:
    log.request(
        RegisterNodeRequest(
            cluster_id=log.image.cluster_id,
            node_id=7,
            directory_id="directory-7",
            endpoint=log.image.nodes[1].endpoint,
        )
    )
    log.run()
    response = log.answers.pop().response
    assert isinstance(response, RegisterNodeResponse)
    assert response.error_code == ErrorCode.INVALID_REQUEST and "is too old for this cluster" in response.error_text
