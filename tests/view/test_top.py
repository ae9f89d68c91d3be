"""Two looks at a cluster make rates."""

from __future__ import annotations

from raftlog.errors import ErrorCode
from raftlog.protocol.cluster import MetadataResponse, NodeMetadata, PartitionMetadata, TopicMetadata
from raftlog.protocol.report import ThrottledClient
from raftlog.types import Endpoint, ReplicaStatus, Role
from raftlog.view.groups import GroupPartitionView, GroupView
from raftlog.view.top import Look, top

NODE = NodeMetadata(node_id=1, endpoint=Endpoint("h", 1), alive=True, voter=True)
CLUSTER = MetadataResponse(cluster_id="c", controller_id=1, nodes=[NODE], confirmed=True)


def _topic(name: str, topic_id: bytes, leader: int = 1) -> TopicMetadata:
    part = PartitionMetadata(
        partition=0, leader_id=leader, leader_epoch=1, endpoint=None, replicas=[1], in_sync=[1] if leader > 0 else []
    )
    return TopicMetadata(name=name, topic_id=topic_id, error_code=ErrorCode.NONE, partitions=[part], config={})


def _status(name: str, topic_id: bytes, records: int) -> ReplicaStatus:
    return ReplicaStatus(
        topic=name,
        topic_id=topic_id,
        partition=0,
        node_id=1,
        role=Role.LEADER,
        high_watermark=records,
        size_bytes=records * 10,
        in_sync=(1,),
    )


def _group(committed: int) -> GroupView:
    part = GroupPartitionView(
        topic="a",
        partition=0,
        committed_offset=committed,
        log_start_offset=0,
        log_end_offset=100,
        lag=100 - committed,
        member=None,
        client=None,
    )
    return GroupView(
        group="g",
        state="Empty",
        protocol="",
        generation=0,
        coordinator=1,
        lag=part.lag or 0,
        members=[],
        partitions=[part],
    )


def _look(at_s: float, records: dict[str, int], committed: int, *, leaderless: str = "") -> Look:
    ids = {name: name.encode() * 16 for name in records}
    return Look(
        at_s,
        CLUSTER,
        [_topic(name, ids[name], -1 if name == leaderless else 1) for name in records],
        [_status(name, ids[name], count) for name, count in records.items()],
        [_group(committed)],
    )


def test_the_busiest_comes_first_with_its_rate() -> None:
    found = top(_look(10.0, {"a": 0, "b": 50}, 10), _look(12.0, {"a": 10, "b": 150}, 30))
    assert [(each.partition, each.records_per_s, each.bytes_per_s) for each in found.partitions] == [
        ("b-0", 50.0, 500.0),
        ("a-0", 5.0, 50.0),
    ]
    assert [(each.group, each.lag, each.read_per_s) for each in found.groups] == [("g", 70, 10.0)]


def test_what_has_a_problem_comes_before_all() -> None:
    found = top(_look(10.0, {"a": 0, "b": 50}, 10), _look(12.0, {"a": 0, "b": 150}, 30, leaderless="a"))
    assert [each.partition for each in found.partitions] == ["a-0", "b-0"]
    assert "no leader" in found.partitions[0].problems


def test_the_first_look_has_no_rates() -> None:
    found = top(None, _look(10.0, {"a": 5}, 10))
    assert found.partitions[0].records_per_s is None
    assert found.groups[0].read_per_s is None


def test_a_topic_made_anew_under_its_name_has_no_rate_yet() -> None:
    now = _look(12.0, {"a": 3}, 0)
    anew = now._replace(topics=[_topic("a", b"z" * 16)], replicas=[_status("a", b"z" * 16, 3)])
    assert top(_look(10.0, {"a": 100}, 0), anew).partitions[0].records_per_s is None


def _held(client: str, times: int, seconds: float) -> ThrottledClient:
    return ThrottledClient(door="native", user="alice", client=client, times=times, seconds=seconds)


def test_who_is_held_back_now_comes_before_who_was_for_longer() -> None:
    before, now = _look(10.0, {"a": 0}, 0), _look(12.0, {"a": 0}, 0)
    before = before._replace(throttled={1: [_held("old", 9, 90.0), _held("new", 1, 0.5)], 2: [_held("new", 1, 0.5)]})
    now = now._replace(throttled={1: [_held("old", 9, 90.0), _held("new", 2, 1.5)], 2: [_held("new", 2, 1.0)]})
    assert [(each.client, each.times, each.seconds, each.held_per_s) for each in top(before, now).throttled] == [
        ("new", 4, 2.5, 0.75),
        ("old", 9, 90.0, 0.0),
    ]
    assert {each.held_per_s for each in top(None, now).throttled} == {None}


def test_a_node_that_began_again_and_one_that_is_silent_take_nothing_away() -> None:
    before = _look(10.0, {"a": 0}, 0)._replace(throttled={1: [_held("c", 5, 50.0)], 2: [_held("c", 1, 1.0)]})
    now = _look(12.0, {"a": 0}, 0)._replace(throttled={1: [_held("c", 1, 0.5)]})
    (held,) = top(before, now).throttled
    assert (held.times, held.held_per_s) == (1, 0.0)
