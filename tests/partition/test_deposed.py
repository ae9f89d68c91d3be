"""A leader that hung, was deposed and does not know: it hands out what is committed, and denies or bounds nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from raftlog.errors import ErrorCode
from raftlog.protocol.envelope import Request
from raftlog.protocol.records import (
    HIGH_WATERMARK,
    DeleteRecordsRequest,
    DeleteRecordsResponse,
    DescribeProducersRequest,
    ElectLeaderRequest,
    ListOffsetsRequest,
    LocateRequest,
    OffsetForLeaderEpochRequest,
    WatchRequest,
)
from raftlog.record.batch import numbered
from raftlog.types import EARLIEST_TIMESTAMP, LATEST_TIMESTAMP, NEWEST_TIMESTAMP
from tests.partition.harness import PLACE, Cluster, Node, batch, fetch, produce
from tests.requests import request_of

HAD, HAS = 5, 8  # where the log ends at the deposed leader, and where by now


def put(cluster: Cluster, leader: Node, *sequences: int) -> None:
    for sequence in sequences:
        leader.request("p", produce(sequence), [numbered(batch(b"%d" % sequence), 9, 0, sequence)])
        cluster.settle()
    cluster.settle(0.1)
    assert {result.error_code for result in leader.results()} == {0}


class Deposed:
    """`old` led until it hung; `new` has taken more records since. Nobody has told `old`, which has had no turn."""

    def __init__(self) -> None:
        self.cluster = Cluster(3)
        self.old = self.cluster.leader()
        put(self.cluster, self.old, *range(HAD))
        self.old.answers.clear()
        self.cluster.away = {self.old.node_id}
        others = [node for node in self.cluster.nodes.values() if node is not self.old]
        for node in others:
            node.replica.set_peer(self.old.node_id, 0)  # who hears that it is gone does not wait for its heartbeats
            if node is others[0]:
                self.cluster.clock.advance(0.16)  # it stands alone, so that they do not divide the votes
        while not any(node.replica.leader_ready for node in others):
            self.cluster.settle()
        self.new = next(node for node in others if node.replica.leader_ready)
        put(self.cluster, self.new, *range(HAD, HAS))
        self.new.answers.clear()
        self.cluster.queue.clear()
        for node in others:
            node.replica.set_peer(self.old.node_id, self.old.boot_id)
        assert self.old.replica.is_leader and self.old.replica.high_watermark == HAD

    def ask_old(self, request: Any, payload: list[bytes] | None = None) -> list[tuple[Any, Any]]:
        """All that it answers until it has heard of its successor."""
        self.old.request("c", request, payload or [])
        self.old.replica.turn()
        assert self.old.replica.is_leader, "it was asked while it believed that it leads"
        self.cluster.away = set()
        self.cluster.settle(0.5)
        assert not self.old.replica.is_leader
        return [(response, payload) for client, response, payload in self.old.answers if client == "c"]


def offsets(timestamp_ms: int, leader_epoch: int = -1) -> Request[ListOffsetsRequest]:
    return request_of(ListOffsetsRequest(timestamp_ms=timestamp_ms, leader_epoch=leader_epoch), 1, **PLACE)


def delete(offset: int) -> Request[DeleteRecordsRequest]:
    return request_of(DeleteRecordsRequest(offset=offset), 1, **PLACE)


@pytest.mark.parametrize(
    "make",
    [
        lambda: fetch(HAD + 1),
        lambda: fetch(HAS),
        lambda: offsets(LATEST_TIMESTAMP),
        lambda: offsets(EARLIEST_TIMESTAMP),
        lambda: offsets(1_600_000_000_000),
        lambda: offsets(1_800_000_000_000),
        lambda: offsets(NEWEST_TIMESTAMP),
        lambda: request_of(OffsetForLeaderEpochRequest(1), 1, **PLACE),
        lambda: request_of(WatchRequest(HAD), 1, **PLACE),
        lambda: request_of(LocateRequest(HAS, 1), 1, **PLACE),
        lambda: request_of(ElectLeaderRequest(), 1, **PLACE),
        lambda: request_of(DescribeProducersRequest(), 1, **PLACE),
        lambda: delete(HAS),
        lambda: delete(HIGH_WATERMARK),
    ],
    ids=[
        "beyond",
        "new-end",
        "latest",
        "earliest",
        "time",
        "no-such-time",
        "newest",
        "epoch",
        "watch",
        "locate",
        "elect",
        "producers",
        "delete-beyond",
        "delete-all",
    ],
)
def test_it_answers_only_that_it_does_not_lead(make: Callable[[], Any]) -> None:
    answered = Deposed().ask_old(make())
    assert [ErrorCode(response.error_code) for response, _ in answered] == [ErrorCode.NOT_LEADER_OR_FOLLOWER]


def test_it_deletes_nothing() -> None:
    deposed = Deposed()
    deposed.ask_old(delete(HIGH_WATERMARK))
    assert deposed.old.log.state.log_start_offset == 0


def test_an_offset_that_it_has_deleted_is_not_out_of_range_before_it_is_known_to_lead() -> None:
    """Retention runs on each replica by itself, so its log may begin where nobody else's does."""
    deposed = Deposed()
    deposed.old.replica.delete_head(3)
    answered = deposed.ask_old(fetch(1))
    assert [response.error_code for response, _ in answered] == [ErrorCode.NOT_LEADER_OR_FOLLOWER]


def test_it_hands_out_committed_records_at_once() -> None:
    deposed = Deposed()
    deposed.old.request("c", fetch(2), [])
    deposed.old.replica.turn()
    ((_, response, payload),) = deposed.old.answers
    assert response.error_code == ErrorCode.NONE
    assert payload


@pytest.mark.parametrize("make", [lambda e: fetch(2, leader_epoch=e), lambda e: offsets(LATEST_TIMESTAMP, e)])
def test_who_knows_of_a_newer_epoch_is_told_at_once_that_it_does_not(make: Callable[[int], Any]) -> None:
    deposed = Deposed()
    deposed.old.request("c", make(deposed.new.replica.leader_epoch), [])
    ((_, response, payload),) = deposed.old.answers
    assert response.error_code == ErrorCode.UNKNOWN_LEADER_EPOCH
    assert not payload
    deposed.new.request("c", make(deposed.old.replica.leader_epoch), [])
    deposed.cluster.settle(0.1)
    assert [response.error_code for _, response, _ in deposed.new.answers] == [ErrorCode.NONE]


def test_a_follower_says_that_it_does_not_lead_whatever_the_client_knows() -> None:
    deposed = Deposed()
    deposed.cluster.away = set()
    deposed.cluster.settle(0.5)
    deposed.old.request("c", fetch(2, leader_epoch=99), [])
    assert deposed.old.answers[-1][1].error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER
    assert deposed.old.answers[-1][1].leader_epoch == deposed.new.replica.leader_epoch


# --- one that leads --------------------------------------------------------------------------
def test_out_of_range_is_said_once_a_majority_has_answered() -> None:
    cluster = Cluster(3)
    leader = cluster.leader()
    put(cluster, leader, *range(HAD))
    leader.answers.clear()
    for offset in (HAD + 1, 10**9):
        leader.request("c", fetch(offset), [])
    leader.replica.turn()
    assert leader.answers == []
    cluster.settle()
    assert [response.error_code for _, response, _ in leader.answers] == [ErrorCode.OFFSET_OUT_OF_RANGE] * 2


def test_an_offset_that_the_log_has_reached_meanwhile_is_fetched() -> None:
    """The records were acknowledged while the leader asked whether it leads."""
    cluster = Cluster(3)
    leader = cluster.leader()
    leader.request("c", fetch(1), [])
    for sequence in (0, 1):
        leader.request("p", produce(sequence), [batch(b"x")])
    cluster.settle(0.1)
    ((_, response, payload),) = [answer for answer in leader.answers if answer[0] == "c"]
    assert (response.error_code, bool(payload)) == (ErrorCode.NONE, True)


def test_one_without_a_majority_steps_down_and_refuses_what_waits() -> None:
    cluster = Cluster(3)
    leader = cluster.leader()
    cluster.away = {node_id for node_id in cluster.nodes if node_id != leader.node_id}
    leader.request("c", fetch(7), [])
    leader.request("c", offsets(LATEST_TIMESTAMP), [])
    leader.request("c", delete(7), [])
    cluster.settle(2.0)
    codes = [response.error_code for _, response, _ in leader.answers]
    assert codes == [ErrorCode.NOT_LEADER_OR_FOLLOWER] * 3


def test_records_deleted_while_a_fetch_waits_are_out_of_range_once_that_is_sure() -> None:
    cluster = Cluster(3)
    leader = cluster.leader()
    put(cluster, leader, *range(HAD))
    leader.answers.clear()
    leader.request("c", fetch(1), [])
    leader.replica.delete_head(3)
    leader.replica.turn()
    assert leader.answers == []
    cluster.settle()
    assert [response.error_code for _, response, _ in leader.answers] == [ErrorCode.OFFSET_OUT_OF_RANGE]


def test_a_single_replica_denies_at_once() -> None:
    cluster = Cluster(1)
    leader = cluster.leader()
    leader.request("c", fetch(7), [])
    leader.request("c", delete(7), [])
    leader.replica.turn()
    codes = [response.error_code for _, response, _ in leader.answers]
    assert codes == [ErrorCode.OFFSET_OUT_OF_RANGE] * 2
    assert isinstance(leader.answers[-1][1], DeleteRecordsResponse)
