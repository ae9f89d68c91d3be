"""The load client counts what it should and asks for what is there."""

from __future__ import annotations

import time
from typing import cast

import msgspec
import pytest

from raftlog.errors import NotLeaderOrFollowerError, RaftlogError
from raftlog.network import Link
from raftlog.protocol import apis
from raftlog.protocol.envelope import encode_response, encode_unread
from raftlog.protocol.records import (
    FetchResponse,
    ListOffsetsResponse,
    ProduceResult,
)
from raftlog.record.batch import check_batch
from raftlog_cli.bench_load import (
    FETCH_BYTES,
    FetchWork,
    Frames,
    Leader,
    Pipe,
    Plan,
    ProduceWork,
    UnansweredWork,
    encode_batches,
    percentile_ms,
)
from tests.requests import read

PLAN = Plan(
    mode="produce",
    bootstrap="127.0.0.1:1",
    topic="t",
    topic_id=b"0123456789abcdef",
    leaders=[Leader(partition=0, host="127.0.0.1", port=1)],
    record_size=200,
    batch_records=50,
    in_flight=4,
    acks=-1,
    warm_up_s=0,
    seconds=1,
)


def test_percentiles_are_of_the_nearest_rank() -> None:
    ordered_s = [number / 1000 for number in range(1, 101)]
    assert percentile_ms(ordered_s, 0.5) == 50
    assert percentile_ms(ordered_s, 0.99) == 99
    assert percentile_ms(ordered_s, 0.999) == 100
    assert percentile_ms([0.001], 0.5) == 1
    assert percentile_ms([], 0.5) is None


@pytest.mark.parametrize("batch_records", [1, 50, 300])
def test_batches_are_sound_and_equally_long(batch_records: int) -> None:
    batches = encode_batches(msgspec.structs.replace(PLAN, batch_records=batch_records))
    assert len({len(batch) for batch in batches}) == 1
    assert len(set(batches)) == len(batches)
    assert {check_batch(batch).record_count for batch in batches} == {batch_records}


class TakingLink:
    """Takes every message, or none while `full`."""

    def __init__(self) -> None:
        self.full = False
        self.sent: list[Frames] = []

    def send(self, frames: Frames) -> bool:
        if not self.full:
            self.sent.append(frames)
        return not self.full


def test_at_a_fixed_rate_a_request_counts_from_when_it_was_due() -> None:
    link = TakingLink()
    pipe = Pipe(cast(Link, link), ProduceWork(PLAN, 0, encode_batches(PLAN)), limit=100, interval_s=10.0)
    pipe.due_s = due_s = time.perf_counter() - 25
    link.full = True
    assert not pipe.fill()
    link.full = False
    assert pipe.fill()
    assert pipe.started == {0: due_s, 1: due_s + 10, 2: due_s + 20}, "what a full link held back is late"
    assert pipe.due_s == due_s + 30 and len(link.sent) == 3, "what is not due yet is not sent"


def test_a_plan_survives_its_way_to_the_other_process() -> None:
    assert msgspec.json.decode(msgspec.json.encode(PLAN), type=Plan) == PLAN


def test_a_produce_is_worth_the_records_of_its_batch_and_an_error_ends_the_run() -> None:
    work = ProduceWork(PLAN, 3, encode_batches(PLAN))
    ((header, batch),) = work.messages(7)
    asked = read(header)
    assert (asked.api, asked.correlation_id, asked.topic_id, asked.partition) == (apis.PRODUCE, 7, PLAN.topic_id, 3)
    assert asked.body.acks == -1
    assert check_batch(batch).record_count == 50
    answers = [ProduceResult(0, "", 7, 100), ProduceResult(0, "", 8, 150)]
    assert work.answered([encode_response(apis.PRODUCE, 0, answers)]) == [(7, 50), (8, 50)]
    with pytest.raises(NotLeaderOrFollowerError):
        work.answered([encode_response(apis.PRODUCE, 0, [ProduceResult(6, "", 9)])])
    with pytest.raises(RaftlogError):
        work.answered([encode_unread("what?", 42)])


def test_filling_sends_as_many_batches_as_the_records_need() -> None:
    work = ProduceWork(msgspec.structs.replace(PLAN, mode="fill", records=101), 0, encode_batches(PLAN))
    assert [len(work.messages(number)) for number in range(5)] == [1, 1, 1, 0, 0]


def test_without_acknowledgements_the_end_of_the_log_says_what_was_taken() -> None:
    plan = msgspec.structs.replace(PLAN, acks=0)
    work = UnansweredWork(plan, 0, encode_batches(plan))
    *produces, (question,) = work.messages(5)
    assert len(produces) == plan.in_flight
    asked = read(question)
    assert (asked.api, asked.correlation_id) == (apis.LIST_OFFSETS, 5)
    for number, offset, worth in ((5, 1000, 0), (6, 1200, 200)):
        answer = encode_response(apis.LIST_OFFSETS, number, ListOffsetsResponse(offset=offset))
        assert work.answered([answer]) == [(number, worth)]


def test_fetches_ask_for_whole_batches_in_turn_and_start_over_at_the_end() -> None:
    batch_bytes = FETCH_BYTES // 2
    work = FetchWork(msgspec.structs.replace(PLAN, mode="fetch", records=250), 0, batch_bytes)
    offsets = []
    for number in range(5):
        ((header,),) = work.messages(number)
        request = read(header).body
        assert request.max_bytes == 2 * batch_bytes
        offsets.append(request.offset)
    assert offsets == [0, 100, 200, 0, 100]
    answer = encode_response(apis.FETCH, 3, FetchResponse(high_watermark=250))
    assert work.answered([answer, bytes(2 * batch_bytes)]) == [(3, 100)]
    assert work.answered([answer, bytes(batch_bytes), bytes(batch_bytes)]) == [(3, 100)]


def test_a_bounded_take_asks_for_whole_batches_until_it_has_enough() -> None:
    batch_bytes = FETCH_BYTES // 4
    plan = msgspec.structs.replace(PLAN, mode="fetch", records=1000, take_bytes=5 * batch_bytes + 1)
    work = FetchWork(plan, 0, batch_bytes)
    asked = []
    while messages := work.messages(len(asked)):
        request = read(messages[0][0]).body
        asked.append((request.offset, request.max_bytes // batch_bytes))
    assert asked == [(0, 4), (200, 2)]
