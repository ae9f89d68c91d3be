"""The bytes that members of a group exchange are Kafka's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftlog.errors import InvalidRequestError
from raftlog.protocol.consumer_protocol import (
    Subscription,
    decode_assignment,
    decode_subscription,
    encode_assignment,
    encode_subscription,
)
from raftlog.types import TopicPartition

PLACES = st.lists(
    st.builds(TopicPartition, st.text(min_size=1, max_size=20), st.integers(0, 2**31 - 1)), max_size=20, unique=True
)
GOLDEN = bytes.fromhex(
    "0002"  # version
    "00000002 0001 61 0002 6262"  # a, bb
    "ffffffff"  # no user data
    "00000001 0001 61 00000002 00000000 00000003"  # owned: a-0, a-3
    "00000007"  # of generation 7
)


def test_a_subscription_has_kafkas_bytes() -> None:
    subscription = Subscription(("a", "bb"), (TopicPartition("a", 0), TopicPartition("a", 3)), 7)
    assert encode_subscription(subscription) == GOLDEN
    assert decode_subscription(GOLDEN) == subscription


def test_an_assignment_has_kafkas_bytes() -> None:
    golden = bytes.fromhex("0001 00000001 0001 61 00000001 00000002 ffffffff")
    assert encode_assignment([TopicPartition("a", 2)]) == golden
    assert decode_assignment(golden) == [TopicPartition("a", 2)]
    assert decode_assignment(b"") == []


def test_older_and_newer_versions_are_read() -> None:
    oldest = bytes.fromhex("0000 00000001 0001 61 00000002 abcd")
    assert decode_subscription(oldest) == Subscription(("a",))
    assert decode_subscription(bytes.fromhex("0001") + GOLDEN[2:-4]).generation == -1
    with_rack = bytes.fromhex("0003") + GOLDEN[2:] + bytes.fromhex("0001 78")
    assert decode_subscription(with_rack) == decode_subscription(GOLDEN)


@given(st.lists(st.text(max_size=20), max_size=5), PLACES, st.integers(-1, 2**31 - 1))
def test_what_is_written_is_read(topics: list[str], owned: list[TopicPartition], generation: int) -> None:
    subscription = Subscription(tuple(topics), tuple(owned), generation)
    found = decode_subscription(encode_subscription(subscription))
    assert found._replace(owned=()) == subscription._replace(owned=())
    assert set(found.owned) == set(owned)
    assert set(decode_assignment(encode_assignment(owned))) == set(owned)


@given(st.binary(max_size=60))
def test_foreign_bytes_are_refused_and_end_nothing(data: bytes) -> None:
    for decode in (decode_subscription, decode_assignment):
        try:
            decode(data)
        except InvalidRequestError:
            continue


@pytest.mark.parametrize("length", range(len(GOLDEN)))
def test_a_subscription_that_ends_early_is_refused(length: int) -> None:
    with pytest.raises(InvalidRequestError):
        decode_subscription(GOLDEN[:length])
