"""What is fetched next, positions, and everything that can be wrong with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from unittest import mock

import pytest

from raftlog.client.consumer.fair_queue import FairQueue
from raftlog.client.core.list_offsets import list_offsets_call
from raftlog.client.fetcher.fetcher import Fetcher
from raftlog.client.fetcher.partition_state import ConsumerRecord, PartitionState, Payload
from raftlog.clock import monotonic_s
from raftlog.errors import (
    CorruptMessageError,
    ErrorCode,
    LogTruncationError,
    MessageTooLargeError,
    OffsetOutOfRangeError,
    UnknownTopicOrPartitionError,
    UnreadableRecordsError,
)
from raftlog.limits import (
    CORRUPT_FETCHES_MAX,
    DECOMPRESSED_BYTES_MAX,
    LEADER_EPOCH_MEMORY_S,
    LEADER_MOVED_S,
    TOPIC_UNKNOWN_S,
)
from raftlog.protocol.records import FetchRequest, FetchResponse, ListOffsetsRequest, ListOffsetsResponse
from raftlog.record.batch import BatchBuilder, encode, read_header, stamp
from raftlog.types import EARLIEST_TIMESTAMP, LATEST_TIMESTAMP, TopicPartition
from tests.client.fake_wire import NODE, TOPIC_ID, WORKER_A, WORKER_B, FakeCluster, Sent
from tests.record.foreign import signed

T0, T1, T2 = (TopicPartition("t", number) for number in range(3))


class Consuming(FakeCluster):
    def __init__(self, places: Sequence[TopicPartition] = (T0,), **changes: Any) -> None:
        super().__init__(NODE, WORKER_A, WORKER_B)
        self.told = 0
        options: dict[str, Any] = {
            "reset_policy": "earliest",
            "min_bytes": 1,
            "max_wait_ms": 500,
            "partition_bytes": 1000,
            "buffer_bytes": 3000,
            "request_timeout_s": 30.0,
            "on_data": self.tell,
        }
        self.fetcher = Fetcher(self.exchange, self.cache, self.refresher, **(options | changes))
        self.know(partitions=3)
        self.fetcher.assign(list(places))

    def tell(self) -> None:
        self.told += 1

    def state(self, place: TopicPartition = T0) -> PartitionState:
        return self.fetcher.states[place]

    def step(self, seconds: float = 0.0) -> float:
        self.now_s += seconds
        self.exchange.expire(self.now_s)
        return self.fetcher.step(self.now_s)

    def asked(self, seconds: float = 0.0) -> list[Sent]:
        self.step(seconds)
        return self.wire.take()

    def fetch(self, seconds: float = 0.0) -> tuple[Sent, FetchRequest]:
        (sent,) = self.asked(seconds)
        assert isinstance(sent.request, FetchRequest)
        return sent, sent.request

    def read(self, place: TopicPartition = T0) -> list[ConsumerRecord]:
        state = self.state(place)
        found = []
        while state.decode_next():
            found += state.take(10**6)
        return found


def batch(base_offset: int, *values: bytes, epoch: int = 1) -> bytes:
    return stamp(encode([(1, None, value) for value in values]), base_offset, epoch)


def at(offset: int, places: Sequence[TopicPartition] = (T0,), **changes: Any) -> Consuming:
    consuming = Consuming(places, **changes)
    for place in places:
        consuming.state(place).move(offset)
    return consuming


def test_what_is_assigned_knows_its_topic_at_once_if_the_client_does() -> None:
    assert Consuming().state().topic_id == TOPIC_ID


@pytest.mark.parametrize(("policy", "timestamp"), [("earliest", EARLIEST_TIMESTAMP), ("latest", LATEST_TIMESTAMP)])
def test_a_partition_without_a_position_begins_as_the_policy_says(policy: str, timestamp: int) -> None:
    consuming = Consuming(reset_policy=policy)
    (sent,) = consuming.asked()
    assert isinstance(sent.request, ListOffsetsRequest)
    assert sent.request.timestamp_ms == timestamp
    consuming.answer_offsets(sent, 17)
    assert consuming.state().position == 17
    assert consuming.fetch()[1].offset == 17


def test_with_policy_none_a_position_has_to_be_given() -> None:
    consuming = Consuming(reset_policy="none")
    assert consuming.asked() == []
    assert isinstance(consuming.state().error, OffsetOutOfRangeError)
    consuming.state().move(3)
    assert consuming.fetch()[1].offset == 3


def test_the_next_fetch_goes_on_where_the_answer_ended_without_waiting_for_the_user() -> None:
    consuming = at(5)
    sent, request = consuming.fetch()
    assert (request.offset, request.max_bytes, request.max_wait_ms) == (5, 1000, 500)
    consuming.answer_fetch(sent, batch(5, b"a", b"b") + batch(7, b"c"), high_watermark=8)
    assert consuming.fetch()[1].offset == 8
    assert consuming.state().position == 5
    assert [(record.offset, record.value) for record in consuming.read()] == [(5, b"a"), (6, b"b"), (7, b"c")]
    assert consuming.state().position == 8
    assert consuming.told == 1
    assert consuming.state().high_watermark == 8


def test_records_below_the_asked_offset_are_dropped() -> None:
    consuming = at(6)
    sent, _ = consuming.fetch()
    consuming.answer_fetch(sent, batch(4, b"4", b"5", b"6", b"7"))
    assert [record.offset for record in consuming.read()] == [6, 7]


def test_gaps_of_offsets_are_legal() -> None:
    consuming = at(3)
    sent, _ = consuming.fetch()
    consuming.answer_fetch(sent, batch(10, b"a") + batch(20, b"b"))
    assert [record.offset for record in consuming.read()] == [10, 20]
    assert consuming.state().position == 21


def test_one_request_per_partition_is_under_way() -> None:
    consuming = at(0, (T0, T1, T2))
    assert len(consuming.asked()) == 3
    assert consuming.asked(0.1) == []


def test_what_is_buffered_is_bounded_and_partitions_have_equal_shares() -> None:
    consuming = at(0, (T0, T1, T2), buffer_bytes=3000)
    value = b"x" * 300
    offsets = dict.fromkeys((0, 1, 2), 0)
    for _ in range(10):
        for sent in consuming.asked():
            assert isinstance(sent.request, FetchRequest)
            assert sent.request.max_bytes == 1000
            if sent.partition == 2:
                consuming.answer_fetch(sent)  # nothing there
            else:
                offset = sent.request.offset
                consuming.answer_fetch(sent, batch(offset, value, value))
                offsets[sent.partition] = offset + 2
    held = [consuming.state(place).buffered_bytes for place in (T0, T1, T2)]
    assert sum(held) <= 3000
    assert held[0] == held[1] > 0
    consuming.read(T0)
    assert TopicPartition("t", 0) in {TopicPartition("t", sent.partition) for sent in consuming.asked()}  # type: ignore[union-attr]


def test_a_batch_larger_than_the_share_is_taken_all_the_same() -> None:
    consuming = at(0, buffer_bytes=100)
    sent, request = consuming.fetch()
    assert request.max_bytes == 100
    consuming.answer_fetch(sent, batch(0, b"x" * 5000))
    assert consuming.asked() == []
    assert len(consuming.read()) == 1
    assert consuming.fetch()[1].offset == 1


def test_an_empty_answer_is_asked_again_at_once() -> None:
    consuming = at(5)
    sent, _ = consuming.fetch()
    consuming.answer_fetch(sent, high_watermark=5)
    assert consuming.fetch()[1].offset == 5


def test_a_seek_forgets_what_was_fetched_and_what_is_under_way() -> None:
    consuming = at(0)
    sent, _ = consuming.fetch()
    consuming.answer_fetch(sent, batch(0, b"old"))
    stale, _ = consuming.fetch()
    consuming.state().move(100)
    fresh, request = consuming.fetch()
    assert request.offset == 100
    consuming.answer_fetch(stale, batch(1, b"stale"))
    consuming.answer_fetch(fresh, batch(100, b"new"))
    assert [record.value for record in consuming.read()] == [b"new"]


def test_out_of_range_goes_where_the_policy_says_after_what_is_there_was_read() -> None:
    consuming = at(5)
    sent, _ = consuming.fetch()
    consuming.answer_fetch(sent, batch(5, b"5"))
    sent, _ = consuming.fetch()
    consuming.answer_fetch(sent, code=ErrorCode.OFFSET_OUT_OF_RANGE)
    assert [record.offset for record in consuming.read()] == [5]
    sent, _ = consuming.fetch(1.0)
    consuming.answer_fetch(sent, code=ErrorCode.OFFSET_OUT_OF_RANGE)
    (sent,) = consuming.asked()
    consuming.answer_offsets(sent, 40)
    assert consuming.state().position == 40


def test_out_of_range_with_policy_none_is_the_users_to_decide() -> None:
    consuming = at(5, reset_policy="none")
    sent, _ = consuming.fetch()
    consuming.answer_fetch(sent, code=ErrorCode.OFFSET_OUT_OF_RANGE)
    assert isinstance(consuming.state().error, OffsetOutOfRangeError)
    assert consuming.asked(5.0) == []
    assert consuming.state().position == 5


@pytest.mark.parametrize("code", [ErrorCode.OFFSET_NOT_AVAILABLE, ErrorCode.THROTTLING_QUOTA_EXCEEDED])
def test_what_passes_is_asked_again_at_the_same_leader(code: ErrorCode) -> None:
    consuming = at(5)
    sent, _ = consuming.fetch()
    consuming.answer_fetch(sent, code=code)
    assert consuming.asked() == []
    sent, request = consuming.fetch(0.05)
    assert (sent.endpoint, request.offset) == (WORKER_A, 5)


@pytest.mark.parametrize("code", [ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION])
def test_a_leader_that_is_none_is_not_asked_before_it_is_named_again(code: ErrorCode) -> None:
    consuming = at(5)
    sent, _ = consuming.fetch()
    consuming.answer_fetch(sent, code=code)
    assert consuming.asked(0.1) == []
    consuming.know(WORKER_B, 2, partitions=3)
    assert consuming.fetch(0.1)[0].endpoint == WORKER_B


def test_a_lost_connection_is_asked_again_at_the_next_leader() -> None:
    consuming = at(5)
    consuming.fetch()
    consuming.lose(WORKER_A)
    assert consuming.asked(0.1) == []
    consuming.know(WORKER_B, 2, partitions=3)
    sent, request = consuming.fetch()
    assert (sent.endpoint, request.offset) == (WORKER_B, 5)


def test_a_silent_leader_is_given_up_once_another_is_known() -> None:
    consuming = at(5)
    consuming.fetch()
    consuming.step(2.0)
    consuming.know(WORKER_B, 2, partitions=3)
    consuming.step(0.2)
    due_s = consuming.step(LEADER_MOVED_S + 0.2)
    sent, _ = consuming.fetch(due_s - consuming.now_s)
    assert sent.endpoint == WORKER_B


def test_another_error_is_the_users_and_stops_only_its_partition() -> None:
    consuming = at(5, (T0, T1))
    first, second = consuming.asked()
    consuming.answer_fetch(first, code=ErrorCode.MESSAGE_TOO_LARGE)
    assert isinstance(consuming.state(T0).error, MessageTooLargeError)
    consuming.answer_fetch(second, batch(5, b"x"))
    (again,) = consuming.asked()
    assert isinstance(again.request, FetchRequest)
    assert again.partition == 1


def test_an_answer_that_is_no_batches_is_fetched_again_before_it_is_an_error() -> None:
    consuming = at(5)
    for attempt in range(CORRUPT_FETCHES_MAX):
        assert consuming.state().error is None, attempt
        sent, request = consuming.fetch(0.1)
        assert request.offset == 5
        consuming.answer_fetch(sent, b"garbage" * 20)
    assert isinstance(consuming.state().error, CorruptMessageError)
    assert "t-0 at offset 5" in str(consuming.state().error)


@pytest.mark.parametrize("kind", ["too large", "fewer records", "garbage"])
def test_a_batch_that_nobody_can_read_is_named_and_the_user_goes_on_behind_it(kind: str) -> None:
    consuming = at(5)
    sent, _ = consuming.fetch()
    builder = BatchBuilder("zstd", max_bytes=1 << 30)
    for _ in range(130 if kind == "too large" else 3):
        builder.append(1, None, bytes(1 << 20), [])
    bad = stamp(builder.build(), 5, 1)
    if kind == "fewer records":
        bad = signed(bad[:57] + (7).to_bytes(4, "big") + bad[61:])
    elif kind == "garbage":
        bad = signed(bad[:61] + bytes(len(bad) - 61))
    after = read_header(bad).next_offset
    consuming.answer_fetch(sent, bad + batch(after, b"behind"))
    turns = FairQueue(mock.Mock(), consuming.fetcher, None)
    for _ in range(2):  # also when it is asked again
        with consuming.fetcher.lock, pytest.raises(UnreadableRecordsError, match=f"seek to {after}") as raised:
            turns.next_state(monotonic_s() + 0.01)
            turns.next_state(monotonic_s() + 0.01)
        assert (raised.value.offset, raised.value.next_offset) == (5, after)
        assert kind != "too large" or str(DECOMPRESSED_BYTES_MAX) in str(raised.value)
        consuming.answer_fetch(consuming.fetch(0.1)[0], bad + batch(after, b"behind"))
    state = consuming.state()
    state.move(after)
    consuming.answer_fetch(consuming.fetch(0.1)[0], batch(after, b"behind"))
    with consuming.fetcher.lock:
        assert turns.next_state(monotonic_s() + 0.01) is state
    assert [record.value for record in state.take(9)] == [b"behind"]


def test_a_wrong_checksum_is_found_when_the_batch_is_decoded() -> None:
    consuming = at(5)
    sent, _ = consuming.fetch()
    good, bad = batch(5, b"good"), bytearray(batch(6, b"bad"))
    bad[-1] ^= 1
    consuming.answer_fetch(sent, good + bytes(bad))
    state = consuming.state()
    assert state.decode_next()
    assert [record.value for record in state.take(10)] == [b"good"]
    with pytest.raises(CorruptMessageError, match="checksum"):
        state.decode_next()
    consuming.fetcher.corrupt(state, CorruptMessageError("checksum"))
    assert consuming.fetch(0.1)[1].offset == 6


def test_batches_that_do_not_lead_on_are_not_taken() -> None:
    with pytest.raises(CorruptMessageError):
        Payload(batch(3, b"a"), 5)
    with pytest.raises(CorruptMessageError):
        Payload(batch(5, b"a") + batch(5, b"a"), 5)
    with pytest.raises(CorruptMessageError):
        Payload(batch(5, b"a")[:-1], 5)


def test_a_subscription_takes_all_partitions_and_those_that_come_later() -> None:
    consuming = Consuming(())
    consuming.fetcher.subscribe(("t",))
    assert set(consuming.fetcher.states) == {T0, T1, T2}
    position = consuming.state(T1)
    consuming.know(partitions=4)
    consuming.step()
    assert len(consuming.fetcher.states) == 4
    assert consuming.state(T1) is position


def test_a_topic_made_anew_is_read_from_its_beginning() -> None:
    consuming = at(500)
    consuming.fetch()
    consuming.know(WORKER_B, 1, partitions=3, topic_id=b"another topic id")
    (sent,) = consuming.asked()
    assert isinstance(sent.request, ListOffsetsRequest)
    assert (sent.endpoint, sent.request.timestamp_ms) == (WORKER_B, EARLIEST_TIMESTAMP)
    assert sent.topic_id == b"another topic id"


def test_a_topic_made_anew_is_an_error_with_policy_none() -> None:
    consuming = at(500, reset_policy="none")
    consuming.fetch()
    consuming.know(WORKER_B, 1, partitions=3, topic_id=b"another topic id")
    consuming.step()
    assert isinstance(consuming.state().error, OffsetOutOfRangeError)


def test_an_unknown_topic_is_told_after_a_while() -> None:
    consuming = Consuming(())
    consuming.cache.topics.clear()
    consuming.fetcher.subscribe(("t",))
    consuming.know_nothing()
    assert consuming.fetcher.unknown_topic(consuming.now_s) is None
    error = consuming.fetcher.unknown_topic(consuming.now_s + TOPIC_UNKNOWN_S)
    assert isinstance(error, UnknownTopicOrPartitionError)


def test_a_partition_that_is_not_there_is_an_error() -> None:
    consuming = at(0, (TopicPartition("t", 7),))
    consuming.step()
    assert consuming.state(TopicPartition("t", 7)).error is None, "it may have been added since"
    consuming.refresher.answered_s = consuming.now_s
    consuming.step(1.0)
    assert isinstance(consuming.state(TopicPartition("t", 7)).error, UnknownTopicOrPartitionError)


def test_a_paused_partition_is_not_fetched() -> None:
    consuming = at(0)
    consuming.state().paused = True
    assert consuming.asked() == []
    consuming.state().paused = False
    assert len(consuming.asked()) == 1


def begins_at(sent: Sequence[Sent]) -> dict[int, int]:
    return {each.partition: each.request.timestamp_ms for each in sent if isinstance(each.request, ListOffsetsRequest)}


def test_with_latest_a_partition_that_comes_later_begins_at_its_first_record() -> None:
    consuming = Consuming([], reset_policy="latest")
    with consuming.fetcher.lock:
        consuming.fetcher.subscribe(("t",))
    assert set(begins_at(consuming.asked()).values()) == {LATEST_TIMESTAMP}
    consuming.know(partitions=5)
    assert begins_at(consuming.asked()) == {3: EARLIEST_TIMESTAMP, 4: EARLIEST_TIMESTAMP}


def test_with_latest_a_topic_that_comes_later_begins_at_its_first_record() -> None:
    consuming = Consuming([], reset_policy="latest")
    consuming.know_nothing()
    with consuming.fetcher.lock:
        consuming.fetcher.subscribe(("t",))
    assert consuming.asked() == []
    consuming.know(partitions=1)
    assert begins_at(consuming.asked()) == {0: EARLIEST_TIMESTAMP}


def test_with_latest_a_partition_that_is_assigned_before_it_is_there_begins_at_its_first_record() -> None:
    consuming = Consuming([], reset_policy="latest")
    consuming.know_nothing()
    consuming.fetcher.assign([T0, T1])
    consuming.know(partitions=1)
    assert begins_at(consuming.asked()) == {0: EARLIEST_TIMESTAMP}
    consuming.state(T1).error = None  # raised by a poll, which the user tries again
    consuming.know(partitions=2)
    assert begins_at(consuming.asked(1.0)) == {1: EARLIEST_TIMESTAMP}


def test_who_subscribes_again_begins_anew() -> None:
    consuming = Consuming([], reset_policy="latest")
    with consuming.fetcher.lock:
        consuming.fetcher.subscribe(("t",))
        consuming.know(partitions=4)
        consuming.fetcher.assign([])
        consuming.fetcher.subscribe(("t",))
    assert begins_at(consuming.asked()) == dict.fromkeys(range(4), LATEST_TIMESTAMP)


def test_a_seek_to_the_end_of_a_new_partition_is_one() -> None:
    consuming = Consuming([], reset_policy="latest")
    consuming.know_nothing()
    consuming.fetcher.assign([T1])
    consuming.know(partitions=2)
    consuming.state(T1).move(None, "latest")
    assert begins_at(consuming.asked()) == {1: LATEST_TIMESTAMP}


def test_a_position_that_is_out_of_range_goes_to_the_end_also_in_a_partition_that_came_later() -> None:
    consuming = Consuming([], reset_policy="latest")
    with consuming.fetcher.lock:
        consuming.fetcher.subscribe(("t",))
    consuming.wire.take()
    consuming.know(partitions=4)
    (sent,) = [each for each in consuming.asked() if each.partition == 3]  # type: ignore[union-attr]
    consuming.answer_offsets(sent, 0)
    (sent,) = [each for each in consuming.asked() if each.partition == 3]  # type: ignore[union-attr]
    consuming.answer_fetch(sent, code=ErrorCode.OFFSET_OUT_OF_RANGE)
    assert begins_at(consuming.asked(1.0))[3] == LATEST_TIMESTAMP


def test_what_begins_at_its_end_is_told_once() -> None:
    told: list[tuple[TopicPartition, int]] = []
    consuming = Consuming(reset_policy="latest")
    consuming.fetcher.on_begun_at_end = lambda place, offset, epoch: told.append((place, offset))
    (sent,) = consuming.asked()
    consuming.answer_offsets(sent, 7)
    consuming.state().move(None, "latest")
    (sent,) = consuming.asked()
    consuming.answer_offsets(sent, 9)
    assert told == [(T0, 7)]


# --- leaders that were deposed -----------------------------------------------------------------
def read_in(epoch: int, **changes: Any) -> Consuming:
    """Offset 5 was read of the leader of that epoch, WORKER_B, which is gone; metadata names the one before again."""
    consuming = at(5, **changes)
    consuming.know(WORKER_B, epoch, partitions=3)
    sent, _ = consuming.fetch()
    consuming.answer_fetch(sent, batch(5, b"5"), epoch=epoch)
    assert [record.offset for record in consuming.read()] == [5]
    return consuming


@pytest.mark.parametrize("policy", ["earliest", "latest", "none"])
def test_out_of_range_of_an_older_epoch_moves_nothing(policy: str) -> None:
    consuming = read_in(3, reset_policy=policy)
    sent, request = consuming.fetch()
    assert request.leader_epoch == 3
    consuming.answer_fetch(sent, code=ErrorCode.OFFSET_OUT_OF_RANGE, epoch=2)
    state = consuming.state()
    assert (state.position, state.reset, state.error) == (6, None, None)
    assert consuming.asked(1.0) == [], "it is not asked again before somebody is named"
    consuming.know(WORKER_A, 4, partitions=3)
    sent, request = consuming.fetch(1.0)
    assert (sent.endpoint, request.offset) == (WORKER_A, 6)


def test_records_and_empty_answers_of_an_older_epoch_are_dropped() -> None:
    consuming = read_in(3)
    for payload in (batch(6, b"old", epoch=2), b""):
        sent, _ = consuming.fetch(1.0)
        consuming.answer_fetch(sent, payload, high_watermark=100, epoch=2)
        assert consuming.read() == []
        assert consuming.state().position == 6
        assert consuming.state().high_watermark == 0
        consuming.know(WORKER_B, 3, partitions=3)


def test_a_reset_is_not_answered_by_an_older_epoch() -> None:
    consuming = read_in(3)
    consuming.state().move(None, "latest")
    (sent,) = consuming.asked()
    assert isinstance(sent.request, ListOffsetsRequest)
    assert sent.request.leader_epoch == 3
    consuming.answer_offsets(sent, 2, epoch=2)
    assert consuming.state().position is None
    consuming.know(WORKER_B, 3, partitions=3)
    (sent,) = consuming.asked(1.0)
    consuming.answer_offsets(sent, 9, epoch=3)
    assert (consuming.state().position, consuming.state().position_epoch) == (9, 3)


def test_a_leader_of_an_older_epoch_is_not_asked_for_records_whatever_metadata_says() -> None:
    consuming = read_in(3)
    consuming.fetch()
    consuming.lose(WORKER_B)
    for seconds in (0.0, 1.0, LEADER_EPOCH_MEMORY_S - 2.0):
        consuming.know(WORKER_A, 2, partitions=3)
        assert consuming.asked(seconds) == []
    for _ in range(3):
        consuming.now_s += LEADER_EPOCH_MEMORY_S
        consuming.know(WORKER_A, 2, partitions=3)
        (sent,) = consuming.asked()
        assert isinstance(sent.request, ListOffsetsRequest)
        consuming.answer_error(sent, ErrorCode.NOT_LEADER_OR_FOLLOWER)
    consuming.know(WORKER_A, 4, partitions=3)
    assert consuming.fetch(1.0)[0].endpoint == WORKER_A


def test_a_leader_that_does_not_know_the_epoch_is_left() -> None:
    consuming = read_in(3)
    sent, _ = consuming.fetch()
    consuming.answer_fetch(sent, code=ErrorCode.UNKNOWN_LEADER_EPOCH, epoch=2)
    assert consuming.asked(1.0) == []
    assert consuming.state().error is None
    assert consuming.state().position == 6


def test_a_refusal_says_nothing_of_the_epoch_in_which_was_read() -> None:
    """A candidate's epoch may never have had a leader: who waited for it would wait for ever."""
    consuming = read_in(3)
    sent, _ = consuming.fetch()
    consuming.answer_fetch(sent, code=ErrorCode.NOT_LEADER_OR_FOLLOWER, epoch=9)
    assert consuming.cache.read_epoch(TOPIC_ID, 0) == 3


def test_the_epoch_of_a_position_is_that_of_the_batch_in_front_of_it() -> None:
    consuming = at(5)
    state = consuming.state()
    consuming.know(WORKER_A, 2, partitions=3)
    consuming.fetcher.begin_at(state, TOPIC_ID, 5, 2)
    sent, _ = consuming.fetch()
    data = batch(4, b"4", b"5", b"6", epoch=2) + batch(7, b"7", epoch=3) + batch(8, b"8", epoch=4)
    consuming.answer_fetch(sent, data, epoch=4)
    found = [(state.position, state.position_epoch)]
    while state.decode_next():
        found.append((state.position, state.position_epoch))
        while state.has_records() and state.index < len(state.records):
            state.take(1)
            found.append((state.position, state.position_epoch))
    assert found == [(5, 2), (5, 2), (6, 2), (7, 2), (7, 2), (8, 3), (8, 3), (9, 4)]
    state.move(3)
    assert state.position_epoch == -1


# --- epochs that are lost with their leaders ----------------------------------------------------
def named_for_long(consuming: Consuming, epoch: int) -> list[Sent]:
    """What is sent once metadata has named nobody but WORKER_A, in that epoch, for as long as it may be old news."""
    consuming.lose(WORKER_B)
    sent: list[Sent] = []
    deadline_s = consuming.now_s + 2 * LEADER_EPOCH_MEMORY_S + 3
    while not sent and consuming.now_s < deadline_s:
        consuming.know(WORKER_A, epoch, partitions=3)
        sent = [each for each in consuming.asked(1.0) if each.endpoint == WORKER_A]
    return sent


@pytest.mark.parametrize(("policy", "timestamp"), [("earliest", EARLIEST_TIMESTAMP), ("latest", LATEST_TIMESTAMP)])
def test_an_epoch_that_a_majority_does_not_know_is_given_up_and_the_position_reset(policy: str, timestamp: int) -> None:
    consuming = read_in(9, reset_policy=policy)
    consuming.asked()
    (sent,) = named_for_long(consuming, 2)
    assert isinstance(sent.request, ListOffsetsRequest), "its answers have been confirmed by a majority"
    assert sent.request.leader_epoch == -1
    consuming.answer_offsets(sent, 6, epoch=2)
    (sent,) = consuming.asked()
    assert isinstance(sent.request, ListOffsetsRequest)
    assert (sent.request.timestamp_ms, sent.request.leader_epoch) == (timestamp, 2)
    consuming.answer_offsets(sent, 4, epoch=2)
    assert consuming.state().position == 4
    sent, request = consuming.fetch()
    assert (sent.endpoint, request.offset, request.leader_epoch) == (WORKER_A, 4, 2)


def test_with_policy_none_a_lost_epoch_is_an_error_until_the_user_seeks() -> None:
    consuming = read_in(9, reset_policy="none")
    consuming.asked()
    (sent,) = named_for_long(consuming, 2)
    consuming.answer_offsets(sent, 6, epoch=2)
    for _ in range(2):
        consuming.state().error = None  # raised by a poll, which the user tries again
        assert consuming.asked(1.0) == []
        error = consuming.state().error
        assert isinstance(error, LogTruncationError)
        assert "t-0: offset 6 was read in leader epoch 9" in str(error)
        assert "epoch 2" in str(error)
    consuming.state().move(3)
    assert consuming.fetch()[1].offset == 3


def test_a_committed_epoch_that_nobody_led_in_does_not_block() -> None:
    """Any client may commit it: the coordinator does not know the epochs of other partitions."""
    consuming = at(0)
    consuming.fetcher.begin_at(consuming.state(), TOPIC_ID, 7, 2**31 - 1)
    (sent,) = named_for_long(consuming, 1)
    consuming.answer_offsets(sent, 6)
    (sent,) = consuming.asked()
    assert isinstance(sent.request, ListOffsetsRequest)
    assert sent.request.timestamp_ms == EARLIEST_TIMESTAMP


def test_an_epoch_is_not_given_up_on_the_word_of_a_leader_that_no_majority_confirms() -> None:
    consuming = read_in(9)
    consuming.asked()
    for code in (ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.OFFSET_NOT_AVAILABLE):
        (sent,) = named_for_long(consuming, 2)
        consuming.answer_error(sent, code)
        assert consuming.cache.read_epoch(TOPIC_ID, 0) == 9
    consuming.know(WORKER_B, 10, partitions=3)
    consuming.wire.connected.add(WORKER_B)
    sent, request = consuming.fetch(3.0)
    assert (sent.endpoint, request.offset, request.leader_epoch) == (WORKER_B, 6, 9)


def test_an_answer_that_was_asked_for_before_the_epoch_was_read_gives_nothing_up() -> None:
    consuming = read_in(9)
    consuming.asked()
    (sent,) = named_for_long(consuming, 2)
    consuming.cache.note_read(TOPIC_ID, 0, 10)  # by another question of this client, meanwhile
    consuming.answer_offsets(sent, 6, epoch=2)
    assert consuming.cache.read_epoch(TOPIC_ID, 0) == 10
    assert consuming.state().position == 6


def test_a_doubted_epoch_that_has_a_leader_again_is_kept() -> None:
    consuming = read_in(9)
    consuming.asked()
    (sent,) = named_for_long(consuming, 2)
    consuming.answer_offsets(sent, 6, epoch=9)
    consuming.know(WORKER_A, 9, partitions=3)
    sent, request = consuming.fetch()
    assert (request.offset, request.leader_epoch) == (6, 9)


def test_bounds_give_up_a_lost_epoch_as_well_and_the_position_is_reset_all_the_same() -> None:
    consuming = read_in(9, reset_policy="none")
    consuming.asked()
    assert named_for_long(consuming, 2)
    call = list_offsets_call(consuming.cache, T0, LATEST_TIMESTAMP, deadline_s=consuming.now_s + 60)
    request = call.body_for(TOPIC_ID)
    assert isinstance(request, ListOffsetsRequest)
    assert request.leader_epoch == -1
    assert call.read(ListOffsetsResponse(offset=4, leader_epoch=2), False).offset == 4
    consuming.lose(WORKER_A)
    consuming.know(WORKER_A, 2, partitions=3)
    consuming.asked(1.0)
    assert isinstance(consuming.state().error, LogTruncationError)


@pytest.mark.parametrize("code", [ErrorCode.NONE, ErrorCode.THROTTLING_QUOTA_EXCEEDED])
def test_a_consumer_that_is_told_to_wait_asks_no_earlier(code: ErrorCode) -> None:
    consuming = at(0)
    sent, _ = consuming.fetch()
    response = FetchResponse(error_code=code, leader_epoch=1, high_watermark=5, throttle_ms=2000)
    consuming.answer(sent, response, b"" if code else batch(0, b"one"))
    assert consuming.asked() == []
    assert consuming.asked(1.9) == []
    assert consuming.fetch(0.2)[1].offset == (0 if code else 1)
