"""Quotas on a real node, through both doors: rates are kept, who does not wait is not read, and others go on."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterator
from typing import NamedTuple

import kafka
import pytest

from raftlog import Admin, Consumer, Producer
from raftlog.client import NewTopic
from raftlog.record.batch import BatchBuilder
from raftlog.security.quotas import CONSUMER_BYTE_RATE, PRODUCER_BYTE_RATE, entity_of
from raftlog.types import Endpoint, TopicPartition
from tests.kafka.tcp import API_VERSIONS, PRODUCE, KafkaSocket
from tests.node.asking import until
from tests.node.started import free_port, started
from tests.patience import WAIT_S

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(120)]
RATE = 100_000
PARTITIONS = 4  # each with a worker of its own: five records may be on their way to each
SPREAD = 60  # so many over all of them: what fits at once would fit nearly twice into all the workers' own buckets
RECORD = os.urandom(10_000)  # no codec makes it smaller
LIMITED, FREE = "limited", "free"
LEAST_S = 1.4  # of 30 records: ten fit at once, and the last five may be on their way
EAGER = "test"  # as KafkaSocket says


class Node(NamedTuple):
    native: str
    kafka: Endpoint


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    native, door = free_port(), free_port()
    listen = ["--listen", f"127.0.0.1:{native}", "--kafka-listen", f"127.0.0.1:{door}", "--kafka-processes", "2"]
    with started(tmp_path_factory.mktemp("quotas"), "--id", "1", "--data", "data", *listen) as running:
        running.ready()
        found = Node(f"127.0.0.1:{native}", Endpoint("127.0.0.1", door))
        with Admin(found.native) as admin:
            admin.create_topics([NewTopic(name="orders"), NewTopic(name="sales", partitions=PARTITIONS)])
            rates = {PRODUCER_BYTE_RATE: RATE, CONSUMER_BYTE_RATE: RATE}
            admin.alter_quotas([(entity_of(client_id=LIMITED), rates), (entity_of(client_id=EAGER), rates)])
        yield found


class Sent(NamedTuple):
    seconds: float
    throttled_ms: float  # at most, as its answers said


def sent_through_kafkas_door(node: Node, client_id: str, records: int) -> Sent:
    producer = kafka.KafkaProducer(bootstrap_servers=str(node.kafka), client_id=client_id, linger_ms=0, batch_size=1)
    try:
        began_s = time.monotonic()
        for future in [producer.send("orders", RECORD) for _ in range(records)]:
            future.get(WAIT_S)
        seconds = time.monotonic() - began_s
        groups = producer.metrics().values()
        told_ms = [group["throttle-time-max"] for group in groups if "throttle-time-max" in group]
        return Sent(seconds, max(0.0, *told_ms))  # NaN: none
    finally:
        producer.close()


def test_an_unchanged_producer_of_kafkas_gets_its_rate_and_others_are_not_held(node: Node) -> None:
    limited = sent_through_kafkas_door(node, LIMITED, 30)
    assert limited.seconds >= LEAST_S and limited.throttled_ms > 0
    assert sent_through_kafkas_door(node, FREE, 30).throttled_ms == 0


def test_an_unchanged_consumer_of_kafkas_gets_its_rate(node: Node) -> None:
    sent_through_kafkas_door(node, FREE, 30)
    place = kafka.TopicPartition("orders", 0)
    consumer = kafka.KafkaConsumer(bootstrap_servers=str(node.kafka), client_id=LIMITED, auto_offset_reset="earliest")
    try:
        consumer.assign([place])
        began_s = time.monotonic()
        found = 0
        while found < 30:
            found += sum(map(len, consumer.poll(timeout_ms=2_000).values()))
        assert time.monotonic() - began_s >= LEAST_S
    finally:
        consumer.close()


def test_raftlogs_own_clients_get_their_rate(node: Node) -> None:
    with Producer(node.native, client_id=LIMITED, batch_bytes=1, linger_ms=0) as producer:
        began_s = time.monotonic()
        for future in [producer.send("sales", RECORD) for _ in range(SPREAD)]:
            future.result(WAIT_S)
        assert time.monotonic() - began_s >= LEAST_S
    with Consumer(bootstrap_servers=node.native, client_id=LIMITED, auto_offset_reset="earliest") as consumer:
        consumer.assign([TopicPartition("sales", partition) for partition in range(PARTITIONS)])
        began_s = time.monotonic()
        for _, _record in zip(range(SPREAD), consumer, strict=False):
            pass
        assert time.monotonic() - began_s >= LEAST_S


def test_without_answers_raftlogs_own_producer_waits_as_well(node: Node) -> None:
    with Producer(node.native, client_id=LIMITED, acks=0, batch_bytes=1, linger_ms=0) as producer:
        began_s = time.monotonic()
        for _ in range(40):
            producer.send("sales", RECORD).result(WAIT_S)
            time.sleep(0.005)  # it has heard of its quota before all is sent
        assert time.monotonic() - began_s >= LEAST_S


def test_who_does_not_wait_is_not_read(node: Node) -> None:
    batch = BatchBuilder()
    batch.append(1_700_000_000_000, None, bytes(2 * RATE), [])
    data = [{"index": 0, "records": bytes(batch.build())}]
    topics = [{"name": "orders", "partition_data": data}]
    with KafkaSocket(node.kafka) as eager, KafkaSocket(node.kafka) as other:
        told = eager.ask(PRODUCE, 9, acks=-1, timeout=5_000, topic_data=topics)
        assert 900 <= told["throttle_time"] <= 1_100
        began_s = time.monotonic()
        eager.say(API_VERSIONS, 0)
        assert other.ask(API_VERSIONS, 0)["error_code"] == 0
        assert select.select([eager.socket], [], [], 0)[0] == []
        eager.hear(API_VERSIONS, 0)
        assert time.monotonic() - began_s >= 0.8


def test_a_quota_that_is_removed_counts_no_longer(node: Node) -> None:
    def is_held() -> bool:
        return sent_through_kafkas_door(node, "passing", 3).throttled_ms > 0

    with Admin(node.native) as admin:
        admin.alter_quotas([(entity_of(client_id="passing"), {PRODUCER_BYTE_RATE: RATE // 10})])
        until(lambda: is_held() or None)
        admin.alter_quotas([(entity_of(client_id="passing"), {PRODUCER_BYTE_RATE: None})])
        until(lambda: not is_held() or None)
