"""What users hand in wrongly is an error of their call, and the client goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from raftlog import Admin, AsyncProducer, Consumer, OffsetAndMetadata, Producer, TopicPartition
from raftlog.errors import InvalidRequestError
from raftlog.limits import OFFSET_METADATA_CHARS_MAX
from tests.client.fake_node import FakeNode, fake_node

T0 = TopicPartition("t", 0)
UNWRITABLE = "\udcff"  # no UTF-8 says it


@pytest.fixture
def node() -> Iterator[FakeNode]:
    with fake_node() as node:
        yield node


WRONG: list[Callable[[Any], object]] = [
    lambda consumer: consumer.assign([TopicPartition("t", "0")]),
    lambda consumer: consumer.assign([TopicPartition("t", -1)]),
    lambda consumer: consumer.assign([TopicPartition("t", 2**31)]),
    lambda consumer: consumer.assign([TopicPartition(UNWRITABLE, 0)]),
    lambda consumer: consumer.assign([TopicPartition(7, 0)]),
    lambda consumer: consumer.assign(["t"]),
    lambda consumer: consumer.seek(T0, 1.5),
    lambda consumer: consumer.seek(T0, "1"),
    lambda consumer: consumer.seek(T0, 2**63),
    lambda consumer: consumer.subscribe([UNWRITABLE]),
    lambda consumer: consumer.subscribe([7]),
    lambda consumer: consumer.subscribe(pattern=b"t.*"),
    lambda consumer: consumer.partitions_for_topic(UNWRITABLE),
    lambda consumer: consumer.end_offsets([TopicPartition("t", "0")]),
    lambda consumer: consumer.offsets_for_times({T0: 1.5}),
    lambda consumer: consumer.commit({TopicPartition("t", "0"): 1}),
    lambda consumer: consumer.commit({T0: 1.5}),
    lambda consumer: consumer.commit({T0: OffsetAndMetadata(1, UNWRITABLE)}),
    lambda consumer: consumer.commit({T0: OffsetAndMetadata(1, "x" * (OFFSET_METADATA_CHARS_MAX + 1))}),
    lambda consumer: consumer.committed([TopicPartition("t", "0")]),
]


@pytest.mark.parametrize("wrong", WRONG, ids=range(len(WRONG)))
def test_a_consumer_refuses_it_at_once_and_reads_on(node: FakeNode, wrong: Callable[[Any], object]) -> None:
    with Consumer(bootstrap_servers=node.bootstrap, group_id="g", enable_auto_commit=False) as consumer:
        consumer.assign([T0])
        consumer.seek(T0, 0)
        with pytest.raises((TypeError, ValueError)):
            wrong(consumer)
        assert consumer.assignment() == {T0}
        assert consumer.end_offsets([T0]) == {T0: 0}
        assert consumer.poll(20) == {}


@pytest.mark.parametrize(
    "options",
    [
        {"client_id": UNWRITABLE},
        {"client_id": 7},
        {"request_timeout_ms": float("nan")},
        {"request_timeout_ms": 0},
        {"bootstrap_timeout_ms": float("inf")},
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", [Consumer, Admin])
def test_a_client_refuses_it_before_it_begins(kind: Any, options: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError)):
        kind(bootstrap_servers="127.0.0.1:1", **options)


@pytest.mark.parametrize(
    "options",
    [
        {"fetch_min_bytes": 1.5},
        {"fetch_max_wait_ms": -1},
        {"fetch_max_wait_ms": 0.5},
        {"max_partition_fetch_bytes": 0},
        {"fetch_max_bytes": "1"},
        {"max_poll_records": 0},
        {"topics": (UNWRITABLE,)},
    ],
    ids=str,
)
def test_a_consumer_refuses_what_no_fetch_can_ask_for(options: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError)):
        Consumer(*options.pop("topics", ()), bootstrap_servers="127.0.0.1:1", **options)


def test_a_request_that_no_bytes_say_fails_alone(node: FakeNode) -> None:
    with Admin(node.bootstrap) as admin:
        for wrong in (UNWRITABLE, object(), 10**30):
            with pytest.raises(InvalidRequestError, match="cannot be encoded"):
                admin.describe_topics([wrong])  # type: ignore[list-item]
        assert admin.describe_topics(["t"])[0].name == "t"


@pytest.mark.parametrize("wrong", [2**63, -(2**63) - 1, 1.7, "1"])
def test_a_producer_refuses_a_timestamp_that_no_record_holds(node: FakeNode, wrong: Any) -> None:
    with Producer(bootstrap_servers=node.bootstrap) as producer:
        with pytest.raises((TypeError, ValueError), match="timestamp_ms is "):
            producer.send("t", b"v", timestamp_ms=wrong)
        assert not producer.send("t", b"v", timestamp_ms=-1).done()


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"value": 5}, "value must be bytes or None, not 5: encode it, or set value_serializer"),
        ({"key": "k"}, "key must be bytes or None, not 'k': encode it, or set key_serializer"),
        ({"headers": {"a": b"b"}}, r"headers must be a list of \(name, bytes\) pairs"),
        ({"headers": [["a", b"b"]]}, "a header must be a pair"),
        ({"headers": [("a", "b")]}, "the value of header 'a' must be bytes or None, not 'b'"),
        ({"headers": [(b"a", b"b")]}, "b'a' is not text"),
        ({"partition": "0"}, "a partition is a whole number, not '0'"),
        ({"partition": 0.0}, "a partition is a whole number, not 0.0"),
    ],
    ids=str,
)
@pytest.mark.parametrize("begun", [False, True], ids=["in a new batch", "in one that is begun"])
def test_a_producer_says_what_of_a_record_is_wrong(
    node: FakeNode, wrong: dict[str, Any], told: str, begun: bool
) -> None:
    async def send_in_a_loop() -> None:
        async with AsyncProducer(bootstrap_servers=node.bootstrap, linger_ms=10_000) as producer:
            await producer.send("t", **wrong)

    with Producer(bootstrap_servers=node.bootstrap, linger_ms=10_000) as producer:
        if begun:
            producer.send("t", b"v")
        with pytest.raises(TypeError, match=told):
            producer.send("t", **wrong)
        producer.send("t", b"v")
        producer.flush()
    assert node.end(0) == 1 + begun
    with pytest.raises(TypeError, match=told):
        asyncio.run(send_in_a_loop())
