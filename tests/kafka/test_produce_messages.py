"""Produce by hand says what the schemas say, in every version, and refuses what they refuse."""

from __future__ import annotations

import io
import uuid
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kio.index import load_request_schema
from kio.serial import entity_writer

from raftlog.kafka import wire
from raftlog.kafka.produce_messages import FIRST_VERSION, TOPIC_IDS_FROM, read_produce, write_written

LAST_VERSION = 13
versions = st.integers(FIRST_VERSION, LAST_VERSION)
numbers = st.integers(-(2**31), 2**31 - 1)
partitions = st.lists(st.tuples(numbers, st.none() | st.binary(max_size=300)), max_size=3)
named = st.lists(st.tuples(st.text(max_size=200), partitions), max_size=3)
transactions = st.none() | st.text(max_size=9)


def _body(version: int, acks: int, timeout_ms: int, transaction: str | None, topics: Any) -> bytes:
    """As kio writes it."""
    schema = load_request_schema(0, version)
    modules = vars(__import__(schema.__module__, fromlist=["*"]))
    made = []
    for name, items in topics:
        data = tuple(modules["PartitionProduceData"](index=index, records=records) for index, records in items)
        key = {"topic_id": uuid.UUID(bytes=_id(name))} if version >= TOPIC_IDS_FROM else {"name": name}
        made.append(modules["TopicProduceData"](**key, partition_data=data))
    timeout = timedelta(milliseconds=timeout_ms)
    entity = schema(transactional_id=transaction, acks=acks, timeout=timeout, topic_data=tuple(made))
    out = io.BytesIO()
    entity_writer(schema)(out, entity)
    return out.getvalue()


def _id(name: str) -> bytes:
    return uuid.uuid5(uuid.NAMESPACE_DNS, name.encode("utf-8", "replace").hex()).bytes


@given(versions, st.integers(-1, 1), numbers, transactions, named)
def test_requests_are_read_as_the_schemas_read_them(
    version: int, acks: int, timeout_ms: int, transaction: str | None, topics: Any
) -> None:
    body = b"head" + _body(version, acks, timeout_ms, transaction, topics)
    read, expected = read_produce(version, memoryview(body), 4), wire.read_request(0, version, memoryview(body), 4)
    assert (read.acks, read.timeout_ms) == (expected.acks, expected.timeout)
    assert read.transactional_id == expected.transactional_id
    assert read.topics == [
        (
            topic.topic_id if version >= TOPIC_IDS_FROM else topic.name,
            [(each.index, each.records) for each in topic.partition_data],
        )
        for topic in expected.topic_data
    ]


@given(versions, st.data())
def test_what_the_schemas_refuse_is_refused(version: int, data: st.DataObject) -> None:
    topics = [("orders", [(0, b"abc" * 50), (1, b"")]), ("x", [(7, b"z")])]
    body = bytearray(_body(version, -1, 30_000, None, topics))
    for place in data.draw(st.lists(st.integers(0, len(body) - 1), max_size=3)):
        body[place] = data.draw(st.integers(0, 255))
    frame = memoryview(body)[: data.draw(st.integers(0, len(body)))]
    try:
        expected = wire.read_request(0, version, frame, 0)
    except wire.UnreadableRequestError:
        with pytest.raises(wire.UnreadableRequestError):
            read_produce(version, frame, 0)
    else:
        read = read_produce(version, frame, 0)
        assert [len(items) for _, items in read.topics] == [len(each.partition_data) for each in expected.topic_data]


@pytest.mark.parametrize("version", range(9, LAST_VERSION + 1))
def test_tagged_fields_of_newer_clients_are_skipped(version: int) -> None:
    body = _body(version, -1, 1000, None, [("orders", [(3, b"abc")])])
    assert body.endswith(b"abc\x00\x00\x00")
    tagged = body[:-3] + b"\x01\x05\x02hi" * 3
    assert read_produce(version, memoryview(tagged), 0).topics[0][1] == [(3, b"abc")]


results = st.lists(st.tuples(numbers, st.integers(0, 2**62), st.integers(-1, 2**50)))  # partition, offset, time


@given(versions, numbers, st.lists(st.tuples(st.text(max_size=200), results)))
def test_answers_are_written_as_the_schemas_write_them(version: int, correlation_id: int, topics: Any) -> None:
    by_id = version >= TOPIC_IDS_FROM
    responses = [
        {
            "topic_id" if by_id else "name": _id(name) if by_id else name,
            "partition_responses": [
                {"index": index, "base_offset": offset, "log_append_time": append_ms, "log_start_offset": -1}
                for index, offset, append_ms in items
            ],
        }
        for name, items in topics
    ]
    written = [(_id(name) if by_id else name, items) for name, items in topics]
    expected = wire.write_answer(0, version, correlation_id, {"responses": responses})
    assert bytes(write_written(version, correlation_id, written)) == expected
