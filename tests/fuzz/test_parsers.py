"""No bytes make a parser do anything but parse, or raise the error that it names."""

from __future__ import annotations

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftlog.errors import (
    CorruptMessageError,
    InvalidRecordError,
    InvalidRequestError,
    RaftlogError,
    UnsupportedForMessageFormatError,
    UnsupportedVersionError,
)
from raftlog.limits import HEADER_BYTES_MAX
from raftlog.protocol import apis, codec
from raftlog.protocol import raft as r
from raftlog.protocol.body import Body
from raftlog.protocol.envelope import decode_response
from raftlog.record import batch
from raftlog.types import Doubt
from tests.fuzz.garbage import BATCHES, GOOD_BATCHES, HEADERS, INT64, REQUESTS, said
from tests.requests import read

NAMED = (CorruptMessageError, InvalidRecordError, UnsupportedForMessageFormatError)


@given(HEADERS)
def test_a_header_decodes_or_is_an_invalid_request(header: bytes) -> None:
    with contextlib.suppress(InvalidRequestError, UnsupportedVersionError):
        read(header)
    with contextlib.suppress(InvalidRequestError, UnsupportedVersionError):
        decode_response(header)


@given(REQUESTS, INT64, st.binary(min_size=16, max_size=16), st.integers(-1, 2**31 - 1))
def test_a_request_survives_the_wire(body: Body, number: int, topic_id: bytes, partition: int) -> None:
    header = said(body, number, topic_id, partition)
    api = apis.BY_REQUEST[type(body)]
    found = read(header)
    assert (found.api, found.correlation_id, found.topic_id, found.partition) == (api, number, topic_id, partition)
    assert found.body == body


@pytest.mark.parametrize(
    "message",
    [
        r.AppendResponse(b"t" * 16, 0, 2, 3, 4, 5, 6, True, 7, 8, Doubt.NONE),
        r.VoteResponse(b"t" * 16, 0, 2, 3, 4, 5, True, Doubt.NONE, 6),
        r.PreVoteResponse(b"t" * 16, 0, 2, 3, 4, 5, 6, True, Doubt.NONE, 7),
    ],
    ids=lambda message: type(message).__name__,
)
@pytest.mark.parametrize("doubt", [-1, max(Doubt) + 1])
def test_a_raft_message_with_an_unknown_doubt_is_refused_at_the_border(message: r.RaftMessage, doubt: int) -> None:
    assert codec.decode_raft(codec.encode(message)) == message
    wrong = msgspec.structs.replace(message, doubt=doubt)
    with pytest.raises(InvalidRequestError):
        codec.decode_raft(codec.encode(wrong))


def test_a_header_beyond_its_bound_is_refused_unread() -> None:
    with pytest.raises(InvalidRequestError):
        read(b"\x02" * (HEADER_BYTES_MAX + 1))


@given(BATCHES)
def test_a_batch_is_taken_or_refused_with_a_named_error(data: bytes) -> None:
    with contextlib.suppress(*NAMED):
        header = batch.check_batch(data)
        assert header.batch_bytes == len(data)
        assert header.record_count == header.last_offset_delta + 1 >= 1


@given(st.lists(BATCHES, max_size=3).map(b"".join))
def test_reading_any_bytes_gives_records_or_a_named_error(data: bytes) -> None:
    with contextlib.suppress(*NAMED):
        for position, header in batch.split(data):
            assert 0 <= position < position + header.batch_bytes <= len(data)
    with contextlib.suppress(*NAMED):
        for record in batch.decode(data):
            assert isinstance(record, batch.Record)


@given(GOOD_BATCHES, st.integers(0, 2**20), st.integers(0, 7))
def test_a_flipped_bit_under_the_checksum_is_noticed(data: bytes, place: int, bit: int) -> None:
    position = 16 + place % (len(data) - 16)  # in front of it stand the fields that the leader writes
    flipped = bytearray(data)
    flipped[position] ^= 1 << bit
    with pytest.raises(RaftlogError):
        batch.check_batch(bytes(flipped))
