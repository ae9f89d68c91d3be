"""Fetch answers by hand say what the schemas say, in every version, and leave the records where they are."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftlog.kafka import wire
from raftlog.kafka.fetch_answers import FIRST_VERSION, TOPIC_IDS_FROM, FetchedPartition, write_fetched

LAST_VERSION = 18
versions = st.integers(FIRST_VERSION, LAST_VERSION)
numbers = st.integers(-(2**31), 2**31 - 1)
offsets = st.integers(-1, 2**62)
partitions = st.lists(
    st.builds(
        FetchedPartition,
        numbers,
        st.integers(-1, 120),
        offsets,
        offsets,
        st.binary(max_size=300),
        st.integers(-1, 9),
        st.integers(-1, 2**31 - 1),
    ),
    max_size=3,
)


def _fields(partition: FetchedPartition) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "partition_index": partition.partition,
        "error_code": partition.error_code,
        "high_watermark": partition.high_watermark,
        "last_stable_offset": partition.high_watermark,
        "log_start_offset": partition.log_start_offset,
        "aborted_transactions": None,
        "records": partition.records,
    }
    if partition.leader_id >= 0:
        fields["current_leader"] = {"leader_id": partition.leader_id, "leader_epoch": partition.leader_epoch}
    return fields


@given(versions, numbers, numbers, st.lists(st.tuples(st.text(max_size=200), partitions), max_size=3))
def test_answers_are_written_as_the_schemas_write_them(
    version: int, correlation_id: int, session_id: int, named: list[tuple[str, list[FetchedPartition]]]
) -> None:
    by_id = version >= TOPIC_IDS_FROM
    topics: dict[str | bytes, list[FetchedPartition]] = {
        number.to_bytes(16, "big") if by_id else f"{name}{number}": items for number, (name, items) in enumerate(named)
    }
    responses = [
        {"topic_id" if by_id else "topic": topic, "partitions": [_fields(each) for each in items]}
        for topic, items in topics.items()
    ]
    expected = wire.write_answer(1, version, correlation_id, {"session_id": session_id, "responses": responses})
    pieces = write_fetched(version, correlation_id, session_id, topics)
    assert b"".join(bytes(each) for each in pieces) == expected  # type: ignore[arg-type]


class Lying:
    """Records that are not in memory."""

    def __len__(self) -> int:
        return 1_000_000


@pytest.mark.parametrize("version", range(FIRST_VERSION, LAST_VERSION + 1))
def test_records_are_not_copied_and_counted_in_the_length(version: int) -> None:
    records = Lying()
    topic = bytes(16) if version >= TOPIC_IDS_FROM else "orders"
    pieces = write_fetched(version, 7, 0, {topic: [FetchedPartition(0, 0, 5, 0, records)]})
    assert pieces[1] is records
    assert int.from_bytes(pieces[0][:4], "big") == sum(map(len, pieces)) - 4  # type: ignore[index]
