"""Group coordinators in the workers of real nodes, and what they remember when these die."""

from __future__ import annotations

import signal

import psutil
import pytest

from raftlog.client.admin.admin import Admin
from raftlog.errors import ErrorCode, InvalidTopicError
from raftlog.node.local import LocalCluster
from raftlog.protocol import apis
from raftlog.protocol import groups as g
from raftlog.protocol.envelope import decode_response, encode_request
from raftlog.protocol.records import FetchRequest, FetchResponse, ProduceRequest
from raftlog.record.batch import encode as encode_batch
from raftlog.types import OFFSETS_TOPIC, CleanupPolicy, ReplicaStatus
from tests.conftest import ClusterFactory
from tests.node.asking import ask, create_topic, delete_topic, exchange, leaders, metadata, statuses, until
from tests.node.grouping import Grouping

pytestmark = pytest.mark.timeout(120)


def _grouping(cluster: LocalCluster, group_id: str = "readers") -> Grouping:
    return Grouping(lambda: cluster.endpoints[1], group_id)


def test_the_offsets_topic_is_made_at_first_use_and_belongs_to_raftlog(cluster: LocalCluster) -> None:
    grouping = _grouping(cluster)
    assert grouping.found.partitions == 3
    again = _grouping(cluster)
    assert again.found.topic_id == grouping.found.topic_id
    found = until(lambda: metadata(cluster.endpoints[1], [OFFSETS_TOPIC]))
    topic = found.topics[0]
    assert topic.topic_id == grouping.found.topic_id
    assert [sorted(partition.replicas) for partition in topic.partitions] == [[1, 2, 3]] * 3
    assert [partition.witnesses for partition in topic.partitions] == [[]] * 3
    assert topic.config["cleanup_policy"] == CleanupPolicy.COMPACT and topic.config["retention_ms"] == -1
    assert create_topic(cluster.endpoints[1], OFFSETS_TOPIC).error_code == InvalidTopicError.code
    assert delete_topic(cluster.endpoints[1], OFFSETS_TOPIC).error_code == InvalidTopicError.code


def test_nobody_produces_to_the_offsets_topic_and_everybody_may_fetch_from_it(cluster: LocalCluster) -> None:
    grouping = _grouping(cluster)
    grouping.commit(5)
    where = grouping.found.topic_id, grouping.partition
    header = encode_request(apis.PRODUCE, 7, ProduceRequest(acks=-1, timeout_ms=1000), *where)
    frames = exchange(grouping.coordinator(), [header, encode_batch([(0, b"key", b"value")])])
    _, _, (refused,) = decode_response(frames[0])
    assert (refused.correlation_id, refused.error_code) == (7, ErrorCode.INVALID_TOPIC_EXCEPTION)
    fetch = FetchRequest(offset=0, max_bytes=1000)
    answer = ask(grouping.coordinator(), fetch, topic_id=where[0], partition=where[1])
    assert isinstance(answer, FetchResponse) and not answer.error_code and answer.high_watermark > 0


def test_a_worker_that_does_not_lead_is_no_coordinator(cluster: LocalCluster) -> None:
    grouping = _grouping(cluster)
    known = until(lambda: leaders(cluster.endpoints[1], OFFSETS_TOPIC))
    partition, endpoint = next(item for item in known.items() if item[0] != grouping.partition)
    asked = g.OffsetFetchRequest(group_id="readers")
    wrong = ask(endpoint, asked, topic_id=grouping.found.topic_id, partition=grouping.partition)
    assert isinstance(wrong, g.OffsetFetchResponse)
    assert wrong.error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    other = ask(endpoint, g.ListGroupsRequest(), topic_id=b"another topic's ", partition=partition)
    assert isinstance(other, g.ListGroupsResponse) and other.error_code == ErrorCode.INCONSISTENT_TOPIC_ID


def test_a_group_of_one_lives_and_dies(cluster: LocalCluster) -> None:
    grouping = _grouping(cluster, "one")
    joined = grouping.join()
    assert joined.generation_id == 1
    assert grouping.heartbeat(joined) == 0
    member = {"generation_id": joined.generation_id, "member_id": joined.member_id}
    assert grouping.commit(7, **member).error_code == 0
    assert grouping.commit(8, generation_id=0, member_id=joined.member_id).error_code == ErrorCode.ILLEGAL_GENERATION
    assert grouping.fetched() == {0: 7}
    assert "one" in [listed.group_id for listed in grouping.ask(g.ListGroupsRequest).groups]
    described = grouping.ask(g.DescribeGroupRequest)
    assert (described.state, described.members[0].assignment) == ("Stable", b"all of it")
    left = grouping.ask(g.LeaveGroupRequest, members=[g.LeavingMember(member_id=joined.member_id)])
    assert left.member_error_codes == [0]

    def deleted() -> bool:
        version = grouping.ask(g.OffsetFetchRequest, partitions=[], with_version=True).version
        return grouping.ask(g.DeleteGroupRequest, version=version).error_code == 0

    until(deleted)  # that its last member has left is on its way to the log
    assert grouping.fetched() == {}


def test_a_session_ends_although_nobody_says_anything(cluster: LocalCluster) -> None:
    """The worker wakes up by itself."""
    grouping = _grouping(cluster, "silent")
    grouping.join(session_timeout_ms=1_000)
    until(lambda: grouping.ask(g.DescribeGroupRequest).state == "Dead")


def _leader(cluster: LocalCluster, partition: int) -> ReplicaStatus | None:
    """None: the node that is asked has not heard of it, or not of its process."""
    for status in statuses(cluster.endpoints[min(cluster.pids)], OFFSETS_TOPIC):
        if status.partition == partition and status.leader_id == status.node_id and status.worker_pid:
            return status
    return None


def test_commits_and_generation_survive_the_death_of_the_coordinator(fresh_cluster: ClusterFactory) -> None:
    cluster = fresh_cluster(nodes=3)
    grouping = Grouping(lambda: cluster.endpoints[min(cluster.pids)])
    joined = grouping.join()
    member = {"generation_id": joined.generation_id, "member_id": joined.member_id}
    for offset in (1, 2, 3):
        assert grouping.commit(offset, **member).error_code == 0
        before = grouping.coordinator()
        leader = until(lambda: _leader(cluster, grouping.partition))
        if offset < 3:
            psutil.Process(leader.worker_pid).send_signal(signal.SIGKILL)
        else:
            cluster.kill(leader.node_id)
        until(lambda before=before: grouping.coordinator() not in (None, before))
        assert grouping.fetched() == {0: offset}
        assert grouping.heartbeat(joined) == 0
        assert grouping.sync(joined, []).assignment == b"all of it"


def test_commits_survive_the_power_failure_of_a_single_node(fresh_cluster: ClusterFactory) -> None:
    cluster = fresh_cluster(nodes=1)
    grouping = _grouping(cluster)
    assert grouping.found.partitions == 1
    for partition in range(5):
        assert grouping.commit(100 + partition, partition=partition).error_code == 0
    cluster.kill(1)
    cluster.start(1)
    assert grouping.fetched() == {partition: 100 + partition for partition in range(5)}


def test_the_offsets_topic_is_not_altered_and_not_shown_to_those_who_do_not_ask_for_it(cluster: LocalCluster) -> None:
    _grouping(cluster)
    with Admin(cluster.bootstrap) as admin:
        assert OFFSETS_TOPIC not in admin.list_topics()
        for change in (
            lambda: admin.create_partitions(OFFSETS_TOPIC, 9),
            lambda: admin.alter_topic(OFFSETS_TOPIC, {"cleanup_policy": "delete"}),
        ):
            with pytest.raises(InvalidTopicError):
                change()
