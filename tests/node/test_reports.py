"""What a supervisor tells the controller of the partitions led on its node, and when it takes its image for current."""

from __future__ import annotations

import pytest

from raftlog.controller.image import Image, apply
from raftlog.controller.records import AssignmentRecord, ClusterRecord, MetadataRecord, PlanRecord, TopicRecord
from raftlog.node.gossip import Gossip
from raftlog.node.hosting_plan import METADATA_KEY
from raftlog.node.reports import reports_for
from raftlog.protocol.nodes import NodeState, WorkerState
from raftlog.types import (
    METADATA_TOPIC,
    METADATA_TOPIC_ID,
    Endpoint,
    GroupStatus,
    Half,
    ReplicaStatus,
    Role,
    TopicConfig,
)

TOPIC = TopicRecord(name="t", topic_id=b"t" * 16, replicas=((1, 2),), config=TopicConfig())
PLAN = PlanRecord(name="t", topic_id=TOPIC.topic_id, partition=0, replicas=(1, 3))


def replay(*records: MetadataRecord) -> Image:
    image = Image()
    for record in (ClusterRecord(cluster_id="c", voters=(1, 2, 3)), *records):
        image = apply(image, image.end_offset, record)
    return image


def assigned(index: int) -> AssignmentRecord:
    return AssignmentRecord(
        name="t", topic_id=TOPIC.topic_id, partition=0, replicas=(1, 3), witnesses=(), term=2, index=index
    )


def state(node_id: int, *statuses: ReplicaStatus) -> NodeState:
    return NodeState(
        node_id=node_id,
        boot_id=node_id,
        cluster_id="c",
        directory_id=f"d{node_id}",
        endpoint=Endpoint("h", node_id),
        voters=[1, 2, 3],
        founders=[],
        image_offset=4,
        workers=[WorkerState(endpoint=Endpoint("h", 9), boot_id=1, status=status) for status in statuses],
    )


def leads(*halves: Half, index: int = 9, role: Role = Role.LEADER, topic_id: bytes = TOPIC.topic_id) -> NodeState:
    group = GroupStatus(term=2, index=index, halves=halves, newest=(2, index), names=True)
    return state(
        1, ReplicaStatus(topic="t", topic_id=topic_id, partition=0, node_id=1, role=role, leader_epoch=2, group=group)
    )


def test_a_leader_s_committed_configuration_is_reported_until_the_image_has_it() -> None:
    image = replay(TOPIC, PLAN)
    (report,) = reports_for(image, leads(Half((1, 3))))
    assert (report.topic, report.partition, report.term, report.index, report.half) == ("t", 0, 2, 9, Half((1, 3)))
    assert reports_for(replay(TOPIC, PLAN, assigned(9)), leads(Half((1, 3)))) == []
    assert reports_for(replay(TOPIC, PLAN, assigned(12)), leads(Half((1, 3)))) == []
    assert reports_for(replay(TOPIC), leads(Half((1, 3)))) != [], "the partition is right, whatever was planned"


@pytest.mark.parametrize(
    "own",
    [
        leads(Half((1, 2)), Half((1, 3))),
        leads(Half((1, 3)), role=Role.FOLLOWER),
        leads(Half((1, 3)), topic_id=b"another" + b"!" * 9),
        leads(index=0),
        state(1),
        None,
    ],
    ids=["joint", "no leader", "made anew", "as founded", "hosts nothing", "not heard"],
)
def test_nothing_else_is_reported(own: NodeState | None) -> None:
    assert reports_for(replay(TOPIC, PLAN), own) == []


def voter(node_id: int, epoch: int, *, end: int = 0, role: Role = Role.FOLLOWER) -> NodeState:
    return state(
        node_id,
        ReplicaStatus(
            topic=METADATA_TOPIC,
            topic_id=METADATA_TOPIC_ID,
            partition=0,
            node_id=node_id,
            role=role,
            leader_epoch=epoch,
            log_end_offset=end,
        ),
    )


def has_all(end_offset: int, *states: NodeState) -> bool:
    gossip = Gossip(4)
    for each in states:
        gossip.hear(each, 0.0)
    return gossip.has_all(end_offset, METADATA_KEY, (1, 2, 3), 0.0)


def test_an_image_is_current_once_it_has_all_of_a_leader_s_log_and_no_voter_knows_a_later_one() -> None:
    leader = voter(1, 5, end=20, role=Role.LEADER)
    assert has_all(20, leader, voter(2, 5))
    assert not has_all(19, leader, voter(2, 5)), "something may be committed that it has not"
    assert not has_all(20, leader), "no majority was heard"
    assert not has_all(20, leader, voter(2, 6)), "there may be a later leader"
    assert not has_all(20, voter(2, 5), voter(3, 5)), "nobody leads"
