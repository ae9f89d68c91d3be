"""A consumer of a group that takes its partitions by hand: what it commits, and when."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest

from raftlog import AsyncConsumer, Consumer, OffsetAndMetadata, Producer, TopicPartition
from raftlog.client.group import session
from raftlog.errors import ClosedError
from tests.client.fake_node import FakeNode, fake_node
from tests.patience import WAIT_S

T0, T1, T2 = (TopicPartition("t", number) for number in range(3))


@pytest.fixture
def node() -> Iterator[FakeNode]:
    with fake_node(3) as node:
        yield node


def fill(node: FakeNode, count: int = 10) -> None:
    with Producer(node.bootstrap) as producer:
        for number in range(count):
            for place in (T0, T1, T2):
                producer.send("t", b"%d" % number, partition=place.partition)


def offsets(node: FakeNode) -> dict[TopicPartition, int]:
    return {place: entry.offset for place, entry in node.committed().items()}


def consumer(node: FakeNode, **options: Any) -> Consumer:
    made = Consumer(bootstrap_servers=node.bootstrap, group_id="g", auto_offset_reset="earliest", **options)
    made.assign([T0])
    return made


def read(consumer: Consumer, count: int) -> None:
    while count:
        found = consumer.poll(10_000, max_records=count)
        assert found
        count -= sum(map(len, found.values()))


def until_committed(node: FakeNode, wanted: dict[TopicPartition, int]) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while offsets(node) != wanted:
        assert time.monotonic() < deadline_s
        time.sleep(0.002)


def test_an_interval_of_zero_commits_with_every_poll_and_hands_everything_out(node: FakeNode) -> None:
    fill(node)
    with consumer(node, auto_commit_interval_ms=0) as reader:
        reader.assign([T0, T1, T2])
        polled: dict[TopicPartition, int] = {}
        polls = 0
        while sum(polled.values()) < 30:
            found = reader.poll(10_000)
            assert found
            polls += 1
            for place, records in found.items():
                polled[place] = polled.get(place, 0) + len(records)
        assert reader.poll(100) == {}, "this one commits what the one before has handed out"
        assert reader.committed([T0])[T0] == OffsetAndMetadata(10, "", 1)
        assert polled == {T0: 10, T1: 10, T2: 10}


def test_an_interval_of_zero_commits_between_the_records_of_a_loop(node: FakeNode) -> None:
    fill(node)
    with consumer(node, auto_commit_interval_ms=0, consumer_timeout_ms=200) as reader:
        for number, record in enumerate(reader):
            assert record.offset == number
            until_committed(node, {T0: number})
        assert number == 9


def test_an_interval_of_zero_lets_the_asyncio_consumer_read_as_well(node: FakeNode) -> None:
    fill(node)

    async def read() -> None:
        options: dict[str, Any] = {"auto_offset_reset": "earliest", "auto_commit_interval_ms": 0}
        async with AsyncConsumer(bootstrap_servers=node.bootstrap, group_id="g", **options) as reader:
            reader.consumer.assign([T0])
            for number in range(10):
                assert (await reader.getone()).offset == number

    asyncio.run(asyncio.wait_for(read(), 20))
    assert offsets(node) == {T0: 10}


def test_closing_waits_for_the_commits_under_way_and_runs_their_callbacks(node: FakeNode) -> None:
    fill(node)
    told: list[object] = []
    with consumer(node, enable_auto_commit=False) as reader:
        read(reader, 10)
        reader.commit_async(callback=lambda offsets, error: told.append((offsets, error)))
    assert told == [({T0: OffsetAndMetadata(10, "", 1)}, None)]
    assert offsets(node) == {T0: 10}


def test_callbacks_of_commits_that_closing_gives_up_run_as_well(
    node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "GIVE_UP_COMMIT_S", 0.1)
    told: list[object] = []
    with consumer(node, enable_auto_commit=False) as reader:
        assert reader.position(T0) == 0
        node.silent = True
        reader.commit_async({T0: 5}, lambda offsets, error: told.append(error))
    assert [type(error) for error in told] == [ClosedError]


def test_a_topic_made_anew_is_committed_for_at_the_offset_of_the_old_one_as_well(node: FakeNode) -> None:
    fill(node)
    with consumer(node) as reader:
        read(reader, 10)
        reader.commit()
        node.topic_id = b"of another topic"
        reader.partitions_for_topic("another")  # asks for metadata, which brings the new id along
        reader.seek(T0, 10)
    assert node.committed()[T0].topic_id == b"of another topic"


def test_partitions_by_hand_are_committed_for_before_they_are_given_up(node: FakeNode) -> None:
    fill(node)
    with consumer(node) as reader:
        read(reader, 10)
        reader.assign([T1])
        assert offsets(node) == {T0: 10}
        read(reader, 10)
        reader.unsubscribe()
        assert offsets(node) == {T0: 10, T1: 10}
        reader.assign([T2])
        read(reader, 10)
        reader.subscribe(["t"])
        assert offsets(node) == {T0: 10, T1: 10, T2: 10}


def test_without_automatic_commits_nothing_is_committed_for_what_is_given_up(node: FakeNode) -> None:
    fill(node)
    with consumer(node, enable_auto_commit=False) as reader:
        read(reader, 10)
        reader.assign([T1])
    assert offsets(node) == {}


def test_a_commit_that_falls_due_during_a_wait_does_not_wait_for_its_end(node: FakeNode) -> None:
    fill(node)
    with consumer(node, auto_commit_interval_ms=100) as reader:
        read(reader, 10)
        assert reader.poll(2_500) == {}
        assert offsets(node) == {T0: 10}
