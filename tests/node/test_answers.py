"""What any supervisor answers from its image and what it heard."""

from __future__ import annotations

from raftlog.controller.image import Image, apply
from raftlog.controller.records import ClusterRecord, NodeRecord, TopicRecord
from raftlog.errors import ErrorCode
from raftlog.limits import NODE_SILENT_S
from raftlog.node.answers import describe_replicas_response, metadata_response
from raftlog.node.gossip import Gossip
from raftlog.protocol.messages import DescribeReplicasRequest, MetadataRequest, MetadataResponse
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
    request = MetadataRequest(correlation_id=1, topics=topics)
    return metadata_response(request, image=image(), gossip=heard, now_s=now_s, flush="always")


def leader(heard: Gossip, now_s: float = 0.0) -> tuple[int, Endpoint | None]:
    partition = metadata(heard, now_s).topics[0].partitions[0]
    return partition.leader_id, partition.endpoint


def test_the_leader_is_the_living_replica_that_claims_the_highest_epoch() -> None:
    both = gossip(state(1, worker(1, epoch=3, leads=True)), state(2, worker(2, epoch=4, leads=True)))
    assert leader(both) == (2, Endpoint("h", 102))


def test_a_topic_that_is_named_again_and_again_is_answered_once() -> None:
    names = [topic.name for topic in metadata(gossip()).topics]
    assert [topic.name for topic in metadata(gossip(), topics=[*names, "no such"] * 1000).topics] == [*names, "no such"]


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
    request = DescribeReplicasRequest(correlation_id=1, topics=["orders"])
    first, second = describe_replicas_response(request, image=image(), gossip=heard, now_s=0.0).replicas
    assert (first.node_id, first.error) == (1, "node 1 has not started it yet")
    assert (second.node_id, second.error, second.role) == (2, "", Role.LEADER)
    late = describe_replicas_response(request, image=image(), gossip=heard, now_s=10.0).replicas[1]
    assert (late.error, late.role, late.high_watermark) == ("node 2 has been silent for 10 s", Role.FOLLOWER, 9)


def test_one_node_id_belongs_to_one_living_node() -> None:
    heard = gossip(state(2))
    impostor = state(2, directory_id="other", port=5)
    assert "in use by the node at h:2" in heard.conflict(impostor, 0.0)
    assert not heard.conflict(impostor, NODE_SILENT_S)
    assert not heard.conflict(state(2, port=5), 0.0), "the same directory at another address has moved"
    assert not heard.conflict(state(2, directory_id="wiped"), 0.0), "one address is held by one process"


def test_figures_alone_are_no_news() -> None:
    heard = gossip(state(2, worker(2, epoch=1)))
    later = worker(2, epoch=1)
    later.status.high_watermark = 1000
    assert not heard.hear(state(2, later), 1.0)
    assert heard.hear(state(2, worker(2, epoch=2)), 1.0)
