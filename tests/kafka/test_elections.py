"""ElectLeaders answers as Kafka does, in every version that is listed."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from raftlog.errors import ErrorCode
from raftlog.kafka.calls import AnyLeader, Node, Target
from raftlog.kafka.codes import KafkaCode
from raftlog.protocol import apis
from raftlog.protocol.cluster import MetadataResponse
from raftlog.protocol.records import ElectLeaderResponse
from raftlog.types import Endpoint
from tests.kafka.door import Door, cluster, topic, topic_id, versions

PREFERRED, UNCLEAN = 0, 1
TEN_S = 10_000


def _door(*leaders: int) -> Door:
    """Node 1 is the preferred replica of every partition."""
    return Door(cluster(topic("orders", 1, leaders)))


def _electing(door: Door) -> None:
    """Whoever is asked hands over, of which the door hears a little later, and node 2 after it."""
    heard = topic("orders", 1, (2,) * 9)

    def hear() -> None:
        nonlocal heard
        heard = topic("orders", 1, (1,) * 9)

    def hand_over(target: Target, _body: Any) -> ElectLeaderResponse:
        assert isinstance(target, AnyLeader)
        assert (target.topic, target.topic_id) == ("orders", topic_id(1))
        door.later(0.1, lambda: door.learn(cluster(topic("orders", 1, (1,) * 9))))
        door.later(0.15, hear)
        return ElectLeaderResponse()

    door.workers[apis.ELECT_LEADER] = hand_over
    door.workers[apis.METADATA] = lambda *_: MetadataResponse(topics=[heard])


def _elected(door: Door, version: int, named: Any, **fields: Any) -> dict[tuple[str, int], int]:
    answer = door.request("ElectLeaders", version, topic_partitions=named, timeout=TEN_S, **fields)
    assert answer.get("error_code", 0) == 0
    return {
        (each["topic"], found["partition_id"]): found["error_code"]
        for each in answer["replica_election_results"]
        for found in each["partition_result"]
    }


@pytest.mark.parametrize("version", versions("ElectLeaders"))
def test_the_preferred_replica_leads_again(version: int) -> None:
    door = _door(1, 2)
    _electing(door)
    wanted = [{"topic": "orders", "partitions": [0, 1, 7]}, {"topic": "none", "partitions": [0]}]
    assert _elected(door, version, wanted) == {
        ("orders", 0): KafkaCode.ELECTION_NOT_NEEDED,
        ("orders", 1): 0,
        ("orders", 7): ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ("none", 0): ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
    }
    assert [place for place, _ in door.asked if isinstance(place, AnyLeader)] == [AnyLeader("orders", topic_id(1), 1)]
    assert door.asked[-1][0] == Node(Endpoint("127.0.0.1", 7072)) and door.now_s() >= 100.15
    moved = door.cluster.partition("orders", 1)
    assert moved is not None and moved.leader_id == 1


@pytest.mark.parametrize("version", versions("ElectLeaders"))
def test_of_all_partitions_those_are_named_where_something_was_to_be_done(version: int) -> None:
    door = _door(1, 2, 2, 1)
    _electing(door)
    assert _elected(door, version, None) == {("orders", 1): 0, ("orders", 2): 0}


def test_a_replica_that_is_not_in_sync_is_not_elected() -> None:
    told = topic("orders", 1, (2, 2))
    told.partitions[0] = msgspec.structs.replace(told.partitions[0], in_sync=[2])
    told.partitions[1] = msgspec.structs.replace(told.partitions[1], replicas=[3, 1, 2])  # node 3 is not alive
    codes = _elected(Door(cluster(told)), 2, [{"topic": "orders", "partitions": [0, 1]}])
    assert set(codes.values()) == {ErrorCode.PREFERRED_LEADER_NOT_AVAILABLE}


def test_an_unclean_election_is_refused() -> None:
    door = _door(2, -1)
    assert _elected(door, 2, [{"topic": "orders", "partitions": [0, 1, 7]}], election_type=UNCLEAN) == {
        ("orders", 0): KafkaCode.ELECTION_NOT_NEEDED,
        ("orders", 1): ErrorCode.INVALID_REQUEST,
        ("orders", 7): ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
    }
    assert _elected(door, 2, None, election_type=UNCLEAN) == {("orders", 1): ErrorCode.INVALID_REQUEST}
    assert set(_elected(door, 2, None, election_type=7).values()) == {ErrorCode.INVALID_REQUEST}
    assert not door.asked


def test_a_leader_that_cannot_be_asked_is_told() -> None:
    door = _door(2)
    door.workers[apis.ELECT_LEADER] = lambda *_: ElectLeaderResponse(ErrorCode.REQUEST_TIMED_OUT, "nobody")
    assert _elected(door, 2, [{"topic": "orders", "partitions": [0]}]) == {("orders", 0): ErrorCode.REQUEST_TIMED_OUT}
