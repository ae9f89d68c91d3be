"""What producers and consumers make of keys and values: the user's functions, and what they raise."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Iterator
from typing import Any

import pytest

from raftlog import AsyncConsumer, AsyncProducer, Consumer, Producer, TopicPartition
from raftlog.errors import DeserializationError
from tests.client.fake_node import FakeNode, fake_node
from tests.patience import WAIT_S

T0 = TopicPartition("t", 0)


@pytest.fixture
def node() -> Iterator[FakeNode]:
    with fake_node() as node:
        yield node


def to_json(value: Any) -> bytes:
    return json.dumps(value).encode()


def of_json(data: bytes | None) -> Any:
    return None if data is None else json.loads(data)


READING: dict[str, Any] = {"auto_offset_reset": "earliest", "value_deserializer": of_json}


def filled(node: FakeNode, *values: bytes | None) -> None:
    with Producer(node.bootstrap) as producer:
        for value in values:
            producer.send("t", value)


def read(consumer: Consumer, count: int) -> list[Any]:
    found: list[Any] = []
    while len(found) < count:
        found += [record.value for record in consumer.poll(5000).get(T0, [])]
    return found


def test_both_faces_take_the_same_options_and_no_others() -> None:
    for face, twin in ((Producer, AsyncProducer), (Consumer, AsyncConsumer)):
        assert inspect.signature(face) == inspect.signature(twin)
        with pytest.raises(TypeError, match="lingerms"):
            twin(lingerms=5)
    assert "value_serializer" in inspect.signature(Producer).parameters
    assert "value_deserializer" in inspect.signature(Consumer).parameters


def test_an_option_that_cannot_be_is_refused_by_the_asyncio_twin_before_it_starts() -> None:
    with pytest.raises(ValueError, match="acks is"):
        AsyncProducer(acks=7)
    with pytest.raises(TypeError, match="value_deserializer must be a function"):
        AsyncConsumer(value_deserializer="json")  # type: ignore[arg-type]


def test_values_and_keys_come_out_as_they_went_in(node: FakeNode) -> None:
    with Producer(node.bootstrap, key_serializer=str.encode, value_serializer=to_json) as producer:
        producer.send("t", {"plums": 3}, "customer-7").result(WAIT_S)
        producer.send("t", None, "customer-8").result(WAIT_S)
    with Consumer("t", bootstrap_servers=node.bootstrap, key_deserializer=bytes.decode, **READING) as consumer:
        first, second = (next(consumer), next(consumer))
    assert (first.key, first.value) == ("customer-7", {"plums": 3})
    # As in kafka-python a serializer is given None as well, and this one makes `null` of it.
    assert (second.key, second.value) == ("customer-8", None)
    with Consumer("t", bootstrap_servers=node.bootstrap, auto_offset_reset="earliest") as consumer:
        assert [next(consumer).value, next(consumer).value] == [b'{"plums": 3}', b"null"]


def test_what_a_serializer_raises_comes_out_of_send_and_nothing_is_sent(node: FakeNode) -> None:
    with Producer(node.bootstrap, value_serializer=to_json) as producer:
        with pytest.raises(TypeError, match="not JSON serializable"):
            producer.send("t", b"bytes")
        producer.send("t", 1).result(WAIT_S)
    assert node.end(0) == 1


def test_a_serializer_that_makes_no_bytes_is_told(node: FakeNode) -> None:
    with (
        Producer(node.bootstrap, value_serializer=json.dumps) as producer,  # type: ignore[arg-type]
        pytest.raises(TypeError, match="value must be bytes or None, not"),
    ):
        producer.send("t", [1])


def test_a_record_that_is_not_deserialized_is_told_behind_those_before_it(node: FakeNode) -> None:
    filled(node, b"1", b"2", b"{", b"4")
    with Consumer("t", bootstrap_servers=node.bootstrap, **READING) as consumer:
        assert read(consumer, 2) == [1, 2]
        for _ in range(2):  # it comes first again
            with pytest.raises(DeserializationError, match="offset 2 of t-0") as caught:
                consumer.poll(5000)
            assert (caught.value.topic, caught.value.partition, caught.value.offset) == ("t", 0, 2)
            assert isinstance(caught.value.__cause__, json.JSONDecodeError)
            assert consumer.position(T0) == 2
        consumer.seek(T0, 3)
        assert read(consumer, 1) == [4]


def test_iteration_raises_it_at_the_record_and_goes_on_where_the_user_seeks(node: FakeNode) -> None:
    filled(node, b"1", b"{", b"3")
    with Consumer("t", bootstrap_servers=node.bootstrap, **READING) as consumer:
        assert next(consumer).value == 1
        with pytest.raises(DeserializationError, match="offset 1"):
            next(consumer)
        consumer.seek(T0, 2)
        assert next(consumer).value == 3


def test_batches_behind_one_that_is_not_deserialized_wait_for_it(node: FakeNode) -> None:
    for value in (b"1", b"{", b"3"):
        filled(node, value)  # a batch of its own
    with Consumer("t", bootstrap_servers=node.bootstrap, **READING) as consumer:
        assert read(consumer, 1) == [1]
        with pytest.raises(DeserializationError):
            read(consumer, 1)
        consumer.seek(T0, 2)
        assert read(consumer, 1) == [3]


def test_nothing_that_was_not_deserialized_is_committed(node: FakeNode) -> None:
    filled(node, b"1", b"{")
    with Consumer(bootstrap_servers=node.bootstrap, group_id="g", enable_auto_commit=False, **READING) as consumer:
        consumer.assign([T0])
        assert read(consumer, 1) == [1]
        consumer.commit()
        assert node.committed()[T0].offset == 1


def test_the_asyncio_twins_serialize_once_and_deserialize(node: FakeNode) -> None:
    made: list[Any] = []

    def make(value: Any) -> bytes:
        made.append(value)
        return to_json(value)

    async def run() -> None:
        async with AsyncProducer(bootstrap_servers=node.bootstrap, value_serializer=make) as producer:
            await producer.send_and_wait("t", [1])
            await producer.send_and_wait("t", [2])
        async with AsyncConsumer("t", bootstrap_servers=node.bootstrap, **READING) as consumer:
            assert [(await consumer.getone()).value, (await consumer.getone()).value] == [[1], [2]]

    asyncio.run(run())
    assert made == [[1], [2]]
