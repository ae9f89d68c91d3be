"""Produce: batches pass untouched, in their order; each partition of a request has its own answer."""

from __future__ import annotations

from typing import Any

import pytest

from raftlog import limits
from raftlog.errors import ErrorCode
from raftlog.kafka.calls import Leader
from raftlog.kafka.codes import KafkaCode
from raftlog.protocol import apis
from raftlog.protocol.records import ProduceResult
from tests.kafka.door import cluster, topic, topic_id
from tests.kafka.workbench import Client, Workbench

PRODUCE = 0
VERSIONS = range(3, 14)


def _bench() -> Workbench:
    return Workbench(cluster(topic("orders", leaders=(1, 1))))


def _send(
    client: Client, version: int, *batches: tuple[int, bytes | None], acks: int = -1, name: str = "orders"
) -> None:
    number = {"orders": 1}.get(name, 9)
    data = [{"index": index, "records": records} for index, records in batches]
    client.send(
        PRODUCE,
        version,
        answered=acks != 0,
        acks=acks,
        timeout=1500,
        topic_data=[{"name": name, "topic_id": topic_id(number), "partition_data": data}],
    )


def _partitions(answer: dict[str, Any]) -> list[tuple[int, int, int]]:
    (found,) = answer["responses"]
    assert found.get("name", "orders") == "orders" and found.get("topic_id", topic_id(1)) == topic_id(1)
    return [(each["index"], each["error_code"], each["base_offset"]) for each in found["partition_responses"]]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_batch_reaches_the_leaders_worker_as_it_came(version: int) -> None:
    bench = _bench()
    client = bench.connect()
    _send(client, version, (1, b"a batch"))
    asked = bench.take(apis.PRODUCE)
    assert (asked.target, asked.payload) == (Leader(topic_id(1), 1), b"a batch")
    assert (asked.body.acks, asked.body.timeout_ms) == (-1, 1500)
    assert client.answers() == []
    asked.answer(ProduceResult(base_offset=7))
    assert _partitions(client.answers()[0]) == [(1, 0, 7)]


@pytest.mark.parametrize("append_ms", [-1, 1_700_000_000_123])
def test_a_producer_is_told_the_time_that_the_leader_gave(append_ms: int) -> None:
    bench = _bench()
    client = bench.connect()
    _send(client, 9, (1, b"a batch"))
    bench.take(apis.PRODUCE).answer(ProduceResult(base_offset=7, append_ms=append_ms))
    ((partition,),) = [each["partition_responses"] for each in client.answers()[0]["responses"]]
    told = partition["log_append_time"]
    assert (-1 if told is None else round(told.timestamp() * 1000)) == append_ms


def test_the_next_request_does_not_wait_and_answers_keep_their_order() -> None:
    bench = _bench()
    client = bench.connect()
    _send(client, 9, (0, b"first"))
    _send(client, 9, (0, b"second"))
    first, second = bench.take(apis.PRODUCE), bench.take(apis.PRODUCE)
    assert (first.payload, second.payload) == (b"first", b"second")
    second.answer(ProduceResult(base_offset=1))
    assert client.answers() == []
    first.answer(ProduceResult(base_offset=0))
    assert [_partitions(each) for each in client.answers()] == [[(0, 0, 0)], [(0, 0, 1)]]


def test_each_partition_stands_or_falls_alone() -> None:
    bench = _bench()
    client = bench.connect()
    _send(client, 10, (0, b"one"), (1, b"two"))
    one, two = bench.take(apis.PRODUCE), bench.take(apis.PRODUCE)
    two.answer(ProduceResult(base_offset=4))
    refusal = ProduceResult(error_code=ErrorCode.NOT_LEADER_OR_FOLLOWER, leader_id=2, leader_epoch=9)
    one.answer(refusal)
    (answer,) = client.answers()
    assert _partitions(answer) == [(0, ErrorCode.NOT_LEADER_OR_FOLLOWER, -1), (1, 0, 4)]
    leader = answer["responses"][0]["partition_responses"][0]["current_leader"]
    assert leader == {"leader_id": 2, "leader_epoch": 9}


@pytest.mark.parametrize(
    ("version", "code"), [(9, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION), (13, KafkaCode.UNKNOWN_TOPIC_ID)]
)
def test_a_topic_that_is_not_there_asks_nobody(version: int, code: int) -> None:
    bench = _bench()
    client = bench.connect()
    _send(client, version, (0, b"batch"), name="others")
    assert not bench.asked
    (answer,) = client.answers()
    assert answer["responses"][0]["partition_responses"][0]["error_code"] == code


def test_no_records_are_no_batch() -> None:
    client = _bench().connect()
    _send(client, 9, (0, None))
    assert _partitions(client.answers()[0]) == [(0, ErrorCode.INVALID_RECORD, -1)]


def test_acks_0_is_not_answered_and_holds_nothing_up() -> None:
    bench = _bench()
    client = bench.connect()
    _send(client, 7, (0, b"silent"), acks=0)
    _send(client, 7, (0, b"loud"))
    silent, loud = bench.take(apis.PRODUCE), bench.take(apis.PRODUCE)
    # Its worker answers all the same: silence would mean that it is gone.
    assert (silent.body.acks, silent.payload) == (1, b"silent")
    silent.answer(ProduceResult(base_offset=3))
    assert client.answers() == [] and not client.connection.closing
    loud.answer(ProduceResult(base_offset=1))
    assert _partitions(client.answers()[0]) == [(0, 0, 1)]
    assert client.connection.closing == ""


def test_a_refused_request_with_acks_0_ends_the_connection() -> None:
    bench = _bench()
    client = bench.connect()
    _send(client, 7, (0, b"silent"), acks=0)
    bench.take(apis.PRODUCE).answer(ProduceResult(error_code=ErrorCode.NOT_LEADER_OR_FOLLOWER))
    assert "acks=0" in client.connection.closing


def test_what_too_much_waits_for_is_sent_again() -> None:
    bench = _bench()
    client = bench.connect()
    _send(client, 9, (0, b"batch"))
    bench.take(apis.PRODUCE).answer(ProduceResult(error_code=ErrorCode.THROTTLING_QUOTA_EXCEEDED))
    assert _partitions(client.answers()[0]) == [(0, ErrorCode.NOT_ENOUGH_REPLICAS, -1)]


def test_a_transaction_is_refused() -> None:
    bench = _bench()
    client = bench.connect()
    data = [{"index": 0, "records": b"batch"}]
    client.send(PRODUCE, 9, transactional_id="t", acks=-1, topic_data=[{"name": "orders", "partition_data": data}])
    assert not bench.asked
    assert _partitions(client.answers()[0]) == [(0, KafkaCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, -1)]


def test_more_partitions_than_one_request_may_have_end_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "KAFKA_PARTITIONS_PER_PRODUCE", 2)
    for version in (8, 9):
        bench = _bench()
        client = bench.connect()
        _send(client, version, (0, b"a"), (1, b"b"))
        assert (len(bench.asked), client.connection.closing) == (2, "")
        _send(client, version, (0, b"a"), (1, b"b"), (2, b"c"))
        assert (len(bench.asked), "does not decode" in client.connection.closing) == (2, True)


def test_a_question_without_records_is_no_larger_than_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "KAFKA_QUESTION_BYTES_MAX", 60)
    bench = _bench()
    client = bench.connect()
    _send(client, 9, (0, b"x" * 100))
    assert client.connection.closing == ""
    client.send(3, 12, topics=[{"name": "t" * 100, "topic_id": None}])
    assert "Metadata of" in client.connection.closing


def test_the_items_of_all_lists_together_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "KAFKA_ITEMS_MAX", 4)
    client = _bench().connect()
    client.send(3, 12, topics=[{"name": "t", "topic_id": None}] * 4)
    assert client.connection.closing == ""
    client.send(3, 12, topics=[{"name": "t", "topic_id": None}] * 5)
    assert "more than 4 items" in client.connection.closing
