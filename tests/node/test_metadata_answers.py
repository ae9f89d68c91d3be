"""What any supervisor answers from its image and what it heard."""

from __future__ import annotations

import msgspec

from raftlog.controller.image import Image, apply
from raftlog.controller.records import ClusterRecord, NodeRecord, PlanCalledOffRecord, PlanRecord, TopicRecord
from raftlog.errors import ErrorCode
from raftlog.limits import NODE_SILENT_S, VOTERS_HEARD_S
from raftlog.node.gossip import Gossip
from raftlog.node.metadata_answers import describe_replicas_response, metadata_response
from raftlog.protocol.cluster import DescribeReplicasRequest, MetadataRequest, MetadataResponse
from raftlog.protocol.nodes import NodeState, WorkerState
from raftlog.types import METADATA_TOPIC_ID, Endpoint, ReplicaStatus, Role, TopicConfig

TOPIC_ID = b"o" * 16


def image() -> Image:
    built = Image()
    for record in (
        ClusterRecord(cluster_id="c", voters=(1, 2)),
        NodeRecord(node_id=1, directory_id="d1", endpoint=Endpoint("h", 1)),
        NodeRecord(node_id=2, directory_id="d2", endpoint=Endpoint("h", 2)),
        TopicRecord(name="orders", topic_id=TOPIC_ID, replicas=((1, 2),), config=TopicConfig()),
    ):
        built = apply(built, built.end_offset, record)
    return built


def worker(
    node_id: int, *, epoch: int = 1, leads: bool = False, topic_id: bytes = TOPIC_ID, up: bool = True
) -> WorkerState:
    return WorkerState(
        endpoint=Endpoint("h", 100 + node_id) if up else None,
        boot_id=node_id,
        status=ReplicaStatus(
            topic="orders",
            topic_id=topic_id,
            partition=0,
            node_id=node_id,
            role=Role.LEADER if leads else Role.FOLLOWER,
            leader_epoch=epoch,
            in_sync=(1, 2) if leads else (),
            high_watermark=9,
        ),
    )


def state(
    node_id: int, *workers: WorkerState, leaving: bool = False, port: int = 0, directory_id: str = ""
) -> NodeState:
    return NodeState(
        node_id=node_id,
        boot_id=node_id,
        cluster_id="c",
        directory_id=directory_id or f"d{node_id}",
        endpoint=Endpoint("h", port or node_id),
        voters=[1, 2],
        founders=[],
        image_offset=4,
        workers=list(workers),
        leaving=leaving,
    )


def gossip(*states: NodeState, at_s: float = 0.0) -> Gossip:
    heard = Gossip(1)
    for heard_state in states:
        heard.hear(heard_state, at_s)
    return heard


def metadata(heard: Gossip, now_s: float = 0.0, topics: list[str] | None = None) -> MetadataResponse:
    request = MetadataRequest(topics=topics)
    return metadata_response(request, node_id=1, image=image(), gossip=heard, now_s=now_s, flush="always")


def leader(heard: Gossip, now_s: float = 0.0) -> tuple[int, Endpoint | None]:
    partition = metadata(heard, now_s).topics[0].partitions[0]
    return partition.leader_id, partition.endpoint


def test_the_leader_is_the_living_replica_that_claims_the_highest_epoch() -> None:
    both = gossip(state(1, worker(1, epoch=3, leads=True)), state(2, worker(2, epoch=4, leads=True)))
    assert leader(both) == (2, Endpoint("h", 102))


def test_a_topic_that_is_named_again_and_again_is_answered_once() -> None:
    names = [topic.name for topic in metadata(gossip()).topics]
    assert [topic.name for topic in metadata(gossip(), topics=[*names, "no such"] * 1000).topics] == [*names, "no such"]


def test_replicas_that_a_plan_adds_are_told_until_it_is_called_off() -> None:
    plan = PlanRecord(name="orders", topic_id=TOPIC_ID, partition=0, replicas=(2, 1, 3))
    planned = apply(image(), image().end_offset, plan)
    back = PlanCalledOffRecord(name="orders", topic_id=TOPIC_ID, partition=0, number=planned.end_offset - 1)
    told = []
    for known in (image(), planned, apply(planned, planned.end_offset, back)):
        answer = metadata_response(
            MetadataRequest(), node_id=1, image=known, gossip=gossip(), now_s=0.0, flush="always"
        )
        told.append((answer.topics[0].partitions[0].replicas, answer.topics[0].partitions[0].adding))
    assert told == [([1, 2], []), ([1, 2], [3]), ([1, 2], [])]


def test_no_leader_is_known_without_one_that_says_so() -> None:
    assert leader(gossip(state(1, worker(1)), state(2, worker(2)))) == (-1, None)
    assert leader(gossip()) == (-1, None)
    assert leader(gossip(state(2, worker(2, leads=True, up=False)))) == (-1, None)


def test_a_silent_or_leaving_node_leads_nothing() -> None:
    heard = gossip(state(2, worker(2, leads=True)))
    assert leader(heard, NODE_SILENT_S - 0.1)[0] == 2
    assert leader(heard, NODE_SILENT_S)[0] == -1
    assert leader(gossip(state(2, worker(2, leads=True), leaving=True)))[0] == -1


def test_the_controller_is_the_leader_of_the_metadata() -> None:
    found = metadata(gossip(state(2, worker(2, leads=True, topic_id=METADATA_TOPIC_ID))))
    assert (found.controller_id, found.controller) == (2, Endpoint("h", 102))


def test_an_unknown_topic_is_said_to_be_unknown_beside_the_others() -> None:
    topics = metadata(gossip(), topics=["absent", "orders"]).topics
    assert [topic.error_code for topic in topics] == [ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, 0]
    assert topics[1].config["segment_bytes"] == TopicConfig().segment_bytes


def test_nodes_are_shown_where_they_were_last_heard() -> None:
    nodes = metadata(gossip(state(2, port=99))).nodes
    assert [(node.node_id, node.endpoint.port, node.alive, node.voter) for node in nodes] == [
        (1, 1, True, True),
        (2, 99, True, True),
    ]


def test_every_assigned_replica_has_a_status_that_says_what_is_missing() -> None:
    heard = gossip(state(1), state(2, worker(2, leads=True)))
    request = DescribeReplicasRequest(topics=["orders"])
    first, second = describe_replicas_response(request, node_id=1, image=image(), gossip=heard, now_s=0.0).replicas
    assert (first.node_id, first.error) == (1, "node 1 has not started it yet")
    assert (second.node_id, second.error, second.role) == (2, "", Role.LEADER)
    late = describe_replicas_response(request, node_id=1, image=image(), gossip=heard, now_s=10.0).replicas[1]
    assert (late.error, late.role, late.high_watermark) == ("node 2 has been silent for 10 s", Role.FOLLOWER, 9)


def test_one_node_id_belongs_to_one_living_node() -> None:
    heard = gossip(state(2))
    impostor = state(2, directory_id="other", port=5)
    assert "in use by the node at h:2" in heard.conflict(impostor, 0.0)
    assert not heard.conflict(impostor, NODE_SILENT_S)
    moved = msgspec.structs.replace(state(2, port=5), boot_id=99)
    assert "in use by the node at h:2" in heard.conflict(moved, 0.0), "it may be a copy of the directory"
    assert not heard.conflict(moved, NODE_SILENT_S), "the same directory at another address has moved"
    assert not heard.conflict(state(2, directory_id="wiped"), 0.0), "one address is held by one process"


def test_an_answer_says_whether_a_majority_of_the_voters_is_heard() -> None:
    alone = metadata(gossip(state(1)))
    assert (alone.node_id, alone.image_offset, alone.confirmed) == (1, 4, False)
    both = gossip(state(1), state(2))
    assert metadata(both, VOTERS_HEARD_S - 0.1).confirmed
    assert not metadata(both, VOTERS_HEARD_S).confirmed
    assert not metadata(gossip(state(1), state(2, leaving=True))).confirmed
    assert not metadata(gossip(state(1), state(3))).confirmed, "node 3 has no vote"
    both.lose(2)
    assert not metadata(both).confirmed
    described = DescribeReplicasRequest()
    for heard, confirmed in ((both, False), (gossip(state(1), state(2)), True)):
        found = describe_replicas_response(described, node_id=1, image=image(), gossip=heard, now_s=0.0)
        assert (found.confirmed, found.cluster_id, found.image_offset) == (confirmed, "c", 4)


def test_a_node_that_others_are_ahead_of_confirms_nothing() -> None:
    behind = gossip(state(1), msgspec.structs.replace(state(2), image_offset=5))
    assert not metadata(behind).confirmed


def test_a_state_that_arrives_late_is_old_news() -> None:
    """A node speaks over two connections, and what it said over one may be read after what it said later."""
    heard = gossip(said(state(2, worker(2, epoch=2)), sequence=8))
    assert not heard.hear(said(state(2, worker(2, epoch=1, leads=True)), sequence=7), 2.0)
    assert leader(heard) == (-1, None)
    assert heard.silent_s(2, 2.0) == 2.0, "what is old says nothing of today"
    assert heard.hear(said(state(2, worker(2, epoch=3)), sequence=9), 2.0)


def test_what_a_process_said_before_it_ended_does_not_replace_what_the_next_one_says() -> None:
    heard = gossip(said(state(2, worker(2, epoch=5)), boot=4, boot_id=44, sequence=1))
    late = said(state(2, worker(2, epoch=5, leads=True), port=9), boot=3, boot_id=33, sequence=900)
    assert not heard.hear(late, 1.0)
    assert heard.state_of(2).endpoint.port == 2  # type: ignore[union-attr]
    assert heard.hear(said(state(2), boot=5, boot_id=55, sequence=1), 1.0)


def test_a_directory_that_counts_fewer_starts_than_before_is_heard_after_a_while() -> None:
    """It was put back from a backup."""
    heard = gossip(said(state(2), boot=9, boot_id=99))
    restored = said(state(2), boot=2, boot_id=22, sequence=1)
    assert not heard.hear(restored, NODE_SILENT_S - 0.1)
    assert heard.hear(restored, NODE_SILENT_S)


def said(told: NodeState, *, boot: int = 1, boot_id: int = 2, sequence: int = 1) -> NodeState:
    return msgspec.structs.replace(told, boot=boot, boot_id=boot_id, sequence=sequence)


def test_figures_alone_are_no_news() -> None:
    heard = gossip(state(2, worker(2, epoch=1)))
    later = worker(2, epoch=1)
    later.status.high_watermark = 1000
    assert not heard.hear(state(2, later), 1.0)
    assert heard.hear(state(2, worker(2, epoch=2)), 1.0)
