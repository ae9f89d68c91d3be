"""A quota at Kafka's door: answers say how long to wait, and for so long nothing is read of the connection."""

from __future__ import annotations

from typing import Any

import pytest

from raftlog.protocol import apis
from raftlog.protocol.records import LocateResponse, ProduceResult
from raftlog.security.policy import Access, Policy, Security
from raftlog.security.quotas import CONSUMER_BYTE_RATE, PRODUCER_BYTE_RATE, Entity, Quota, entity_of
from tests.kafka.door import cluster, topic, topic_id
from tests.kafka.workbench import Client, Workbench

PRODUCE, FETCH = 0, 1
RATE = 1000
ANYBODY = entity_of(user="ANONYMOUS")


def bench(entity: Entity = ANYBODY, key: str = PRODUCER_BYTE_RATE) -> Workbench:
    made = Workbench(cluster(topic("orders")))
    limit(made, Quota(entity, key, RATE))
    return made


def limit(made: Workbench, *quotas: Quota) -> None:
    made.broker.secure(Policy(Security(offset=1, quotas=quotas), Access()), [])


def produce(client: Client, size_bytes: int, version: int = 9, acks: int = -1) -> None:
    data = [{"index": 0, "records": bytes(size_bytes)}]
    topics = [{"name": "orders", "topic_id": topic_id(1), "partition_data": data}]
    client.send(PRODUCE, version, answered=acks != 0, acks=acks, timeout=1500, topic_data=topics)


def produced(made: Workbench, client: Client, size_bytes: int, version: int = 9) -> int:
    """What the answer says how long to wait, in ms."""
    produce(client, size_bytes, version)
    made.take(apis.PRODUCE).answer(ProduceResult(base_offset=7))
    ((answer),) = client.answers()
    assert answer["responses"][0]["partition_responses"][0]["base_offset"] == 7
    told: int = answer["throttle_time"]
    return told


def fetch(client: Client, version: int = 12, max_bytes: int = 10_000) -> None:
    partition = {"partition": 0, "fetch_offset": 5, "partition_max_bytes": 10_000, "current_leader_epoch": -1}
    topics = [{"topic": "orders", "topic_id": topic_id(1), "partitions": [partition]}]
    named: dict[str, Any] = {"max_wait": 500, "min_bytes": 1, "max_bytes": max_bytes, "topics": topics}
    client.send(FETCH, version, **named, forgotten_topics_data=[])


@pytest.mark.parametrize("version", range(3, 14))
def test_a_producer_is_told_and_held_for_so_long(version: int) -> None:
    made = bench()
    client = made.connect()
    assert produced(made, client, RATE // 2, version) == 0 and not client.connection.held
    told_ms = produced(made, client, 2 * RATE, version)
    assert 1500 <= told_ms <= 1800  # its header counts too, as in Kafka
    assert client.connection.held
    made.pass_time(told_ms / 1000 - 0.01)
    assert client.connection.held
    made.broker.touched.clear()
    made.pass_time(0.01)
    assert not client.connection.held and client.connection in made.broker.touched


def test_what_had_come_already_is_served_and_waited_for_too() -> None:
    made = bench()
    client = made.connect()
    told_ms = [produced(made, client, 2 * RATE) for _ in range(3)]
    assert told_ms == sorted(told_ms) and 5_000 < told_ms[-1] < 5_500
    made.pass_time(told_ms[0] / 1000)
    assert client.connection.held
    made.pass_time(told_ms[-1] / 1000)
    assert not client.connection.held


def test_a_refused_produce_is_told_as_well_and_one_without_an_answer_is_held() -> None:
    made = bench()
    client = made.connect()
    produce(client, 2 * RATE)
    made.take(apis.PRODUCE).answer(ProduceResult(error_code=6))
    assert client.answers()[0]["throttle_time"] > 1000
    silent = made.connect()
    produce(silent, RATE, acks=0)
    assert silent.answers() == [] and silent.connection.held


def test_others_go_on() -> None:
    made = bench(entity_of(user="alice"))
    client, alice = made.connect(), made.connect()
    alice.connection.session.principal = "User:alice"
    assert produced(made, alice, 9 * RATE) > 0
    assert produced(made, client, 9 * RATE) == 0 and not client.connection.held


@pytest.mark.parametrize("version", range(4, 19))
def test_a_consumer_gets_no_more_at_once_than_its_quota_and_waits_then(version: int) -> None:
    made = bench(entity_of(client_id=None), CONSUMER_BYTE_RATE)
    client = made.connect()
    told = []
    for _ in range(2):
        fetch(client, version)
        asked = made.take(apis.LOCATE)
        assert asked.body.max_bytes == RATE
        found = {"high_watermark": 9, "log_start_offset": 2, "leader_id": 1, "leader_epoch": 5}
        asked.answer(LocateResponse(**found, path="r" * RATE, length=RATE))
        (answer,) = client.answers()
        told.append(answer["throttle_time"])
    assert told == [0, 1000] and client.connection.held


def test_without_quotas_nobody_is_asked_and_a_quota_that_is_gone_holds_nobody_longer() -> None:
    made = bench()
    client = made.connect()
    assert produced(made, client, 3 * RATE) > 0
    limit(made)
    assert not made.broker.throttles
    made.pass_time(3)
    assert produced(made, client, 90 * RATE) == 0 and not client.connection.held
